"""Which files does a manifest name? JSONL, CSV and Parquet tables of paths, checked before anything is read."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from codebind_hf.data.choices import ON_ERROR
from codebind_hf.data.columns import ATTRIBUTE, known_columns, modality_columns, present_modalities, renamed_columns
from codebind_hf.data.fingerprints import digest_of, size_and_time
from codebind_hf.data.manifest_columns import is_plain, row_of, rows_with_modality, to_table, with_text
from codebind_hf.data.row_tensors import class_names_of, flattened
from codebind_hf.data.tables import called, read_columns, read_rows
from codebind_hf.data.units import UNITS, checked_unit, with_units
from codebind_hf.processing.sources import is_source
from codebind_hf.processing.text_cleaning import HALF_CHARACTER
from codebind_hf.processing.values import check_choice, check_types, is_path, shown
from codebind_hf.renamed import renamed_attribute


logger = logging.getLogger(__name__)

_MAX_NAMED = 20


class Manifest(Sequence):
    """Rows of a table of text and file paths, any subset of modalities per row.

    A row is `{"id", "label", "attributes", <modality>: text or path}`; relative paths are resolved against the folder
    of the manifest, empty cells are absent modalities, a missing `id` is the manifest's name and the row's number.
    `label` and `text` may be lists: several classes, several captions. Values stay paths: the processor reads them. A
    file may also be in its cell, `{"bytes", "path"}` as Parquet of the Hub has it.
    Columns that say what the values of a sensor mean, such as `depth_unit` (all are in `codebind_hf.data.units`), make
    of its path an `Item` that knows it. In CSV and Parquet, `attributes` is a JSON object or columns named
    `attributes.<name>`. Other columns are ignored, with a note. Rows are held as Arrow columns, and made when they are
    asked for.

    Args:
        path: a `.jsonl`, `.csv`, `.tsv` or `.parquet` file. Of CSV, the delimiter is the one of `,;|` and tab that the
            header has most of.
        columns: columns to rename, for example `{"img": "image", "category": "label"}`.
        modalities: names of added modalities that may be columns.
        encoding: of CSV; by default UTF-8 or what its byte order mark says, else, with a note, cp1252.

    Raises:
        OSError: the manifest is missing or unreadable.
        ValueError: an argument of another type, an empty manifest, no column that is a modality, a row without a
            modality, an id that occurs twice, a URL, or a value that is not text; the message names the row.
    """

    senses = renamed_attribute("senses", "modalities")

    def __init__(
        self,
        path: str | os.PathLike,
        columns: Mapping[str, str] | None = None,
        modalities: Sequence[str] = (),
        encoding: str | None = None,
    ) -> None:
        check_types({"path": path, "encoding": encoding}, {"path": str | os.PathLike, "encoding": str | None})
        self.path = Path(path)
        self.modalities = modality_columns(modalities)
        table = read_columns(self.path, encoding)
        if table is not None and table.num_rows:
            keys = self._keys(table.column_names, columns)
            table = with_text(table.select(list(keys)).rename_columns(list(keys.values())), ("id", "label"))
            if is_plain(table, self.modalities):
                self.table = table.combine_chunks()
                return
        rows = read_rows(self.path, encoding)
        if not rows:
            raise ValueError(f"{called(self.path)}: got no rows; allowed: one row or more.")
        keys = self._keys(list(dict.fromkeys(name for row in rows for name in row)), columns)
        self.table = to_table([self._row(number, row, keys) for number, row in enumerate(rows)], self.modalities)
        self._check_ids()

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)} rows.")
        position = int(index) % len(self)
        row = {"id": self._default_id(position), **row_of(self.table, position)}
        paths = {
            name: self._resolved(value) for name, value in row.items() if name in self.modalities and name != "text"
        }
        return with_units({**row, **paths})

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows."""
        return list(self)

    @cached_property
    def row_modalities(self) -> list[tuple[str, ...]]:
        """Modalities of every row."""
        return rows_with_modality(self.table, self.modalities)

    @property
    def class_names(self) -> list[str]:
        """Labels in the order of their first appearance; empty without labels."""
        return class_names_of(self._column("label"))

    @property
    def texts(self) -> list[str]:
        """All texts and captions."""
        return flattened(self._column("text"))

    @property
    def fingerprint(self) -> str:
        """Digest of the rows, and of sizes and times of change of their files; where they lie does not count."""
        names = [name for name in self.table.column_names if name in self.modalities and name != "text"]
        files = {name: [value and self._resolved(value) for value in self._column(name)] for name in names}
        sizes = {name: [size_and_time(file) if is_path(file) else None for file in files[name]] for name in names}
        return digest_of([self.path.stem, self.table.to_pylist(), sizes])

    def validate(self, on_error: str = "raise") -> "Manifest":
        """Check that every file exists; returns this manifest.

        Args:
            on_error: "raise", or "skip": missing files are named in the log, and skipped by whoever reads the rows.

        Raises:
            ValueError: another `on_error`.
            OSError: with "raise", naming files that are missing, with the id and the modality of their rows.
        """
        check_choice("on_error", on_error, ON_ERROR)
        missing = []
        for modality in self.modalities:
            if modality == "text" or modality not in self.table.column_names:
                continue
            for position, value in enumerate(self._column(modality)):
                found: Any = self._resolved(value) if value else None
                if is_path(found) and not os.path.exists(found):
                    missing.append((position, modality, found))
        if missing:
            named = [
                f"  {self[row]['id']}, {modality}: {path}" for row, modality, path in sorted(missing)[:_MAX_NAMED]
            ]
            rest = [f"  and {len(missing) - _MAX_NAMED} more"] if len(missing) > _MAX_NAMED else []
            count = "1 file is missing" if len(missing) == 1 else f"{len(missing)} files are missing"
            head = f"{called(self.path)}: {count}"
            if on_error == "raise":
                fix = "relative paths start at its folder. Fix: mend the paths, or skip such rows (--on_error skip)."
                raise OSError("\n".join([f"{head}; {fix}", *named, *rest]))
            logger.warning("%s", "\n".join([f"{head} and skipped:", *named, *rest]))
        return self

    def _keys(self, names: Sequence[str], columns: Mapping[str, str] | None) -> dict[str, str]:
        """Column -> key, of those that rows have; the others are left out with a note."""
        keys = renamed_columns(names, columns, called(self.path))
        return known_columns(keys, self.modalities, called(self.path))

    def _default_id(self, position: int) -> str:
        return f"{self.path.stem}-{position:05d}"

    def _column(self, name: str) -> list[Any]:
        return self.table.column(name).to_pylist() if name in self.table.column_names else []

    def _row(self, number: int, cells: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
        where = f"{called(self.path)}, row {number + 1}"
        row: dict[str, Any] = {"id": self._default_id(number)}
        attributes: dict[str, Any] = {}
        for name, value in cells.items():
            key = keys.get(name)
            if key is None or _is_empty(value):
                continue
            if key == "attributes":
                attributes |= _attributes(value, where)
            elif key.startswith(ATTRIBUTE):
                attributes[key.removeprefix(ATTRIBUTE)] = value
            elif key in UNITS:
                row[key] = _unit(key, value, where)
            else:
                row[key] = _cell(key, value, where)
        if not present_modalities(row, self.modalities):
            raise ValueError(f"{where}: has no modality; allowed: at least one of {', '.join(self.modalities)}.")
        return {**row, "attributes": attributes} if attributes else row

    def _resolved(self, value: Any) -> Any:
        """The path of a cell's file, or the cell where its bytes are there."""
        if isinstance(value, dict):
            if value.get("bytes") is not None:
                return value
            value = value["path"]
        return os.path.normpath(self.path.parent.absolute() / Path(value).expanduser())

    def _check_ids(self) -> None:
        seen: dict[str, int] = {}
        for number, name in enumerate(self._column("id"), 1):
            first = seen.setdefault(name, number)
            if first != number:
                where = called(self.path)
                raise ValueError(f"{where}: id {name!r} occurs in rows {first} and {number}; ids are unique.")


def _is_empty(value: Any) -> bool:
    # A number that is not equal to itself is how tables write a missing cell.
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _cell(key: str, value: Any, where: str) -> str | list[str] | dict[str, Any]:
    if key in ("id", "label") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if key in ("label", "text") and isinstance(value, (list, np.ndarray)):
        if not len(value) or not all(isinstance(each, str) and each for each in value):
            raise ValueError(f"{where}: {key} is {value!r}; allowed: a string, or a list of one or more strings.")
        return [str(_cell(key, each, where)) for each in value]
    if isinstance(value, dict) and is_source(value) and key not in ("id", "label", "text"):
        if value.get("bytes") is not None:
            return dict(value)
        value = value.get("path")
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key} is {shown(value)} ({type(value).__name__}); allowed: a string.")
    if not value.isascii() and (half := HALF_CHARACTER.search(value)):
        raise ValueError(f"{where}: {key} has half a character, {half.group()!a}, at place {half.start()}.")
    if key not in ("id", "label", "text") and "://" in value:
        fix = "download it first, and write its path"
        raise ValueError(f"{where}: {key} is the URL {value!r}; allowed: a local file. Fix: {fix}.")
    return value


def _unit(name: str, value: Any, where: str) -> Any:
    try:
        return checked_unit(name, value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _attributes(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{where}: attributes {value!r} is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: attributes is {value!r}; allowed: a JSON object of names and values.")
    return {str(name): own for name, own in value.items() if not _is_empty(own)}
