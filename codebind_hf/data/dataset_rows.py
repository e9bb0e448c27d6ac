"""How does a `datasets.Dataset` give rows? Columns named after modalities, values as the processor takes them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset

from codebind_hf.data.cells import label_of, row_of_cells, undecoded
from codebind_hf.data.columns import known_columns, modality_columns, renamed_columns, tuples_of
from codebind_hf.data.row_tensors import class_names_of, flattened
from codebind_hf.renamed import renamed_attribute


_AT_ONCE = 10_000


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
        labels = (label_of(feature, label) for label in self.dataset[column] if label is not None)
        return class_names_of(labels)

    @property
    def texts(self) -> list[str]:
        """All texts and captions."""
        column = self._column("text")
        return [] if column is None else flattened(self.dataset[column])

    @cached_property
    def row_modalities(self) -> list[tuple[str, ...]]:
        """Modalities of every row, without decoding any."""
        names = {name: key for name, key in self.keys.items() if key in self.modalities}
        tables = self.dataset.select_columns(list(names)).with_format("arrow").iter(batch_size=_AT_ONCE)
        columns: dict[str, list[np.ndarray]] = {key: [] for key in names.values()}
        for table in tables:
            for name, key in names.items():
                columns[key].append(np.asarray(table.column(name).is_valid()))
        order = [key for key in self.modalities if key in columns]
        return tuples_of(order, [np.concatenate(columns[key]) for key in order])

    @property
    def fingerprint(self) -> str:
        """The data set's own, and what its columns are called here."""
        return f"{self.dataset._fingerprint} {sorted(self.keys.items())}"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of a data set with {len(self)} rows.")
        return row_of_cells(self.dataset[int(index)], self.keys, self.dataset.features)

    def _column(self, key: str) -> str | None:
        return next((name for name, own in self.keys.items() if own == key), None)


def rows_from_dataset(
    dataset: Dataset, columns: Mapping[str, str] | None = None, modalities: Sequence[str] = ()
) -> DatasetRows:
    """Rows of any `datasets.Dataset` whose columns are named after modalities.

    Args:
        dataset: any data set with random access; `image` columns may be `datasets.Image`, `audio` columns
            `datasets.Audio` or `{"array", "sampling_rate"}`, `label` strings or `datasets.ClassLabel`, or lists of
            them, `text` a string or a list of captions, `attributes` a dictionary or JSON. Others are ignored.
        columns: columns to rename, for example `{"img": "image", "category": "label"}`.
        modalities: names of added modalities that may be columns.

    Raises:
        ValueError: not a data set, a column renamed to what no row has, or no column that is a modality.
    """
    if not isinstance(dataset, Dataset):
        fix = "choose a split of a DatasetDict, as `data['train']`; load without streaming."
        raise ValueError(f"dataset: got {type(dataset).__name__}; allowed: a datasets.Dataset. Fix: {fix}")
    names = modality_columns(modalities)
    keys = known_columns(renamed_columns(dataset.column_names, columns, "the data set"), names, "the data set")
    dataset = dataset.with_format(None)
    return DatasetRows(undecoded(dataset.select_columns(list(keys))), keys, names)
