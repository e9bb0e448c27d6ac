"""Three crops of every clip: which part of a frame each shows, in which order, and what is refused."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.image_processing_codebind import CodeBindImageProcessor
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.video_processing_codebind import CodeBindVideoImageProcessor


PLAIN = {"size": [16, 16], "resize_on": "tensor", "interpolation": "bilinear", "mean": [0.0], "std": [1.0]}


def video(height: int, width: int, frames: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def run(frames: Any, **parameters: Any) -> np.ndarray:
    processor = CodeBindVideoImageProcessor(**{**PLAIN, "num_crops": 3, **parameters})
    return processor(frames, return_tensors="np")["pixel_values_videos"][0]


@pytest.mark.parametrize(
    ("height", "width", "corners"),
    [
        # Nothing is resized, so crops are cut from the frame itself; half of the odd remainder of 5 is rounded up.
        (16, 21, [(0, 0), (0, 3), (0, 5)]),
        (21, 16, [(0, 0), (3, 0), (5, 0)]),
        (16, 16, [(0, 0), (0, 0), (0, 0)]),
    ],
)
def test_crops_lie_along_the_longer_side(height: int, width: int, corners: list[tuple[int, int]]) -> None:
    frames = video(height, width)
    result = run(frames)
    assert result.shape == (3, 2, 3, 16, 16)
    for crop, (top, left) in enumerate(corners):
        for position, frame in enumerate((0, 3)):
            part = frames[frame, top : top + 16, left : left + 16].transpose(2, 0, 1)
            np.testing.assert_allclose(result[crop, position], part / 255, atol=1e-6)


def test_the_crops_of_a_clip_follow_one_another() -> None:
    frames = video(16, 30, frames=6)
    result = run(frames, num_clips=2)
    assert result.shape == (6, 2, 3, 16, 16)
    np.testing.assert_array_equal(result[:3], run(frames[:3]))
    np.testing.assert_array_equal(result[3:], run(frames[3:]))


@pytest.mark.parametrize("resize_on", ["pil", "tensor"])
def test_an_even_centre_crop_is_that_of_an_image(resize_on: str) -> None:
    frames = video(20, 30)
    options = {**PLAIN, "resize_on": resize_on, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}
    result = run(frames, **options)
    image = CodeBindImageProcessor(**options)(frames[0], return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(result[1, 0], image)
    np.testing.assert_array_equal(run(frames, **options, num_crops=1)[0, 0], image)


def test_one_crop_is_the_default() -> None:
    frames = video(20, 33)
    assert CodeBindVideoImageProcessor().num_crops == 1
    assert run(frames, num_crops=1).shape == (1, 2, 3, 16, 16)
    # torchvision rounds half of the remainder of 5 to the even 2, where three crops have 3.
    part = video(16, 21)[0, :, 2:18].transpose(2, 0, 1)
    np.testing.assert_allclose(run(video(16, 21), num_crops=1)[0, 0], part / 255, atol=1e-6)


def test_the_longer_side_is_short_side_scales() -> None:
    # 610 / 560 * 224 is 243.99999999999997 in floats: pytorchvideo's long side is 243, torchvision's 244.
    result = run(video(560, 610, frames=1), size=[224, 224], antialias=False)
    whole = CodeBindImageProcessor(**{**PLAIN, "size": [224, 243], "resize_mode": "stretch"}, antialias=False)
    expected = whole(video(560, 610, frames=1)[0], return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(result[2, 0], expected[:, :, 19:])


def test_a_larger_edge_leaves_room_on_both_sides() -> None:
    frames = video(20, 27)
    result = run(frames, resize_edge=20)
    for crop, left in enumerate((0, 6, 11)):
        part = frames[0, 2:18, left : left + 16].transpose(2, 0, 1)
        np.testing.assert_allclose(result[crop, 0], part / 255, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(20, 50), (50, 20), (16, 24)])
def test_crops_of_a_size_that_is_no_square_cover_the_ends(height: int, width: int) -> None:
    result = run([Image.new("RGB", (width, height), (255, 0, 0))] * 2, size=[16, 24])
    assert result.shape == (3, 2, 3, 16, 24)
    np.testing.assert_allclose(result[:, :, 0], 1.0, atol=1e-6)


def test_clip_times_are_exact_fractions() -> None:
    # 135 frames at 24 Hz last 5.625 s, and clips of 2.5 s begin every 3.125 / 3 s, which is 25 frames, and hold 60.
    # In floats the third clip would end 1e-14 s after frame 110 begins, and show it.
    processor = CodeBindVideoImageProcessor(num_clips=4, clip_seconds=2.5)
    assert processor.frame_picks(135, 24.0) == [[0, 59], [25, 84], [50, 109], [75, 134]]


def test_three_crops_are_saved_with_the_processor(tmp_path: Any) -> None:
    config = CodeBindConfig.from_preset("tiny").restricted_to(["image", "video"])
    processor = CodeBindProcessor.from_model_config(config, None, videos={"num_crops": 3, "num_clips": 2})
    processor.save_pretrained(tmp_path)
    loaded = CodeBindProcessor.from_pretrained(tmp_path)
    frames = video(40, 60)
    expected = processor(videos=frames)["pixel_values_videos"]
    assert expected.shape == (1, 6, 2, 3, 32, 32)
    assert loaded(videos=frames)["pixel_values_videos"].equal(expected)


def test_wrong_crops_are_refused() -> None:
    with pytest.raises(ValueError, match="num_crops: got 2; allowed: 1, 3"):
        CodeBindVideoImageProcessor(num_crops=2)
    with pytest.raises(ValueError, match="num_crops: got 3 with resize_mode='stretch'.*'shortest_edge'"):
        CodeBindVideoImageProcessor(num_crops=3, resize_mode="stretch")
