"""How is a file of unknown origin opened? Within limits, in formats of our choice, with errors that name the file."""

import importlib
import math
import os
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal, NoReturn

import numpy as np
from PIL import Image, ImageFile, ImageOps, features

from .values import describe


@dataclass
class FileLimits:
    """What a file may declare; more is refused before anything of it is allocated.

    There is one for all reading, `FILE_LIMITS`, which every sub-processor calls `file_limits`; set its fields.

    Args:
        pixels: of one picture or frame. Pillow has a limit of its own beyond it, `PIL.Image.MAX_IMAGE_PIXELS`.
        aspect: longer side of a picture or frame divided by the shorter one.
        bytes: of a value that is read as a whole, as stored and as unpacked.
        points: of a cloud or a mesh.
        seconds: of a recording or a film.
        channels: of a recording.
        frames: of a video.
        allow_truncated: read what is there of files that end early, instead of refusing them.
    """

    pixels: int = 1 << 27
    aspect: float = 256.0
    bytes: int = 4 << 30
    points: int = 100_000_000
    seconds: float = 172_800.0
    channels: int = 1024
    frames: int = 10_000_000
    allow_truncated: bool = False


FILE_LIMITS = FileLimits()
TRUNCATED = (
    "it is cut short. Fix: get the whole file, or set codebind_hf.processing.foreign_files.FILE_LIMITS."
    "allow_truncated=True to read what is there"
)
# Raster formats that Pillow reads by itself: never PostScript, for which it starts another program.
_PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
_HEIF = (".heic", ".heif")
_PILLOW_FEATURES = {".avif": "avif", ".webp": "webp", ".jp2": "jpg_2000"}
# What libraries raise for files that are whole, and of a kind they do not know.
_UNSUPPORTED = ("DecoderNotFoundError", "DemuxerNotFoundError", "PatchWelcomeError", "NotImplementedError")
_tolerance = threading.Lock()


def check_limit(name: str, declared: float, what: str) -> None:
    """Raise an OSError that names the limit if a file declares more than the field `name` of `FILE_LIMITS` allows."""
    largest = getattr(FILE_LIMITS, name)
    if not declared <= largest:
        fix = f"if you trust the file, raise `file_limits.{name}` of the sub-processor"
        raise OSError(f"declares {declared:,} {what}; allowed: up to {largest:,}. Fix: {fix}")


def check_frame(width: int, height: int) -> None:
    """Refuse the size of a picture or frame that is too large or too narrow."""
    check_limit("pixels", width * height, f"pixels ({width} x {height})")
    check_limit(
        "aspect", max(width, height) / max(1, min(width, height)), f"times one side in the other of {width} x {height}"
    )


@contextmanager
def reading(modality: str, file: Path) -> Iterator[None]:
    """Meanwhile, whatever a library raises becomes an `OSError` that names the file and says what is wrong."""
    label = f"{modality} file {str(file)!r}"
    try:
        yield
    except OSError as error:
        if str(error).startswith(label):
            raise
        raise OSError(f"{label}: {error}") from error
    except MemoryError as error:
        raise OSError(f"{label}: needs more memory than there is.") from error
    except ImportError as error:
        raise OSError(f"{label}: a library that reads it does not work ({error}).") from error
    except Image.DecompressionBombError as error:
        raise OSError(f"{label}: refused by Pillow ({error}).") from error
    except Exception as error:
        if type(error).__name__ in _UNSUPPORTED:
            raise OSError(f"{label}: holds what is not supported ({error}).") from error
        raise OSError(
            f"{label}: damaged or not what its suffix says ({str(error) or type(error).__name__})."
        ) from error


@contextmanager
def loading(source: Any) -> Iterator[None]:
    """Meanwhile, what libraries raise of damaged files of a processor becomes an `OSError` that names their folder."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        is_ours = isinstance(error, (ValueError, TypeError)) and not isinstance(error, (UnicodeError, JSONDecodeError))
        if is_ours:
            raise
        found = f"{describe(error)}: {str(error)[:200]}"
        raise OSError(f"{source}: a file of the processor is damaged ({found}). Fix: copy it again.") from error


def nothing_saved(source: str, attribute: str, saved: dict[str, Any]) -> str:
    """Why `source` gives no sub-processor: its processor_config.json is missing, or lacks it."""
    file = os.path.join(source, "processor_config.json")
    is_missing = not os.path.exists(file) if os.path.isdir(source) else not saved
    if is_missing:
        fix = f"`processor.save_pretrained({source!r})`, or make one with `CodeBindProcessor.from_model_config`."
        return f"{file}: no such file, so there is no processor to load. Fix: {fix}"
    return f"{file}: holds no parameters for {attribute!r}. Fix: save the processor again."


def no_packs() -> NoReturn:
    """Refuse packs where only the code beside a checkpoint is there, which has nothing that reads them."""
    fix = "`pip install codebind-hf`, and load with `codebind_hf.CodeBindProcessor`."
    raise ValueError(f"packs: the code beside a checkpoint knows none. Fix: {fix}")


def optional(module: str, extra: str | None, purpose: str) -> ModuleType:
    """A library that an extra (`None`: its own package) brings, or an OSError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        command = f"pip install 'codebind-hf[{extra}]'" if extra else f"pip install {module}"
        raise OSError(f"reading {purpose} needs `{module}`. Fix: {command}.") from error


def open_picture(file: Path, suffix: str, allow_truncated: bool = False, upright: bool = True) -> Image.Image:
    """The picture in a file, turned as its EXIF orientation says if it is to be `upright`; it needs no file then."""
    if suffix in _HEIF:
        with file.open("rb") as stream:
            found = optional("pi_heif", "image", f"{suffix} files").open_heif(stream)
            check_frame(*found[0].size)
            picture = found[0].to_pillow()
            return ImageOps.exif_transpose(picture) if upright else picture
    if not features.check(_PILLOW_FEATURES.get(suffix, "zlib")):
        raise OSError(
            f"this Pillow was built without {suffix[1:]}. Fix: pip install --upgrade --force-reinstall pillow"
        )
    with Image.open(file, formats=_PICTURE_FORMATS) as picture:
        check_frame(*picture.size)
        with _tolerating() if allow_truncated else nullcontext():
            picture.load()
        return ImageOps.exif_transpose(picture) if upright else picture.copy()


@contextmanager
def _tolerating() -> Iterator[None]:
    """Meanwhile, Pillow takes pictures that end early; it knows this only as a setting of all threads."""
    with _tolerance:
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def load_array(file: Path, allow_truncated: bool = False, memory_map: bool = False) -> np.ndarray:
    """The array of an `.npy` file, whose header is compared with the size of the file first.

    Of a file that ends early, `allow_truncated` gives whole rows; `memory_map` reads values when they are asked for.
    """
    with file.open("rb") as stream:
        shape, order, dtype = _array_header(stream)
        offset = stream.tell()
    there = file.stat().st_size - offset
    if math.prod(shape) * dtype.itemsize > there:
        row = math.prod(shape[1:]) * dtype.itemsize
        if not allow_truncated or order == "F" or not shape or not 0 < row <= there:
            raise OSError(TRUNCATED)
        shape = (there // row, *shape[1:])
    if memory_map and 0 not in shape:
        return np.memmap(file, dtype, "r", offset, shape, order)
    return np.fromfile(file, dtype, math.prod(shape), offset=offset).reshape(shape, order=order)


def load_archived(file: Path, name: str) -> np.ndarray:
    """The array called `name` of an `.npz` file, whose declared sizes are checked before it is unpacked."""
    with zipfile.ZipFile(file) as archive:
        members = {entry.filename: entry for entry in archive.infolist()}
        entry = members.get(f"{name}.npy")
        if entry is None:
            names = [member.removesuffix(".npy") for member in members]
            raise OSError(f"holds {names}, not an array named {name!r}")
        if entry.flag_bits & 1:
            raise OSError("is encrypted, which is not supported")
        check_limit("bytes", entry.file_size, "bytes")
        with archive.open(entry) as stream:
            shape, order, dtype = _array_header(stream)
            if math.prod(shape) * dtype.itemsize > entry.file_size:
                raise OSError(TRUNCATED)
            values = np.frombuffer(stream.read(), dtype, math.prod(shape))
    return values.reshape(shape, order=order)


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype]:
    """Shape, order of the axes and dtype of an array of numbers."""
    version = np.lib.format.read_magic(stream)
    if version > (2, 0):
        raise OSError(f"is of npy version {version}, which only structured arrays need; save an array of numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_columns, dtype = read(stream)
    if dtype.hasobject:
        raise OSError("holds Python objects, which numpy reads only with allow_pickle=True; save an array of numbers")
    if dtype.kind not in "biufc" or any(length < 0 for length in shape):
        raise OSError(f"holds values of dtype {dtype} and shape {shape}; save an array of numbers")
    return shape, "F" if is_columns else "C", dtype
