"""Training on the paper's rows: the modalities of rows are known without files, and recipes train on them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from codebind_hf import benchmarks
from codebind_hf.data.collator import modality_names
from codebind_hf.data.joined import JoinedRows
from codebind_hf.training import Recipe, RunSettings, build, read_settings, run, save
from codebind_hf.training.run_rows import load_rows


CopyOf = Callable[[str], Path]
RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TRAINED = [name for name in benchmarks.names() if name not in ("nyu-d", "esc-50", "clotho", "modelnet40", "msr-vtt")]


@pytest.mark.parametrize("name", benchmarks.names())
def test_the_modalities_of_rows_are_known_without_their_files(name: str, copy_of: CopyOf) -> None:
    one = benchmarks.get(name)
    for split in ("train", "test"):
        if split == "test" and one.is_only_for_training or split == "train" and name not in TRAINED:
            continue
        rows = one.rows(copy_of(name), split)
        assert rows.row_modalities == [modality_names(row) for row in rows], split
        assert rows.fingerprint == one.rows(copy_of(name), split).fingerprint


def test_several_benchmarks_are_one_set_of_rows(copy_of: CopyOf, tmp_path: Path) -> None:
    for name in ("audioset", "vggsound"):
        (tmp_path / name).symlink_to(copy_of(name))
    parts = [benchmarks.get(name).rows(copy_of(name), "train") for name in ("audioset", "vggsound")]
    loaded = load_rows({"benchmark": ["audioset", "vggsound"], "root": str(tmp_path)})
    assert isinstance(loaded.training, JoinedRows)
    assert len(loaded.training) == sum(map(len, parts))
    assert [row["id"] for row in loaded.training] == [row["id"] for part in parts for row in part]
    assert loaded.training[-1]["id"] == parts[1][-1]["id"]
    assert loaded.training.row_modalities == [*parts[0].row_modalities, *parts[1].row_modalities]


def test_a_benchmark_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="root: got none; sun-d is read from a folder. Fix: root"):
        load_rows({"benchmark": "sun-d"})
    with pytest.raises(ValueError, match="benchmark: got 'sun'"):
        load_rows({"benchmark": "sun", "root": str(tmp_path)})
    with pytest.raises(OSError, match="SUN"):
        load_rows({"benchmark": "sun-d", "root": str(tmp_path / "gone")})


def test_flags_replace_the_root_of_a_recipe(tmp_path: Path) -> None:
    settings = read_settings(RECIPES / "sun.yaml", data={"root": str(tmp_path), "protocol": "sound"})
    assert settings.data == {"benchmark": "sun-d", "root": str(tmp_path), "protocol": "sound"}


def base_of(folder: Path, modalities: list[str]) -> Path:
    """A tiny untrained model to bind to, saved; it reads what the paper's does, and its specific heads read CLS."""
    config = {f"{name}_config": SMALL for name in ("text", "vision", "audio", "depth", "thermal", "tactile", "eeg")}
    config |= {"point_config": SMALL, "eeg_config": {**SMALL, "num_channels": 128}}
    recipe = Recipe(preset="tiny", model={**config, "decoder_config": SMALL, "specific_readout": "cls"})
    model, processor = build(recipe, modalities, ["a photo of a thing"])
    save(model, processor, folder)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=[] if path.stem in ("sun", "audioset", "vl-sun") else pytest.mark.slow)
        for path in sorted(RECIPES.glob("*.yaml"))
        if "benchmark" in yaml.safe_load(path.read_text()).get("data", {})
    ],
)
def test_a_recipe_trains_two_steps_on_its_row(name: str, copy_of: CopyOf, tmp_path: Path) -> None:
    own = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    wanted = own["data"]["benchmark"]
    if isinstance(wanted, list):
        root = tmp_path / "all"
        root.mkdir()
        for each in wanted:
            (root / each).symlink_to(copy_of(each))
    else:
        root = copy_of(wanted)
    rows = load_rows({**own["data"], "root": str(root)})
    base = base_of(tmp_path / "base", rows.modalities)
    small: dict[str, Any] = {
        **own["recipe"],
        # The row's own architecture has hundreds of millions of numbers; everything else is its own.
        "preset": None,
        "base": str(base),
        "model": {key: value for key, value in own["recipe"].get("model", {}).items() if key == "loss_weights"},
        "processor": {},
    }
    small["training"] = {
        **{key: value for key, value in own["recipe"]["training"].items() if key != "lora_layers"},
        **{"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True, "disable_tqdm": True},
        **{"logging_steps": 1, "save_minutes": None},
    }
    settings = RunSettings({**own["data"], "root": str(root)}, small)
    record = run(settings, tmp_path / "run")
    assert record is not None
    assert record.status == "finished"
    log = json.loads((tmp_path / "run" / "training.json").read_text())
    assert [entry["step"] for entry in log[-1]["log"] if "loss" in entry] == [1, 2]
