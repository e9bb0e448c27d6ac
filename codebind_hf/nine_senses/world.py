"""What is an object of NineSenses? Its category, its instance factors and the latents that every modality renders.

A *world* is a draw of the class geometry (outlines, profiles, sounds, scalp responses) and of the sensors. An *object*
is a category of that world with jitter of its own and five continuous instance factors.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


SHAPES = ("ring", "triangle", "cross", "star", "heart")
MATERIALS = ("wooden", "steel", "glass", "rubber")
CLASS_NAMES = tuple(f"{material} {shape}" for shape in SHAPES for material in MATERIALS)
FACTORS = ("size", "aspect", "taper", "height", "pose")

# Knots along the radius at which the profile of a body (and its heat) is given.
KNOTS = np.array([0.0, 0.25, 0.5, 0.75, 1.0], dtype=np.float32)
NUM_HARMONICS = 6
NUM_PARTIALS = 6
NUM_STRIKES = 3
EEG_CHANNELS = 16
# Scalp components: one per shape, one per material, one per instance factor.
NUM_COMPONENTS = len(SHAPES) + len(MATERIALS) + len(FACTORS)

# Cosine coefficients of the outline R(theta) = 1 + sum_k c_k cos(k theta), harmonics 1..6.
_OUTLINES = np.array(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.26, 0.0, 0.0, 0.07],
        [0.0, 0.0, 0.0, 0.36, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.34, 0.0],
        [-0.2, -0.24, -0.26, 0.0, -0.08, 0.0],
    ]
)
_HOLES = np.array([0.48, 0.0, 0.0, 0.0, 0.0])
# Height along the radius: wood is carved to a point, steel stamped with a rim, glass blown hollow, rubber cast round.
_PROFILES = np.array(
    [
        [1.0, 0.72, 0.45, 0.25, 0.08],
        [0.3, 0.3, 0.32, 0.85, 0.95],
        [0.12, 0.45, 0.95, 0.6, 0.12],
        [0.95, 0.95, 0.88, 0.72, 0.4],
    ]
)
# How heat spreads in each material, along the radius.
_HEAT = np.array(
    [
        [1.0, 0.75, 0.35, 0.12, 0.05],
        [0.62, 0.62, 0.62, 0.62, 0.62],
        [0.1, 0.2, 0.45, 0.85, 1.0],
        [0.9, 0.35, 0.15, 0.55, 0.75],
    ]
)
# Weights of straight grooves, turned rings and dots in the relief; glass is smooth.
_GRAIN = np.array([[1.0, 0.0, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_REGISTER = np.array([-0.55, 0.75, 0.3, -1.0])
_DAMPING = np.array([13.0, 3.0, 6.0, 26.0])
_BRIGHTNESS = np.array([0.9, 0.25, 0.5, 1.4])


@dataclass(frozen=True)
class Difficulty:
    """How far apart the classes are.

    Args:
        jitter: spread of an object around its category, in units of the distances between categories.
        private: scale of what only one modality knows.
        noise: scale of the noise of every sensor.
    """

    jitter: float
    private: float
    noise: float


DIFFICULTIES = {
    "easy": Difficulty(jitter=0.5, private=0.7, noise=0.5),
    "default": Difficulty(jitter=1.0, private=1.0, noise=1.0),
    "hard": Difficulty(jitter=1.6, private=1.25, noise=1.7),
}


@dataclass(frozen=True)
class Category:
    """Everything that objects of one category have in common, before jitter.

    Args:
        outline: `(harmonics, 2)` cosine and sine coefficients of the outline.
        hole: radius of the hole as a share of the outline.
        profile: `(knots,)` height along the radius.
        heat: `(knots,)` temperature along the radius.
        grain: weights of grooves, rings and dots, then their frequency.
        ratios: `(partials,)` frequencies over the lowest one.
        timbre: log2 of the register, damping (1/s), decay of the partials' amplitudes.
        strikes: `(strikes,)` times of the bounces in seconds.
        response: `(components,)` amplitudes on the scalp; those of the instance factors are zero.
    """

    outline: np.ndarray
    hole: float
    profile: np.ndarray
    heat: np.ndarray
    grain: np.ndarray
    ratios: np.ndarray
    timbre: np.ndarray
    strikes: np.ndarray
    response: np.ndarray


@dataclass(frozen=True)
class Sensors:
    """The sensors of a world.

    Args:
        scalp_maps: `(components, channels)` unit maps.
        latencies, widths: `(components,)` in seconds.
        alpha_map: `(channels,)` where the ongoing oscillation is strongest.
        head_map: `(2, channels)` how subjects differ.
        gel_lights: `(3,)` azimuths of the coloured lights of the tactile sensor.
        gel_wave: azimuth of the waves of the gel.
        view: azimuth offset of the cameras.
    """

    scalp_maps: np.ndarray
    latencies: np.ndarray
    widths: np.ndarray
    alpha_map: np.ndarray
    head_map: np.ndarray
    gel_lights: np.ndarray
    gel_wave: float
    view: float


@dataclass(frozen=True)
class World:
    """One draw of class geometry and sensors."""

    seed: int
    categories: tuple[Category, ...]
    sensors: Sensors


@dataclass(frozen=True)
class SceneObject:
    """One object: its category with jitter, and its instance factors, each in [-1, 1]."""

    label: int
    material: int
    body: Category
    factors: np.ndarray
    sensors: Sensors
    difficulty: Difficulty

    @property
    def radius(self) -> float:
        """Mean radius, the half width of a picture being 1."""
        return 0.58 * (1.0 + 0.18 * float(self.factors[0]))

    @property
    def stretch(self) -> float:
        """Width over height is the square of this."""
        return math.exp(0.16 * float(self.factors[1]))

    @property
    def taper(self) -> float:
        """How much wider the body is at its lower end than at its upper end."""
        return 0.3 * float(self.factors[2])

    @property
    def height(self) -> float:
        """Height of the body in units of the half width of a picture."""
        return 0.42 * (1.0 + 0.5 * float(self.factors[3]))

    @property
    def angle(self) -> float:
        """Rotation in the plane, in radians."""
        return 0.3 * float(self.factors[4])


def random_generator(*key: int) -> np.random.Generator:
    """The generator of everything that is named by `key`; different keys give independent streams."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _draw_sensors(rng: np.random.Generator) -> Sensors:
    order = rng.permutation(NUM_COMPONENTS)
    latencies = (0.12 + 0.68 * np.arange(NUM_COMPONENTS) / (NUM_COMPONENTS - 1))[order]
    return Sensors(
        scalp_maps=_unit(rng.normal(size=(NUM_COMPONENTS, EEG_CHANNELS))).astype(np.float32),
        latencies=(latencies + rng.uniform(-0.01, 0.01, NUM_COMPONENTS)).astype(np.float32),
        widths=rng.uniform(0.035, 0.055, NUM_COMPONENTS).astype(np.float32),
        alpha_map=_unit(rng.normal(size=EEG_CHANNELS)).astype(np.float32),
        head_map=_unit(rng.normal(size=(2, EEG_CHANNELS))).astype(np.float32),
        gel_lights=(np.arange(3) * 2 * np.pi / 3 + rng.uniform(0, 2 * np.pi)).astype(np.float32),
        gel_wave=float(rng.uniform(0, np.pi)),
        view=float(rng.uniform(-0.3, 0.3)),
    )


@dataclass(frozen=True)
class _ShapeDraw:
    outline: np.ndarray
    hole: float
    ratios: np.ndarray
    strikes: np.ndarray
    response: np.ndarray


def _draw_shape(rng: np.random.Generator, index: int, rhythm: np.ndarray) -> _ShapeDraw:
    """Shape `index`, whose blows fall after the gaps `rhythm` (seconds)."""
    outline = rng.normal(0, 0.025, (NUM_HARMONICS, 2))
    outline[:, 0] += _OUTLINES[index]
    gaps = rng.uniform(0.35, 1.3, NUM_PARTIALS - 1)
    gaps[index % (NUM_PARTIALS - 1)] += 0.6
    response = rng.normal(0, 0.2, len(SHAPES))
    response[index] += 1.3
    return _ShapeDraw(
        outline=outline,
        hole=float(_HOLES[index] * rng.uniform(0.9, 1.1)),
        ratios=np.concatenate([[1.0], 1.0 + np.cumsum(gaps)]),
        strikes=0.04 + np.concatenate([[0.0], np.cumsum(rhythm)]),
        response=response,
    )


@dataclass(frozen=True)
class _MaterialDraw:
    profile: np.ndarray
    heat: np.ndarray
    grain: np.ndarray
    timbre: np.ndarray
    response: np.ndarray


def _draw_material(rng: np.random.Generator, index: int) -> _MaterialDraw:
    response = rng.normal(0, 0.2, len(MATERIALS))
    response[index] += 1.3
    timbre = [_REGISTER[index] + rng.normal(0, 0.08), _DAMPING[index] * rng.uniform(0.85, 1.2), _BRIGHTNESS[index]]
    return _MaterialDraw(
        profile=np.clip(_PROFILES[index] + rng.normal(0, 0.05, len(KNOTS)), 0.02, 1.2),
        heat=np.clip(_HEAT[index] + rng.normal(0, 0.05, len(KNOTS)), 0.0, 1.2),
        grain=np.concatenate([_GRAIN[index], [rng.uniform(8.5, 11.0)]]),
        timbre=np.array(timbre),
        response=response,
    )


def _category(rng: np.random.Generator, shape: _ShapeDraw, material: _MaterialDraw) -> Category:
    """Shape and material meet, with a little that belongs to this pair alone."""
    response = np.concatenate([shape.response, material.response, np.zeros(len(FACTORS))])
    return Category(
        outline=shape.outline + rng.normal(0, 0.015, shape.outline.shape),
        hole=shape.hole,
        profile=np.clip(material.profile + rng.normal(0, 0.03, len(KNOTS)), 0.02, 1.2),
        heat=np.clip(material.heat + rng.normal(0, 0.03, len(KNOTS)), 0.0, 1.2),
        grain=material.grain,
        ratios=shape.ratios * np.concatenate([[1.0], np.exp(rng.normal(0, 0.01, NUM_PARTIALS - 1))]),
        timbre=material.timbre,
        strikes=shape.strikes,
        response=response + rng.normal(0, 0.1, NUM_COMPONENTS) * (response != 0),
    )


@lru_cache(maxsize=64)
def draw_world(seed: int) -> World:
    """World number `seed`: its 20 categories and its sensors."""
    rng = random_generator(seed)
    sensors = _draw_sensors(rng)
    # Every shape bounces in a rhythm of its own.
    rhythms = 0.1 + 0.065 * np.stack([rng.permutation(len(SHAPES)) for _ in range(NUM_STRIKES - 1)], -1)
    shapes = [_draw_shape(rng, index, rhythms[index]) for index in range(len(SHAPES))]
    materials = [_draw_material(rng, index) for index in range(len(MATERIALS))]
    categories = [_category(rng, shape, material) for shape in shapes for material in materials]
    return World(seed, tuple(categories), sensors)


def _jittered(rng: np.random.Generator, category: Category, jitter: float) -> Category:
    """One object's own version of its category. The number of draws does not depend on the category."""

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, jitter, shape)

    num_semantic = len(SHAPES) + len(MATERIALS)
    hole = float(np.clip(category.hole + 0.05 * draw(1)[0], 0.2, 0.7))
    timbre = np.array([0.08, 0.2 * category.timbre[1], 0.15]) * np.clip(draw(3), -2.5, 2.5)
    return Category(
        outline=category.outline + 0.03 * draw(NUM_HARMONICS, 2),
        hole=hole if category.hole else 0.0,
        profile=np.clip(category.profile + 0.12 * draw(len(KNOTS)), 0.02, 1.3),
        heat=np.clip(category.heat + 0.14 * draw(len(KNOTS)), 0.0, 1.3),
        # An object of one material may be worked a little like another: glass with grooves, wood with dots.
        grain=category.grain + np.concatenate([0.22 * np.abs(draw(3)), 0.6 * draw(1)]),
        ratios=category.ratios * np.exp(0.02 * np.concatenate([[0.0], draw(NUM_PARTIALS - 1)])),
        timbre=category.timbre + timbre,
        strikes=category.strikes + 0.015 * np.concatenate([[0.0], draw(NUM_STRIKES - 1)]),
        response=category.response + 0.3 * np.concatenate([draw(num_semantic), np.zeros(len(FACTORS))]),
    )


def draw_object(world: World, label: int, number: int, difficulty: Difficulty) -> SceneObject:
    """Object `number` of a world, of category `label`: the same bits whatever else is drawn."""
    rng = random_generator(world.seed, number)
    factors = rng.uniform(-1.0, 1.0, len(FACTORS))
    body = _jittered(rng, world.categories[label], difficulty.jitter)
    return SceneObject(label, label % len(MATERIALS), body, factors, world.sensors, difficulty)
