"""Who gets only a part of an embedding, what can they still read from it? A tuned attacker against what is given away.

The threat: embeddings or code ids are handed out, and whoever gets them has labelled examples of their own and trains
on these. What is kept back, such as the specific part, should take with it what only that part knows.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from codebind_hf.evaluation.embedding import EmbeddedModality
from codebind_hf.evaluation.probes import ATTACKERS, ProbeResult, checked, probed


# A code that fewer training items have teaches nothing of others.
_LEAST_SEEN = 2


def attack(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    test: Mapping[str, ArrayLike],
    test_labels: ArrayLike,
    seed: int = 0,
) -> dict[str, ProbeResult]:
    """How often an attacker reads a label from what is given away, `{name: ProbeResult}`.

    The attacker is the best, on a part of the training items, of logistic regressions and small networks of several
    regularisations; test items are only ever predicted. Items are the same throughout, so that
    `paired_gain(one.correct, other.correct)` compares two.

    Args:
        train, test: by what is given away, embeddings `(items, dim)`, or code ids `(items, segments)`, integers, which
            the attacker reads as which codes of which segments there are; `given_away` makes both.
        train_labels, test_labels (array of shape `(items,)`): what is to stay private, such as who speaks. Keep people
            or recordings apart that attackers will not have examples of.
        seed: which training items validate, and of the networks.

    Raises:
        ValueError: `train` and `test` name other things, shapes do not fit, or a number is not finite.
        ImportError: scikit-learn is missing.
    """
    if not train or list(train) != list(test):
        raise ValueError(
            f"train, test: got {', '.join(train) or 'nothing'} and {', '.join(test) or 'nothing'}; give both the same."
        )
    found = {}
    for name in train:
        one, other = _features(np.asarray(train[name]), np.asarray(test[name]))
        sides = checked(f"train[{name!r}]", one, train_labels), checked(f"test[{name!r}]", other, test_labels)
        found[name] = probed(ATTACKERS, *sides, seed)
    return found


def given_away(part: EmbeddedModality, raw: ArrayLike | None = None) -> dict[str, np.ndarray]:
    """What may be handed out of the items of one modality, for `attack`; of what they have.

    Returns:
        `shared_continuous` and `shared` (after quantization), `shared_codes`; the same with both parts side by side,
        `both_continuous`, `both`, `both_codes`; and `raw`.
    """
    sides = {
        "continuous": (part.continuous_embeds, part.continuous_specific_embeds),
        "": (part.embeds, part.specific_embeds),
        "codes": (part.shared_codes, part.specific_codes),
    }
    found: dict[str, np.ndarray] = {}
    for kind, (shared, specific) in sides.items():
        ending = kind and f"_{kind}"
        if shared is not None:
            found[f"shared{ending}"] = shared.numpy()
        if shared is not None and specific is not None:
            found[f"both{ending}"] = np.concatenate([shared.numpy(), specific.numpy()], axis=1)
    return found if raw is None else {**found, "raw": np.asarray(raw)}


def _features(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings as they are; of code ids a column for every code of every segment that training items have."""
    if train.dtype.kind not in "iu" or train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        return train, test
    columns = []
    for segment in range(train.shape[1]):
        ids, counts = np.unique(train[:, segment], return_counts=True)
        columns += [(segment, code) for code in ids[counts >= _LEAST_SEEN].tolist()]
    # Without any code that two have, a constant says as much.
    columns = columns or [(0, -1)]
    one, other = (
        np.stack([side[:, segment] == code for segment, code in columns], axis=1).astype(np.float32)
        for side in (train, test)
    )
    return one, other
