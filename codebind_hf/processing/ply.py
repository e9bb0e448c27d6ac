"""Where are the points in a PLY file? Vertices of ascii and binary files; everything else is skipped."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


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


@dataclass
class _Element:
    """One `element` of a header: how many, and its scalar properties as `(name, numpy type)`."""

    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)
    has_list: bool = False


def read_ply(path: Path, colors: bool = False) -> np.ndarray:
    """The vertices of a PLY file, float32 of shape `(points, 3)`; normals and faces are left out.

    Args:
        colors: also read red, green and blue, if the file has them: `(points, 6)`, integers divided by their largest.

    Raises:
        ValueError: not a PLY file, without x, y, z, or cut short.
    """
    data = path.read_bytes()
    encoding, elements, body = _header(data)
    vertex = next((element for element in elements if element.name == "vertex"), None)
    if vertex is None or not set(_AXES) <= {name for name, _ in vertex.properties}:
        raise ValueError("no element `vertex` with properties x, y, z")
    if vertex.count < 1:
        raise ValueError("holds no vertex")
    if vertex.has_list:
        raise ValueError("vertices with list properties are not supported")
    before = elements[: elements.index(vertex)]
    read = _ascii_vertices if encoding == "ascii" else _binary_vertices
    kinds = {name.removeprefix(_PREFIX): kind for name, kind in vertex.properties}
    if not colors or not set(_COLORS) <= set(kinds):
        return read(data, body, before, vertex, _AXES)
    table = read(data, body, before, vertex, (*_AXES, *_COLORS))
    for column, name in enumerate(_COLORS, start=len(_AXES)):
        kind = np.dtype(kinds[name])
        table[:, column] /= np.iinfo(kind).max if kind.kind in "iu" else 1
    return table


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    """Encoding, elements in file order, and the offset at which the values begin."""
    lines: list[list[str]] = []
    offset = 0
    while True:
        end = data.find(b"\n", offset)
        if end < 0 or len(lines) > 1000:
            raise ValueError("no `end_header` line")
        lines.append(data[offset:end].decode("ascii", errors="replace").split())
        offset = end + 1
        if lines[-1] == ["end_header"]:
            break
    if lines[0] != ["ply"]:
        raise ValueError("does not begin with `ply`")
    encoding = next((words[1] for words in lines if len(words) > 1 and words[0] == "format"), "missing")
    if encoding not in _BYTE_ORDERS:
        raise ValueError(f"format {encoding}; supported: {', '.join(_BYTE_ORDERS)}")
    return encoding, _elements(lines, _BYTE_ORDERS[encoding]), offset


def _elements(lines: list[list[str]], byte_order: str) -> list[_Element]:
    elements: list[_Element] = []
    for words in lines:
        if words[:1] == ["element"]:
            elements.append(_Element(words[1], int(words[2])))
        elif words[:1] == ["property"] and words[1] == "list":
            elements[-1].has_list = True
        elif words[:1] == ["property"]:
            elements[-1].properties.append((words[2], byte_order + _NUMPY_TYPES[words[1]]))
    return elements


def _columns(vertex: _Element, wanted: tuple[str, ...]) -> list[int]:
    names = [name.removeprefix(_PREFIX) for name, _ in vertex.properties]
    return [names.index(name) for name in wanted]


def _ascii_vertices(
    data: bytes, body: int, before: list[_Element], vertex: _Element, wanted: tuple[str, ...]
) -> np.ndarray:
    skipped = sum(element.count for element in before)
    lines = [line for line in data[body:].splitlines() if line.strip()][skipped : skipped + vertex.count]
    if len(lines) < vertex.count:
        raise ValueError(f"cut short: {len(lines)} of {vertex.count} vertices")
    values = np.array(b" ".join(lines).split(), dtype=np.float64).reshape(vertex.count, -1)
    return values[:, _columns(vertex, wanted)].astype(np.float32)


def _binary_vertices(
    data: bytes, body: int, before: list[_Element], vertex: _Element, wanted: tuple[str, ...]
) -> np.ndarray:
    if any(element.has_list for element in before):
        raise ValueError("a binary list element stands before the vertices; write the vertices first")
    types = [np.dtype([(f"{i}", kind) for i, (_, kind) in enumerate(e.properties)]) for e in [*before, vertex]]
    offset = body + sum(element.count * kind.itemsize for element, kind in zip(before, types, strict=False))
    if len(data) < offset + vertex.count * types[-1].itemsize:
        raise ValueError(f"cut short: {len(data)} bytes for {vertex.count} vertices")
    table = np.frombuffer(data, dtype=types[-1], count=vertex.count, offset=offset)
    return np.stack([table[str(column)].astype(np.float32) for column in _columns(vertex, wanted)], axis=1)
