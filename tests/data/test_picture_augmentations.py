"""Operations on pictures and maps against naive transcriptions of torchvision.transforms (0.19, transforms.py and
autoaugment.py), which does not import here."""

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codebind_hf.data.operations import View
from codebind_hf.data.picture_augmentations import (
    RAND_AUGMENT_OPERATIONS,
    ColorJitter,
    HorizontalFlip,
    RandAugment,
    RandomResizedCrop,
    RandomSquareCrop,
    Rotation,
    VerticalFlip,
    cropped,
    enhanced,
    hue_turned,
    magnitude_of,
    rand_augmented,
    resized_crop_box,
)
from codebind_hf.processing.image_processing_codebind import CodeBindDepthImageProcessor, CodeBindImageProcessor


SHAPE = (24, 40)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Noise of 8 bits without white, `(24, 40, 3)`, darker in green."""
    values = np.random.default_rng(0).integers(10, 250, (*SHAPE, 3)).astype(np.uint8)
    values[..., 1] //= 2
    return values


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def view(size: int = 16) -> View:
    return View(CodeBindImageProcessor(size=[size, size]), SHAPE)


def changes_of(operation: Any, seed: int) -> list[Any]:
    """The steps that one draw consists of."""
    return operation.draw(generator(seed), view()).keywords["changes"]


# Crops


def boxes(shape: tuple[int, int], scale: Any, ratio: Any, count: int = 400) -> np.ndarray:
    """Top, left, height and width in pixels of many crops."""
    found = np.array([resized_crop_box(generator(seed), shape, scale, ratio) for seed in range(count)])
    found *= [shape[0], shape[1], shape[0], shape[1]]
    assert np.allclose(found, found.round(), atol=1e-9)
    found = found.round().astype(int)
    return np.column_stack([found[:, :2], found[:, 2:] - found[:, :2]])


def test_crops_have_the_areas_and_ratios_asked_for_and_lie_anywhere_within() -> None:
    shape, scale, ratio = (300, 300), (0.08, 1.0), (0.75, 4 / 3)
    top, left, height, width = boxes(shape, scale, ratio).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 300).all()
    area, aspect = height * width / 90000, width / height
    # Sides are rounded to whole pixels, which moves areas and ratios by at most a part in 85 here.
    assert 0.08 * 0.985 <= area.min() < 0.12
    assert 0.9 < area.max() <= 1
    assert 0.74 < aspect.min() < 0.77
    assert 1.3 < aspect.max() < 1.35
    # Uniform where every box fits; ratios are symmetrical on a logarithmic scale.
    small = boxes(shape, (0.1, 0.3), ratio)
    assert np.mean(small[:, 2] * small[:, 3] / 90000) == pytest.approx(0.2, abs=0.01)
    assert np.mean(np.log(small[:, 3] / small[:, 2])) == pytest.approx(0, abs=0.03)
    place = small[:, 0] / (300 - small[:, 2])
    assert np.histogram(place, bins=4, range=(0, 1))[0].min() > 70


def test_what_never_fits_is_the_largest_centred_box_of_an_allowed_ratio() -> None:
    assert (boxes((10, 200), (1.0, 1.0), (0.75, 4 / 3), 5) == [0, (200 - 13) // 2, 10, 13]).all()
    assert (boxes((200, 10), (1.0, 1.0), (0.75, 4 / 3), 5) == [(200 - 13) // 2, 0, 13, 10]).all()
    # The whole has an allowed ratio and the drawn ones never fit: it is taken whole.
    assert (boxes((30, 36), (1.0, 1.0), (0.75, 0.8), 5)[:, 2] == 30).all()


def test_a_crop_cuts_and_resizes_as_pillow_does(pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    change = RandomResizedCrop(scale=[0.3, 0.5]).draw(generator(3), view())
    top, left, bottom, right = resized_crop_box(generator(3), SHAPE, (0.3, 0.5), (3 / 4, 4 / 3))
    box = tuple(round(value) for value in (left * 40, top * 24, right * 40, bottom * 24))
    expected = picture.crop(box).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(change(picture)), np.asarray(expected))
    # Maps are only cut: resizing comes after their processor has encoded them.
    levels = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
    cut = RandomResizedCrop(scale=[0.3, 0.5]).draw(generator(3), View(CodeBindDepthImageProcessor(), SHAPE))(levels)
    assert cut.dtype == np.uint16
    assert np.array_equal(cut, levels[box[1] : box[3], box[0] : box[2]])


def test_a_crop_of_another_size_of_the_same_scene_is_the_same_share_and_never_empty() -> None:
    levels = np.arange(6 * 10).reshape(6, 10)
    assert np.array_equal(cropped(levels, (0.5, 0.2, 1.0, 0.4), (4, 4), "bilinear"), levels[3:6, 2:4])
    assert cropped(levels, (0.99, 0.99, 1.0, 1.0), (4, 4), "bilinear").shape == (1, 1)


def test_a_square_crop_is_what_cutting_a_resized_picture_leaves() -> None:
    zoom = (256 / 224, 340 / 224)
    found = np.array([RandomSquareCrop(zoom=zoom).box(generator(seed), (300, 500)) for seed in range(200)])
    height, width = (found[:, 2] - found[:, 0]) * 300, (found[:, 3] - found[:, 1]) * 500
    assert np.allclose(height, width)
    assert 300 * 224 / 340 - 0.51 <= height.min() < 205
    assert 255 < height.max() <= 300 * 224 / 256 + 0.51
    assert found[:, 1].max() > 0.5


# Mirrors and turns


@pytest.mark.parametrize(("kind", "axis"), [(HorizontalFlip, 1), (VerticalFlip, 0)])
def test_mirrors_are_their_own_inverse_and_as_likely_as_asked(kind: Any, axis: int, pixels: np.ndarray) -> None:
    always = kind(p=1.0).draw(generator(0), view())
    for value in (Image.fromarray(pixels), pixels[..., 0]):
        assert np.array_equal(np.asarray(always(value)), np.flip(np.asarray(value), axis))
        assert np.array_equal(np.asarray(always(always(value))), np.asarray(value))
    never = kind(p=0.0).draw(generator(0), view())
    assert np.array_equal(never(pixels[..., 0]), pixels[..., 0])
    first = pixels[..., 0]
    times = sum(not np.array_equal(kind(p=0.3).draw(generator(seed), view())(first), first) for seed in range(500))
    assert times == pytest.approx(150, abs=35)


def test_a_turn_goes_counter_clockwise_and_leaves_black(pixels: np.ndarray) -> None:
    square = Image.fromarray(pixels[:24, :24])
    quarter = Rotation(degrees=[90, 90]).draw(generator(0), view())(square)
    assert np.array_equal(np.asarray(quarter), np.rot90(pixels[:24, :24]))
    eighth = np.asarray(Rotation(degrees=[45, 45]).draw(generator(0), view())(square))
    assert (eighth[0, 0] == 0).all()


# Colours


def test_jitter_without_strength_is_the_picture(pixels: np.ndarray) -> None:
    change = ColorJitter(strength=0.0, hue=0.0).draw(generator(0), view())
    assert np.array_equal(np.asarray(change(Image.fromarray(pixels))), pixels)


def grey_of(pixels: np.ndarray) -> np.ndarray:
    """ITU-R 601-2 luma, rounded."""
    return np.round(pixels @ [0.299, 0.587, 0.114])


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_factors_blend_with_black_grey_and_luma(factor: float, pixels: np.ndarray) -> None:
    floats, picture = pixels.astype(float), Image.fromarray(pixels)
    others = {
        "Brightness": np.zeros_like(floats),
        "Contrast": np.full_like(floats, round(grey_of(pixels).mean())),
        "Color": np.repeat(grey_of(pixels)[..., None], 3, axis=2),
    }
    for kind, other in others.items():
        expected = (other + factor * (floats - other)).clip(0, 255)
        found = np.asarray(enhanced(picture, kind, factor)).astype(float)
        assert np.abs(found - expected).max() <= 1.5, kind


def test_hues_turn_around_the_circle() -> None:
    red = Image.new("RGB", (2, 2), (200, 0, 0))
    assert np.abs(np.asarray(hue_turned(red, 1 / 3)).astype(int)[0, 0] - [0, 200, 0]).max() <= 5
    assert np.abs(np.asarray(hue_turned(red, -1 / 3)).astype(int)[0, 0] - [0, 0, 200]).max() <= 5
    assert hue_turned(red, 0.003) is red


def test_jitter_draws_factors_within_its_strength_in_any_order() -> None:
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    # On grey, contrast and saturation change nothing: what is left is brightness.
    jitter = ColorJitter(strength=0.4)
    levels = [np.asarray(jitter.draw(generator(seed), view())(grey))[0, 0, 0] for seed in range(300)]
    assert 58 <= min(levels) <= 62
    assert 138 <= max(levels) <= 142
    drawn = [changes_of(ColorJitter(hue=0.4), seed) for seed in range(300)]
    orders = {tuple(step.keywords.get("kind", "hue") for step in steps) for steps in drawn}
    assert len(orders) == 24
    turns = [step.keywords["share"] for steps in drawn for step in steps if "share" in step.keywords]
    assert -0.4 <= min(turns) < -0.38
    assert 0.38 < max(turns) <= 0.4


# RandAugment


def torchvision_magnitudes(height: int, width: int) -> dict[str, np.ndarray]:
    """The table of RandAugment._augmentation_space with 31 bins."""
    return {
        "ShearX": np.linspace(0.0, 0.3, 31),
        "ShearY": np.linspace(0.0, 0.3, 31),
        "TranslateX": np.linspace(0.0, 150.0 / 331.0 * width, 31),
        "TranslateY": np.linspace(0.0, 150.0 / 331.0 * height, 31),
        "Rotate": np.linspace(0.0, 30.0, 31),
        **{name: np.linspace(0.0, 0.9, 31) for name in ("Brightness", "Color", "Contrast", "Sharpness")},
        "Posterize": 8 - (np.arange(31) / ((31 - 1) / 4)).round(),
        "Solarize": np.linspace(255.0, 0.0, 31),
    }


def test_magnitudes_are_those_of_torchvision() -> None:
    table = torchvision_magnitudes(24, 40)
    for name, expected in table.items():
        side = {"TranslateX": 40, "TranslateY": 24}.get(name, 1)
        assert [magnitude_of(name, level) * side for level in range(31)] == pytest.approx(list(expected)), name
    assert {*table, "AutoContrast", "Equalize", "Identity"} == set(RAND_AUGMENT_OPERATIONS)
    assert len(RAND_AUGMENT_OPERATIONS) == 14


def sampled(pixels: np.ndarray, place: Any) -> np.ndarray:
    """Nearest neighbours: `place(x, y)` says where the middle of a pixel comes from; outside is black."""
    found = np.zeros_like(pixels)
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            from_x, from_y = (math.floor(value) for value in place(x + 0.5, y + 0.5))
            if 0 <= from_x < pixels.shape[1] and 0 <= from_y < pixels.shape[0]:
                found[y, x] = pixels[from_y, from_x]
    return found


def equalized(channel: np.ndarray) -> np.ndarray:
    """As _scale_channel of torchvision's functional_tensor."""
    histogram = np.bincount(channel.ravel(), minlength=256)
    step = (channel.size - histogram[histogram > 0][-1]) // 255
    if step == 0:
        return channel
    table = np.concatenate([[0], (np.cumsum(histogram) + step // 2) // step])[:256].clip(0, 255)
    return table[channel].astype(np.uint8)


def sharpened(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Blended with a smoothed copy, whose border is that of the picture."""
    floats = pixels.astype(float)
    soft = floats.copy()
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    for y in range(1, pixels.shape[0] - 1):
        for x in range(1, pixels.shape[1] - 1):
            soft[y, x] = np.tensordot(kernel, floats[y - 1 : y + 2, x - 1 : x + 2], 2)
    return (soft + factor * (floats - soft)).clip(0, 255)


@pytest.mark.parametrize("sign", [1, -1])
def test_geometric_operations_on_a_known_picture(sign: int, pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    expected = {
        ("ShearX", 0.173): sampled(pixels, lambda x, y: (x + sign * 0.173 * y, y)),
        ("ShearY", 0.173): sampled(pixels, lambda x, y: (x, y + sign * 0.173 * x)),
        # A quarter of 40 columns is 10, of 24 rows 6; positive is to the right and down.
        ("TranslateX", 0.25): sampled(pixels, lambda x, y: (x - sign * 10, y)),
        ("TranslateY", 0.25): sampled(pixels, lambda x, y: (x, y - sign * 6)),
    }
    for (name, magnitude), wanted in expected.items():
        found = np.asarray(rand_augmented(picture, name, sign * magnitude, "nearest"))
        assert np.array_equal(found, wanted), name
    square = pixels[:, :24]
    turned = np.asarray(rand_augmented(Image.fromarray(square), "Rotate", sign * 90.0, "nearest"))
    assert np.array_equal(turned, np.rot90(square, sign))


def test_tonal_operations_on_a_known_picture(pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)

    def found(name: str, magnitude: float = 0.0) -> np.ndarray:
        return np.asarray(rand_augmented(picture, name, magnitude, "nearest"))

    assert np.array_equal(found("Posterize", 5), pixels & 0b11111000)
    assert np.array_equal(found("Solarize", 100.0), np.where(pixels >= 100, 255 - pixels, pixels))
    low, high = pixels.min(axis=(0, 1)).astype(float), pixels.max(axis=(0, 1)).astype(float)
    assert np.abs(found("AutoContrast") - (pixels - low) * 255 / (high - low)).max() <= 1
    many = np.random.default_rng(1).integers(30, 90, (40, 50, 3)).astype(np.uint8)
    even = np.asarray(rand_augmented(Image.fromarray(many), "Equalize", 0, "nearest"))
    assert np.array_equal(even, np.stack([equalized(many[..., c]) for c in range(3)], axis=2))
    assert even.min() == 0
    for factor in (0.4, 1.7):
        assert np.abs(found("Sharpness", factor - 1) - sharpened(pixels, factor)).max() <= 2
        brighter = (pixels * factor).clip(0, 255)
        assert np.abs(found("Brightness", factor - 1) - brighter).max() <= 1.5
    assert np.array_equal(found("Identity"), pixels)


def test_level_zero_is_the_picture(pixels: np.ndarray) -> None:
    for name in set(RAND_AUGMENT_OPERATIONS) - {"AutoContrast", "Equalize"}:
        found = rand_augmented(Image.fromarray(pixels), name, magnitude_of(name, 0), "nearest")
        assert np.array_equal(np.asarray(found), pixels), name
    # As in torchvision, solarizing takes white even then.
    white = rand_augmented(Image.new("RGB", (2, 2), "white"), "Solarize", magnitude_of("Solarize", 0), "nearest")
    assert np.asarray(white).max() == 0


def test_rand_augment_draws_all_operations_and_signs_as_often() -> None:
    drawn: dict[str, list[float]] = {name: [] for name in RAND_AUGMENT_OPERATIONS}
    for seed in range(1000):
        changes = changes_of(RandAugment(num_ops=2, magnitude=9), seed)
        assert len(changes) == 2
        for change in changes:
            drawn[change.keywords["operation"]].append(change.keywords["magnitude"])
    assert all(len(found) == pytest.approx(2000 / 14, abs=45) for found in drawn.values())
    assert set(drawn["Rotate"]) == {-9.0, 9.0}
    assert set(drawn["Posterize"]) == {7}
    assert list(set(drawn["Solarize"])) == [pytest.approx(178.5)]
    counts = [len(changes_of(RandAugment(p=0.3), seed)) for seed in range(500)]
    assert np.mean(counts) == pytest.approx(0.6, abs=0.1)
