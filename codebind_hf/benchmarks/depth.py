"""Depth maps of rooms: NYU-D and SUN RGB-D."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from codebind_hf.benchmarks.entry import Benchmark
from codebind_hf.benchmarks.figures import FIGURES
from codebind_hf.benchmarks.layout import Expected
from codebind_hf.benchmarks.prompts import CLIP, SCENES
from codebind_hf.benchmarks.rows import Entry


_MAT, _SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
_ALLSPLIT = "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
# Metres between the lenses of each sensor, by its folder; the released code turns metres into disparities with them.
_BASELINES = {"kv1": 0.075, "kv2": 0.075, "realsense": 0.095, "xtion": 0.095}
# Baseline (metres) times focal length (pixels) of the first Kinect, which processors of both backbones assume.
KINECT = 0.075 * 518.857901

# Nine types of rooms, then the eighteen that count as one: the order of the released code.
NYU_KEPT = (
    "bedroom",
    "kitchen",
    "living room",
    "bathroom",
    "dining room",
    "office",
    "home office",
    "classroom",
    "bookstore",
)
_NYU_MERGED = """basement|cafe|computer lab|conference room|dinette|exercise room|foyer|furniture store|home storage
indoor balcony|laundry room|office kitchen|playroom|printer room|reception room|student lounge|study|study room"""
NYU_OTHER = "other"
NYU_CLASSES = (*NYU_KEPT, *_NYU_MERGED.replace("\n", "|").split("|"))

SUN_CLASSES = tuple(
    """bathroom|bedroom|classroom|computer room|conference room|corridor|dining area|dining room|discussion area
furniture store|home office|kitchen|lab|lecture theatre|library|living room|office|rest space|study space""".replace(
        "\n", "|"
    ).split("|")
)


def _mat_file(path: Path) -> dict[str, Any]:
    try:
        import scipy.io
    except ImportError as error:
        raise ImportError(f"{path.name} needs scipy: pip install 'codebind-hf[benchmarks]'.") from error
    try:
        return scipy.io.loadmat(path)
    except (ValueError, TypeError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
        raise ValueError(f"{path}: is no MATLAB file that can be read ({error}).") from error


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path.name} is HDF5 and needs h5py: pip install 'codebind-hf[benchmarks]'.") from error
    return h5py.File(path, "r")


def _nyu_scenes(root: Path, name: str) -> list[str]:
    """Words of the rooms; MATLAB keeps each as numbers of letters behind a reference."""
    with _hdf5(root / _MAT) as whole:
        cells = np.asarray(whole[name]).reshape(-1)
        letters = [np.asarray(whole[cell]).reshape(-1) for cell in cells]
    return ["".join(map(chr, one)).replace("_", " ").strip() for one in letters]


def _nyu(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    scenes, places = _nyu_scenes(root, "sceneTypes"), _nyu_scenes(root, "scenes")
    splits = _mat_file(root / _SPLITS)
    for number in np.asarray(splits["trainNdxs" if split == "train" else "testNdxs"]).reshape(-1):
        index = int(number) - 1
        if not 0 <= index < len(scenes) or scenes[index] not in NYU_CLASSES:
            got = f"number {number}" if index >= len(scenes) else f"the room {scenes[index]!r}"
            raise ValueError(
                f"{root}: got {got}; expected: one of {len(scenes)} rooms, each of {len(NYU_CLASSES)} types."
            )
        entry: Entry = {"id": f"NYU{number:04d}", "label": scenes[index], "group": places[index]}
        entry |= {"depth": _MAT, "attributes": {"index": index}}
        yield {**entry, "image": _MAT} if split == "train" else entry


def _nyu_row(row: Entry, root: Path) -> Entry:
    """Maps `(480, 640)` in metres, filled in, and pictures; MATLAB's axes are the other way round."""
    index = row["attributes"]["index"]
    with _hdf5(root / _MAT) as whole:
        row["depth"] = np.asarray(whole["depths"][index], dtype=np.float32).T
        if "image" in row:
            row["image"] = Image.fromarray(np.ascontiguousarray(np.asarray(whole["images"][index]).transpose(2, 1, 0)))
    return row


def sun_metres(levels: np.ndarray) -> np.ndarray:
    """Levels of a depth PNG of SUN RGB-D as metres: 16 bits, rotated by three to the left, are millimetres.

    Source: `read3dPoints.m` of SUNRGBDtoolbox.
    """
    rotated = levels.astype(np.uint16)
    return ((rotated >> 3) | (rotated << 13)).astype(np.float32) / 1000


def _sun_words(root: Path, scene: str) -> str:
    path = root / scene / "scene.txt"
    if not path.is_file():
        raise OSError(f"SUN RGB-D: {path} is missing, which names the room of a row of {_ALLSPLIT}.")
    return path.read_text(encoding="utf-8").strip().replace("_", " ")


def _sun(root: Path, split: str, protocol: str, backbone: str) -> Iterator[Entry]:
    cells = _mat_file(root / _ALLSPLIT)["alltrain" if split == "train" else "alltest"].reshape(-1)
    for cell in cells:
        # Paths of the authors' own machine: what follows the folder SUNRGBD counts.
        scene = "SUNRGBD/" + str(np.asarray(cell).item()).rstrip("/").split("/SUNRGBD/")[-1]
        label = _sun_words(root, scene)
        # Beyond the 19 classes lie rooms of which there are few; ViT-Lens trains on them, too.
        if label not in SUN_CLASSES and not (split == "train" and protocol == "paper" and backbone == "vl"):
            continue
        sensor = scene.split("/")[1]
        # Scenes of SUN3D are frames of a few videos.
        group = scene.rsplit("/", 1)[0] if "/sun3ddata/" in scene else scene
        entry = {"id": scene, "label": label, "group": group}
        entry["depth"] = _one_in(root, f"{scene}/depth_bfx", "*.png")
        if split == "train":
            entry["image"] = _one_in(root, f"{scene}/image", "*.jpg")
        scale = 1.0
        if protocol == "paper":
            scale = KINECT / (_BASELINES.get(sensor, 0.075) * _focal_length(root / scene / "intrinsics.txt"))
        yield {**entry, "attributes": {"sensor": sensor, "scale": scale}}


def _one_in(root: Path, folder: str, pattern: str) -> str:
    found = sorted((root / folder).glob(pattern))
    return found[0].relative_to(root).as_posix() if found else f"{folder}/{pattern}"


def _focal_length(path: Path) -> float:
    """The first number of the file, in pixels."""
    try:
        return float(path.read_text(encoding="utf-8").split()[0])
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: expected: nine numbers, the first of them the focal length in pixels.") from error


def _sun_row(row: Entry, root: Path) -> Entry:
    """Depth in metres; under the paper's protocol scaled so that the first Kinect would see the same disparity."""
    with Image.open(root / row["depth"]) as picture:
        levels = np.asarray(picture)
    if levels.ndim != 2 or levels.dtype.kind not in "iu" or levels.max(initial=0) > 65535:
        raise ValueError(
            f"{root / row['depth']}: got {levels.dtype} of shape {levels.shape}; expected: 16 bits of grey."
        )
    row["depth"] = sun_metres(levels) * np.float32(row["attributes"]["scale"])
    return row


_TEMPLATES = {"ib": CLIP, "vl": SCENES}

BENCHMARKS = (
    Benchmark(
        name="nyu-d",
        title="NYU Depth v2",
        modality="depth",
        licence="none stated; free for research (Silberman et al. 2012)",
        source=f"cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html: {_MAT} (2.8 GB) and {_SPLITS}",
        layout=(
            Expected(_MAT, "HDF5 with depths, images, scenes and sceneTypes of 1,449 pictures"),
            Expected(_SPLITS, "numbers of 795 training and 654 test rooms"),
        ),
        read=_nyu,
        finish=_nyu_row,
        classes=NYU_CLASSES,
        num_classes=10,
        num_items={"paper": 654, "sound": 654},
        published_items=654,
        figures=FIGURES["nyu-d"],
        templates=_TEMPLATES,
        merged={one: {name: NYU_OTHER for name in NYU_CLASSES if name not in NYU_KEPT} for one in ("ib", "vl")},
        only_present=("vl",),
        differences="selects models on a twentieth of the training rooms",
        traps="27 types are prompted, and eighteen of them count as one after the nearest was chosen; during training "
        "the released code leaves that out. ViT-Lens prompts only the types that the split has (here too, for vl).",
    ),
    Benchmark(
        name="sun-d",
        title="SUN RGB-D",
        modality="depth",
        licence="none stated; free for research (Song et al. 2015)",
        source="rgbd.cs.princeton.edu: SUNRGBD.zip (6.4 GB) and SUNRGBDtoolbox.zip",
        layout=(
            Expected(_ALLSPLIT, "paths of all training and test scenes"),
            Expected("SUNRGBD", "scenes by sensor, each with image/, depth_bfx/, intrinsics.txt and scene.txt"),
        ),
        read=_sun,
        finish=_sun_row,
        classes=SUN_CLASSES,
        num_classes=19,
        num_items={"paper": 4659, "sound": 4659},
        published_items=4660,
        figures=FIGURES["sun-d"],
        templates=_TEMPLATES,
        differences="has true metres of every sensor, and selects models on a twentieth of the training scenes; under "
        "paper, depth is scaled so that a processor with the first Kinect's numbers makes each camera's own disparity",
        traps="Depth files are rotated by three bits, which neither released code undoes: their numbers are eight "
        "times the distance, and so are the means and deviations. Ours are metres; processors know the factor.",
    ),
)
