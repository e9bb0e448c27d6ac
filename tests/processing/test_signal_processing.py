"""EEG, IMU and arrays of added modalities against numpy's interpolation."""

import numpy as np
import pytest
import torch

from codebind_hf.processing.array_processing_codebind import CodeBindArrayFeatureExtractor
from codebind_hf.processing.resampling import resample
from codebind_hf.processing.signal_processing_codebind import (
    CodeBindEegFeatureExtractor,
    CodeBindImuFeatureExtractor,
    interpolate_linearly,
)


def recording(channels: int, time: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, time)).astype(np.float32)


@pytest.mark.parametrize("time", [1, 2, 3, 127, 128, 129, 440, 5000])
def test_interpolation_equals_numpys(time: int) -> None:
    signal = recording(3, time).astype(np.float64)
    new = np.linspace(0, 1, 128)
    expected = np.stack([np.interp(new, np.linspace(0, 1, time), row) for row in signal])
    np.testing.assert_allclose(interpolate_linearly(signal, 128), expected, atol=1e-9)


@pytest.mark.parametrize("channels", range(1, 17))
def test_missing_electrodes_are_zero_and_do_not_change_the_others(channels: int) -> None:
    signal = recording(channels, 200)
    extractor = CodeBindEegFeatureExtractor(num_channels=16, num_samples=128, low_pass=False)
    result = extractor(signal, return_tensors="np")["eeg_values"]
    assert result.shape == (1, 16, 128)
    assert not result[0, channels:].any()
    centred = signal.astype(np.float64) - signal.mean(axis=1, keepdims=True, dtype=np.float64)
    scaled = centred / centred.std()
    expected = np.stack([np.interp(np.linspace(0, 199, 128), np.arange(200), row) for row in scaled])
    np.testing.assert_allclose(result[0, :channels], expected, atol=1e-5)


def test_the_unit_of_eeg_does_not_matter() -> None:
    signal = recording(8, 200)
    extractor = CodeBindEegFeatureExtractor()
    volts = extractor(signal * 1e-6, return_tensors="pt")["eeg_values"]
    torch.testing.assert_close(volts, extractor(signal, return_tensors="pt")["eeg_values"], atol=1e-5, rtol=1e-4)


def test_constant_recordings_become_zero() -> None:
    for normalize in ("recording", "channel"):
        extractor = CodeBindEegFeatureExtractor(normalize=normalize)
        assert not extractor(np.full((4, 50), 0.1, np.float32), return_tensors="np")["eeg_values"].any()


def test_normalization_per_channel_gives_every_channel_unit_deviation() -> None:
    signal = recording(4, 128) * np.array([[1], [10], [100], [1000]]) + 5
    extractor = CodeBindEegFeatureExtractor(num_channels=4, normalize="channel")
    np.testing.assert_allclose(extractor(signal, return_tensors="np")["eeg_values"][0].std(axis=1), 1, atol=1e-5)


def test_imu_keeps_gravity() -> None:
    signal = np.zeros((6, 100), dtype=np.float32)
    signal[2] = 9.81
    result = CodeBindImuFeatureExtractor()(signal, return_tensors="np")["imu_values"][0]
    np.testing.assert_allclose(result[2], 9.81, rtol=1e-6)
    scaled = CodeBindImuFeatureExtractor(scale=1 / 9.81)(signal, return_tensors="np")["imu_values"][0]
    np.testing.assert_allclose(scaled[2], 1.0, rtol=1e-6)


def test_a_time_crop_keeps_its_samples() -> None:
    options = {"remove_mean": "none", "normalize": "none"}
    extractor = CodeBindEegFeatureExtractor(num_channels=2, num_samples=440, time_crop=[20, 460], **options)
    signal = recording(2, 500)
    np.testing.assert_allclose(extractor(signal, return_tensors="np")["eeg_values"][0], signal[:, 20:460], atol=1e-6)
    short = extractor(signal[:, :300], return_tensors="np")["eeg_values"][0]
    np.testing.assert_allclose(short[:, [0, -1]], signal[:, [20, 299]], atol=1e-6)


def test_recordings_can_be_brought_to_one_rate_and_cut_or_padded() -> None:
    options = {"remove_mean": "none", "normalize": "none", "sampling_rate": 250, "fit": "pad"}
    extractor = CodeBindEegFeatureExtractor(num_channels=3, num_samples=128, **options)
    signal = recording(3, 1000)
    long = extractor({"array": signal, "sampling_rate": 1000}, return_tensors="np")["eeg_values"][0]
    np.testing.assert_allclose(long[:, 8:], resample(signal, 1000, 250)[:, 8:128], atol=1e-4)
    short = extractor(signal[:, :100], sampling_rate=250, return_tensors="np")["eeg_values"][0]
    np.testing.assert_array_equal(short[:, :100], signal[:, :100])
    assert not short[:, 100:].any()


def test_added_modalities_are_interpolated_or_resized() -> None:
    line = recording(2, 27)
    radar = CodeBindArrayFeatureExtractor(name="radar", num_channels=2, input_size=[32])
    result = radar(line, return_tensors="np")["radar_values"]
    expected = np.stack([np.interp(np.linspace(0, 26, 32), np.arange(27), row) for row in line])
    np.testing.assert_allclose(result[0], expected, atol=1e-5)
    grid = recording(20, 30)
    lidar = CodeBindArrayFeatureExtractor(name="lidar", num_channels=1, input_size=[10, 15], mean=1.0, std=2.0)
    expected = torch.nn.functional.interpolate(
        (torch.from_numpy(grid)[None, None] - 1) / 2, size=(10, 15), mode="bilinear", antialias=True
    )
    for form in (grid, grid[None], [grid]):
        torch.testing.assert_close(lidar(form, return_tensors="pt")["lidar_values"], expected, atol=1e-5, rtol=0)


def test_added_modalities_can_be_standardized() -> None:
    values = recording(3, 64) * 7 + 100
    for normalize, axes in (("channel", 2), ("item", (1, 2))):
        radar = CodeBindArrayFeatureExtractor(name="radar", num_channels=3, input_size=[64], normalize=normalize)
        result = radar(values, return_tensors="np")["radar_values"]
        np.testing.assert_allclose(result.mean(axis=axes), 0, atol=1e-5)
        np.testing.assert_allclose(result.std(axis=axes), 1, atol=1e-5)
