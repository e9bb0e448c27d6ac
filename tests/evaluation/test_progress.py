"""Bars with totals for what takes longer than two seconds, none where they are not wanted."""

from types import SimpleNamespace

import pytest

from codebind_hf.evaluation import Evaluation, side_by_side, suite
from codebind_hf.evaluation.side_by_side import results_of


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if two seconds had gone by."""
    monkeypatch.setattr(side_by_side, "BAR_DELAY", 0)
    monkeypatch.setattr(suite, "BAR_DELAY", 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_fits_are_counted_in_one_process_and_in_several(
    at_once: None, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    calls = [lambda number=number: number for number in range(7)]
    assert results_of(calls, workers, "Fitting probes") == list(range(7))
    assert "Fitting probes: 100%" in (said := capsys.readouterr().err)
    assert "7/7" in said
    assert results_of(calls, workers) == list(range(7))
    assert capsys.readouterr().err == ""


def test_what_is_done_at_once_has_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert results_of([lambda: 1], 0, "Fitting probes") == [1]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("progress", [True, False])
def test_sections_of_a_report_are_counted(
    at_once: None, fake: SimpleNamespace, capsys: pytest.CaptureFixture[str], progress: bool
) -> None:
    options = {"templates": ["a {}"], "controls": False, "progress": progress}
    Evaluation(fake.model, fake.processor, fake.rows(60, ("text", "image")), **options).report()
    said = capsys.readouterr().err
    for name, total in (("Evaluating", len(suite._SECTIONS)), ("Embedding", 1)):
        assert (f"{name}: 100%" in said) == progress
        assert (f"{total}/{total}" in said) == progress
    assert ("Fitting probes: 100%" in said) == progress
