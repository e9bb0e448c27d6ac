"""What do a textured mesh's surface, depth and turning look like? Numbers from an OBJ file and its materials.

Our reader of point clouds draws points from an OBJ file, without the colours that its materials give; so this one.

Axes in this file: V vertices, T texture coordinates, F triangles, N points, X = 3 axes, C = 3 colours.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image


_GREY = (0.7, 0.7, 0.7)
_TEXTURE_SIDE = 128
# Points of a mesh from which views are drawn: enough that a picture of `VIEW` pixels has no holes.
DENSE = 60_000
VIEW = 96
_LIGHT = np.array([0.4, 0.8, 0.45]) / np.linalg.norm([0.4, 0.8, 0.45])


@dataclass
class Mesh:
    """Triangles with materials.

    Args:
        vertices_VX, texture_TX: places, and places in the texture (two numbers in use).
        faces_FX, texture_faces_FX: rows of these for every corner; -1 is a corner without a place in the texture.
        material_F: rows of `materials`.
        materials: a colour, and a texture `(height, width, 3)` in [0, 1] or `None`.
    """

    vertices_VX: np.ndarray
    texture_TX: np.ndarray
    faces_FX: np.ndarray
    texture_faces_FX: np.ndarray
    material_F: np.ndarray
    materials: list[tuple[np.ndarray, np.ndarray | None]]


@dataclass
class Surface:
    """Points drawn from a surface, by area: places and normals `(N, 3)`, and colours in [0, 1]."""

    places: np.ndarray
    normals: np.ndarray
    colors: np.ndarray


def read_mesh(file: Path) -> Mesh:
    """The triangles of an OBJ file, polygons as fans.

    Raises:
        OSError: it holds no triangle.
        ValueError: a line that is no OBJ.
    """
    corners: list[tuple[int, int]] = []
    materials_of: list[int] = []
    places, textures, names, libraries = [], [], {}, []
    # Most corners are named several times, by numbers that mean the same wherever they stand.
    met: dict[str, tuple[int, int]] = {}
    material = names.setdefault("", 0)
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            places.append(rest)
        elif word == "vt":
            textures.append(rest)
        elif word == "f":
            parts = rest.split()
            if "-" in rest:
                found = [_corner(part, len(places), len(textures)) for part in parts]
            else:
                for part in parts:
                    if part not in met:
                        met[part] = _corner(part, 0, 0)
                found = [met[part] for part in parts]
            for second, third in zip(found[1:], found[2:], strict=False):
                corners += (found[0], second, third)
                materials_of.append(material)
        elif word == "usemtl":
            material = names.setdefault(rest.strip(), len(names))
        elif word == "mtllib":
            libraries.append(rest.strip())
    if not materials_of:
        raise OSError(f"{file}: holds no triangle.")
    known = {name: value for library in libraries for name, value in _materials(file.parent / library).items()}
    plain = (np.array(_GREY), None)
    table = np.array(corners).reshape(-1, 3, 2)
    return Mesh(
        _numbers(places, 3),
        _numbers(textures, 2) if textures else np.zeros((1, 2)),
        table[..., 0],
        table[..., 1],
        np.array(materials_of),
        [known.get(name, plain) for name in names],
    )


def _corner(part: str, places: int, textures: int) -> tuple[int, int]:
    place, _, rest = part.partition("/")
    texture = rest.partition("/")[0]
    row = int(place)
    column = int(texture) if texture else 0
    return (row - 1 if row > 0 else places + row, column - 1 if column >= 0 else textures + column)


def _numbers(lines: list[str], width: int) -> np.ndarray:
    return np.array([[float(word) for word in line.split()[:width]] for line in lines])


def _materials(library: Path) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Colour and texture by material; what is missing is left grey, as a viewer would."""
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    name = None
    lines = library.read_text(encoding="utf-8", errors="replace").splitlines() if library.is_file() else []
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "newmtl":
            name = rest.strip()
            found[name] = (np.array(_GREY), None)
        elif name is not None and word == "Kd":
            found[name] = (np.array(rest.split()[:3], dtype=float).clip(0, 1), found[name][1])
        elif name is not None and word == "map_Kd":
            file = library.parent / rest.strip().split()[-1]
            found[name] = (found[name][0], _texture(file) if file.is_file() else None)
    return found


@lru_cache(maxsize=16)
def _texture(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        picture.draft("RGB", (_TEXTURE_SIDE, _TEXTURE_SIDE))
        picture.thumbnail((_TEXTURE_SIDE, _TEXTURE_SIDE))
        white = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"), np.float64) / 255


def upright(mesh: Mesh, size_cm: list[float], turn: list[float]) -> Mesh:
    """The mesh turned and stretched to its true size, in metres, with the middle of its box in the origin."""
    places = mesh.vertices_VX
    if turn:
        places = places @ np.array(turn).reshape(3, 3).T
    used = places[np.unique(mesh.faces_FX)]
    low, high = used.min(0), used.max(0)
    extent = np.where(high - low > 1e-9, high - low, 1.0)
    places = (places - (low + high) / 2) / extent * np.array(size_cm) / 100
    return Mesh(places, mesh.texture_TX, mesh.faces_FX, mesh.texture_faces_FX, mesh.material_F, mesh.materials)


def draw(mesh: Mesh, count: int, seed: int = 0) -> Surface:
    """`count` points of the surface, always the same ones for a seed.

    Raises:
        OSError: the surface has no area.
    """
    generator = np.random.default_rng(seed)
    corners = mesh.vertices_VX[mesh.faces_FX]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(across, axis=1)
    if not areas.sum() > 0:
        raise OSError("the surface of the mesh has no area.")
    face_N = np.searchsorted(np.cumsum(areas) / areas.sum(), generator.random(count)).clip(0, len(areas) - 1)
    weights = generator.random((count, 2))
    weights = np.where(weights.sum(1, keepdims=True) > 1, 1 - weights, weights)
    weights = np.column_stack([1 - weights.sum(1), weights])
    places = np.einsum("nk,nkx->nx", weights, corners[face_N])
    normals = across[face_N] / areas[face_N, None].clip(1e-12)
    return Surface(places, normals, _colors(mesh, face_N, weights))


def _colors(mesh: Mesh, face_N: np.ndarray, weights_NX: np.ndarray) -> np.ndarray:
    chosen_N = mesh.material_F[face_N]
    colors_NC = np.array([color for color, _ in mesh.materials])[chosen_N]
    rows_NX = mesh.texture_faces_FX[face_N]
    has_place = (rows_NX.min(1) >= 0) & (rows_NX.max(1) < len(mesh.texture_TX))
    for number, (_, texture) in enumerate(mesh.materials):
        if texture is None:
            continue
        own = (chosen_N == number) & has_place
        if own.any():
            place = np.einsum("nk,nkt->nt", weights_NX[own], mesh.texture_TX[rows_NX[own]]) % 1.0
            height, width = texture.shape[:2]
            row = ((1 - place[:, 1]) * (height - 1)).astype(int).clip(0, height - 1)
            colors_NC[own] = texture[row, (place[:, 0] * (width - 1)).astype(int)]
    return colors_NC


def look(surface: Surface, degrees: float, tilt: float = 20.0, side: int = VIEW) -> tuple[np.ndarray, np.ndarray]:
    """A picture `(side, side, 3)` uint8 on white, and a depth map `(side, side)` in metres from the nearest to the
    farthest point of the box's diagonal, NaN where nothing is.

    The camera looks at the middle from `degrees` around and `tilt` above, without perspective; the picture is as wide
    as the largest distance from the middle, so that size shows in the depth map alone.
    """
    around, above = np.radians([degrees, tilt])
    turn = np.array([[np.cos(around), 0, -np.sin(around)], [0, 1, 0], [np.sin(around), 0, np.cos(around)]])
    lift = np.array([[1, 0, 0], [0, np.cos(above), -np.sin(above)], [0, np.sin(above), np.cos(above)]])
    places = surface.places @ (lift @ turn).T
    radius = np.linalg.norm(surface.places, axis=1).max()
    pixel = ((places[:, :2] / radius * [1, -1] * 0.98 + 1) / 2 * side).astype(int).clip(0, side - 1)
    # The nearest point comes last, and is what stays.
    order = np.argsort(places[:, 2])
    row, column = pixel[order, 1], pixel[order, 0]
    shade = 0.55 + 0.45 * np.abs(surface.normals[order] @ _LIGHT)
    picture = np.ones((side, side, 3))
    depth = np.full((side, side), np.nan)
    picture[row, column] = surface.colors[order] * shade[:, None]
    depth[row, column] = radius - places[order, 2]
    return (picture * 255).round().astype(np.uint8), depth


def cloud(surface: Surface, count: int) -> np.ndarray:
    """The first `count` points, in metres and with colours, `(count, 6)` float32."""
    return np.column_stack([surface.places[:count], surface.colors[:count]]).astype(np.float32)


def relief(surface: Surface, shape: tuple[int, int], pixel_mm: float, length_mm: float) -> np.ndarray:
    """Heights in millimetres of a miniature of the object that lies on its back, as a sensor feels it from the front.

    The miniature is as long as `length_mm` in the plane of the sensor; what lies beside it is as deep as its back.
    """
    places = surface.places[:, [1, 0, 2]] * [-1, 1, 1]
    places = places / np.ptp(places[:, :2], axis=0).max().clip(1e-9) * length_mm
    row, column = (places[:, :2] / pixel_mm + np.array(shape) / 2).astype(int).T
    heights = np.full(shape, places[:, 2].min())
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    np.maximum.at(heights, (row[inside], column[inside]), places[inside, 2])
    return heights


def shape_numbers(points_N6: np.ndarray) -> np.ndarray:
    """What can be said of a coloured cloud without a network: 1291 numbers.

    Where its points are in a grid of ten cells an axis over its box, stretched by its longest side alone; the mean
    colour in four cells an axis; a histogram of colours and one of distances; and the logarithm of its three lengths.
    """
    places, colors = points_N6[:, :3].astype(np.float64), points_N6[:, 3:].astype(np.float64)
    low, high = places.min(0), places.max(0)
    unit = (places - (low + high) / 2) / (high - low).max().clip(1e-9) + 0.5
    fine, coarse, shade = (np.minimum((x * n).astype(int), n - 1) for x, n in ((unit, 10), (unit, 4), (colors, 4)))
    where = np.bincount(fine @ [100, 10, 1], minlength=1000) / len(places)
    cell = coarse @ [16, 4, 1]
    filled = np.bincount(cell, minlength=64).clip(1)
    means = [np.bincount(cell, colors[:, axis], minlength=64) / filled for axis in range(3)]
    shades = np.bincount(shade @ [16, 4, 1], minlength=64) / len(places)
    half = len(unit) // 2
    far, _ = np.histogram(np.linalg.norm(unit[:half] - unit[half : 2 * half], axis=1), bins=32, range=(0, 1.5))
    parts = (np.sqrt(where), *means, np.sqrt(shades), np.sqrt(far / half), np.log((high - low).clip(1e-3)))
    return np.concatenate(parts).astype(np.float32)
