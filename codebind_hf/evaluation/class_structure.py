"""How do classes and private attributes lie in each part: cosines within a class, and what single codes say of them.

Axes in this file: N items, S segments of one embedding, K codes, L values of a label.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.evaluation.decoupling import CLASS, attributes_of, labels_of
from codebind_hf.evaluation.embedding import EmbeddedSet


Section = dict[str, dict[str, Any]]
_LEAST_ITEMS = 10
_PERMUTATIONS = 5
_READ_OUTS = (
    ("", "embeds", "specific_embeds"),
    ("_continuous", "continuous_embeds", "continuous_specific_embeds"),
)


def intra_class_cosine(embeds: ArrayLike, labels: ArrayLike, other: ArrayLike | None = None) -> float:
    """Mean cosine between different items of one class, every class with two items or more counting alike.

    Source: paper appendix figure 6; how it weighs classes is not said there.

    Args:
        embeds (array of shape `(items, dim)`): of one part.
        labels (array of shape `(items,)`): the class of each item.
        other (array of shape `(items, dim)`, *optional*): compare `embeds` of one item with `other` of another, such
            as shared with specific parts.

    Raises:
        ValueError: shapes do not fit, or no class has two items.
    """
    first = _unit(embeds)
    second = first if other is None else _unit(other)
    names = np.asarray(labels)
    if names.shape != first.shape[:1] or first.shape != second.shape:
        raise ValueError(
            f"embeds, labels, other: got shapes {tuple(first.shape)}, {names.shape} and {tuple(second.shape)}; "
            "expected a row of each an item, and parts of one width."
        )
    means = []
    for value in np.unique(names):
        mine = torch.from_numpy(names == value)
        one, two, count = first[mine], second[mine], int(mine.sum())
        if count > 1:
            # All pairs but those of an item with itself.
            means.append(float((one.sum(0) @ two.sum(0) - (one * two).sum()) / (count * (count - 1))))
    if not means:
        raise ValueError(f"labels: none of {len(np.unique(names))} classes has two items. Fix: more items a class.")
    return float(np.mean(means))


def mean_cosine(embeds: ArrayLike) -> float:
    """Mean cosine between all different items `(items, dim)`, two or more."""
    unit = _unit(embeds)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (len(unit) * (len(unit) - 1)))


def normalized_mutual_information(ids: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Mutual information of each segment's code ids with a label, over the mean of their entropies, `(segments,)`.

    Each is what scikit-learn's `normalized_mutual_info_score` gives, of all segments at once. 0 where a segment and
    the label say nothing of each other; of few items it is above 0 by chance, so compare with permuted labels.

    Args:
        ids (integers of shape `(items, segments)`), labels (array of shape `(items,)`).

    Raises:
        ValueError: shapes do not fit or there are no items.
    """
    ids_NS = np.asarray(ids)
    _, labels_N = np.unique(np.asarray(labels), return_inverse=True)
    if ids_NS.ndim != 2 or not ids_NS.size or labels_N.shape != ids_NS.shape[:1]:
        raise ValueError(f"ids, labels: got shapes {ids_NS.shape} and {labels_N.shape}; expected (items, segments).")
    num_labels, segments = int(labels_N.max()) + 1, ids_NS.shape[1]
    found, codes = np.unique(ids_NS, return_inverse=True)
    places_NS = np.arange(segments) * len(found) + codes.reshape(ids_NS.shape)
    counts = np.bincount(
        (places_NS * num_labels + labels_N[:, None]).ravel(), minlength=segments * len(found) * num_labels
    )
    joint_SKL = counts.reshape(segments, len(found), num_labels) / len(ids_NS)
    code_SK, label_L = joint_SKL.sum(2), joint_SKL[0].sum(0)
    entropies_S, entropy = _entropy(code_SK), _entropy(label_L)
    shared_S = entropies_S + entropy - _entropy(joint_SKL.reshape(segments, -1))
    scale_S = (entropies_S + entropy) / 2
    # Of one code and one value there is nothing to say, and scikit-learn calls that agreement.
    return np.where(scale_S > 1e-12, np.maximum(shared_S, 0) / np.maximum(scale_S, 1e-12), 1.0)


def intra_class_section(embedded: EmbeddedSet) -> Section:
    """Mean cosines within and over classes by modality, for the parts after and (`_continuous`) before their codes.

    Returns:
        `{modality: {shared, specific, cross, shared_between, specific_between, ..., classes, n}}`: within a class, of
        shared parts, specific parts, and one with the other; the control `_between` is over all pairs of items, so
        that a part whose embeddings all point one way does not pass for one that knows the class. `cross` is absent
        where the parts differ in width, all of the specific part where there is none.
    """
    section: Section = {}
    for name, modality in embedded.modalities.items():
        known, labels = labels_of(embedded, name, CLASS)
        counts = np.unique(labels, return_counts=True)[1]
        if name == "text" or len(labels) < _LEAST_ITEMS or len(counts) < 2 or counts.max() < 2:
            continue
        items = modality.take(torch.from_numpy(known))
        entry: dict[str, Any] = {"classes": int((counts > 1).sum()), "n": len(labels)}
        for suffix, *names in _READ_OUTS:
            shared, specific = (getattr(items, part) for part in names)
            parts = {"shared": shared} if specific is None else {"shared": shared, "specific": specific}
            for part, embeds in parts.items():
                entry[f"{part}{suffix}"] = intra_class_cosine(embeds, labels)
                entry[f"{part}_between{suffix}"] = mean_cosine(embeds)
            if specific is not None and specific.shape == shared.shape:
                entry[f"cross{suffix}"] = intra_class_cosine(shared, labels, specific)
        section[name] = entry
    return section


def information_section(embedded: EmbeddedSet, seed: int = 0) -> dict[str, Section]:
    """What labels and single codes say of each other, as normalized mutual information (paper appendix table 4).

    Returns:
        `{modality: {attribute: {category, shared, shared_max, shared_permuted, shared_permuted_max, specific, ...}}}`
        for every attribute "<modality>.<attribute>" and for the class itself: `category` between attribute and class;
        by part the mean and the largest over its segments, and the same with permuted labels (mean of seeded
        permutations), which is what codes say of nothing.
    """
    section: dict[str, Section] = {}
    for modality in embedded.modalities:
        names = attributes_of(embedded, modality)
        entries = {name.partition(".")[2] or CLASS: _information(embedded, modality, name, seed) for name in names}
        if names:
            entries[CLASS] = _information(embedded, modality, CLASS, seed)
        if found := {name: entry for name, entry in entries.items() if entry}:
            section[modality] = found
    return section


def _information(embedded: EmbeddedSet, modality: str, name: str, seed: int) -> dict[str, Any]:
    known, labels = labels_of(embedded, modality, name)
    if len(labels) < _LEAST_ITEMS or len(np.unique(labels)) < 2:
        return {}
    items = embedded.modalities[modality].take(torch.from_numpy(known))
    entry: dict[str, Any] = {"n": len(labels)}
    with_class, classes = labels_of(embedded, modality, CLASS)
    both = known & with_class
    if name != CLASS and both.sum() >= _LEAST_ITEMS:
        values, ids = np.unique(classes[both[with_class]], return_inverse=True)
        entry["category"] = float(normalized_mutual_information(ids[:, None], labels[both[known]])[0])
    generator = np.random.default_rng(seed)
    permuted = [generator.permutation(labels) for _ in range(_PERMUTATIONS)]
    for part, ids_NS in (("shared", items.shared_codes), ("specific", items.specific_codes)):
        if ids_NS is not None:
            entry |= _of_codes(part, ids_NS.numpy(), labels, permuted)
    return entry


def _of_codes(part: str, ids: np.ndarray, labels: np.ndarray, permuted: Sequence[np.ndarray]) -> dict[str, float]:
    true = normalized_mutual_information(ids, labels)
    chance = [normalized_mutual_information(ids, each) for each in permuted]
    return {
        part: float(true.mean()),
        f"{part}_max": float(true.max()),
        f"{part}_permuted": float(np.mean(chance)),
        f"{part}_permuted_max": float(np.mean([each.max() for each in chance])),
    }


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Along the last axis, in nats."""
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)


def _unit(embeds: ArrayLike) -> Tensor:
    return normalize(torch.as_tensor(np.asarray(embeds, dtype=np.float64)), dim=-1)
