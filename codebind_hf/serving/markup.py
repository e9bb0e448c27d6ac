"""How does a page show one thing? HTML that needs no network: data in addresses, lines as SVG, colours of the page.

Every function gives a string. What comes from files or people is escaped. The look is in `page.css`, and what moves
(clouds, the map) are the elements of `page.js`.
"""

import base64
import io
import wave
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from codebind_hf.processing.foreign_files import optional


_SIDE = 320
# A picture that is smaller than this is shown pixel by pixel, as the model sees it.
_SMALL = 96
_POINTS = 2048
_LINE = 480
_FILM_SIDE = 192
_FILM_FRAMES = 96


def text(value: Any) -> str:
    """Any value as text of a page."""
    return escape(str(value), quote=True)


def data_address(content: bytes, kind: str) -> str:
    """Bytes as an address that needs no server."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def note(message: str, kind: str = "note") -> str:
    """A sentence in a box; `kind` is "note" or "error", which screen readers announce."""
    role = "alert" if kind == "error" else "status"
    return f'<div class="cb-note cb-{kind}" role="{role}">{text(message)}</div>'


def picture(pixels: np.ndarray, label: str) -> str:
    """uint8 `(height, width, 3)` or `(height, width)`, no larger than a card."""
    image = Image.fromarray(pixels)
    is_small = max(image.size) < _SMALL
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "PNG" if is_small else "WEBP")
    address = data_address(stream.getvalue(), "image/png" if is_small else "image/webp")
    return f'<img class="cb-picture{" cb-small" if is_small else ""}" src="{address}" alt="{text(label)}">'


def color_map(grid: np.ndarray, label: str, colors: str, low: float, high: float, unit: str) -> str:
    """A map of numbers `(height, width)` in colours, above a bar that says which colour is which number."""
    from matplotlib import colormaps

    share = np.clip((grid - low) / max(high - low, 1e-12), 0, 1)
    pixels = (colormaps[colors](share)[..., :3] * 255).round().astype(np.uint8)
    stops = ",".join(
        "#" + "".join(f"{round(255 * value):02x}" for value in colormaps[colors](place)[:3])
        for place in np.linspace(0, 1, 9)
    )
    ends = f"<span>{low:.3g}</span><span>{text(unit)}</span><span>{high:.3g}</span>"
    bar = f'<div class="cb-scale" style="background:linear-gradient(90deg,{stops})"></div>'
    return f'{picture(pixels, label)}{bar}<div class="cb-ends">{ends}</div>'


def traces(lines: np.ndarray, label: str, axis: str, color: str, names: Sequence[str] = ()) -> str:
    """Lines `(channels, time)` one below the other, each at the same scale; `axis` names what runs to the right."""
    step = max(float(np.nanmax(np.ptp(lines, axis=1))), 1e-12)
    height = 26.0 if len(lines) > 1 else 90.0
    paths = []
    for channel, line in enumerate(lines):
        middle = (float(line.max()) + float(line.min())) / 2
        across, up = _shortened(line)
        places = " ".join(
            f"{x:.1f},{height * (channel + 0.5) - (value - middle) / step * height * 0.92:.1f}"
            for x, value in zip(across, up, strict=True)
        )
        paths.append(f'<polyline points="{places}"/>')
        if names:
            paths.append(f'<text x="3" y="{height * channel + 9:.0f}">{text(names[channel])}</text>')
    box = f"0 0 {_LINE} {height * len(lines):.0f}"
    return (
        f'<svg class="cb-traces" viewBox="{box}" role="img" aria-label="{text(label)}" style="--line:{color}">'
        f'{"".join(paths)}</svg><div class="cb-ends"><span>{text(axis)}</span></div>'
    )


def _shortened(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of a line; of more values than the picture has columns, lowest and highest of each."""
    if len(line) <= 2 * _LINE:
        return np.linspace(0, _LINE, len(line)), line
    pieces = np.array_split(line, _LINE)
    return np.repeat(np.arange(_LINE) + 0.5, 2), np.array([end for each in pieces for end in (each.min(), each.max())])


def player(samples: np.ndarray, rate: int, label: str, color: str) -> str:
    """A sound `(time,)` of floats with its wave above the controls."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(rate)
        target.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    drawn = traces(samples[None], f"wave of {label}", f"{len(samples) / rate:.2f} s", color)
    address = data_address(stream.getvalue(), "audio/wav")
    return f'{drawn}<audio controls preload="metadata" src="{address}" aria-label="{text(label)}"></audio>'


def film(frames: Sequence[np.ndarray] | np.ndarray, fps: float, label: str) -> str:
    """uint8 frames `(height, width, 3)` as a player that repeats."""
    av = optional("av", "demo", "films in the page")
    stream = io.BytesIO()
    size = np.array(Image.fromarray(frames[0]).size)
    # Films have an even number of rows and columns; small ones are enlarged, so that the controls fit.
    width, height = (2 * np.maximum(1, np.round(size * _FILM_SIDE / size.max() / 2))).astype(int).tolist()
    with av.open(stream, "w", format="mp4") as container:
        track = container.add_stream("libx264", rate=max(1, round(fps)), options={"crf": "20"})
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        for index in range(min(len(frames), _FILM_FRAMES)):
            resized = Image.fromarray(frames[index]).resize((width, height), Image.Resampling.NEAREST)
            container.mux(track.encode(av.VideoFrame.from_image(resized)))
        container.mux(track.encode())
    address = data_address(stream.getvalue(), "video/mp4")
    return f'<video controls loop muted playsinline preload="auto" src="{address}" aria-label="{text(label)}"></video>'


def cloud(points: np.ndarray, label: str, color: str) -> str:
    """Points `(points, 3 or 6)` that turn by pointer and by arrow keys; colours lie in [0, 1] or [0, 255]."""
    chosen = np.linspace(0, len(points) - 1, min(len(points), _POINTS)).astype(int)
    points = np.asarray(points, dtype=np.float64)[chosen]
    places = points[:, :3] - (points[:, :3].max(0) + points[:, :3].min(0)) / 2
    places = np.round(places / max(float(np.linalg.norm(places, axis=1).max()), 1e-12) * 32767).astype("<i2")
    colors = ""
    if points.shape[1] >= 6:
        scale = 255.0 if points[:, 3:6].max() <= 1 else 1.0
        levels = np.clip(points[:, 3:6] * scale, 0, 255).astype(np.uint8)
        colors = f' data-colors="{base64.b64encode(levels.tobytes()).decode("ascii")}"'
    encoded = base64.b64encode(places.tobytes()).decode("ascii")
    spoken = f"{label}, {len(points)} points; arrow keys turn it"
    held = f'data-points="{encoded}"{colors} data-color="{color}"'
    return f'<cb-cloud tabindex="0" role="img" aria-label="{text(spoken)}" {held}></cb-cloud>'


def card(body: str, title: str = "", marks: Iterable[str] = (), value: str = "") -> str:
    """One item: what it looks like, what it is called, a number, and marks such as "same object"."""
    badges = "".join(f'<span class="cb-mark">{text(mark)}</span>' for mark in marks)
    number = f'<span class="cb-number">{text(value)}</span>' if value else ""
    words = f"<span>{text(title)}</span>" if title else ""
    caption = f"<figcaption>{words}{number}{badges}</figcaption>" if words or number or badges else ""
    return f'<figure class="cb-card">{body}{caption}</figure>'


def shelf(title: str, cards: Iterable[str], color: str = "", hint: str = "") -> str:
    """Cards side by side below a heading, as many as the width of the page has room for."""
    mark = f'<i class="cb-dot" style="background:{color}"></i>' if color else ""
    more = f"<small>{text(hint)}</small>" if hint else ""
    heading = f"<h3>{mark}{text(title)}{more}</h3>"
    return f'<section class="cb-shelf">{heading}<div class="cb-cards">{"".join(cards)}</div></section>'


def bars(rows: Iterable[tuple[str, float, str]], caption: str) -> str:
    """Named shares in [0, 1] as bars, each with a number beside it."""
    lines = "".join(
        f'<tr><th scope="row">{text(name)}</th><td><div class="cb-bar" style="width:{100 * share:.1f}%"></div></td>'
        f'<td class="cb-number">{text(number)}</td></tr>'
        for name, share, number in rows
    )
    return f'<table class="cb-bars"><caption>{text(caption)}</caption><tbody>{lines}</tbody></table>'
