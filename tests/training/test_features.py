"""A whole run on features of other networks: two stages, a cached bridge, and a report with figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import LazyDataset, Manifest
from codebind_hf.evaluation import Evaluation, draw_figures
from codebind_hf.training import RunSettings, run


NAMES = ("ring", "bell", "drum")
TOWER = {"hidden_size": 16, "num_hidden_layers": 0, "num_attention_heads": 2, "stem_norm": True}
VECTORS = {**TOWER, "stem": "features", "num_channels": 12, "input_size": [1], "tubelet_size": 1, "stem_widths": []}
SEQUENCES = {**VECTORS, "num_channels": 9, "input_size": [4], "specific_readout": "pool", "num_hidden_layers": 1}
MODEL = {
    "text_config": {**TOWER, "num_hidden_layers": 1, "stem_norm": False},
    "vision_config": VECTORS,
    "audio_config": {**SEQUENCES, "patch_stride": None},
    "decoder_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of three kinds of things: a direction of each kind, and noise."""
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    places = {name: (rng.normal(size=12), rng.normal(size=9)) for name in NAMES}
    rows = []
    for number in range(24):
        name = NAMES[number % 3]
        image, sound = (place + 0.2 * rng.normal(size=place.shape) for place in places[name])
        frames = sound + 0.1 * rng.normal(size=(1 + number % 4, 9))
        np.save(folder / f"{number}.image.npy", image)
        np.save(folder / f"{number}.audio.npy", frames)
        files = {sense: f"{number}.{sense}.npy" for sense in ("image", "audio")}
        rows.append({"id": str(number), "text": f"a {name}", "label": name, "attributes": {"n": number % 4}, **files})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


@pytest.mark.slow
def test_a_run_on_features_learns_and_is_reported(manifest: Path, tmp_path: Path) -> None:
    training = {
        **{"max_steps": 40, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "warmup_steps": 0},
        **{"disable_tqdm": True, "use_cpu": True, "train_bridge_heads": False},
        **{"cache_bridge": ["text", "image"], "input_noise": 0.1},
    }
    settings = RunSettings({"manifest": str(manifest)}, {"model": MODEL, "training": training, "seed": 1})
    run(settings, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoint"
    model, processor = CodeBindModel.from_pretrained(folder), CodeBindProcessor.from_pretrained(folder)
    rows = LazyDataset(Manifest(manifest), processor)
    evaluation = Evaluation(model, processor, rows)
    report = evaluation.report()
    assert report["zero_shot"]["audio"]["accuracy_continuous"] > 0.8
    assert set(report["reconstruction"]) == {"image", "audio"}
    assert report["reconstruction"]["image"]["relative_mse"] < 1
    assert "reconstructions" in draw_figures(evaluation, report, tmp_path / "figures")
    card = (folder / "README.md").read_text()
    assert "12 numbers of another network" in card
    assert "up to 4 x 9 numbers of another network" in card
    cached = sorted(path.name for path in (tmp_path / "run").rglob("bridge_cache/*"))
    assert [name.partition("-")[0] for name in cached] in ([], ["image", "text"])
    assert any("encoders.audio.tower.stem.projection" in name for name in load_file(folder / "model.safetensors"))
