"""How does a signal get to another sampling rate? Band-limited interpolation with a windowed sinc."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch


# torchaudio's defaults: zero crossings on each side, and the cut-off as a fraction of the lower Nyquist frequency.
_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99
# Outputs at a time, which bounds the memory for long recordings.
_CHUNK = 1 << 14


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
