"""How do arrays of a modality that a user added become tower input?"""

import math
from typing import Any

import numpy as np
from transformers import BatchFeature, FeatureExtractionMixin

from .arguments import tensor_of
from .arrays import INVALID, are_measured, as_array, as_float_array, measured, unmasked
from .image_resizing import resize_grid
from .modality_processing import ModalityProcessing
from .resampling import band_limited
from .signal_processing_codebind import interpolate_linearly
from .values import check_choice, check_number, refuse, shown


class CodeBindArrayFeatureExtractor(ModalityProcessing, FeatureExtractionMixin):
    """Float arrays of `num_channels` over one or two axes -> `<name>_values` (num_channels, *input_size).

    Args:
        name: the modality, which is also its argument.
        num_channels: leading axis of an item; it may be left out when it is 1.
        input_size: `[time]` (linear interpolation, of longer ones smoothed) or `[height, width]` (bilinear, smoothed);
            any length is accepted.
        normalize: subtract the mean and divide by the standard deviation of each "channel", the whole "item", "none".
        mean, std: subtracted from and dividing every value, before `normalize`.
        invalid: as for recordings of electrodes; gaps of maps are filled from the nearest value of the row or column.
    """

    type_key = "feature_extractor_type"
    name: str = "array"
    num_channels: int = 1
    input_size: list[int] = [128]
    normalize: str = "none"
    mean: float = 0.0
    std: float = 1.0
    later = ("invalid",)
    invalid: str | None = None

    def check_parameters(self) -> None:
        """Refuse sizes and choices that make no array."""
        check_number("num_channels", self.num_channels, 1, whole=True)
        if not isinstance(self.input_size, list) or len(self.input_size) not in (1, 2):
            refuse("input_size", f"got {shown(self.input_size)}", "[time] or [height, width]")
        for length in self.input_size:
            check_number("input_size", length, 1, whole=True)
        check_choice("normalize", self.normalize, ("channel", "item", "none"))
        check_number("std", self.std, 1e-12)
        check_choice("invalid", self.invalid, INVALID)
        self.modality = self.argument = self.name
        self.model_input_names = [tensor_of(self.name)]
        self.item_ndim = len(self.input_size) + 1

    def sizes(self) -> dict[str, float]:
        """Numbers in one array."""
        return {"values in an item": self.num_channels * math.prod(self.input_size)}

    def __call__(self, values: Any, return_tensors: str | None = None, **overrides: Any) -> BatchFeature:
        """Process one array or a list of arrays; `overrides` change parameters for this call only."""
        processor = self.with_parameters(**overrides)
        return processor.batch(values, processor.process_item, return_tensors)

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One array as `(num_channels, *input_size)`."""
        array = as_float_array(value, label) if self.invalid is None else as_array(unmasked(value), label)
        if array.ndim == len(self.input_size) and self.num_channels == 1:
            array = array[None]
        if array.ndim != self.item_ndim or array.shape[0] != self.num_channels:
            axes = "time" if len(self.input_size) == 1 else "height, width"
            refuse(label, f"got shape {array.shape}", f"({self.num_channels}, {axes}), channels first")
        if self.invalid is not None:
            array = measured(array, are_measured(array, value), self.invalid, label, len(self.input_size) == 2)
        array = (as_float_array(array, label).astype(np.float64) - self.mean) / self.std
        array = self._standardized(array)
        if len(self.input_size) == 1:
            fitted = band_limited if array.shape[1] > self.input_size[0] else interpolate_linearly
            return np.ascontiguousarray(fitted(array, self.input_size[0]), dtype=np.float32)
        shape = (self.input_size[0], self.input_size[1])
        return np.ascontiguousarray(resize_grid(array, shape, "bilinear", antialias=True), dtype=np.float32)

    def _standardized(self, array: np.ndarray) -> np.ndarray:
        if self.normalize == "none":
            return array
        axes = tuple(range(1, array.ndim)) if self.normalize == "channel" else None
        array = array - array.mean(axis=axes, keepdims=True)
        deviation = array.std(axis=axes, keepdims=True)
        return array / np.where(deviation > 0, deviation, 1.0)
