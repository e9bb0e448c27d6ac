"""How far, how warm? Renderers of depth maps, thermal pictures and point clouds."""

import numpy as np

from codebind_hf.nine_senses.surfaces import (
    grain_relief,
    outline_radius,
    pixel_grid,
    profile_height,
    surface,
    to_picture,
)
from codebind_hf.nine_senses.world import KNOTS, SceneObject


SIZE = 32
NUM_POINTS = 256
_NUM_MARKER = 8
_NUM_OUTLIERS = 3
_NUM_CANDIDATES = 1024
_MARKER_DISTANCE = 1.1
# The objects of the depth camera are sculptures in a hall, so that they fill the usual range of 10 m.
_METRES_PER_UNIT = 3.4


def _blurred(picture: np.ndarray) -> np.ndarray:
    """A 3 x 3 binomial filter."""
    padded = np.pad(picture, 1, mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16


def _direction(turn: float) -> tuple[np.float32, np.float32]:
    return np.float32(np.cos(2 * np.pi * turn)), np.float32(np.sin(2 * np.pi * turn))


def render_depth(thing: SceneObject, private: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Depth in metres, whole millimetres as float32 `(32, 32)`.

    Private: direction in which the background tilts, distance of the camera.
    """
    levels = thing.difficulty
    x, y = pixel_grid(SIZE)
    seen = surface(thing, x, y, SIZE, relief=0.05)
    across, down = _direction(private[0])
    background = 4.8 + 3.0 * private[1] * levels.private + 0.6 * levels.private * (across * x + down * y)
    metres = background - _METRES_PER_UNIT * seen.height - 0.4 * seen.mask
    # As with time-of-flight cameras, the noise grows with the distance.
    metres = metres + 0.045 * levels.noise * metres * rng.standard_normal(metres.shape, dtype=np.float32)
    return (np.round(np.maximum(metres, 0.2) * 1000) / 1000).astype(np.float32)


def render_thermal(thing: SceneObject, private: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Thermal picture, uint8 `(32, 32)`. Private: ambient temperature, azimuth of a hot spot."""
    levels = thing.difficulty
    x, y = pixel_grid(SIZE)
    seen = surface(thing, x, y, SIZE)
    heat = np.interp(seen.rho, KNOTS, thing.body.heat).astype(np.float32)
    contrast = np.float32(0.34 * (1 + 0.45 * thing.factors[3]))
    ambient = 0.25 + 0.18 * levels.private * (private[0] - 0.5) * 2
    across, down = _direction(private[1])
    spot = np.exp(-((x - 0.55 * across) ** 2 + (y - 0.55 * down) ** 2) / 0.045)
    warmth = ambient + seen.mask * (0.1 + contrast * heat) + 0.25 * levels.private * spot
    warmth = _blurred(warmth.astype(np.float32))
    warmth = warmth + 0.045 * levels.noise * rng.standard_normal(warmth.shape, dtype=np.float32)
    return (np.clip(warmth, 0, 1) * 255 + 0.5).astype(np.uint8)


def _surface_points(thing: SceneObject, bias: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """`(count, 3)` points on the body, denser toward the azimuth `bias` (turns)."""
    draws = rng.random((2, _NUM_CANDIDATES))
    direction = np.exp(2j * np.pi * draws[0]).astype(np.complex64)
    hole = thing.body.hole
    rho = np.sqrt(hole**2 + (1 - hole**2) * draws[1]).astype(np.float32)
    radius = outline_radius(thing, direction)
    place = rho * radius * direction
    x, y = to_picture(thing, place)
    across, down = _direction(bias)
    side = (across * x + down * y) / thing.radius
    # Area of the piece of body behind each candidate, times how often the scanner looks there.
    weight = radius**2 * np.exp(0.7 * thing.difficulty.private * side)
    chance = np.cumsum(weight)
    picks = np.searchsorted(chance, (np.arange(count) + rng.random(count)) * (chance[-1] / count))
    picks = np.minimum(picks, _NUM_CANDIDATES - 1)
    z = profile_height(thing, rho) + 0.04 * grain_relief(thing, place, np.abs(place))
    return np.stack([x[picks], y[picks], 1.8 * z[picks]], -1)


def render_point_cloud(thing: SceneObject, private: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scan beside a marker at a fixed distance (so that size survives normalization), float32 `(256, 3)`.

    Private: side from which the scanner sees more.
    """
    levels = thing.difficulty
    body = _surface_points(thing, private[0], NUM_POINTS - _NUM_MARKER - _NUM_OUTLIERS, rng)
    marker = np.tile([*_direction(rng.random()), 0.0], (_NUM_MARKER, 1)) * _MARKER_DISTANCE
    outliers = rng.uniform(-1, 1, (_NUM_OUTLIERS, 3)) * [0.9, 0.9, 0.6] + [0, 0, 0.6]
    points = np.concatenate([body, marker, outliers])
    points = points + 0.015 * levels.noise * rng.standard_normal(points.shape)
    return points[rng.permutation(NUM_POINTS)].astype(np.float32)
