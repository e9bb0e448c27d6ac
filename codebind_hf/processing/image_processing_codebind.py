"""How do pictures and maps become tower input? Image, tactile, depth and thermal, with every number a parameter."""

import math
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from .arrays import INVALID, are_measured, as_float_array, measured, unmasked
from .image_resizing import PIL_FILTERS, TENSOR_FILTERS, crop_grid, resize_grid, resize_picture, resized_shape
from .modality_processing import ModalityProcessing
from .pictures import grey_grid, picture_or_grid
from .values import check_choice, check_number, check_pair, check_size, check_unit, describe, refuse, shown


logger = logging.get_logger(__name__)

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
DEPTH_UNITS = (*_METRES, "disparity")
# Beyond this, a float depth map is more likely in millimetres than in metres.
_PLAUSIBLE_METRES = 1000.0
# Degrees Celsius per level, and degrees Celsius of level 0.
_CELSIUS = {
    "celsius": (1.0, 0.0),
    "decicelsius": (0.1, 0.0),
    "centicelsius": (0.01, 0.0),
    "kelvin": (1.0, -273.15),
    "decikelvin": (0.1, -273.15),
    "centikelvin": (0.01, -273.15),
    "fahrenheit": (5 / 9, -160 / 9),
}
_ABSOLUTE_ZERO = -273.15
THERMAL_UNITS = (*_CELSIUS, "levels")


class GridImageProcessor(ModalityProcessing, BaseImageProcessor):
    """Resize, crop and normalize one picture or map.

    Args:
        size: `[height, width]` of the result.
        num_channels: 3, or 1 (colour becomes grey); a map is repeated to fill 3.
        resize_mode: "shortest_edge" (keep the aspect ratio, then crop the centre) or "stretch".
        resize_edge: shorter side before the crop; `None` is the least that covers `size`.
        resize_on: "pil" (8-bit pictures, rounded to grey levels) or "tensor" (floats). Floats always take "tensor".
        interpolation: "nearest", "bilinear", "bicubic", and for "pil" also "box", "hamming", "lanczos".
        antialias: smooth before shrinking on "tensor"; Pillow always does.
        clip: cut what bicubic overshoots back to [0, 1] before normalization.
        mean, std: one number per channel, subtracted from and dividing values in [0, 1].
        upright: turn pictures as their EXIF orientation says (and films as their display matrix does).
    """

    type_key = "image_processor_type"
    later: ClassVar[tuple[str, ...]] = ("upright",)
    upright: bool = True
    size: list[int] = [32, 32]
    num_channels: int = 3
    resize_mode: str = "shortest_edge"
    resize_edge: int | None = None
    resize_on: str = "pil"
    interpolation: str = "bicubic"
    antialias: bool = True
    clip: bool = False
    mean: list[float] = _CLIP_MEAN
    std: list[float] = _CLIP_STD

    def check_parameters(self) -> None:
        """Refuse sizes, choices and statistics that do not fit together."""
        if not isinstance(self.size, list) or len(self.size) != 2:
            refuse("size", f"got {shown(self.size)}", "[height, width]")
        for side in self.size:
            check_number("size", side, 1, whole=True)
        check_choice("num_channels", self.num_channels, (1, 3))
        check_choice("resize_mode", self.resize_mode, ("shortest_edge", "stretch"))
        check_choice("resize_on", self.resize_on, ("pil", "tensor"))
        filters = PIL_FILTERS if self.resize_on == "pil" else TENSOR_FILTERS
        check_choice("interpolation", self.interpolation, tuple(filters))
        if self.resize_edge is not None:
            check_number("resize_edge", self.resize_edge, max(self.size), whole=True)
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, list) or len(values) not in (1, self.num_channels):
                refuse(name, f"got {shown(values)}", f"a list of 1 or {self.num_channels} numbers")
        for value in self.std:
            check_number("std", value, 1e-12)

    def sizes(self) -> dict[str, float]:
        """Numbers in one picture."""
        return {"values in an item": self.num_channels * math.prod(self.size)}

    @property
    def reading_options(self) -> dict[str, Any]:
        """How pictures lie."""
        return {"upright": self.upright}

    def __call__(  # type: ignore[override]
        self, images: Any, return_tensors: str | None = None, **overrides: Any
    ) -> BatchFeature:
        """Process one picture or a list of pictures; `overrides` change parameters for this call only."""
        processor = self.with_parameters(**overrides)
        return processor.batch(images, processor.process_item, return_tensors)

    def preprocess(self, images: Any, return_tensors: str | None = None, **overrides: Any) -> BatchFeature:
        """The same as calling the processor; the name that older code of Hugging Face uses."""
        return self(images, return_tensors=return_tensors, **overrides)

    def fit(self, value: Image.Image | np.ndarray, label: str) -> np.ndarray:
        """An 8-bit picture or a float `(channels, height, width)` grid in [0, 1], resized, cropped, normalized.

        Raises:
            ValueError: resized and not yet cropped it would have more pixels than `LIMITS.resized_pixels`.
        """
        if isinstance(value, Image.Image):
            value = self._fit_picture(value, label)
        else:
            shape = self._target((value.shape[1], value.shape[2]), label)
            value = crop_grid(resize_grid(value, shape, self._tensor_filter, self.antialias), self.size)
            value = value.clip(0.0, 1.0) if self.clip else value
        return self._normalize(value)

    @property
    def _tensor_filter(self) -> str:
        return self.interpolation if self.interpolation in TENSOR_FILTERS else "bicubic"

    def _target(self, shape: tuple[int, int], label: str) -> tuple[int, int]:
        """Height and width between resizing and cropping."""
        target = resized_shape(shape, self.size, self.resize_mode, self.resize_edge)
        check_resized(shape, target, label)
        return target

    def _fit_picture(self, picture: Image.Image, label: str) -> np.ndarray:
        picture = picture if picture.mode == self._mode else picture.convert(self._mode)
        target = self._target((picture.height, picture.width), label)
        if self.resize_on == "tensor":
            grid = _channels_first(np.asarray(picture)).astype(np.float32) / np.float32(255)
            grid = crop_grid(resize_grid(grid, target, self.interpolation, self.antialias), self.size)
            return grid.clip(0.0, 1.0) if self.clip else grid
        pixels = _channels_first(np.asarray(resize_picture(picture, target, self.interpolation)))
        return crop_grid(pixels, self.size).astype(np.float32) / np.float32(255)

    @property
    def _mode(self) -> str:
        return "RGB" if self.num_channels == 3 else "L"

    def _normalize(self, grid: np.ndarray) -> np.ndarray:
        mean = np.asarray(self.mean, dtype=np.float32)[:, None, None]
        std = np.asarray(self.std, dtype=np.float32)[:, None, None]
        grid = np.broadcast_to(grid, (self.num_channels, *grid.shape[1:]))
        return np.ascontiguousarray((grid - mean) / std, dtype=np.float32)


def check_resized(shape: tuple[int, int], target: tuple[int, int], label: str) -> None:
    """Refuse a picture that is so long and narrow that resizing it before it is cropped would fill the memory."""
    fix = "crop it to its middle, or set resize_mode='stretch'; else"
    what = f"pixels after resizing {shape[0]}x{shape[1]} to {target[0]}x{target[1]}"
    check_size(target[0] * target[1], label, what, "resized_pixels", fix)


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


class CodeBindImageProcessor(GridImageProcessor):
    """Photographs: `PIL.Image`, uint8 `(height, width, 3)` or floats in [0, 1] -> `pixel_values`."""

    model_input_names = ["pixel_values"]
    modality = "image"
    argument = "images"
    item_ndim = 3

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One picture as `(channels, height, width)`."""
        return self.fit(picture_or_grid(value, label, self.num_channels, self.upright), label)


class CodeBindTactileImageProcessor(CodeBindImageProcessor):
    """Pictures of a tactile sensor's gel -> `tactile_values`."""

    model_input_names = ["tactile_values"]
    modality = "tactile"
    argument = "tactile"


class CodeBindDepthImageProcessor(GridImageProcessor):
    """Depth maps `(height, width)` in metres -> `depth_values`.

    Args:
        depth_unit: unit of the values passed in: "m", "cm", "mm", a number (metres per unit), or "disparity" (already
            what `encoding="disparity"` makes). `None`: floats are metres, integers are refused.
        depth_range: metres below and above are cut off; `None` cuts nothing.
        encoding: "metres", "inverse" = 1 / metres (bounded for rooms and streets alike), or "disparity" = `baseline`
            (metres) * `focal_length` (pixels) / metres.
        invalid: what becomes of pixels that are no measurements: masked, NaN, infinite, at an end of a 16-bit type,
            or not between `valid_range`. "raise" refuses maps that have any, "fill" takes the nearest measurement of
            the row or column; `None` refuses NaN and infinities, and takes everything else for distances.
        valid_range: metres between which measurements lie; ends are none. Disparities are above 0.
        value_range: encoded values are cut to it and divided by its upper end, which gives the [0, 1] that mean and
            std apply to.
    """

    model_input_names = ["depth_values"]
    modality = "depth"
    argument = "depth"
    item_ndim = 3
    num_channels = 1
    resize_on = "tensor"
    interpolation = "bilinear"
    mean = [0.5]
    std = [0.25]
    depth_unit: str | float | None = None
    depth_range: list[float] | None = None
    encoding: str = "metres"
    baseline: float | None = None
    focal_length: float | None = None
    value_range: list[float] = [0.0, 10.0]
    later = ("upright", "invalid", "valid_range")
    invalid: str | None = None
    valid_range: list[float] = [0.0, 1000.0]

    def check_parameters(self) -> None:
        """As for pictures; also the unit, the ranges and what a disparity is computed from."""
        super().check_parameters()
        if isinstance(self.depth_unit, str) or self.depth_unit is None:
            check_unit("depth_unit", self.depth_unit, (None, *DEPTH_UNITS))
        else:
            check_number("depth_unit", self.depth_unit, 1e-12)
        check_choice("encoding", self.encoding, ("metres", "inverse", "disparity"))
        check_choice("invalid", self.invalid, INVALID)
        for name in ("depth_range", "value_range", "valid_range"):
            if name != "depth_range" or self.depth_range is not None:
                check_pair(name, getattr(self, name))
        if self.encoding == "disparity" and self.depth_unit != "disparity":
            for name in ("baseline", "focal_length"):
                check_number(name, getattr(self, name), 1e-12)

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One depth map as `(channels, height, width)`."""
        grid = self._encoded(self.mended(value, label), label)
        low, high = self.value_range
        return self.fit((grid.clip(low, high) / np.float32(high)).astype(np.float32), label)

    def mended(self, value: Any, label: str) -> np.ndarray:
        """A map `(1, height, width)` as it comes, with measurements alone if there is a policy."""
        if self.invalid is None:
            return grey_grid(value, label, upright=self.upright)
        grid = grey_grid(unmasked(value), label, upright=self.upright)
        low, high = (0.0, math.inf) if self.depth_unit == "disparity" else self.valid_range
        scale = _METRES.get(self.depth_unit, 1.0) if isinstance(self.depth_unit, str) else self.depth_unit or 1.0
        valid = are_measured(grid, value) & (grid * scale > low) & (grid * scale < high)
        return measured(grid, valid, self.invalid, label, is_map=True)

    def _encoded(self, grid: np.ndarray, label: str) -> np.ndarray:
        if self.depth_unit == "disparity":
            return as_float_array(grid, label)
        metres = self._metres(grid, label)
        if metres.min() < 0:
            refuse(label, f"got negative depth {metres.min():g}", "distances of 0 metres (no reading) or more")
        if self.depth_range is not None:
            low, high = self.depth_range
            if metres.max() <= low or metres.min() >= high:
                logger.warning_once(
                    f"{label}: all distances ({metres.min():g} to {metres.max():g} m) lie beyond depth_range="
                    f"{[low, high]} and become one value. Is depth_unit right?"
                )
            metres = metres.clip(low, high)
        if self.encoding == "metres":
            return metres
        scale = 1.0 if self.encoding == "inverse" else self.baseline * self.focal_length  # type: ignore[operator]
        return scale / np.maximum(metres, 1e-6)

    def _metres(self, grid: np.ndarray, label: str) -> np.ndarray:
        unit = self.depth_unit
        fix = (
            "pass depth_unit='mm' (or 'cm', 'm', metres per unit), to `encode` Depth(map, unit='mm'), or float "
            "metres; of rows, a column `depth_unit` says it, or the flag --depth_unit."
        )
        if unit is None and grid.dtype.kind != "f":
            refuse(label, f"got integers ({grid.dtype}) without a unit", "float metres, or integers with a unit", fix)
        metres = as_float_array(grid, label)
        # A sample is enough to tell millimetres from metres, and a far sky does not mislead its median.
        if unit is None and np.median(metres.reshape(-1)[:: max(1, metres.size // 1024)]) > _PLAUSIBLE_METRES:
            refuse(label, f"got float values around {np.median(metres):g}, read as metres", "plausible metres", fix)
        scale = _METRES[unit] if isinstance(unit, str) else unit
        return metres if scale is None or scale == 1.0 else metres * np.float32(scale)


class CodeBindThermalImageProcessor(GridImageProcessor):
    """Thermal maps `(height, width)`: 8-bit levels, temperatures, or floats in [0, 1] -> `thermal_values`.

    Args:
        thermal_unit: unit of the values passed in. Temperatures are "celsius", "kelvin", "fahrenheit", or what
            radiometric cameras store as integers: "decicelsius" and "centicelsius" (tenths and hundredths of a
            degree), "decikelvin" and "centikelvin" (kelvin * 10, kelvin * 100), or `[degrees per level, degrees of
            level 0]` in Celsius, such as `[1 / 64, -273.15]`. "levels": integers divided by the largest of their type.
            `None`: uint8 are levels, floats lie in [0, 1], other integers are refused; with `thermal_range`, anything.
        thermal_range: `[low, high]` of what the scene shows, mapped to [0, 1] and cut there: degrees Celsius with a
            unit of temperature, which needs it; without a unit in that of the values.
        invalid: as for depth maps; temperatures at absolute zero and below are no measurements.
    """

    model_input_names = ["thermal_values"]
    modality = "thermal"
    argument = "thermal"
    item_ndim = 3
    num_channels = 1
    resize_on = "tensor"
    interpolation = "bilinear"
    mean = [0.44531357]
    std = [0.26924619]
    later = ("upright", "thermal_unit", "invalid")
    invalid: str | None = None
    thermal_range: list[float] | None = None
    thermal_unit: str | list[float] | None = None

    def check_parameters(self) -> None:
        """As for pictures; also the unit and the range."""
        super().check_parameters()
        check_choice("invalid", self.invalid, INVALID)
        if self.thermal_range is not None:
            check_pair("thermal_range", self.thermal_range)
        if isinstance(self.thermal_unit, list):
            if len(self.thermal_unit) != 2:
                refuse("thermal_unit", f"got {self.thermal_unit!r}", "[degrees per level, degrees of level 0]")
            for number, least in zip(self.thermal_unit, (1e-12, -1e12), strict=True):
                check_number("thermal_unit", number, least)
        else:
            check_unit("thermal_unit", self.thermal_unit, (None, *THERMAL_UNITS))
        if self.thermal_unit not in (None, "levels") and self.thermal_range is None:
            fix = (
                "pass thermal_range=(low, high) in degrees Celsius, to `encode` Thermal(map, (low, high), unit); of "
                "rows, a column `thermal_range` says it."
            )
            got = f"got {self.thermal_unit!r} without thermal_range"
            refuse("thermal_unit", got, "temperatures with a range", fix)
        if self.thermal_unit == "levels" and self.thermal_range is not None:
            refuse(
                "thermal_range", f"got {self.thermal_range!r} for levels", "None", "leave out thermal_unit='levels'."
            )

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One thermal map as `(channels, height, width)`."""
        grid = self.mended(value, label)
        unit = self._unit_interval(grid, label)
        if self.resize_on == "pil" and grid.dtype == np.uint8 and self.thermal_range is None:
            return self.fit(Image.fromarray(grid[0]), label)
        return self.fit(unit, label)

    def mended(self, value: Any, label: str) -> np.ndarray:
        """A map `(1, height, width)` as it comes, with measurements alone if there is a policy."""
        if self.invalid is None:
            return grey_grid(value, label, True, self.upright)
        grid = grey_grid(unmasked(value), label, True, self.upright)
        valid = are_measured(grid, value) & (self._degrees(grid) > _ABSOLUTE_ZERO)
        return measured(grid, valid, self.invalid, label, is_map=True)

    def _unit_interval(self, grid: np.ndarray, label: str) -> np.ndarray:
        if self.thermal_range is not None:
            low, high = self.thermal_range
            return ((self._celsius(grid, label) - low) / (high - low)).clip(0.0, 1.0).astype(np.float32)
        if grid.dtype == np.uint8 or (self.thermal_unit == "levels" and grid.dtype == np.uint16):
            return grid.astype(np.float32) / np.float32(np.iinfo(grid.dtype).max)
        fix = (
            "for temperatures pass thermal_unit='centikelvin' (or another) and thermal_range=(low, high) in degrees "
            "Celsius, to `encode` Thermal(map, (low, high), unit); for levels of 16 bits thermal_unit='levels'; of "
            "rows, columns `thermal_unit` and `thermal_range` say it."
        )
        if grid.dtype.kind != "f":
            got = f"got {describe(grid)} without a unit"
            refuse(label, got, "uint8, integers with thermal_unit or thermal_range, or floats in [0, 1]", fix)
        values = as_float_array(grid, label).astype(np.float32)
        if values.min() < 0 or values.max() > 1:
            got = f"got floats from {values.min():g} to {values.max():g}"
            refuse(label, got, "floats in [0, 1], uint8, or values with thermal_range=(low, high)", fix)
        return values

    def _celsius(self, grid: np.ndarray, label: str) -> np.ndarray:
        """Degrees of values with a unit; others as they are."""
        values = as_float_array(grid, label)
        return values if self.thermal_unit is None else self._degrees(values)

    def _degrees(self, values: np.ndarray) -> np.ndarray:
        unit = self.thermal_unit
        if unit is None or unit == "levels":
            return values
        scale, zero = _CELSIUS[unit] if isinstance(unit, str) else unit
        return values.astype(np.float64) * scale + zero
