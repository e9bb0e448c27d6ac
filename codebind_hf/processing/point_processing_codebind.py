"""How does a point cloud of any size and scale become a fixed number of points?"""

from typing import Any

import numpy as np
from transformers import BatchFeature, FeatureExtractionMixin

from .arrays import are_measured, as_array, as_float_array, refuse_unmeasured, unmasked
from .media import COLORED_POINTS
from .modality_processing import ModalityProcessing
from .point_files import MESH_SAMPLES, POINT_FILES
from .sources import is_source, kind_of
from .values import check_choice, check_number, refuse


class CodeBindPointFeatureExtractor(ModalityProcessing, FeatureExtractionMixin):
    """Point clouds `(points, 3)` in any unit, or `(points, 6)` with colours -> `point_values`, `(num_points, ...)`.

    Args:
        num_points: points of the result; smaller clouds are repeated in order.
        num_channels: 3 (x, y, z), or 6 (x, y, z, red, green, blue).
        selection: which points of a larger cloud stay: "farthest" (each new point is the one farthest from those
            chosen, beginning with the first), "stride" (evenly spaced in the order given) or "random" (always the same
            choice for the same number of points; small clouds are shuffled too, as OpenShape does).
        max_candidates: clouds larger than this are thinned by stride before "farthest", whose cost is quadratic.
        swap_yz: exchange y and z, for encoders of clouds that stand on the x-y plane.
        center: move the centroid to the origin.
        unit_sphere: divide by the distance of the farthest point.
        color_scale: value of a full colour, 1 or 255, in arrays and `.npy` files. Other files tell it themselves.
        missing_color: in [0, 1], of clouds without colours; `None` refuses them.
        invalid: what becomes of points that are no measurements: with NaN or infinities, at 0 0 0 exactly (no return),
            or stray. "raise" refuses clouds that have any, "drop" leaves them out; `None` refuses NaN and infinities,
            and takes everything else for points.
        stray_distance: points this many times farther from the middle of a cloud than its median point are stray;
            `None`: none is.
        mesh_samples: points drawn from the surface of a mesh file (always the same ones); 0 takes its vertices.
    """

    type_key = "feature_extractor_type"
    model_input_names = ["point_values"]
    modality = "point_cloud"
    argument = "point_clouds"
    item_ndim = 2
    num_points: int = 256
    num_channels: int = 3
    selection: str = "farthest"
    max_candidates: int = 32768
    swap_yz: bool = False
    center: bool = True
    unit_sphere: bool = True
    color_scale: float = 1.0
    missing_color: float | None = 0.4
    later = ("mesh_samples", "invalid", "stray_distance")
    invalid: str | None = None
    stray_distance: float | None = 20.0
    mesh_samples: int = MESH_SAMPLES

    def check_parameters(self) -> None:
        """Refuse counts and choices that select nothing."""
        check_number("num_points", self.num_points, 1, whole=True)
        check_number("max_candidates", self.max_candidates, self.num_points, whole=True)
        check_choice("num_channels", self.num_channels, (3, 6))
        check_choice("selection", self.selection, ("farthest", "stride", "random"))
        check_number("color_scale", self.color_scale, 1e-12)
        check_number("mesh_samples", self.mesh_samples, 0, whole=True)
        check_choice("invalid", self.invalid, (None, "raise", "drop"))
        if self.stray_distance is not None:
            check_number("stray_distance", self.stray_distance, 1)
        if self.missing_color is not None:
            check_number("missing_color", self.missing_color, 0, most=1)

    def sizes(self) -> dict[str, float]:
        """Numbers in one cloud."""
        return {"values in an item": self.num_points * self.num_channels}

    @property
    def media(self) -> str:
        """How files are read: with their colours, or without."""
        return self.modality if self.num_channels == 3 else COLORED_POINTS

    @property
    def reading_options(self) -> dict[str, Any]:
        """How meshes are read."""
        return {"mesh_samples": self.mesh_samples}

    def load(self, value: Any, label: str) -> Any:
        """As for every modality; colours of files, which are in [0, 1], at the scale of all others."""
        cloud = super().load(value, label)
        if is_source(value) and cloud.shape[1] == 6 and kind_of(value, POINT_FILES) != ".npy":
            cloud[:, 3:] *= self.color_scale
        return cloud

    def __call__(self, point_clouds: Any, return_tensors: str | None = None, **overrides: Any) -> BatchFeature:
        """Process one cloud or a list of clouds; `overrides` change parameters for this call only."""
        processor = self.with_parameters(**overrides)
        return processor.batch(point_clouds, processor.process_item, return_tensors)

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One cloud as `(num_points, num_channels)`."""
        cloud = self._checked(value, label)
        cloud = cloud[self._selected(cloud[:, :3])]
        points, colours = cloud[:, :3], cloud[:, 3:]
        points = points[:, [0, 2, 1]] if self.swap_yz else points
        if self.center:
            # In float64 until they are near the origin: sums of large numbers lose more than a cloud is wide.
            points = points - points.mean(axis=0, dtype=np.float64)
        if self.unit_sphere:
            radius = float(np.sqrt((points**2).sum(axis=1).max()))
            points = points / radius if radius > 0 else points
        repeats = np.arange(self.num_points) % len(points)
        return np.concatenate([points, colours], axis=1)[repeats].astype(np.float32)

    def _selected(self, points: np.ndarray) -> np.ndarray:
        """Indices of the points that stay, in the order of the result."""
        if self.selection == "random":
            return np.random.default_rng(0).permutation(len(points))[: self.num_points]
        if len(points) <= self.num_points:
            return np.arange(len(points))
        if self.selection == "stride":
            return stride_indices(len(points), self.num_points)
        candidates = stride_indices(len(points), min(len(points), self.max_candidates))
        return candidates[farthest_points(points[candidates], self.num_points)]

    def _checked(self, value: Any, label: str) -> np.ndarray:
        """A cloud with as many columns as `num_channels`."""
        array = as_float_array(value, label) if self.invalid is None else as_array(unmasked(value), label)
        coloured = self.num_channels == 6
        if array.ndim != 2 or array.shape[1] not in ((3, 6) if coloured else (3,)):
            fix = ""
            if array.ndim == 2 and array.shape[0] in (3, 6) and array.shape[1] > 6:
                fix = "put the points first with `array.T`."
            elif array.ndim == 2 and array.shape[1] > 3:
                fix = "keep x, y, z and colours only." if coloured else "keep xyz only: `array[:, :3]`."
            columns = "(points, 6) with columns x, y, z, red, green, blue, or x, y, z" if coloured else "(points, 3)"
            refuse(label, f"got shape {array.shape}", columns if coloured else f"{columns} with columns x, y, z", fix)
        if self.invalid is not None:
            array = as_float_array(self._measured(array, are_measured(array, value), label), label)
        return self._coloured(array, label) if coloured else array

    def _measured(self, array: np.ndarray, are_there: np.ndarray, label: str) -> np.ndarray:
        points = array[:, :3]
        valid: Any = are_there.all(axis=1) & points.any(axis=1)
        if self.stray_distance is not None and valid.any():
            away = np.linalg.norm(points - np.median(points[valid], axis=0), axis=1)
            usual = float(np.median(away[valid]))
            if usual > 0:
                valid = valid & (away <= self.stray_distance * usual)
        if self.invalid == "raise" and not valid.all() or not valid.any():
            refuse_unmeasured(valid, label, "points")
        return array[valid]

    def _coloured(self, array: np.ndarray, label: str) -> np.ndarray:
        if array.shape[1] == 3:
            if self.missing_color is None:
                fix = "pass (points, 6), or set missing_color, such as 0.4."
                refuse(label, "got a cloud without colours", "x, y, z, red, green, blue", fix)
            grey = np.full_like(array, self.missing_color)
            return np.concatenate([array, grey], axis=1)
        colours = array[:, 3:] / self.color_scale
        if colours.min() < 0 or colours.max() > 1:
            got = f"got colours from {array[:, 3:].min():g} to {array[:, 3:].max():g}"
            fix = "pass color_scale=255 for 8-bit colours; of rows, a column `point_cloud_color_scale` says it."
            refuse(label, got, f"colours in [0, {self.color_scale:g}]", fix)
        return np.concatenate([array[:, :3], colours], axis=1)


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
