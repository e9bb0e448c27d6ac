"""Shapes as points: ModelNet40, and ShapeNet55 for training."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codebind_hf.benchmarks.entry import Benchmark, Metric
from codebind_hf.benchmarks.figures import FIGURES
from codebind_hf.benchmarks.layout import Expected, lines_of
from codebind_hf.benchmarks.prompts import CLIP, POINTS
from codebind_hf.benchmarks.rows import Entry


_NAMES = "modelnet40_shape_names.txt"
_RENDERS = 30


def _modelnet_classes(root: Path) -> list[str]:
    return [line.strip().replace("_", " ") for line in lines_of(root / _NAMES)]


def _modelnet(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    names = set(_modelnet_classes(root))
    listing = root / f"modelnet40_{'train' if split == 'train' else 'test'}.txt"
    for number, line in enumerate(lines_of(listing), start=1):
        folder = line.strip().rpartition("_")[0]
        label = folder.replace("_", " ")
        if label not in names:
            raise ValueError(f"{listing}, line {number}: got {line.strip()!r}; {_NAMES} has no {label!r}.")
        yield {"id": line.strip(), "label": label, "point_cloud": f"{folder}/{line.strip()}.txt"}


def _modelnet_row(row: Entry, root: Path) -> Entry:
    """Points `(10000, 3)`; the file's normals are left out."""
    path = root / row["point_cloud"]
    try:
        row["point_cloud"] = np.loadtxt(path, dtype=np.float32, delimiter=",", ndmin=2)[:, :3]
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: expected: lines of x,y,z and a normal ({error}).") from error
    return row


def _shapenet_names(root: Path) -> dict[str, list[str]]:
    """Synset -> its words."""
    taxonomy = json.loads((root / "taxonomy.json").read_text(encoding="utf-8"))
    return {one["synsetId"]: [name.strip() for name in one["name"].split(",")] for one in taxonomy}


def _shapenet_list(root: Path, part: str) -> Path:
    """Beside the points, or in a folder of its own, as ULIP's own code has it."""
    beside = root / f"{part}.txt"
    return beside if beside.exists() else root / "ShapeNet-55" / f"{part}.txt"


def _shapenet_classes(root: Path) -> list[str]:
    names = _shapenet_names(root)
    lists = [line for part in ("train", "test") for line in lines_of(_shapenet_list(root, part))]
    return [names[synset][0] for synset in sorted({line.split("-")[0] for line in lists})]


def _shapenet(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    if split == "test":
        raise ValueError("ShapeNet55: got the split 'test'; nothing is tested on it, take 'train' or 'validation'.")
    names = _shapenet_names(root)
    parts = ("test",) if split == "validation" else ("train", "test") if protocol == "paper" else ("train",)
    for part in parts:
        listing = _shapenet_list(root, part)
        for number, line in enumerate(lines_of(listing), start=1):
            shape = Path(line.strip()).stem
            synset = shape.split("-")[0]
            if synset not in names:
                raise ValueError(f"{listing}, line {number}: got {line.strip()!r}; taxonomy.json has no such synset.")
            # One of thirty views around the shape, every 12 degrees.
            angle = zlib.crc32(shape.encode()) % _RENDERS * 12
            yield {
                "id": shape,
                "label": names[synset][0],
                "names": names[synset],
                "point_cloud": f"shapenet_pc/{shape}.npy",
                "image": f"rendered_images/{shape}/{shape}_r_{angle:03d}.png",
            }


_TEMPLATES = {"ib": CLIP, "vl": POINTS}

BENCHMARKS = (
    Benchmark(
        name="modelnet40",
        title="ModelNet40",
        modality="point_cloud",
        licence="terms of modelnet.cs.princeton.edu: academic use; shapes belong to their makers",
        source="shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip (1.6 GB)",
        layout=(
            Expected(_NAMES, "40 classes, one a line"),
            Expected("modelnet40_test.txt", "2,468 shapes, one a line", ("test",)),
            Expected("modelnet40_train.txt", "9,843 shapes, one a line", ("train",)),
        ),
        read=_modelnet,
        finish=_modelnet_row,
        metric=Metric(at=(1, 5)),
        classes=_modelnet_classes,
        num_classes=40,
        num_items={"paper": 2468, "sound": 2468},
        published_items=2468,
        figures=FIGURES["modelnet40"],
        templates=_TEMPLATES,
        differences="selects models on training shapes",
        traps="ViT-Lens and ULIP keep 8,192 of the 10,000 points in a pickled file; the processor picks them here, by "
        "the same rule (farthest points) from another start. xyz only.",
    ),
    Benchmark(
        name="shapenet55",
        title="ShapeNet55",
        modality="point_cloud",
        licence="terms of shapenet.org: research and education only",
        source="github.com/salesforce/ULIP: ShapeNet-55 as triplets (points, renders, taxonomy)",
        layout=(
            Expected("taxonomy.json", "synsets and their words"),
            Expected("train.txt | ShapeNet-55/train.txt", "41,952 shapes <synset>-<model>.npy"),
            Expected("test.txt | ShapeNet-55/test.txt", "10,518 shapes"),
            Expected("shapenet_pc", "points of every shape"),
            Expected("rendered_images", "a folder of views for every shape"),
        ),
        read=_shapenet,
        classes=_shapenet_classes,
        num_classes=55,
        templates=_TEMPLATES,
        is_only_for_training=True,
        has_validation=True,
        differences="keeps the test list for validation; ViT-Lens trains on both lists",
        traps="For training only. ViT-Lens draws one of thirty views, in colour or as depth, every time; here each "
        "shape has one.",
    ),
)
