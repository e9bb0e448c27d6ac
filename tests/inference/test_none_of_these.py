"""Zero-shot pipelines that may answer "none of these": by a threshold of the call, or of the checkpoint."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_items import WORDS, item
from transformers import Pipeline, pipeline

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.processing.pipeline_inputs import THRESHOLDS_FILE
from codebind_hf.processing.pipelines_codebind import NONE_OF_THESE, PIPELINES


CLASSIFY = next(iter(PIPELINES))
TEMPLATE = "a photo of {}."


@pytest.fixture
def calibrated(checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint with thresholds of depth and EEG beside it."""
    folder = shutil.copytree(checkpoint, tmp_path / "calibrated")
    modalities = {
        "depth": {"threshold": 0.9, "threshold_continuous": -0.9},
        "eeg": {"threshold": -0.9, "threshold_continuous": 0.9},
    }
    (folder / THRESHOLDS_FILE).write_text(json.dumps({"templates": [TEMPLATE], "modalities": modalities}))
    return folder


def made(folder: Path, **options: Any) -> Pipeline:
    return pipeline(CLASSIFY, model=str(folder), device="cpu", candidate_labels=WORDS, **options)


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> Pipeline:
    return made(checkpoint)


def test_none_is_one_more_label_whose_cosine_is_the_threshold(plain: Any, model: CodeBindModel) -> None:
    value, scale = {"depth": item("depth")}, float(model.logit_scale().detach())
    without = plain(value)
    found = plain(value, threshold=0.2)
    scores = {entry["label"]: entry["score"] for entry in found}
    assert set(scores) == {*WORDS, NONE_OF_THESE}
    assert sum(scores.values()) == pytest.approx(1)
    # The others keep their proportions, and ln(score / none) is scale * (cosine - threshold).
    left = 1 - scores[NONE_OF_THESE]
    assert [scores[entry["label"]] / left for entry in without] == pytest.approx(
        [entry["score"] for entry in without], abs=1e-5
    )
    query = plain._forward(plain.preprocess(value), candidate_labels=tuple(WORDS))
    assert query["labels"] == [tuple(WORDS)]
    cosine = np.log(scores[without[0]["label"]] / scores[NONE_OF_THESE]) / scale + 0.2
    assert plain(value, threshold=cosine - 0.01)[0]["label"] == without[0]["label"]
    assert plain(value, threshold=cosine + 0.01)[0]["label"] == NONE_OF_THESE


def test_the_thresholds_beside_a_checkpoint_are_used_by_modality_and_read_out(calibrated: Path) -> None:
    classify = made(calibrated, none_of_these=True, hypothesis_template=TEMPLATE)
    items = [{"depth": item("depth")}, {"eeg": item("eeg")}, {"depth": item("depth", 1)}]
    refused = [found[0]["label"] == NONE_OF_THESE for found in classify(items, batch_size=3)]
    assert refused == [True, False, True]
    refused = [found[0]["label"] == NONE_OF_THESE for found in classify(items, batch_size=3, quantize=False)]
    assert refused == [False, True, False]
    assert classify(items[0], none_of_these=False)[0]["label"] in WORDS
    assert classify(items[0], threshold=-0.9)[0]["label"] in WORDS
    assert classify(items[:2], threshold={"depth": -0.9})[1][0]["label"] in WORDS
    assert classify(items[:2], threshold={"eeg": 0.9})[1][0]["label"] == NONE_OF_THESE


def test_a_saved_pipeline_keeps_the_thresholds(calibrated: Path, checkpoint: Path, tmp_path: Path) -> None:
    made(calibrated).save_pretrained(tmp_path / "shared")
    kept = json.loads((tmp_path / "shared" / THRESHOLDS_FILE).read_text())
    assert kept == json.loads((calibrated / THRESHOLDS_FILE).read_text())
    again = made(tmp_path / "shared", none_of_these=True, hypothesis_template=TEMPLATE)
    assert again({"depth": item("depth")})[0]["label"] == NONE_OF_THESE
    made(checkpoint).save_pretrained(tmp_path / "plain")
    assert not (tmp_path / "plain" / THRESHOLDS_FILE).exists()


def test_a_model_whose_folder_is_gone_is_saved_without(calibrated: Path, tmp_path: Path) -> None:
    classify = made(calibrated)
    shutil.rmtree(calibrated)
    classify.save_pretrained(tmp_path / "shared")
    assert not (tmp_path / "shared" / THRESHOLDS_FILE).exists()


def test_another_template_than_the_calibrated_one_is_said(
    calibrated: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    classify = made(calibrated, none_of_these=True)
    classify({"depth": item("depth")}, hypothesis_template=TEMPLATE)
    assert "calibrated with the templates" not in caplog.text
    classify({"depth": item("depth")}, hypothesis_template="this is {}")
    assert f"calibrated with the templates ['{TEMPLATE}'], and labels are shown in ['this is {{}}']" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"none_of_these": True},
            "none_of_these: got no threshold for 'depth', and the checkpoint has none calibrated",
        ),
        ({"threshold": {"eeg": 0.2}}, "none_of_these: got no threshold for 'depth'"),
        ({"threshold": 1.5}, r"threshold: got 1.5.*a cosine from -1 to 1"),
        ({"threshold": True}, "threshold: got True"),
        ({"threshold": {"eeg": "high"}}, r"threshold\['eeg'\]: got"),
        ({"threshold": {"smell": 0.2}}, "threshold: got 'smell'"),
        ({"none_of_these": "perhaps"}, "none_of_these: got 'perhaps'"),
    ],
)
def test_what_cannot_be_used_is_refused(plain: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain({"depth": item("depth")}, **options)


def test_damaged_thresholds_are_named(calibrated: Path) -> None:
    (calibrated / THRESHOLDS_FILE).write_text('{"modalities": ')
    with pytest.raises(ValueError, match=f"{THRESHOLDS_FILE}: is no JSON"):
        made(calibrated, none_of_these=True)({"depth": item("depth")})


def test_a_model_that_was_never_saved_has_none(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    fresh = CodeBindModel(model.config.__class__(**{**model.config.to_dict(), "_name_or_path": ""}))
    classify: Any = pipeline(CLASSIFY, model=fresh, processor=processor, candidate_labels=WORDS)
    with pytest.raises(ValueError, match="got no threshold for 'eeg'"):
        classify({"eeg": item("eeg")}, none_of_these=True)
