"""Metrics of benchmarks against scikit-learn and against their definition, on random scores."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, top_k_accuracy_score

from codebind_hf.evaluation import hit_shares, match_places, mean_average_precision, retrieval_recall
from codebind_hf.evaluation.benchmark_scores import (
    class_hits,
    cosines,
    interval,
    mean_of,
    mean_of_folds,
    mean_precision_of,
    merged_hits,
    positions_of,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_hits_are_top_k_accuracy(k: int, rng: np.random.Generator) -> None:
    scores, wanted = rng.normal(size=(200, 7)), rng.integers(7, size=200)
    expected = top_k_accuracy_score(wanted, scores, k=k, labels=range(7))
    assert class_hits(scores, wanted, k).mean() == pytest.approx(expected)


def test_a_tie_counts_as_its_expected_value() -> None:
    scores = np.array([[0.5, 0.5, 0.1], [0.3, 0.3, 0.3], [0.9, 0.1, 0.1]])
    np.testing.assert_allclose(class_hits(scores, np.array([0, 1, 2])), [1 / 2, 1 / 3, 0])
    np.testing.assert_allclose(class_hits(scores, np.array([0, 1, 2]), k=2), [1, 2 / 3, 1 / 2])
    groups = np.array([0, 1, 1])
    np.testing.assert_allclose(merged_hits(scores, np.array([1, 1, 0]), groups), [1 / 2, 2 / 3, 1])


def test_the_best_class_is_chosen_before_classes_are_merged() -> None:
    # Classes 1 and 2 together would outweigh class 0, and each alone does not.
    scores = np.array([[0.5, 0.4, 0.4]])
    assert merged_hits(scores, np.array([0]), np.array([0, 1, 1])).tolist() == [1.0]


def test_merging_is_accuracy_on_merged_labels(rng: np.random.Generator) -> None:
    scores, labels, groups = rng.normal(size=(300, 27)), rng.integers(27, size=300), np.minimum(np.arange(27), 9)
    predicted = np.where(scores.argmax(1) >= 9, 9, scores.argmax(1))
    expected = (predicted == np.where(labels >= 9, 9, labels)).mean()
    assert merged_hits(scores, groups[labels], groups).mean() == pytest.approx(expected)


@pytest.mark.parametrize("digits", [1, 6])
def test_mean_average_precision_is_scikit_learns_with_weights(digits: int, rng: np.random.Generator) -> None:
    scores, relevant = rng.normal(size=(120, 6)).round(digits), rng.random((120, 6)) < 0.2
    relevant[:, 5] = False
    weights = rng.integers(0, 4, 120).astype(float)
    statistic = mean_precision_of(scores, relevant)
    for used in (np.ones(120), weights):
        expected = [average_precision_score(relevant[:, c], scores[:, c], sample_weight=used) for c in range(5)]
        assert statistic(used) == pytest.approx(np.mean(expected))
    assert statistic(np.ones(120)) == pytest.approx(mean_average_precision(scores.T, relevant.T))


def test_a_fold_counts_as_much_as_another() -> None:
    hits, folds = np.array([1.0, 1.0, 1.0, 0.0]), np.array([1, 1, 1, 2])
    statistic = mean_of_folds(hits, folds)
    assert statistic(np.ones(4)) == 0.5
    assert statistic(np.array([1.0, 1.0, 0.0, 0.0])) == 1.0
    assert mean_of(hits)(np.ones(4)) == 0.75


def test_the_interval_is_that_of_the_binomial(rng: np.random.Generator) -> None:
    hits = (np.arange(400) < 100).astype(float)
    low, high = interval(mean_of(hits), np.arange(400), draws=2000, seed=0)
    spread = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert (low, high) == pytest.approx((0.25 - spread, 0.25 + spread), abs=0.006)
    assert interval(mean_of(hits), np.arange(400), 50, seed=3) == interval(mean_of(hits), np.arange(400), 50, seed=3)


def test_captions_of_one_clip_are_drawn_together() -> None:
    # Five captions of each clip that hit or miss together know no more than one.
    hits = np.repeat((np.arange(40) < 20).astype(float), 5)
    together = interval(mean_of(hits), np.repeat(np.arange(40), 5), draws=500, seed=0)
    apart = interval(mean_of(hits), np.arange(200), draws=500, seed=0)
    assert together[1] - together[0] > 1.8 * (apart[1] - apart[0])


@pytest.mark.parametrize("k", [1, 10])
def test_places_give_the_recall(k: int, rng: np.random.Generator) -> None:
    query, gallery = rng.normal(size=(60, 5)), rng.normal(size=(20, 5))
    gallery[7] = gallery[3]
    targets = np.repeat(np.arange(20), 3)
    before, tied = match_places(query, gallery, targets)
    recall = retrieval_recall(query, gallery, (k,), targets)[f"recall_at_{k}"]
    assert hit_shares(before, tied, k).mean() == pytest.approx(recall)
    similarity = cosines(query, gallery)
    own = similarity[np.arange(60), targets]
    np.testing.assert_array_equal(before, (similarity > own[:, None] + 1e-6).sum(1))
    assert tied[9] == tied[21] == 2


def test_a_label_that_is_no_class_is_named() -> None:
    assert positions_of(["b", "a"], ["a", "b"], "X").tolist() == [1, 0]
    with pytest.raises(ValueError, match="X: got the label 'c', which is none of the 2 classes"):
        positions_of(["a", "c"], ["a", "b"], "X")
