"""What does an embedding still know: accuracy of a linear classifier trained on it."""

from contextlib import AbstractContextManager
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
_VALIDATION_SHARE = 0.25
_MAX_ITERATIONS = 300


class ProbeResult(NamedTuple):
    """Outcome of one linear probe.

    Args:
        accuracy: share of the test items classified correctly.
        chance: share of the test set's largest class, which is what a constant answer reaches at best.
        strength: inverse regularisation chosen on the validation part of the training set.
        correct (booleans of shape `(test items,)`): which test items were classified correctly, for paired tests.
    """

    accuracy: float
    chance: float
    strength: float
    correct: np.ndarray


def linear_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy on the test items of a logistic regression fitted to the standardised training features.

    The regularisation is chosen on a part of the *training* items; the test items are only ever predicted.

    Args:
        train_features, test_features (array of shape `(items, dim)`): embeddings.
        train_labels, test_labels (array of shape `(items,)`): strings or integers.
        seed: which training items validate.

    Raises:
        ValueError: shapes do not fit, a feature is not finite, or a side is empty.
        ImportError: scikit-learn is missing.
    """
    train, test = _checked("train", train_features, train_labels), _checked("test", test_features, test_labels)
    if train[0].shape[1] != test[0].shape[1]:
        raise ValueError(
            f"train_features, test_features: got widths {train[0].shape[1]} and {test[0].shape[1]}; they must agree."
        )
    chance = float(np.unique(test[1], return_counts=True)[1].max() / len(test[1]))
    with one_thread():
        strength = _best_strength(*train, seed)
        correct = _fit_and_predict(*train, test[0], strength) == test[1]
    return ProbeResult(float(correct.mean()), chance, strength, correct)


def one_thread() -> AbstractContextManager:
    """Keep scikit-learn to one thread: its small problems gain nothing from more, and lose ten times on busy cores."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError(
            "probes and t-SNE need scikit-learn; install it with `pip install codebind-hf[report]`."
        ) from error
    return threadpool_limits(limits=1)


def _best_strength(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    validation = _validation_mask(labels, seed)
    if not validation.any():
        return _STRENGTHS[len(_STRENGTHS) // 2]
    fitted, held_out = ~validation, validation
    accuracies = [
        np.mean(_fit_and_predict(features[fitted], labels[fitted], features[held_out], strength) == labels[held_out])
        for strength in _STRENGTHS
    ]
    return _STRENGTHS[int(np.argmax(accuracies))]


def _validation_mask(labels: np.ndarray, seed: int) -> np.ndarray:
    """A seeded share of every class; the first item of a class always stays in the part that is fitted."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for value in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == value))
        mask[members[: int(len(members) * _VALIDATION_SHARE)]] = True
    return mask


def _fit_and_predict(features: np.ndarray, labels: np.ndarray, new: np.ndarray, strength: float) -> np.ndarray:
    if len(np.unique(labels)) == 1:
        return np.full(len(new), labels[0])
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < 1e-8] = 1.0  # a constant feature carries nothing and must not be blown up
    model = _linear_model().LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS, tol=1e-3)
    return model.fit((features - mean) / scale, labels).predict((new - mean) / scale)


def _linear_model() -> ModuleType:
    try:
        from sklearn import linear_model
    except ImportError as error:
        raise ImportError(
            "linear_probe needs scikit-learn; install it with `pip install codebind-hf[report]`."
        ) from error
    return linear_model


def _checked(side: str, features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    rows, names = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"{side}_features: got shape {rows.shape}; it must be (items, dim) with at least one item.")
    if names.shape != rows.shape[:1]:
        raise ValueError(f"{side}_labels: got shape {names.shape} for {len(rows)} items; give one label an item.")
    if not np.isfinite(rows).all():
        raise ValueError(f"{side}_features: got NaN or infinite values; every feature must be finite.")
    return rows, names
