from collections.abc import Callable

import numpy as np
import pytest
import torch

from codebind_hf.evaluation.health import code_agreement, code_counts, codebook_health, modality_usage


def test_health_by_hand() -> None:
    # Codes 0 and 2 of 4, picked 3 and 1 times: entropy -(3/4 ln 3/4 + 1/4 ln 1/4) = 0.5623, exp 1.7548.
    health = codebook_health(torch.tensor([[0, 0], [2, 0]]), 4)
    assert health == {"usage": 0.5, "perplexity": pytest.approx(1.7548, abs=1e-4), "num_codes": 4, "dead": 2}


def test_even_use_of_every_code_has_the_perplexity_of_the_book() -> None:
    health = codebook_health(np.tile(np.arange(8), 5), 8)
    assert health == {"usage": 1.0, "perplexity": pytest.approx(8.0), "num_codes": 8, "dead": 0}


def test_a_collapsed_book_has_perplexity_one() -> None:
    assert codebook_health(np.full((6, 3), 2), 16)["perplexity"] == pytest.approx(1.0)


def test_a_book_may_be_full_although_no_modality_uses_all_of_it() -> None:
    ids = {"image": np.array([[0, 1]]), "audio": np.array([[2, 3]])}
    assert codebook_health(np.concatenate(list(ids.values())), 4)["usage"] == 1.0
    assert {name: usage["usage"] for name, usage in modality_usage(ids, 4).items()} == {"image": 0.5, "audio": 0.5}


def test_agreement_by_hand() -> None:
    # Segment 0 agrees for both objects, segment 1 for one of two: 3/4.
    # Chance, segment 0: both modalities pick 1 half of the time and 2 half: 1/4 + 1/4 = 1/2.
    # Segment 1: one picks 0, 0 and the other 0, 3: 1 * 1/2 = 1/2.
    agreement = code_agreement([[1, 0], [2, 0]], [[1, 0], [2, 3]])
    assert agreement == {"agreement": 0.75, "chance": 0.5, "n": 2}


def test_agreement_of_unrelated_codes_is_its_chance_level() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.5, 0.3, 0.1, 0.1])
    one, other = (rng.choice(4, (4000, 3), p=shares) for _ in range(2))
    found = code_agreement(one, other)
    assert found["chance"] == pytest.approx((shares**2).sum(), abs=0.01)
    assert found["agreement"] == pytest.approx(found["chance"], abs=0.02)


def test_counts_sum_to_the_number_of_picks() -> None:
    np.testing.assert_array_equal(code_counts([[0, 2], [2, 2]], 4), [1, 0, 3, 0])


BAD = {
    "id outside the book": lambda: codebook_health([0, 4], 4),
    "negative id": lambda: codebook_health([-1], 4),
    "no ids": lambda: codebook_health(np.zeros((0, 3), dtype=int), 4),
    "floats": lambda: codebook_health([0.0], 4),
    "shapes differ": lambda: code_agreement([[0, 1]], [[0]]),
    "one axis": lambda: code_agreement([0, 1], [0, 1]),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD.keys())
def test_bad_ids_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"ids:|one, other:"):
        call()
