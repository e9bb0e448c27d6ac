"""Which value does a file hold? Readers for every modality, each giving what the processor accepts in memory."""

import importlib
import os
import re
import wave
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from .frames import FilmFrames, FolderFrames, Frames
from .ply import read_ply
from .recordings import Recording, SoundFileRecording, WaveRecording


# Files of point clouds that are read with their colours.
COLORED_POINTS = "coloured point_cloud"
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
_MOVIES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
_SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": _PICTURES,
    "tactile": _PICTURES,
    "video": (".npy", ".npz", *_MOVIES),
    "audio": _SOUNDS,
    "depth": (".npy", ".png", ".tif", ".tiff"),
    "thermal": (".npy", ".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"),
    "point_cloud": (".npy", ".ply"),
    COLORED_POINTS: (".npy", ".ply"),
    "eeg": (".npy",),
    "imu": (".npy",),
}


def read_media(modality: str, path: str | os.PathLike) -> Any:
    """The value in the file (or folder of video frames) `path`, in the form that `CodeBindProcessor` accepts.

    Image and tactile: RGB `PIL.Image`. Video: uint8 `(frames, height, width, 3)`, or `Frames` that are read when asked
    for (folders and films). Audio: `{"array", "sampling_rate"}`.
    Depth and thermal: `(height, width)`, integers as stored (the processor asks for the unit) or floats. Point cloud:
    float `(points, 3)`, or as `COLORED_POINTS` also `(points, 6)`. EEG, IMU and any added modality: the array of an
    `.npy` file.

    Raises:
        ValueError: a URL, an unsupported kind of file, or text (which is not read from files).
        OSError: the file is missing, unreadable or damaged; the message names it and the reason.
    """
    file = _checked_file(modality, path)
    if modality == "video" and file.is_dir():
        return _read_frames(file)
    return _reading(modality, file, _READERS.get(modality, _read_array))


def _checked_file(modality: str, path: str | os.PathLike) -> Path:
    """`path` as a file that may hold this modality."""
    if modality == "text":
        raise ValueError("text: text is passed as a string, not read from a file. Fix: pass open(path).read().")
    if "://" in str(path):
        raise ValueError(f"{modality}: {str(path)!r} is a URL; allowed: a local file. Fix: download it first.")
    file = Path(path)
    if not file.exists():
        raise OSError(f"{modality} file {str(file)!r}: no such file. Fix: check the path and the working directory.")
    if modality == "video" and file.is_dir():
        return file
    if not file.is_file():
        raise OSError(f"{modality} file {str(file)!r}: not a regular file (only video may be a folder of frames).")
    suffixes = SUFFIXES.get(modality, (".npy",))
    if file.suffix.lower() not in suffixes:
        known = ", ".join(suffixes)
        raise ValueError(f"{modality} file {str(file)!r}: unsupported suffix {file.suffix!r}; supported: {known}.")
    return file


def _reading(modality: str, file: Path, reader: Callable[[Path], Any]) -> Any:
    """Call `reader`, turning whatever a damaged file provokes into an OSError that names the file."""
    try:
        return reader(file)
    except OSError as error:
        raise OSError(f"{modality} file {str(file)!r}: {error}") from error
    except (ValueError, EOFError, SyntaxError, KeyError, IndexError, RuntimeError, wave.Error) as error:
        raise OSError(f"{modality} file {str(file)!r}: damaged or not what its suffix says ({error}).") from error
    except Image.DecompressionBombError as error:
        raise OSError(f"{modality} file {str(file)!r}: refused by Pillow ({error}).") from error


def _optional(module: str, extra: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise OSError(f"reading {purpose} needs `{module}`. Fix: pip install 'codebind-hf[{extra}]'.") from error


def _open_picture(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        picture.load()
        return picture.copy()


def _read_rgb(file: Path) -> Image.Image:
    picture = _open_picture(file)
    if picture.mode[0] in "IF":
        raise ValueError(f"mode {picture.mode} holds more than 8 bits: is it a depth or a thermal map?")
    if picture.mode == "P":
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _read_array(file: Path) -> np.ndarray:
    return np.load(file, allow_pickle=False)


def _read_grid(file: Path) -> np.ndarray:
    """One number per pixel: an `.npy` file, or a picture with one channel and its integers as stored."""
    if file.suffix.lower() == ".npy":
        return _read_array(file)
    picture = _open_picture(file)
    if picture.mode not in ("L", "I", "F") and not picture.mode.startswith("I;16"):
        raise ValueError(f"mode {picture.mode}; a map needs one channel of 8 or 16 bits")
    return np.asarray(picture)


def _read_thermal(file: Path) -> np.ndarray:
    """As a grid; a coloured picture is read as grey levels, as CodeBind's loaders do."""
    if file.suffix.lower() != ".npy":
        picture = _open_picture(file)
        if picture.mode in ("RGB", "RGBA", "P", "LA", "1", "CMYK", "YCbCr"):
            return np.asarray(picture.convert("L"))
    return _read_grid(file)


def _natural_order(file: Path) -> list[tuple[int, int, str]]:
    """`frame_2` before `frame_10`."""
    pieces = re.split(r"(\d+)", file.name)
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces]


def _read_frames(folder: Path) -> Frames:
    files = sorted((file for file in folder.iterdir() if file.suffix.lower() in _PICTURES), key=_natural_order)
    if not files:
        raise OSError(f"video folder {str(folder)!r}: holds no picture; supported frames: {', '.join(_PICTURES)}.")
    return FolderFrames(files, lambda file: _reading("video", file, _read_rgb))


def _read_video(file: Path) -> np.ndarray | Frames:
    suffix = file.suffix.lower()
    if suffix == ".npy":
        return np.load(file, allow_pickle=False, mmap_mode="r")
    if suffix == ".npz":
        with np.load(file, allow_pickle=False) as archive:
            if "frames" not in archive:
                raise ValueError(f"holds {archive.files}, not an array named 'frames'")
            return archive["frames"]
    _optional("av", "video", f"{suffix} files")
    return FilmFrames(file)


def open_recording(path: str | os.PathLike) -> Recording:
    """The sound in a file, of which pieces can be read: an hour needs no more memory than a second.

    Raises:
        ValueError, OSError: as for `read_media`.
    """
    return _reading("audio", _checked_file("audio", path), _recording)


def _recording(file: Path) -> Recording:
    recording: Recording | None = None
    if file.suffix.lower() == ".wav":
        try:
            recording = WaveRecording(file)
        except wave.Error as error:
            # The standard library knows integer PCM only; "unknown format" is a float or extensible header.
            if "unknown format" not in str(error):
                raise
    if recording is None:
        _optional("soundfile", "audio", f"{file.suffix} files other than integer PCM WAV")
        recording = SoundFileRecording(file)
    if not recording.num_samples:
        raise OSError("holds no sample")
    return recording


def _read_audio(file: Path) -> dict[str, Any]:
    recording = _recording(file)
    samples = recording.read(0, recording.num_samples)
    return {"array": samples[0] if recording.num_channels == 1 else samples, "sampling_rate": recording.rate}


def _read_points(file: Path) -> np.ndarray:
    return read_ply(file) if file.suffix.lower() == ".ply" else _read_array(file)


def _read_colored_points(file: Path) -> np.ndarray:
    return read_ply(file, colors=True) if file.suffix.lower() == ".ply" else _read_array(file)


_READERS: dict[str, Callable[[Path], Any]] = {
    "image": _read_rgb,
    "tactile": _read_rgb,
    "video": _read_video,
    "audio": _read_audio,
    "depth": _read_grid,
    "thermal": _read_thermal,
    "point_cloud": _read_points,
    COLORED_POINTS: _read_colored_points,
}
