"""The same data as files that any training reads: a manifest by collection and side of a split, with a vector a file.

    python examples/real/manifests.py --output_dir runs/real/manifests
    python examples/real/manifests.py --output_dir runs/real/manifests --seed 3

A row has a sentence, and by sense the path of an `.npy` file with what a frozen encoder said (`stem: "features"`);
`attributes` has what is private to a sense. `widths.json` says how many numbers the vectors of each sense have.
"""

import argparse
import io
import json
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from features import SPEECH, Features
from packages import Gone, default_cache
from splits import OBJECTS, held_out
from things import GROUPINGS, Thing
from tqdm.auto import tqdm

from codebind_hf.evaluation.writing import write_text


_PACES = ("slow", "calm", "brisk", "fast")


def write_manifests(
    features: Features, folder: Path, seed: int, by: str = "name", senses: Collection[str] | None = None
) -> list[Path]:
    """Write `<collection>-train.jsonl` and `<collection>-test.jsonl`; returns them.

    Beside them, `objects-train.jsonl` and `objects-test.jsonl` have the rows of all collections with pictures.

    Args:
        by: as of `things.groups_of`.
        senses: those to write beside sentences; all without it.

    Raises:
        Gone, OSError: a package or file cannot be had, or no room.
    """
    test = held_out(features.things, seed, by)
    widths: dict[str, int] = {}
    sides: dict[tuple[str, str], list[str]] = {}
    for collection, things in features.things.items():
        rows = [_row(thing) for thing in things]
        for sense in features.senses(collection):
            if sense == "text" or senses is not None and sense not in senses:
                continue
            numbers, vectors = features.rows(collection, sense), features.vectors(collection, sense)
            widths[sense] = vectors.shape[1]
            for number, vector in zip(tqdm(numbers, desc=f"{collection}-{sense}"), vectors, strict=True):
                place = Path("vectors") / sense / f"{rows[number]['id']}.npy"
                _write_vector(folder / place, vector)
                rows[number][sense] = str(place)
            if sense in SPEECH:
                for number, pace in zip(numbers, _paces(features, sense), strict=True):
                    rows[number]["attributes"][f"{sense}.pace"] = pace
        for side, wanted in (("train", False), ("test", True)):
            sides[collection, side] = [
                json.dumps(row) for row, is_test in zip(rows, test[collection], strict=True) if is_test == wanted
            ]
    for side in ("train", "test") if set(OBJECTS) <= set(features.things) else ():
        sides["objects", side] = [line for name in OBJECTS for line in sides[name, side]]
    write_text(folder / "widths.json", json.dumps(widths, indent=1) + "\n")
    return [write_text(folder / f"{'-'.join(key)}.jsonl", "\n".join(lines) + "\n") for key, lines in sides.items()]


def _row(thing: Thing) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if "size_cm" in thing.attributes:
        # Doubling steps: classes that a probe can learn.
        attributes["points.size"] = f"about {2 ** round(math.log2(max(1.0, *thing.attributes['size_cm'])))} cm"
    attributes |= {f"imu.{name}": thing.attributes[name] for name in ("subject", "side") if name in thing.attributes}
    return {"id": thing.row, "label": thing.kind, "text": thing.sentence, "attributes": attributes}


def _paces(features: Features, sense: str) -> list[str]:
    """Of every recording of a language, in which quarter its letters a second are."""
    rates = features.rates(sense)
    marks = np.nanquantile(rates, [0.25, 0.5, 0.75])
    return [_PACES[place] for place in np.searchsorted(marks, np.nan_to_num(rates, nan=float(np.nanmedian(rates))))]


def _write_vector(file: Path, vector: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, vector)
    if file.is_file() and file.read_bytes() == stream.getvalue():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_bytes(stream.getvalue())
    os.replace(draft, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of packages and features")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--hold_out", choices=GROUPINGS, default="name")
    arguments = parser.parse_args()
    features = Features(arguments.cache)
    try:
        features.fetch_all()
    except Gone as error:
        print(f"skipped: {error}")
        return
    for file in write_manifests(features, arguments.output_dir, arguments.seed, arguments.hold_out):
        print(f"written: {file}")


if __name__ == "__main__":
    main()
