"""How does an object look and feel? Renderers of image, video and tactile, all 8-bit RGB."""

import numpy as np

from codebind_hf.nine_senses.surfaces import Surface, pixel_grid, surface
from codebind_hf.nine_senses.world import SceneObject


SIZE = 32
NUM_FRAMES = 4
_OVERSAMPLING = 2
# Share of colour, of mirror-like reflection and of the background shining through.
_SATURATION = np.array([0.62, 0.34, 0.5, 0.72])
_SPECULAR = np.array([0.05, 0.85, 0.6, 0.12])
_TRANSPARENCY = np.array([0.0, 0.0, 0.45, 0.0])
_BRIGHTNESS = np.array([0.78, 0.8, 0.9, 0.62])
_GROUND_TOP = np.array([0.93, 0.92, 0.90], dtype=np.float32)
_GROUND_BOTTOM = np.array([0.70, 0.72, 0.76], dtype=np.float32)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def hue_colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """HSV with `hue` in [0, 1) to RGB, `(3,)`."""
    ramp = np.abs(((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6) - 3) - 1
    return (value * (1 - saturation + saturation * np.clip(ramp, 0, 1))).astype(np.float32)


def slopes(height: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of a height field along x and y, per unit of the half width."""
    padded = np.pad(height, [(0, 0)] * (height.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    scale = np.float32(pixels / 4)
    along_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * scale
    along_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * scale
    return along_x, along_y


def _lit(height: np.ndarray, light: float, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse and mirror-like brightness under a light from azimuth `light` (radians), 40 degrees high."""
    along_x, along_y = slopes(height, pixels)
    length = np.sqrt(along_x**2 + along_y**2 + 1)
    across, up = np.float32(0.77), np.float32(0.64)
    side = -(along_x * np.float32(np.cos(light)) + along_y * np.float32(np.sin(light)))
    diffuse = np.maximum((across * side + up) / length, 0)
    # Halfway vector between the light and the camera above.
    half = np.maximum((0.43 * side + 0.9) / length, 0)
    return diffuse, half**24


def shade(thing: SceneObject, seen: Surface, hue: float, light: float, ground: np.ndarray) -> np.ndarray:
    """The object in front of `ground`, `(..., height, width, 3)`, with its shadow and outline.

    Args:
        ground: background colours, broadcastable to the result.
    """
    material = thing.material
    pixels = seen.mask.shape[-1]
    diffuse, mirror = _lit(seen.height, light, pixels)
    colour = hue_colour(hue, _SATURATION[material], _BRIGHTNESS[material])
    grain = (1 + 0.2 * seen.grain)[..., None]
    body = colour * grain * (0.3 + 0.95 * diffuse)[..., None]
    body = body + (_SPECULAR[material] * mirror)[..., None]
    through = np.float32(_TRANSPARENCY[material])
    if through:
        rim = np.clip(1 - seen.edge * (32 / pixels) / 2.5, 0, 1)[..., None]
        body = body * (1 - through) + ground * colour * through * 1.1 + 0.35 * rim
    # A thin dark line along the edge keeps pale bodies apart from the ground.
    line = np.clip(1.2 - np.abs(seen.edge * (32 / pixels) - 0.5), 0, 1)[..., None]
    body = body * (1 - 0.45 * line)
    mask = seen.mask[..., None]
    return ground * (1 - mask) + body * mask


def _shadow(mask: np.ndarray, light: float, thing: SceneObject) -> np.ndarray:
    """Shadow of a body, cast away from the light; darkness in [0, 1]."""
    pixels = mask.shape[-1]
    reach = 0.5 * thing.height * pixels / 2
    down, right = -round(float(np.sin(light)) * reach), -round(float(np.cos(light)) * reach)
    moved = _moved(mask, down, right)
    soft = moved + _moved(moved, 1, 0) + _moved(moved, -1, 0) + _moved(moved, 0, 1) + _moved(moved, 0, -1)
    return 0.08 * soft * (1 - 0.5 * _TRANSPARENCY[thing.material])


def _moved(picture: np.ndarray, down: int, right: int) -> np.ndarray:
    """`picture` shifted by whole pixels; what comes in is 0."""
    result = np.zeros_like(picture)
    height, width = picture.shape[-2:]
    rows = slice(max(down, 0), height + min(down, 0)), slice(max(-down, 0), height + min(-down, 0))
    columns = slice(max(right, 0), width + min(right, 0)), slice(max(-right, 0), width + min(-right, 0))
    result[..., rows[0], columns[0]] = picture[..., rows[1], columns[1]]
    return result


def _ground(pixels: int) -> np.ndarray:
    y = (pixel_grid(pixels)[1][..., None] + 1) / 2
    return _GROUND_TOP * (1 - y) + _GROUND_BOTTOM * y


def _pool(picture: np.ndarray) -> np.ndarray:
    """Mean over blocks of `_OVERSAMPLING` pixels."""
    height, width, channels = picture.shape
    blocks = picture.reshape(height // _OVERSAMPLING, _OVERSAMPLING, width // _OVERSAMPLING, _OVERSAMPLING, channels)
    return blocks.mean((1, 3))


def render_image(thing: SceneObject, private: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Picture, uint8 `(32, 32, 3)`. Private: hue of the body, azimuth of the light."""
    pixels = SIZE * _OVERSAMPLING
    light = float(2 * np.pi * private[1])
    x, y = pixel_grid(pixels)
    seen = surface(thing, x, y, pixels)
    ground = _ground(pixels) * (1 - _shadow(seen.mask, light, thing))[..., None]
    picture = _pool(shade(thing, seen, float(private[0]), light, ground))
    return _bytes(picture + _noise(rng, picture.shape, 0.02 * thing.difficulty.noise))


def render_video(thing: SceneObject, private: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Video, uint8 `(4, 32, 32, 3)`. Private: direction of the motion, hue of the body."""
    way, speed = 2 * np.pi * private[0], 0.02 + 0.065 * thing.difficulty.private
    time = (np.arange(NUM_FRAMES) - (NUM_FRAMES - 1) / 2).astype(np.float32)[:, None, None]
    x, y = pixel_grid(SIZE)
    seen = surface(thing, x - np.float32(speed * np.cos(way)) * time, y - np.float32(speed * np.sin(way)) * time, SIZE)
    light = thing.sensors.view - np.pi / 2
    ground = _ground(SIZE) * (1 - _shadow(seen.mask, light, thing))[..., None]
    film = shade(thing, seen, float(private[1]), light, ground)
    exposure = 1 + 0.06 * thing.difficulty.noise * rng.standard_normal()
    return _bytes(film * np.float32(exposure) + _noise(rng, film.shape, 0.07 * thing.difficulty.noise))


def render_tactile(thing: SceneObject, private: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Picture of a gel pressed onto the object, uint8 `(32, 32, 3)`. Private: waves of the gel, pressing direction."""
    sensors, levels = thing.sensors, thing.difficulty
    x, y = pixel_grid(SIZE)
    seen = surface(thing, x * np.float32(0.95), y * np.float32(0.95), SIZE, relief=0.06)
    along = x * np.float32(np.cos(sensors.gel_wave)) + y * np.float32(np.sin(sensors.gel_wave))
    frequency = 5.0 + 17.0 * private[0]
    wave = 0.3 * levels.private * np.cos(frequency * along) / frequency
    press = 2 * np.pi * private[1]
    tilt = 0.3 * levels.private * (x * np.float32(np.cos(press)) + y * np.float32(np.sin(press)))
    along_x, along_y = slopes(0.8 * seen.height + wave.astype(np.float32) + tilt.astype(np.float32), SIZE)
    length = np.sqrt(along_x**2 + along_y**2 + 1.5)
    lights = [(along_x * np.cos(a) + along_y * np.sin(a)) / length for a in sensors.gel_lights]
    touched = 0.25 * thing.height * seen.mask
    picture = 0.45 + 0.33 * np.stack(lights, -1) + touched[..., None]
    return _bytes(picture + _noise(rng, picture.shape, 0.06 * levels.noise))
