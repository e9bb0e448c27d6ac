"""A bridge of a finished sentence encoder and of vectors of pictures by a recipe, and vectors bound to it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from foreign_models import sentence_transformer
from recipe_files import FOLDER

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data.feature_statistics import fit_normalization
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.training import Recipe, RunSettings, build, read_settings, run, train_only


NAMES = ("ring", "bell", "drum")
WIDTHS = {"image": 10, "radar": 9}
SENSOR = {"stem": "features", "num_channels": 9, "input_size": [1], "hidden_size": 16, "num_attention_heads": 2}
SENSOR |= {"num_hidden_layers": 0, "has_position": False, "processor": {"normalize": "rows"}}
QUICK = {"max_steps": 80, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "warmup_steps": 0}
QUICK |= {"input_noise": 0.1, "weight_decay": 0.01, "disable_tqdm": True, "use_cpu": True}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence encoder, and rows of what other networks said of three kinds of things, far from 0."""
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    network = sentence_transformer(folder / "minilm")
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            # Random ones would say the same of every text.
            module.reset_parameters()
    network.save_pretrained(folder / "minilm")
    kinds = {name: {key: rng.normal(size=width) for key, width in WIDTHS.items()} for name in NAMES}
    rows = []
    for number in range(24):
        name = NAMES[number % 3]
        row = {"id": f"{number}", "text": f"a {name}"}
        for key, width in WIDTHS.items():
            row[key] = f"{key}{number}.npy"
            vector = kinds[name][key] + 0.2 * rng.normal(size=width)
            np.save(folder / row[key], vector * np.geomspace(1e-2, 1e3, width) + 50)
        rows.append(row)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def recipe_fields() -> dict[str, Any]:
    """The recipe of real data, with a picture vector of the size here."""
    fields = yaml.safe_load((FOLDER / "real-bridge.yaml").read_text())
    fields["recipe"]["model"]["vision_config"] |= {"num_channels": 10, "hidden_size": 16, "intermediate_size": 16}
    fields["recipe"]["model"] |= {"shared_dim": 16, "specific_dim": 16}
    fields["recipe"]["training"] |= QUICK
    return fields


@pytest.fixture(scope="module")
def bridge(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bridge")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_fields()))
    data = {"manifest": str(files / "rows.jsonl")}
    run(read_settings(folder / "recipe.yaml", data, backbones={"text": str(files / "minilm")}), folder / "run")
    return folder / "run" / "checkpoint"


def vectors(files: Path, name: str) -> np.ndarray:
    return np.stack([np.load(files / f"{name}{number}.npy") for number in range(24)])


def test_heads_meet_and_the_tower_of_text_stays_that_of_the_network(files: Path, bridge: Path) -> None:
    model, processor = CodeBindModel.from_pretrained(bridge), CodeBindProcessor.from_pretrained(bridge)
    alone = CodeBindModel.from_bridge(files / "minilm")
    tower = model.encoders["text"].tower.state_dict()
    assert all(torch.equal(value, tower[name]) for name, value in alone.encoders["text"].tower.state_dict().items())
    embeds = model.encode({"text": [f"a {name}" for name in NAMES], "image": list(vectors(files, "image"))}, processor)
    assert ((embeds["image"] @ embeds["text"].T).argmax(1) == np.arange(24) % 3).mean() > 0.9
    # The weights of the network are not in the folder, its name is.
    assert (bridge / "model.safetensors").stat().st_size < 100_000
    settings = json.loads((bridge.parent / "run.json").read_text())["settings"]
    assert settings["recipe"]["model"]["text_config"]["backbone"] == str(files / "minilm")


def test_vectors_are_normalized_by_the_rows_and_so_is_what_comes_later(files: Path, bridge: Path) -> None:
    raw = vectors(files, "image")
    processor = CodeBindProcessor.from_pretrained(bridge)
    expected = (raw - raw.mean(0)) / raw.std(0)
    values = processor(images=[*raw])["pixel_values"].numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)
    assert np.array_equal(processor(videos=[*raw])["pixel_values_videos"].numpy(), values)


def test_a_sense_of_vectors_is_bound_and_moves_nothing(files: Path, bridge: Path, tmp_path: Path) -> None:
    recipe = {"training": {**QUICK, "cache_bridge": ["text"]}}
    binding = {"modality": "radar", "bridge": str(bridge), "encoder": SENSOR}
    run(RunSettings({"manifest": str(files / "rows.jsonl")}, recipe, bind=binding), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "binding.json").read_text())
    assert report["movement"] == {"text": 0.0, "image": 0.0}
    packs = [tmp_path / "run" / "pack"]
    model, processor = (cls.from_pretrained(bridge, packs=packs) for cls in (CodeBindModel, CodeBindProcessor))
    alone, own = CodeBindModel.from_pretrained(bridge), CodeBindProcessor.from_pretrained(bridge)
    others = {"text": [f"a {name}" for name in NAMES], "image": [*vectors(files, "image")]}
    embeds = model.encode({**others, "radar": [*vectors(files, "radar")]}, processor)
    before = alone.encode(others, own)
    assert all(np.array_equal(embeds[name], before[name]) for name in others)
    assert ((embeds["radar"] @ embeds["text"].T).argmax(1) == np.arange(24) % 3).mean() > 0.9
    # The checkpoint of the run has what pack and bridge have together.
    whole = CodeBindProcessor.from_pretrained(tmp_path / "run" / "checkpoint")
    assert (whole.readers, whole.added_modalities) == (processor.readers, processor.added_modalities)


def test_mean_and_std_are_found_where_squares_alone_would_lose_them(tmp_path: Path) -> None:
    config = CodeBindConfig(added_encoders={"radar": {k: v for k, v in SENSOR.items() if k != "processor"}})
    processor = CodeBindProcessor.from_model_config(config, None)
    values = np.random.default_rng(0).normal(size=(40, 9)) * 0.1 + 1e4
    values[:, 0] = 3.0
    processor.added_modalities["radar"]["normalize"] = "rows"
    fit_normalization(processor, [{"radar": row} for row in values] + [{"text": "a bell"}])
    found = processor.added_modalities["radar"]["normalize"]
    stored = values.astype(np.float32).astype(np.float64)
    assert np.array(found["mean"]) == pytest.approx(stored.mean(0), rel=1e-9)
    expected = stored.std(0)
    assert expected[0] == 0
    assert np.array(found["std"]) == pytest.approx(np.where(expected, expected, expected.max()), rel=1e-5)


def test_rows_that_give_no_mean_are_refused() -> None:
    config = CodeBindConfig(added_encoders={"radar": {k: v for k, v in SENSOR.items() if k != "processor"}})
    processor = CodeBindProcessor.from_model_config(config, None)
    processor.added_modalities["radar"]["normalize"] = "rows"
    with pytest.raises(ValueError, match="normalize: got 'rows', and no row has 'radar' that can be read"):
        fit_normalization(processor, [{"text": "a bell"}])
    with pytest.raises(ValueError, match=r"row 0, radar: got shape \(4,\)"):
        fit_normalization(processor, [{"radar": np.ones(4)}])
    with pytest.raises(ValueError, match="no row has 'radar'"):
        fit_normalization(processor, [{"radar": np.ones(4)}], on_error="skip")
    stream = object.__new__(StreamedDataset)
    with pytest.raises(ValueError, match="'rows' for rows of a stream"):
        fit_normalization(processor, stream)
    with pytest.raises(ValueError, match="normalize: got 'rows' before mean and std of the rows are known"):
        processor(radar=[np.ones(9)])


def test_heads_alone_learn_over_frozen_towers(files: Path) -> None:
    fields = recipe_fields()["recipe"]
    fields["model"]["text_config"] = {"stem": "pretrained", "backbone": str(files / "minilm"), "specific_dim": 0}
    model, _ = build(Recipe(**fields), ["text", "image"], [])
    train_only(model, ["text", "image"], frozen_towers=["text", "image"])
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    heads = {f"encoders.{name}.shared_head" for name in ("text", "vision")}
    assert {
        name.rpartition(".shared_head.")[0] + ".shared_head" for name in learning - {"logit_scale.log_scale"}
    } == heads
    train_only(model, ["image"], frozen_towers=["text"])
    assert not any(parameter.requires_grad for parameter in model.encoders["text"].parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbones": {"smell": "x"}}, "backbones: got 'smell'; allowed: 'text', 'image', 'audio'"),
        ({"backbones": {"text": "nowhere"}}, "text_config: 'nowhere' is no network"),
        ({"training": {"freeze_towers": ["txt"]}}, "freeze_towers: got 'txt'"),
    ],
    ids=["kind", "place", "tower"],
)
def test_what_cannot_be_a_tower_is_named(files: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_fields()))
    change = {"backbones": {"text": str(files / "minilm")}, **change}
    with pytest.raises((ValueError, OSError), match=message):
        run(
            read_settings(tmp_path / "recipe.yaml", {"manifest": str(files / "rows.jsonl")}, **change),
            tmp_path / "run",
        )
