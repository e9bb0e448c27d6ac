"""Pictures, sounds and curves as text in a page: nothing is loaded from elsewhere, nothing needs matplotlib."""

import base64
import io
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image, features

from codebind_hf.processing.recordings import ArrayRecording, Recording


# Larger pictures are made smaller; smaller ones keep their pixels, and the page makes them larger.
SIDE = 160
MOST_SECONDS = 5.0
_HIGHEST_RATE = 16_000
_SMALL = 64
# Edges of letters and curves have some thousands; photographs have more.
_MOST_COLORS = 20_000
_CURVE_WIDTH, _CURVE_HEIGHT = 200, 60
# Nine places of the colour maps called viridis and inferno, by Smith, van der Walt and Firing (CC0).
COLOR_MAPS = {
    "viridis": "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725",
    "inferno": "000004 1f0c48 550f6d 88226a ba3655 e35933 f98e09 f9cb35 fcffa4",
}


def data_uri(kind: str, content: bytes) -> str:
    """Content as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def file_uri(file: Path) -> str:
    """A picture in a file as an address that holds it: drawings exactly, those with photographs nearly."""
    with Image.open(file) as picture:
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    if not features.check("webp"):
        return _saved(flat, "PNG", optimize=True)
    is_drawing = flat.getcolors(_MOST_COLORS) is not None
    return _saved(flat, "WEBP", **({"lossless": True} if is_drawing else {"quality": 88}))


def picture_uri(picture: Image.Image, side: int = SIDE) -> str:
    """A picture, made smaller where it is larger than `side`."""
    shown = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")
    if max(shown.size) > side:
        shown = shown.copy()
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    if shown.mode == "RGBA" or max(shown.size) <= _SMALL:
        return _saved(shown, "PNG", optimize=True)
    return _saved(shown, "JPEG", quality=85)


def colored(values: np.ndarray, low: float, high: float, name: str = "viridis") -> Image.Image:
    """Numbers `(height, width)` as colours between `low` and `high`; what is not finite is transparent."""
    finite = np.isfinite(values)
    unit = np.clip((np.where(finite, values, low) - low) / max(high - low, 1e-12), 0, 1)
    anchors = np.array([list(bytes.fromhex(color)) for color in COLOR_MAPS[name].split()], dtype=np.float64)
    places = np.linspace(0, 1, len(anchors))
    channels = [np.interp(unit, places, anchors[:, channel]) for channel in range(3)]
    colors = np.stack([*channels, np.where(finite, 255, 0)], axis=-1)
    picture = Image.fromarray(np.round(colors).astype(np.uint8))
    return picture.convert("RGB") if finite.all() else picture


def sound_uri(recording: Recording) -> tuple[str, np.ndarray, float]:
    """The first seconds of a sound as a WAV of one channel and 16 bits; its samples; and its seconds in all."""
    rate = min(recording.rate, _HIGHEST_RATE)
    stop = min(recording.length_at(rate), int(MOST_SECONDS * rate))
    samples = recording.at(rate, 0, stop).mean(axis=0)
    # What is louder than a file can hold is made softer, not cut.
    loudest = max(1.0, float(np.abs(samples).max(initial=0.0)))
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples / loudest * 32767).astype("<i2").tobytes())
    return data_uri("audio/wav", stream.getvalue()), samples, recording.seconds


def recording_of(samples: np.ndarray, rate: int) -> ArrayRecording:
    """Samples `(time,)` or `(channels, time)`, integers of full scale or floats, as a recording."""
    array = samples / np.iinfo(samples.dtype).max if samples.dtype.kind in "iu" else samples
    return ArrayRecording(np.atleast_2d(array).astype(np.float32), rate)


def curves(lines: Sequence[np.ndarray], label: str) -> Markup:
    """Lines below each other, on one scale, in the colour of the text."""
    step = _CURVE_HEIGHT if len(lines) == 1 else _CURVE_HEIGHT * 2 / len(lines)
    reach = max(max(float(np.ptp(line)) for line in lines), 1e-12)
    drawn = []
    for place, line in enumerate(lines):
        middle = (float(np.max(line)) + float(np.min(line))) / 2
        heights = (place + 0.5) * step - (_thinned(np.asarray(line, dtype=np.float64)) - middle) / reach * step * 0.95
        across = np.linspace(0, _CURVE_WIDTH, len(heights))
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, heights, strict=True))
        drawn.append(Markup('<polyline points="{}"/>').format(points))
    start = Markup(
        '<svg class="curves" role="img" aria-label="{}" viewBox="0 0 {} {:.0f}" preserveAspectRatio="none">'
    )
    return start.format(label, _CURVE_WIDTH, step * len(lines)) + Markup("").join(drawn) + Markup("</svg>")


def _thinned(line: np.ndarray) -> np.ndarray:
    """At most two numbers a place of the picture: the least and the largest of what lies there."""
    if len(line) <= 2 * _CURVE_WIDTH:
        return line
    pieces = np.array_split(line, _CURVE_WIDTH)
    return np.array([end for piece in pieces for end in (piece.min(), piece.max())])


def _saved(picture: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return data_uri(f"image/{kind.lower()}", stream.getvalue())
