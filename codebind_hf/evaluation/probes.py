"""What does an embedding still know: accuracy of classifiers trained on it, and what one predicts of another."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


_RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_VALIDATION_SHARE = 0.25
_MAX_ITERATIONS = 300


# What makes a classifier of a strength and a seed, and the strength.
Candidate = tuple[Callable[[float, int], Any], float]


class ProbeResult(NamedTuple):
    """Outcome of one probe.

    Args:
        accuracy: share of the test items classified correctly.
        chance: share of the test set's largest class, which is what a constant answer reaches at best.
        strength: of regularisation (of a linear probe its inverse), chosen on a part of the training set.
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
    train, test = checked("train", train_features, train_labels), checked("test", test_features, test_labels)
    return probed(_LINEAR, train, test, seed)


def mlp_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    seed: int = 0,
) -> ProbeResult:
    """As `linear_probe`, with one hidden layer of 64 and a fixed weight decay: what is there, but not in a line.

    Raises:
        ValueError, ImportError: as `linear_probe`.
    """
    train, test = checked("train", train_features, train_labels), checked("test", test_features, test_labels)
    return probed(((_mlp, 1.0),), train, test, seed)


def random_projection(features: ArrayLike, size: int, seed: int = 0) -> np.ndarray:
    """Features `(items, dim)` as `(items, size)` float32, by a sparse matrix that follows from `dim`, `size` and
    `seed`; those with no more than `size` numbers as they are.

    Raises:
        ImportError: scikit-learn is missing.
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.shape[1] <= size:
        return rows
    return np.asarray(_projection(rows.shape[1], size, seed).transform(rows))


# Every attribute of a modality asks for the same matrix, which takes ten times as long to draw as to use.
@lru_cache(maxsize=8)
def _projection(width: int, size: int, seed: int) -> Any:
    chosen = _sklearn("random_projection").SparseRandomProjection(size, random_state=seed)
    return chosen.fit(np.zeros((1, width), dtype=np.float32))


def predictability(train_from: ArrayLike, train_to: ArrayLike, test_from: ArrayLike, test_to: ArrayLike) -> float:
    """R2 on the test items of a ridge regression from one part of an embedding `(items, dim)` to another.

    All dimensions of the target count by their variance; 0 is no better than the mean. The strength of the ridge is
    chosen by leave-one-out on the training items.

    Raises:
        ImportError: scikit-learn is missing.
    """
    scale, _ = _scaler(np.asarray(train_from, dtype=np.float64))
    with one_thread():
        model = _sklearn("linear_model").RidgeCV(alphas=_RIDGES).fit(scale(train_from), np.asarray(train_to))
        answer = model.predict(scale(test_from))
    return float(_sklearn("metrics").r2_score(np.asarray(test_to), answer, multioutput="variance_weighted"))


def residual(
    train_raw: ArrayLike, train_shared: ArrayLike, test_raw: ArrayLike, test_shared: ArrayLike, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The closed form of a specific part: principal components, `(items, size)`, of what a ridge regression from the
    shared part does not predict of the raw input, of training and of test items.

    Raises:
        ImportError: scikit-learn is missing.
    """
    scale_raw, _ = _scaler(np.asarray(train_raw, dtype=np.float64))
    scale, _ = _scaler(np.asarray(train_shared, dtype=np.float64))
    with one_thread():
        train, test = scale_raw(train_raw), scale_raw(test_raw)
        model = _sklearn("linear_model").RidgeCV(alphas=_RIDGES).fit(scale(train_shared), train)
        train, test = train - model.predict(scale(train_shared)), test - model.predict(scale(test_shared))
        size = min(size, *train.shape)
        components = _sklearn("decomposition").PCA(size, svd_solver="full").fit(train)
        return components.transform(train), components.transform(test)


def validation_mask(labels: np.ndarray, seed: int) -> np.ndarray:
    """A seeded share of every class; the first item of a class always stays in the part that is fitted."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for value in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == value))
        mask[members[: int(len(members) * _VALIDATION_SHARE)]] = True
    return mask


def paired_gain(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Difference of two accuracies on the same items, from which were classified correctly, and its standard error."""
    gain = one.astype(float) - other.astype(float)
    return float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain)))


def one_thread() -> AbstractContextManager:
    """Keep scikit-learn to one thread: its small problems gain nothing from more, and lose ten times on busy cores."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError(
            "probes and t-SNE need scikit-learn; install it with `pip install codebind-hf[report]`."
        ) from error
    return threadpool_limits(limits=1)


def probed(
    candidates: Sequence[Candidate],
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> ProbeResult:
    """The best of several classifiers on a part of the training items, fitted to all of them; `checked` sides."""
    if train[0].shape[1] != test[0].shape[1]:
        raise ValueError(
            f"train_features, test_features: got widths {train[0].shape[1]} and {test[0].shape[1]}; they must agree."
        )
    chance = float(np.unique(test[1], return_counts=True)[1].max() / len(test[1]))
    with one_thread(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=_sklearn("exceptions").ConvergenceWarning)
        kind, strength = _best_candidate(candidates, *train, seed)
        correct = _fit_and_predict(kind(strength, seed), *train, test[0]) == test[1]
    return ProbeResult(float(correct.mean()), chance, strength, correct)


def _best_candidate(candidates: Sequence[Candidate], features: np.ndarray, labels: np.ndarray, seed: int) -> Candidate:
    validation = validation_mask(labels, seed)
    if len(candidates) == 1 or not validation.any():
        return candidates[len(candidates) // 2]
    fitted, held_out = ~validation, validation
    accuracies = [
        np.mean(
            _fit_and_predict(kind(strength, seed), features[fitted], labels[fitted], features[held_out])
            == labels[held_out]
        )
        for kind, strength in candidates
    ]
    return candidates[int(np.argmax(accuracies))]


def _fit_and_predict(model: Any, features: np.ndarray, labels: np.ndarray, new: np.ndarray) -> np.ndarray:
    if len(np.unique(labels)) == 1:
        return np.full(len(new), labels[0])
    scale, scaled = _scaler(features)
    return model.fit(scaled, labels).predict(scale(new))


def _scaler(features: np.ndarray) -> tuple[Callable[[ArrayLike], np.ndarray], np.ndarray]:
    """Standardisation by these items, and the items themselves under it."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation < 1e-8] = 1.0  # a constant feature carries nothing and must not be blown up

    def scale(values: ArrayLike) -> np.ndarray:
        return (np.asarray(values, dtype=np.float64) - mean) / deviation

    return scale, scale(features)


def _logistic(strength: float, seed: int) -> Any:
    return _sklearn("linear_model").LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS, tol=1e-3)


def _mlp(strength: float, seed: int) -> Any:
    options = {"hidden_layer_sizes": (64,), "max_iter": 60, "learning_rate_init": 3e-3}
    return _sklearn("neural_network").MLPClassifier(alpha=strength, random_state=seed, **options)


_LINEAR: tuple[Candidate, ...] = tuple((_logistic, strength) for strength in (0.001, 0.01, 0.1, 1.0))
# An attacker also has a small network, with weak and strong regularisation.
ATTACKERS: tuple[Candidate, ...] = (*_LINEAR, (_mlp, 0.01), (_mlp, 1.0))


def _sklearn(module: str) -> Any:
    try:
        importlib.import_module("sklearn")
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError("probes need scikit-learn; install it with `pip install codebind-hf[report]`.") from error


def checked(side: str, features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    rows, names = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"{side}_features: got shape {rows.shape}; it must be (items, dim) with at least one item.")
    if names.shape != rows.shape[:1]:
        raise ValueError(f"{side}_labels: got shape {names.shape} for {len(rows)} items; give one label an item.")
    if not np.isfinite(rows).all():
        raise ValueError(f"{side}_features: got NaN or infinite values; every feature must be finite.")
    return rows, names
