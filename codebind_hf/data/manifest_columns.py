"""Rows of a manifest as Arrow columns: are they plain enough to be used as they are, and what does one row hold?"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as pc

from codebind_hf.data.columns import ATTRIBUTE, tuples_of
from codebind_hf.data.units import UNITS, checked_unit


def is_plain(table: pyarrow.Table, modalities: Sequence[str]) -> bool:
    """Whether every cell is what it should be, without a look at single rows: text, no URL, ids once, no row empty.

    Anything else may still be right, such as numbers for labels; whoever looks at every row can tell.
    """
    columns = {name: table.column(name) for name in table.column_names}
    for name, column in columns.items():
        if name == "attributes" or name.startswith(ATTRIBUTE):
            if not _has_plain_attributes(column, is_object=name == "attributes"):
                return False
        elif name in UNITS:
            if not _has_units(name, column):
                return False
        elif (
            not (_is_text(column.type) or name in ("label", "text") and _is_texts(column))
            or name in modalities
            and name != "text"
            and _has_urls(column)
        ):
            return False
    present = [_present(columns[name]) for name in modalities if name in columns]
    if not present or not np.logical_or.reduce(present).all():
        return False
    # A default id of one row could be the id of another.
    return "id" not in columns or _are_unique(columns["id"])


def with_text(table: pyarrow.Table, names: Sequence[str]) -> pyarrow.Table:
    """The table with whole numbers in these columns as text."""
    for place, name in enumerate(table.column_names):
        if name in names and pyarrow.types.is_integer(table.column(name).type):
            table = table.set_column(place, name, table.column(name).cast(pyarrow.string()))
    return table


def row_of(table: pyarrow.Table, position: int) -> dict[str, Any]:
    """The cells of one row that are not empty; its attributes as a dictionary."""
    row: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name in table.column_names:
        value = table.column(name)[position].as_py()
        if value is None or value == "" or (isinstance(value, float) and value != value):
            continue
        if name.startswith(ATTRIBUTE):
            attributes[name.removeprefix(ATTRIBUTE)] = value
        elif name == "attributes":
            value = json.loads(value) if isinstance(value, str) else value
            attributes |= {key: own for key, own in value.items() if own is not None and own != "" and own == own}
        else:
            row[name] = value
    return {**row, "attributes": attributes} if attributes else row


def rows_with_modality(table: pyarrow.Table, modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """The modalities of every row, in the order of `modalities`."""
    names = [name for name in modalities if name in table.column_names]
    return tuples_of(names, [_present(table.column(name)) for name in names])


def to_table(rows: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> pyarrow.Table:
    """Checked rows as columns; attributes, whose values have no one type, as JSON, and lists where any row has one."""
    columns: dict[str, list[Any]] = {}
    for name in ("id", "label", *modalities):
        cells = [row.get(name) for row in rows]
        if any(cell is not None for cell in cells):
            is_listed = any(isinstance(cell, list) for cell in cells)
            has_files = any(isinstance(cell, dict) for cell in cells)
            columns[name] = [_listed(cell) for cell in cells] if is_listed else cells
            if has_files:
                columns[name] = [{"bytes": None, "path": cell} if isinstance(cell, str) else cell for cell in cells]
    for name in UNITS:
        if any(name in row for row in rows):
            columns[name] = [json.dumps(row[name]) if name in row else None for row in rows]
    if any("attributes" in row for row in rows):
        columns["attributes"] = [json.dumps(row["attributes"]) if "attributes" in row else None for row in rows]
    return pyarrow.table(columns)


def _listed(cell: Any) -> Any:
    return [cell] if isinstance(cell, str) else cell


def _is_text(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_null(kind)


def _is_texts(column: pyarrow.ChunkedArray) -> bool:
    """Whether a column is lists of one text or more, none of them empty."""
    if not pyarrow.types.is_list(column.type) or not _is_text(column.type.value_type):
        return False
    values = pc.list_flatten(column)
    return not _any(pc.equal(pc.list_value_length(column), 0)) and not values.null_count and not _any(_empty(values))


def _has_plain_attributes(column: pyarrow.ChunkedArray, is_object: bool) -> bool:
    if not is_object:
        return True
    if pyarrow.types.is_struct(column.type) or pyarrow.types.is_null(column.type):
        return True
    if not _is_text(column.type):
        return False
    try:
        return all(isinstance(json.loads(value), dict) for value in pc.unique(column).to_pylist() if value)
    except ValueError:
        return False


def _has_units(name: str, column: pyarrow.ChunkedArray) -> bool:
    values = column.to_pylist() if pyarrow.types.is_nested(column.type) else pc.unique(column).to_pylist()
    try:
        for value in {repr(value): value for value in values if value not in (None, "") and value == value}.values():
            checked_unit(name, value)
    except ValueError:
        return False
    return True


def _has_urls(column: pyarrow.ChunkedArray) -> bool:
    return not pyarrow.types.is_null(column.type) and _any(pc.match_substring(column, "://"))


def _empty(column: pyarrow.ChunkedArray) -> Any:
    return pc.equal(column, "")


def _any(flags: Any) -> bool:
    return bool(pc.any(flags).as_py())


def _present(column: pyarrow.ChunkedArray) -> np.ndarray:
    if pyarrow.types.is_null(column.type):
        return np.zeros(len(column), dtype=bool)
    is_there = pc.is_valid(column)
    if _is_text(column.type):
        is_there = pc.and_(is_there, pc.fill_null(pc.invert(_empty(column)), False))
    return np.asarray(is_there)


def _are_unique(column: pyarrow.ChunkedArray) -> bool:
    return not column.null_count and not _any(_empty(column)) and pc.count_distinct(column).as_py() == len(column)
