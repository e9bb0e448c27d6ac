"""Surfaces under a tactile sensor: Touch and Go, by material, hardness and roughness."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from codebind_hf.benchmarks.entry import Benchmark
from codebind_hf.benchmarks.figures import FIGURES
from codebind_hf.benchmarks.layout import Expected, lines_of, split_line
from codebind_hf.benchmarks.prompts import CLIP, IMAGE_OF, MATERIALS, TOUCHES
from codebind_hf.benchmarks.rows import Entry


# ViT-Lens's spellings, "ruber" among them, in the order of the numbers in the lists.
MATERIAL_NAMES = tuple(
    """concrete|plastic|glass|wood|metal|brick|tile|leather|synthetic fabric|natural fabric|ruber|paper|tree|grass|soil
rock|gravel|sand|plants|others""".replace("\n", "|").split("|")
)
HARDNESS, ROUGHNESS = ("hard", "soft"), ("smooth", "rough")
# Source: fredfyyang/Touch-and-Go, the data set class of its tactile classifier.
_SOFT = (7, 8, 9, 11, 13)


def _read(kind: str, root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    """Rows of a list whose lines are `<folder>/<frame>.jpg,<number>`; -1 is no class."""
    names = {"m": MATERIAL_NAMES, "hs": MATERIAL_NAMES, "rs": ROUGHNESS}[kind]
    listing = root / f"{'train' if split == 'train' else 'test'}{'_rough' if kind == 'rs' else ''}.txt"
    for line_number, line in enumerate(lines_of(listing), start=1):
        path, number = split_line(listing, line_number, line, ",", 2)
        folder, _, frame = path.rpartition("/")
        if not folder or not number.lstrip("-").isdigit() or not -1 <= int(number) < len(names):
            got = f"got {line[:100]!r}; expected: <folder>/<frame>.jpg,<-1 to {len(names) - 1}>"
            raise ValueError(f"{listing}, line {line_number}: {got}.")
        if int(number) < 0:
            continue
        label = HARDNESS[int(number) in _SOFT] if kind == "hs" else names[int(number)]
        entry = {"id": path.removesuffix(".jpg"), "label": label, "group": folder}
        entry["tactile"] = f"dataset/{folder}/gelsight_frame/{frame}"
        if split == "train":
            entry["image"] = f"dataset/{folder}/video_frame/{frame}"
        yield entry


_LIST = "<folder>/<frame>.jpg,<class>, one a line"
_SELECTION = "selects models on training videos, a twentieth of the rows, instead of on the test split"

_MATERIAL = Benchmark(
    name="tag-m",
    title="Touch and Go, material",
    modality="tactile",
    licence="see the owners' page (not verified here)",
    source="touch-and-go.github.io: frames made of the videos by its extract_frame.py, and its lists",
    layout=(
        Expected("dataset", "a folder for each video, with gelsight_frame/ and video_frame/"),
        Expected("train.txt", _LIST, ("train",)),
        Expected("test.txt", _LIST, ("test",)),
    ),
    read=partial(_read, "m"),
    classes=MATERIAL_NAMES,
    num_classes=20,
    num_items={"paper": 29_879, "sound": 29_879},
    published_items=29_879,
    figures=FIGURES["tag-m"],
    templates={"ib": CLIP, "vl": MATERIALS},
    training_templates={"ib": IMAGE_OF, "vl": IMAGE_OF},
    differences=_SELECTION,
    traps="The released code's list of names has 19: 'natural fabric' is absent. Frames of one video are neighbours "
    "in time; whether the lists separate videos was not checked.",
)
_TOUCH_LAYOUT = _MATERIAL.layout[:1]

BENCHMARKS = (
    _MATERIAL,
    replace(
        _MATERIAL,
        name="tag-hs",
        title="Touch and Go, hard or soft",
        read=partial(_read, "hs"),
        classes=HARDNESS,
        num_classes=2,
        figures=FIGURES["tag-hs"],
        templates={"ib": CLIP, "vl": TOUCHES},
        traps="Hardness follows from the material: leather, fabrics, paper and grass are soft. The paper evaluates "
        "the model trained on materials; the released code also has a script that trains on this. Chance is 50 %.",
    ),
    replace(
        _MATERIAL,
        name="tag-rs",
        title="Touch and Go, rough or smooth",
        read=partial(_read, "rs"),
        layout=(
            *_TOUCH_LAYOUT,
            Expected("train_rough.txt", _LIST, ("train",)),
            Expected("test_rough.txt", _LIST, ("test",)),
        ),
        classes=ROUGHNESS,
        num_classes=2,
        num_items={"paper": 8085, "sound": 8085},
        published_items=8085,
        figures=FIGURES["tag-rs"],
        templates={"ib": CLIP, "vl": TOUCHES},
        traps="The paper evaluates the model trained on materials; the released code also has a script that trains on "
        "this. Chance is 50 %.",
    ),
)
