"""Answering "none of these": thresholds by hand, what they promise over many draws, and in a report."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from codebind_hf.evaluation import Evaluation, checkpoint_digest, class_embeddings, embed_dataset
from codebind_hf.evaluation.abstention import COVERAGE, abstention_section, calibrate_threshold, save_thresholds
from codebind_hf.evaluation.decoupling import halves
from codebind_hf.processing.pipeline_inputs import THRESHOLDS_FILE


def drawn(rng: np.random.Generator, items: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Cosines that are somewhat higher for the right class, and the classes."""
    labels = rng.integers(classes, size=items)
    scores = 0.3 * rng.standard_normal((items, classes))
    scores[np.arange(items), labels] += 0.35
    return np.clip(scores, -1, 1), labels


@pytest.mark.parametrize(
    ("items", "coverage", "place"),
    # k = floor((1 - coverage) (n + 1)): 0.1 * 10, 0.1 * 19, 0.1 * 20, 0.5 * 8, 0.05 * 100.
    [(9, 0.9, 1), (18, 0.9, 1), (19, 0.9, 2), (7, 0.5, 4), (99, 0.95, 5)],
)
def test_coverage_is_a_place_among_the_largest_similarities(items: int, coverage: float, place: int) -> None:
    scores, _ = drawn(np.random.default_rng(0), items)
    expected = sorted(max(row) for row in scores.tolist())[place - 1]
    assert calibrate_threshold(scores, coverage=coverage) == expected
    assert calibrate_threshold(scores[::-1], coverage=coverage) == expected


def test_coverage_holds_over_draws_and_not_by_refusing_less() -> None:
    rng, refused = np.random.default_rng(1), []
    for _ in range(400):
        scores, _ = drawn(rng, 40)
        threshold = calibrate_threshold(scores[:39], coverage=0.9)
        refused.append(scores[39].max() < threshold)
    # Exactly 4 of 40 for numbers that do not tie; 3.5 standard errors of 400 draws are 5 points.
    assert abs(np.mean(refused) - 0.1) < 0.05


def test_items_that_tie_with_the_threshold_are_answered() -> None:
    scores = np.full((19, 2), 0.5)
    assert calibrate_threshold(scores, coverage=0.9) == 0.5


@pytest.mark.parametrize("risk", [0.02, 0.1, 0.3, 0.9])
def test_risk_takes_the_smallest_threshold_that_errs_rarely_enough(risk: float) -> None:
    scores, labels = drawn(np.random.default_rng(2), 99)
    best, wrong = scores.max(1), scores.argmax(1) != labels

    def bound(threshold: float) -> float:
        return (sum(wrong[best >= threshold]) + 1) / 100

    threshold = calibrate_threshold(scores, labels, risk=risk)
    assert bound(threshold) <= risk
    lower = [value for value in [-1.0, *best.tolist()] if value < threshold]
    assert all(bound(value) > risk for value in lower)


def test_risk_holds_over_draws() -> None:
    rng, wrong = np.random.default_rng(3), []
    for _ in range(400):
        scores, labels = drawn(rng, 60)
        threshold = calibrate_threshold(scores[:59], labels[:59], risk=0.1)
        wrong.append(scores[59].max() >= threshold and scores[59].argmax() != labels[59])
    # At most 6 of 60, and no fewer than 5 of them; 3.5 standard errors are 5 points.
    assert 0.03 < np.mean(wrong) < 0.15


def test_a_model_that_never_errs_answers_everything() -> None:
    assert calibrate_threshold(np.eye(20), np.arange(20), risk=0.1) == -1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": 0.9, "risk": 0.1}, "coverage, risk: got 0.9 and 0.1; give one"),
        ({"coverage": 1.0}, r"coverage: got 1.0; it must be between 0 and 1"),
        ({"risk": 0}, r"risk: got 0; it must be between 0 and 1"),
        ({"coverage": 0.9, "items": 8}, "coverage: 0.9 cannot be promised from 8 calibration items. Fix: 9 or more"),
        ({"risk": 0.05, "items": 18}, "risk: 0.05 cannot be promised from 18 calibration items. Fix: 19 or more"),
        ({"risk": 0.2, "labels": None}, r"labels: got shape \(0,\); risk needs one label for each of 30 items"),
        ({"similarities": np.full((30, 2), np.nan)}, "it must be \\(items, classes\\) of finite numbers"),
        ({"similarities": np.zeros(30)}, r"similarities: got shape \(30,\)"),
    ],
)
def test_what_cannot_be_promised_is_refused(options: dict[str, Any], message: str) -> None:
    items = options.pop("items", 30)
    scores, labels = drawn(np.random.default_rng(0), items)
    given = {"similarities": scores, "labels": labels, **options}
    with pytest.raises(ValueError, match=message):
        calibrate_threshold(**given)


# In a report


@pytest.fixture
def parts(fake: SimpleNamespace) -> SimpleNamespace:
    rows = fake.rows(160, ("text", "image", "eeg"))
    return SimpleNamespace(model=fake.model, processor=fake.processor, rows=rows, classes=fake.classes)


def section_of(
    parts: Any, rows: Sequence[Any] | None = None, names: Sequence[str] | None = None, **options: Any
) -> Any:
    embedded = embed_dataset(parts.model, parts.processor, rows or parts.rows, progress=False)
    names = names or sorted(parts.classes)
    classes = class_embeddings(parts.model, parts.processor, names)
    return abstention_section(embedded, classes, names, **options), embedded, classes


def test_thresholds_come_from_one_half_and_their_figures_from_the_other(parts: Any) -> None:
    section, embedded, classes = section_of(parts, seed=5)
    assert list(section) == ["image", "eeg"]
    one, other = (half.modalities["eeg"] for half in halves(embedded, 5))
    names = sorted(parts.classes)
    for suffix, part in (("", "embeds"), ("_continuous", "continuous_embeds")):
        first, second = (
            torch.nn.functional.cosine_similarity(
                getattr(half, part).double()[:, None], getattr(classes, part).double()[None], dim=-1
            )
            for half in (one, other)
        )
        # 80 calibration rows: floor(0.1 * 81) = 8.
        threshold = first.max(1).values.sort().values[7]
        answered = second.max(1).values >= threshold - 1e-6
        labels = torch.tensor([names.index(embedded.labels[row]) for row in other.positions.tolist()])
        right = (second.argmax(1) == labels)[answered].double().mean()
        entry = section["eeg"]
        assert entry[f"threshold{suffix}"] == pytest.approx(float(threshold), abs=2e-6)
        assert entry[f"answered{suffix}"] == float(answered.double().mean())
        assert entry[f"accuracy_of_answered{suffix}"] == pytest.approx(float(right))
    assert (entry["coverage"], entry["calibrated_on"], entry["n"]) == (COVERAGE, 80, 80)


def test_rows_of_other_classes_are_refused_far_more_often(parts: Any) -> None:
    section, _, _ = section_of(parts)
    for entry in section.values():
        assert entry["refused_known_continuous"] < 0.3
        assert entry["refused_unknown_continuous"] > entry["refused_known_continuous"] + 0.4


def test_a_modality_with_few_labelled_rows_is_left_out(parts: Any) -> None:
    rows = [row if place < 14 else {**row, "eeg": None} for place, row in enumerate(parts.rows)]
    assert list(section_of(parts, rows)[0]) == ["image"]
    rows = [{**row, "label": row["label"] if place < 14 else None} for place, row in enumerate(parts.rows)]
    assert section_of(parts, rows)[0] == {}


def test_a_report_has_it_and_a_checkpoint_gets_its_thresholds(parts: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"templates": ["a {}"], "controls": False, "progress": False}
    report = Evaluation(parts.model, parts.processor, parts.rows, **options).report()
    assert set(report["abstention"]) == {"image", "eeg"}
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = checkpoint_digest(tmp_path)
    file = save_thresholds(report, tmp_path)
    assert file == tmp_path / THRESHOLDS_FILE
    content = json.loads(file.read_text())
    assert content["templates"] == ["a {}"]
    assert content["modalities"]["eeg"]["threshold"] == report["abstention"]["eeg"]["threshold"]
    assert checkpoint_digest(tmp_path) == before, "what is measured on a checkpoint does not make it another one"
    assert save_thresholds({}, tmp_path / "other") is None
    assert not (tmp_path / "other").exists()
