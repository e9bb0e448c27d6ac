import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score

from codebind_hf.evaluation import metrics
from codebind_hf.evaluation.metrics import (
    mean_average_precision,
    median_rank,
    pool_precision,
    pool_recall,
    retrieval_recall,
    zero_shot_accuracy,
)


def unit(values: ArrayLike) -> np.ndarray:
    rows = np.asarray(values, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def similarities(query: ArrayLike, gallery: ArrayLike) -> np.ndarray:
    # Nine decimals: far below any real difference in these tests, far above round-off.
    return np.round(unit(query) @ unit(gallery).T, 9)


def naive_hit(row: np.ndarray, wanted: set[int], k: int) -> float:
    """Mean over every order in which ties may be broken of "is one of `wanted` among the first k"."""
    hits = []
    for order in itertools.permutations(range(len(row))):
        ranked = sorted(order, key=lambda item: -row[item])  # sorted() keeps the order of ties
        hits.append(any(item in wanted for item in ranked[:k]))
    return float(np.mean(hits))


def naive_recall(query: np.ndarray, gallery: np.ndarray, k: int, targets: Sequence[int] | None = None) -> float:
    targets = range(len(query)) if targets is None else targets
    table = similarities(query, gallery)
    return float(np.mean([naive_hit(row, {target}, k) for row, target in zip(table, targets, strict=True)]))


def strict_recall(query: np.ndarray, gallery: np.ndarray, k: int) -> float:
    """What a careless implementation reports: only strictly better items count against the match."""
    table = similarities(query, gallery)
    return float(np.mean([(row > row[i]).sum() < k for i, row in enumerate(table)]))


def quantized(rng: np.random.Generator, items: int = 6, segments: int = 2) -> np.ndarray:
    """Embeddings made of very few codes, so that many rows are equal."""
    codes = unit(rng.standard_normal((2, 3)))
    return unit(codes[rng.integers(0, 2, (items, segments))].reshape(items, -1))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("seed", range(4))
def test_recall_equals_the_mean_over_every_way_to_break_ties(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = quantized(rng), quantized(rng)
    expected = naive_recall(query, gallery, k)
    assert retrieval_recall(query, gallery, k=(k,))[f"recall_at_{k}"] == pytest.approx(expected, abs=1e-12)


def test_a_collapsed_embedding_scores_chance_where_a_strict_comparison_reports_everything_found() -> None:
    same = np.ones((20, 4))
    assert strict_recall(same, same, 1) == 1.0
    recall = retrieval_recall(same, same)
    assert recall == {"recall_at_1": pytest.approx(1 / 20), "recall_at_10": pytest.approx(10 / 20)}


def test_class_level_codes_score_less_than_a_strict_comparison_reports() -> None:
    # 5 classes of 8 equal rows each: knowing the class finds 1 of 8 at rank 1 and all at rank 10.
    rows = np.repeat(np.eye(5), 8, axis=0)
    assert strict_recall(rows, rows, 1) == 1.0
    assert retrieval_recall(rows, rows) == {"recall_at_1": pytest.approx(1 / 8), "recall_at_10": pytest.approx(1.0)}


def test_round_off_cannot_break_a_tie() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((3, 64)), 4, axis=0)
    noisy = (unit(rows) * (1 + 3e-8 * rng.standard_normal(rows.shape))).astype(np.float32)
    assert retrieval_recall(noisy, noisy)["recall_at_1"] == pytest.approx(1 / 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equal_rows_tie_in_every_dtype(dtype: torch.dtype) -> None:
    rows = torch.randn(4, 32, generator=torch.Generator().manual_seed(1)).to(dtype).repeat(3, 1)
    assert retrieval_recall(rows, rows)["recall_at_1"] == pytest.approx(1 / 3)


def test_the_order_of_the_objects_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    query, gallery = quantized(rng, 40), quantized(rng, 40)
    order = rng.permutation(40)
    assert retrieval_recall(query[order], gallery[order]) == pytest.approx(retrieval_recall(query, gallery))
    assert median_rank(query[order], gallery[order]) == median_rank(query, gallery)
    labels, classes = rng.integers(0, 5, 40), rng.standard_normal((5, 6))
    straight = zero_shot_accuracy(query, classes, labels)
    assert zero_shot_accuracy(query[order], classes, labels[order]) == pytest.approx(straight)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    query, gallery, owners = quantized(rng, 23), quantized(rng, 23), rng.integers(0, 9, 23)
    whole = retrieval_recall(query, gallery), pool_recall(query, owners)
    monkeypatch.setattr(metrics, "_QUERY_BLOCK", 5)
    monkeypatch.setattr(metrics, "_GALLERY_BLOCK", 4)
    parts = retrieval_recall(query, gallery), pool_recall(query, owners)
    assert parts[0] == pytest.approx(whole[0])
    np.testing.assert_allclose(parts[1]["recall_at_1"], whole[1]["recall_at_1"])


def test_targets_name_the_match_of_each_query() -> None:
    rng = np.random.default_rng(5)
    gallery, targets = quantized(rng, 6), [4, 0, 0]
    query = gallery[targets]
    for k in (1, 3):
        recall = retrieval_recall(query, gallery, k=(k,), targets=targets)[f"recall_at_{k}"]
        assert recall == pytest.approx(naive_recall(query, gallery, k, targets))


def test_recall_of_distinct_vectors_is_one_with_themselves() -> None:
    rows = np.random.default_rng(6).standard_normal((50, 16))
    assert retrieval_recall(rows, rows, k=(1,)) == {"recall_at_1": 1.0}
    assert median_rank(rows, rows) == 1.0


def test_embeddings_need_not_be_unit_norm() -> None:
    rng = np.random.default_rng(7)
    query, gallery = rng.standard_normal((30, 8)), rng.standard_normal((30, 8))
    scaled = query * rng.uniform(0.1, 10, (30, 1))
    assert retrieval_recall(scaled, gallery) == pytest.approx(retrieval_recall(query, gallery))


def test_median_rank_counts_a_tie_as_its_mean_rank() -> None:
    # One item beats the match, and the match ties with two others: places 2, 3, 4, so rank 3.
    gallery = unit([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.6, 0.8], [0.0, 1.0]])
    assert median_rank(np.array([[1.0, 0.0]]), gallery, targets=[2]) == 3.0


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_zero_shot_accuracy_equals_the_mean_over_every_way_to_break_ties(top_k: int) -> None:
    rng = np.random.default_rng(8)
    items, classes, labels = quantized(rng, 15), quantized(rng, 5), rng.integers(0, 5, 15)
    expected = naive_recall(items, classes, top_k, labels)
    assert zero_shot_accuracy(items, classes, labels, top_k=top_k) == pytest.approx(expected)


def test_zero_shot_accuracy_of_equal_classes_is_chance() -> None:
    items = np.random.default_rng(9).standard_normal((12, 4))
    assert zero_shot_accuracy(items, np.ones((4, 4)), np.arange(12) % 4) == pytest.approx(1 / 4)


def test_zero_shot_accuracy_counts_items_nearest_to_their_class() -> None:
    # By hand: items 0, 1 and 3 lie nearest to their own class, item 2 to class 0: 3 of 4.
    items, labels = [[1, 0.1], [0.1, 1], [1, 0.2], [1, 0.3]], [0, 1, 1, 0]
    assert zero_shot_accuracy(items, np.eye(2), labels) == 0.75


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_pool_recall_equals_the_mean_over_every_way_to_break_ties(seed: int, k: int) -> None:
    rng = np.random.default_rng(20 + seed)
    pool, owners = quantized(rng, 7), np.array([0, 0, 0, 1, 1, 2, 2])
    table = similarities(pool, pool)
    found = pool_recall(pool, owners, k=(k,))[f"recall_at_{k}"]
    for item, row in enumerate(table):
        others = [j for j in range(7) if j != item]
        wanted = {position for position, j in enumerate(others) if owners[j] == owners[item]}
        assert found[item] == pytest.approx(naive_hit(row[others], wanted, k))


def test_pool_recall_of_an_object_with_one_item_is_not_a_number() -> None:
    found = pool_recall(np.eye(3), [0, 0, 1])["recall_at_1"]
    assert np.isnan(found[2])
    assert not np.isnan(found[:2]).any()


@pytest.mark.parametrize("decimals", [1, 8], ids=["many-ties", "no-ties"])
def test_average_precision_equals_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(10)
    scores, relevant = np.round(rng.random((6, 30)), decimals), rng.random((6, 30)) < 0.3
    expected = np.mean([average_precision_score(row, score) for row, score in zip(relevant, scores, strict=True)])
    assert mean_average_precision(scores, relevant) == pytest.approx(expected)


def test_average_precision_by_hand() -> None:
    # Ranked: relevant, no, relevant, no. Precision at the hits 1/1 and 2/3, each worth half: 5/6.
    assert mean_average_precision([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0]) == pytest.approx(5 / 6)


def test_average_precision_of_tied_scores_is_the_share_of_relevant_items() -> None:
    scores = np.full(8, 0.3) + np.random.default_rng(11).uniform(-1e-8, 1e-8, 8)
    assert mean_average_precision(scores, [1, 1, 0, 0, 0, 0, 0, 0]) == pytest.approx(2 / 8)


def test_average_precision_leaves_out_rows_without_a_relevant_item() -> None:
    assert mean_average_precision([[0.2, 0.1], [0.2, 0.1]], [[1, 0], [0, 0]]) == 1.0


BAD = {
    "one axis": lambda: retrieval_recall(np.ones(3), np.ones((3, 2))),
    "empty": lambda: retrieval_recall(np.ones((0, 2)), np.ones((3, 2))),
    "nan": lambda: retrieval_recall(np.full((3, 2), np.nan), np.ones((3, 2))),
    "lengths differ without targets": lambda: retrieval_recall(np.ones((2, 2)), np.ones((3, 2))),
    "widths differ": lambda: retrieval_recall(np.ones((3, 4)), np.ones((3, 2))),
    "target outside the gallery": lambda: retrieval_recall(np.ones((1, 2)), np.ones((3, 2)), targets=[3]),
    "negative target": lambda: retrieval_recall(np.ones((1, 2)), np.ones((3, 2)), targets=[-1]),
    "a target a query": lambda: retrieval_recall(np.ones((2, 2)), np.ones((3, 2)), targets=[1]),
    "k below 1": lambda: retrieval_recall(np.ones((3, 2)), np.ones((3, 2)), k=(0,)),
    "no k": lambda: retrieval_recall(np.ones((3, 2)), np.ones((3, 2)), k=()),
    "labels that are no integers": lambda: zero_shot_accuracy(np.ones((2, 2)), np.eye(2), [0.0, 1.0]),
    "owners": lambda: pool_recall(np.ones((3, 2)), [0, 1]),
    "scores and relevant differ": lambda: mean_average_precision(np.ones((2, 3)), np.ones((3, 2))),
    "scores not finite": lambda: mean_average_precision([np.inf, 0.0], [1, 0]),
    "nothing relevant": lambda: mean_average_precision([1.0, 0.0], [0, 0]),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_the_name_of_the_argument(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"query|gallery|targets|embeddings|^k:|labels|owners|scores|relevant"):
        call()


def test_the_share_of_neighbours_is_that_of_all_orders_of_ties() -> None:
    """Every order of the items that tie is as likely as another, so the value is a mean over all of them."""
    embeds = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1], [1, 1], [1, 0], [0, 1]])
    owners = np.array([0, 0, 1, 1, 0, 2, 3])
    unit = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
    for k in (1, 2, 3, 9):
        found = pool_precision(embeds, owners, k=(k,))[f"precision_at_{k}"]
        for query in range(7):
            others = [item for item in range(7) if item != query]
            count = min(k, sum(owners[item] == owners[query] for item in others))
            shares = []
            for order in itertools.permutations(others):
                nearest = sorted(order, key=lambda item, query=query: -round(float(unit[item] @ unit[query]), 9))[:k]
                shares.append(sum(owners[item] == owners[query] for item in nearest))
            assert np.isnan(found[query]) if not count else found[query] == pytest.approx(np.mean(shares) / count)


def test_the_share_of_one_neighbour_is_its_recall_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    embeds, owners = rng.integers(-1, 2, (40, 3)) + 0.1, rng.integers(0, 6, 40)
    found = pool_precision(embeds, owners)
    assert found["precision_at_1"] == pytest.approx(pool_recall(embeds, owners)["recall_at_1"], nan_ok=True)
    monkeypatch.setattr(metrics, "_QUERY_BLOCK", 7)
    assert pool_precision(embeds, owners)["precision_at_10"] == pytest.approx(found["precision_at_10"], nan_ok=True)


def test_a_wrong_number_of_owners_or_neighbours_is_refused() -> None:
    with pytest.raises(ValueError, match="owners: got 2 owners for 3 embeds"):
        pool_precision(np.ones((3, 2)), [0, 1])
    with pytest.raises(ValueError, match=r"k: got \[0\]"):
        pool_precision(np.ones((3, 2)), [0, 1, 0], k=(0,))
