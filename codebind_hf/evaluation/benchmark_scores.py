"""From embeddings to the number of a benchmark: scores of items, metrics under weights, and how sure they are.

A metric is a function of one weight an item: ones give the number, the counts of a bootstrap draw its spread.

Axes in this file: N items, C classes, Q queries, D width of an embedding.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from codebind_hf.evaluation.metrics import TIE_TOLERANCE, hit_shares


Statistic = Callable[[np.ndarray], float]

_LEVELS = (2.5, 97.5)


def cosines(embeds: ArrayLike, class_embeds: ArrayLike) -> np.ndarray:
    """Similarities of shape `(items, classes)`, float64; a vector of zeros is similar to nothing."""
    items_ND, classes_CD = (np.asarray(one, dtype=np.float64) for one in (embeds, class_embeds))
    norms = [np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (items_ND, classes_CD)]
    return (items_ND / norms[0]) @ (classes_CD / norms[1]).T


def class_hits(scores: np.ndarray, wanted: np.ndarray, k: int = 1) -> np.ndarray:
    """Chance of each item that its class is among the k best, where ties are broken at random.

    Args:
        scores (array of shape `(items, classes)`): similarities.
        wanted (integers of shape `(items,)`): the class of each item.
        k: how many classes an item may name.
    """
    gap_NC = scores - np.take_along_axis(scores, wanted[:, None], axis=1)
    return hit_shares((gap_NC > TIE_TOLERANCE).sum(1), (np.abs(gap_NC) <= TIE_TOLERANCE).sum(1), k)


def merged_hits(scores: np.ndarray, wanted: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Chance of each item that its best class counts as the wanted one: the best is chosen first, then merged.

    Args:
        scores (array of shape `(items, classes)`): similarities.
        wanted (integers of shape `(items,)`): the group of each item.
        groups (integers of shape `(classes,)`): what each class counts as.
    """
    best_NC = scores >= scores.max(axis=1, keepdims=True) - TIE_TOLERANCE
    return (best_NC & (groups[None, :] == wanted[:, None])).sum(1) / best_NC.sum(1)


def mean_of(hits: np.ndarray) -> Statistic:
    """The mean of what the items have."""
    return lambda weights: float(np.average(hits, weights=weights))


def mean_of_folds(hits: np.ndarray, folds: np.ndarray) -> Statistic:
    """The mean over the folds of the means in them; a fold that a draw leaves empty does not count."""
    places = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]

    def statistic(weights: np.ndarray) -> float:
        drawn = [place for place in places if weights[place].any()]
        return float(np.mean([np.average(hits[place], weights=weights[place]) for place in drawn]))

    return statistic


def mean_precision_of(scores: np.ndarray, relevant: np.ndarray) -> Statistic:
    """Mean over the classes of the average precision, as `mean_average_precision` defines it, with weights.

    Args:
        scores (array of shape `(items, classes)`): similarities.
        relevant (booleans of the same shape): which classes an item has; classes that no item has do not count.
    """
    classes = np.flatnonzero(relevant.any(axis=0))
    orders = [np.argsort(-scores[:, c], kind="stable") for c in classes]
    ends = [_ends_of_ties(scores[order, c]) for c, order in zip(classes, orders, strict=True)]

    def statistic(weights: np.ndarray) -> float:
        found = (
            _average_precision(relevant[order, c], weights[order], last)
            for c, order, last in zip(classes, orders, ends, strict=True)
        )
        return float(np.mean([one for one in found if one is not None]))

    return statistic


def _ends_of_ties(ranked: np.ndarray) -> np.ndarray:
    return np.append(np.flatnonzero(ranked[:-1] - ranked[1:] > TIE_TOLERANCE), len(ranked) - 1)


def _average_precision(relevant: np.ndarray, weights: np.ndarray, ends: np.ndarray) -> float | None:
    """`None` where a draw holds no item of the class."""
    hits, drawn = np.cumsum(weights * relevant)[ends], np.cumsum(weights)[ends]
    if hits[-1] == 0:
        return None
    precision = hits / np.maximum(drawn, 1e-12)
    return float(np.sum(np.diff(hits / hits[-1], prepend=0.0) * precision))


def interval(statistic: Statistic, units: np.ndarray, draws: int, seed: int) -> tuple[float, float]:
    """Bootstrap interval: the 2.5 % and 97.5 % percentiles of the statistic over draws of whole units.

    Args:
        units (integers of shape `(items,)`): which unit an item belongs to, from 0: captions of one clip are drawn
            together.
        draws: how many.
    """
    generator, number = np.random.default_rng(seed), int(units.max()) + 1
    values = []
    for _ in range(draws):
        counts = np.bincount(generator.integers(number, size=number), minlength=number)
        values.append(statistic(counts[units].astype(np.float64)))
    low, high = np.percentile(values, _LEVELS)
    return float(low), float(high)


def positions_of(values: Sequence[str], names: Sequence[str], what: str) -> np.ndarray:
    """Where each value stands in `names`.

    Raises:
        ValueError: a value is not among them.
    """
    places = {name: place for place, name in enumerate(names)}
    unknown = next((value for value in values if value not in places), None)
    if unknown is not None:
        raise ValueError(f"{what}: got the label {unknown!r}, which is none of the {len(names)} classes.")
    return np.array([places[value] for value in values], dtype=np.int64)
