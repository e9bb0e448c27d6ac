"""How are pictures and maps cropped, mirrored, turned and coloured? Operations on 8-bit pictures and raw maps.

A picture is an RGB `PIL.Image`, a map an array `(height, width)` that keeps its type, and so its unit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from codebind_hf.data.operations import (
    MAPS,
    PICTURES,
    Operation,
    View,
    between,
    check_range,
    check_share,
    in_turn,
    unchanged,
)
from codebind_hf.processing.image_resizing import PIL_FILTERS
from codebind_hf.processing.values import check_choice, check_number


Box = tuple[float, float, float, float]

_TRIES = 10
_AFFINE_FILTERS = {name: PIL_FILTERS[name] for name in ("nearest", "bilinear", "bicubic")}


# Crops


def resized_crop_box(
    rng: np.random.Generator, shape: tuple[int, int], scale: Sequence[float], ratio: Sequence[float]
) -> Box:
    """Top, left, bottom and right of a random box, as shares of height and width.

    Area and, on a logarithmic scale, width by height are uniform. A box that fits is taken of ten; else the largest
    centred one whose ratio is allowed, as torchvision's RandomResizedCrop does.
    """
    height, width = shape
    for _ in range(_TRIES):
        area = height * width * between(rng, scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = rng.integers(height - box_height + 1)
            left = rng.integers(width - box_width + 1)
            return _shares(int(top), int(left), box_height, box_width, shape)
    box_height, box_width = height, width
    if width / height < ratio[0]:
        box_height = round(width / ratio[0])
    elif width / height > ratio[1]:
        box_width = round(height * ratio[1])
    return _shares((height - box_height) // 2, (width - box_width) // 2, box_height, box_width, shape)


def _shares(top: int, left: int, box_height: int, box_width: int, shape: tuple[int, int]) -> Box:
    height, width = shape
    return top / height, left / width, (top + box_height) / height, (left + box_width) / width


def cropped(value: Any, box: Box, size: Sequence[int], interpolation: str) -> Any:
    """A picture cut to `box` and resized to `size`; a map is only cut, its processor resizes what it makes of it."""
    height, width = shape_of(value)
    top, left = min(round(box[0] * height), height - 1), min(round(box[1] * width), width - 1)
    bottom, right = max(round(box[2] * height), top + 1), max(round(box[3] * width), left + 1)
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value[top:bottom, left:right])
    return value.crop((left, top, right, bottom)).resize((size[1], size[0]), PIL_FILTERS[interpolation])


def shape_of(value: Any) -> tuple[int, int]:
    """Height and width of a picture or map."""
    return value.shape if isinstance(value, np.ndarray) else (value.height, value.width)


@dataclass(frozen=True)
class _Crop(Operation):
    interpolation: str = "bilinear"
    modalities = (*PICTURES, *MAPS)
    replaced: ClassVar[dict[str, Any]] = {"resize_mode": "stretch", "resize_edge": None, "num_crops": 1}

    def check(self) -> None:
        """Also that the filter is known."""
        check_choice("interpolation", self.interpolation, tuple(PIL_FILTERS))

    def box(self, rng: np.random.Generator, shape: tuple[int, int]) -> Box:
        """What is cut out."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """Cut and resize."""
        box = self.box(rng, view.shape)
        return partial(cropped, box=box, size=view.part.size, interpolation=self.interpolation)


@dataclass(frozen=True)
class RandomResizedCrop(_Crop):
    """A box of random area and aspect ratio, resized to the processor's size in place of its own resizing.

    Args:
        scale: share of the area.
        ratio: width by height.
        interpolation: of pictures; maps are resized as their processor does.
    """

    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    name = "random_resized_crop"
    shared = ("scale", "ratio")

    def check(self) -> None:
        """Also the ranges."""
        super().check()
        check_range("scale", self.scale, 0, 1)
        check_range("ratio", self.ratio, 0, 1e3)

    def box(self, rng: np.random.Generator, shape: tuple[int, int]) -> Box:
        """See `resized_crop_box`."""
        return resized_crop_box(rng, shape, self.scale, self.ratio)


@dataclass(frozen=True)
class RandomSquareCrop(_Crop):
    """A square anywhere, resized to the processor's size in place of its own resizing.

    Args:
        zoom: the shorter side is so many times that of the square, such as `[256 / 224, 340 / 224]` for pictures that
            are resized to a shorter side of 256 to 340 and cut to 224.
    """

    zoom: Sequence[float] = (256 / 224, 340 / 224)
    name = "random_square_crop"
    shared = ("zoom",)

    def check(self) -> None:
        """Also the range."""
        super().check()
        check_range("zoom", self.zoom, 1, 1e3, above=False)

    def box(self, rng: np.random.Generator, shape: tuple[int, int]) -> Box:
        """A square of at least one pixel."""
        side = max(1, round(min(shape) / between(rng, self.zoom)))
        top, left = rng.integers(shape[0] - side + 1), rng.integers(shape[1] - side + 1)
        return _shares(int(top), int(left), side, side, shape)


# Mirrors and turns


@dataclass(frozen=True)
class HorizontalFlip(Operation):
    """Left and right exchanged, with probability `p`."""

    p: float = 0.5
    name = "horizontal_flip"
    modalities = (*PICTURES, *MAPS)
    shared = ("p",)

    def check(self) -> None:
        """A probability."""
        check_share("p", self.p)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """A mirror, or nothing."""
        return mirrored if rng.random() < self.p else unchanged


@dataclass(frozen=True)
class VerticalFlip(HorizontalFlip):
    """Top and bottom exchanged, with probability `p`."""

    name = "vertical_flip"

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """The other mirror, or nothing."""
        return turned_over if rng.random() < self.p else unchanged


def mirrored(value: Any) -> Any:
    """Left and right exchanged."""
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value[:, ::-1])
    return value.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def turned_over(value: Any) -> Any:
    """Top and bottom exchanged."""
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value[::-1])
    return value.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


@dataclass(frozen=True)
class Rotation(Operation):
    """Turned counter-clockwise about the centre by an angle from `degrees`; what comes from outside is black."""

    degrees: Sequence[float] = (0.0, 360.0)
    interpolation: str = "nearest"
    name = "rotation"
    modalities = PICTURES

    def check(self) -> None:
        """Angles and a filter."""
        check_range("degrees", self.degrees, -360, 360, above=False)
        check_choice("interpolation", self.interpolation, tuple(_AFFINE_FILTERS))

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """A turn."""
        return _turn(between(rng, self.degrees), _AFFINE_FILTERS[self.interpolation])


def _turn(degrees: float, resample: Image.Resampling) -> Callable[[Any], Any]:
    return lambda picture: picture.rotate(degrees, resample)


# Colours


@dataclass(frozen=True)
class ColorJitter(Operation):
    """Brightness, contrast, saturation and hue, in random order, as torchvision's ColorJitter.

    Args:
        strength: the first three are multiplied by a factor from `[1 - strength, 1 + strength]`.
        hue: turned by a share of the circle from `[-hue, hue]`.
    """

    strength: float = 0.4
    hue: float = 0.0
    name = "color_jitter"
    modalities = PICTURES

    def check(self) -> None:
        """Strengths that leave factors of 0 or more."""
        check_share("strength", self.strength)
        check_number("hue", self.hue, 0, most=0.5)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """Factors and their order."""
        low, high = 1 - self.strength, 1 + self.strength
        steps: list[Callable[[Any], Any]] = [
            partial(enhanced, kind=kind, factor=rng.uniform(low, high)) for kind in ("Brightness", "Contrast", "Color")
        ]
        steps.append(partial(hue_turned, share=rng.uniform(-self.hue, self.hue)))
        return partial(in_turn, changes=[steps[index] for index in rng.permutation(len(steps))])


def enhanced(picture: Image.Image, kind: str, factor: float) -> Image.Image:
    """`factor` 1 is the picture; 0 is black ("Brightness"), grey ("Contrast"), colourless ("Color") or soft."""
    return getattr(ImageEnhance, kind)(picture).enhance(factor)


def hue_turned(picture: Image.Image, share: float) -> Image.Image:
    """All hues moved by a share of the circle, in 256 steps."""
    step = int(share * 255)
    if not step:
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    turned = Image.fromarray(((np.asarray(hue).astype(np.int32) + step) % 256).astype(np.uint8))
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


# RandAugment (arXiv 1909.13719) with the operations and magnitudes of torchvision.transforms.RandAugment


LEVELS = 31
_SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
_UNSIGNED = ("Posterize", "Solarize", "AutoContrast", "Equalize", "Identity")
RAND_AUGMENT_OPERATIONS = (*_SIGNED, *_UNSIGNED)


def magnitude_of(operation: str, level: int) -> float:
    """Strength of an operation at a level from 0 to 30; of translations a share of the side."""
    share = level / (LEVELS - 1)
    most = {"Shear": 0.3, "Translate": 150 / 331, "Rotate": 30.0, "Posterize": 0.0, "Solarize": 0.0}
    if operation == "Posterize":
        return 8 - round(4 * share)
    if operation == "Solarize":
        return 255 * (1 - share)
    return share * most.get(operation.rstrip("XY"), 0.9)


def rand_augmented(picture: Image.Image, operation: str, magnitude: float, interpolation: str) -> Image.Image:
    """One of `RAND_AUGMENT_OPERATIONS`; what comes from outside of the picture is black.

    As in torchvision, "Solarize" turns white black even at level 0, and the last three have no magnitude.
    """
    if operation == "Rotate":
        return picture.rotate(magnitude, _AFFINE_FILTERS[interpolation])
    matrices = {
        "ShearX": (1, magnitude, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, magnitude, 1, 0),
        "TranslateX": (1, 0, -int(magnitude * picture.width), 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, -int(magnitude * picture.height)),
    }
    if operation in matrices:
        return picture.transform(
            picture.size, Image.Transform.AFFINE, matrices[operation], _AFFINE_FILTERS[interpolation]
        )
    if operation in ("Brightness", "Color", "Contrast", "Sharpness"):
        return enhanced(picture, operation, 1 + magnitude)
    plain: dict[str, Callable[[], Image.Image]] = {
        "Posterize": lambda: ImageOps.posterize(picture, int(magnitude)),
        "Solarize": lambda: ImageOps.solarize(picture, magnitude),  # type: ignore[arg-type]
        "AutoContrast": lambda: ImageOps.autocontrast(picture),
        "Equalize": lambda: ImageOps.equalize(picture),
        "Identity": lambda: picture,
    }
    return plain[operation]()


@dataclass(frozen=True)
class RandAugment(Operation):
    """Operations drawn with repetition from fourteen, all at one level.

    Args:
        num_ops: how many.
        magnitude: level from 0 to 30.
        p: with which probability each of them is done.
        interpolation: of shears, translations and rotations.
    """

    num_ops: int = 2
    magnitude: int = 9
    p: float = 1.0
    interpolation: str = "nearest"
    name = "rand_augment"
    modalities = PICTURES

    def check(self) -> None:
        """A count, a level, a probability and a filter."""
        check_number("num_ops", self.num_ops, 1, whole=True, most=len(RAND_AUGMENT_OPERATIONS))
        check_number("magnitude", self.magnitude, 0, whole=True, most=LEVELS - 1)
        check_share("p", self.p)
        check_choice("interpolation", self.interpolation, tuple(_AFFINE_FILTERS))

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """The operations and their signs."""
        steps: list[Callable[[Any], Any]] = []
        for _ in range(self.num_ops):
            operation = RAND_AUGMENT_OPERATIONS[rng.integers(len(RAND_AUGMENT_OPERATIONS))]
            sign = -1 if rng.random() < 0.5 and operation in _SIGNED else 1
            magnitude = sign * magnitude_of(operation, self.magnitude)
            if rng.random() < self.p:
                step = {"operation": operation, "magnitude": magnitude, "interpolation": self.interpolation}
                steps.append(partial(rand_augmented, **step))  # type: ignore[arg-type]
        return partial(in_turn, changes=steps)
