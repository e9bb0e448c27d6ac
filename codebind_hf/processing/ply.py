"""Where are the points in a PLY file? Vertices of ascii and binary files; everything else is skipped."""

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .foreign_files import TRUNCATED, check_limit
from .values import shown


_NUMPY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
# numpy's sign for the byte order of each encoding.
_BYTE_ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
_AXES = ("x", "y", "z")
_COLORS = ("red", "green", "blue")
# Another name that programs give a colour.
_PREFIX = "diffuse_"
# Share of the median distance from the middle by which a place may be moved, and of how many points that is taken.
_LOST, _LOOKED_AT = 1e-6, 1 << 16


@dataclass
class Element:
    """One `element` of a header: how many, and its properties as `(name, numpy type, type of a list's length)`."""

    name: str
    count: int
    properties: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def has_list(self) -> bool:
        """Whether its rows differ in length."""
        return any(length is not None for _, _, length in self.properties)

    @property
    def scalars(self) -> list[str]:
        """Names of the properties that are one number."""
        return [name for name, _, length in self.properties if length is None]


def read_ply(path: Path, colors: bool = False, allow_truncated: bool = False) -> np.ndarray:
    """The vertices of a PLY file, `(points, 3)`, see `places_of`; normals and faces are left out.

    With `colors`, also red, green and blue, if the file has them: `(points, 6)`, integers divided by their largest.

    Raises:
        ValueError: not a PLY file.
        OSError: without x, y, z, of an unknown format, too large, or cut short.
    """
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    encoding, elements, body = _header(data)
    vertex = next((element for element in elements if element.name == "vertex"), None)
    if vertex is None or not set(_AXES) <= set(vertex.scalars):
        raise OSError("no element `vertex` with properties x, y, z")
    if vertex.count < 1:
        raise OSError("holds no vertex")
    check_limit("points", vertex.count, "points")
    position = elements.index(vertex)
    source = (Words if encoding == "ascii" else Bytes)(data[body:])
    for element in elements[:position]:
        columns_of(source, element)
    columns = {**dict.fromkeys(vertex.scalars, np.empty(0)), **columns_of(source, vertex)}
    if isinstance(source, Words) and position == 0 and not vertex.has_list:
        source.check_width(vertex, elements[1:])
    if len(columns["x"]) < vertex.count and not (allow_truncated and len(columns["x"])):
        raise OSError(f"{len(columns['x'])} of {vertex.count} vertices are there: {TRUNCATED}")
    points = places_of(np.stack([columns[name] for name in _AXES], axis=1))
    if not colors or not set(_COLORS) <= set(columns):
        return points
    kinds = {name: np.dtype(kind) for name, kind, _ in vertex.properties}
    full = [np.float32(np.iinfo(kinds[name]).max if kinds[name].kind in "iu" else 1) for name in _COLORS]
    shades = [columns[name].astype(np.float32) / largest for name, largest in zip(_COLORS, full, strict=True)]
    return np.concatenate([points, np.stack(shades, axis=1)], axis=1)


def places_of(points: np.ndarray) -> np.ndarray:
    """Places as float32, or float64 where they would lose their shape before they are centred, as UTM metres would."""
    points = points if points.dtype in (np.float32, np.float64) else points.astype(np.float64)
    some = points[:: max(1, len(points) // _LOOKED_AT)]
    # Numbers beyond float32 and those that are none are the processor's to refuse.
    with np.errstate(over="ignore", invalid="ignore"):
        single = points.astype(np.float32)
        spread = np.median(np.abs(some - np.median(some, axis=0)), axis=0).max()
        return single if np.abs(single - points).max() <= _LOST * spread else points


def _header(data: bytes) -> tuple[str, list[Element], int]:
    """Encoding, elements in file order, and the offset at which the values begin."""
    if data[:3] != b"ply":
        raise ValueError("does not begin with `ply`, or has no `end_header`")
    # Old Mac programs end lines with a carriage return alone.
    newline = b"\n" if b"\n" in data[3:5] else b"\r"
    lines: list[list[str]] = []
    offset = 0
    while True:
        end = data.find(newline, offset)
        if end < 0 or len(lines) > 1000:
            raise ValueError("no `end_header` line")
        lines.append(data[offset:end].decode("ascii", errors="replace").split())
        offset = end + 1
        if lines[-1] == ["end_header"]:
            break
    encoding = next((words[1] for words in lines if len(words) > 1 and words[0] == "format"), "missing")
    if encoding not in _BYTE_ORDERS:
        raise OSError(f"format {encoding}; supported: {', '.join(_BYTE_ORDERS)}")
    return encoding, _elements(lines, _BYTE_ORDERS[encoding]), offset


def _elements(lines: list[list[str]], byte_order: str) -> list[Element]:
    elements: list[Element] = []
    for words in lines:
        if words[:1] == ["element"]:
            elements.append(Element(words[1], int(words[2])))
            if elements[-1].count < 0:
                raise ValueError(f"{words[2]} times element `{words[1]}`")
        elif words[:1] == ["property"] and words[1] == "list":
            kinds = [byte_order + _numpy_type(word) for word in words[2:4]]
            elements[-1].properties.append((words[4].removeprefix(_PREFIX), kinds[1], kinds[0]))
        elif words[:1] == ["property"]:
            kind = byte_order + _numpy_type(words[1])
            elements[-1].properties.append((words[2].removeprefix(_PREFIX), kind, None))
    return elements


def _numpy_type(word: str) -> str:
    if word not in _NUMPY_TYPES:
        raise OSError(f"properties of type {shown(word)} are not supported; supported: {', '.join(_NUMPY_TYPES)}")
    return _NUMPY_TYPES[word]


class Words:
    """The numbers of an ascii file. Only their order counts: programs break lines where they like."""

    def __init__(self, body: bytes) -> None:
        self._first = len(body.lstrip().partition(b"\n")[0].split())
        self._words = iter(body.split())

    def table(self, element: Element) -> dict[str, np.ndarray]:
        """Columns of an element without lists, as far as they are there."""
        width = max(1, len(element.properties))
        words = list(islice(self._words, element.count * width))
        values = np.array(words[: len(words) // width * width], dtype=np.float64).reshape(-1, width)
        return dict(zip(element.scalars, values.T, strict=False))

    def take(self, kind: str, count: int) -> list[Any]:
        """The next numbers; EOFError if they are not all there."""
        words = list(islice(self._words, count))
        if len(words) < count:
            raise EOFError
        return [float(word) for word in words]

    def check_width(self, element: Element, rest: list[Element]) -> None:
        """Refuse lines with more numbers than the header names, which would be taken for those of the next line."""
        if self._first > len(element.properties):
            for other in rest:
                columns_of(self, other)
            if next(self._words, None) is not None:
                raise ValueError(f"{self._first} values in the first line, {len(element.properties)} in the header")


class Bytes:
    """The numbers of a binary file."""

    def __init__(self, body: bytes) -> None:
        self._body, self._offset = body, 0

    def table(self, element: Element) -> dict[str, np.ndarray]:
        """Columns of an element without lists, as far as they are there."""
        layout = np.dtype([(name, kind) for name, kind, _ in element.properties])
        there = min(element.count, max(0, len(self._body) - self._offset) // max(1, layout.itemsize))
        rows = np.ndarray(there, layout, self._body, self._offset) if there else np.empty(0, layout)
        self._offset += element.count * layout.itemsize
        return {name: rows[name] for name in element.scalars}

    def take(self, kind: str, count: int) -> list[Any]:
        """The next numbers; EOFError if they are not all there."""
        start, self._offset = self._offset, self._offset + count * np.dtype(kind).itemsize
        if self._offset > len(self._body):
            raise EOFError
        return np.frombuffer(self._body, kind, count, start).tolist() if count else []


def columns_of(source: Words | Bytes, element: Element) -> dict[str, np.ndarray]:
    """The single numbers of an element by name, as far as they are there; lists are passed over."""
    if not element.has_list:
        return source.table(element)
    rows: list[list[Any]] = []
    with suppress(EOFError):
        for _ in range(element.count):
            numbers = []
            for _, kind, length in element.properties:
                (number,) = source.take(length or kind, 1)
                if length is None:
                    numbers.append(number)
                elif number < 0:
                    raise ValueError(f"a list of length {number}")
                else:
                    source.take(kind, int(number))
            rows.append(numbers)
    return dict(zip(element.scalars, np.array(rows, dtype=np.float64).reshape(len(rows), -1).T, strict=False))
