"""Codes beside quantizers of as many bytes: what is stored, and which figures are compared."""

import numpy as np
import pytest
import torch
from equal_bytes import OWN, compared, section, verdict
from scipy import stats
from storages import of_codes, of_faiss, one_book, storages

from codebind_hf.evaluation.environment import environment


def vectors(count: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, 32)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_a_model_s_codes_store_the_nearest_code_of_every_segment() -> None:
    codes = torch.nn.functional.normalize(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    stored = of_codes(codes)(vectors(0))(vectors(5))
    for row, kept in zip(vectors(5), stored, strict=True):
        for segment, code in zip(row.reshape(4, 8), kept.reshape(4, 8), strict=True):
            np.testing.assert_array_equal(code, codes[int((codes @ torch.from_numpy(segment)).argmax())].numpy())


@pytest.mark.parametrize("levels", [1, 2])
def test_one_book_stores_as_many_codes_as_there_are_bytes(levels: int) -> None:
    train = vectors(600)
    stored = one_book(levels, size=4)(train)(train)
    segments = stored.reshape(len(train) * 4 // levels, -1)
    assert len(np.unique(segments.round(5), axis=0)) <= 256**levels
    # Segments have one length each, so that what is stored is as long as there are segments.
    assert np.linalg.norm(stored, axis=1).mean() == pytest.approx((4 / levels) ** 0.5, rel=0.1)
    unit = train.reshape(len(segments), -1)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    error = ((segments - unit) ** 2).sum(1).mean()
    assert error < (0.5 if levels == 1 else 0.9)


def test_two_codes_a_segment_come_closer_than_one_of_as_wide_segments() -> None:
    train = vectors(600)
    one, two = (one_book(levels, size=2 * levels)(train)(train) for levels in (1, 2))
    unit = train.reshape(1200, 16)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    errors = [((each.reshape(1200, 16) - unit) ** 2).sum(1).mean() for each in (one, two)]
    assert errors[1] < 0.8 * errors[0]


def test_a_quantizer_that_takes_more_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"PQ8x8: takes 8 bytes; allowed: 4\."):
        of_faiss("PQ8x8", 4)(vectors(600))
    assert "RaBitQ" in storages(32)
    assert "RaBitQ" not in storages(16)


SPLITS = {0: (0.50, 0.80, 0.48), 1: (0.54, 0.82, 0.52), 2: (0.49, 0.81, 0.46)}


def figures() -> dict:
    control = {
        s: {"exact": {"kept": 1.0, "R@10": a}, "OPQ": {"kept": b, "R@10": c}} for s, (a, b, c) in SPLITS.items()
    }
    ours = {
        s: {"exact": {"kept": 1.0, "R@10": a}, "OPQ": {"kept": b, "R@10": a}, OWN: {"kept": b + 0.05, "R@10": a}}
        for s, (a, b, _) in SPLITS.items()
    }
    return compared(control, ours)


def test_our_codes_are_compared_in_pairs_of_one_split() -> None:
    found = figures()
    more = found["hard, OPQ"]["R@10"]["difference"]
    pairs = [a - c for a, _, c in SPLITS.values()]
    assert more["mean"] == pytest.approx(np.mean(pairs))
    error = np.std(pairs, ddof=1) * (1 / 3 + 0.25) ** 0.5
    assert more["half"] == pytest.approx(stats.t.ppf(0.975, 2) * error)
    assert found["ours, OPQ"]["kept"]["difference"]["mean"] == pytest.approx(0.05)
    # Which ten are nearest is another question of another embedding.
    assert "difference" not in found["hard, OPQ"]["kept"]
    assert "difference" not in found[f"ours, {OWN}"]["R@10"]


def test_the_section_says_what_is_passed_and_what_is_not() -> None:
    found = {"sizes": {"32": figures()}, "splits": [0, 1, 2], "senses": ["points"], "environment": environment()}
    assert verdict(found) == (
        "In 32 bytes, our own codes have 86.0 ± 3.3 % of the ten nearest kept: more than ours, OPQ. "
        "In 32 bytes, our own codes have 51.0 ± 8.7 % R@10 of the object: more than hard, OPQ; not told apart from "
        "ours, OPQ."
    )
    text = "\n".join(section(found))
    assert "| ours, its own codes | 86.0 ± 3.3 |  | 51.0 ± 8.7 |  |" in text
    assert "3 real splits (0 to 2)" in text
