"""What the compact reference values are differences to: numbers that can be computed again from a few others.

Every function is a plain account of its own of what a reference program did. It imports nothing of the package, so
that an error of the package cannot hide in an expected value. A guess need not be exact: the stored difference leads
from it to the true value. It must only be the same on every machine, so all of it is elementwise arithmetic in a fixed
order.
"""

from functools import cache
from typing import Any

import numpy as np


Array = np.ndarray
F32 = np.float32
BLOCK = 16
LOG_2 = 0.6931471805599453


@cache
def _stream(seed: int, size: int) -> Array:
    """The lowest 24 bits of the first numbers of the Mersenne Twister that PyTorch has on a CPU."""
    return np.random.RandomState(seed).randint(0, 1 << 32, size=size, dtype=np.uint32) & 0xFFFFFF


def stream(seed: int, stop: int) -> Array:
    """At least `stop` numbers; a few lengths only, so that they are drawn once."""
    return _stream(seed, 1 << max(20, (stop - 1).bit_length()))


def _log(x: Array) -> Array:
    """The logarithm by its series: numpy's own has other last bits on other processors."""
    fraction, exponent = np.frexp(x)
    z = (fraction - 1) / (fraction + 1)
    total, power = np.zeros_like(z), 2 * z
    for odd in range(1, 34, 2):
        total, power = total + power / odd, power * (z * z)
    return total + exponent * LOG_2


def _sin(x: Array) -> Array:
    """The sine by its series, for the same reason."""
    x = x - 2 * np.pi * np.rint(x / (2 * np.pi))
    total, term = np.zeros_like(x), x
    for odd in range(1, 28, 2):
        total, term = total + term, -term * (x * x) / ((odd + 1) * (odd + 2))
    return total


def normals(raw: Array) -> Array:
    """Normal numbers of whole blocks of 16, as `torch.randn` makes them in float32, up to the last bits."""
    first, second = raw.reshape(-1, 2, 8).astype(np.float64).swapaxes(0, 1) / (1 << 24)
    radius = np.sqrt(F32(-2) * _log(1 - first).astype(F32))
    angle = (F32(2 * np.pi) * second.astype(F32)).astype(np.float64)
    parts = [_sin(angle + np.pi / 2), _sin(angle)]
    return np.stack([radius * part.astype(F32) for part in parts], axis=1).reshape(-1)


def drawn(seed: int, start: int, count: int) -> Array:
    """`torch.randn(count)` when `start` numbers of the generator are used up; `count` is at least 16."""
    whole = count // BLOCK * BLOCK
    raw = stream(seed, start + count + BLOCK)
    if whole == count:
        return normals(raw[start : start + count])
    # Of a count that 16 does not divide, the last 16 numbers are drawn anew.
    values = np.empty(count, F32)
    values[:whole] = normals(raw[start : start + whole])
    values[-BLOCK:] = normals(raw[start + count : start + count + BLOCK])
    return values


def used(count: int) -> int:
    """How many numbers of the generator `count` normal numbers use up."""
    return count if count % BLOCK == 0 else count + BLOCK


def weights(shape: list[int], seed: int, start: int, std: float, mean: float = 0.0) -> Array:
    """A random parameter."""
    values = drawn(seed, start, int(np.prod(shape))) * F32(std)
    return (values + F32(mean) if mean else values).reshape(shape)


def scene(
    shape: list[int],
    seed: int,
    start: int,
    grid: list[int],
    kind: str,
    smooth: float,
    noise: float,
    tail: list | None = None,
) -> Array:
    """A random input: coarse noise enlarged to the last two axes, plus fine noise.

    Args:
        grid: height and width of the coarse noise; a height of 1 is for signals, which have one axis.
        tail: sample, row and value: of that sample everything from that row on has that value.
    """
    planes = int(np.prod(shape[:-2] if grid[0] > 1 else shape[:-1]))
    cells = planes * grid[0] * grid[1]
    coarse = drawn(seed, start, cells).reshape(planes, *grid).astype(np.float64)
    fine = drawn(seed, start + used(cells), int(np.prod(shape)))
    large = resize(coarse, shape[-2:] if grid[0] > 1 else [1, shape[-1]], kind).astype(F32).reshape(shape)
    values = F32(smooth) * large + F32(noise) * fine.reshape(shape)
    if tail is not None:
        values[tail[0], ..., tail[1] :, :] = F32(tail[2])
    return values


def waves(shape: list[int], seed: int, count: int, highest: float, height: float, noise: float) -> Array:
    """A random recording: `count` sines per channel, of uniform frequencies and phases, plus noise."""
    channels, length = int(np.prod(shape[:-1])), shape[-1]
    cells = 2 * channels * count
    uniform = (stream(seed, cells)[:cells] / (1 << 24)).astype(F32).reshape(2, channels, count, 1)
    steps, step = np.arange(length).astype(F32), F32(1) / F32(length - 1)
    time = np.where(steps < length // 2, step * steps, F32(1) - step * (F32(length - 1) - steps))
    # The phases are of a rounded circle.
    angles = F32(2 * np.pi) * (uniform[0] * F32(highest)) * time + uniform[1] * F32(6.28)
    sines = _sin(angles.astype(np.float64)).astype(F32)
    total = F32(height) * sum(sines[:, number] for number in range(count))
    return total.reshape(shape) + F32(noise) * drawn(seed, cells, int(np.prod(shape))).reshape(shape)


# Resizing


def _cubic(x: Array, a: float) -> Array:
    x, a = np.abs(x), F32(a)
    near = ((a + F32(2)) * x - (a + F32(3))) * x * x + F32(1)
    far = ((a * x - F32(5) * a) * x + F32(8) * a) * x - F32(4) * a
    return np.where(x <= 1, near, np.where(x < 2, far, F32(0)))


def _taps(size: int, target: int, kind: str) -> tuple[Array, Array]:
    """Which samples, `(target, taps)`, and how much of each, in the float32 steps of PyTorch.

    Args:
        kind: `linear` or `cubic`, with `-aa` for antialiasing, or `corners`: linear with the corners aligned.
    """
    steps, scale = np.arange(target).astype(F32), F32(size) / F32(target)
    if kind.endswith("-aa"):
        reach = F32(1 if kind == "linear-aa" else 2) * np.maximum(scale, F32(1))
        centres = scale * (steps + F32(0.5))
        first = np.maximum((centres - reach + F32(0.5)).astype(int), 0)
        stop = np.minimum((centres + reach + F32(0.5)).astype(int), size)
        index = first[:, None] + np.arange((stop - first).max())
        x = (index.astype(F32) - centres[:, None] + F32(0.5)) * (F32(1) / np.maximum(scale, F32(1)))
        weight = np.maximum(F32(0), F32(1) - np.abs(x)) if kind == "linear-aa" else _cubic(x, -0.5)
        weight = np.where(index < stop[:, None], weight, F32(0))
        weight = weight / sum(weight[:, tap] for tap in range(weight.shape[1]))[:, None]
    else:
        places = scale * (steps + F32(0.5)) - F32(0.5)
        if kind == "corners":
            places = steps * (F32(size - 1) / F32(max(target - 1, 1)))
        elif kind == "linear":
            places = np.maximum(places, F32(0))
        first = np.floor(places)
        part = (places - first)[:, None]
        offsets = np.arange(-1, 3) if kind == "cubic" else np.arange(2)
        weight = _cubic(part - offsets.astype(F32), -0.75) if kind == "cubic" else np.hstack([F32(1) - part, part])
        index = first.astype(int)[:, None] + offsets
    return np.clip(index, 0, size - 1), weight.astype(np.float64)


def _along(values: Array, axis: int, target: int, kind: str) -> Array:
    index, weight = _taps(values.shape[axis], target, kind)
    values = np.moveaxis(values, axis, -1)
    return np.moveaxis(sum(values[..., index[:, tap]] * weight[:, tap] for tap in range(weight.shape[1])), -1, axis)


def resize(values: Array, size: list[int], kind: str, round_between: bool = False) -> Array:
    """The last two axes of float64 values, width first."""
    wide = _along(values, -1, size[1], kind)
    return _along(np.clip(np.rint(wide), 0, 255) if round_between else wide, -2, size[0], kind)


def normalized(values: Array, mean: Any, std: Any) -> Array:
    """`(values - mean) / std` in float32, by channel."""
    mean, std = (np.asarray(x, F32).reshape(-1, 1, 1) for x in (mean, std))
    return (values.astype(F32) - mean) / std


def picture(
    shape: list[int],
    source: Array,
    steps: list[list],
    size: list[int] | None = None,
    kind: str = "",
    crop: list[int] | None = None,
    mean: Any = None,
    std: Any = None,
) -> Array:
    """A picture, map or spectrogram, `(..., height, width)`, resized, cropped and normalized.

    Args:
        steps: what happens to the values first: `divide` by, `clip` to, `over`: divide another number by them,
            `mean` over an axis.
        crop: top and left; height and width are those of `shape`.
        mean: of the normalization; without it, the picture has whole levels and its channels come last.
    """
    levels = mean is None and not steps
    values = source.astype(F32)
    for name, *numbers in steps:
        match name:
            case "divide":
                values = values / F32(numbers[0])
            case "clip":
                values = np.clip(values, F32(numbers[0]), F32(numbers[1]))
            case "over":
                values = F32(numbers[0]) / values
            case "mean":
                values = values.mean(numbers[0])
    values = values.astype(np.float64)
    if size is not None:
        values = resize(values, size, kind, round_between=levels)
    if levels:
        values = np.moveaxis(np.clip(np.rint(values), 0, 255), -3, -1)
        height, width = shape[:2]
        top, left = crop or (0, 0)
        return values[top : top + height, left : left + width]
    top, left = crop or (0, 0)
    values = values[..., top : top + shape[-2], left : left + shape[-1]]
    values = values.astype(F32) if mean is None else normalized(values, mean, std)
    # A still picture is repeated over the frames of a tubelet.
    return values.reshape(shape) if values.size == np.prod(shape) else np.repeat(values[:, :, None], shape[2], 2)


def clips(
    shape: list[int],
    frames: Array,
    chosen: list[list[int]],
    size: list[int],
    crops: list[list[int]],
    stride: int,
    mean: Any,
    std: Any,
) -> Array:
    """A video `(frames, height, width, 3)` as clips of chosen frames, every clip cut in several places."""
    values = frames.astype(F32) / F32(255)
    resized = normalized(resize(np.moveaxis(values, -1, 1).astype(np.float64), size, "linear"), mean, std)
    cuts = [resized[..., y : y + 224 : stride, x : x + 224 : stride] for y, x in crops]
    return np.stack([np.moveaxis(cut[numbers], 0, 1) for numbers in chosen for cut in cuts]).reshape(shape)


def interpolated(shape: list[int], source: Array, start: int, stop: int) -> Array:
    """A recording `(channels, samples)`, cut and then stretched so that the ends stay the ends."""
    values = source[:, start:stop].astype(np.float64)
    old, new = (np.linspace(0, 1, count) for count in (values.shape[1], shape[1]))
    left = np.clip(np.searchsorted(old, new, side="right") - 1, 0, len(old) - 2)
    slope = (values[:, left + 1] - values[:, left]) / (old[left + 1] - old[left])
    return slope * (new - old[left]) + values[:, left]


def resampled(shape: list[int], source: Array, rate: int, target: int) -> Array:
    """A sound `(channels, samples)` of 16-bit levels at another rate, by a windowed sinc of width 6."""
    common = np.gcd(rate, target)
    rate, target = rate // common, target // common
    base = min(rate, target) * 0.99
    width = int(np.ceil(6 * rate / base))
    index, phases = np.arange(-width, width + rate).astype(F32), np.arange(target).astype(F32)[:, None]
    time = np.clip((index / F32(rate) - phases / F32(target)) * F32(base), F32(-6), F32(6))
    half = (time * F32(np.pi) / F32(6) / F32(2)).astype(np.float64)
    window = _sin(half + np.pi / 2).astype(F32) ** 2
    time = time * F32(np.pi)
    sinc = np.where(time == 0, F32(1), _sin(time.astype(np.float64)).astype(F32) / np.where(time == 0, F32(1), time))
    kernel = (sinc * (window * F32(base / rate))).astype(np.float64)
    padded = np.pad(source / 32768, [(0, 0), (width, width + rate)])
    places = np.arange(-(-shape[1] // target)) * rate
    total = np.zeros((len(source), len(places), target))
    for tap in range(kernel.shape[1]):
        total += padded[:, places + tap, None] * kernel[:, tap]
    return total.reshape(len(source), -1)[:, : shape[1]]


def product(shape: list[int], tokens: Array, weight: Array) -> Array:
    """Tokens `(batch, tokens, width)` times `(width, ...)`, the sum in a fixed order."""
    tokens, flat = tokens.astype(np.float64), weight.reshape(len(weight), -1).astype(np.float64)
    total = np.zeros((*tokens.shape[:2], flat.shape[1]))
    for place in range(len(flat)):
        total += tokens[..., place, None] * flat[place]
    return total


def patched(
    shape: list[int], source: Array, weight: Array, size: int, stride: int, bias: Array | float = 0.0
) -> Array:
    """A convolution on `(batch, channels, height, width)` as tokens, row by row."""
    windows = np.lib.stride_tricks.sliding_window_view(source, (size, size), (2, 3))[:, :, ::stride, ::stride]
    tokens = windows.transpose(0, 2, 3, 1, 4, 5).reshape(shape[0], shape[1], -1)
    return product(shape, tokens, weight.reshape(len(weight), -1).T) + bias


def assembled(shape: list[int], tokens: Array, weight: Array, bias: Array) -> Array:
    """A transposed convolution without overlap: every token becomes one tile of a picture."""
    kernel = weight.shape[2:]
    grid = [length // step for length, step in zip(shape[2:], kernel, strict=True)]
    tiles = product(shape, tokens, weight).reshape(shape[0], *grid, shape[1], *kernel)
    tiles = tiles + bias.reshape(-1, *[1] * len(kernel))
    pairs = [axis for place in range(1, len(grid) + 1) for axis in (place, place + len(grid) + 1)]
    return tiles.transpose(0, len(grid) + 1, *pairs).reshape(shape)


def entered(shape: list[int], parts: list[Array], first: Array, places: Array, weight: Array, bias: Array) -> Array:
    """Tokens as they enter a trunk: the sum of `parts`, behind the class token, with places, layer-normalized."""
    head = np.broadcast_to(first.reshape(-1), (shape[0], 1, shape[2]))
    tokens = sum(part.astype(np.float64) for part in parts)
    return layer_norm(np.concatenate([head, tokens], axis=1) + places, weight, bias)


def layer_norm(values: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Over the last axis, in a fixed order of sums."""
    width = values.shape[-1]
    centred = values - (_total(values) / width)[..., None]
    return centred / np.sqrt(_total(centred * centred) / width + eps)[..., None] * weight + bias


def _total(values: Array) -> Array:
    return sum(values[..., place] for place in range(values.shape[-1]))


def headed(shape: list[int], tokens: Array, heads: list[list[Array]], clips: int) -> Array:
    """Embeddings of all tokens: heads of norm and linear layer, side by side, of length 1, and the mean of clips."""
    tokens = tokens.astype(np.float64)
    parts = [product([], layer_norm(tokens, *norm, eps=1e-6), weight.T) for *norm, weight in heads]
    joined = np.concatenate(parts, axis=-1)
    joined = joined / np.sqrt(_total(joined * joined))[..., None]
    return joined.reshape(shape[0], clips, *shape[1:]).mean(1)


def quantized(shape: list[int], codes: Array, ids: Array) -> Array:
    """Embeddings of chosen codes `(..., segments)`, of length 1."""
    joined = codes.astype(np.float64)[ids].reshape(shape)
    return joined / np.sqrt(_total(joined * joined))[..., None]
