"""Which value does a file hold? Readers for every modality, each giving what the processor accepts in memory."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open

from .foreign_files import FILE_LIMITS, check_limit, load_archived, load_array, open_picture, reading
from .frames import FilmFrames, FolderFrames, Frames
from .point_files import MESH_SAMPLES, POINT_FILES, read_points
from .recordings import ELECTRODE_FILES, Recording, SoundFileRecording, film_sound, open_electrodes
from .sources import DecodedFrames, is_decoder, kind_of, read_as_file, samples_of
from .values import refuse


# Files of point clouds that are read with their colours.
COLORED_POINTS = "coloured point_cloud"
# Files of what another network made of an item, of any modality.
FEATURES = "feature vectors"
_PICTURES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"),
    *(".jp2", ".avif", ".heic", ".heif"),
)
_MOVIES = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")
_TURNED = ("image", "tactile", "video", "depth", "thermal")
_FILM_SOUNDS = (".m4a", ".aac")
_SOUNDS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".snd", ".caf", ".w64", ".rf64"),
    *_FILM_SOUNDS,
)

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": _PICTURES,
    "tactile": _PICTURES,
    "video": (".npy", ".npz", *_MOVIES),
    "audio": _SOUNDS,
    "depth": (".npy", ".png", ".tif", ".tiff"),
    "thermal": (".npy", ".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"),
    "point_cloud": POINT_FILES,
    COLORED_POINTS: POINT_FILES,
    "eeg": (".npy", *ELECTRODE_FILES),
    "imu": (".npy",),
    FEATURES: (".npy", ".safetensors"),
}


def read_media(
    modality: str,
    source: Any,
    allow_truncated: bool | None = None,
    channels: Sequence[str] | None = None,
    mesh_samples: int = MESH_SAMPLES,
    upright: bool = True,
    time_stamps: bool = True,
) -> Any:
    """The value in the file that `source` stands for, in the form that `CodeBindProcessor` accepts.

    Image and tactile: RGB `PIL.Image`. Video: uint8 `(frames, height, width, 3)`,
    or `Frames` that are read when asked for (folders and films). Audio: `{"array", "sampling_rate"}`.
    Depth and thermal: `(height, width)`, integers as stored (the processor asks for the unit) or floats. Point cloud:
    float `(points, 3)`, or as `COLORED_POINTS` also `(points, 6)`. EEG: the array of an `.npy` file, or of recordings
    with named channels `{"array", "sampling_rate"}` in volts. IMU and any added modality: the array of an `.npy` file.
    `FEATURES`: that of an `.npy` or a safetensors file.

    Args:
        source: the path of a file (of video also of a folder of frames), its bytes, an open file, `{"bytes", "path"}`
            as `datasets` store it, or a decoder of torchcodec. Content decides what is read, a suffix where it cannot.
        allow_truncated: read what is there of a file that ends early instead of refusing it; `None` is
            `FILE_LIMITS.allow_truncated`.
        channels: names of the channels of a recording of electrodes, in the order wanted; `None` is all of them.
        mesh_samples: points drawn from the surface of a mesh; 0 gives its vertices.
        upright: turn pictures as their EXIF orientation says, and films as their display matrix does.
        time_stamps: of films whose rate varies, see `FilmFrames`.

    Raises:
        ValueError: a URL, an unsupported kind of file, text (which is not read from files), or a channel that the
            file lacks.
        OSError: the file is missing, unreadable, damaged, cut short or larger than `FILE_LIMITS` allow; the message
            names it and the reason.
    """
    if is_decoder(source, modality):
        return samples_of(source) if modality == "audio" else DecodedFrames(source)
    truncated = FILE_LIMITS.allow_truncated if allow_truncated is None else allow_truncated
    read = partial(_read_file, modality, truncated, channels, mesh_samples, upright, time_stamps)
    return read_as_file(source, SUFFIXES.get(modality, (".npy",))[0], read)


def _read_file(
    modality: str,
    truncated: bool,
    channels: Sequence[str] | None,
    mesh_samples: int,
    upright: bool,
    time_stamps: bool,
    path: str,
) -> Any:
    file, kind = _checked_file(modality, path)
    if modality == "eeg" and kind in ELECTRODE_FILES:
        return _read_electrodes(file, kind, channels, truncated)
    if channels is not None:
        refuse(
            f"{modality} file {str(file)!r}: channels", f"got {channels!r}", "None for files without names of channels"
        )
    reader = partial(_READERS.get(modality, _read_features), file, kind, truncated)
    if modality in ("point_cloud", COLORED_POINTS):
        reader = partial(read_points, file, kind, modality == COLORED_POINTS, truncated, mesh_samples)
    elif modality in _TURNED:
        reader = partial(reader, upright=upright)
    with reading(modality, file):
        if file.is_dir():
            return _read_frames(file, truncated, upright)
        reader = partial(reader, time_stamps=time_stamps) if modality == "video" else reader
        # Sounds and videos are read piece by piece.
        if modality not in ("audio", "video"):
            check_limit("bytes", file.stat().st_size, "bytes")
        return reader()


def _checked_file(modality: str, path: str | os.PathLike) -> tuple[Path, str]:
    """`path` as a file that may hold this modality, and the suffix of its kind."""
    if modality == "text":
        raise ValueError("text: text is passed as a string, not read from a file. Fix: pass open(path).read().")
    if "://" in str(path):
        raise ValueError(f"{modality}: {str(path)!r} is a URL; allowed: a local file. Fix: download it first.")
    file = Path(path)
    if not os.path.exists(file):
        raise OSError(f"{modality} file {str(file)!r}: no such file. Fix: check the path and the working directory.")
    if modality == "video" and file.is_dir():
        return file, ""
    if not file.is_file():
        raise OSError(f"{modality} file {str(file)!r}: not a regular file (only video may be a folder of frames).")
    suffixes = SUFFIXES.get(modality, (".npy",))
    with reading(modality, file):
        kind = kind_of(file, suffixes)
        if not kind and file.suffix.lower() in suffixes:
            if not file.stat().st_size:
                raise OSError("is empty. Fix: write it again, or leave it out")
            raise OSError(
                f"is no {file.suffix.lower()} file and no other kind that is read; supported: {', '.join(suffixes)}"
            )
    if kind not in suffixes:
        known = ", ".join(suffixes)
        fix = "convert the file, or pass what it holds as an array."
        got = f"unsupported suffix {file.suffix!r}" if kind in ("", file.suffix.lower()) else f"holds a {kind} file"
        raise ValueError(f"{modality} file {str(file)!r}: {got}; supported: {known}. Fix: {fix}")
    return file, kind


def _read_rgb(file: Path, kind: str, allow_truncated: bool, upright: bool) -> Image.Image:
    picture = open_picture(file, kind, allow_truncated, upright)
    if picture.mode[0] in "IF":
        raise OSError(f"mode {picture.mode} holds more than 8 bits: is it a depth or a thermal map?")
    if picture.mode == "P":
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _read_grid(file: Path, kind: str, allow_truncated: bool, upright: bool) -> np.ndarray:
    """One number per pixel: an `.npy` file, or a picture with one channel and its integers as stored."""
    if kind == ".npy":
        return load_array(file, allow_truncated)
    picture = open_picture(file, kind, allow_truncated, upright)
    if picture.mode not in ("L", "I", "F") and not picture.mode.startswith("I;16"):
        raise OSError(f"mode {picture.mode}; a map needs one channel of 8 or 16 bits")
    return np.asarray(picture)


def _read_thermal(file: Path, kind: str, allow_truncated: bool, upright: bool) -> np.ndarray:
    """As a grid; a coloured picture is read as grey levels, as CodeBind's loaders do."""
    if kind != ".npy":
        picture = open_picture(file, kind, allow_truncated, upright)
        if picture.mode in ("RGB", "RGBA", "P", "LA", "1", "CMYK", "YCbCr"):
            return np.asarray(picture.convert("L"))
    return _read_grid(file, kind, allow_truncated, upright)


def _natural_order(file: Path) -> list[tuple[int, int, str]]:
    """`frame_2` before `frame_10`."""
    pieces = re.split(r"(\d+)", file.name)
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def frame_files(folder: str | os.PathLike) -> list[Path]:
    """The pictures in a folder, in their natural order."""
    files = (file for file in Path(folder).iterdir() if file.suffix.lower() in _PICTURES)
    return sorted(files, key=_natural_order)


def _read_frames(folder: Path, allow_truncated: bool, upright: bool) -> Frames:
    files = frame_files(folder)
    if not files:
        raise OSError(f"holds no picture; supported frames: {', '.join(_PICTURES)}")

    def read(file: Path) -> Image.Image:
        with reading("video", file):
            return _read_rgb(*_checked_file("image", file), allow_truncated, upright)

    return FolderFrames(files, read)


def _read_video(file: Path, kind: str, allow_truncated: bool, upright: bool, time_stamps: bool) -> np.ndarray | Frames:
    if kind == ".npy":
        return load_array(file, allow_truncated, memory_map=True)
    if kind == ".npz":
        return load_archived(file, "frames")
    return FilmFrames(file, allow_truncated, upright, time_stamps)


def open_recording(source: Any, allow_truncated: bool | None = None) -> Recording:
    """The sound in a file, of which pieces can be read: an hour needs no more memory than a second.

    Arguments and errors are those of `read_media`, but for decoders.
    """

    def read(path: str) -> Recording:
        file, kind = _checked_file("audio", path)
        with reading("audio", file):
            return _recording(file, kind, FILE_LIMITS.allow_truncated if allow_truncated is None else allow_truncated)

    return read_as_file(source, ".wav", read)


def _recording(file: Path, kind: str, allow_truncated: bool) -> Recording:
    recording = (film_sound if kind in _FILM_SOUNDS else SoundFileRecording)(file, allow_truncated)
    if not recording.num_samples:
        raise OSError("holds no sample")
    return recording


def _read_audio(file: Path, kind: str, allow_truncated: bool = False) -> dict[str, Any]:
    recording = _recording(file, kind, allow_truncated)
    check_limit("bytes", recording.num_samples * recording.num_channels * 4, "bytes of samples")
    samples = recording.read(0, recording.num_samples)
    return {"array": samples[0] if recording.num_channels == 1 else samples, "sampling_rate": recording.rate}


def _read_electrodes(file: Path, kind: str, channels: Sequence[str] | None, allow_truncated: bool) -> dict[str, Any]:
    with reading("eeg", file):
        recording = open_electrodes(file, kind, allow_truncated)
    picked, rate = recording.picked(channels, f"eeg file {str(file)!r}")
    with reading("eeg", file):
        array = recording.read(picked)
        if not array.size:
            raise OSError("holds no sample")
        return {"array": array, "sampling_rate": rate}


def _read_features(file: Path, kind: str, allow_truncated: bool = False) -> np.ndarray:
    """The array of an `.npy` file, or of a safetensors file its only tensor or the one called "features"."""
    if kind == ".npy":
        return load_array(file, allow_truncated)
    with safe_open(file, "pt") as archive:
        names = list(archive.keys())
        name = names[0] if len(names) == 1 else "features"
        if name not in names:
            raise OSError(f"holds {len(names)} tensors, none called 'features'; allowed: one, or one of that name")
        # numpy lacks some of the types that weights and features are stored in.
        values = archive.get_tensor(name)
    return (values.float() if values.is_floating_point() else values).numpy()


_READERS: dict[str, Callable[..., Any]] = {
    "image": _read_rgb,
    "tactile": _read_rgb,
    "video": _read_video,
    "audio": _read_audio,
    "depth": _read_grid,
    "thermal": _read_thermal,
    FEATURES: _read_features,
}
