"""What does the model see, and what does its decoder answer? Tensors of the model as HTML, both on one scale.

A tensor is in the value space of its processor: where that says mean and standard deviation, they are undone.
"""

from typing import Any

import numpy as np
from torch import Tensor

from codebind_hf.evaluation.figure_style import color_of, pretty
from codebind_hf.serving import markup
from codebind_hf.serving.item_views import COLORS, numbers_view


_LINES = 8


def tensor_views(modality: str, tensors: list[Tensor], part: Any = None, is_features: bool = False) -> list[str]:
    """HTML of tensors of one modality, drawn alike; the first of them sets the scale.

    Args:
        modality: its name.
        tensors: of single items, without the axis of the batch.
        part: the processor of this modality.
        is_features: whether they are vectors of another network.
    """
    values = [tensor.detach().float().cpu().numpy() for tensor in tensors]
    label = pretty(modality)
    if modality == "point_cloud" and not is_features:
        return [markup.cloud(each[:, :3], label, color_of(modality)) for each in values]
    if is_features or values[0].ndim <= 2 and modality != "audio":
        lines = [np.atleast_2d(each)[:_LINES] for each in values]
        return [markup.traces(each, label, f"{each.shape[-1]} numbers", color_of(modality)) for each in lines]
    grids = [_grid(each) for each in values]
    if len(grids[0]) == 3:
        pictures = [_unnormalized(grid, part, grids[0]) for grid in grids]
        return [markup.picture(pixels, label) for pixels in pictures]
    scaled, unit = zip(*(_measured(modality, grid[0], part) for grid in grids), strict=True)
    limits = float(scaled[0].min()), float(scaled[0].max())
    colors = COLORS.get(modality, "gray")
    # Low pitches lie at the bottom.
    drawn = [grid[::-1] if modality == "audio" else grid for grid in scaled]
    return [numbers_view(grid, label, colors, unit[0], limits) for grid in drawn]


def _grid(values: np.ndarray) -> np.ndarray:
    """`(channels, height, width)`; of frames behind the channels the middle one, of clips before them the first."""
    if values.ndim == 2:
        return values[None]
    if values.ndim == 4:
        return values[:, values.shape[1] // 2] if len(values) in (1, 3) else values[0]
    return values


def _statistics(part: Any) -> tuple[np.ndarray, np.ndarray] | None:
    mean, std = getattr(part, "mean", None), getattr(part, "std", None)
    if mean is None or std is None:
        return None
    return np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_1d(np.asarray(std, np.float64))


def _unnormalized(grid: np.ndarray, part: Any, first: np.ndarray) -> np.ndarray:
    """A picture of three channels as uint8 `(height, width, 3)`."""
    known = _statistics(part)
    if known is not None:
        shown = grid * known[1][:, None, None] + known[0][:, None, None]
    else:
        low, high = np.quantile(first, [0.005, 0.995])
        shown = (grid - low) / max(high - low, 1e-6)
    return (np.clip(shown, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def _measured(modality: str, grid: np.ndarray, part: Any) -> tuple[np.ndarray, str]:
    """A map in the unit of its processor, and what that is called."""
    known = _statistics(part)
    if known is None or known[0].size != 1:
        return grid, "as the model sees it"
    unit = {"depth": getattr(part, "encoding", "metres"), "thermal": "share of the range", "audio": "log energy"}
    return grid * known[1] + known[0], unit.get(modality, "values")
