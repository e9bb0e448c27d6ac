"""A sensor bound to a finished embedder by the ordinary trainer, whose features are computed once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_models import foreign
from PIL import Image
from safetensors.torch import load_file
from small_runs import Killed, at_step, die, same_results

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.evaluation import retrieval_recall
from codebind_hf.training import Recipe, RunSettings, build, run


NAMES = ("ring", "bell", "drum")
SENSOR = {"stem": "features", "num_channels": 9, "input_size": [1], "hidden_size": 16, "num_attention_heads": 2}
SENSOR |= {"num_hidden_layers": 0, "stem_norm": True}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP, and rows of pictures, texts and what a sensor of another laboratory made of three kinds of things."""
    folder, rng = tmp_path_factory.mktemp("bridge"), np.random.default_rng(0)
    foreign("clip", folder / "clip")
    pictures = {name: rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for name in NAMES}
    places = {name: rng.normal(size=9) for name in NAMES}
    rows = []
    for number in range(24):
        name = NAMES[number % 3]
        Image.fromarray(pictures[name]).save(folder / f"{number}.png")
        np.save(folder / f"{number}.npy", places[name] + 0.2 * rng.normal(size=9))
        rows.append({"id": str(number), "text": f"a {name}", "image": f"{number}.png", "imu": f"{number}.npy"})
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def settings_of(files: Path, **training: Any) -> RunSettings:
    usual = {
        **{"max_steps": 60, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "warmup_steps": 0},
        **{"disable_tqdm": True, "use_cpu": True, "cache_bridge": ["text", "image"], "train_bridge_heads": False},
    }
    recipe = {
        "base": str(files / "clip"),
        "order": "bind",
        "model": {"imu_config": SENSOR, "specific_dim": 0},
        "training": {**usual, **training},
        "seed": 1,
    }
    return RunSettings({"manifest": str(files / "rows.jsonl")}, recipe)


def test_a_run_binds_a_sensor_to_a_clip(files: Path, tmp_path: Path) -> None:
    run(settings_of(files), tmp_path / "run")
    place = tmp_path / "run" / "checkpoint"
    model, processor = CodeBindModel.from_pretrained(place), CodeBindProcessor.from_pretrained(place)
    clip, own = (cls.from_pretrained(files / "clip") for cls in (CodeBindModel, CodeBindProcessor))
    texts = {"text": [f"a {name}" for name in NAMES]}
    assert np.array_equal(model.encode(texts, processor)["text"], clip.encode(texts, own)["text"])
    sensed = model.encode({"imu": [files / f"{number}.npy" for number in range(24)]}, processor)["imu"]
    pictures = model.encode({"image": [files / f"{number}.png" for number in range(3)]}, processor)["image"]
    targets = torch.arange(24) % 3
    assert retrieval_recall(sensed, pictures, k=(1,), targets=targets)["recall_at_1"] > 0.8
    assert "as " in (place / "README.md").read_text()
    # 3 encoders' heads and codes, and no weights of the CLIP.
    assert (place / "model.safetensors").stat().st_size < 100_000


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True], ids=["referred to", "trained"])
def test_a_killed_run_goes_on_to_the_same_bits(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    """Checkpoints on the way refer to the network, or hold it where it learns."""
    settings = settings_of(files, max_steps=6, logging_steps=1, save_minutes=0.0, cache_bridge=False)
    if trained:
        settings.recipe["order"] = "joint"
        settings.recipe["training"]["train_bridge_heads"] = True
    run(settings, tmp_path / "straight")
    with monkeypatch.context() as patch:
        at_step(patch, "bridge" if trained else "bind", 4, die)
        with pytest.raises(Killed):
            run(settings, tmp_path / "run")
    run(None, tmp_path / "run", resume=True)
    same_results(tmp_path / "run", tmp_path / "straight")
    keys = load_file(tmp_path / "run" / "checkpoint" / "model.safetensors").keys()
    assert any(".backbone." in key for key in keys) == trained


def test_a_recipe_may_name_networks_for_encoders(files: Path) -> None:
    clip = CodeBindModel.from_bridge(files / "clip")
    config = clip.config.to_dict()
    model, processor = build(
        Recipe(
            preset=None,
            model={
                **{key: config[key] for key in ("shared_dim", "specific_dim", "code_dim", "text_config")},
                "vision_config": config["vision_config"],
                "align_on": "continuous",
                "even_segments": False,
            },
        ),
        ["text", "image"],
        [],
    )
    texts = ["a bell", "the drum"]
    found = model.eval().encode({"text": texts}, processor, quantize=False)["text"]
    own = CodeBindProcessor.from_bridge(files / "clip")
    np.testing.assert_allclose(found, clip.encode({"text": texts}, own)["text"], atol=1e-6)
