"""How does a `datasets.Dataset` give rows? Columns named after modalities, values as the processor takes them."""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Audio, ClassLabel, Dataset

from codebind_hf.data.columns import check_columns, modality_columns, renamed_columns
from codebind_hf.renamed import renamed_attribute


class DatasetRows(Sequence):
    """Rows of a `datasets.Dataset`, converted when asked for. Made by `rows_from_dataset`."""

    senses = renamed_attribute("senses", "modalities")

    def __init__(self, dataset: Dataset, keys: Mapping[str, str], modalities: tuple[str, ...]) -> None:
        self.dataset = dataset
        self.keys = dict(keys)
        self.modalities = modalities

    @property
    def class_names(self) -> list[str]:
        """Names of the classes: of a `ClassLabel` column all of them, else in the order of their first appearance."""
        column = self._column("label")
        if column is None:
            return []
        feature = self.dataset.features[column]
        if isinstance(feature, ClassLabel):
            return list(feature.names)
        return list(dict.fromkeys(str(label) for label in self.dataset[column] if label is not None))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of a data set with {len(self)} rows.")
        stored = self.dataset[int(index)]
        return {
            key: self._value(name, key, stored[name]) for name, key in self.keys.items() if stored[name] is not None
        }

    def _column(self, key: str) -> str | None:
        return next((name for name, own in self.keys.items() if own == key), None)

    def _value(self, name: str, key: str, value: Any) -> Any:
        if key == "label":
            feature = self.dataset.features[name]
            return feature.int2str(value) if isinstance(feature, ClassLabel) else str(value)
        if key == "id":
            return str(value)
        if key == "attributes":
            attributes = json.loads(value) if isinstance(value, str) else value
            # Arrow gives every row the keys of all rows.
            return {attribute: number for attribute, number in attributes.items() if number is not None}
        return in_memory(key, value)


def in_memory(modality: str, value: Any) -> Any:
    """A value as Arrow returns it (nested lists) in the form that the processor takes (arrays); pictures stay.

    Raises:
        ValueError: nested lists of unequal length.
    """
    if modality == "text" or not isinstance(value, (list, dict)):
        return value
    if isinstance(value, dict):
        if "bytes" in value:
            return _sound(value)
        return {key: in_memory(modality, part) for key, part in value.items() if part is not None}
    if value and not _is_number_or_list(value[0]):
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{modality}: nested lists of unequal length; allowed: a rectangular array ({error})."
        ) from error
    return array.astype(np.float32) if array.dtype.kind == "f" else _smallest(modality, array)


def _is_number_or_list(value: Any) -> bool:
    return isinstance(value, (int, float, list))


def _smallest(modality: str, array: np.ndarray) -> np.ndarray:
    """Arrow's Python lists forget the width of integers; grey levels and colours are 8-bit where they fit."""
    if modality in ("image", "tactile", "video", "thermal") and array.size and 0 <= array.min() <= array.max():
        if array.max() < 2**8:
            return array.astype(np.uint8)
        return array.astype(np.uint16) if array.max() < 2**16 else array
    return array


def _sound(stored: Mapping[str, Any]) -> Any:
    """What an undecoded `datasets.Audio` column holds: the bytes of a file, or its path."""
    if stored["bytes"] is None:
        return stored["path"]
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(stored["bytes"]), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise OSError(f"audio: file {stored.get('path')!r} of an Audio column cannot be decoded ({error}).") from error
    return {"array": samples[:, 0] if samples.shape[1] == 1 else samples.T.copy(), "sampling_rate": int(rate)}


def rows_from_dataset(
    dataset: Dataset, columns: Mapping[str, str] | None = None, modalities: Sequence[str] = ()
) -> DatasetRows:
    """Rows of any `datasets.Dataset` whose columns are named after modalities.

    Args:
        dataset: any data set with random access; `image` columns may be `datasets.Image`, `audio` columns
            `datasets.Audio` or `{"array", "sampling_rate"}`, `label` strings or `datasets.ClassLabel`, `attributes` a
            dictionary or JSON.
        columns: columns to rename, for example `{"img": "image", "category": "label"}`.
        modalities: names of added modalities that may be columns.

    Raises:
        ValueError: not a data set, an unknown column (the message lists the allowed ones), or no modality at all.
    """
    if not isinstance(dataset, Dataset):
        fix = "choose a split of a DatasetDict, as `data['train']`; load without streaming."
        raise ValueError(f"dataset: got {type(dataset).__name__}; allowed: a datasets.Dataset. Fix: {fix}")
    names = modality_columns(modalities)
    keys = renamed_columns(dataset.column_names, columns, "the data set")
    check_columns(keys.values(), names, "the data set")
    if not any(key in names for key in keys.values()):
        raise ValueError(
            f"dataset: no column is a modality; columns: {', '.join(keys)}; modalities: {', '.join(names)}."
        )
    dataset = dataset.with_format(None)
    for name, feature in dataset.features.items():
        if isinstance(feature, Audio):
            dataset = dataset.cast_column(name, Audio(decode=False))
    return DatasetRows(dataset, keys, names)
