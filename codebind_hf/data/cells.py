"""What is in a cell of a data set? Arrow's lists, bytes of files and class numbers as the processor takes them."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Audio, ClassLabel, Image, Video

from codebind_hf.data.columns import ATTRIBUTE
from codebind_hf.data.units import UNITS, with_units
from codebind_hf.processing.media import read_media
from codebind_hf.processing.modality_processing import naming


class _Stored:
    """Of a cell that holds a file: what is known of it, not looked into. The library's own encoding of sounds needs
    `torchcodec`, and takes a path that is there by chance for the file whose bytes it was given.
    """

    def encode_example(self, value: Any) -> dict[str, Any]:
        if isinstance(value, (str, os.PathLike)):
            return {"bytes": None, "path": os.fspath(value)}
        if isinstance(value, (bytes, bytearray)):
            return {"bytes": bytes(value), "path": None}
        return {"bytes": value.get("bytes"), "path": value.get("path")}


class StoredAudio(_Stored, Audio):
    """Sounds that nobody decodes."""


class StoredImage(_Stored, Image):
    """Pictures that nobody decodes."""


class StoredVideo(_Stored, Video):
    """Videos that nobody decodes."""


# Cells that hold a file: our readers open it, with their limits and their choice of formats.
STORED: dict[type, type] = {Audio: StoredAudio, Image: StoredImage, Video: StoredVideo}


def undecoded(dataset: Any) -> Any:
    """A data set, or a stream, whose pictures, sounds and videos stay what was stored."""
    for name, feature in (dataset.features or {}).items():
        kind = next((stored for kind, stored in STORED.items() if isinstance(feature, kind)), None)
        if kind is not None:
            dataset = dataset.cast_column(name, kind(decode=False))
    return dataset


def row_of_cells(cells: Mapping[str, Any], keys: Mapping[str, str], features: Mapping[str, Any]) -> dict[str, Any]:
    """A row of what the data set holds: column -> key as `keys` say, without cells that are empty.

    Raises:
        ValueError: nested lists of unequal length, a file of an unsupported kind, or a unit that cannot be.
        OSError: a file in a cell cannot be read.
    """
    present = {name: key for name, key in keys.items() if cells.get(name) is not None}
    row = {key: _value(key, cells[name], features.get(name)) for name, key in present.items()}
    own = {key: row.pop(key) for key in list(row) if key.startswith(ATTRIBUTE)}
    if own:
        row["attributes"] = {**row.get("attributes", {}), **{key.removeprefix(ATTRIBUTE): own[key] for key in own}}
    return with_units(row)


def _value(key: str, value: Any, feature: Any) -> Any:
    if key == "label":
        return label_of(feature, value)
    if key == "id":
        return str(value)
    if key.startswith(ATTRIBUTE):
        return feature.int2str(value) if isinstance(feature, ClassLabel) else value
    if key in UNITS:
        return value
    if key == "attributes":
        attributes = json.loads(value) if isinstance(value, (str, bytes)) else value
        # Arrow gives every row the keys of all rows.
        return {attribute: number for attribute, number in attributes.items() if number is not None}
    return in_memory(key, value)


def label_of(feature: Any, value: Any) -> Any:
    """A label as a string, or several as a list of them."""
    inner = getattr(feature, "feature", None)
    if isinstance(value, (list, np.ndarray)):
        return [label_of(inner, each) for each in value]
    return feature.int2str(value) if isinstance(feature, ClassLabel) else str(value)


def in_memory(modality: str, value: Any) -> Any:
    """A value as Arrow returns it (nested lists) in the form that the processor takes (arrays); pictures stay.

    Raises:
        ValueError: nested lists of unequal length.
    """
    if modality == "text" or not isinstance(value, (list, dict)):
        return value
    if isinstance(value, dict):
        if "bytes" in value:
            return value["path"] if value["bytes"] is None else decoded(modality, value)
        return {key: in_memory(modality, part) for key, part in value.items() if part is not None}
    if value and not _is_number_or_list(value[0]):
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{modality}: nested lists of unequal length; allowed: a rectangular array ({error})."
        ) from error
    if array.dtype.kind != "f":
        return _smallest(modality, array)
    # Lists forget whether they were of single precision.
    single = array.astype(np.float32)
    return single if (single == array).all() else array


def _is_number_or_list(value: Any) -> bool:
    return isinstance(value, (int, float, list))


def _smallest(modality: str, array: np.ndarray) -> np.ndarray:
    """Arrow's Python lists forget the width of integers; grey levels and colours are 8-bit where they fit."""
    if modality in ("image", "tactile", "video", "thermal") and array.size and 0 <= array.min() <= array.max():
        if array.max() < 2**8:
            return array.astype(np.uint8)
        return array.astype(np.uint16) if array.max() < 2**16 else array
    return array


def decoded(modality: str, value: Mapping[str, Any]) -> Any:
    """What the file in a cell holds, as `read_media` gives it; errors are its own, and name the modality."""
    with naming(f"{modality}: bytes of a file"):
        return read_media(modality, value)
