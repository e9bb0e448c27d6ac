"""Operations on tensors, sounds and recordings against their definitions."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codebind_hf.data.operations import Operation, View
from codebind_hf.data.signal_augmentations import Gain, RandomClip, TimeShift
from codebind_hf.data.tensor_augmentations import (
    ChannelDropout,
    FrequencyMask,
    Noise,
    PointDropout,
    PointJitter,
    PointRotation,
    PointScale,
    PointShift,
    PointTilt,
    RandomErasing,
    TimeMask,
    TimeRoll,
)
from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.image_processing_codebind import CodeBindImageProcessor
from codebind_hf.processing.point_processing_codebind import CodeBindPointFeatureExtractor
from codebind_hf.processing.recordings import ArrayRecording
from codebind_hf.processing.signal_processing_codebind import CodeBindEegFeatureExtractor


IMAGES = CodeBindImageProcessor(size=[60, 50])
SOUNDS = CodeBindAudioFeatureExtractor(num_mel_bins=30, num_frames=50)
POINTS = CodeBindPointFeatureExtractor(num_points=400, num_channels=6)


def drawn(operation: Operation, part: Any, value: Any, seed: int = 0) -> Any:
    return operation.draw(np.random.default_rng(seed), View(part))(value)


# Erasing


def erased(seed: int, **options: Any) -> Tensor:
    """Which pixels of `(60, 50)` were filled."""
    picture = torch.full((3, 60, 50), 9.0)
    found = drawn(RandomErasing(**options), IMAGES, picture, seed)
    assert (picture == 9).all()
    return (found != 9).all(0)


def test_a_rectangle_of_the_asked_area_and_ratio_is_erased() -> None:
    areas, aspects, tops = [], [], []
    for seed in range(400):
        hidden = erased(seed, p=1.0)
        rows, columns = hidden.any(1).nonzero().flatten(), hidden.any(0).nonzero().flatten()
        height, width = len(rows), len(columns)
        assert int(hidden.sum()) == height * width == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        areas.append(height * width / 3000)
        aspects.append(height / width)
        tops.append(int(rows[0]) / (60 - height))
    # Sides are rounded: half a pixel of at least 4 at the smallest area.
    assert 0.02 * 0.85 < min(areas) < 0.03
    assert 0.31 < max(areas) < 0.33 * 1.03
    assert 0.3 * 0.85 < min(aspects) < 0.4
    assert 2.6 < max(aspects) < 3.3 * 1.15
    assert np.mean(areas) == pytest.approx(0.175, abs=0.018)
    assert np.histogram(tops, bins=4, range=(0, 1))[0].min() > 60


def test_erasing_is_as_likely_as_asked() -> None:
    assert sum(bool(erased(seed, p=0.25).any()) for seed in range(400)) == pytest.approx(100, abs=28)
    assert not any(erased(seed, p=0.0).any() for seed in range(20))


def test_what_is_erased_is_the_mean_or_the_value_as_the_processor_makes_it() -> None:
    frames = torch.randn(1, 4, 3, 60, 50)
    found = drawn(RandomErasing(p=1.0, value=0.0), IMAGES, frames)
    hidden = found != frames
    # All frames and channels lose the same pixels.
    assert (hidden == hidden[:, :1, :1]).all()
    for channel in range(3):
        black = (0 - IMAGES.mean[channel]) / IMAGES.std[channel]
        assert found[:, :, channel][hidden[:, :, channel]].unique().tolist() == [pytest.approx(black)]
    assert drawn(RandomErasing(p=1.0), IMAGES, frames)[hidden].unique().tolist() == [0.0]


# Spectrograms


@pytest.mark.parametrize(("kind", "axis", "size"), [(FrequencyMask, 1, 12), (TimeMask, 2, 24)])
def test_masks_cover_one_band_of_any_width_anywhere(kind: Any, axis: int, size: int) -> None:
    tensor, widths, starts = torch.ones(2, 30, 50), [], []
    for seed in range(600):
        found = drawn(kind(size=size), SOUNDS, tensor, seed) == 0
        line = found.movedim(axis, 0).flatten(1)
        assert (line.all(1) == line.any(1)).all()
        places = line.all(1).nonzero().flatten().tolist()
        assert places == list(range(places[0], places[-1] + 1)) if places else True
        widths.append(len(places))
        starts += places[:1]
        assert max(places, default=0) < tensor.shape[axis]
    counts = np.bincount(widths, minlength=size + 1)
    assert len(counts) == size + 1
    assert counts.min() > 0.35 * 600 / (size + 1)
    assert min(starts) == 0
    assert max(starts) > tensor.shape[axis] - 5


def test_masks_have_a_value_before_normalization_and_may_be_many() -> None:
    tensor = torch.full((1, 30, 50), 7.0)
    found = drawn(FrequencyMask(size=6, count=20, value=0.0), SOUNDS, tensor)
    silent = (0 - SOUNDS.mean) / SOUNDS.std
    assert sorted(found.unique().tolist()) == [pytest.approx(silent), 7.0]
    assert (found[0, :, 0] != 7).sum() > 12
    assert (tensor == 7).all()


def test_noise_is_added_up_to_its_strength() -> None:
    tensor = torch.zeros(1, 30, 50)
    tops = [float(drawn(Noise(strength=0.1), SOUNDS, tensor, seed).max()) for seed in range(100)]
    assert max(tops) <= 0.1
    assert 0.04 < np.mean(tops) < 0.06
    one = drawn(Noise(strength=0.1), SOUNDS, tensor)
    assert one.dtype == torch.float32
    assert one.min() >= 0
    assert len(one.unique()) > 1000


def test_frames_roll_in_a_circle() -> None:
    tensor = torch.arange(50.0).expand(1, 30, 50)
    steps = set()
    for seed in range(200):
        found = drawn(TimeRoll(size=3), SOUNDS, tensor, seed)
        assert found[0, 0].sort().values.tolist() == list(range(50))
        steps.add((-int(found[0, 0, 0]) + 25) % 50 - 25)
    assert steps == {-3, -2, -1, 0, 1, 2, 3}


# Sounds and recordings


def test_a_random_clip_is_a_piece_of_the_sound() -> None:
    part = CodeBindAudioFeatureExtractor(sampling_rate=8000, clip_seconds=0.1)
    samples = np.stack([np.arange(5000), -np.arange(5000)]).astype(np.float32)
    starts = []
    for seed in range(100):
        piece = drawn(RandomClip(), part, ArrayRecording(samples, 10_000), seed)
        assert (piece.rate, piece.num_channels, piece.num_samples) == (10_000, 2, 1000)
        start = int(piece.read(0, 1)[0, 0])
        assert np.array_equal(piece.read(10, 1000), samples[:, start + 10 : start + 1000])
        starts.append(start)
    assert min(starts) < 200
    assert max(starts) > 3800
    short = drawn(RandomClip(), part, ArrayRecording(samples[:, :300], 10_000))
    assert np.array_equal(short.read(0, 300), samples[:, :300])


def test_gain_is_uniform_in_decibels() -> None:
    sound = ArrayRecording(np.full((1, 4), 0.1, np.float32), 8000)
    levels = [20 * math.log10(drawn(Gain(decibels=6.0), SOUNDS, sound, s).read(0, 1)[0, 0] / 0.1) for s in range(1000)]
    assert -6 <= min(levels) < -5.8
    assert 5.8 < max(levels) <= 6.001
    assert np.mean(levels) == pytest.approx(0, abs=0.6)
    assert drawn(Gain(decibels=0.0), SOUNDS, sound).read(0, 4).tolist() == sound.samples.tolist()


def test_a_recording_is_shifted_and_its_ends_go_on() -> None:
    signal, seen = np.arange(12.0).reshape(2, 6), set()
    expected = {
        -2: [[2, 3, 4, 5, 5, 5], [8, 9, 10, 11, 11, 11]],
        0: signal.tolist(),
        1: [[0, 0, 1, 2, 3, 4], [6, 6, 7, 8, 9, 10]],
    }
    for seed in range(60):
        found = drawn(TimeShift(size=2), CodeBindEegFeatureExtractor(), signal, seed)
        steps = next((steps for steps, wanted in expected.items() if found.tolist() == wanted), None)
        seen.add(steps)
    assert {-2, 0, 1} <= seen


def test_channels_drop_out_as_a_whole() -> None:
    part = CodeBindEegFeatureExtractor(num_channels=200)
    signal = torch.randn(200, 20)
    found = drawn(ChannelDropout(p=0.2), part, signal)
    lost = (found == 0).all(1)
    assert int(lost.sum()) == pytest.approx(40, abs=18)
    assert torch.equal(found[~lost], signal[~lost])


# Point clouds


@pytest.fixture(scope="module")
def cloud() -> Tensor:
    return torch.cat([torch.randn(400, 3), torch.rand(400, 3)], dim=1)


@pytest.mark.parametrize(
    "operation", [PointScale(), PointShift(), PointJitter(), PointTilt(), PointRotation()], ids=lambda each: each.name
)
def test_moves_leave_colours_and_the_given_cloud_as_they_are(operation: Any, cloud: Tensor) -> None:
    before = cloud.clone()
    found = drawn(operation, POINTS, cloud)
    assert (found.shape, found.dtype) == (cloud.shape, cloud.dtype)
    assert torch.equal(found[:, 3:], cloud[:, 3:])
    assert not torch.equal(found[:, :3], cloud[:, :3])
    assert torch.equal(cloud, before)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_rotation_keeps_heights_distances_and_handedness(axis: int, cloud: Tensor) -> None:
    angles = []
    for seed in range(50):
        found = drawn(PointRotation(axis="xyz"[axis]), POINTS, cloud, seed)
        torch.testing.assert_close(found[:, axis], cloud[:, axis])
        torch.testing.assert_close(
            torch.cdist(found[:9, :3], found[:9, :3]), torch.cdist(cloud[:9, :3], cloud[:9, :3])
        )
        matrix = torch.linalg.lstsq(cloud[:, :3], found[:, :3]).solution
        assert torch.linalg.det(matrix).item() == pytest.approx(1, abs=1e-4)
        others = [place for place in range(3) if place != axis]
        angles.append(math.atan2(matrix[others[1], others[0]], matrix[others[0], others[0]]))
    assert min(angles) < -2
    assert max(angles) > 2


def test_small_turns_are_about_all_axes_in_turn(cloud: Tensor) -> None:
    for seed in range(20):
        a, b, c = np.random.default_rng(seed).normal(0, 0.06, 3).clip(-0.18, 0.18)
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        expected = cloud[:, :3].double().numpy() @ (about_z @ about_y @ about_x)
        assert np.allclose(drawn(PointTilt(), POINTS, cloud, seed)[:, :3], expected, atol=1e-5)
    most = PointTilt(std=9.0, most=0.1)
    moved = (drawn(most, POINTS, cloud)[:, :3] - cloud[:, :3]).norm(dim=1) / cloud[:, :3].norm(dim=1)
    assert moved.max() < 0.2


def test_clouds_scale_shift_and_jitter_within_bounds(cloud: Tensor) -> None:
    factors, shifts = [], []
    for seed in range(200):
        ratio = drawn(PointScale(factors=[0.8, 1.25]), POINTS, cloud, seed)[:, :3] / cloud[:, :3]
        assert ratio.std() < 1e-5
        factors.append(float(ratio.mean()))
        moved = drawn(PointShift(size=0.1), POINTS, cloud, seed)[:, :3] - cloud[:, :3]
        assert moved.std(0).max() < 1e-5
        shifts.append(moved.mean(0).tolist())
    assert 0.8 <= min(factors) < 0.82
    assert 1.23 < max(factors) <= 1.2501
    assert 0.095 < np.abs(shifts).max() <= 0.1001
    assert np.abs(np.corrcoef(np.array(shifts).T) - np.eye(3)).max() < 0.3
    noise = drawn(PointJitter(std=0.04, most=0.05), POINTS, cloud)[:, :3] - cloud[:, :3]
    assert noise.abs().max().item() == pytest.approx(0.05, abs=1e-5)
    assert noise.std().item() == pytest.approx(0.032, abs=0.004)


def test_dropped_points_are_the_first_one(cloud: Tensor) -> None:
    shares = []
    for seed in range(200):
        found = drawn(PointDropout(most=0.875), POINTS, cloud, seed)
        lost = (found != cloud).any(1)
        assert (found[lost] == cloud[0]).all()
        shares.append(float(lost.float().mean()))
    assert max(shares) < 0.93
    assert np.mean(shares) == pytest.approx(0.875 / 2, abs=0.05)
