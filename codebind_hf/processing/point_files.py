"""Where are the points in a file? PLY, PCD, tables of numbers, LAS, and meshes, whose surface is sampled."""

import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .foreign_files import FILE_LIMITS, TRUNCATED, check_limit, load_array, optional
from .ply import Bytes, Element, Words, places_of, read_ply


# As many as data sets of shapes draw from each.
MESH_SAMPLES = 10_000
TABLES = (".xyz", ".txt", ".csv", ".asc", ".pts")
MESHES = (".off", ".obj", ".stl")
POINT_FILES = (".npy", ".ply", ".pcd", *TABLES, *MESHES, ".las", ".laz")
_PCD_FORMS = ("ascii", "binary", "binary_compressed")
_PCD_KINDS = {"I": "i", "U": "u", "F": "f"}
_AXES = ("x", "y", "z")
_COLORS = ("red", "green", "blue")
_PIECE = 1 << 16
# Another process unpacks with these lines, within a limit of memory where the system has one.
_UNPACK = "\n".join(
    [
        "import sys, laspy",
        "source, target, points, memory = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])",
        "if sys.platform == 'linux':",
        "    import resource",
        "    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))",
        "with laspy.open(source, laz_backend=laspy.LazBackend.Lazrs) as reader:",
        "    if reader.header.point_count > points:",
        "        sys.exit(f'declares {reader.header.point_count} points; the limit is {points}')",
        "    with laspy.open(target, mode='w', header=reader.header, do_compress=False) as writer:",
        "        for piece in reader.chunk_iterator(1 << 16):",
        "            writer.write_points(piece)",
    ]
)
_LEAST_SECONDS, _BYTES_PER_SECOND = 60.0, 1e6


def read_points(
    file: Path, suffix: str, colors: bool = False, allow_truncated: bool = False, mesh_samples: int = MESH_SAMPLES
) -> np.ndarray:
    """The points in a file, `(points, 3)`, see `places_of`; the array of an `.npy` file as it is.

    With `colors`, also red, green and blue in [0, 1], if the file has them: `(points, 6)`. Of a mesh (OFF, OBJ, STL)
    `mesh_samples` points are drawn from the surface, always the same ones; 0 gives its vertices.

    Raises:
        OSError, ValueError: a missing library, no points, a file beyond a limit, cut short or damaged.
    """
    if suffix == ".npy":
        return load_array(file, allow_truncated)
    if suffix == ".ply":
        return read_ply(file, colors, allow_truncated)
    if suffix == ".pcd":
        points, shades = _read_pcd(file.read_bytes(), allow_truncated)
    elif suffix in TABLES:
        points, shades = _read_table(file)
    elif suffix == ".las":
        points, shades = _read_las(file, allow_truncated)
    elif suffix == ".laz":
        points, shades = _read_laz(file, allow_truncated)
    else:
        points, shades = _read_mesh(file, suffix, mesh_samples), None
    if not len(points):
        raise OSError("holds no point")
    places = places_of(points)
    return np.concatenate([places, shades.astype(np.float32)], axis=1) if colors and shades is not None else places


def _read_pcd(data: bytes, allow_truncated: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Places and colours of a PCD file; points without a return, which are NaN there, are left out."""
    header, body = _pcd_header(data)
    fields = zip(header["FIELDS"], header["TYPE"], header["SIZE"], header.get("COUNT", header["SIZE"]), strict=True)
    declared = int(header["POINTS"][0]) if "POINTS" in header else int(header["WIDTH"][0]) * int(header["HEIGHT"][0])
    check_limit("points", declared, "points")
    points = Element("points", declared)
    for name, kind, size, count in fields:
        if kind not in _PCD_KINDS:
            raise OSError(f"fields of type {kind[:20]} are not supported; supported: {', '.join(_PCD_KINDS)}")
        number = f"<{_PCD_KINDS[kind]}{size}"
        repeats = range(int(count) if "COUNT" in header else 1)
        points.properties += [(name if not index else f"{name}/{index}", number, None) for index in repeats]
    if not set(_AXES) <= set(points.scalars) or declared < 1:
        raise OSError(f"holds {declared} points with fields {', '.join(header['FIELDS'])}; needed are x, y, z")
    if header["DATA"] == ["binary_compressed"]:
        columns = _pcd_unpacked(data[body:], points)
    else:
        columns = (Words if header["DATA"] == ["ascii"] else Bytes)(data[body:]).table(points)
    if len(columns["x"]) < declared and not allow_truncated:
        raise OSError(f"{len(columns['x'])} of {declared} points are there: {TRUNCATED}")
    places = np.stack([columns[axis] for axis in _AXES], axis=1)
    valid = np.isfinite(places).all(axis=1)
    # Of a colour that is called a float, the bits count.
    packed = [columns[name].astype(kind) for name, kind, _ in points.properties if name in ("rgb", "rgba")]
    return places[valid], _unpacked_colors(packed[0][valid]) if packed else None


def _pcd_header(data: bytes) -> tuple[dict[str, list[str]], int]:
    """Words by their keyword, and the offset at which the values begin."""
    header: dict[str, list[str]] = {}
    offset = 0
    while "DATA" not in header:
        end = data.find(b"\n", offset)
        if end < 0 or len(header) > 100:
            raise ValueError("no DATA line")
        words = data[offset:end].decode("ascii", errors="replace").split()
        header.update({words[0]: words[1:]} if words else {})
        offset = end + 1
    if header["DATA"] not in [[form] for form in _PCD_FORMS]:
        raise OSError(f"DATA {' '.join(header['DATA'])}; supported: {', '.join(_PCD_FORMS)}")
    return header, offset


def _pcd_unpacked(data: bytes, points: Element) -> dict[str, np.ndarray]:
    """The fields of compressed values, which are stored one field after the other."""
    packed, size = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4))
    if len(data) < 8 + packed:
        raise OSError(TRUNCATED)
    row = sum(np.dtype(kind).itemsize for _, kind, _ in points.properties)
    if size != points.count * row:
        raise ValueError(f"{size} bytes for {points.count} points of {row} bytes")
    values = unpack_lzf(data[8 : 8 + packed], size)
    columns: dict[str, np.ndarray] = {}
    offset = 0
    for name, kind, _ in points.properties:
        columns[name] = np.frombuffer(values, kind, points.count, offset)
        offset += columns[name].nbytes
    return columns


def unpack_lzf(data: bytes, size: int) -> bytes:
    """What LibLZF packed, runs of bytes and references to what is unpacked; ValueError if it is not `size` bytes."""
    unpacked = bytearray()
    position = 0
    while position < len(data) and len(unpacked) <= size:
        control = data[position]
        position += 1
        if control < 32:
            unpacked += data[position : position + control + 1]
            position += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += data[position]
            position += 1
        start = len(unpacked) - ((control & 31) << 8) - data[position] - 1
        position += 1
        if start < 0:
            raise ValueError("a reference to before the beginning")
        piece = unpacked[start : start + length + 2]
        # A reference may reach into what it is itself about to write.
        unpacked += (piece * (length // len(piece) + 2))[: length + 2]
    if len(unpacked) != size:
        raise ValueError(f"{len(unpacked)} bytes instead of {size}")
    return bytes(unpacked)


def _unpacked_colors(packed: np.ndarray) -> np.ndarray:
    """Red, green and blue in [0, 1] of colours whose bytes share a number."""
    bits = packed.astype(np.float32).view(np.uint32) if packed.dtype.kind == "f" else packed.astype(np.uint32)
    return np.stack([(bits >> shift) & 255 for shift in (16, 8, 0)], axis=1) / np.float32(255)


def _read_table(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Places and colours of lines of numbers, by the names of their columns or else by position.

    Without names, x, y, z come first, and of 6 or 7 columns the last three are colours if they are whole numbers from
    0 to 255 or lie in [0, 1]; otherwise they are taken for normals and left out.
    """
    lines = [line for line in file.read_bytes().decode("utf-8-sig").splitlines() if line.strip()]
    check_limit("points", len(lines), "lines")
    names: list[str] = []
    is_comment = True
    while lines and is_comment and not _are_numbers(words := _words(lines[0])):
        names = [_SHORT.get(word, word) for word in words]
        is_comment = lines.pop(0).lstrip().startswith(("#", "//"))
    # A PTS file begins with the number of its points.
    lines = lines[1:] if lines and len(_words(lines[0])) == 1 else lines
    if not lines:
        raise OSError("holds no line of numbers")
    table = np.loadtxt(lines, delimiter=_mark(lines[0]), comments=("#", "//"), ndmin=2)
    if table.shape[1] < 3:
        raise OSError(f"holds lines of {table.shape[1]} numbers; needed are x y z, or x y z red green blue")
    if set(_AXES) <= set(names):
        columns = dict(zip(names, table.T, strict=False))
        shades = np.stack([columns[name] for name in _COLORS], axis=1) if set(_COLORS) <= set(columns) else None
        return np.stack([columns[name] for name in _AXES], axis=1), _scaled_colors(shades)
    return table[:, :3], _scaled_colors(table[:, -3:] if table.shape[1] in (6, 7) else None)


_SHORT = {"r": "red", "g": "green", "b": "blue"}


def _mark(line: str) -> str | None:
    return next((mark for mark in ";," if mark in line), None)


def _words(line: str) -> list[str]:
    bare = line.strip().lstrip("#/").strip().lower()
    return [word.strip().strip('"') for word in bare.split(_mark(bare))]


def _are_numbers(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True


def _scaled_colors(shades: np.ndarray | None) -> np.ndarray | None:
    """Colours in [0, 1], or `None` for numbers that are no colours."""
    if shades is None or not (shades.min() >= 0 and shades.max() <= 255):
        return None
    if shades.max() <= 1:
        return shades
    return shades / 255 if (shades == np.round(shades)).all() else None


def _read_laz(file: Path, allow_truncated: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """As of the LAS file that another process makes of it.

    What unpacks it ends its process where a damaged file asks for more memory than there is.
    """
    for name in ("laspy", "lazrs"):
        optional(name, "points", "compressed LAS files")
    _check_las(file)
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "points.las"
        arguments = [str(file.resolve()), str(unpacked), str(FILE_LIMITS.points), str(FILE_LIMITS.bytes)]
        seconds = _LEAST_SECONDS + file.stat().st_size / _BYTES_PER_SECOND
        command = [sys.executable, "-c", _UNPACK, *arguments]
        try:
            # This interpreter and our own lines, with names of files as arguments and no shell.
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise OSError(f"is not unpacked after {seconds:.0f} seconds") from error
        if done.returncode or not unpacked.is_file():
            said = done.stderr.strip().splitlines() or ["the process that unpacks it ended"]
            raise OSError(f"damaged or too large to unpack ({said[-1][:200]})")
        return _read_las(unpacked, allow_truncated)


def _read_las(file: Path, allow_truncated: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Places, and colours of 16 bits, or of the 8 bits that many programs write there."""
    laspy = optional("laspy", "points", f"{file.suffix} files")
    _check_las(file)
    with laspy.open(file) as reader:
        header = reader.header
        check_limit("points", header.point_count, "points")
        there = max(0, file.stat().st_size - header.offset_to_point_data) // header.point_format.size
        if there < header.point_count and not allow_truncated:
            raise OSError(f"{there} of {header.point_count} points are there: {TRUNCATED}")
        count = min(header.point_count, there)
        pieces = [reader.read_points(min(_PIECE, count - start)) for start in range(0, count, _PIECE)]
    points = np.concatenate([np.empty((0, 3)), *(np.stack([piece.x, piece.y, piece.z], axis=1) for piece in pieces)])
    if not pieces or not set(_COLORS) <= set(header.point_format.dimension_names):
        return points, None
    shades = np.concatenate([np.stack([piece[name] for name in _COLORS], axis=1) for piece in pieces])
    return points, shades / np.float32(255 if shades.max(initial=0) <= 255 else 65535)


def _check_las(file: Path) -> None:
    """Refuse a header that counts more records than fit into the file: laspy makes every one of them."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(247)
    if len(head) > 25 and head[24:26] not in (b"\1\0", b"\1\1", b"\1\2", b"\1\3", b"\1\4"):
        raise OSError(f"LAS version {head[24]}.{head[25]} is not supported; supported: 1.0 to 1.4")
    length, offset, records = struct.unpack_from("<HII", head, 94)
    # Version 1.4 has further records behind the points.
    start, more = struct.unpack_from("<QI", head, 235) if head[25] >= 4 else (size, 0)
    if length + 54 * records > offset or offset > size or (more and start + 60 * more > size):
        raise ValueError(f"a header of {records} + {more} records")


def _read_mesh(file: Path, suffix: str, mesh_samples: int) -> np.ndarray:
    """Points on the surface, uniformly distributed, or the vertices if there is no surface or none is asked for."""
    trimesh = optional("trimesh", "points", f"{suffix} files")
    with file.open("rb") as stream:
        # Without a resolver, materials and other files that a mesh names are not opened.
        mesh = trimesh.load_mesh(stream, file_type=suffix[1:], process=False, skip_materials=True, resolver=None)
    vertices = np.asarray(mesh.vertices, dtype=np.float64).reshape(-1, 3)
    check_limit("points", len(vertices), "vertices")
    if not len(getattr(mesh, "faces", ())) or not mesh_samples:
        return vertices
    check_limit("points", mesh_samples, "samples")
    if not 0 < mesh.area < math.inf:
        raise OSError("holds faces without an area; read its vertices with mesh_samples=0")
    return np.asarray(trimesh.sample.sample_surface(mesh, mesh_samples, seed=0)[0])
