"""Does down-sampling keep what it can tell, and nothing else? Gains of tones, measured by least squares."""

import logging
from typing import Any

import numpy as np
import pytest

from codebind_hf.processing import signal_processing_codebind
from codebind_hf.processing.array_processing_codebind import CodeBindArrayFeatureExtractor
from codebind_hf.processing.resampling import band_limited, resample, resample_mirrored
from codebind_hf.processing.signal_processing_codebind import (
    CodeBindEegFeatureExtractor,
    CodeBindImuFeatureExtractor,
)


RAW = {"remove_mean": "none", "normalize": "none"}


def tone(frequency: float, rate: float, samples: int, phase: float = 0.3) -> np.ndarray:
    return np.cos(2 * np.pi * frequency * np.arange(samples) / rate + phase)


def gain_and_shift(
    result: np.ndarray, frequency: float, instants: np.ndarray, phase: float = 0.3
) -> tuple[float, float]:
    """Of a tone that is left: its strength, and by how much of a turn it is early."""
    inside = slice(len(instants) // 5, -(len(instants) // 5))
    turns = 2 * np.pi * frequency * instants[inside]
    basis = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    (a, b), *_ = np.linalg.lstsq(basis, result[inside], rcond=None)
    return float(np.hypot(a, b)), float(np.angle(np.exp(1j * (np.arctan2(-b, a) - phase))))


def expected_gain(share: float) -> float:
    """What the docstring of `band_limited` says, of a frequency as a share of half the new rate."""
    if share <= 0.75:
        return 1.0
    return 0.0 if share >= 1 else 0.5 + 0.5 * np.cos(np.pi * (share - 0.75) / 0.25)


@pytest.mark.parametrize(("time", "length"), [(1001, 251), (5000, 128), (777, 128), (300, 257)])
def test_tones_keep_their_strength_up_to_the_band_and_their_place(time: int, length: int) -> None:
    instants = np.linspace(0, time - 1, length)
    for share in (0.02, 0.2, 0.5, 0.7, 0.875, 1.03, 1.2, 1.5, 1.9):
        frequency = share * 0.5 * (length - 1) / (time - 1)
        if frequency >= 0.49:
            continue
        result = band_limited(tone(frequency, 1.0, time)[None], length)[0]
        gain, shift = gain_and_shift(result, frequency, instants)
        assert gain == pytest.approx(expected_gain(share), abs=0.015), share
        # Nothing comes back as another tone either.
        rest = result - expected_gain(share) * np.cos(2 * np.pi * frequency * instants + 0.3)
        assert np.sqrt((rest[length // 5 : -length // 5] ** 2).mean()) < 0.01, share
        assert expected_gain(share) < 0.1 or abs(shift) < 0.01


def test_it_equals_the_sum_over_cosines() -> None:
    """The definition, naively: the signal is a sum of cosines over its mirrored period, and each has its gain."""
    signal, length = np.random.default_rng(0).normal(size=(2, 23)), 9
    time = signal.shape[1]
    weights = np.full(time, 2.0)
    weights[[0, -1]] = 1.0
    orders = np.arange(time)
    table = np.cos(np.pi * np.outer(orders, np.arange(time)) / (time - 1))
    amplitudes = (signal * weights) @ table.T * weights / (2 * (time - 1))
    gains = np.array([expected_gain(order / (length - 1)) for order in orders])
    places = np.cos(np.pi * np.outer(orders, np.linspace(0, 1, length)))
    np.testing.assert_allclose(band_limited(signal, length), (amplitudes * gains) @ places, atol=1e-9)
    np.testing.assert_allclose((amplitudes) @ table, signal, atol=1e-9)


@pytest.mark.parametrize("time", [2, 3, 40, 129, 2000])
def test_levels_stay_up_to_the_ends_and_steps_ring_little(time: int) -> None:
    np.testing.assert_allclose(band_limited(np.full((1, time), 9.81), max(1, time // 2)), 9.81, rtol=1e-12)
    step = np.r_[np.zeros(time), np.ones(time)][None]
    made = band_limited(step, max(2, time // 4))
    # As every filter that is flat in its band does; far from the step nothing is left of it.
    assert made.min() > -0.12
    assert made.max() < 1.12
    if time >= 129:
        assert np.abs(made[0, : made.shape[1] // 4]).max() < 2e-3


def eeg(values: Any, **options: Any) -> np.ndarray:
    part = CodeBindEegFeatureExtractor(num_channels=4, num_samples=128, **options)
    return part(values, return_tensors="np")["eeg_values"][0]


def brain(seed: int, samples: int = 1024, rate: float = 512.0) -> np.ndarray:
    """Four channels of slow waves that 64 Hz can tell."""
    random = np.random.default_rng(seed)
    waves = [
        sum(tone(f, rate, samples, p) for f, p in zip(random.uniform(2, 20, 6), random.uniform(0, 6, 6), strict=True))
        for _ in range(4)
    ]
    return np.stack(waves)


def test_hum_and_noise_beyond_the_band_leave_no_trace_in_eeg() -> None:
    clean = brain(0)
    hum = 3 * tone(50.0, 512, 1024)
    # Noise between 100 and 250 Hz alone.
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=(4, 1024)) * 3)
    spectrum[:, : 2 * 100] = 0
    noise = np.fft.irfft(spectrum)
    right = eeg(clean)
    inner = slice(8, -8)
    for disturbed in (clean + hum, clean + noise):
        np.testing.assert_allclose(eeg(disturbed)[:, inner], right[:, inner], atol=0.05)
        assert np.abs(eeg(disturbed, low_pass=False) - right).max() > 0.5


def test_sixty_recordings_find_themselves_with_hum_and_with_noise() -> None:
    clean = [brain(seed) for seed in range(60)]
    random = np.random.default_rng(5)
    hum = [each + 3 * tone(50.0, 512, 1024, random.uniform(0, 6)) for each in clean]
    noise = [each + random.normal(size=each.shape) * 3 for each in clean]

    def found(queries: list[np.ndarray], **options: Any) -> float:
        gallery = np.stack([eeg(each, **options).ravel() for each in clean])
        asked = np.stack([eeg(each, **options).ravel() for each in queries])
        gallery, asked = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (gallery, asked))
        return float(((asked @ gallery.T).argmax(1) == np.arange(60)).mean())

    assert found(hum) == found(noise) == 1.0


def test_linear_interpolation_can_be_asked_for_and_is_saved() -> None:
    signal = np.random.default_rng(2).normal(size=(4, 500))
    made = eeg(signal, low_pass=False, **RAW)
    expected = [np.interp(np.linspace(0, 499, 128), np.arange(500), row) for row in signal]
    np.testing.assert_allclose(made, expected, atol=1e-6)
    saved = CodeBindEegFeatureExtractor(low_pass=False).to_dict()
    assert CodeBindEegFeatureExtractor.from_dict(saved).low_pass is False
    # Checkpoints of before, whose files say nothing, were trained without it, and embed as they did.
    plain = CodeBindEegFeatureExtractor().to_dict()
    assert plain.pop("low_pass") is True
    assert CodeBindEegFeatureExtractor.from_dict(plain).low_pass is False
    assert "detrend" not in plain


@pytest.mark.parametrize("rate", [52, 104, 119, 128, 400, 1000])
def test_motion_at_odd_rates_keeps_movement_and_gravity_and_loses_vibration(rate: int) -> None:
    samples = rate * 20
    part = CodeBindImuFeatureExtractor(num_channels=6, num_samples=1000, sampling_rate=50, fit="pad")
    signal = np.zeros((6, samples), np.float32)
    signal[2] = 9.81
    signal[0] = tone(3.0, rate, samples)
    if rate >= 104:
        signal[1] = tone(40.0, rate, samples)
    made = part({"array": signal, "sampling_rate": rate}, return_tensors="np")["imu_values"][0]
    instants = np.arange(1000) / 50
    np.testing.assert_allclose(made[2], 9.81, rtol=1e-6)
    gain, shift = gain_and_shift(made[0], 3.0, instants)
    assert gain == pytest.approx(1, abs=2e-3)
    assert abs(shift) < 1e-3
    assert np.abs(made[1, 50:-50]).max() < 2e-3


def test_mirrored_resampling_is_the_plain_one_inside() -> None:
    signal = np.random.default_rng(3).normal(size=(2, 1000)).astype(np.float32)
    signal -= signal.mean(axis=1, keepdims=True)
    for rate, target in ((1000, 250), (250, 1000), (119, 50), (50, 50)):
        plain, mirrored = resample(signal, rate, target), resample_mirrored(signal, rate, target)
        assert plain.shape == mirrored.shape
        np.testing.assert_allclose(plain[:, 40:-40], mirrored[:, 40:-40], atol=1e-5)
    np.testing.assert_allclose(resample_mirrored(signal[:, :1], 100, 30), signal[:, :1], rtol=1e-6)
    # An electrode's level of a tenth of a volt, and microvolts on it.
    high = 0.1 + 1e-6 * signal.astype(np.float64)
    mended = (resample_mirrored(high, 1000, 250) - 0.1) * 1e6
    np.testing.assert_allclose(mended, resample_mirrored(signal, 1000, 250), atol=1e-3)


@pytest.mark.parametrize("rate", [22_050, 32_000, 44_100, 48_000, 96_000])
def test_sounds_lose_what_16_kilohertz_cannot_tell(rate: int) -> None:
    instants = np.arange(3000) / 16_000
    for frequency in (100.0, 1000.0, 3000.0, 5000.0):
        made = resample(tone(frequency, rate, rate // 4)[None].astype(np.float32), rate, 16_000)[0, :3000]
        assert gain_and_shift(made, frequency, instants)[0] == pytest.approx(1, abs=0.005)
    for frequency in (10_800.0, 14_000.0, 21_000.0, 40_000.0):
        if frequency < rate / 2:
            made = resample(tone(frequency, rate, rate // 4)[None].astype(np.float32), rate, 16_000)[0]
            assert np.abs(made[200:-200]).max() < 0.01, frequency


def test_arrays_of_added_modalities_are_low_passed_too() -> None:
    part = CodeBindArrayFeatureExtractor(name="radar", num_channels=1, input_size=[64])
    for share, gain in ((0.3, 1.0), (1.6, 0.0)):
        signal = tone(share * 0.5 * 63 / 999, 1.0, 1000)
        made = part(signal, return_tensors="np")["radar_values"][0, 0]
        assert np.abs(made[8:-8]).max() == pytest.approx(gain, abs=0.03)


def test_a_line_and_a_loose_electrode_can_be_taken_out(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    monkeypatch.setattr(signal_processing_codebind, "_SAID", set())
    monkeypatch.setattr(logging.getLogger("codebind_hf"), "propagate", True, raising=False)
    said: list[str] = []
    monkeypatch.setattr(signal_processing_codebind.logger, "warning", said.append)
    clean = brain(7)
    assert eeg(clean).any()
    assert said == []
    drift = clean + 400 * np.linspace(-1, 1, 1024) + np.array([[5], [0], [-9], [2]])
    loose = clean.copy()
    loose[2] = 300 * np.random.default_rng(8).normal(size=1024)
    for _ in range(2):
        eeg(drift), eeg(loose)
    assert len(said) == 2
    assert "eeg: the recording drifts" in said[0]
    assert "Fix: detrend=True" in said[0]
    assert "eeg: channel 2 is more than 10 times" in said[1]
    assert "normalize='robust'" in said[1]

    def alike(first: np.ndarray, second: np.ndarray) -> float:
        return float(first.ravel() @ second.ravel() / np.linalg.norm(first) / np.linalg.norm(second))

    assert alike(eeg(drift), eeg(clean)) < 0.2 < 0.99 < alike(eeg(drift, detrend=True), eeg(clean, detrend=True))
    kept = [0, 1, 3]
    assert np.abs(eeg(loose)[kept]).max() < 0.1
    robust, right = eeg(loose, normalize="robust")[kept], eeg(clean, normalize="robust")[kept]
    assert alike(robust, right) > 0.999
    assert 0.8 < np.abs(robust).max() / np.abs(right).max() < 1.25
    assert np.abs(eeg(loose, normalize="robust")).max() <= 20


def test_a_robust_scale_is_that_of_the_formula() -> None:
    signal = np.random.default_rng(9).normal(size=(4, 128)) * np.array([[1], [2], [3], [1000]]) + 7
    centred = signal - signal.mean(axis=1, keepdims=True)
    distances = [np.median(np.abs(row - np.median(row))) for row in centred]
    expected = np.clip(centred / (1.4826 * np.median(distances)), -20, 20)
    np.testing.assert_allclose(eeg(signal, normalize="robust"), expected, atol=1e-5)
    line = np.polynomial.Polynomial.fit(np.arange(128), signal[0], 1)(np.arange(128))
    made = eeg(signal, detrend=True, normalize="none")
    np.testing.assert_allclose(made[0], signal[0] - line, atol=1e-5)
