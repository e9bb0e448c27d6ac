"""Which files of a gallery belong to this file, or to these words?

    python examples/search.py --checkpoint runs/mine/checkpoint --query a.wav --gallery rows.jsonl --modalities
    image,depth python examples/search.py --checkpoint runs/mine/checkpoint --text "a glass ring" --gallery rows.jsonl

The gallery is a manifest of files. Every modality of it is ranked by itself, because modalities differ in how close
they lie to each other as a whole; the number beside a file is the cosine. The modality of the query follows from its
suffix where only one modality has it (`.wav` is audio, `.ply` a point cloud); say `--modality depth` for a `.png` or
`.npy` that is a depth map.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.evaluation import EmbeddedModality, embed_dataset
from codebind_hf.processing.media import modalities_of_file


READ_OUTS = {"continuous": "continuous_embeds", "quantized": "embeds"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder or Hub repository with model and processor")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--query", help="a file (or a folder of video frames)")
    query.add_argument("--text", help="words instead of a file")
    parser.add_argument("--modality", help="modality of the query, when its suffix does not tell")
    parser.add_argument("--gallery", required=True, help="manifest of the files to rank")
    parser.add_argument(
        "--modalities", "--senses", help="modalities to rank, such as image,depth; default: all but the query's own"
    )
    parser.add_argument("--top_k", type=int, default=5)
    parser.add_argument("--read_out", choices=tuple(READ_OUTS), default="continuous", help="before or after the codes")
    parser.add_argument("--depth_unit", choices=("m", "cm", "mm"), help="unit of integer depth files")
    arguments = parser.parse_args()
    if len(Path(arguments.checkpoint).parts) > 2 and not Path(arguments.checkpoint).is_dir():
        parser.error(f"--checkpoint: no folder {arguments.checkpoint}.")
    if arguments.top_k < 1:
        parser.error(f"--top_k: got {arguments.top_k}; give 1 or more.")
    return arguments


def modality_of(path: str, known: tuple[str, ...]) -> str:
    """The one modality that a file's suffix can be, among those that the checkpoint knows."""
    suffix = Path(path).suffix.lower()
    possible = modalities_of_file(path, known)
    if len(possible) == 1:
        return possible[0]
    choices = ", ".join(possible or [modality for modality in known if modality != "text"])
    words = "" if os.path.exists(path) else " There is no such file; words go to --text."
    raise ValueError(f"--query: {suffix or path!r} may be any of {choices}. Fix: say which with --modality.{words}")


def gallery_modalities(wanted: str | None, query: str, rows: Manifest, known: tuple[str, ...]) -> list[str]:
    """The modalities to rank: those asked for, or all that the rows have but the query's own."""
    present = [modality for modality in known if any(row.get(modality) for row in rows)]
    if wanted is None:
        return [modality for modality in present if modality != query] or present
    chosen = [modality.strip() for modality in wanted.split(",")]
    missing = [modality for modality in chosen if modality not in present]
    if missing:
        raise ValueError(
            f"--modalities: got {', '.join(missing)}; the gallery and the checkpoint have {', '.join(present)}."
        )
    return chosen


def ranked(query: EmbeddedModality, gallery: EmbeddedModality, part: str, top_k: int) -> list[tuple[int, float]]:
    """Rows of the gallery and their cosine, best first."""
    cosines = getattr(gallery, part) @ getattr(query, part)[0]
    best = cosines.topk(min(top_k, len(cosines)))
    return [(int(gallery.positions[item]), float(value)) for value, item in zip(*best, strict=True)]


def shown(row: dict[str, Any], modality: str, folder: Path) -> str:
    """A text as it is, a file relative to the manifest."""
    # Where the manifest says a unit, the file has it with it.
    value = getattr(row[modality], "value", row[modality])
    return value if modality == "text" else os.path.relpath(value, folder)


def search(arguments: argparse.Namespace) -> None:
    model = CodeBindModel.from_pretrained(arguments.checkpoint)
    rows = Manifest(arguments.gallery, modalities=list(model.config.modalities)).validate()
    processor = CodeBindProcessor.from_pretrained(arguments.checkpoint)
    if arguments.depth_unit:
        processor.depth_image_processor.depth_unit = arguments.depth_unit
    known = model.config.modality_names
    modality = "text" if arguments.text else arguments.modality or modality_of(arguments.query, known)
    modalities = gallery_modalities(arguments.modalities, modality, rows, known)
    value = arguments.text or arguments.query
    query = embed_dataset(model, processor, [{modality: value}], modalities=[modality], progress=False).modalities[
        modality
    ]
    gallery = embed_dataset(model, processor, rows, modalities=modalities)
    print(f"query: {value} ({modality})")
    for name in modalities:
        print(f"\n{name}")
        matches = ranked(query, gallery.modalities[name], READ_OUTS[arguments.read_out], arguments.top_k)
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
