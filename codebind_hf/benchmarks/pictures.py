"""Pictures and their names: ImageNet-1k and Places365."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from codebind_hf.benchmarks.entry import Benchmark
from codebind_hf.benchmarks.figures import FIGURES
from codebind_hf.benchmarks.layout import Expected, lines_of, split_line
from codebind_hf.benchmarks.rows import Entry


_IN1K = "ILSVRC/Data/CLS-LOC"
_SYNSETS, _SOLUTION = "LOC_synset_mapping.txt", "LOC_val_solution.csv"
# Two of CLIP's names are of two classes each; these labels tell them apart, and both are shown under the plain name.
_TWICE = {"missile": ("n03773504", "n04008634"), "sunglasses": ("n04355933", "n04356056")}
_PLAIN = {f"{name} ({synset})": (name,) for name, synsets in _TWICE.items() for synset in synsets}
_PLACES, _PLACES_TRAIN, _PLACES_VAL = "categories_places365.txt", "places365_train_standard.txt", "places365_val.txt"


@cache
def imagenet_names() -> tuple[str, ...]:
    """CLIP's names of the 1000 classes, in the order of the sorted synsets; "missile" and "sunglasses" come twice."""
    return tuple(json.loads(Path(__file__).with_name("imagenet_names.json").read_text(encoding="utf-8"))["names"])


def _synsets(root: Path) -> list[str]:
    return sorted(line.split(maxsplit=1)[0] for line in lines_of(root / _SYNSETS))


def _imagenet_classes(root: Path) -> list[str]:
    """CLIP's names for the whole data set; of a part, the first synonym of each synset."""
    synsets = _synsets(root)
    if len(synsets) == len(imagenet_names()):
        named = zip(imagenet_names(), synsets, strict=True)
        return [f"{name} ({synset})" if name in _TWICE else name for name, synset in named]
    words = dict(line.split(maxsplit=1) for line in lines_of(root / _SYNSETS))
    return [words[synset].split(",")[0].strip() for synset in synsets]


def _imagenet(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    name_of = dict(zip(_synsets(root), _imagenet_classes(root), strict=True))
    if split == "train":
        for synset, name in name_of.items():
            for path in sorted((root / _IN1K / "train" / synset).glob("*.JPEG")):
                yield {"id": path.stem, "label": name, "image": path.relative_to(root).as_posix()}
        return
    for number, line in enumerate(lines_of(root / _SOLUTION)[1:], start=2):
        picture, boxes = line.split(",", 1) if "," in line else (line, "")
        synset = (boxes.split() or [""])[0]
        if synset not in name_of:
            raise ValueError(f"{root / _SOLUTION}, line {number}: got the synset {synset!r}; {_SYNSETS} has no such.")
        yield {"id": picture, "label": name_of[synset], "image": f"{_IN1K}/val/{picture}.JPEG"}


def _places_classes(root: Path) -> list[str]:
    """`/a/apartment_building/outdoor` is "apartment building outdoor"; the authors' own reading is not known."""
    numbered = [split_line(root / _PLACES, n, line, None, 2) for n, line in enumerate(lines_of(root / _PLACES), 1)]
    ordered = sorted(numbered, key=lambda one: int(one[1]))
    return [name[3:].replace("_", " ").replace("/", " ") for name, _ in ordered]


def _places(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    names = _places_classes(root)
    listing = root / (_PLACES_TRAIN if split == "train" else _PLACES_VAL)
    folders = ("data_256", "data_large") if split == "train" else ("val_256", "val_large")
    folder = next((one for one in folders if (root / one).is_dir()), folders[0])
    for number, line in enumerate(lines_of(listing), start=1):
        path, index = split_line(listing, number, line, None, 2)
        if not index.isdigit() or int(index) >= len(names):
            raise ValueError(f"{listing}, line {number}: got class {index!r}; allowed: 0 to {len(names) - 1}.")
        place = f"{folder}/{path.lstrip('/')}"
        yield {"id": path.lstrip("/"), "label": names[int(index)], "image": place}


_SELECTION = "selects models on a twentieth of the training pictures instead of on the test split"

BENCHMARKS = (
    Benchmark(
        name="in1k",
        title="ImageNet-1k",
        modality="image",
        licence="terms of image-net.org: research and education only, no passing on",
        source="image-net.org, or Kaggle's 'imagenet-object-localization-challenge', whose folders these are",
        hub="ILSVRC/imagenet-1k",
        layout=(
            Expected(_SYNSETS, "synsets and their words, 1000 lines"),
            Expected(_SOLUTION, "synset of every validation picture", ("test",)),
            Expected(f"{_IN1K}/val", "50,000 pictures *.JPEG", ("test",)),
            Expected(f"{_IN1K}/train", "a folder of pictures for each synset", ("train",)),
        ),
        read=_imagenet,
        classes=_imagenet_classes,
        num_classes=1000,
        num_items={"paper": 50_000, "sound": 50_000},
        published_items=50_000,
        figures=FIGURES["in1k"],
        differences=_SELECTION,
        traps="The test split is the validation split: labels of the true one are not public. CLIP's list has two "
        "names twice (missile, sunglasses); both tie under their name, and half of their pictures count.",
        aliases={"paper": _PLAIN, "sound": _PLAIN},
    ),
    Benchmark(
        name="places365",
        title="Places365",
        modality="image",
        licence="terms of places2.csail.mit.edu: non-commercial research and education",
        source="places2.csail.mit.edu: Places365-Standard, small (256 x 256) or large pictures, and the file lists",
        layout=(
            Expected(_PLACES, "classes and their numbers, 365 lines"),
            Expected(_PLACES_VAL, "validation pictures and their classes", ("test",)),
            Expected("val_256 | val_large", "36,500 validation pictures", ("test",)),
            Expected(_PLACES_TRAIN, "training pictures and their classes", ("train",)),
            Expected("data_256 | data_large", "training pictures in folders by letter and class", ("train",)),
        ),
        read=_places,
        classes=_places_classes,
        num_classes=365,
        num_items={"paper": 36_500, "sound": 36_500},
        published_items=36_500,
        figures=FIGURES["places365"],
        differences=_SELECTION,
        traps="The test split is the validation split. How the authors spell class names is not known.",
    ),
)
