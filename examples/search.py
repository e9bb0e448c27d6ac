"""Which rows of a gallery belong to this file, or to these words?

    python examples/search.py --checkpoint runs/mine --query a.wav --gallery rows.jsonl --modalities image,depth
    python examples/search.py --checkpoint runs/mine --text "a glass ring" --gallery rows.jsonl
    python examples/search.py --checkpoint runs/mine --text "a glass ring" --dataset pictures:test

`--checkpoint` is a run of `examples/train.py`, a folder with model and processor, or a name on the Hub. The gallery is
a manifest of files, or what `datasets` reads; the flags of rows are those of `examples/train.py`. Every modality of it
is ranked by itself, because modalities differ in how close they lie to each other as a whole; the number beside a file
is the cosine. Of a row with several captions each is ranked; a text that several rows share is listed once. The
modality of the query follows from its suffix where only one modality has it (`.wav` is audio, `.ply` a point cloud);
say `--modality depth` for a `.png` or `.npy` that is a depth map.
"""

import argparse
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebind_hf.training.flags import add_reading_flags, add_row_flags, data_of, whole_number


if TYPE_CHECKING:
    from codebind_hf.evaluation import EmbeddedModality, EmbeddedSet
    from codebind_hf.model.modeling_codebind import CodeBindModel


READ_OUTS = {"continuous": "continuous_embeds", "quantized": "embeds"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="a run, the folder of a checkpoint, or a name on the Hub")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--query", help="a file (or a folder of video frames)")
    query.add_argument("--text", help="words instead of a file")
    parser.add_argument("--modality", help="modality of the query, when its suffix does not tell")
    add_row_flags(parser, also=("--gallery",))
    add_reading_flags(parser)
    parser.add_argument(
        "--modalities", "--senses", help="modalities to rank, such as image,depth; default: all but the query's own"
    )
    parser.add_argument("--top_k", type=whole_number(1), default=5)
    parser.add_argument("--read_out", choices=tuple(READ_OUTS), default="continuous", help="before or after the codes")
    arguments = parser.parse_args()
    if arguments.text and arguments.modality not in (None, "text"):
        parser.error(f"--modality: got {arguments.modality} with --text. Fix: leave it out, or give a --query.")
    return arguments


def check_query(path: str) -> None:
    """Refuse a query that is not there, before a model is loaded."""
    if not os.path.exists(path):
        raise OSError(
            f"--query: {path!r}: no such file. Fix: check the path and the working directory; words go to --text."
        )


def modality_of(path: str, known: tuple[str, ...]) -> str:
    """The one modality that a file's suffix can be, among those that the checkpoint knows."""
    from codebind_hf.model.modalities import MODALITIES
    from codebind_hf.processing.media import modalities_of_file

    suffix = Path(path).suffix.lower()
    possible = modalities_of_file(path, known)
    # Arrays may also be of a modality that was added.
    possible += [modality for modality in known if modality not in MODALITIES] if suffix == ".npy" else []
    if len(possible) == 1:
        return possible[0]
    named, others = suffix or repr(path), modalities_of_file(path, tuple(MODALITIES))
    if not possible and others:
        raise ValueError(
            f"--query: {named} is {' or '.join(others)}, which this checkpoint does not read; it reads "
            f"{', '.join(known)}. Fix: another query, or a checkpoint with {' or '.join(others)}."
        )
    choices = ", ".join(possible or [modality for modality in known if modality != "text"])
    raise ValueError(f"--query: {named} may be any of {choices}. Fix: say which with --modality.")


def check_modality(modality: str, known: tuple[str, ...], flag: str) -> None:
    """Refuse a modality of the query that the checkpoint does not read."""
    if modality not in known:
        raise ValueError(
            f"{flag}: got {modality!r}, which this checkpoint does not read; it reads {', '.join(known)}. Fix: "
            "another query, or another checkpoint."
        )


def embedded_query(model: "CodeBindModel", processor: Any, modality: str, value: str) -> "EmbeddedModality":
    """The query as the model sees it; what is wrong with it is said of the flag, not of a row."""
    from codebind_hf.evaluation import embed_dataset
    from codebind_hf.processing.arguments import argument_of

    try:
        found = embed_dataset(model, processor, [{modality: value}], modalities=[modality], progress=False)
    except (ValueError, OSError) as error:
        # The processor says which argument and which of its items.
        reason = str(error.__cause__ or error).removeprefix(argument_of(modality)).removeprefix("[0]").lstrip(": ")
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"--{'text' if modality == 'text' else 'query'}: {reason}") from error
    return found.modalities[modality]


def gallery_modalities(wanted: str | None, query: str, present: list[str]) -> list[str]:
    """The modalities to rank: those asked for, or all that the rows have but the query's own."""
    if wanted is None:
        return [modality for modality in present if modality != query] or present
    chosen = [modality.strip() for modality in wanted.split(",")]
    missing = [modality for modality in chosen if modality not in present]
    if missing:
        raise ValueError(
            f"--modalities: got {', '.join(missing)}; the gallery and the checkpoint have {', '.join(present)}."
        )
    return chosen


def ranked(query: "EmbeddedModality", gallery: "EmbeddedModality", part: str) -> Iterator[tuple[int, float]]:
    """All items of the gallery and their cosine, best first."""
    cosines = getattr(gallery, part) @ getattr(query, part)[0]
    return ((int(item), float(value)) for value, item in zip(*cosines.sort(descending=True), strict=True))


def distinct(matches: Iterable[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    """Texts that several rows share once, where the best of them stands."""
    seen = set[str]()
    for text, cosine in matches:
        if text not in seen:
            seen.add(text)
            yield text, cosine


def shown(rows: Any, positions: list[int], item: int, modality: str, folder: Path) -> str:
    """A text as it is, a file relative to the manifest; what has no name, by its row and label."""
    row = rows[positions[item]]
    # Where the manifest says a unit, the file has it with it.
    value = getattr(row[modality], "value", row[modality])
    if modality == "text":
        return value if isinstance(value, str) else value[item - positions.index(positions[item])]
    if isinstance(value, (str, os.PathLike)):
        return os.path.relpath(value, folder)
    label = f" ({row['label']})" if row.get("label") else ""
    return f"{row.get('id') or f'row {positions[item]}'}{label}"


def search(arguments: argparse.Namespace) -> None:
    from codebind_hf.data.prepared import by_fix
    from codebind_hf.evaluation import embed_dataset
    from codebind_hf.evaluation.embedding import modalities_to_read
    from codebind_hf.evaluation.provenance import checkpoint_of
    from codebind_hf.training.run_rows import load_beside

    if arguments.query:
        check_query(arguments.query)
    checkpoint = checkpoint_of(arguments.checkpoint, "--checkpoint")
    own = "text" if arguments.text else arguments.modality
    model, processor, named = load_beside(
        checkpoint, data_of(arguments), arguments.depth_unit, [own] if own else [], arguments.on_error
    )
    rows = named.training
    own = own or modality_of(arguments.query, model.config.modality_names)
    check_modality(own, model.config.modality_names, "--text" if arguments.text else "--modality")
    modalities = gallery_modalities(arguments.modalities, own, modalities_to_read(model, rows, "gallery"))
    value = arguments.text or arguments.query
    query = embedded_query(model, processor, own, value)
    found: EmbeddedSet = embed_dataset(model, processor, rows, modalities=modalities, on_error=arguments.on_error)
    print(f"query: {value} ({own})")
    reasons = [(f"skipped row {each.position}, {each.modality}", each.message) for each in found.failures]
    for line in by_fix(reasons):
        print(line)
    folder = Path(arguments.manifest or "x").absolute().parent
    for name in (name for name in modalities if name in found.modalities):
        print(f"\n{name}")
        gallery = found.captions if name == "text" and found.captions is not None else found.modalities[name]
        positions = gallery.positions.tolist()
        matches = (
            (shown(rows, positions, item, name, folder), cosine)
            for item, cosine in ranked(query, gallery, READ_OUTS[arguments.read_out])
        )
        answers = islice(distinct(matches) if name == "text" else matches, arguments.top_k)
        for rank, (match, cosine) in enumerate(answers, start=1):
            print(f"{rank:3}. {cosine:+.3f}  {match}")


def main() -> None:
    arguments = parse_arguments()
    try:
        search(arguments)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
