"""Where are the points in a PLY file? Vertices of ascii and binary files; everything else is skipped."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .foreign_files import TRUNCATED, check_limit


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
# A cloud this many times farther from the origin than it is wide would lose its shape in float32.
_FAR = 1024


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
    """The vertices of a PLY file, float32 of shape `(points, 3)`; normals and faces are left out.

    Args:
        colors: also read red, green and blue, if the file has them: `(points, 6)`, integers divided by their largest.
        allow_truncated: give the vertices that are there of a file that ends early.

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
    before = elements[: elements.index(vertex)]
    if encoding == "ascii":
        columns = ascii_columns(data[body:], before, vertex, elements)
    else:
        for element in before:
            _, body = binary_columns(data, body, element)
        columns, _ = binary_columns(data, body, vertex)
    if len(columns["x"]) < vertex.count and not (allow_truncated and len(columns["x"])):
        raise OSError(f"{len(columns['x'])} of {vertex.count} vertices are there: {TRUNCATED}")
    points = near_origin(np.stack([columns[name] for name in _AXES], axis=1))
    if not colors or not set(_COLORS) <= set(columns):
        return points
    kinds = {name: np.dtype(kind) for name, kind, _ in vertex.properties}
    full = [np.float32(np.iinfo(kinds[name]).max if kinds[name].kind in "iu" else 1) for name in _COLORS]
    shades = [columns[name].astype(np.float32) / largest for name, largest in zip(_COLORS, full, strict=True)]
    return np.concatenate([points, np.stack(shades, axis=1)], axis=1)


def near_origin(points: np.ndarray) -> np.ndarray:
    """Places as float32; of a cloud far from the origin, such as in UTM metres, the middle is moved there first."""
    if points.dtype == np.float64:
        low, high = points.min(axis=0), points.max(axis=0)
        extent = float((high - low).max())
        if extent > 0 and float(np.abs(points).max()) > _FAR * extent:
            points = points - (low + high) / 2
    return points.astype(np.float32)


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
            kinds = [byte_order + _NUMPY_TYPES[word] for word in words[2:4]]
            elements[-1].properties.append((words[4].removeprefix(_PREFIX), kinds[1], kinds[0]))
        elif words[:1] == ["property"]:
            kind = byte_order + _NUMPY_TYPES[words[1]]
            elements[-1].properties.append((words[2].removeprefix(_PREFIX), kind, None))
    return elements


def ascii_columns(
    body: bytes, before: list[Element], vertex: Element, elements: list[Element]
) -> dict[str, np.ndarray]:
    """The vertices' numbers by name, as far as they are there. Their order counts: lines are broken anywhere."""
    first, width = body.lstrip().partition(b"\n")[0].split(), len(vertex.properties)
    if before or vertex.has_list:
        words = body.split()
    elif len(first) <= width:
        words = body.split(None, vertex.count * width)[: vertex.count * width]
    elif _words_after(words := body.split(), 0, elements) != len(words):
        raise ValueError(f"{len(first)} values in the first line, and {width} properties in the header")
    start = _words_after(words, 0, before)
    if vertex.has_list:
        rows = [numbers for numbers, _ in _ascii_rows(words, start, vertex)]
    else:
        there = min(vertex.count, max(0, len(words) - start) // width)
        rows = words[start : start + there * width]  # type: ignore[assignment]
    values = np.array(rows, dtype=np.float64).reshape(-1, len(vertex.scalars))
    return dict(zip(vertex.scalars, values.T, strict=True))


def _words_after(words: list[bytes], start: int, elements: list[Element]) -> int:
    """Where the words of these elements end; beyond all words if they are not all there."""
    for element in elements:
        if not element.has_list:
            start += element.count * len(element.properties)
            continue
        ends = [end for _, end in _ascii_rows(words, start, element)]
        start = (ends or [start])[-1] if len(ends) == element.count else len(words) + 1
    return start


def _ascii_rows(words: list[bytes], start: int, element: Element) -> Iterator[tuple[list[bytes], int]]:
    """The single numbers of every row of an element with lists, and where the row ends, as far as they are there."""
    for _ in range(element.count):
        numbers = []
        for _, _, length in element.properties:
            if start >= len(words):
                return
            if length is None:
                numbers.append(words[start])
            start += 1 if length is None else 1 + _length(int(words[start]))
        if start > len(words):
            return
        yield numbers, start


def _length(length: int) -> int:
    if length < 0:
        raise ValueError(f"a list of length {length}")
    return length


def binary_columns(data: bytes, offset: int, element: Element) -> tuple[dict[str, np.ndarray], int]:
    """The single numbers of an element as far as they are there, and where it ends."""
    if not element.has_list:
        layout = np.dtype([(name, kind) for name, kind, _ in element.properties])
        there = min(element.count, max(0, len(data) - offset) // max(1, layout.itemsize))
        rows = np.ndarray(there, layout, data, offset) if there else np.empty(0, layout)
        return {name: rows[name] for name in element.scalars}, offset + element.count * layout.itemsize
    numbers: list[list[Any]] = []
    while len(numbers) < element.count and (found := _binary_row(data, offset, element)) is not None:
        numbers.append(found[0])
        offset = found[1]
    columns = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(element.scalars)).T
    return dict(zip(element.scalars, columns, strict=True)), offset if len(numbers) == element.count else len(data)


def _binary_row(data: bytes, offset: int, element: Element) -> tuple[list[Any], int] | None:
    """The single numbers of a row with lists, and where it ends; `None` if it is not all there."""
    numbers = []
    for _, kind, length in element.properties:
        size = np.dtype(length or kind).itemsize
        if offset + size > len(data):
            return None
        number = np.frombuffer(data, length or kind, 1, offset)[0]
        offset += size
        if length is None:
            numbers.append(number)
        else:
            offset += _length(int(number)) * np.dtype(kind).itemsize
    return (numbers, offset) if offset <= len(data) else None
