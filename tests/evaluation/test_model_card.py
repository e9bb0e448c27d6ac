from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from codebind_hf import CodeBindConfig
from codebind_hf.evaluation import checkpoint_digest, write_model_card


REPORT = {
    "zero_shot": {
        "audio": {"accuracy": 0.4321, "accuracy_continuous": 0.5, "chance": 0.05, "n": 800},
        "eeg": {"accuracy": 0.25, "accuracy_continuous": 0.26, "chance": 0.05, "n": 800},
    },
    "retrieval": {
        "image_to_audio": {
            "recall_at_1": 0.1,
            "recall_at_10": 0.3,
            "recall_at_1_continuous": 0.2,
            "recall_at_10_continuous": 0.4,
            "chance_at_1": 0.01,
            "chance_at_10": 0.1,
            "n": 100,
        }
    },
    "codebooks": {"shared": {"usage": 0.95, "perplexity": 200.0, "num_codes": 256, "dead": 13}},
    "seed": 7,
    "environment": {"date": "2026-11-23T00:00:00+00:00", "torch": "2.13.0", "python": "3.11"},
}


def card(tmp_path: Path, **options: object) -> tuple[dict, str]:
    config = CodeBindConfig.from_preset("tiny")
    text = write_model_card(tmp_path / "checkpoint", REPORT, config, **options).read_text()
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_the_header_is_what_the_hub_reads(tmp_path: Path) -> None:
    header, _ = card(tmp_path, tags=("eeg",))
    assert header["license"] == "apache-2.0"
    assert header["library_name"] == "transformers"
    assert header["pipeline_tag"] == "feature-extraction"
    assert {"codebind", "multimodal", "eeg"} <= set(header["tags"])


def test_the_results_are_those_of_the_report(tmp_path: Path) -> None:
    header, body = card(tmp_path, dataset="NineSenses test")
    (result,) = header["model-index"]
    metrics = {metric["name"]: metric["value"] for entry in result["results"] for metric in entry["metrics"]}
    assert metrics == {
        "audio accuracy (quantized)": 0.4321,
        "audio accuracy (continuous)": 0.5,
        "EEG accuracy (quantized)": 0.25,
        "EEG accuracy (continuous)": 0.26,
    }
    assert "| audio | 43.2 | 50.0 | 5.0 | 800 |" in body
    assert "| image to audio | 10.0 | 30.0 | 20.0 | 40.0 |" in body
    assert "| shared | 95.0 | 200.0 | 256 | 13 |" in body
    assert "seed 7" in body


def test_the_card_says_what_goes_in_and_out(tmp_path: Path) -> None:
    _, body = card(tmp_path)
    assert "| EEG | `eeg=` | `eeg_values` | 16 x 128 | eeg |" in body
    assert "| point cloud | `point_clouds=` | `point_values` | 256 x 3 | point |" in body
    assert "`embeds[modality]`" in body


def test_every_code_block_of_the_card_compiles(tmp_path: Path) -> None:
    _, body = card(tmp_path, name="user/my-model")
    blocks = [part.split("```")[0] for part in body.split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
    assert '"user/my-model"' in blocks[0]


def test_licence_and_paragraphs_can_be_named(tmp_path: Path) -> None:
    header, body = card(tmp_path, license="cc-by-nc-sa-4.0", limits="Only toys.", training="Rendered objects.")
    assert header["license"] == "cc-by-nc-sa-4.0"
    assert "## Limits\n\nOnly toys." in body
    assert "## Training data\n\nRendered objects." in body


def test_a_report_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    config = CodeBindConfig.from_preset("tiny")
    report = {**REPORT, "checkpoint_sha256": "1" * 64}
    named = r"report: is of the checkpoint 1{64}, and the card of \w{64}\. Fix: evaluate this checkpoint"
    with pytest.raises(ValueError, match=named):
        write_model_card(tmp_path, report, config, checkpoint="2" * 64)
    # Without a digest, that of the weights which are there.
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=named):
        write_model_card(tmp_path, report, config)
    assert not (tmp_path / "README.md").exists()
    report["checkpoint_sha256"] = checkpoint_digest(tmp_path)
    assert f"SHA-256 `{checkpoint_digest(tmp_path)}`" in write_model_card(tmp_path, report, config).read_text()
