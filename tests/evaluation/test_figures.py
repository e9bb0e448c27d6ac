import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from codebind_hf.evaluation import Evaluation, draw_figures
from codebind_hf.evaluation.drawing.shared_space import shared_space_figure
from codebind_hf.evaluation.figure_style import new_figure


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


def test_pictures_without_data_are_left_out(fake: SimpleNamespace, tmp_path: Path) -> None:
    rows = [{"image": row["image"], "audio": row["audio"]} for row in fake.rows(20)]
    evaluation = Evaluation(fake.model, fake.processor, rows, progress=False)
    files = draw_figures(evaluation, evaluation.report(), tmp_path)
    assert set(files) == {"retrieval", "shared_space", "modality_gap", "codebook_usage"}


def test_few_rows_and_one_modality_are_no_error(fake: SimpleNamespace, tmp_path: Path) -> None:
    model = fake.FakeModel(has_decoders=True)
    evaluation = Evaluation(model, fake.processor, fake.rows(3, modalities=("eeg",)), progress=False)
    assert "reconstructions" in draw_figures(evaluation, evaluation.report(), tmp_path)


def test_a_missing_matplotlib_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install codebind-hf\[report\]"):
        new_figure(1, 1)
