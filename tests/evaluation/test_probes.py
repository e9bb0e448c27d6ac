import sys

import numpy as np
import pytest

from codebind_hf.evaluation.probes import linear_probe, mlp_probe, predictability, residual


def planted(seed: int, strength: float, items: int = 200, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Noise in which one direction carries a three-valued attribute, on features of very different scales."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, items)
    features = rng.standard_normal((items, dim))
    features[:, 3] += strength * labels
    return features * np.geomspace(1e-3, 1e3, dim), labels


def test_a_probe_finds_a_planted_attribute() -> None:
    result = linear_probe(*planted(0, 5.0), *planted(1, 5.0))
    assert result.accuracy > 0.9
    assert result.chance < 0.45


def test_a_probe_stays_at_chance_on_noise() -> None:
    accuracies = [linear_probe(*planted(seed, 0.0), *planted(seed + 50, 0.0), seed=seed).accuracy for seed in range(5)]
    assert abs(np.mean(accuracies) - 1 / 3) < 0.06


def test_chance_is_the_share_of_the_largest_test_class() -> None:
    features, labels = planted(0, 1.0, items=40)
    result = linear_probe(features, labels, features[:4], [7, 7, 7, 1])
    assert result.chance == 0.75
    assert result.accuracy == result.correct.mean()


def test_labels_may_be_strings() -> None:
    (train, train_labels), (test, test_labels) = planted(0, 5.0), planted(1, 5.0)
    names = np.array(["low", "middle", "high"])
    named = linear_probe(train, names[train_labels], test, names[test_labels])
    assert named.accuracy == pytest.approx(linear_probe(train, train_labels, test, test_labels).accuracy, abs=0.02)


def test_the_test_items_do_not_influence_each_other() -> None:
    # A probe that standardised or tuned on the test set would answer differently when half of it is missing.
    train, (test, labels) = planted(0, 1.0), planted(1, 1.0)
    whole = linear_probe(*train, test, labels)
    half = linear_probe(*train, test[::2], labels[::2])
    np.testing.assert_array_equal(half.correct, whole.correct[::2])


def test_a_training_set_of_one_class_predicts_that_class() -> None:
    result = linear_probe(np.ones((3, 2)), [4, 4, 4], np.zeros((4, 2)), [4, 4, 1, 2])
    assert result.accuracy == 0.5


def test_a_class_seen_once_is_no_error() -> None:
    features = np.random.default_rng(0).standard_normal((9, 3))
    result = linear_probe(features, [0, 0, 0, 0, 1, 1, 1, 1, 2], features, [0, 0, 0, 0, 1, 1, 1, 1, 2])
    assert 0.0 <= result.accuracy <= 1.0


def test_a_small_network_reads_a_product_of_signs_that_no_line_reads() -> None:
    signs = np.random.default_rng(0).integers(0, 2, (400, 2)) * 2.0 - 1
    features = np.concatenate([signs, np.random.default_rng(1).normal(size=(400, 3))], axis=1)
    labels = signs.prod(axis=1)
    parts = (features[:200], labels[:200], features[200:], labels[200:])
    assert mlp_probe(*parts).accuracy > 0.9
    assert linear_probe(*parts).accuracy < 0.65
    assert mlp_probe(*parts, seed=3).accuracy == mlp_probe(*parts, seed=3).accuracy


def test_predictability_is_the_share_of_the_variance_that_a_line_explains() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(2000, 3))
    # Half of the variance of the target is the source's, half is its own.
    target = np.stack([source[:, 0], rng.normal(size=2000)], axis=1)
    cut = (source[:1000], target[:1000], source[1000:], target[1000:])
    assert predictability(*cut) == pytest.approx(0.5, abs=0.05)
    assert predictability(source[:1000], 5 * source[:1000] + 2, source[1000:], 5 * source[1000:] + 2) > 0.999
    assert abs(predictability(rng.normal(size=(1000, 3)), target[:1000], source[1000:], target[1000:])) < 0.02


def test_the_closed_form_holds_what_the_shared_part_does_not_say() -> None:
    rng = np.random.default_rng(0)
    common, private = rng.normal(size=(600, 2)), rng.normal(size=(600, 1))
    raw = np.concatenate([common, private, common @ rng.normal(size=(2, 3)) + private], axis=1)
    train, test = residual(raw[:400], common[:400], raw[400:], common[400:], size=1)
    assert (train.shape, test.shape) == ((400, 1), (200, 1))
    assert abs(np.corrcoef(test[:, 0], private[400:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(test[:, 0], common[400:, 0])[0, 1]) < 0.15


BAD = {
    "widths differ": (np.ones((3, 2)), [0, 1, 1], np.ones((3, 4)), [0, 1, 1]),
    "a label an item": (np.ones((3, 2)), [0, 1], np.ones((3, 2)), [0, 1, 1]),
    "not finite": (np.full((3, 2), np.nan), [0, 1, 1], np.ones((3, 2)), [0, 1, 1]),
    "empty": (np.ones((0, 2)), [], np.ones((3, 2)), [0, 1, 1]),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD.keys())
def test_bad_probe_input_is_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="train_"):
        linear_probe(*arguments)


def test_a_missing_scikit_learn_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install codebind-hf\[report\]"):
        linear_probe(*planted(0, 1.0), *planted(1, 1.0))
