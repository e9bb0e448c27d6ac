"""Do sensors that look at the same thing agree? If one of them does not, it is dead, swapped or drifted.

Shared parts of one thing agree across modalities, as far as they agreed on rows that are known to be healthy. That is
the normal of every pair, as some pairs agree closely and others hardly; what is below it counts against both, and the
one that is in all such pairs is named.

Axes in this file: N rows, M modalities, D size of a shared part.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codebind_hf.evaluation.writing import write_text
from codebind_hf.processing.arrays import as_array, check_finite
from codebind_hf.processing.values import check_number, check_types, describe, fits, refuse, shown


FORMAT, VERSION = "codebind_hf.SensorCheck", 1
# What fixes mean and deviation of a pair is no estimate with fewer rows.
LEAST_ROWS = 10
_SMALLEST_DEVIATION = 1e-6
_FIELDS: dict[str, Any] = {
    **{"modalities": list[str], "size": int, "centers": list[list[float]] | None},
    **{"means": list[list[float]], "deviations": list[list[float]], "calibration": list[float]},
}


@dataclass
class SensorFlags:
    """Which rows have a sensor that contradicts the others.

    Args:
        flagged (booleans of shape `(rows,)`): which.
        modality (array of shape `(rows,)`): the sensor that contradicts the others most; "" where a row is not
            flagged, or where there are two sensors, of which it cannot be told which is wrong.
        scores (array of shape `(rows,)`): of that sensor, whether flagged or not; see `SensorCheck.scores`.
        threshold: above which a row is flagged.
    """

    flagged: NDArray[np.bool_]
    modality: NDArray[np.str_]
    scores: NDArray[np.float64]
    threshold: float


def disagreement(rows: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """How much each modality contradicts the others in every row, uncalibrated: `{modality: (rows,)}`.

    One minus the mean agreement with the others: the cosine of shared embeddings, or the share of segments with equal
    code ids. Pairs of modalities differ in what is normal; `SensorCheck` knows what is.

    Args:
        rows: by modality, shared embeddings `(rows, shared_dim)`, quantized or not, or code ids `(rows, segments)`.
            Row i of all is of one thing at one time.

    Raises:
        ValueError: fewer than two modalities, matrices of other shapes than the first, both kinds, NaN or infinities.
    """
    names, values = _checked(rows)
    agreements_NMM = _agreements(_prepared(values, None))
    return {name: 1 - _mean_of_others(agreements_NMM[:, place], place) for place, name in enumerate(names)}


class SensorCheck:
    """Which sensor is dead, swapped or drifted, at a rate of false alarms that is chosen; `SensorCheck.fit` makes one.

    Args:
        modalities: names of the sensors.
        size: numbers of a shared part, or code ids of one.
        centers (array of shape `(modalities, size)`, *optional*): mean unit embeddings of healthy rows, which are
            subtracted, as modalities lie apart as a whole; `None` for code ids.
        means, deviations (array of shape `(modalities, modalities)`): of the agreement of every pair on healthy rows.
        calibration (array of shape `(calibration rows,)`): scores of other healthy rows, in ascending order.
    """

    def __init__(
        self,
        modalities: list[str],
        size: int,
        centers: NDArray[np.float64] | None,
        means: NDArray[np.float64],
        deviations: NDArray[np.float64],
        calibration: NDArray[np.float64],
    ) -> None:
        self.modalities, self.size, self.centers = modalities, size, centers
        self.means, self.deviations, self.calibration = means, deviations, calibration

    @classmethod
    def fit(cls, healthy: Mapping[str, ArrayLike], calibration_share: float = 0.5, seed: int = 0) -> "SensorCheck":
        """Learn what is normal from healthy rows.

        A part of the rows gives centers, means and deviations, the others the threshold: scores of rows that were
        learned from would be too low for it.

        Args:
            healthy: as the rows of `disagreement`, with every sensor working. The bound on false alarms holds for new
                rows that are like them: neighbouring rows of one recording are not, so take rows from many.
            calibration_share: share of the rows that give the threshold, above 0 and below 1.
            seed: which rows.

        Raises:
            ValueError: as `disagreement`, or too few rows.
        """
        names, values = _checked(healthy, "healthy")
        check_number("calibration_share", calibration_share, 0, most=1, above=True)
        check_number("seed", seed, 0, whole=True)
        count = len(values[0])
        num_calibration = min(round(count * calibration_share), count - LEAST_ROWS)
        if num_calibration < 1:
            refuse("healthy", f"got {count} rows", f"{LEAST_ROWS + 1} or more", "more rows of working sensors.")
        order = np.random.default_rng(seed).permutation(count)
        learned, held_out = order[num_calibration:], order[:num_calibration]
        centers = None
        if values[0].dtype.kind == "f":
            centers = np.stack([_unit(each[learned]).mean(0) for each in values])
        agreements_NMM = _agreements(_prepared([each[learned] for each in values], centers))
        deviations_MM = np.maximum(agreements_NMM.std(0, ddof=1), _SMALLEST_DEVIATION)
        check = cls(names, values[0].shape[1], centers, agreements_NMM.mean(0), deviations_MM, np.zeros(0))
        scores = check.scores({name: each[held_out] for name, each in zip(names, values, strict=True)})
        check.calibration = np.sort(np.max(list(scores.values()), axis=0))
        return check

    def scores(self, rows: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]]:
        """How far the agreement of each sensor with the others lies below normal: `{modality: (rows,)}`.

        The mean over the other sensors of how many deviations of this pair it lies below the mean of this pair. The
        sensor with the largest score is the one without which the others agree best.

        Args:
            rows: as in `fit`, of the same modalities.

        Raises:
            ValueError: as `disagreement`, or other modalities, sizes or kinds than in `fit`.
        """
        names, values = _checked(rows)
        values = self._in_order(dict(zip(names, values, strict=True)))
        below_NMM = (self.means - _agreements(_prepared(values, self.centers))) / self.deviations
        return {name: _mean_of_others(below_NMM[:, place], place) for place, name in enumerate(self.modalities)}

    def threshold(self, false_alarms: float = 0.01) -> float:
        """The score that at most this share of healthy rows exceeds.

        Split conformal prediction (Lei et al. 2018, arXiv:1604.04173): of n calibration rows, the
        `ceil((n + 1) * (1 - false_alarms))`-th score. The bound holds whatever the distribution, on average over draws
        of the calibration rows.

        Raises:
            ValueError: too few calibration rows for this rate.
        """
        check_number("false_alarms", false_alarms, 0, most=1, above=True)
        count = len(self.calibration)
        # What is whole but for rounding is not rounded up.
        rank = math.ceil((count + 1) * (1 - false_alarms) - 1e-9)
        if rank > count:
            least = math.ceil(1 / false_alarms - 1 - 1e-9)
            refuse(
                "false_alarms",
                f"got {shown(false_alarms)} with {count} calibration rows",
                f"{1 / (count + 1):.2g} or more",
                f"fit with {least} or more rows for calibration (by default, half of those that are given).",
            )
        return float(self.calibration[rank - 1]) if rank else -math.inf

    def flags(self, rows: Mapping[str, ArrayLike], false_alarms: float = 0.01) -> SensorFlags:
        """Rows in which a sensor contradicts the others, and which sensor.

        Args:
            rows: as in `fit`.
            false_alarms: share of healthy rows that is flagged at most.

        Raises:
            ValueError: as `scores` and `threshold`.
        """
        threshold, scores = self.threshold(false_alarms), self.scores(rows)
        scores_NM = np.stack([scores[name] for name in self.modalities], axis=1)
        worst_N = scores_NM.max(1)
        named = np.array(self.modalities)[scores_NM.argmax(1)]
        is_named = (worst_N > threshold) & (len(self.modalities) > 2)
        return SensorFlags(worst_N > threshold, np.where(is_named, named, ""), worst_N, threshold)

    def save(self, file: str | os.PathLike) -> Path:
        """Write it as JSON, in one step.

        Raises:
            OSError: it cannot be written.
        """
        check_types({"file": file}, {"file": str | os.PathLike})
        values = {name: getattr(self, name) for name in _FIELDS}
        plain = {name: each.tolist() if isinstance(each, np.ndarray) else each for name, each in values.items()}
        return write_text(Path(file), json.dumps({"format": FORMAT, "version": VERSION, **plain}, indent=1))

    @classmethod
    def load(cls, file: str | os.PathLike) -> "SensorCheck":
        """Read what `save` wrote; it gives the same scores, bit for bit.

        Raises:
            OSError: there is no such file.
            ValueError: the file is something else, or damaged.
        """
        check_types({"file": file}, {"file": str | os.PathLike})
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: is no JSON ({error}). Fix: copy it again.") from error
        kind = (found.get("format"), found.get("version")) if isinstance(found, dict) else None
        if kind != (FORMAT, VERSION):
            raise ValueError(
                f"{file}: got {shown(kind)}; expected {(FORMAT, VERSION)}, which `SensorCheck.save` writes."
            )
        for name, hint in _FIELDS.items():
            if name not in found or not fits(found[name], hint):
                raise ValueError(f"{file}: {name} is {shown(found.get(name))}. Fix: copy it again.")
        names, size = found["modalities"], found["size"]
        shapes: dict[str, tuple[int, ...]] = {
            "centers": (len(names), size),
            "means": (len(names), len(names)),
            "deviations": (len(names), len(names)),
            "calibration": (len(found["calibration"]),),
        }
        arrays = {
            name: None if found[name] is None else _array(file, name, found[name], shapes[name]) for name in shapes
        }
        return cls(names, size, **arrays)  # type: ignore[arg-type]

    def _in_order(self, rows: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The rows of the modalities of `fit`, in their order."""
        if sorted(rows) != sorted(self.modalities):
            refuse("rows", f"got {', '.join(rows)}", f"those of `fit`, {', '.join(self.modalities)}")
        for name, value in rows.items():
            are_ids = value.dtype.kind != "f"
            if value.shape[1] != self.size or are_ids != (self.centers is None):
                kind = "code ids" if self.centers is None else "embeddings"
                refuse(f"rows[{name!r}]", f"got {describe(value)}", f"{kind} (rows, {self.size}), as in `fit`")
        return [rows[name] for name in self.modalities]


def _array(file: str | os.PathLike, name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        array = np.array(value, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{file}: {name} has rows of unequal length. Fix: copy it again.") from error
    if array.shape != shape:
        raise ValueError(f"{file}: {name} has shape {array.shape}, where {shape} belongs. Fix: copy it again.")
    return array


def _checked(rows: Any, label: str = "rows") -> tuple[list[str], list[NDArray[Any]]]:
    """Names and matrices `(rows, size)` of the modalities, all floats or all integers."""
    if not isinstance(rows, Mapping) or len(rows) < 2 or not all(isinstance(name, str) for name in rows):
        got = ", ".join(map(str, rows)) if isinstance(rows, Mapping) else describe(rows)
        refuse(label, f"got {got[:80] or 'nothing'}", "a dictionary with two or more modalities")
    values = []
    for name, value in rows.items():
        array, place = as_array(value, f"{label}[{name!r}]"), f"{label}[{name!r}]"
        if array.ndim != 2 or array.dtype.kind == "b":
            refuse(place, f"got {describe(array)}", "embeddings (rows, shared_dim) or code ids (rows, segments)")
        check_finite(array, place)
        values.append(array if array.dtype.kind != "f" else array.astype(np.float64))
        first = values[0]
        if array.shape != first.shape or (array.dtype.kind == "f") != (first.dtype.kind == "f"):
            refuse(place, f"got {describe(array)}", f"the kind and shape of the first modality, {first.shape}")
    return list(rows), values


def _unit(values_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of unit norm; zeros, which a dead sensor may give, stay."""
    lengths = np.linalg.norm(values_ND, axis=1, keepdims=True)
    return values_ND / np.where(lengths > 0, lengths, 1)


def _prepared(values: list[NDArray[Any]], centers: NDArray[np.float64] | None) -> NDArray[Any]:
    """What is compared, `(M, N, D)`: code ids, or unit vectors less their center, of unit norm again."""
    if values[0].dtype.kind != "f":
        return np.stack(values)
    if centers is None:
        return np.stack([_unit(each) for each in values])
    return np.stack([_unit(_unit(each) - center) for each, center in zip(values, centers, strict=True)])


def _agreements(prepared_MND: NDArray[Any]) -> NDArray[np.float64]:
    """Of every row and pair of modalities: cosine, or share of segments with equal ids, `(N, M, M)`."""
    if prepared_MND.dtype.kind == "f":
        return np.einsum("mnd,knd->nmk", prepared_MND, prepared_MND)
    pairs = [[(one == other).mean(1) for other in prepared_MND] for one in prepared_MND]
    return np.moveaxis(np.array(pairs), 2, 0)


def _mean_of_others(values_NM: NDArray[np.float64], place: int) -> NDArray[np.float64]:
    return np.delete(values_NM, place, axis=1).mean(1)
