"""The table that a command ends with: intervals, chance and the majority class beside each accuracy."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from test_sections import EYE, embedded_set, modality

from codebind_hf.evaluation.embedding import ClassEmbeds
from codebind_hf.evaluation.report import summary_lines
from codebind_hf.evaluation.sections import zero_shot_section
from codebind_hf.evaluation.summary import accuracy_table, aligned, wilson_interval


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 9), (3, 7), (50, 100), (999, 1000)])
def test_the_interval_is_wilsons(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson_interval(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_by_hand() -> None:
    # 1 of 2 with z = 1: the centre is 1/2, the half width sqrt(1/8 + 1/16) / (1 + 1/2) = 0.288675.
    assert wilson_interval(0.5, 2, level=0.6826894921) == pytest.approx((0.211325, 0.788675), abs=1e-6)


@pytest.mark.parametrize(("share", "count"), [(0.5, 0), (-0.1, 3), (1.1, 3)])
def test_what_is_no_share_has_no_interval(share: float, count: int) -> None:
    with pytest.raises(ValueError, match="allowed: a share from 0 to 1 of at least one trial"):
        wilson_interval(share, count)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).binomial(40, 0.1, size=4000)
    covered = [low <= 0.1 <= high for low, high in (wilson_interval(hits / 40, 40) for hits in draws)]
    assert 0.93 <= np.mean(covered) <= 0.98


def test_the_majority_class_is_that_of_the_items() -> None:
    embedded = embedded_set({"audio": modality(EYE)}, labels=["a", "b", "b", None])
    section = zero_shot_section(embedded, ClassEmbeds(torch.tensor(EYE[:2]), torch.tensor(EYE[:2])), ["a", "b"])
    assert section["audio"]["majority"] == pytest.approx(2 / 3)
    assert section["audio"]["n"] == 3


def test_the_majority_of_several_labels_is_the_most_frequent_one() -> None:
    embedded = embedded_set({"audio": modality(EYE)})
    embedded.label_sets = [["a"], ["a", "b"], ["a"], ["b"]]
    section = zero_shot_section(embedded, ClassEmbeds(torch.tensor(EYE[:2]), torch.tensor(EYE[:2])), ["a", "b"])
    # "a" is a label of three of four items.
    assert section["audio"]["majority"] == 0.75


REPORT = {
    "zero_shot": {
        "image": {"accuracy": 0.5, "accuracy_continuous": 1.0, "chance": 0.25, "majority": 0.4, "n": 10},
        "point_cloud": {"accuracy": 0.0, "accuracy_continuous": 0.0, "chance": 0.25, "n": 1000},
    },
    "templates": ["a {}"],
    "rows": {"failures": [{"position": 3, "modality": "image", "message": "no file."}]},
}


def test_the_table_has_a_line_a_modality() -> None:
    low, high = (100 * end for end in binomtest(5, 10).proportion_ci(method="wilson"))
    head, image, points = accuracy_table(REPORT)
    assert head.split("  ")[0] == "zero-shot"
    assert image.split() == ["image", "50.0", f"{low:.1f}", "to", f"{high:.1f}", "100.0", "25.0", "40.0", "10"]
    assert points.split() == ["point_cloud", "0.0", "0.0", "to", "0.4", "0.0", "25.0", "-", "1000"]
    assert len({len(line) for line in (head, image, points)}) == 1
    assert accuracy_table({}) == []


def test_the_summary_names_prompts_and_what_was_left_out() -> None:
    *_, prompts, skipped = summary_lines(REPORT)
    assert prompts == "zero-shot prompts: `a {}`"
    assert skipped == "skipped row 3, image: no file."


def test_cells_stand_below_each_other() -> None:
    assert aligned([["a", "bb"], ["ccc", "d"]]) == ["a    bb", "ccc   d"]


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(0).binomial(60, 0.9, size=4000)
    ends = [wilson_interval(count / 60, 60) for count in range(61)]
    held = np.mean([ends[count][0] <= 0.9 <= ends[count][1] for count in drawn])
    assert 0.93 < held < 0.98
