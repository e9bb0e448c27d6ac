"""What picture is in this value? Pictures, arrays and tensors with channel axis found and values checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from .arrays import as_array, as_float_array
from .values import check_size, describe, refuse


# Floats that were computed from bytes may miss [0, 1] by rounding.
_ROUNDING = 1e-3
_DEEP_MODES = ("I", "F")
_PICTURE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")


def _is_deep(picture: Image.Image) -> bool:
    return picture.mode in _DEEP_MODES or picture.mode.startswith("I;")


def channels_last(array: np.ndarray, label: str, channels: tuple[int, ...], first: bool) -> np.ndarray:
    """`(height, width)` or `(height, width, channels)` of an array that may have its channels first.

    Args:
        channels: numbers of channels that are allowed.
        first: which reading wins when both fit, as in a 3 x 3 picture.
    """
    if array.ndim == 2:
        return array
    counts = ", ".join(str(count) for count in channels)
    allowed = f"(height, width) or (height, width, channels) with {counts} channels"
    if array.ndim != 3:
        fix = "pass several pictures as a list or with one leading axis." if array.ndim > 3 else ""
        refuse(label, f"got shape {array.shape}", allowed, fix)
    is_last, is_first = array.shape[2] in channels, array.shape[0] in channels
    if not is_last and not is_first:
        fix = "transpose the channel axis to the end, or pass several maps as a list."
        refuse(label, f"got shape {array.shape}", allowed, fix)
    return array.transpose(1, 2, 0) if is_first and (first or not is_last) else array


def picture_or_grid(value: Any, label: str, num_channels: int, upright: bool = True) -> Image.Image | np.ndarray:
    """An 8-bit `PIL.Image`, or a float32 `(num_channels, height, width)` grid in [0, 1]; alpha is dropped.

    Args:
        upright: turn a picture as its EXIF orientation says.

    Raises:
        ValueError: 16-bit pictures, integers other than uint8, floats outside [0, 1], NaN, or a wrong shape.
    """
    if isinstance(value, Image.Image):
        return _checked_picture(value, label, upright)
    array = as_array(value, label)
    array = channels_last(array, label, (1, 3, 4), first=isinstance(value, torch.Tensor))
    if array.ndim == 3:
        array = array[..., 0] if array.shape[2] == 1 else array[..., :3]
    if array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    if array.dtype.kind != "f":
        refuse(label, f"got {describe(array)}", "uint8 or floats in [0, 1]", _level_fix(array))
    array = as_float_array(array, label)
    if array.min() < -_ROUNDING or array.max() > 1 + _ROUNDING:
        got = f"got floats from {array.min():g} to {array.max():g}"
        fix = "divide by 255 if these are grey levels, and undo any normalization: the processor normalizes."
        refuse(label, got, "floats in [0, 1] or uint8", fix)
    return _float_grid(array, num_channels)


def _level_fix(array: np.ndarray) -> str:
    """How integers become what a picture may have, without wrapping around or losing their scale."""
    low, high = int(array.min()), int(array.max())
    if array.dtype.kind == "b":
        return "`values * np.uint8(255)` makes black and white of them."
    if low < 0:
        return "shift and divide them to floats in [0, 1]: levels of light are not negative."
    if high < 2**8:
        return "`values.astype(np.uint8)` keeps levels from 0 to 255; floats in [0, 1] are these divided by 255."
    level = next((most for most in (2**12 - 1, 2**16 - 1) if high <= most), high)
    return f"divide by the largest level that the camera can give, such as `values / {level}`."


def _checked_picture(picture: Image.Image, label: str, upright: bool) -> Image.Image:
    if _is_deep(picture):
        levels = "np.asarray(picture)" + ("" if picture.mode == "F" else " / 65535")
        fix = (
            f"`{levels}`, in which the largest level of the camera is 1; a depth or thermal map belongs to "
            "`depth=` or `thermal=`."
        )
        refuse(label, f"got a picture of mode {picture.mode}", "8-bit pictures, or arrays of floats in [0, 1]", fix)
    _check_picture(picture, label)
    with _pillow(label):
        picture = _turned(picture, upright)
        return picture.convert("RGBA") if picture.mode == "P" else picture


def _turned(picture: Image.Image, upright: bool) -> Image.Image:
    """A picture that a camera wrote as its chip lies, as one looks at it; others are not copied."""
    lies = upright and picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(picture) if lies else picture


@contextmanager
def _pillow(label: str) -> Iterator[None]:
    """Put the item's name before what Pillow raises: anything, for a picture that is read only when it is used."""
    try:
        yield
    except Exception as error:
        fix = "open it again, and close it only when it is processed."
        text = f"{label}: got a picture that cannot be read ({str(error)[:80]}). Fix: {fix}"
        raise (OSError if isinstance(error, OSError) else ValueError)(text) from error


def _check_picture(picture: Image.Image, label: str, modes: tuple[str, ...] = _PICTURE_MODES) -> None:
    if picture.width < 1 or picture.height < 1:
        refuse(label, f"got a picture of size {picture.size}", "at least one pixel")
    if picture.mode not in modes:
        refuse(label, f"got a picture of mode {picture.mode}", ", ".join(modes))
    check_size(picture.width * picture.height, label, "pixels", "pixels", "shrink it, or crop it,")
    with _pillow(label):
        picture.getpixel((0, 0))


def _float_grid(array: np.ndarray, num_channels: int) -> np.ndarray:
    if array.ndim == 2:
        return np.broadcast_to(array, (num_channels, *array.shape)).astype(np.float32)
    if num_channels == 1:
        return (array @ np.array([0.299, 0.587, 0.114], dtype=array.dtype))[None].astype(np.float32)
    return array.transpose(2, 0, 1).astype(np.float32)


def grey_grid(value: Any, label: str, colour: bool = False, upright: bool = True) -> np.ndarray:
    """A `(1, height, width)` grid with its dtype kept, so that the caller can ask for the unit of integers.

    Args:
        colour: read colour pictures as grey levels instead of refusing them.
        upright: turn a picture as its EXIF orientation says.
    """
    if isinstance(value, Image.Image):
        value = _grey_picture(value, label, colour, upright)
    array = as_array(value, label)
    if array.dtype.kind == "b":
        refuse(label, "got an array of booleans", "numbers")
    check_size(array.size, label, "values", fix="crop it,")
    if colour and array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        array = np.asarray(Image.fromarray(np.ascontiguousarray(array[..., :3])).convert("L"))
    array = channels_last(array, label, (1,), first=isinstance(value, torch.Tensor))
    return np.ascontiguousarray(array.reshape(1, *array.shape[:2]))


def _grey_picture(picture: Image.Image, label: str, colour: bool, upright: bool) -> np.ndarray:
    if picture.mode == "L" or _is_deep(picture):
        _check_picture(picture, label, (picture.mode,))
        with _pillow(label):
            return np.asarray(_turned(picture, upright))
    if not colour:
        fix = "a depth map drawn in colours has lost its distances; use the original map."
        refuse(label, f"got a picture of mode {picture.mode}", "one channel (modes L, I;16, I, F)", fix)
    _check_picture(picture, label)
    with _pillow(label):
        return np.asarray(_turned(picture, upright).convert("L"))
