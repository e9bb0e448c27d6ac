"""Which classes are told apart, what do codes cost, and how far do modalities lie apart?

Axes in this file: N items, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.evaluation.embedding import ClassEmbeds, EmbeddedSet
from codebind_hf.evaluation.metrics import TIE_TOLERANCE
from codebind_hf.evaluation.probes import paired_gain
from codebind_hf.evaluation.sections import READ_OUTS


# More classes make a square that nobody reads, and a report of megabytes.
MOST_CONFUSED = 50
_PAIRS = 10
Section = dict[str, dict[str, Any]]


def class_section(embedded: EmbeddedSet, classes: ClassEmbeds | None, class_names: Sequence[str]) -> Section:
    """Zero-shot answers by class, of every modality but text: `{modality: {...}}`.

    Returns:
        `accuracy_of` every class that items have, with `n`; `majority`, the share of the largest class; `codes_gain`
        and its `standard_error`, what quantization adds to accuracy on the same items; `confused`, the pairs of
        classes that are taken for each other most, `[class, taken for, share of the class, n]`; and, of
        `MOST_CONFUSED` classes or fewer, `confusion` with the share of every class (rows) that is taken for each other
        (columns). Classes that tie for an item take turns. Empty without classes, and where rows have several labels.
    """
    if classes is None or embedded.label_sets:
        return {}
    index = {name: position for position, name in enumerate(class_names)}
    section: Section = {}
    for name, modality in embedded.modalities.items():
        labels_N = np.array([index.get(str(embedded.labels[row]), -1) for row in modality.positions.tolist()])
        items = modality.take(torch.from_numpy(labels_N >= 0))
        if name == "text" or not len(items):
            continue
        votes = {suffix: _votes(getattr(items, part), getattr(classes, part)) for suffix, part in READ_OUTS}
        section[name] = _entry(votes, labels_N[labels_N >= 0], class_names)
    return section


def gap_section(embedded: EmbeddedSet) -> Section:
    """How far every modality lies from the others as a whole: `{modality: {gap, gap_continuous, n}}`.

    A gap is the distance from the mean of a modality's unit embeddings to the mean of the other modalities' means: 0
    where they lie around one place, at most 2. Empty for one modality.
    """
    parts = embedded.modalities
    if len(parts) < 2:
        return {}
    section: Section = {name: {} for name in parts}
    for suffix, part in READ_OUTS:
        means = {name: normalize(getattr(each, part).double(), dim=-1).mean(0) for name, each in parts.items()}
        for name in parts:
            others = torch.stack([mean for other, mean in means.items() if other != name]).mean(0)
            section[name][f"gap{suffix}"] = float((means[name] - others).norm())
    return {name: {**entry, "n": len(parts[name])} for name, entry in section.items()}


def _votes(embeds: Tensor, classes: Tensor) -> np.ndarray:
    """One vote of every item `(N, C)`, shared by the classes that tie for it."""
    cosine = (normalize(embeds.double(), dim=-1) @ normalize(classes.double(), dim=-1).T).numpy()
    best_NC = cosine >= cosine.max(axis=1, keepdims=True) - TIE_TOLERANCE
    return best_NC / best_NC.sum(axis=1, keepdims=True)


def _entry(votes: dict[str, np.ndarray], labels_N: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    every, present = len(class_names), np.unique(labels_N)
    counts_C = np.bincount(labels_N, minlength=every)
    shares_CC = np.zeros((every, every))
    np.add.at(shares_CC, labels_N, votes[""])
    shares_CC[present] /= counts_C[present, None]
    right = {suffix: votes_NC[np.arange(len(labels_N)), labels_N] for suffix, votes_NC in votes.items()}
    # Of one item there is no spread.
    alone = (float(right[""][0] - right["_continuous"][0]), 0.0) if len(labels_N) == 1 else None
    gain, error = alone or paired_gain(right[""], right["_continuous"])
    wrong_CC = shares_CC * (1 - np.eye(every))
    order = np.argsort(-wrong_CC, axis=None, kind="stable")[:_PAIRS]
    pairs = [divmod(int(place), every) for place in order if wrong_CC.flat[place] > 0]
    entry: dict[str, Any] = {
        "n": len(labels_N),
        "majority": float(counts_C.max() / len(labels_N)),
        "codes_gain": gain,
        "standard_error": error,
        "accuracy_of": {
            class_names[one]: {"accuracy": float(shares_CC[one, one]), "n": int(counts_C[one])} for one in present
        },
        "confused": [
            [class_names[one], class_names[two], round(float(shares_CC[one, two]), 4), int(counts_C[one])]
            for one, two in pairs
        ],
    }
    return entry if every > MOST_CONFUSED else {**entry, "confusion": shares_CC.round(4).tolist()}
