"""What does a log-mel spectrogram of a waveform look like, computed as Kaldi does it?"""

import warnings
from functools import lru_cache

import numpy as np
from transformers.audio_utils import mel_filter_bank, window_function


# Kaldi's floor under the logarithm: float32's machine epsilon.
LOG_FLOOR = float(np.finfo(np.float32).eps)


def log_mel(
    waveform: np.ndarray,
    sampling_rate: int,
    num_mel_bins: int,
    window_length: int,
    hop_length: int,
    fft_length: int,
    window: str = "hann",
    preemphasis: float = 0.97,
    remove_dc_offset: bool = True,
    min_frequency: float = 20.0,
    max_frequency: float | None = None,
) -> np.ndarray:
    """Log-mel power spectrogram `(mel bins, frames)` of a mono waveform, float32.

    The same as `transformers.audio_utils.spectrogram(center=False, power=2, log_mel="log")` with Kaldi's filter bank,
    for all frames at once. A waveform shorter than a window has no frame.
    """
    if waveform.shape[-1] < window_length:
        return np.zeros((num_mel_bins, 0), dtype=np.float32)
    # A copy: the frames are edited in place, and neighbours share their samples.
    frames = np.lib.stride_tricks.sliding_window_view(waveform, window_length)[::hop_length].astype(np.float64)
    if remove_dc_offset:
        frames -= frames.mean(axis=1, keepdims=True)
    if preemphasis:
        frames[:, 1:] -= preemphasis * frames[:, :-1]
        frames[:, 0] *= 1 - preemphasis
    frames *= _window(window, window_length)
    power = np.abs(np.fft.rfft(frames, n=fft_length, axis=1)) ** 2
    filters = _filters(sampling_rate, num_mel_bins, fft_length, min_frequency, max_frequency)
    return np.log(np.maximum(power @ filters, LOG_FLOOR)).T.astype(np.float32)


@lru_cache(maxsize=16)
def _window(name: str, length: int) -> np.ndarray:
    return window_function(length, name, periodic=False)


@lru_cache(maxsize=16)
def _filters(rate: int, num_bins: int, fft_length: int, low: float, high: float | None) -> np.ndarray:
    with warnings.catch_warnings():
        # Many bins on a short transform leave filters empty; Kaldi's numbers have them too.
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        return mel_filter_bank(
            num_frequency_bins=fft_length // 2 + 1,
            num_mel_filters=num_bins,
            min_frequency=low,
            max_frequency=rate / 2 if high is None else high,
            sampling_rate=rate,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
