"""From cells to figures: means over worlds or splits, and paired differences to tuned hard alignment."""

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from cells import Cells
from scipy.stats import t as student
from splits import SHARE
from study import Study
from worlds import TARGETS

from codebind_hf.evaluation import retrieval_recall


CONTROL = "hard"
# Of the two kinds of data, what is measured of every unit (a world, or a split), in the order of the table.
MEASURES = {
    "zero-shot": "zero-shot",
    "zero-shot of codes": "zero-shot",
    "R@10": "to pictures",
    "R@10 of codes": "to pictures",
    "R@10, never met": "between senses that never met",
    "shared knows": "private attributes, read from the shared part",
    "specific knows": "private attributes, read from the specific part",
}
# What a difference is tested for, with one correction for all rows.
TESTED = ("zero-shot", "R@10")
Units = dict[int, dict[str, float]]


def of_worlds(cells: Cells, rows: Sequence[str], worlds: Sequence[int], seeds: Sequence[int]) -> dict[str, Units]:
    """By row and world, means over senses and seeds."""
    return {row: {number: _of_world(cells, row, number, seeds) for number in worlds} for row in rows}


def _of_world(cells: Cells, row: str, number: int, seeds: Sequence[int]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for target in TARGETS:
            cell = cells.compute(row, number, target, seed)
            knows = {part: [cell[key][part] for key in cell if key.startswith("knows ")] for part in _knowing(cell)}
            values = {
                "zero-shot": cell["zero-shot shared"],
                "zero-shot of codes": cell["zero-shot shared_codes"],
                "R@10": cell["to image shared"]["recall_at_10"],
                "R@10 of codes": cell["to image shared_codes"]["recall_at_10"],
                **{f"{part} knows": float(np.mean(each)) for part, each in knows.items()},
            }
            for name, value in values.items():
                found.setdefault(name, []).append(value)
        for one, other in permutations(TARGETS, 2):
            query, gallery = (cells.arrays(row, number, target, seed)["shared"] for target in (one, other))
            found.setdefault("R@10, never met", []).append(retrieval_recall(query, gallery, (10,))["recall_at_10"])
    return {name: float(np.mean(each)) for name, each in found.items()}


def _knowing(cell: Mapping[str, Any]) -> list[str]:
    probes = next(value for key, value in cell.items() if key.startswith("knows "))
    return [part for part in ("shared", "specific") if part in probes]


def of_splits(study: Study, rows: Sequence[str], senses: Sequence[str], seeds: Sequence[int]) -> dict[str, Units]:
    """By row and split, means over senses; private are the labels that `readings.attributes_of` names."""
    return {row: {seed: _of_split(study, row, senses, seed) for seed in seeds} for row in rows}


def _of_split(study: Study, row: str, senses: Sequence[str], seed: int) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for sense in senses:
        cell = study.compute(row, seed, sense)
        for part, words in (("shared", ""), ("shared_codes", " of codes")):
            if "to image" in cell:
                found.setdefault(f"R@10{words}", []).append(cell["to image"][part]["recall_at_10"])
            for by in cell.get("zero-shot", {}).values():
                found.setdefault(f"zero-shot{words}", []).append(by[part])
        for part, labels in cell.get("readings", {}).items():
            if part in ("shared", "specific"):
                private = [value for label, value in labels.items() if label in ("language", "size", "side")]
                found.setdefault(f"{part} knows", []).append(float(np.mean(private)))
    meshes = [sense for sense in senses if sense in ("points", "touch", "depth", "video")]
    for one, other in permutations(meshes, 2):
        first, second = (study.arrays(row, seed, sense) for sense in (one, other))
        recall = retrieval_recall(first["shared"], second["shared"], (10,))["recall_at_10"]
        found.setdefault("R@10, never met", []).append(recall)
    return {name: float(np.mean(each)) for name, each in found.items()}


def spread(values: Sequence[float], splits: bool) -> dict[str, float]:
    """Mean, standard error, half of a 95 % interval and two-sided p of being 0, by Student's t.

    Splits share training rows; their variance is multiplied by 1 / splits + test share / training share (Nadeau and
    Bengio, 2003). Worlds share nothing.
    """
    found = np.asarray(values, dtype=float)
    count = len(found)
    if count < 2:
        return {"mean": float(found.mean()), "se": math.nan, "half": math.nan, "p": math.nan, "units": count}
    error = float(found.std(ddof=1) * math.sqrt(1 / count + (SHARE / (1 - SHARE) if splits else 0)))
    p = 1.0 if error == 0 else float(2 * student.sf(abs(found.mean()) / error, count - 1))
    half = float(student.ppf(0.975, count - 1)) * error
    return {"mean": float(found.mean()), "se": error, "half": half, "p": p, "units": count}


def table_of(found: Mapping[str, Units], splits: bool) -> dict[str, Any]:
    """By row and measure: `level`, and `difference` to the control on the same units, with p corrected after Holm."""
    rows: dict[str, Any] = {}
    for row, units in found.items():
        rows[row] = {}
        for name in MEASURES:
            values = [each[name] for each in units.values() if name in each]
            if not values:
                continue
            entry: dict[str, Any] = {"level": spread(values, splits)}
            pairs = [
                each[name] - found[CONTROL][unit][name]
                for unit, each in units.items()
                if row != CONTROL and name in found[CONTROL].get(unit, {})
            ]
            if pairs:
                entry["difference"] = spread(pairs, splits)
                entry["won"] = [sum(pair > 0 for pair in pairs), len(pairs)]
            rows[row][name] = entry
    tests = [
        rows[row][name]["difference"]
        for row in rows
        for name in TESTED
        if row not in (CONTROL, "untrained") and "difference" in rows[row].get(name, {})
    ]
    for test, corrected in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["holm"] = corrected
    return rows


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, 1979); NaN stays NaN."""
    order = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    found, least = [math.nan] * len(ps), 0.0
    for rank, (p, place) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        found[place] = least
    return found


def ahead(entry: Mapping[str, Any]) -> bool:
    """Whether a difference is above 0 by more than two of its standard errors."""
    difference = entry.get("difference", {"mean": math.nan, "se": math.nan})
    return bool(difference["mean"] > 2 * difference["se"])


def behind(entry: Mapping[str, Any]) -> bool:
    """Whether a difference is below 0 by more than two of its standard errors."""
    difference = entry.get("difference", {"mean": math.nan, "se": math.nan})
    return bool(difference["mean"] < -2 * difference["se"])
