"""Pictures and maps against plain transcriptions in Pillow, numpy and torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from codebind_hf.processing.image_processing_codebind import (
    CodeBindDepthImageProcessor,
    CodeBindImageProcessor,
    CodeBindTactileImageProcessor,
    CodeBindThermalImageProcessor,
)
from codebind_hf.processing.image_resizing import resized_shape
from codebind_hf.processing.video_processing_codebind import CodeBindVideoImageProcessor


CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073]).reshape(3, 1, 1)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711]).reshape(3, 1, 1)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with a little noise, uint8 `(height, width, 3)`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(x / (7 + c) + y / (11 - c) + c) + rng.normal(0, 8, (height, width)) for c in range(3)]
    return np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8)


def clip_transcription(pixels: np.ndarray, side: int) -> np.ndarray:
    """CLIP's steps for a square target: bicubic shorter side, centre crop, rescale, normalize."""
    height, width = pixels.shape[:2]
    new = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    small = Image.fromarray(pixels).resize(new, Image.Resampling.BICUBIC)
    left, top = round((new[0] - side) / 2), round((new[1] - side) / 2)
    crop = np.asarray(small.crop((left, top, left + side, top + side)))
    return (crop.transpose(2, 0, 1) / 255.0 - CLIP_MEAN) / CLIP_STD


@pytest.mark.parametrize("size", [(32, 32), (45, 31), (31, 45), (200, 333), (1, 1), (7, 300), (640, 480)])
def test_images_of_any_size_follow_clips_steps(size: tuple[int, int]) -> None:
    pixels = photo(*size)
    processor = CodeBindImageProcessor(size=[32, 32])
    result = processor(pixels, return_tensors="np")["pixel_values"]
    assert result.shape == (1, 3, 32, 32)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[0], clip_transcription(pixels, 32), atol=2e-6)


def test_a_picture_is_the_same_in_every_form(tmp_path: Path) -> None:
    pixels = photo(40, 50)
    processor = CodeBindImageProcessor(size=[24, 24])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    forms = {
        "pil": Image.fromarray(pixels),
        "array": pixels,
        "tensor, channels first": torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
        "tensor, channels last": torch.from_numpy(pixels),
        "path": tmp_path / "a.png",
        "string": str(tmp_path / "a.png"),
        "with alpha": np.concatenate([pixels, np.full((40, 50, 1), 9, np.uint8)], axis=-1),
        "rgba picture": Image.fromarray(pixels).convert("RGBA"),
    }
    expected = processor(pixels, return_tensors="pt")["pixel_values"]
    for name, form in forms.items():
        torch.testing.assert_close(processor(form, return_tensors="pt")["pixel_values"], expected, msg=name)


def test_floats_give_the_picture_within_a_grey_level() -> None:
    pixels = photo(40, 50)
    processor = CodeBindImageProcessor(size=[24, 24])
    levels = processor(pixels, return_tensors="np")["pixel_values"]
    floats = processor((pixels / 255.0).astype(np.float32), return_tensors="np")["pixel_values"]
    # Pillow rounds to grey levels after the horizontal and after the vertical pass.
    assert np.abs(levels - floats).max() < 1.6 / 255 / CLIP_STD.min()


def test_grey_pictures_fill_three_channels_and_colours_can_become_grey() -> None:
    grey = photo(30, 30)[..., 0]
    neutral = {"mean": [0.0], "std": [1.0], "size": [30, 30]}
    result = CodeBindImageProcessor(**neutral)(grey, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(result, np.stack([grey / 255.0] * 3), atol=1e-6)
    colour = photo(30, 30)
    result = CodeBindImageProcessor(**neutral, num_channels=1)(colour, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(result[0] * 255, np.asarray(Image.fromarray(colour).convert("L")), atol=1e-4)


def test_stretch_keeps_the_whole_picture_and_edge_crops_more() -> None:
    pixels = photo(40, 80)
    stretched = CodeBindImageProcessor(size=[16, 16], resize_mode="stretch", mean=[0.0], std=[1.0])
    expected = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(stretched(pixels, return_tensors="np")["pixel_values"][0], expected, atol=1e-6)
    edged = CodeBindImageProcessor(size=[16, 16], resize_edge=20, mean=[0.0], std=[1.0])
    small = Image.fromarray(pixels).resize((40, 20), Image.Resampling.BICUBIC).crop((12, 2, 28, 18))
    expected = np.asarray(small).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(edged(pixels, return_tensors="np")["pixel_values"][0], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (5, 900), (900, 5), (33, 32), (480, 640)])
@pytest.mark.parametrize("size", [[32, 32], [16, 48], [48, 16]])
def test_the_resized_picture_always_covers_the_crop(shape: tuple[int, int], size: list[int]) -> None:
    height, width = resized_shape(shape, size, "shortest_edge", None)
    assert height >= size[0]
    assert width >= size[1]
    result = CodeBindImageProcessor(size=size)(photo(*shape), return_tensors="np")["pixel_values"]
    assert result.shape == (1, 3, *size)


def test_on_tensor_resizing_is_torchs_with_and_without_smoothing() -> None:
    pixels = photo(60, 60)
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    for mode in ("bilinear", "bicubic"):
        for antialias in (True, False):
            options = {
                "resize_on": "tensor",
                "interpolation": mode,
                "antialias": antialias,
                "mean": [0.0],
                "std": [1.0],
            }
            result = CodeBindImageProcessor(size=[32, 32], **options)(pixels, return_tensors="pt")["pixel_values"]
            expected = torch.nn.functional.interpolate(tensor, size=(32, 32), mode=mode, antialias=antialias)
            torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


def test_clip_cuts_what_bicubic_overshoots() -> None:
    edges = np.zeros((8, 8, 3), dtype=np.float32)
    edges[:, 4:] = 1.0
    options = {"size": [32, 32], "mean": [0.0], "std": [1.0], "resize_on": "tensor"}
    free = CodeBindImageProcessor(**options)(edges, return_tensors="np")["pixel_values"]
    cut = CodeBindImageProcessor(**options, clip=True)(edges, return_tensors="np")["pixel_values"]
    assert free.max() > 1.01
    assert cut.max() == 1.0
    np.testing.assert_array_equal(cut, free.clip(0, 1))


def test_depth_is_cut_scaled_and_resized_in_metres() -> None:
    rng = np.random.default_rng(3)
    metres = rng.uniform(0, 14, (40, 40)).astype(np.float32)
    result = CodeBindDepthImageProcessor(size=[20, 20])(metres, return_tensors="pt")["depth_values"]
    scaled = torch.from_numpy(metres.clip(0, 10) / 10)[None, None]
    small = torch.nn.functional.interpolate(scaled, size=(20, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(result, (small - 0.5) / 0.25, atol=1e-6, rtol=1e-6)


def test_depth_can_be_encoded_as_inverse_metres() -> None:
    metres = np.random.default_rng(3).uniform(0, 14, (20, 20)).astype(np.float32)
    metres[0, 0] = 0.0  # no reading: as near as can be
    numbers = {"encoding": "inverse", "value_range": [0.0, 2.0], "mean": [0.25], "std": [0.1]}
    result = CodeBindDepthImageProcessor(size=[20, 20], **numbers)(metres, return_tensors="np")["depth_values"][0, 0]
    expected = (np.minimum(1 / np.maximum(metres, 1e-6), 2) / 2 - 0.25) / 0.1
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_depth_units_agree(tmp_path: Path) -> None:
    millimetres = np.random.default_rng(4).integers(300, 9000, (30, 40)).astype(np.uint16)
    metres = (millimetres / 1000).astype(np.float32)
    Image.fromarray(millimetres).save(tmp_path / "d.png")
    np.save(tmp_path / "d.npy", metres)
    processor = CodeBindDepthImageProcessor(size=[24, 24])
    expected = processor(metres, return_tensors="pt")["depth_values"]
    same = [
        processor(millimetres, depth_unit="mm", return_tensors="pt"),
        processor(millimetres, depth_unit=0.001, return_tensors="pt"),
        processor(metres * 100, depth_unit="cm", return_tensors="pt"),
        processor(tmp_path / "d.png", depth_unit="mm", return_tensors="pt"),
        processor(tmp_path / "d.npy", return_tensors="pt"),
        processor(metres[None], return_tensors="pt"),
        processor(torch.from_numpy(metres), return_tensors="pt"),
        CodeBindDepthImageProcessor(size=[24, 24], depth_unit="mm")(millimetres, return_tensors="pt"),
    ]
    for result in same:
        torch.testing.assert_close(result["depth_values"], expected, atol=2e-6, rtol=1e-6)


def test_depth_can_be_encoded_as_disparity() -> None:
    metres = np.random.default_rng(5).uniform(0.5, 20, (16, 16)).astype(np.float32)
    metres[0, 0] = 0.0  # a hole, which the lower end of depth_range fills
    options = {"value_range": [0.01, 75.0], "mean": [0.0418], "std": [0.0295], "size": [16, 16]}
    processor = CodeBindDepthImageProcessor(
        encoding="disparity", baseline=0.075, focal_length=518.0, depth_range=[0.01, 50.0], **options
    )
    disparity = 0.075 * 518.0 / metres.clip(0.01, 50)
    expected = ((disparity.clip(0.01, 75) / 75) - 0.0418) / 0.0295
    np.testing.assert_allclose(processor(metres, return_tensors="np")["depth_values"][0, 0], expected, rtol=1e-5)
    ready = CodeBindDepthImageProcessor(depth_unit="disparity", **options)
    np.testing.assert_allclose(ready(disparity, return_tensors="np")["depth_values"][0, 0], expected, rtol=1e-5)


def test_a_far_sky_in_metres_is_not_taken_for_millimetres() -> None:
    metres = np.full((16, 16), 3.0, dtype=np.float32)
    metres[:4] = 1e6
    values = CodeBindDepthImageProcessor(size=[16, 16])(metres, return_tensors="np")["depth_values"][0, 0]
    assert values[0, 0] == 2.0
    assert values[-1, 0] == pytest.approx(-0.8, abs=1e-6)


def test_thermal_levels_of_every_kind_agree() -> None:
    levels = np.random.default_rng(6).integers(0, 256, (32, 32), dtype=np.uint8)
    processor = CodeBindThermalImageProcessor(size=[32, 32])
    expected = (levels / 255.0 - 0.44531357) / 0.26924619
    same = {
        "uint8": processor(levels, return_tensors="np"),
        "uint16": processor(levels.astype(np.uint16) * 257, thermal_unit="levels", return_tensors="np"),
        "floats": processor((levels / 255).astype(np.float32), return_tensors="np"),
        "degrees": processor(levels / 255 * 40 - 10, thermal_range=(-10, 30), return_tensors="np"),
        "picture": processor(Image.fromarray(levels), return_tensors="np"),
        "grey as colour": processor(np.stack([levels] * 3, axis=-1), return_tensors="np"),
    }
    for name, result in same.items():
        np.testing.assert_allclose(result["thermal_values"][0, 0], expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("unit", "level_of"),
    [
        ("celsius", lambda degrees: degrees),
        ("kelvin", lambda degrees: degrees + 273.15),
        ("fahrenheit", lambda degrees: degrees * 9 / 5 + 32),
        ("decicelsius", lambda degrees: (degrees * 10).round().astype(np.int16)),
        ("centicelsius", lambda degrees: (degrees * 100).round().astype(np.int16)),
        ("decikelvin", lambda degrees: ((degrees + 273.15) * 10).round().astype(np.uint16)),
        ("centikelvin", lambda degrees: ((degrees + 273.15) * 100).round().astype(np.uint16)),
        ([1 / 64, -273.15], lambda degrees: ((degrees + 273.15) * 64).round().astype(np.uint16)),
    ],
)
def test_temperatures_of_every_unit_agree(unit: Any, level_of: Callable[[np.ndarray], np.ndarray]) -> None:
    degrees = np.random.default_rng(6).uniform(-10, 70, (32, 32))
    processor = CodeBindThermalImageProcessor(size=[32, 32], thermal_range=(0, 60))
    found = processor(level_of(degrees), thermal_unit=unit, return_tensors="np")["thermal_values"][0, 0]
    expected = (degrees.clip(0, 60) / 60 - 0.44531357) / 0.26924619
    # A twentieth of a degree, which is what tenths leave, is 0.003.
    np.testing.assert_allclose(found, expected, atol=0.004 if "deci" in str(unit) else 0.001)


def test_radiometric_files_need_their_unit(tmp_path: Path) -> None:
    """Room temperature in hundredths of kelvin, divided by 65535, spans a hundredth of the values."""
    levels = np.linspace(29_279, 30_959, 1024).reshape(32, 32).round().astype(np.uint16)
    processor = CodeBindThermalImageProcessor(size=[32, 32])
    for suffix in ("png", "tif"):
        Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
        for value, file in ((tmp_path / f"a.{suffix}", rf"thermal file '.*a\.{suffix}': "), (levels, "")):
            message = rf"^thermal: {file}got .*uint16 without a unit.*thermal_unit='centikelvin'.*\(map, \(low"
            with pytest.raises(ValueError, match=message):
                processor(value)
            found = processor(value, thermal_unit="centikelvin", thermal_range=(19.64, 36.44), return_tensors="np")
            expected = (np.linspace(0, 1, 1024).reshape(32, 32) - 0.44531357) / 0.26924619
            np.testing.assert_allclose(found["thermal_values"][0, 0], expected, atol=0.003)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"thermal_unit": "kelvins"}, "thermal_unit: got 'kelvins'; allowed: None, 'celsius'"),
        (
            {"thermal_unit": "kelvin"},
            r"thermal_unit: got 'kelvin' without thermal_range.*\(low, high\) in degrees Celsius",
        ),
        ({"thermal_unit": [1.0], "thermal_range": (0, 1)}, r"got \[1.0\]; allowed: \[degrees per level"),
        ({"thermal_unit": [0.0, 1.0], "thermal_range": (0, 1)}, "thermal_unit: got 0.0"),
        ({"thermal_unit": "levels", "thermal_range": (0, 1)}, r"thermal_range: got \[0, 1\] for levels"),
    ],
)
def test_units_of_temperature_are_checked(parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CodeBindThermalImageProcessor(**parameters)


def test_tactile_is_an_image_under_its_own_name() -> None:
    pixels = photo(33, 44)
    tactile = CodeBindTactileImageProcessor(size=[20, 20])(pixels, return_tensors="np")
    assert list(tactile) == ["tactile_values"]
    image = CodeBindImageProcessor(size=[20, 20])(pixels, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(tactile["tactile_values"], image)


@pytest.mark.parametrize(
    ("frames", "clips", "per_clip", "picks"),
    [
        (1, 1, 2, [[0, 0]]),
        (2, 1, 2, [[0, 1]]),
        (9, 1, 2, [[0, 8]]),
        (9, 1, 3, [[0, 4, 8]]),
        (9, 3, 2, [[0, 2], [3, 5], [6, 8]]),
        (3, 5, 2, [[0, 0], [0, 1], [1, 1], [1, 2], [2, 2]]),
    ],
)
def test_clips_and_frames_are_spread_uniformly(frames: int, clips: int, per_clip: int, picks: list[list[int]]) -> None:
    processor = CodeBindVideoImageProcessor(num_clips=clips, frames_per_clip=per_clip)
    assert processor.frame_picks(frames) == picks


def test_every_frame_of_a_video_is_handled_like_an_image() -> None:
    video = np.stack([photo(40, 50, seed) for seed in range(5)])
    processor = CodeBindVideoImageProcessor(size=[24, 24], num_clips=2, frames_per_clip=2)
    result = processor(video, return_tensors="np")["pixel_values_videos"]
    assert result.shape == (1, 2, 2, 3, 24, 24)
    image = CodeBindImageProcessor(size=[24, 24])
    for clip, picks in enumerate(processor.frame_picks(5)):
        for position, frame in enumerate(picks):
            expected = image(video[frame], return_tensors="np")["pixel_values"][0]
            np.testing.assert_array_equal(result[0, clip, position], expected)


def test_a_video_is_the_same_in_every_form(tmp_path: Path) -> None:
    video = np.stack([photo(20, 30, seed) for seed in range(4)])
    processor = CodeBindVideoImageProcessor(size=[16, 16])
    for index, frame in enumerate(video):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    expected = processor(video, return_tensors="np")["pixel_values_videos"]
    forms = [
        [Image.fromarray(frame) for frame in video],
        list(video),
        torch.from_numpy(video),
        torch.from_numpy(video.transpose(0, 3, 1, 2).copy()),
        tmp_path,
        {"array": video, "fps": 2.0},
        [video],
    ]
    for form in forms:
        np.testing.assert_array_equal(processor(form, return_tensors="np")["pixel_values_videos"], expected)
    both = processor([video, [Image.fromarray(video[0])]], return_tensors="np")["pixel_values_videos"]
    assert both.shape[0] == 2
    np.testing.assert_array_equal(both[:1], expected)


def test_timed_clips_use_the_frame_rate() -> None:
    processor = CodeBindVideoImageProcessor(num_clips=5, clip_seconds=2.0)
    # 30 frames at 7.5 Hz last 4 s: clips begin at 0, 0.5, 1, 1.5, 2 s and hold 15 frames each.
    assert processor.frame_picks(30, 7.5) == [[0, 14], [4, 18], [8, 22], [12, 26], [15, 29]]
