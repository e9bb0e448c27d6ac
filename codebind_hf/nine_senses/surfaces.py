"""Where is the body in a picture, and how high? The geometry that every seeing and touching modality shares.

Axes: pictures are `(..., height, width)`; x grows to the right, y downwards, both in [-1, 1].
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from codebind_hf.nine_senses.world import KNOTS, NUM_HARMONICS, SceneObject


@dataclass(frozen=True)
class Surface:
    """A body as a height field.

    Args:
        mask: share of the pixel that the body covers, in [0, 1].
        rho: distance from the centre as a share of the outline's.
        height: relief above the ground in units of the half width of a picture; 0 off the body.
        grain: relief of the material alone, about [-1, 1].
        edge: distance inside the nearest edge in pixels, negative outside.
    """

    mask: np.ndarray
    rho: np.ndarray
    height: np.ndarray
    grain: np.ndarray
    edge: np.ndarray


@lru_cache(maxsize=8)
def pixel_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixel centres, `(size, size)` each; not to be written to."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    grid = np.meshgrid(axis, axis)
    for plane in grid:
        plane.flags.writeable = False
    return grid[0], grid[1]


def outline_radius(thing: SceneObject, direction: np.ndarray) -> np.ndarray:
    """R(theta) for unit complex numbers `direction`."""
    coefficients = thing.body.outline.astype(np.float32)
    radius = np.ones(direction.shape, dtype=np.float32)
    power = direction
    for harmonic in range(NUM_HARMONICS):
        radius += coefficients[harmonic, 0] * power.real + coefficients[harmonic, 1] * power.imag
        if harmonic < NUM_HARMONICS - 1:
            power = power * direction
    return np.maximum(radius, 0.3)


def to_body(thing: SceneObject, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Picture coordinates -> complex coordinates of the unrotated, unstretched unit body; y is turned upwards."""
    cosine, sine = np.cos(thing.angle), np.sin(thing.angle)
    u = (cosine * x - sine * y) * np.float32(1 / (thing.radius * thing.stretch))
    v = (sine * x + cosine * y) * np.float32(thing.stretch / thing.radius)
    u = u / (1 + np.float32(thing.taper) * np.clip(v, -1.5, 1.5))
    # Upright shapes (the triangle's tip, the heart's point) lie on the vertical axis.
    return (-v - 1j * u).astype(np.complex64)


def to_picture(thing: SceneObject, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `to_body`."""
    v = -place.real
    u = -place.imag * (1 + thing.taper * np.clip(v, -1.5, 1.5)) * (thing.radius * thing.stretch)
    v = v * (thing.radius / thing.stretch)
    cosine, sine = np.cos(thing.angle), np.sin(thing.angle)
    return cosine * u + sine * v, -sine * u + cosine * v


def profile_height(thing: SceneObject, rho: np.ndarray) -> np.ndarray:
    """Relief of the profile, without grain, at the shares `rho` of the outline."""
    return np.interp(rho, KNOTS, thing.body.profile).astype(np.float32) * np.float32(thing.height)


def grain_relief(thing: SceneObject, place: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Grooves, turned rings and dots of the material at complex body coordinates."""
    grooves, rings, dots, frequency = (float(value) for value in thing.body.grain)
    across = np.cos(frequency * place.imag)
    relief = np.float32(grooves) * across + np.float32(dots) * across * np.cos(frequency * place.real)
    return relief + np.float32(rings) * np.cos(1.2 * frequency * length)


def surface(thing: SceneObject, x: np.ndarray, y: np.ndarray, pixels: int, relief: float = 0.04) -> Surface:
    """The body seen from above at the points `x`, `y` of a picture `pixels` wide.

    Args:
        relief: height of the grain.
    """
    place = to_body(thing, x, y)
    length = np.abs(place)
    radius = outline_radius(thing, place / np.maximum(length, 1e-6))
    rho = length / radius
    scale = radius * np.float32(thing.radius * pixels / 2)
    edge = (1 - rho) * scale
    if thing.body.hole > 0:
        edge = np.minimum(edge, (rho - np.float32(thing.body.hole)) * scale)
    mask = np.clip(edge + 0.5, 0, 1)
    grain = grain_relief(thing, place, length)
    height = mask * (profile_height(thing, rho) + np.float32(relief) * grain)
    return Surface(mask, rho, height, grain, edge)
