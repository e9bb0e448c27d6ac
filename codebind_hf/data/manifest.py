"""Which files does a manifest name? JSONL, CSV and Parquet tables of paths, checked before anything is read."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codebind_hf.data.columns import check_columns, modality_columns, present_modalities, renamed_columns
from codebind_hf.processing.values import check_types, shortened
from codebind_hf.renamed import renamed_attribute


SUFFIXES = (".jsonl", ".csv", ".parquet")
_MAX_NAMED = 20


class Manifest(Sequence):
    """Rows of a table of text and file paths, any subset of modalities per row.

    A row is `{"id", "label", "attributes", <modality>: text or path}`; relative paths are resolved against the folder
    of the manifest, empty cells are absent modalities, a missing `id` is the manifest's name and the row's number.
    Values stay paths: the processor reads them. In CSV and Parquet, `attributes` is a JSON object or columns named
    `attributes.<name>`.

    Args:
        path: a `.jsonl`, `.csv` or `.parquet` file.
        columns: columns to rename, for example `{"img": "image", "category": "label"}`.
        modalities: names of added modalities that may be columns.

    Raises:
        OSError: the manifest is missing or unreadable.
        ValueError: an argument of another type, an empty manifest, an unknown column, a row without a modality, an id
            that occurs twice, a URL, or a value that is not text; the message names the line.
    """

    senses = renamed_attribute("senses", "modalities")

    def __init__(
        self, path: str | os.PathLike, columns: Mapping[str, str] | None = None, modalities: Sequence[str] = ()
    ) -> None:
        check_types({"path": path}, {"path": str | os.PathLike})
        self.path = Path(path)
        self.modalities = modality_columns(modalities)
        table = read_table(self.path)
        if not table:
            raise ValueError(f"{_called(self.path)}: got no rows; allowed: one row or more.")
        names = list(dict.fromkeys(name for row in table for name in row))
        keys = renamed_columns(names, columns, _called(self.path))
        own = [key for key in keys.values() if not key.startswith("attributes.")]
        check_columns(own, self.modalities, _called(self.path))
        self.rows = [self._row(number, row, keys) for number, row in enumerate(table)]
        self._check_ids()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    @property
    def class_names(self) -> list[str]:
        """Labels in the order of their first appearance; empty without labels."""
        return list(dict.fromkeys(row["label"] for row in self.rows if "label" in row))

    def validate(self) -> "Manifest":
        """Check that every file exists; returns this manifest.

        Raises:
            OSError: naming all files that are missing, with the id and the modality of their rows.
        """
        missing = []
        for row in self.rows:
            for modality in present_modalities(row, self.modalities):
                if modality != "text" and not os.path.exists(row[modality]):
                    missing.append(f"  {row['id']}, {modality}: {row[modality]}")
        if missing:
            rest = [f"  and {len(missing) - _MAX_NAMED} more"] if len(missing) > _MAX_NAMED else []
            head = f"{_called(self.path)}: {len(missing)} files are missing; relative paths start at its folder."
            raise OSError("\n".join([head, *missing[:_MAX_NAMED], *rest]))
        return self

    def _row(self, number: int, cells: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
        where = f"{_called(self.path)}, row {number + 1}"
        row: dict[str, Any] = {"id": f"{self.path.stem}-{number:05d}"}
        attributes: dict[str, Any] = {}
        for name, value in cells.items():
            key = keys[name]
            if _is_empty(value):
                continue
            if key == "attributes":
                attributes |= _attributes(value, where)
            elif key.startswith("attributes."):
                attributes[key.removeprefix("attributes.")] = value
            else:
                row[key] = self._cell(key, value, where)
        if not present_modalities(row, self.modalities):
            raise ValueError(f"{where}: has no modality; allowed: at least one of {', '.join(self.modalities)}.")
        return {**row, "attributes": attributes} if attributes else row

    def _cell(self, key: str, value: Any, where: str) -> str:
        if key in ("id", "label") and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise ValueError(f"{where}: {key} is {value!r} ({type(value).__name__}); allowed: a string.")
        return value if key in ("id", "label", "text") else self._resolved(key, value, where)

    def _resolved(self, key: str, value: str, where: str) -> str:
        if "://" in value:
            fix = "download it first, and write its path"
            raise ValueError(f"{where}: {key} is the URL {value!r}; allowed: a local file. Fix: {fix}.")
        return os.path.normpath(self.path.parent.absolute() / Path(value).expanduser())

    def _check_ids(self) -> None:
        seen: dict[str, int] = {}
        for number, row in enumerate(self.rows, 1):
            first = seen.setdefault(row["id"], number)
            if first != number:
                where = _called(self.path)
                raise ValueError(f"{where}: id {row['id']!r} occurs in rows {first} and {number}; ids are unique.")


def _is_empty(value: Any) -> bool:
    # A number that is not equal to itself is how tables write a missing cell.
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _attributes(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{where}: attributes {value!r} is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: attributes is {value!r}; allowed: a JSON object of names and values.")
    return {str(name): own for name, own in value.items() if not _is_empty(own)}


def _called(path: Path) -> str:
    """What messages call a manifest, however long its name is."""
    return f"manifest {shortened(str(path), 500)!r}"


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a `.jsonl`, `.csv` or `.parquet` file as dictionaries.

    Raises:
        OSError: missing or unreadable.
        ValueError: another kind of file, or a line that is not a row.
    """
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        known = ", ".join(readers)
        raise ValueError(f"{_called(path)}: unsupported suffix {shortened(path.suffix, 40)!r}; allowed: {known}.")
    if not os.path.isfile(path):
        raise OSError(f"{_called(path)}: no such file. Fix: check the path and the working directory.")
    try:
        return readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise OSError(f"{_called(path)}: not UTF-8 text ({error}).") from error


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{_called(path)}, line {number}: not JSON ({error}).") from error
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise ValueError(f"{_called(path)}, line {number}: got a {kind}; allowed: a JSON object.")
            rows.append(row)
    return rows


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            rows = list(reader)
        except csv.Error as error:
            raise ValueError(f"{_called(path)}, line {reader.line_num}: not CSV ({error}).") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            columns = len(reader.fieldnames or ())
            raise ValueError(f"{_called(path)}, row {number}: does not have the header's {columns} cells.")
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise OSError(f"{_called(path)}: not a readable Parquet file ({error}).") from error
