"""Is what the user passed one item or several, and is every item usable? Checks that all sub-processors make alike."""

import math
import os
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch


# The square of a larger number is beyond float32.
_LARGEST = 1e18


def refuse(label: str, got: str, allowed: str, fix: str = "") -> NoReturn:
    """Raise the one kind of error of every processor: where, what came, what is allowed, what to do."""
    raise ValueError(f"{label}: {got}; allowed: {allowed}." + (f" Fix: {fix}" if fix else ""))


def is_path(value: Any) -> bool:
    """Whether `value` can only be meant as a file name."""
    return isinstance(value, (str, os.PathLike))


def describe(value: Any) -> str:
    """Type and, for arrays, shape and dtype of `value`, for messages."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return f"{type(value).__name__} of shape {tuple(value.shape)} and dtype {value.dtype}"
    return f"{type(value).__name__} ({str(value)[:40]!r})" if isinstance(value, (str, bytes)) else type(value).__name__


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
        values = list(values)
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


def as_array(value: Any, label: str) -> np.ndarray:
    """`value` (array, tensor, nested numbers) as a numeric numpy array of at least one element.

    Raises:
        ValueError: not numbers, ragged, complex or empty.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, (bool, int, float)) or not isinstance(value, (np.ndarray, Sequence)):
        fix = "to pass many, make it a list of arrays." if isinstance(value, (int, float)) else ""
        refuse(label, f"got {describe(value)}", "a numpy array, a torch tensor, a file path", fix)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        refuse(label, "got rows of unequal length", "a rectangular array", "pad or cut the rows to one length.")
    if array.dtype.kind not in "fiub":
        refuse(label, f"got values of dtype {array.dtype}", "real numbers", "convert with `.astype(np.float32)`.")
    if array.size == 0:
        refuse(label, f"got an empty array of shape {array.shape}", "at least one value")
    return array


def check_finite(array: np.ndarray, label: str) -> None:
    """Refuse NaN and infinities, saying how many and where the first one is, and numbers too large to square."""
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if finite.all():
        if max(float(array.max()), -float(array.min())) > _LARGEST:
            refuse(label, f"got values beyond {_LARGEST:g}", "float32 with room to square", "scale to another unit.")
        return
    first = tuple(int(index) for index in np.argwhere(~finite)[0])
    count = int(array.size - finite.sum())
    fix = "replace missing readings first, e.g. with `np.nan_to_num`, or drop the item."
    refuse(label, f"got {count} NaN or infinite values, the first at index {first}", "finite numbers", fix)


def as_float_array(value: Any, label: str) -> np.ndarray:
    """`value` as a finite float32 array (float64 stays float64), at least one element."""
    array = as_array(value, label)
    if array.dtype.kind == "b":
        refuse(label, "got an array of booleans", "real numbers", "convert with `.astype(np.float32)`.")
    check_finite(array, label)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def check_rate(rate: Any, label: str, largest: int = 1_000_000) -> int:
    """A sampling rate in Hz as an integer.

    Raises:
        ValueError: not a whole number between 1 and `largest`.
    """
    is_number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not is_number or not math.isfinite(rate) or rate != int(rate) or not 1 <= rate <= largest:
        refuse(label, f"got sampling_rate={rate!r}", f"a whole number of Hz from 1 to {largest}")
    return int(rate)


def split_rated(value: Any, label: str) -> tuple[Any, Any]:
    """`(array, sampling rate or None)` of a value that may be a dictionary `{"array", "sampling_rate"}`."""
    if not isinstance(value, dict):
        return value, None
    unknown = sorted(set(value) - {"array", "sampling_rate", "path"})
    if "array" not in value or unknown:
        refuse(label, f"got a dictionary with keys {sorted(value)}", "the keys 'array' and 'sampling_rate'")
    return value["array"], value.get("sampling_rate")
