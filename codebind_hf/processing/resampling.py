"""How does a signal get to another sampling rate? Band-limited interpolation with a windowed sinc."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch


# torchaudio's defaults: zero crossings on each side, and the cut-off as a fraction of the lower Nyquist frequency.
_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99
# Share of half the new rate up to which nothing is weakened.
_PASSED = 0.75
# Outputs at a time, which bounds the memory for long recordings.
_CHUNK = 1 << 14


def band_limited(signal: np.ndarray, length: int) -> np.ndarray:
    """`(channels, time)` at `length` equally spaced instants, fewer than now, from the first sample to the last.

    What so few samples cannot tell is taken out first, without moving anything in time: frequencies up to three
    quarters of half the new rate stay as they are, and fall as a cosine does to nothing at half of it. The signal goes
    on mirrored beyond its ends, so that it keeps its level there.
    """
    time = signal.shape[1]
    if length == 1:
        return signal.mean(axis=1, keepdims=True)
    beyond = (np.arange(length) / (length - 1) - _PASSED) / (1 - _PASSED)
    gain = (0.5 + 0.5 * np.cos(np.pi * beyond.clip(0, 1))) * ((length - 1) / (time - 1))
    # Mirrored, both lengths are one period, of which the first frequencies are kept.
    kept = [np.fft.rfft(np.concatenate([row, row[-2:0:-1]]))[:length] * gain for row in signal]
    return np.fft.irfft(kept, n=2 * (length - 1), axis=1)[:, :length]


def resample_mirrored(signal: np.ndarray, rate: int, target: int) -> np.ndarray:
    """As `resample`, of `(channels, time)` that goes on mirrored beyond its ends and keeps its means, in float64.

    Beside zeros a level, such as of gravity or of an electrode, would fall at the ends, and in float32 hide the rest.
    """
    if rate == target:
        return signal
    old, new = rate // math.gcd(rate, target), target // math.gcd(rate, target)
    level = signal.mean(axis=1, keepdims=True, dtype=np.float64)
    blocks = math.ceil((_ZERO_CROSSINGS + 2) / (min(old, new) * _ROLLOFF))
    padded = np.pad(signal - level, ((0, 0), (blocks * old, blocks * old)), mode="symmetric")
    length = math.ceil(signal.shape[1] * new / old)
    return resample(padded, rate, target)[:, blocks * new : blocks * new + length] + level


def resample(signal: np.ndarray, rate: int, target: int) -> np.ndarray:
    """`signal` of shape `(..., time)` at `target` Hz, float32, of length `ceil(time * target / rate)`.

    The same numbers as `torchaudio.functional.resample` with its defaults (sinc, Hann window, width 6, rolloff 0.99),
    whatever is installed; samples beyond the ends count as zero.
    """
    num_samples = signal.shape[-1]
    read = lambda start, stop: signal[..., start:stop]  # noqa: E731
    return resampled_piece(read, num_samples, rate, target, 0, math.ceil(num_samples * target / rate) + 1)


def resampled_piece(
    read: Callable[[int, int], np.ndarray], num_samples: int, rate: int, target: int, start: int, stop: int
) -> np.ndarray:
    """Samples `start` to `stop` of what `resample` makes of a whole signal, cut at its end.

    Args:
        read: gives the samples of the signal, `(..., stop - start)`, between two positions within it.
        num_samples: of the signal.
    """
    divisor = math.gcd(rate, target)
    old, new = rate // divisor, target // divisor
    stop = min(stop, math.ceil(new * num_samples / old))
    if rate == target:
        return np.ascontiguousarray(read(start, stop), dtype=np.float32)
    taps, starts = _phases(old, new)
    pieces = [read(0, 0).astype(np.float32)]
    for begin in range(start, stop, _CHUNK):
        block, phase = np.divmod(np.arange(begin, min(begin + _CHUNK, stop)), new)
        first = block * old + starts[phase]
        low, high = int(first[0]), int(first[-1]) + taps.shape[1]
        inside = read(max(low, 0), min(high, num_samples)).astype(np.float32, copy=False)
        padding = [(0, 0)] * (inside.ndim - 1) + [(max(-low, 0), max(high - num_samples, 0))]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(inside, padding), taps.shape[1], axis=-1)
        pieces.append(np.einsum("...nk,nk->...n", windows[..., first - low, :], taps[phase]))
    return np.concatenate(pieces, axis=-1)


@lru_cache(maxsize=4)
def _phases(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `new` output phases, the filter taps and the input sample (may be negative) the first applies to."""
    cutoff = min(old, new) * _ROLLOFF
    width = math.ceil(_ZERO_CROSSINGS * old / cutoff)
    phase = np.arange(new)
    starts = phase * old // new - width
    # Input sample j lies (j / old - phase / new) common periods after the output sample. In float32 and torchaudio's
    # order of operations: the rounding of the phases is part of the numbers that models were trained on.
    index = torch.from_numpy(starts[:, None] + np.arange(2 * width + 2)[None]).float()
    time = (-torch.from_numpy(phase)[:, None].float() / new + index / old) * cutoff
    time = time.clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = torch.cos(time * math.pi / _ZERO_CROSSINGS / 2) ** 2
    time = time * math.pi
    sinc = torch.where(time == 0, torch.ones(()), torch.sin(time) / time)
    return (sinc * (window * (cutoff / old))).numpy(), starts
