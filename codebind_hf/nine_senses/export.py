"""How is a rendered row written as ordinary files?"""

import json
import os
import wave
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm


DEPTH_FORMATS = ("npy", "png")
POINT_FORMATS = ("ply", "npy")


def write_picture(path: Path, value: np.ndarray) -> Path:
    """uint8 `(height, width[, 3])` or uint16 `(height, width)` as `path`.png."""
    target = path.with_suffix(".png")
    Image.fromarray(value).save(target)
    return target


def write_frames(path: Path, value: np.ndarray) -> Path:
    """uint8 `(frames, height, width, 3)` as the folder `path` of numbered PNG files."""
    path.mkdir(exist_ok=True)
    for index, frame in enumerate(value):
        Image.fromarray(frame).save(path / f"{index:03d}.png")
    return path


def write_sound(path: Path, value: Mapping[str, Any]) -> Path:
    """`{"array", "sampling_rate"}`, one channel in [-1, 1), as 16-bit `path`.wav."""
    target = path.with_suffix(".wav")
    samples = np.clip(np.round(np.asarray(value["array"]) * 32768.0), -32768, 32767).astype("<i2")
    with wave.open(str(target), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(int(value["sampling_rate"]))
        stream.writeframes(samples.tobytes())
    return target


def write_array(path: Path, value: np.ndarray) -> Path:
    """An array as `path`.npy."""
    target = path.with_suffix(".npy")
    np.save(target, value)
    return target


def write_millimetres(path: Path, value: np.ndarray) -> Path:
    """Metres as `path`.png of 16 bits in millimetres; reading it back needs `depth_unit="mm"`."""
    return write_picture(path, np.round(value.astype(np.float64) * 1000).astype(np.uint16))


def write_points(path: Path, value: np.ndarray) -> Path:
    """float32 `(points, 3)` as binary little-endian `path`.ply."""
    target = path.with_suffix(".ply")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(value)}"]
    header += [f"property float {axis}" for axis in "xyz"] + ["end_header", ""]
    target.write_bytes("\n".join(header).encode("ascii") + value.astype("<f4").tobytes())
    return target


_WRITERS: dict[str, Callable[[Path, Any], Path]] = {
    "image": write_picture,
    "tactile": write_picture,
    "thermal": write_picture,
    "video": write_frames,
    "audio": write_sound,
    "eeg": write_array,
}
_DEPTH_WRITERS: dict[str, Callable[[Path, Any], Path]] = {"npy": write_array, "png": write_millimetres}
_POINT_WRITERS: dict[str, Callable[[Path, Any], Path]] = {"ply": write_points, "npy": write_array}


def export_rows(
    rows: Sequence[Mapping[str, Any]],
    folder: str | os.PathLike,
    depth_format: str,
    point_format: str,
    description: str,
) -> str:
    """Write rendered `rows` as files, one folder per modality, and `manifest.jsonl`; returns the path of the manifest.

    Raises:
        ValueError: an unknown format.
        OSError: a file cannot be written.
    """
    for name, value, allowed in (
        ("depth_format", depth_format, DEPTH_FORMATS),
        ("point_format", point_format, POINT_FORMATS),
    ):
        if value not in allowed:
            raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(allowed)}.")
    writers = {**_WRITERS, "depth": _DEPTH_WRITERS[depth_format], "point_cloud": _POINT_WRITERS[point_format]}
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    manifest = root / "manifest.jsonl"
    with manifest.open("w", encoding="utf-8") as lines:
        for row in tqdm(rows, total=len(rows), desc=description, unit="row"):
            lines.write(json.dumps(_written(row, root, writers)) + "\n")
    return str(manifest)


def _written(row: Mapping[str, Any], root: Path, writers: Mapping[str, Callable[[Path, Any], Path]]) -> dict[str, Any]:
    """The row's line in the manifest, its files being written."""
    line: dict[str, Any] = {}
    for key, value in row.items():
        if key not in writers:
            line[key] = value
            continue
        (root / key).mkdir(exist_ok=True)
        line[key] = writers[key](root / key / row["id"], value).relative_to(root).as_posix()
    return line
