"""Sound against transformers' own spectrogram, a naive DFT and an ideal resampler."""

import math

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.resampling import resample
from codebind_hf.processing.spectrogram import log_mel


def noise(length: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=length)).astype(np.float32)


def tone(hertz: float, rate: int, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * math.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def features(extractor: CodeBindAudioFeatureExtractor, values: object, **options: object) -> np.ndarray:
    return extractor(values, return_tensors="np", **options)["input_features"]


def test_log_mel_equals_the_spectrogram_of_transformers() -> None:
    waveform = noise(5000)
    ours = log_mel(waveform, 16000, 64, window_length=400, hop_length=160, fft_length=512)
    filters = mel_filter_bank(257, 64, 20.0, 8000.0, 16000, mel_scale="kaldi", triangularize_in_mel_space=True)
    theirs = spectrogram(
        waveform,
        window_function(400, "hann", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_log_mel_equals_a_naive_transform_of_each_frame() -> None:
    waveform = noise(900, seed=1).astype(np.float64)
    ours = log_mel(waveform, 8000, 16, window_length=200, hop_length=80, fft_length=256)
    k, n = np.mgrid[0:129, 0:256]
    dft = np.exp(-2j * math.pi * k * n / 256)
    filters = mel_filter_bank(129, 16, 20.0, 4000.0, 8000, mel_scale="kaldi", triangularize_in_mel_space=True)
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(200) / 199)
    for frame in range(1 + (900 - 200) // 80):
        piece = waveform[frame * 80 : frame * 80 + 200] - waveform[frame * 80 : frame * 80 + 200].mean()
        emphasized = np.array([piece[i] - 0.97 * piece[max(i - 1, 0)] for i in range(200)])
        spectrum = dft @ np.concatenate([emphasized * hann, np.zeros(56)])
        expected = np.log(np.maximum(np.abs(spectrum) ** 2 @ filters, np.finfo(np.float32).eps))
        np.testing.assert_allclose(ours[:, frame], expected, atol=1e-5)


@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (8000, 16000), (22050, 16000), (16001, 16000)])
def test_resampling_a_tone_gives_the_tone_at_the_new_rate(rate: int, target: int) -> None:
    signal = resample(tone(440, rate, 0.5), rate, target)
    assert signal.shape == (math.ceil(round(rate * 0.5) * target / rate),)
    expected = tone(440, target, len(signal) / target)
    inner = slice(200, -200)
    np.testing.assert_allclose(signal[inner], expected[inner], atol=2e-3)


def test_resampling_equals_the_convolution_it_is_made_of() -> None:
    signal = noise(300)
    old, new = 441, 160  # 44100 Hz -> 16000 Hz
    cutoff = new * 0.99
    expected = []
    for output in range(math.ceil(300 * new / old)):
        total = 0.0
        for sample in range(300):
            time = (sample / old - output / new) * cutoff
            if abs(time) < 6:
                total += signal[sample] * np.sinc(time) * math.cos(time * math.pi / 12) ** 2 * cutoff / old
        expected.append(total)
    np.testing.assert_allclose(resample(signal, 44100, 16000), expected, atol=1e-5)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    assert np.abs(resample(tone(7000, 16000, 0.5), 16000, 8000))[100:-100].max() < 1e-3


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0, 1.7, 30.0])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_any_length_and_rate_gives_one_shape(seconds: float, rate: int) -> None:
    extractor = CodeBindAudioFeatureExtractor(num_clips=2)
    result = features(extractor, noise(round(seconds * rate)), sampling_rate=rate)
    assert result.shape == (1, 2, 64, 64)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


@pytest.mark.parametrize("rate", [1, 7, 3999, 16001, 999_983])
def test_odd_rates_and_single_samples_work(rate: int) -> None:
    assert features(CodeBindAudioFeatureExtractor(), np.float32([0.5]), sampling_rate=rate).shape == (1, 1, 64, 64)


def test_the_same_sound_at_another_rate_looks_alike() -> None:
    extractor = CodeBindAudioFeatureExtractor()
    low, high = tone(500, 16000, 1.0), tone(500, 44100, 1.0)
    difference = features(extractor, low, sampling_rate=16000) - features(extractor, high, sampling_rate=44100)
    # The bins around the tone carry the sound; far from it, both hold numerical silence.
    loud = features(extractor, low, sampling_rate=16000) > 0
    assert loud.sum() > 100
    assert np.abs(difference[loud]).max() < 0.05


def test_a_tone_lights_up_its_mel_bin() -> None:
    extractor = CodeBindAudioFeatureExtractor()
    mel = 1127 * np.log(1 + np.array([20, 1000, 8000]) / 700)
    expected = round((mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1)
    result = features(extractor, tone(1000, 16000, 1.0), sampling_rate=16000)[0, 0]
    assert abs(int(result[:, 30].argmax()) - expected) <= 1


def test_the_default_hop_spreads_all_frames_over_a_clip() -> None:
    late = np.zeros(16000, dtype=np.float32)
    late[-600:] = noise(600)
    result = features(CodeBindAudioFeatureExtractor(), late, sampling_rate=16000)[0, 0]
    assert result[:, -1].max() > result[:, 0].max()
    assert np.ptp(result[:, :40]) < 1e-3  # silence until the end


def test_short_sounds_are_followed_by_silence_or_repeated_or_left_short() -> None:
    short = noise(4000)
    silent, repeated, frames = (
        features(CodeBindAudioFeatureExtractor(short_audio=mode, pad_value=1.0), short, sampling_rate=16000)[0, 0]
        for mode in ("silence", "repeat", "frames")
    )
    floor = (math.log(np.finfo(np.float32).eps) + 4.268) / 4.569
    np.testing.assert_allclose(silent[:, 20:], floor, atol=1e-5)
    full = features(CodeBindAudioFeatureExtractor(), np.tile(short, 4), sampling_rate=16000)[0, 0]
    np.testing.assert_allclose(repeated, full, atol=1e-4)
    np.testing.assert_allclose(frames[:, 20:], (1.0 + 4.268) / 4.569, atol=1e-6)
    np.testing.assert_array_equal(frames[:, :10], silent[:, :10])


@pytest.mark.parametrize(
    ("spacing", "starts"), [("ends", [0, 8000, 16000]), ("open", [0, 16000 // 3, 2 * 16000 // 3])]
)
def test_clips_are_spread_over_a_long_sound(spacing: str, starts: list[int]) -> None:
    extractor = CodeBindAudioFeatureExtractor(num_clips=3, clip_spacing=spacing)
    assert extractor.clip_starts(32000) == starts
    sound = noise(32000)
    clips = features(extractor, sound, sampling_rate=16000)[0]
    for clip, start in zip(clips, starts, strict=True):
        alone = features(CodeBindAudioFeatureExtractor(), sound[start : start + 16000], sampling_rate=16000)[0, 0]
        np.testing.assert_allclose(clip, alone, atol=1e-5)


def test_stereo_is_averaged_or_cut_to_its_first_channel() -> None:
    stereo = np.stack([noise(16000, 1), noise(16000, 2)])
    mean = features(CodeBindAudioFeatureExtractor(), [stereo], sampling_rate=16000)
    np.testing.assert_allclose(
        mean, features(CodeBindAudioFeatureExtractor(), stereo.mean(axis=0), sampling_rate=16000), atol=1e-3
    )
    options = {"channels": "first", "remove_mean": False}
    first = features(CodeBindAudioFeatureExtractor(**options), [stereo], sampling_rate=16000)
    np.testing.assert_array_equal(
        first, features(CodeBindAudioFeatureExtractor(**options), stereo[0], sampling_rate=16000)
    )


def test_pcm_integers_tensors_and_dictionaries_are_the_same_sound() -> None:
    levels = np.random.default_rng(3).integers(-9000, 9000, 16000).astype(np.int16)
    floats = levels.astype(np.float32) / 32768
    extractor = CodeBindAudioFeatureExtractor()
    expected = features(extractor, floats, sampling_rate=16000)
    forms = [levels, torch.from_numpy(floats), {"array": floats, "sampling_rate": 16000}, floats.astype(np.float64)]
    for form in forms:
        np.testing.assert_allclose(features(extractor, form, sampling_rate=16000), expected, atol=1e-6)


def test_a_dictionarys_own_rate_wins() -> None:
    extractor = CodeBindAudioFeatureExtractor()
    own = features(extractor, {"array": tone(300, 8000, 1), "sampling_rate": 8000}, sampling_rate=44100)
    np.testing.assert_array_equal(own, features(extractor, tone(300, 8000, 1), sampling_rate=8000))
