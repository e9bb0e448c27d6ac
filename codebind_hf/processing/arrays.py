"""How does whatever holds numbers become a numpy array? One door for all array-likes: it converts or says why not."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import torch

from .values import check_size, describe, refuse


# The square of a larger number is beyond float32.
_LARGEST = 1e18
_DEEPEST = 32
# Types of torch that numpy has too; what else is real becomes float32.
_OF_NUMPY = (
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32),
    *(torch.int64, torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128),
)
_NUMBERS = (bool, int, float, Fraction, Decimal, np.generic)
_ARRAY_METHODS = ("__array__", "__array_interface__", "__array_struct__", "__dlpack__")
# Why numbers of a kind (`dtype.kind`) are none that can be read, and what makes them such.
_KIND_FIXES = {
    "c": "take what is meant: `.real`, or the magnitude `abs(values)`.",
    "M": "count from the first: `(values - values[0]) / np.timedelta64(1, 's')`.",
    "m": "count in a unit: `values / np.timedelta64(1, 's')`.",
    "U": "spelled-out numbers become such with `.astype(np.float32)`.",
    "S": "spelled-out numbers become such with `.astype(np.float32)`.",
    "V": "take the fields apart: `np.stack([values[name] for name in values.dtype.names], -1)`.",
}
_MISSING_FIX = (
    "fill what is missing from its neighbours, as `depth_kwargs={'invalid': 'fill'}` does of maps and signals alike, "
    "leave points out (`point_clouds_kwargs={'invalid': 'drop'}`), or drop the item; zeros would be read as "
    "measurements."
)
INVALID = (None, "raise", "fill")


def split_items(values: Any, argument: str, item_ndim: int | None) -> tuple[list[Any], list[str]]:
    """The items in `values` and a label for each: `audio` for a single one, `audio[3]` inside a list.

    Args:
        item_ndim: most axes that one item can have; an array with one axis more is a stacked batch. `None`: arrays are
            always one item.

    Raises:
        ValueError: nothing was passed, the list is empty, or an item is `None`.
    """
    if values is None:
        refuse(argument, "got None", "one item or a list of items", f"leave `{argument}=` out for an absent modality.")
    if isinstance(values, (np.ndarray, torch.Tensor)) and item_ndim is not None and values.ndim == item_ndim + 1:
        values = list(values if isinstance(values, np.ndarray) else plain_tensor(values, argument, to_split=True))
    if not isinstance(values, (list, tuple)):
        return [values], [argument]
    if not values:
        refuse(argument, "got an empty list", "at least one item", f"leave `{argument}=` out for an absent modality.")
    labels = [f"{argument}[{index}]" for index in range(len(values))]
    for value, label in zip(values, labels, strict=True):
        if value is None:
            fix = "drop the row, or process the rows that have this modality on their own: lengths may differ."
            refuse(label, "got None", "an item of this modality", fix)
    return list(values), labels


def one_sound_or_list(values: Any, argument: str) -> Any:
    """`values`, unless they are one array of several rows: extractors of transformers take these for sounds."""
    if isinstance(values, (np.ndarray, torch.Tensor)) and values.ndim == 2 and 1 < values.shape[0] <= values.shape[1]:
        fix = "`list(array)` for sounds, one a row; `[array]` for one sound, with a channel a row."
        refuse(argument, f"got an array of shape {tuple(values.shape)}", "(samples,), or a list of sounds", fix)
    return values


def as_array(value: Any, label: str, may_be_empty: bool = False) -> np.ndarray:
    """`value` as a numeric numpy array, unless it `may_be_empty` of at least one element, in the native byte order.

    It may be an array, a tensor of any layout (sparse, nested with equal lengths, quantized, a conjugate or negative
    view) and any real type (also bfloat16 and float8), a masked array without masked entries, a sparse matrix, a
    Series or DataFrame, an object that converts itself (`__array__`, `__dlpack__`), or nested lists of these.

    Raises:
        ValueError: no real numbers, some of them masked or missing, ragged, without data (meta), empty, or larger than
            `LIMITS.values` when it is stored densely.
    """
    array = _converted(value, label, 0)
    if array.dtype.kind == "O":
        array = _numbers_of(array, label)
    if array.dtype.kind not in "fiub":
        fix = _KIND_FIXES.get(array.dtype.kind, "")
        refuse(label, f"got values of dtype {str(array.dtype)[:40]}", "real numbers", fix)
    if array.size == 0 and not may_be_empty:
        refuse(label, f"got an empty array of shape {array.shape}", "at least one value")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _converted(value: Any, label: str, depth: int) -> np.ndarray:
    """`value` as an array of any dtype."""
    if isinstance(value, torch.Tensor):
        return _of_tensor(value, label)
    if isinstance(value, np.ma.MaskedArray):
        if value.dtype.kind != "V" and (masked := int(np.ma.count_masked(value))):
            refuse(label, f"got {masked} masked values", "values that are all there", _MISSING_FIX)
        return np.asarray(value.data)
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if isinstance(value, (list, tuple)) and _holds_arrays(value, depth):
        return _stacked([_converted_part(part, label, depth + 1) for part in value], label)
    if hasattr(type(value), "toarray") and hasattr(type(value), "nnz"):
        check_size(math.prod(value.shape), label, "values of a sparse matrix", fix="cut it to the part that matters,")
        return _own_array(value.toarray, value, label)
    if hasattr(type(value), "to_numpy"):
        return _own_array(value.to_numpy, value, label)
    is_list = isinstance(value, (Sequence, memoryview)) and not isinstance(value, (str, bytes, bytearray))
    if is_list and not isinstance(value, memoryview):
        return _of_list(value, label)
    if is_list or any(hasattr(type(value), name) for name in _ARRAY_METHODS) and not isinstance(value, np.generic):
        return _own_array(lambda: _from_protocol(value), value, label)
    fix = "to pass many, make it a list of arrays." if isinstance(value, (int, float, np.generic)) else ""
    refuse(label, f"got {describe(value)}", "a numpy array, a torch tensor, a file path", fix)


def _converted_part(value: Any, label: str, depth: int) -> np.ndarray:
    """An element of a list, which may be a number."""
    if depth > _DEEPEST:
        refuse(label, f"got lists nested more than {_DEEPEST} deep", "a rectangular array")
    return np.asarray(value) if isinstance(value, _NUMBERS) else _converted(value, label, depth)


def _holds_arrays(values: Any, depth: int) -> bool:
    """Whether anything in nested lists is more than a number: numpy alone would drop masks, or raise its own error."""
    if depth > _DEEPEST:
        return True
    return any(
        _holds_arrays(one, depth + 1) if isinstance(one, (list, tuple)) else not isinstance(one, _NUMBERS)
        for one in values
    )


def _of_list(value: Any, label: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError):
        refuse(label, "got rows of unequal length", "a rectangular array", "pad or cut the rows to one length.")


def _stacked(parts: list[np.ndarray], label: str) -> np.ndarray:
    if len({part.shape for part in parts}) > 1:
        refuse(label, "got rows of unequal length", "a rectangular array", "pad or cut the rows to one length.")
    return np.stack(parts)


def _from_protocol(value: Any) -> np.ndarray:
    has_own = any(hasattr(type(value), name) for name in _ARRAY_METHODS[:3]) or isinstance(value, memoryview)
    return np.asarray(value) if has_own else np.from_dlpack(value)


def _own_array(convert: Callable[[], Any], value: Any, label: str) -> np.ndarray:
    """What an object's own conversion gives; it may raise anything."""
    try:
        array = np.asarray(convert())
    except Exception as error:
        reason = f"got {describe(value)}, which gives no array ({describe(error)}: {str(error)[:80]})"
        raise ValueError(f"{label}: {reason}; allowed: a numpy array, a torch tensor.") from error
    return array


def _of_tensor(tensor: torch.Tensor, label: str) -> np.ndarray:
    plain = plain_tensor(tensor, label)
    try:
        # Of a complex type that numpy lacks, the other half would be lost.
        return (plain.float() if plain.is_floating_point() and plain.dtype not in _OF_NUMPY else plain).numpy()
    except (TypeError, RuntimeError):
        refuse(label, f"got values of dtype {plain.dtype}", "real numbers of a common type")


def plain_tensor(tensor: torch.Tensor, label: str, to_split: bool = False) -> torch.Tensor:
    """A dense tensor on the CPU with the values of `tensor`, without gradient, lazy conjugation or negation.

    Args:
        to_split: the tensors of a nested one are items, which may have any lengths: a list of them is returned.

    Raises:
        ValueError: it has no data, is ragged, or its type has no numbers; see `as_array`.
    """
    if tensor.is_meta or torch.nn.parameter.is_lazy(tensor):
        fix = "make it on a device that has memory, such as 'cpu', or load it."
        refuse(label, f"got {describe(tensor)} without data", "a tensor with data", fix)
    try:
        tensor = tensor.detach()
        if tensor.is_nested:
            return _of_nested(tensor, label, to_split)
        if tensor.layout != torch.strided:
            check_size(tensor.numel(), label, "values of a sparse tensor", fix="cut it to the part that matters,")
            tensor = tensor.to_dense()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        return tensor.cpu().resolve_conj().resolve_neg()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        fix = "make it an ordinary tensor on the CPU first."
        raise ValueError(
            f"{label}: got {describe(tensor)}, which cannot be read ({str(error)[:80]}). Fix: {fix}"
        ) from error


def _of_nested(tensor: torch.Tensor, label: str, to_split: bool) -> Any:
    parts = [part.cpu() for part in tensor.unbind()]
    if to_split:
        return parts
    if not parts or len({part.shape for part in parts}) > 1:
        refuse(label, "got rows of unequal length", "a rectangular array", "pad or cut the rows to one length.")
    return torch.stack(parts)


def _numbers_of(array: np.ndarray, label: str) -> np.ndarray:
    """An array of objects as one of numbers, if they are numbers or arrays of one shape."""
    for index, one in enumerate(array.flat):
        is_missing = one is None or type(one).__name__ in ("NAType", "NaTType")
        if is_missing:
            refuse(label, f"got {one} at place {index}", "values that are all there", _MISSING_FIX)
        if not isinstance(one, (*_NUMBERS, np.ndarray, torch.Tensor, list, tuple)) or isinstance(one, np.void):
            refuse(label, f"got {describe(one)} at place {index} of an array of objects", "real numbers")
    parts = [np.asarray(_plain(one)) if isinstance(one, _NUMBERS) else as_array(one, label) for one in array.flat]
    if not parts:
        return array.astype(np.float64)
    return _stacked(parts, label).reshape(*array.shape, *parts[0].shape)


def _plain(number: Any) -> Any:
    """A number of a type that numpy has."""
    is_beyond = isinstance(number, int) and not -(2**63) <= number < 2**64
    if not is_beyond and not isinstance(number, (Fraction, Decimal)):
        return number
    try:
        return float(number)
    except (OverflowError, ValueError):
        return math.inf


def unmasked(value: Any) -> Any:
    """`value`; of a masked array the numbers, also of what is masked."""
    return value.data if isinstance(value, np.ma.MaskedArray) else value


def are_measured(array: np.ndarray, value: Any) -> np.ndarray:
    """Which numbers of an array are measurements, as far as they tell: no NaN, no infinity, nothing that is masked.

    Integers of 16 bits and more at the ends of their type are none, either: sensors write them for too much.

    Args:
        value: what the array was made of.
    """
    is_there = np.isfinite(array)
    if array.dtype.kind in "iu" and array.itemsize > 1:
        ends = np.iinfo(array.dtype)
        is_there = (array < ends.max) & (array > ends.min if array.dtype.kind == "i" else True)
    masked = isinstance(value, np.ma.MaskedArray)
    return is_there & ~np.ma.getmaskarray(value).reshape(array.shape) if masked else is_there


def measured(array: np.ndarray, valid: np.ndarray, policy: str, label: str, is_map: bool = False) -> np.ndarray:
    """An array `(channels, ...)` whose numbers are measurements, all of them.

    Args:
        valid: which are; the others are refused ("raise") or taken ("fill") from lines between the nearest ones in
            time, of maps from the nearest one in the same row or column.

    Raises:
        ValueError: with "raise", some are not; with "fill", a channel without any that are.
    """
    if valid.all():
        return array
    if policy == "raise":
        refuse_unmeasured(valid, label, "values")
    if not (has_any := valid.reshape(len(valid), -1).any(axis=1)).all():
        got = f"got no measurement in channel {int(has_any.argmin())}"
        refuse(label, got, "one or more in every channel", "leave the channel out, or the item.")
    fill = _filled_map if is_map else _filled_line
    return np.stack([fill(*channel) for channel in zip(array, valid, strict=True)])


def refuse_unmeasured(valid: np.ndarray, label: str, what: str) -> NoReturn:
    """Refuse what holds something else than measurements, saying how much and where first."""
    place = tuple(int(index) for index in np.argwhere(~valid)[0])
    got = f"got {int((~valid).sum())} of {valid.size} {what} that are no measurements, the first at index {place}"
    refuse(label, got, "measurements", _MISSING_FIX)


def _filled_line(line: np.ndarray, valid: np.ndarray) -> np.ndarray:
    places = np.arange(len(line))
    return np.where(valid, line, np.interp(places, places[valid], line[valid]))


def _filled_map(grid: np.ndarray, valid: np.ndarray) -> np.ndarray:
    # What no row and no column reaches is reached from what they filled.
    while not valid.all():
        (rows, far), (columns, away) = (_nearest_along(grid, valid, axis) for axis in (1, 0))
        distance = np.minimum(far, away)
        grid = np.where(~valid & np.isfinite(distance), np.where(far <= away, rows, columns), grid)
        valid = np.isfinite(distance)
    return grid


def _nearest_along(grid: np.ndarray, valid: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest valid number along an axis, and how far it is; infinitely where there is none."""
    place = np.indices(grid.shape)[axis].astype(np.float64)
    before = np.maximum.accumulate(np.where(valid, place, -np.inf), axis)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(valid, place, np.inf), axis), axis), axis)
    distance = np.minimum(place - before, after - place)
    nearest = np.where(place - before <= after - place, before, after)
    index = np.where(np.isfinite(distance), nearest, 0).astype(np.int64)
    return np.take_along_axis(grid, index, axis), distance


def check_finite(array: np.ndarray, label: str) -> None:
    """Refuse NaN and infinities, saying how many and where the first one is, and numbers too large to square."""
    check_size(array.size, label, "values", fix="pass a part of them,")
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if finite.all():
        if max(float(array.max()), -float(array.min())) > _LARGEST:
            fix = f"scale to another unit; or, if they stand for no measurement, {_MISSING_FIX}"
            refuse(label, f"got values beyond {_LARGEST:g}", "float32 with room to square", fix)
        return
    first = tuple(int(index) for index in np.argwhere(~finite)[0])
    count = int(array.size - finite.sum())
    got = f"got {count} NaN or infinite values, the first at index {first}"
    refuse(label, got, "finite numbers", _MISSING_FIX)


def as_float_array(value: Any, label: str) -> np.ndarray:
    """`value` as a finite float32 array (float64 stays float64), at least one element; see `as_array`.

    Raises:
        ValueError: also booleans, NaN, infinities, values beyond 1e18, or more of them than `LIMITS.values`.
    """
    array = as_array(value, label)
    if array.dtype.kind == "b":
        refuse(label, "got an array of booleans", "real numbers", "convert with `.astype(np.float32)`.")
    check_finite(array, label)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
