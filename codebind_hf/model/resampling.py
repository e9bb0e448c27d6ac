"""How does a signal get to another sampling rate? Band-limited interpolation with a windowed sinc."""

import math
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
    if rate == target:
        return np.ascontiguousarray(signal, dtype=np.float32)
    divisor = math.gcd(rate, target)
    old, new = rate // divisor, target // divisor
    taps, starts = _phases(old, new)
    length = math.ceil(new * signal.shape[-1] / old)
    reach = taps.shape[1]
    padding = [(0, 0)] * (signal.ndim - 1) + [(reach, reach + old)]
    padded = np.pad(signal.astype(np.float32, copy=False), padding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=-1)
    result = np.empty((*signal.shape[:-1], length), dtype=np.float32)
    for begin in range(0, length, _CHUNK):
        index = np.arange(begin, min(begin + _CHUNK, length))
        block, phase = np.divmod(index, new)
        inputs = windows[..., block * old + starts[phase] + reach, :]
        result[..., index] = np.einsum("...nk,nk->...n", inputs, taps[phase])
    return result


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
