"""How does a point cloud of any size and scale become a fixed number of points?"""

from typing import Any, ClassVar

import numpy as np
from transformers import BatchFeature, FeatureExtractionMixin

from .sense_processing import SenseProcessing, check_choice, check_number
from .sense_values import as_float_array, refuse


class CodeBindPointFeatureExtractor(SenseProcessing, FeatureExtractionMixin):
    """Point clouds `(points, 3)` in any unit -> `point_values` (num_points, 3).

    Parameters:
        num_points: points of the result; smaller clouds are repeated in order.
        selection: which points of a larger cloud stay: "farthest" (each new point is the one farthest from those
            chosen, beginning with the first) or "stride" (evenly spaced in the order given).
        max_candidates: clouds larger than this are thinned by stride before "farthest", whose cost is quadratic.
        center: move the centroid to the origin.
        unit_sphere: divide by the distance of the farthest point.
    """

    type_key = "feature_extractor_type"
    model_input_names = ["point_values"]
    modality = "point_cloud"
    argument = "point_clouds"
    item_ndim = 2
    defaults: ClassVar[dict[str, Any]] = {
        "num_points": 256,
        "selection": "farthest",
        "max_candidates": 32768,
        "center": True,
        "unit_sphere": True,
    }
    num_points: int
    selection: str
    max_candidates: int
    center: bool
    unit_sphere: bool

    def check_parameters(self) -> None:
        """Refuse counts and choices that select nothing."""
        check_number("num_points", self.num_points, 1, whole=True)
        check_number("max_candidates", self.max_candidates, self.num_points, whole=True)
        check_choice("selection", self.selection, ("farthest", "stride"))

    def __call__(self, point_clouds: Any, return_tensors: str | None = None, **overrides: Any) -> BatchFeature:
        """Process one cloud or a list of clouds; `overrides` change parameters for this call only."""
        processor = self.with_parameters(**overrides)
        return processor.batch(point_clouds, processor.process_item, return_tensors)

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One cloud as `(num_points, 3)`."""
        points = _checked(value, label)
        points = self._selected(points)
        if self.center:
            points = points - points.mean(axis=0)
        if self.unit_sphere:
            radius = float(np.sqrt((points**2).sum(axis=1).max()))
            points = points / radius if radius > 0 else points
        repeats = np.arange(self.num_points) % len(points)
        return np.ascontiguousarray(points[repeats], dtype=np.float32)

    def _selected(self, points: np.ndarray) -> np.ndarray:
        if len(points) <= self.num_points:
            return points
        if self.selection == "stride":
            return points[stride_indices(len(points), self.num_points)]
        if len(points) > self.max_candidates:
            points = points[stride_indices(len(points), self.max_candidates)]
        return points[farthest_points(points, self.num_points)]


def stride_indices(count: int, kept: int) -> np.ndarray:
    """`kept` of `count` indices, evenly spaced, beginning with 0."""
    return np.arange(kept) * count // kept


def farthest_points(points: np.ndarray, kept: int) -> np.ndarray:
    """Indices of `kept` points: the first, then again and again the one farthest from those chosen so far.

    Args:
        points (`np.ndarray` of shape `(points, 3)`).
    """
    columns = np.ascontiguousarray(points.T)
    chosen = np.zeros(kept, dtype=np.int64)
    nearest = np.full(columns.shape[1], np.inf, dtype=columns.dtype)
    difference = np.empty_like(columns)
    squared = np.empty_like(nearest)
    for step in range(1, kept):
        np.subtract(columns, columns[:, chosen[step - 1], None], out=difference)
        np.einsum("ij,ij->j", difference, difference, out=squared)
        np.minimum(nearest, squared, out=nearest)
        chosen[step] = nearest.argmax()
    return chosen


def _checked(value: Any, label: str) -> np.ndarray:
    array = as_float_array(value, label)
    if array.ndim == 2 and array.shape[1] == 3:
        return array
    fix = ""
    if array.ndim == 2 and array.shape[1] > 3 and array.shape[0] != 3:
        fix = "keep xyz only: `array[:, :3]`."
    elif array.ndim == 2 and array.shape[0] == 3:
        fix = "put the points first with `array.T`."
    refuse(label, f"got shape {array.shape}", "(points, 3) with columns x, y, z", fix)
