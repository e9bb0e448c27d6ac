"""In which unit is what a decoder rebuilds? Normalized values of a processor as what was measured."""

from typing import Any

import numpy as np

from codebind_hf.processing.arguments import argument_of


_PICTURES = ("image", "video", "tactile")
_ENCODINGS = {"metres": "m", "inverse": "1/m", "disparity": "disparity"}
# Energies of a spectrogram are natural logarithms.
_FIXED = {"audio": "log energy"}


def measured(processor: Any, modality: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Values `(channels, ...)` without the processor's mean and deviation, and their unit.

    Pictures come in [0, 1] with the unit "". Where the processor does not say how it normalizes, values stay as they
    are, with the unit "normalized".
    """
    part: Any = processor.part(argument_of(modality)) if hasattr(processor, "part") else None
    mean, std = getattr(part, "mean", None), getattr(part, "std", None)
    if mean is None or std is None or modality not in (*_PICTURES, *_FIXED, "depth", "thermal"):
        return values, "normalized"
    shape = (-1, *[1] * (values.ndim - 1))
    level = values * np.reshape(np.atleast_1d(std), shape) + np.reshape(np.atleast_1d(mean), shape)
    if modality in _PICTURES:
        return level, ""
    if modality == "depth":
        return level * part.value_range[1], _ENCODINGS.get(part.encoding, part.encoding)
    if modality == "thermal":
        scale = part.thermal_range
        return (level, "level") if scale is None else (level * (scale[1] - scale[0]) + scale[0], _thermal_unit(part))
    return level, _FIXED[modality]


def _thermal_unit(part: Any) -> str:
    """A range is in degrees Celsius where values have a unit of temperature, else in that of the values."""
    return "level" if part.thermal_unit is None else "°C"
