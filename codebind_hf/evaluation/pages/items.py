"""One item of any modality as a reader sees or hears it: a picture, a player, a map with its scale, curves, words."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image

from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.pages.media import (
    COLOR_MAPS,
    SIDE,
    colored,
    curves,
    picture_uri,
    recording_of,
    sound_uri,
)
from codebind_hf.processing.arrays import as_array, unmasked
from codebind_hf.processing.frames import Frames
from codebind_hf.processing.items import Item
from codebind_hf.processing.media import FEATURES, SUFFIXES, open_recording, read_media
from codebind_hf.processing.sources import is_decoder, is_source, kind_of, parts_of


_MOST_LETTERS = 400
_FRAMES, _MOST_CURVES, _MOST_POINTS = 4, 8, 20_000
_CLOUD = 96
# From the front, from the right, from above: which axes go across, up and towards the eye.
_VIEWS = ((0, 1, 2), (2, 1, 0), (0, 2, 1))


class _Read(NamedTuple):
    """What a value holds, and the unit that its wrapper names."""

    value: Any
    unit: str = ""


def item_html(modality: str, value: Any, name: str = "") -> Markup:
    """An item as HTML, everything in it escaped.

    Args:
        modality: of the item; of one that was added, its array is drawn as curves or as a map.
        value: what the processor accepts: a path, an array, a picture, a sound with its rate, words, a wrapper.
        name: what the item is called, for who cannot see it.

    Raises:
        ValueError: the value is none of this modality.
        OSError: its file cannot be read.
    """
    label = f"{pretty(modality)} {name}".strip()
    render = _RENDER.get(modality, _array_html)
    if modality not in _UNREAD:
        value = _Read(_read(modality, value), str(getattr(value, "unit", None) or ""))
        # What another network made of it: no picture any more.
        if isinstance(value.value, (np.ndarray, torch.Tensor)) and value.value.ndim == 1:
            render = _signal_html
    return Markup('<div class="item {}">{}</div>').format(_word(modality), render(modality, value, label))


def shown_item(modality: str, value: Any, name: str = "", on_error: str = "raise") -> Markup:
    """As `item_html`; with `on_error="skip"` an item that cannot be read is shown as the reason."""
    try:
        return item_html(modality, value, name)
    except (ValueError, OSError) as error:
        if on_error == "raise":
            raise
        return Markup('<div class="item broken">{}</div>').format(str(error))


def _text_html(modality: str, value: Any, label: str) -> Markup:
    words = value.value if isinstance(value, Item) else value
    text = " / ".join(map(str, words)) if isinstance(words, (list, tuple)) else str(words)
    return Markup("<blockquote>{}</blockquote>").format(
        text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} ..."
    )


def _picture_html(modality: str, read: _Read, label: str) -> Markup:
    picture = _picture(read.value, label)
    return _image(picture_uri(picture), label, is_small=max(picture.size) <= SIDE)


def _video_html(modality: str, read: _Read, label: str) -> Markup:
    frames = read.value["array"] if isinstance(read.value, Mapping) else read.value
    if not isinstance(frames, (Frames, list, tuple)):
        frames = as_array(frames, label)
        # A model's tensor has clips, frames and then channels.
        frames = frames.reshape(-1, *frames.shape[-3:])
    picks = np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round().astype(int)
    pictures = [_picture(frames[int(pick)], label) for pick in picks]
    for picture in pictures:
        picture.thumbnail((SIDE, SIDE))
    width, height = pictures[0].size
    strip = Image.new("RGB", (width * len(pictures), height))
    for place, picture in enumerate(pictures):
        strip.paste(picture.convert("RGB"), (place * width, 0))
    said = f"{label}, {len(pictures)} of {len(frames)} frames"
    return _image(picture_uri(strip, SIDE * len(pictures)), said, is_small=width <= SIDE, wide=True)


def _audio_html(modality: str, value: Any, label: str) -> Markup:
    raw = value.raw if isinstance(value, Item) else value
    if isinstance(raw, Mapping) and "array" in raw:
        recording = (
            open_recording(raw["array"])
            if is_source(raw["array"])
            else recording_of(as_array(raw["array"], label), int(raw["sampling_rate"]))
        )
    elif is_source(raw):
        found = read_media(modality, raw) if is_decoder(raw) else None
        recording = recording_of(found["array"], found["sampling_rate"]) if found else open_recording(raw)
    else:
        # Features, as a model takes them: nothing to listen to.
        return _array_html(modality, _Read(raw), label)
    address, samples, seconds = sound_uri(recording)
    player = Markup('<audio controls preload="none" aria-label="{}" src="{}"></audio>').format(label, address)
    return curves([samples], f"wave of {label}") + player + Markup("<small>{:.1f} s</small>").format(seconds)


def _map_html(modality: str, read: _Read, label: str) -> Markup:
    value = np.asarray(read.value) if isinstance(read.value, Image.Image) else unmasked(read.value)
    grid = as_array(value, label)
    if grid.ndim == 3 and grid.shape[-1] in (3, 4):
        return _picture_html(modality, read, label)
    grid = (grid[0] if grid.shape[0] == 1 else grid[..., 0]) if grid.ndim == 3 else grid
    return _scaled_map(grid.astype(np.float64), label, _UNITS.get(read.unit, ""), modality)


def _scaled_map(grid: np.ndarray, label: str, unit: str, modality: str) -> Markup:
    """A map and the colours of its numbers."""
    if grid.ndim != 2:
        raise ValueError(f"{label}: got shape {grid.shape}; a map has rows and columns.")
    finite = grid[np.isfinite(grid)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    colors = "inferno" if modality == "thermal" else "viridis"
    ends = [f"{end:.3g}{f' {unit}' if unit else ''}" for end in (low, high)]
    picture = colored(grid, low, high, colors)
    scale = Markup('<div class="scale"><span>{}</span><i style="background:{}"></i><span>{}</span></div>')
    stops = ",".join(f"#{color}" for color in COLOR_MAPS[colors].split())
    gradient = f"linear-gradient(90deg,{stops})"
    said = f"{label}, from {ends[0]} to {ends[1]}"
    return _image(picture_uri(picture), said, is_small=max(picture.size) <= SIDE) + scale.format(
        ends[0], gradient, ends[1]
    )


def _cloud_html(modality: str, read: _Read, label: str) -> Markup:
    points = as_array(read.value, label)
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"{label}: got shape {points.shape}; a point cloud has rows of x, y, z.")
    places = points[:: max(1, len(points) // _MOST_POINTS), :3].astype(np.float64)
    places = places[np.isfinite(places).all(axis=1)]
    if not len(places):
        raise ValueError(f"{label}: has no finite point.")
    places = places - np.median(places, axis=0)
    # A few stray points would make the others a speck; they stay, at the edge.
    reach = float(np.quantile(np.abs(places), 0.98)) * 1.1
    places = np.clip(places / max(reach, 1e-12), -1, 1)
    views = Image.fromarray(np.concatenate([_view(places, *axes) for axes in _VIEWS], axis=1))
    said = f"{label}, {len(points)} points from the front, the right and above"
    return _image(picture_uri(views, 3 * _CLOUD), said, is_small=False, wide=True)


def _view(places: np.ndarray, across: int, up: int, toward: int) -> np.ndarray:
    """Points as dots, near ones over far ones and lighter, on nothing: `(side, side, 4)`."""
    order = np.argsort(places[:, toward], kind="stable")
    columns, rows = (
        np.round((0.5 + sign * 0.45 * places[order, axis]) * (_CLOUD - 3)).astype(int)
        for sign, axis in ((1, across), (-1, up))
    )
    shades = np.asarray(colored(places[order, toward][None], -1.0, 1.0).convert("RGBA"))[0]
    picture = np.zeros((_CLOUD, _CLOUD, 4), dtype=np.uint8)
    for down, right in np.ndindex(3, 3):
        picture[rows + down, columns + right] = shades
    return picture


def _signal_html(modality: str, read: _Read, label: str) -> Markup:
    has_rate = isinstance(read.value, Mapping)
    rate = read.value.get("sampling_rate") if has_rate else None
    signal = np.atleast_2d(as_array(read.value["array"] if has_rate else read.value, label))
    if signal.ndim != 2:
        raise ValueError(f"{label}: got shape {signal.shape}; a recording has channels and time.")
    shown = np.nan_to_num(signal[:_MOST_CURVES].astype(np.float64))
    said = f"{len(shown)} of {len(signal)} channels" if len(signal) > len(shown) else f"{len(signal)} channels"
    length = f"{signal.shape[1] / rate:.2f} s" if rate else f"{signal.shape[1]} samples"
    return curves(list(shown), f"{label}, {said}") + Markup("<small>{}, {}</small>").format(said, length)


def _array_html(modality: str, read: _Read, label: str) -> Markup:
    """A modality that somebody added, or tensors of a model: curves, a picture or a map, as the shape says."""
    array = np.squeeze(as_array(read.value["array"] if isinstance(read.value, Mapping) else read.value, label))
    if array.ndim >= 3 and array.shape[-3] in (3, 4):
        return _picture_html(modality, _Read(array.reshape(-1, *array.shape[-3:])[0]), label)
    if array.ndim >= 3:
        array = array.reshape(-1, *array.shape[-2:])[0]
    if array.ndim < 2 or array.shape[0] <= _MOST_CURVES:
        return _signal_html(modality, _Read(array), label)
    # Low notes are below, as everywhere.
    return _scaled_map(array.astype(np.float64)[:: -1 if modality == "audio" else 1], label, "", modality)


def _read(modality: str, value: Any) -> Any:
    """What a file holds; everything else as it is."""
    raw = value.raw if isinstance(value, Item) else value
    options = {"channels": channels} if (channels := getattr(value, "channels", None)) else {}
    if isinstance(raw, Mapping) and is_source(raw.get("array")):
        found = read_media(modality, raw["array"], **options)
        return found if isinstance(found, Mapping) else {**raw, "array": found}
    if not is_source(raw):
        return raw
    if not is_decoder(raw) and not os.path.isdir(parts_of(raw)[0]):
        kind = kind_of(raw, SUFFIXES.get(modality, ()))
        if kind not in SUFFIXES.get(modality, (kind,)) and kind in SUFFIXES[FEATURES]:
            return read_media(FEATURES, raw)
    return read_media(modality, raw, **options)


def _picture(value: Any, label: str) -> Image.Image:
    """A picture of its own; numbers that are no levels are stretched from black to white."""
    if isinstance(value, Image.Image):
        return value.convert("RGB")
    array = as_array(value, label)
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if array.ndim not in (2, 3):
        raise ValueError(f"{label}: got shape {array.shape}; a picture has rows, columns and colours.")
    if array.dtype != np.uint8:
        array = array.astype(np.float64)
        low, high = (0.0, 1.0) if array.min() >= 0 and array.max() <= 1 else (array.min(), array.max())
        array = np.round(np.clip((array - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _image(address: str, label: str, is_small: bool, wide: bool = False) -> Markup:
    classes = " ".join([*(["small"] if is_small else []), *(["wide"] if wide else [])])
    return Markup('<img class="{}" src="{}" alt="{}">').format(classes, address, label)


def _word(modality: str) -> str:
    """A name of a modality as one of a style."""
    return "".join(letter if letter.isalnum() else "-" for letter in modality)


_UNITS = {
    "m": "m",
    "cm": "cm",
    "mm": "mm",
    "celsius": "°C",
    "kelvin": "K",
    "fahrenheit": "°F",
}
# Words are no file, and sounds are read piece by piece.
_UNREAD = ("text", "audio")
_RENDER: dict[str, Callable[[str, Any, str], Markup]] = {
    "text": _text_html,
    "image": _picture_html,
    "tactile": _picture_html,
    "video": _video_html,
    "audio": _audio_html,
    "depth": _map_html,
    "thermal": _map_html,
    "point_cloud": _cloud_html,
    "eeg": _signal_html,
    "imu": _signal_html,
}
