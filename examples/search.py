"""Which files of a gallery belong to this file, or to these words?

    python examples/search.py --checkpoint runs/mine/checkpoint --query a.wav --gallery rows.jsonl --senses image,depth
    python examples/search.py --checkpoint runs/mine/checkpoint --text "a glass ring" --gallery rows.jsonl

The gallery is a manifest of files. Every sense of it is ranked by itself, because senses differ in how close they lie
to each other as a whole; the number beside a file is the cosine. The sense of the query follows from its suffix where
only one sense has it (`.wav` is audio, `.ply` a point cloud); say `--modality depth` for a `.png` or `.npy` that is a
depth map.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.evaluation import EmbeddedSense, embed_dataset
from codebind_hf.processing.media import SUFFIXES


READ_OUTS = {"continuous": "continuous_embeds", "quantized": "embeds"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder or Hub repository with model and processor")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--query", help="a file (or a folder of video frames)")
    query.add_argument("--text", help="words instead of a file")
    parser.add_argument("--modality", help="sense of the query, when its suffix does not tell")
    parser.add_argument("--gallery", required=True, help="manifest of the files to rank")
    parser.add_argument("--senses", help="senses to rank, such as image,depth; default: all but the query's own")
    parser.add_argument("--top_k", type=int, default=5)
    parser.add_argument("--read_out", choices=tuple(READ_OUTS), default="continuous", help="before or after the codes")
    parser.add_argument("--depth_unit", choices=("m", "cm", "mm"), help="unit of integer depth files")
    arguments = parser.parse_args()
    if len(Path(arguments.checkpoint).parts) > 2 and not Path(arguments.checkpoint).is_dir():
        parser.error(f"--checkpoint: no folder {arguments.checkpoint}.")
    if arguments.top_k < 1:
        parser.error(f"--top_k: got {arguments.top_k}; give 1 or more.")
    return arguments


def sense_of(path: str, known: tuple[str, ...]) -> str:
    """The one sense that a file's suffix can be, among those that the checkpoint knows."""
    suffix = Path(path).suffix.lower()
    possible = [sense for sense in known if suffix in SUFFIXES.get(sense, ())]
    if os.path.isdir(path) and "video" in known:
        possible = ["video"]
    if len(possible) == 1:
        return possible[0]
    choices = ", ".join(possible or [sense for sense in known if sense != "text"])
    words = "" if os.path.exists(path) else " There is no such file; words go to --text."
    raise ValueError(f"--query: {suffix or path!r} may be any of {choices}. Fix: say which with --modality.{words}")


def gallery_senses(wanted: str | None, query: str, rows: Manifest, known: tuple[str, ...]) -> list[str]:
    """The senses to rank: those asked for, or all that the rows have but the query's own."""
    present = [sense for sense in known if any(row.get(sense) for row in rows)]
    if wanted is None:
        return [sense for sense in present if sense != query] or present
    chosen = [sense.strip() for sense in wanted.split(",")]
    missing = [sense for sense in chosen if sense not in present]
    if missing:
        raise ValueError(
            f"--senses: got {', '.join(missing)}; the gallery and the checkpoint have {', '.join(present)}."
        )
    return chosen


def ranked(query: EmbeddedSense, gallery: EmbeddedSense, part: str, top_k: int) -> list[tuple[int, float]]:
    """Rows of the gallery and their cosine, best first."""
    cosines = getattr(gallery, part) @ getattr(query, part)[0]
    best = cosines.topk(min(top_k, len(cosines)))
    return [(int(gallery.positions[item]), float(value)) for value, item in zip(*best, strict=True)]


def shown(row: dict[str, Any], sense: str, folder: Path) -> str:
    """A text as it is, a file relative to the manifest."""
    return row[sense] if sense == "text" else os.path.relpath(row[sense], folder)


def search(arguments: argparse.Namespace) -> None:
    rows = Manifest(arguments.gallery).validate()
    model = CodeBindModel.from_pretrained(arguments.checkpoint)
    processor = CodeBindProcessor.from_pretrained(arguments.checkpoint)
    if arguments.depth_unit:
        processor.depth_image_processor.depth_unit = arguments.depth_unit
    known = model.config.modality_names
    sense = "text" if arguments.text else arguments.modality or sense_of(arguments.query, known)
    senses = gallery_senses(arguments.senses, sense, rows, known)
    value = arguments.text or arguments.query
    query = embed_dataset(model, processor, [{sense: value}], senses=[sense], progress=False).senses[sense]
    gallery = embed_dataset(model, processor, rows, senses=senses)
    print(f"query: {value} ({sense})")
    for name in senses:
        print(f"\n{name}")
        matches = ranked(query, gallery.senses[name], READ_OUTS[arguments.read_out], arguments.top_k)
        for rank, (position, cosine) in enumerate(matches, start=1):
            print(f"{rank:3}. {cosine:+.3f}  {shown(rows[position], name, rows.path.absolute().parent)}")


def main() -> None:
    arguments = parse_arguments()
    try:
        search(arguments)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
