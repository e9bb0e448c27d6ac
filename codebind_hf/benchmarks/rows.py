"""How do a million files become rows? A small table of names in memory; files are opened one by one."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from codebind_hf.model.modalities import MODALITIES


Entry = dict[str, Any]
"""What a reader yields for a row: `id`, `label`, `text`, `attributes`, and by modality a path under the root.

Also `group`, which of the training rows must stay together, and `names`, which the label may be shown under.
"""
Finish = Callable[[Entry, Path], Entry]

_CHUNK = 20_000


class Rows(Sequence[dict[str, Any]]):
    """Rows of one split; each is made, and its files are opened, when it is asked for.

    A row is `{"id", "label", "text", "attributes", <modality>: path, array or picture}`, with what the data set has. A
    training row of a classification has as `text` every text that its label may be shown with, of which one is to be
    drawn. Rows can be pickled: they hold a table of names and the functions that open files.

    Args:
        root: of the data set.
        entries: what the readers yield; paths are relative to `root`.
        finish: makes a row of an entry whose files are no finished items, such as a crop of a picture.
        templates: texts with `{}` for a label, for rows without texts of their own; none of them, no `text`.
        aliases: names that a label is shown under, where it is not the label itself.
    """

    def __init__(
        self,
        root: Path,
        entries: Iterable[Entry] | pa.Table,
        finish: Finish | None = None,
        templates: Sequence[str] = (),
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.root, self.finish, self.templates, self.aliases = root, finish, tuple(templates), dict(aliases or {})
        self.table = entries if isinstance(entries, pa.Table) else _table(entries)

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def row_modalities(self) -> list[tuple[str, ...]]:
        """Modalities of every row; no file is opened."""
        names = [name for name in MODALITIES if name in self.table.column_names]
        columns = {name: self.table.column(name).is_valid().to_numpy() for name in names}
        if self.templates and "label" in self.table.column_names:
            labelled = self.table.column("label").is_valid().to_numpy()
            columns["text"] = columns.get("text", False) | labelled
        order = [name for name in MODALITIES if name in columns]
        kinds = zip(*(columns[name] for name in order), strict=True)
        known: dict[tuple[bool, ...], tuple[str, ...]] = {}
        return [
            known.setdefault(kind, tuple(name for name, has_it in zip(order, kind, strict=True) if has_it))
            for kind in kinds
        ]

    @property
    def class_names(self) -> list[str]:
        """Labels in the order of their first appearance."""
        labels = (name for label in self.column("label") if label is not None for name in _several(label))
        return list(dict.fromkeys(labels))

    @property
    def fingerprint(self) -> str:
        """Digest of what is known of the rows, and of the sizes of their files; where they lie does not count."""
        sizes = [(file, (self.root / file).stat().st_size) for file in self.files() if (self.root / file).is_file()]
        told = json.dumps([self.table.to_pylist(), self.templates, sizes], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()

    @overload
    def __getitem__(self, position: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, position: slice) -> "Rows": ...
    def __getitem__(self, position: int | slice) -> Any:
        if isinstance(position, slice):
            return self.take(range(*position.indices(len(self))))
        row = self.entry(position)
        row.pop("group", None)
        own_names = row.pop("names", None)
        if self.templates and row.get("label") is not None and row.get("text") is None:
            known = [name for label in _several(row["label"]) for name in self.aliases.get(label, (label,))]
            names = own_names or known
            row["text"] = [template.replace("{}", name) for name in names for template in self.templates]
        row = self.finish(row, self.root) if self.finish else row
        paths = {name: str(self.root / row[name]) for name in _modalities(row) if isinstance(row[name], str)}
        return {**row, **paths}

    def entry(self, position: int) -> Entry:
        """What is known of a row without opening its files; paths are relative to the root."""
        if not -len(self) <= position < len(self):
            raise IndexError(f"row {position} of {len(self)}")
        (entry,) = self.table.slice(position % len(self), 1).to_pylist()
        return {name: value for name, value in entry.items() if value is not None}

    def column(self, name: str) -> list[Any]:
        """One value of every row, such as the label, `None` where a row has none; no file is opened."""
        if name not in self.table.column_names:
            return [None] * len(self)
        return self.table.column(name).to_pylist()

    def take(self, positions: Sequence[int] | np.ndarray) -> "Rows":
        """Some of the rows, in that order."""
        table = self.table.take(pa.array(positions, pa.int64()))
        return Rows(self.root, table, self.finish, self.templates, self.aliases)

    def some(self, number: int | None) -> "Rows":
        """At most `number` rows, spread evenly over all: neighbours are often of one class or one video."""
        if number is None or number >= len(self):
            return self
        return self.take(np.linspace(0, len(self) - 1, max(number, 1)).round().astype(int))

    def files(self) -> list[str]:
        """Every file that a row names, relative to the root, once and in order."""
        names = [name for name in self.table.column_names if name in MODALITIES and name != "text"]
        return sorted({path for name in names for path in self.column(name) if path is not None})

    def existing(self, missing: Iterable[str]) -> "Rows":
        """The rows that name none of these files."""
        gone = set(missing)
        names = [name for name in self.table.column_names if name in MODALITIES and name != "text"]
        columns = [self.column(name) for name in names]
        return self.take([place for place in range(len(self)) if not any(one[place] in gone for one in columns)])


def _table(entries: Iterable[Entry]) -> pa.Table:
    """Entries as columns, which take a fraction of the memory; made in parts, so that they never exist as a whole."""
    left, parts = iter(entries), []
    while chunk := list(islice(left, _CHUNK)):
        names = list(dict.fromkeys(name for entry in chunk for name in entry))
        parts.append(pa.Table.from_pydict({name: [entry.get(name) for entry in chunk] for name in names}))
    return pa.concat_tables(parts, promote_options="default") if parts else pa.table({})


def _modalities(row: Mapping[str, Any]) -> Iterator[str]:
    return (name for name in row if name in MODALITIES and name != "text")


def _several(label: str | Sequence[str]) -> Sequence[str]:
    return [label] if isinstance(label, str) else label
