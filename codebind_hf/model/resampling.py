"""How does a signal get to another sampling rate? Band-limited interpolation with a windowed sinc."""

import math
from functools import lru_cache

import numpy as np


# torchaudio's defaults: zero crossings on each side, and the cut-off as a fraction of the lower Nyquist frequency.
_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99


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
    blocks = math.ceil(length / new)
    padding = [(0, 0)] * (signal.ndim - 1) + [(reach, reach + old)]
    padded = np.pad(signal.astype(np.float32, copy=False), padding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=-1)
    first = (np.arange(blocks)[:, None] * old + starts[None] + reach).reshape(-1)[:length]
    kernels = np.broadcast_to(taps, (blocks, new, reach)).reshape(-1, reach)[:length]
    return np.einsum("...nk,nk->...n", windows[..., first, :], kernels, optimize=False)


@lru_cache(maxsize=4)
def _phases(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `new` output phases, the filter taps and the input sample (may be negative) the first applies to."""
    cutoff = min(old, new) * _ROLLOFF
    width = math.ceil(_ZERO_CROSSINGS * old / cutoff)
    phase = np.arange(new)
    starts = phase * old // new - width
    # Input sample j lies (j / old - phase / new) seconds, in units of the common period, after the output sample.
    index = starts[:, None] + np.arange(2 * width + 2)[None]
    time = np.clip((index / old - phase[:, None] / new) * cutoff, -_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = np.cos(time * math.pi / _ZERO_CROSSINGS / 2) ** 2
    return (np.sinc(time) * window * cutoff / old).astype(np.float32), starts
