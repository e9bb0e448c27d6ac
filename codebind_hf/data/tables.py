"""What does a table of rows hold? JSONL, CSV and Parquet files, at once as Arrow columns or slowly row by row."""

import codecs
import csv
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from codebind_hf.processing.values import shortened


logger = logging.getLogger(__name__)

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
DELIMITERS = (",", ";", "\t", "|")
# What tables are written in that are not UTF-8, more often than in anything else.
OTHER_ENCODING = "cp1252"
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def called(path: Path) -> str:
    """What messages call a manifest, however long its name is."""
    return f"manifest {shortened(str(path), 500)!r}"


def read_columns(path: Path, encoding: str | None = None) -> pyarrow.Table | None:
    """A whole table as Arrow columns; cells of CSV are text. `None` where `read_rows` must look at every row.

    That is so where something is wrong, which it names, and where columns of JSONL have no one type.

    Raises:
        OSError: missing or unreadable.
        ValueError: another kind of file.
    """
    try:
        table = _columns_of(path, checked_suffix(path), encoding)
    except (pyarrow.ArrowException, UnicodeError, csv.Error):
        return None
    has_times = any(pyarrow.types.is_temporal(field.type) for field in table.schema)
    # Arrow takes texts that look like times for times, and tables may have two columns of one name.
    return None if has_times or len(set(table.column_names)) < table.num_columns else table


def _columns_of(path: Path, suffix: str, encoding: str | None) -> pyarrow.Table:
    if suffix == ".parquet":
        return pyarrow.parquet.read_table(path, memory_map=True)
    if suffix == ".jsonl":
        return pyarrow.json.read_json(path)
    encoding, delimiter = _dialect(path, encoding)
    names = next(csv.reader([_header(path, encoding)], delimiter=delimiter), [])
    texts = dict.fromkeys(names, pyarrow.string())
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(encoding="utf-8" if encoding == "utf-8-sig" else encoding),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=texts, strings_can_be_null=False),
    )


def read_rows(path: Path, encoding: str | None = None) -> list[dict[str, Any]]:
    """Rows of a table as dictionaries.

    Args:
        encoding: of CSV; by default what its byte order mark says, else UTF-8, else, with a note, `OTHER_ENCODING`.

    Raises:
        OSError: missing or unreadable.
        ValueError: another kind of file, or a line that is not a row.
    """
    suffix = checked_suffix(path)
    try:
        if suffix == ".jsonl":
            return _read_jsonl(path)
        return _read_parquet(path) if suffix == ".parquet" else _read_csv(path, *_dialect(path, encoding))
    except UnicodeError as error:
        raise OSError(f"{called(path)}: not {encoding or 'UTF-8'} text ({error}).") from error


def checked_suffix(path: Path) -> str:
    """The suffix of a table that is there.

    Raises:
        OSError: there is no such file.
        ValueError: another kind of file.
    """
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise ValueError(f"{called(path)}: unsupported suffix {shortened(path.suffix, 40)!r}; allowed: {known}.")
    if not os.path.isfile(path):
        raise OSError(f"{called(path)}: no such file. Fix: check the path and the working directory.")
    return path.suffix.lower()


def _dialect(path: Path, encoding: str | None) -> tuple[str, str]:
    """Encoding and delimiter of a CSV file.

    Raises:
        ValueError: an encoding that Python does not know.
        UnicodeError: the header is not in the encoding that was given.
    """
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except LookupError as error:
            raise ValueError(f"encoding: got {encoding!r}; allowed: a text encoding such as 'utf-8'.") from error
    else:
        encoding = _encoding_of(path)
    if path.suffix.lower() == ".tsv":
        return encoding, "\t"
    header = _header(path, encoding)
    return encoding, max(DELIMITERS, key=header.count)


def _encoding_of(path: Path) -> str:
    content = path.read_bytes()
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        if b"\x00" in content:
            raise
        logger.warning(
            "%s is not UTF-8 (byte %d) and is read as %s; say `encoding` if it is another.",
            *(called(path), error.start, OTHER_ENCODING),
        )
        return OTHER_ENCODING
    return "utf-8"


def _header(path: Path, encoding: str) -> str:
    with path.open(encoding=encoding) as lines:
        return lines.readline().lstrip("\ufeff")


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{called(path)}, line {number}: not JSON ({error}).") from error
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise ValueError(f"{called(path)}, line {number}: got a {kind}; allowed: a JSON object.")
            rows.append(row)
    return rows


def _read_csv(path: Path, encoding: str, delimiter: str) -> list[dict[str, Any]]:
    with path.open(encoding=encoding, newline="") as lines:
        reader = csv.DictReader(lines, strict=True, delimiter=delimiter)
        try:
            rows: list[Mapping[str | None, Any]] = list(reader)
        except csv.Error as error:
            raise ValueError(f"{called(path)}, line {reader.line_num}: not CSV ({error}).") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            columns = len(reader.fieldnames or ())
            raise ValueError(
                f"{called(path)}, row {number}: does not have the header's {columns} cells (delimiter {delimiter!r})."
            )
    return rows  # type: ignore[return-value]


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise OSError(f"{called(path)}: not a readable Parquet file ({error}).") from error
