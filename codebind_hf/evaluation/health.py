"""Are the codebooks alive: how many codes are used, how evenly, and do the modalities of one object agree on them?

Axes in this file: N items, S segments of one embedding.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike


def codebook_health(ids: ArrayLike, num_codes: int) -> dict[str, float | int]:
    """How much of a codebook a set of code ids uses.

    Args:
        ids (integers of any shape): the codes that were picked.
        num_codes: size of the codebook.

    Returns:
        `usage` (share of codes picked at least once), `perplexity` (exp of the entropy of the picks: the number of
        codes that even use would need), `num_codes`, `dead` (number of codes never picked).

    Raises:
        ValueError: no ids, ids that are no integers, or an id outside the book.
    """
    counts = code_counts(ids, num_codes)
    shares = counts[counts > 0] / counts.sum()
    return {
        "usage": float((counts > 0).mean()),
        "perplexity": float(np.exp(-(shares * np.log(shares)).sum())),
        "num_codes": int(num_codes),
        "dead": int((counts == 0).sum()),
    }


def code_counts(ids: ArrayLike, num_codes: int) -> np.ndarray:
    """How often each of `num_codes` codes was picked; errors are those of `codebook_health`."""
    flat = _checked_ids("ids", ids).reshape(-1)
    if int(flat.min()) < 0 or int(flat.max()) >= num_codes:
        raise ValueError(
            f"ids: got values from {int(flat.min())} to {int(flat.max())}; a book of {num_codes} codes has ids from 0 "
            f"to {num_codes - 1}."
        )
    return np.bincount(flat, minlength=num_codes)


def modality_usage(ids: Mapping[str, ArrayLike], num_codes: int) -> dict[str, dict[str, float | int]]:
    """`codebook_health` of one shared book, for each modality alone: a full book may be split between them."""
    return {modality: codebook_health(picked, num_codes) for modality, picked in ids.items()}


def code_agreement(one: ArrayLike, other: ArrayLike) -> dict[str, float | int]:
    """Share of segments in which two modalities of the same object pick the same code.

    Args:
        one, other (integers of shape `(items, segments)`): row i of both belongs to object i.

    Returns:
        `agreement`, its `chance` level (the agreement of unrelated objects: for each segment the chance that two
        independent draws from the two modalities' own code frequencies coincide) and `n`, the number of objects.

    Raises:
        ValueError: the shapes differ or are not `(items, segments)`, or there are no items.
    """
    one_NS, other_NS = _checked_ids("one", one), _checked_ids("other", other)
    if one_NS.shape != other_NS.shape or one_NS.ndim != 2:
        raise ValueError(
            f"one, other: got shapes {one_NS.shape} and {other_NS.shape}; both must be (items, segments)."
        )
    segments = zip(one_NS.T, other_NS.T, strict=True)
    return {
        "agreement": float((one_NS == other_NS).mean()),
        "chance": float(np.mean([_coincidence(one_N, other_N) for one_N, other_N in segments])),
        "n": len(one_NS),
    }


def _coincidence(one_N: np.ndarray, other_N: np.ndarray) -> float:
    size = int(max(one_N.max(), other_N.max())) + 1
    one_share = np.bincount(one_N, minlength=size) / len(one_N)
    other_share = np.bincount(other_N, minlength=size) / len(other_N)
    return float(one_share @ other_share)


def _checked_ids(name: str, ids: ArrayLike) -> np.ndarray:
    checked = np.asarray(ids)
    if checked.size == 0 or not np.issubdtype(checked.dtype, np.integer):
        raise ValueError(f"{name}: got {checked.dtype} of shape {checked.shape}; give at least one integer code id.")
    return checked
