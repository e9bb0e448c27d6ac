import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from codebind_hf.evaluation import Evaluation, draw_figures
from codebind_hf.evaluation.drawing.classes import similarity_figure
from codebind_hf.evaluation.drawing.retrieval import retrieval_figure
from codebind_hf.evaluation.drawing.shared_space import class_styles, shared_space_figure
from codebind_hf.evaluation.drawing.units import measured
from codebind_hf.evaluation.figure_style import new_figure
from codebind_hf.evaluation.figures import draw_if_installed


ALL = {
    *("zero_shot", "similarity", "confusion", "retrieval", "shared_space", "modality_gap"),
    *("reconstructions", "probes", "swaps", "codebook_usage"),
}


@pytest.mark.slow
def test_every_picture_is_drawn_with_something_on_it(fake: SimpleNamespace, tmp_path: Path) -> None:
    model = fake.FakeModel(has_decoders=True)
    evaluation = Evaluation(model, fake.processor, fake.rows(30), progress=False)
    files = draw_figures(evaluation, evaluation.report(), tmp_path / "figures")
    assert set(files) == ALL
    for file in files.values():
        assert file.suffix == ".png"
        with Image.open(file) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").resize((64, 64)).getcolors(4096) or []) > 10


def test_the_shared_space_is_the_same_picture_whoever_lays_it_out(fake: SimpleNamespace, tmp_path: Path) -> None:
    pixels = []
    for workers in (0, 2):
        evaluation = Evaluation(fake.model, fake.processor, fake.rows(30), progress=False, num_workers=workers)
        figure = shared_space_figure(evaluation, {})
        assert figure is not None
        figure.savefig(tmp_path / f"{workers}.png")
        with Image.open(tmp_path / f"{workers}.png") as picture:
            pixels.append(picture.convert("RGB").tobytes())
    assert pixels[0] == pixels[1]


def test_a_collapsed_shared_space_is_drawn(fake: SimpleNamespace, tmp_path: Path) -> None:
    # Equal items of 16 rows have exactly their mean: nothing is left of them.
    evaluation = Evaluation(fake.model, fake.processor, fake.rows(16), progress=False)
    for modality in evaluation.embedded.modalities.values():
        modality.embeds.copy_(modality.embeds[:1].clone().expand_as(modality.embeds))
    figure = shared_space_figure(evaluation, {})
    assert figure is not None
    places = np.concatenate([np.asarray(each.get_offsets()) for each in figure.axes[0].collections])
    assert places.tolist() == [[0.0, 0.0]] * len(places)
    assert len(places) > 10


def test_rows_with_several_labels_are_of_each_of_their_classes(fake: SimpleNamespace) -> None:
    rows = [{**row, "label": [row["label"]]} for row in fake.rows(30)]
    rows[0]["label"] = [fake.classes[0], fake.classes[1]]
    evaluation = Evaluation(fake.model, fake.processor, rows, progress=False)
    figure = similarity_figure(evaluation, {"zero_shot": {"image": {"accuracy": 0.5}}})
    assert figure is not None
    assert evaluation.class_embeds is not None
    cosine = (evaluation.embedded.modalities["image"].embeds @ evaluation.class_embeds.embeds.T).numpy()
    of_class = [[name in row["label"] for row in rows] for name in evaluation.classes]
    expected = np.stack([cosine[chosen].mean(axis=0) for chosen in of_class])
    shown = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shown, expected - expected.mean(), atol=1e-6)


def test_pictures_without_data_are_left_out(fake: SimpleNamespace, tmp_path: Path) -> None:
    rows = [{"image": row["image"], "audio": row["audio"]} for row in fake.rows(20)]
    evaluation = Evaluation(fake.model, fake.processor, rows, progress=False)
    files = draw_figures(evaluation, evaluation.report(), tmp_path)
    assert set(files) == {"retrieval", "shared_space", "modality_gap", "codebook_usage"}


def test_few_rows_and_one_modality_are_no_error(fake: SimpleNamespace, tmp_path: Path) -> None:
    model = fake.FakeModel(has_decoders=True)
    evaluation = Evaluation(model, fake.processor, fake.rows(3, modalities=("eeg",)), progress=False)
    assert "reconstructions" in draw_figures(evaluation, evaluation.report(), tmp_path)


def test_dollars_in_a_label_are_no_formula(fake: SimpleNamespace, tmp_path: Path) -> None:
    # As a formula it would lack a brace.
    label = f"{fake.classes[0]} $x^{{2$"
    rows = fake.rows(40, modalities=("text", "image"))
    for row in rows:
        row["label"] = label if row["label"] == fake.classes[0] else row["label"]
    evaluation = Evaluation(fake.model, fake.processor, rows, progress=False)
    report = evaluation.report()
    assert label in report["class_names"]
    assert {"similarity", "confusion", "shared_space"} <= set(draw_figures(evaluation, report, tmp_path))


def test_a_missing_matplotlib_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install codebind-hf\[report\]"):
        new_figure(1, 1)


def test_without_the_extra_nothing_is_drawn_and_the_log_says_so(
    fake: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    evaluation = Evaluation(fake.model, fake.processor, fake.rows(3), progress=False)
    assert draw_if_installed(evaluation, {}, tmp_path / "figures") == {}
    assert "matplotlib is missing. Fix: pip install codebind-hf[report]" in caplog.text
    assert not (tmp_path / "figures").exists()


def test_classes_of_two_words_share_hues_and_markers() -> None:
    styles = class_styles(["glass ring", "wooden ring", "glass star", "wooden star"])
    assert [marker for _, marker in styles] == ["o", "o", "^", "^"]
    assert [tuple(color) for color, _ in styles[:2]] == [tuple(color) for color, _ in styles[2:]]
    assert tuple(styles[0][0]) != tuple(styles[1][0])


@pytest.mark.parametrize("count", [3, 10, 27, 130])
def test_classes_of_any_names_are_told_apart(count: int) -> None:
    styles = class_styles([f"c{place}" for place in range(count)])
    assert len({(tuple(color), marker) for color, marker in styles}) == count


def test_frames_are_around_the_pairs_that_the_evaluation_names(fake: SimpleNamespace) -> None:
    def framed(**options: list[tuple[str, str]]) -> int:
        rows = fake.rows(20, ("image", "audio", "eeg"))
        evaluation = Evaluation(fake.model, fake.processor, rows, progress=False, controls=False, **options)
        figure = retrieval_figure(evaluation, evaluation.report())
        assert figure is not None
        return sum(patch.get_width() == 0.9 for patch in figure.axes[0].patches)

    assert framed() == 2
    assert framed(trained_pairs=[("image", "audio"), ("audio", "eeg"), ("image", "eeg")]) == 0
    assert framed(trained_pairs=[("image", "audio")]) == 4


@pytest.mark.parametrize(
    ("modality", "settings", "unit", "expected"),
    [
        ("image", {}, "", 0.5),
        ("depth", {"value_range": [0.0, 10.0], "encoding": "metres"}, "m", 5.0),
        ("depth", {"value_range": [0.0, 2.0], "encoding": "inverse"}, "1/m", 1.0),
        ("thermal", {"thermal_range": [10.0, 30.0], "thermal_unit": "celsius"}, "°C", 20.0),
        ("thermal", {"thermal_range": None, "thermal_unit": None}, "level", 0.5),
        ("audio", {}, "log energy", 0.5),
        ("eeg", {}, "normalized", 2.0),
    ],
)
def test_rebuilt_values_are_in_the_unit_of_what_was_measured(
    modality: str, settings: dict, unit: str, expected: float
) -> None:
    part = SimpleNamespace(mean=[0.25], std=[0.125], **settings)
    processor = SimpleNamespace(part=lambda argument: part)
    values, found = measured(processor, modality, np.full((1, 2, 3), 2.0))
    assert found == unit
    assert values == pytest.approx(np.full((1, 2, 3), expected))
