"""How well do embeddings match: accuracy, recall, average precision and ranks that never profit from a tie.

Quantized embeddings tie often, because two items may pick the same codes. A strict comparison would rank the right
answer before everything that ties with it; here a tie counts as its expected value when ties are broken at random.
Two similarities tie when they differ by at most `TIE_TOLERANCE`, so that round-off cannot order equal vectors.

Axes in this file: Q queries, G gallery items, D width of an embedding, C classes.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from codebind_hf.processing.arrays import as_array


TIE_TOLERANCE = 1e-6
_QUERY_BLOCK = 512
_GALLERY_BLOCK = 8192


def zero_shot_accuracy(embeds: ArrayLike, class_embeds: ArrayLike, labels: ArrayLike, top_k: int = 1) -> float:
    """Share of items whose class is among the `top_k` most similar classes, as expected under random tie-breaking.

    Args:
        embeds (array of shape `(items, dim)`): need not be unit norm; similarity is the cosine.
        class_embeds (array of shape `(classes, dim)`): one prototype a class.
        labels (integers of shape `(items,)`): position of each item's class in `class_embeds`.
        top_k: how many classes an item may name.

    Raises:
        ValueError: shapes do not fit, an entry is not finite, a label names no class, or `top_k` is below 1.
    """
    items_QD, classes_CD = _unit_rows("embeds", embeds), _unit_rows("class_embeds", class_embeds)
    _check_ks("top_k", [top_k])
    better_Q, tied_Q = _better_and_tied(items_QD, classes_CD, _targets("labels", labels, items_QD, classes_CD))
    return _expected_hits(better_Q, tied_Q, top_k)


def best_is_relevant(scores: ArrayLike, relevant: ArrayLike) -> float:
    """Share of items whose best class is one of their own, where classes that tie for it take turns.

    Args:
        scores (array of shape `(items, classes)`): higher is better.
        relevant (booleans of the same shape): the classes of each item.

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    scores_QC, relevant_QC = np.asarray(scores, dtype=np.float64), np.asarray(relevant).astype(bool)
    if scores_QC.shape != relevant_QC.shape or scores_QC.ndim != 2 or not scores_QC.size:
        raise ValueError(
            f"scores, relevant: got shapes {scores_QC.shape} and {relevant_QC.shape}; both must be (items, classes)."
        )
    if not np.isfinite(scores_QC).all():
        raise ValueError("scores: got NaN or infinite values; every score must be finite.")
    best_QC = scores_QC >= scores_QC.max(axis=1, keepdims=True) - TIE_TOLERANCE
    return float(((best_QC & relevant_QC).sum(axis=1) / best_QC.sum(axis=1)).mean())


def retrieval_recall(
    query: ArrayLike, gallery: ArrayLike, k: Sequence[int] = (1, 10), targets: ArrayLike | None = None
) -> dict[str, float]:
    """Share of queries whose match is among the k nearest gallery items, as expected under random tie-breaking.

    The similarities are computed block by block, so a large gallery costs no `queries x gallery` matrix.

    Args:
        query (array of shape `(queries, dim)`), gallery (array of shape `(items, dim)`): similarity is the cosine.
        k: the cut-offs.
        targets (integers of shape `(queries,)`, *optional*): gallery position of each query's match; by default the
            match of query i is gallery item i.

    Returns:
        `{"recall_at_<k>": share}` for each k.

    Raises:
        ValueError: shapes do not fit, an entry is not finite, a target is outside the gallery, or a k is below 1.
    """
    _check_ks("k", k)
    better_Q, tied_Q = _ranked(query, gallery, targets)
    return {f"recall_at_{cut}": _expected_hits(better_Q, tied_Q, cut) for cut in k}


def match_places(
    query: ArrayLike, gallery: ArrayLike, targets: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each query: how many gallery items come before its match, and how many tie with it, itself included.

    Arguments and errors are those of `retrieval_recall`, whose shares follow from these by `hit_shares`.
    """
    better_Q, tied_Q = _ranked(query, gallery, targets)
    return better_Q.numpy().astype(np.int64), tied_Q.numpy().astype(np.int64)


def hit_shares(before: ArrayLike, tied: ArrayLike, k: int) -> np.ndarray:
    """Chance of each match to be among the k first, where ties are broken at random, of shape `(queries,)`.

    Args:
        before, tied (integers of shape `(queries,)`): as `match_places` counts them.
        k: the cut-off.
    """
    return np.clip((k - np.asarray(before, dtype=np.float64)) / np.asarray(tied), 0.0, 1.0)


def owner_recall(
    query: ArrayLike,
    gallery: ArrayLike,
    query_owners: ArrayLike,
    gallery_owners: ArrayLike,
    k: Sequence[int] = (1, 10),
) -> dict[str, float]:
    """Share of queries with any gallery item of their own owner among the k nearest, as expected with random ties.

    For matches that are several, such as five captions of one picture; where each is one, this is `retrieval_recall`.

    Args:
        query (array of shape `(queries, dim)`), gallery (array of shape `(items, dim)`): similarity is the cosine.
        query_owners, gallery_owners (integers of shapes `(queries,)` and `(items,)`): such as rows of a data set.
        k: the cut-offs.

    Returns:
        `{"recall_at_<k>": share}` for each k.

    Raises:
        ValueError: shapes do not fit, an entry is not finite, a k is below 1, or nothing in the gallery has the owner
            of a query.
    """
    _check_ks("k", k)
    query_QD, owners_Q = _pool(query, query_owners)
    gallery_GD, owners_G = _pool(gallery, gallery_owners)
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise ValueError(
            f"embeddings: got widths {query_QD.shape[1]} and {gallery_GD.shape[1]}; both sides must have the same."
        )
    lost = owners_Q[~torch.isin(owners_Q, owners_G)].tolist()
    if lost:
        raise ValueError(f"query_owners: got {lost[0]}, which nothing in the gallery has; every query needs a match.")
    blocks = _blocks(len(query_QD), _QUERY_BLOCK)
    relevance = ((query_QD[block] @ gallery_GD.T, owners_Q[block, None] == owners_G[None, :]) for block in blocks)
    before_Q, tied_Q, relevant_Q = np.concatenate([_best_counts(*each) for each in relevance]).T
    return {f"recall_at_{cut}": float(chance_of_any(before_Q, tied_Q, relevant_Q, cut).mean()) for cut in k}


def median_rank(query: ArrayLike, gallery: ArrayLike, targets: ArrayLike | None = None) -> float:
    """Median over the queries of the match's rank, 1 being the best; a tie counts as its mean rank.

    Arguments and errors are those of `retrieval_recall`.
    """
    better_Q, tied_Q = _ranked(query, gallery, targets)
    return float(np.median((better_Q + (tied_Q + 1) / 2).numpy()))


def chance_of_any(before: ArrayLike, tied: ArrayLike, relevant: ArrayLike, k: int) -> np.ndarray:
    """Chance that one of several matches is among the k first, where ties are broken at random, `(queries,)`.

    The best of them tie with others: 1 - C(others, places) / C(tied, places) of the places that are left to the tie.

    Args:
        before, tied, relevant (integers of shape `(queries,)`): items that come before the best match, that tie with
            it, itself included, and how many of these are matches; NaN where nothing ties.
        k: the cut-off.
    """
    before_Q, tied_Q, relevant_Q = (np.asarray(counts) for counts in (before, tied, relevant))
    missed_Q = np.ones(len(before_Q))
    for place in range(int(k)):
        drawn = (before_Q + place < k) & (tied_Q > place)
        others_Q = np.maximum(tied_Q - relevant_Q - place, 0)
        missed_Q = np.where(drawn, missed_Q * others_Q / np.maximum(tied_Q - place, 1), missed_Q)
    return np.where(tied_Q > 0, 1.0 - missed_Q, np.nan)


def pool_recall(embeds: ArrayLike, owners: ArrayLike, k: Sequence[int] = (1, 10)) -> dict[str, np.ndarray]:
    """Chance of each item to find another item of the same owner among its k nearest, in one pool of all items.

    The item itself is not part of its gallery. This is retrieval from a mixed pool: `owners` are objects, the items
    are everything that any modality recorded of them.

    Args:
        embeds (array of shape `(items, dim)`): similarity is the cosine.
        owners (integers of shape `(items,)`): which object an item belongs to.
        k: the cut-offs.

    Returns:
        `{"recall_at_<k>": array of shape (items,)}`, the expected value of each item under random tie-breaking; NaN
        for an item whose owner has no other item.

    Raises:
        ValueError: shapes do not fit, an entry is not finite, or a k is below 1.
    """
    _check_ks("k", k)
    items_GD, owners_G = _pool(embeds, owners)
    found: dict[int, list[np.ndarray]] = {cut: [] for cut in k}
    for block in _blocks(len(items_GD), _QUERY_BLOCK):
        before_Q, tied_Q, relevant_Q = _best_counts(*_similar_and_relevant(items_GD, owners_G, block)).T
        for cut, hits in found.items():
            hits.append(chance_of_any(before_Q, tied_Q, relevant_Q, cut))
    return {f"recall_at_{cut}": np.concatenate(hits) for cut, hits in found.items()}


def pool_precision(embeds: ArrayLike, owners: ArrayLike, k: Sequence[int] = (1, 10)) -> dict[str, np.ndarray]:
    """Share of each item's k nearest others that have its owner, as expected under random tie-breaking.

    With classes as owners, the mean at 10 is the "average top-10 recall" of paper table 4: query set and gallery are
    one, without the query itself. Of an owner with fewer than k others the share is of these, so that 1 is the best.

    Args:
        embeds (array of shape `(items, dim)`): similarity is the cosine.
        owners (integers of shape `(items,)`): such as classes.
        k: the cut-offs.

    Returns:
        `{"precision_at_<k>": array of shape (items,)}`; NaN for an item whose owner has no other item.

    Raises:
        ValueError: as `pool_recall`.
    """
    _check_ks("k", k)
    items_GD, owners_G = _pool(embeds, owners)
    found: dict[int, list[np.ndarray]] = {cut: [] for cut in k}
    for block in _blocks(len(items_GD), _QUERY_BLOCK):
        similarity_QG, relevant_QG = _similar_and_relevant(items_GD, owners_G, block)
        nearest_QK = similarity_QG.topk(min(max(k), len(items_GD) - 1), dim=-1).values
        for cut, shares in found.items():
            shares.append(_relevant_share(similarity_QG, relevant_QG, nearest_QK[:, :cut][:, -1:], cut))
    return {f"precision_at_{cut}": np.concatenate(shares) for cut, shares in found.items()}


def mean_average_precision(scores: ArrayLike, relevant: ArrayLike, tolerance: float = TIE_TOLERANCE) -> float:
    """Mean over the rows of the average precision, where items that tie share one threshold.

    Average precision is the sum over thresholds of precision times the gain in recall, as scikit-learn defines it:
    the order of tied items does not matter. Scores closer than `tolerance` to their neighbour count as tied.

    Args:
        scores (array of shape `(rows, items)` or `(items,)`): higher is better. A row is a query, or a class when the
            mean over classes is wanted.
        relevant (booleans of the shape of `scores`): which items a row should rank first.
        tolerance: largest difference that round-off may cause.

    Raises:
        ValueError: shapes differ, a score is not finite, or no row has a relevant item. (A row without relevant items
            has no average precision and is left out of the mean.)
    """
    scores_QG = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    relevant_QG = np.atleast_2d(np.asarray(relevant)).astype(bool)
    if scores_QG.shape != relevant_QG.shape or scores_QG.ndim != 2:
        raise ValueError(
            f"scores, relevant: got shapes {scores_QG.shape} and {relevant_QG.shape}; both must be (rows, items)."
        )
    if not np.isfinite(scores_QG).all():
        raise ValueError("scores: got NaN or infinite values; every score must be finite.")
    kept = relevant_QG.any(axis=1)
    if not kept.any():
        raise ValueError("relevant: no row has a relevant item, so there is no average precision.")
    rows = zip(scores_QG[kept], relevant_QG[kept], strict=True)
    return float(np.mean([_average_precision(row, wanted, tolerance) for row, wanted in rows]))


def _average_precision(scores_G: np.ndarray, relevant_G: np.ndarray, tolerance: float) -> float:
    order = np.argsort(-scores_G, kind="stable")
    ranked = scores_G[order]
    ends = np.append(np.flatnonzero(ranked[:-1] - ranked[1:] > tolerance), len(ranked) - 1)
    hits = np.cumsum(relevant_G[order])[ends]
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / (ends + 1)))


def _ranked(query: ArrayLike, gallery: ArrayLike, targets: ArrayLike | None) -> tuple[Tensor, Tensor]:
    query_QD, gallery_GD = _unit_rows("query", query), _unit_rows("gallery", gallery)
    if targets is None and len(query_QD) != len(gallery_GD):
        raise ValueError(
            f"query, gallery: got {len(query_QD)} queries and {len(gallery_GD)} gallery items; the match of query i "
            "is gallery item i unless `targets` names it."
        )
    wanted = range(len(query_QD)) if targets is None else targets
    return _better_and_tied(query_QD, gallery_GD, _targets("targets", wanted, query_QD, gallery_GD))


def _better_and_tied(query_QD: Tensor, gallery_GD: Tensor, targets_Q: Tensor) -> tuple[Tensor, Tensor]:
    """For each query: how many gallery items beat its target, and how many tie with it (itself included)."""
    own_Q1 = (query_QD * gallery_GD[targets_Q]).sum(-1, keepdim=True)
    better_Q, tied_Q = torch.zeros(len(query_QD)), torch.zeros(len(query_QD))
    for rows in _blocks(len(query_QD), _QUERY_BLOCK):
        for columns in _blocks(len(gallery_GD), _GALLERY_BLOCK):
            gap_QG = query_QD[rows] @ gallery_GD[columns].T - own_Q1[rows]
            better_Q[rows] += (gap_QG > TIE_TOLERANCE).sum(-1)
            tied_Q[rows] += (gap_QG.abs() <= TIE_TOLERANCE).sum(-1)
    return better_Q, tied_Q


def _expected_hits(better_Q: Tensor, tied_Q: Tensor, k: int) -> float:
    # Of `tied` places the target takes each with equal chance; k - better of them are inside the cut.
    return float(((k - better_Q.double()) / tied_Q.double()).clamp(0.0, 1.0).mean())


def _pool(embeds: ArrayLike, owners: ArrayLike) -> tuple[Tensor, Tensor]:
    items_GD = _unit_rows("embeds", embeds)
    owners_G = _integers("owners", owners)
    if len(owners_G) != len(items_GD):
        raise ValueError(f"owners: got {len(owners_G)} owners for {len(items_GD)} embeds; give one an item.")
    return items_GD, owners_G


def _similar_and_relevant(items_GD: Tensor, owners_G: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Similarity of some queries to all items, minus infinity to themselves; and who else has their owner."""
    similarity_QG = items_GD[block] @ items_GD.T
    relevant_QG = owners_G[block, None] == owners_G[None, :]
    similarity_QG[:, block].fill_diagonal_(-torch.inf)
    relevant_QG[:, block].fill_diagonal_(False)
    return similarity_QG, relevant_QG


def _relevant_share(similarity_QG: Tensor, relevant_QG: Tensor, last_Q1: Tensor, k: int) -> np.ndarray:
    """Of the `k` nearest, of which `last_Q1` is the least similarity, the share that is relevant."""
    above_QG = similarity_QG > last_Q1 + TIE_TOLERANCE
    tied_QG = (similarity_QG - last_Q1).abs() <= TIE_TOLERANCE
    # Items that tie at the cut take each of the places that are left with equal chance.
    places_Q = (k - above_QG.sum(-1)).double() / tied_QG.sum(-1)
    hits_Q = (above_QG & relevant_QG).sum(-1) + places_Q.clamp(max=1.0) * (tied_QG & relevant_QG).sum(-1)
    others_Q = relevant_QG.sum(-1).clamp(max=k)
    return torch.where(others_Q > 0, hits_Q / others_Q, torch.nan).numpy()


def _best_counts(similarity_QG: Tensor, relevant_QG: Tensor) -> np.ndarray:
    """Columns for each query: items that beat its best relevant one, items that tie with it, relevant among these."""
    best_Q1 = similarity_QG.masked_fill(~relevant_QG, -torch.inf).amax(-1, keepdim=True)
    tied_QG = (similarity_QG - best_Q1).abs() <= TIE_TOLERANCE
    better_Q = (similarity_QG > best_Q1 + TIE_TOLERANCE).sum(-1)
    return torch.stack([better_Q, tied_QG.sum(-1), (tied_QG & relevant_QG).sum(-1)], dim=-1).numpy()


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _unit_rows(name: str, values: ArrayLike) -> Tensor:
    """`values` as float64 rows of unit norm; a row of zeros stays zero, and so ties with everything."""
    rows = torch.from_numpy(as_array(values, name, may_be_empty=True).astype(np.float64))
    if rows.ndim != 2 or rows.numel() == 0:
        raise ValueError(f"{name}: got shape {tuple(rows.shape)}; it must be (items, dim) with at least one of each.")
    if not bool(torch.isfinite(rows).all()):
        raise ValueError(f"{name}: got NaN or infinite values; every embedding must be finite.")
    return torch.nn.functional.normalize(rows, dim=-1)


def _integers(name: str, values: ArrayLike) -> Tensor:
    integers = torch.from_numpy(np.array(as_array(values, name, may_be_empty=True)))
    if integers.ndim != 1 or integers.is_floating_point() or integers.dtype == torch.bool:
        raise ValueError(
            f"{name}: got {integers.dtype} of shape {tuple(integers.shape)}; it must be a list of integers."
        )
    return integers.long()


def _targets(name: str, values: ArrayLike, query_QD: Tensor, gallery_GD: Tensor) -> Tensor:
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise ValueError(
            f"embeddings: got widths {query_QD.shape[1]} and {gallery_GD.shape[1]}; both sides must have the same."
        )
    targets_Q = _integers(name, values)
    if len(targets_Q) != len(query_QD):
        raise ValueError(f"{name}: got {len(targets_Q)} entries for {len(query_QD)} embeddings; give one for each.")
    if int(targets_Q.min()) < 0 or int(targets_Q.max()) >= len(gallery_GD):
        raise ValueError(
            f"{name}: got values from {int(targets_Q.min())} to {int(targets_Q.max())}; "
            f"each must be a position between 0 and {len(gallery_GD) - 1}."
        )
    return targets_Q


def _check_ks(name: str, ks: Sequence[int]) -> None:
    if not ks or any(int(k) != k or k < 1 for k in ks):
        raise ValueError(f"{name}: got {list(ks)}; give whole numbers of at least 1.")
