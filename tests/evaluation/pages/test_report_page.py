import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from page_checks import check_page
from PIL import Image

from codebind_hf.data import PreparedDataset
from codebind_hf.evaluation import Evaluation, write_report
from codebind_hf.evaluation.pages.matches import MOST_CASES, MOST_FOUND, best_and_worst, value_of
from codebind_hf.evaluation.pages.report_page import NO_PICTURES, html_report


def test_a_page_of_a_whole_report_is_alone_and_can_be_read(fake: SimpleNamespace, tmp_path: Path) -> None:
    evaluation = Evaluation(fake.model, fake.processor, fake.rows(30), progress=False)
    report = evaluation.report()
    picture = tmp_path / "zero_shot.png"
    Image.new("RGB", (260, 130), "white").save(picture)
    write_report(report, tmp_path / "out", {"zero_shot": picture}, evaluation=evaluation)
    text = (tmp_path / "out" / "report.html").read_text()
    check_page(text)
    assert text.index("What was found") < text.index("At a glance") < text.index("Zero-shot classification</h2>")
    assert "Bars of zero-shot accuracy: image" in text
    assert 'width="192" height="96"' in text
    assert NO_PICTURES.partition("`")[0] not in text
    accuracy = f"{100 * report['zero_shot']['eeg']['accuracy']:.1f}"
    assert f">{accuracy}</td>" in text


def test_the_same_report_gives_the_same_page(fake: SimpleNamespace) -> None:
    evaluation = Evaluation(fake.model, fake.processor, fake.rows(20), progress=False)
    report = {key: value for key, value in evaluation.report().items() if key not in ("seconds", "environment")}
    pages = []
    for _ in range(2):
        again = Evaluation(fake.model, fake.processor, fake.rows(20), progress=False)
        pages.append(html_report(report, None, again))
    assert pages[0] == pages[1]


def test_names_of_users_are_escaped() -> None:
    bad = "<script>alert(1)</script>"
    entry = {"accuracy": 0.5, "accuracy_continuous": 0.5, "chance": 0.5, "n": 4}
    by_class = {
        "n": 4,
        "majority": 0.5,
        "codes_gain": 0.0,
        "standard_error": 0.1,
        "accuracy_of": {bad: {"accuracy": 0.5, "n": 4}},
        "confused": [[bad, "b|c", 0.5, 4]],
    }
    report = {
        "class_names": [bad],
        "templates": [f"a {{}} {bad}"],
        "zero_shot": {bad: entry},
        "by_class": {bad: by_class},
        "rows": {"n": 4, "failures": [{"position": 0, "modality": bad, "message": bad}]},
        "packs": {bad: bad},
    }
    text = html_report(report)
    check_page(text)
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in text


def test_without_pictures_the_page_says_so() -> None:
    text = html_report({"seed": 1})
    check_page(text)
    assert "No charts were drawn: <code>--figures FOLDER</code> asks for them" in text
    assert "<img" not in text


def test_pages_need_no_matplotlib(fake: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = Evaluation(fake.model, fake.processor, fake.rows(12), progress=False, controls=False)
    report = evaluation.report()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("matplotlib", "sklearn")]:
        monkeypatch.setitem(sys.modules, name, None)
    write_report(report, tmp_path, evaluation=evaluation)
    assert "<img" in (tmp_path / "report.html").read_text() or "<polyline" in (tmp_path / "report.html").read_text()


def test_best_and_worst_are_those_by_hand(fake: SimpleNamespace) -> None:
    evaluation = Evaluation(fake.model, fake.processor, fake.rows(25, ("image", "eeg")), progress=False)
    embedded = evaluation.embedded
    one, other = (embedded.modalities[name].continuous_embeds.numpy() for name in ("eeg", "image"))
    cosine = one @ other.T
    place = 1 + (cosine > np.diag(cosine)[:, None] + 1e-6).sum(axis=1)
    (found,) = [each for each in best_and_worst(evaluation) if each.query == "eeg"]
    assert found.gallery == "image"
    assert [case.place for case in found.worst][0] == place.max()
    assert [case.place for case in found.best][0] == place.min()
    assert len(found.best) == len(found.worst) == MOST_CASES
    for case in found.worst:
        assert len(case.found) == MOST_FOUND
        assert [each.cosine for each in case.found] == sorted((each.cosine for each in case.found), reverse=True)
        assert ("same object" in [each.relation for each in case.found]) == (case.place <= MOST_FOUND)


def test_rows_are_read_for_what_is_shown_alone(fake: SimpleNamespace) -> None:
    rows = fake.rows(40, ("image", "eeg"))

    class Counted(list):
        read: list[int] = []

        def __getitem__(self, place: int) -> dict:  # type: ignore[override]
            self.read.append(place)
            return super().__getitem__(place)

    counted = Counted(rows)
    evaluation = Evaluation(fake.model, fake.processor, counted, progress=False)
    assert len(evaluation.embedded) == 40
    counted.read.clear()
    found = best_and_worst(evaluation)
    most = len(found) * 2 * MOST_CASES * (MOST_FOUND + 2)
    assert 0 < len(counted.read) <= most


def test_an_item_that_cannot_be_shown_is_an_error_unless_such_are_skipped(fake: SimpleNamespace) -> None:
    rows = fake.rows(10, ("image", "eeg"))
    evaluation = Evaluation(fake.model, fake.processor, rows, progress=False)
    assert len(evaluation.embedded) == 10
    for row in rows:
        row["eeg"] = np.zeros((2, 2, 2, 2))
    with pytest.raises(ValueError, match="a recording has channels and time"):
        best_and_worst(evaluation)
    evaluation.on_error = "skip"
    assert "broken" in str(best_and_worst(evaluation)[0].best[0].found)


class Lazy:
    """Rows that are no list, as a manifest's."""

    def __init__(self, rows: list) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict:
        return self.rows[place]


def test_prepared_rows_know_what_they_were_made_of(fake: SimpleNamespace) -> None:
    rows = fake.rows(6, ("image", "eeg"))
    rows[2]["eeg"] = "broken"
    prepared = PreparedDataset(Lazy(rows), fake.processor, on_error="skip")
    assert len(prepared) == 5
    assert value_of(prepared, 2, "eeg") is rows[3]["eeg"]
    of_list = PreparedDataset(rows[:2], fake.processor)
    assert of_list.raw(0) is None
    assert value_of(of_list, 0, "eeg").shape == (4, 16)


def test_every_picture_that_is_drawn_has_its_place_and_its_words() -> None:
    from codebind_hf.evaluation.figures import _FIGURES
    from codebind_hf.evaluation.pages.chapters import alternative, chapters

    placed = [name for chapter in chapters({}) for name in chapter.pictures]
    assert sorted(placed) == sorted(_FIGURES)
    assert not any(re.match("Picture: ", alternative(name, {})) for name in placed)
