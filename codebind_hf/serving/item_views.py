"""What does an item look like? A picture, a player, a map with its scale, a cloud that turns, or traces, as HTML."""

from collections.abc import Callable
from typing import Any

import numpy as np

from codebind_hf.evaluation.figure_style import color_of, pretty
from codebind_hf.processing.arrays import as_array
from codebind_hf.processing.frames import Frames
from codebind_hf.processing.items import Item
from codebind_hf.processing.media import COLORED_POINTS, FEATURES, open_recording, read_media
from codebind_hf.processing.pictures import picture_or_grid
from codebind_hf.processing.recordings import ArrayRecording, Recording
from codebind_hf.processing.sources import is_source
from codebind_hf.serving import markup


_SECONDS = 10
_PLAYED_RATE = 16000
_CHANNELS = 16
_FPS = 8.0
_UNITS = {"m": "metres", "cm": "centimetres", "mm": "millimetres", None: "metres"}
COLORS = {"depth": "viridis", "thermal": "inferno", "audio": "magma"}


def item_view(modality: str, value: Any, part: Any = None, is_features: bool = False) -> str:
    """HTML of one item.

    Args:
        modality: its name.
        value: as in a row: text, the path of a file, `{"bytes", "path"}`, what such a file holds, or an `Item`.
        part: the processor of this modality, which knows the units of its values.
        is_features: whether it is what another network made, and not the thing itself.

    Raises:
        ValueError, OSError: as `read_media`, for what cannot be shown.
    """
    raw, options, rate = value, {}, None
    if isinstance(value, Item):
        raw, options, rate = value.value, value.options, getattr(value, "sampling_rate", None)
    if isinstance(raw, dict) and "array" in raw:
        raw, rate = raw["array"], raw.get("sampling_rate") or raw.get("fps")
    if modality == "text":
        words = raw if isinstance(raw, str) else raw[0]
        return f'<blockquote class="cb-large">{markup.text(words)}</blockquote>'
    view = _features if is_features else _VIEWS.get(modality, _array)
    return view(modality, raw, part, options, rate)


def _read(modality: str, raw: Any, **options: Any) -> Any:
    return read_media(modality, raw, **options) if is_source(raw) else raw


def _picture(modality: str, raw: Any, part: Any, options: dict[str, Any], rate: Any) -> str:
    found = picture_or_grid(_read(modality, raw), modality, 3)
    pixels = np.asarray(found.convert("RGB")) if hasattr(found, "convert") else _bytes_of(found)
    return markup.picture(pixels, pretty(modality))


def _bytes_of(grid: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] with channels first as uint8 `(height, width, 3)`."""
    levels = (np.clip(grid, 0, 1) * 255).round().astype(np.uint8)
    return np.broadcast_to(levels, (3, *levels.shape[1:])).transpose(1, 2, 0).copy()


def _film(modality: str, raw: Any, part: Any, options: dict[str, Any], rate: Any) -> str:
    found = _read(modality, raw)
    if isinstance(found, Frames):
        return markup.film(found, found.fps or _FPS, pretty(modality))  # type: ignore[arg-type]
    frames = as_array(found, modality)
    return markup.film([_frame(frame) for frame in frames], float(rate or _FPS), pretty(modality))


def _frame(frame: np.ndarray) -> np.ndarray:
    found = picture_or_grid(frame, "video", 3)
    return np.asarray(found.convert("RGB")) if hasattr(found, "convert") else _bytes_of(found)


def _sound(modality: str, raw: Any, part: Any, options: dict[str, Any], rate: Any) -> str:
    recording: Recording
    if is_source(raw):
        recording = open_recording(raw)
    else:
        samples = np.atleast_2d(as_array(raw, modality)).astype(np.float32)
        recording = ArrayRecording(samples, int(rate or _PLAYED_RATE))
    played = min(recording.rate, _PLAYED_RATE)
    samples = recording.at(played, 0, min(_SECONDS * played, recording.length_at(played))).mean(0)
    return markup.player(samples, played, pretty(modality), color_of(modality))


def _map(modality: str, raw: Any, part: Any, options: dict[str, Any], rate: Any) -> str:
    grid = as_array(_read(modality, raw), modality)
    levels = np.squeeze(grid)
    levels = levels if levels.ndim == 2 else levels.reshape(-1, *levels.shape[-2:])[0]
    unit = options.get(f"{modality}_unit", getattr(part, f"{modality}_unit", None))
    named = _unit_of(modality, unit, grid.dtype)
    finite = levels[np.isfinite(levels)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return markup.color_map(levels.astype(np.float64), pretty(modality), COLORS[modality], low, high, named)


def _unit_of(modality: str, unit: Any, dtype: np.dtype) -> str:
    if modality == "depth":
        return _UNITS.get(unit, str(unit)) if unit is None or isinstance(unit, str) else f"x {unit:g} metres"
    return unit if isinstance(unit, str) else "levels" if dtype.kind in "iu" else "as measured"


def _cloud(modality: str, raw: Any, part: Any, options: dict[str, Any], rate: Any) -> str:
    points = as_array(_read(COLORED_POINTS, raw), modality)
    return markup.cloud(points, pretty(modality), color_of(modality))


def _signal(modality: str, raw: Any, part: Any, options: dict[str, Any], rate: Any) -> str:
    names = options.get("channels")
    found = _read(modality, raw, **({"channels": names} if names and is_source(raw) else {}))
    if isinstance(found, dict):
        found, rate = found["array"], found["sampling_rate"]
    lines = np.atleast_2d(as_array(found, modality)).astype(np.float64)
    rate = rate or getattr(part, "sampling_rate", None)
    length = f"{lines.shape[-1] / rate:.2f} s" if rate else f"{lines.shape[-1]} samples"
    lines = lines.reshape(-1, lines.shape[-1])
    shown = f"{length}, {len(lines)} channels" + (f", {_CHANNELS} shown" if len(lines) > _CHANNELS else "")
    return markup.traces(lines[:_CHANNELS], pretty(modality), shown, color_of(modality))


def _array(modality: str, raw: Any, part: Any, options: dict[str, Any], rate: Any) -> str:
    """Of a modality that was added: lines where it has one or two axes, else its first grid."""
    values = as_array(_read(modality, raw), modality)
    if values.ndim <= 2:
        return _signal(modality, values, part, options, rate)
    return numbers_view(values.reshape(-1, *values.shape[-2:])[0], pretty(modality), "gray", "values")


def _features(modality: str, raw: Any, part: Any, options: dict[str, Any], rate: Any) -> str:
    values = np.atleast_2d(as_array(_read(FEATURES, raw), modality))
    label = f"{len(values)} vectors of {values.shape[-1]} numbers, {pretty(modality)} as another network sees it"
    return markup.traces(values[:4].astype(np.float64), label, label, color_of(modality))


def numbers_view(
    grid: np.ndarray, label: str, colors: str, unit: str, limits: tuple[float, float] | None = None
) -> str:
    """A grid of numbers in colours, from its lowest to its highest or between `limits`."""
    low, high = limits or (float(np.nanmin(grid)), float(np.nanmax(grid)))
    return markup.color_map(grid.astype(np.float64), label, colors, low, high, unit)


_VIEWS: dict[str, Callable[[str, Any, Any, dict[str, Any], Any], str]] = {
    "image": _picture,
    "tactile": _picture,
    "video": _film,
    "audio": _sound,
    "depth": _map,
    "thermal": _map,
    "point_cloud": _cloud,
    "eeg": _signal,
    "imu": _signal,
}
