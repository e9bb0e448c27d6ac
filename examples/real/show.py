"""What do the runs of `by_command.py` hear and see? The usual report of each, and a page to look at and listen to.

    python examples/real/show.py --split runs/real/commands/0

For every sense that was bound: `report/` with what `examples/evaluate.py` writes of the held-out objects, and
`show.html` with a few of them: what the sense got, as a player or a cloud of points, and the nearest pictures.
Both stay in the folder of the run, which git ignores: sounds and pictures are of the packages.
"""

import argparse
import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from by_command import SENSES, seconds_of
from encoders import on_white
from features import Features
from meshes import Surface, look
from packages import default_cache
from PIL import Image
from things import Thing

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.evaluation.writing import write_text


_NEAREST, _SIDE = 6, 96
_STYLE = """body{font:15px sans-serif;margin:2em auto;max-width:70em}td{padding:4px 8px;text-align:center}
img{vertical-align:middle}.right{outline:3px solid #1f9e55}.figure{max-width:100%;margin:1em 0}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", type=Path, default=Path("runs/real/commands/0"), help="folder of one split")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of packages and features")
    parser.add_argument("--count", type=int, default=12, help="objects to show")
    arguments = parser.parse_args()
    if not arguments.split.is_dir():
        print(f"skipped: {arguments.split} is not there; by_command.py makes it")
        return
    features = Features(arguments.cache)
    for sense, (collection, _) in SENSES.items():
        run, rows = arguments.split / sense, arguments.split / "rows"
        evaluate(run, rows / f"{collection}-test.jsonl", rows / f"{collection}-train.jsonl")
        held = [row for row in Manifest(rows / f"{collection}-test.jsonl", modalities=[sense]) if sense in row]
        print(f"written: {show(features, run, sense, collection, held, arguments.count)}")


def evaluate(run: Path, test: Path, train: Path) -> None:
    """The report of a run on held-out rows, into its folder `report`."""
    options = ["--checkpoint", run, "--manifest", test, "--training_manifest", train, "--template", "{}"]
    report = run / "report"
    seconds_of("evaluate.py", *options, "--output", report / "report.json", "--figures", report / "figures")


def show(features: Features, run: Path, sense: str, collection: str, held: list[dict[str, Any]], count: int) -> Path:
    """Write `show.html` of a run: every `len(held) / count`-th object and the pictures that its sense finds."""
    model, processor = (cls.from_pretrained(run / "checkpoint") for cls in (CodeBindModel, CodeBindProcessor))
    embeds = model.encode({name: [row[name] for row in held] for name in (sense, "image")}, processor)
    things = {thing.row: thing for thing in features.things[collection]}
    own = [things[row["id"]] for row in held]
    best = np.argsort(-embeds[sense] @ embeds["image"].T, axis=1, kind="stable")[:, :_NEAREST]
    asked = range(0, len(held), max(1, len(held) // count))
    given = dict(zip(asked, sensed(features, sense, collection, [own[place] for place in asked]), strict=True))
    lines = []
    for place in asked:
        found = "".join(
            f"<td>{picture_of(own[other], 'right' if other == place else '')}<br>{html.escape(own[other].name)}</td>"
            for other in best[place]
        )
        lines.append(f"<tr><td>{given[place]}<br>{html.escape(own[place].sentence)}</td><td>&rarr;</td>{found}</tr>")
    figures = sorted((run / "report" / "figures").glob("*.png"))
    shown = "".join(f'<img class="figure" src="report/figures/{file.name}" alt="{file.stem}">' for file in figures)
    title = f"{sense}: what is given, and the pictures that its codes find among {len(held)}"
    table = f"<table>{''.join(lines)}</table>"
    head = f'<!doctype html><meta charset="utf-8"><title>{sense}</title><style>{_STYLE}</style>'
    body = f'<h1>{title}</h1>{table}<h2>Report</h2><p><a href="report/report.md">All numbers</a></p>{shown}'
    return write_text(run / "show.html", head + body)


def sensed(features: Features, sense: str, collection: str, things: list[Thing]) -> Iterable[str]:
    """What a sense got of each thing: a player of its sound, or a picture of its cloud."""
    if sense.startswith("speech_"):
        yield from (f'<audio controls src="{uri("audio/ogg", t.files[sense].read_bytes())}"></audio>' for t in things)
        return
    every = [features.things[collection][number] for number in features.rows(collection, sense)]
    clouds = np.concatenate([each["points"] for each in features.views(every)]).astype(np.float64)
    place = {thing.key: number for number, thing in enumerate(every)}
    for thing in things:
        points = clouds[place[thing.key]]
        surface = Surface(points[:, :3], np.ones_like(points[:, :3]), points[:, 3:])
        yield image_of(Image.fromarray(look(surface, 30.0, side=_SIDE)[0]))


def picture_of(thing: Thing, style: str) -> str:
    return image_of(on_white(thing.files["image"]), style)


def image_of(picture: Image.Image, style: str = "") -> str:
    stream = io.BytesIO()
    picture.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(stream, "PNG")
    return f'<img class="{style}" src="{uri("image/png", stream.getvalue())}" alt="">'


def uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


if __name__ == "__main__":
    main()
