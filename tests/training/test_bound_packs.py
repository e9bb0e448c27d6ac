"""What a run that binds leaves beside its checkpoint: a pack, which makes its bridge the same model."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import NineSenses
from codebind_hf.training import BindSettings, RunSettings, run


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
RADAR = {**SMALL, "num_channels": 16, "input_size": [64], "patch_size": [8], "processor": {"normalize": "channel"}}
TRAINING = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "warmup_steps": 0,
    "disable_tqdm": True,
    "use_cpu": True,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with text, an image and EEG, which is also called radar."""
    folder = tmp_path_factory.mktemp("rows")
    manifest = Path(
        NineSenses("train", num_bridge=0, num_target=6, modalities=["text", "image", "audio", "eeg"]).export(folder)
    )
    found = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps({**row, "radar": row["eeg"]}) + "\n" for row in found if "eeg" in row))
    (folder / "audio.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found if "audio" in row))
    return manifest


def bound(straight: Path, rows: Path, folder: Path, modality: str, encoder: Any = None, **training: Any) -> Path:
    options = BindSettings(modality, str(straight), encoder, **training.pop("bind", {}))
    settings = RunSettings({"manifest": str(rows)}, {"training": {**TRAINING, **training}}, bind=options)
    run(settings, folder)
    return folder


def models(folder: Path, **packs: Any) -> tuple[CodeBindModel, CodeBindProcessor]:
    return CodeBindModel.from_pretrained(folder, **packs), CodeBindProcessor.from_pretrained(folder, **packs)


def same_embeds(one: Any, other: Any, items: dict[str, list[str]]) -> None:
    found = [model.encode(items, processor) for model, processor in (one, other)]
    assert found[0].keys() == found[1].keys()
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name])


@pytest.mark.slow
def test_packs_of_two_runs_are_their_checkpoints_beside_one_bridge(straight: Path, rows: Path, tmp_path: Path) -> None:
    eeg = bound(straight, rows, tmp_path / "eeg", "eeg", SMALL)
    radar = bound(straight, rows, tmp_path / "radar", "radar", RADAR)
    files = [str(path) for path in sorted((rows.parent / "eeg").glob("*.npy"))[:3]]
    known = {"text": ["a ring", "a cube"], "audio": [str(path) for path in (rows.parent / "audio").glob("*.wav")][:2]}
    both = models(straight / "checkpoint", packs=[eeg / "pack", radar / "pack"])
    same_embeds(models(straight / "checkpoint"), both, known)
    same_embeds(models(eeg / "checkpoint"), both, {"eeg": files})
    same_embeds(models(radar / "checkpoint"), both, {"radar": [np.load(file) for file in files]})
    card = (eeg / "pack" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "# eeg\n" in card
    # A pack is much smaller than the checkpoint that holds the bridge as well.
    sizes = [(eeg / name / "model.safetensors").stat().st_size for name in ("pack", "checkpoint")]
    assert sizes[0] < sizes[1] / 2
    # To start anew removes it with all else.
    settings = RunSettings(**json.loads((eeg / "run.json").read_text())["settings"])
    before = (eeg / "pack" / "pack.json").read_bytes()
    run(settings, eeg, overwrite=True)
    assert (eeg / "pack" / "pack.json").read_bytes() == before, "the same run gives the same pack"


@pytest.mark.parametrize("mode", ["heads", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_modality_of_the_bridge_makes_a_pack_of_what_changed(
    straight: Path, rows: Path, tmp_path: Path, mode: str
) -> None:
    folder = bound(straight, rows.with_name("audio.jsonl"), tmp_path / "audio", "audio", train_mode=mode)
    names = load_file(folder / "pack" / "model.safetensors").keys()
    towers = {name for name in names if ".tower." in name and not name.endswith("cls_token")}
    assert towers == {name for name in names if ".lora_" in name}
    assert bool(towers) == (mode == "lora")
    items = {"text": ["a ring"], "audio": [str(path) for path in (rows.parent / "audio").glob("*.wav")][:2]}
    found = models(straight / "checkpoint", packs=[folder / "pack"])
    same_embeds(models(folder / "checkpoint"), found, items)
    base = CodeBindModel.from_pretrained(straight / "checkpoint")
    changed = found[0].encoders["audio"].shared_head.projection.weight
    assert not torch.equal(base.encoders["audio"].shared_head.projection.weight, changed)


@pytest.mark.slow
def test_with_learning_shared_codes_there_is_no_pack(
    straight: Path, rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learning = {"shared_codes": "learning", "tolerance": 2.0, "check_manifest": str(rows.with_name("audio.jsonl"))}
    with caplog.at_level(logging.INFO, logger="codebind_hf"):
        folder = bound(straight, rows, tmp_path / "eeg", "eeg", SMALL, bind=learning)
    assert (folder / "checkpoint").is_dir()
    assert not (folder / "pack").exists()
    assert "No pack is written: with learning shared codes" in caplog.text
