"""What a run starts from: a checkpoint keeps what it has, and what it lacks starts from nothing, loudly."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training import Recipe, build, save
from codebind_hf.training.building import check_fit, recipe_config


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
MODEL: dict[str, Any] = {f"{name}_config": SMALL for name in ("text", "vision", "depth", "eeg", "decoder")}
TEXTS = ["a wooden ring", "a metal cube"]


CLEANED = {"cleaning": "clip", "padding": "max_length"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, vision and depth without specific part, codebook or decoder, and preprocessing of its own."""
    folder = tmp_path_factory.mktemp("base")
    plain = {"specific_dim": 0, "num_shared_codes": 0, "num_specific_codes": 0, "decoder_config": None}
    recipe = Recipe(
        model={**MODEL, **plain, "loss_weights": {"commit": 0.0}},
        processor={"depth": {"mean": [0.3], "std": [0.1]}, "text": {"max_length": 9, **CLEANED}},
    )
    save(*build(recipe, ["text", "image", "depth"], TEXTS), folder)
    return folder


GROWN: dict[str, Any] = {
    "specific_dim": 64,
    "num_shared_codes": 32,
    "num_specific_codes": 16,
    "decoder_config": SMALL,
    "eeg_config": {**SMALL, "input_size": [128], "patch_size": [8], "num_channels": 16},
    "loss_weights": {"align": 1.0, "recon": 1.0},
}


def test_a_checkpoint_keeps_its_weights_and_grows_the_parts_that_the_recipe_adds(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="codebind_hf"):
        model, _ = build(Recipe(base=str(base), model=GROWN), ["text", "image", "eeg"], [])
    stored = CodeBindModel.from_pretrained(base).state_dict()
    own = model.state_dict()
    same = {name for name in stored if name in own and torch.equal(stored[name], own[name])}
    assert list(model.encoders) == ["text", "vision", "eeg"]
    assert same == {name for name in stored if not name.startswith("encoders.depth.")}
    assert set(model.decoders) == {"vision", "eeg"}
    said = [record.getMessage() for record in caplog.records]
    for part in ("encoders.eeg.tower", "encoders.vision.specific_head", "decoders.vision", "codebooks.shared"):
        assert any(f"of {part}, which start from nothing" in line for line in said)
    assert not any("encoders.text" in line or "encoders.vision.tower" in line for line in said)


def test_a_recipe_trains_in_full_precision_whatever_the_checkpoint_is(base: Path, tmp_path: Path) -> None:
    CodeBindModel.from_pretrained(base).to(torch.bfloat16).save_pretrained(tmp_path)
    CodeBindProcessor.from_pretrained(base).save_pretrained(tmp_path)
    model, _ = build(Recipe(base=str(tmp_path)), ["text", "image"], [])
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_what_starts_from_nothing_follows_the_seed(base: Path) -> None:
    states = [
        build(Recipe(base=str(base), model=GROWN, seed=seed), ["text", "image", "eeg"], [])[0].state_dict()
        for seed in (1, 1, 2)
    ]
    name = "encoders.eeg.tower.stem.projection.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_the_processor_is_the_checkpoints_with_the_modalities_of_the_data(base: Path) -> None:
    stored = CodeBindProcessor.from_pretrained(base)
    recipe = Recipe(base=str(base), model=GROWN, processor={"depth": {"depth_unit": "mm"}})
    processor = build(recipe, ["text", "depth", "eeg"], ["unused"])[1]
    assert processor.tokenizer.get_vocab() == stored.tokenizer.get_vocab()
    assert processor.modalities == ["text", "depth", "eeg"]
    assert processor.max_text_length == stored.max_text_length == 9
    assert (processor.text_cleaning, processor.text_padding) == ("clip", "max_length")
    assert (processor.depth_image_processor.mean, processor.depth_image_processor.std) == ([0.3], [0.1])
    assert processor.depth_image_processor.depth_unit == "mm"
    assert processor.eeg_feature_extractor.num_channels == 16


@pytest.mark.parametrize("has_base", [True, False])
def test_a_temperature_is_where_training_starts(base: Path, has_base: bool) -> None:
    start: dict[str, Any] = {"base": str(base)} if has_base else {"model": MODEL}
    model, _ = build(Recipe(**start, temperature=0.05), ["text", "image"], TEXTS)
    assert model.logit_scale().item() == pytest.approx(20, rel=1e-5)
    model, _ = build(Recipe(**start), ["text", "image"], TEXTS)
    assert model.logit_scale().item() == pytest.approx(torch.tensor(2.0).exp().item(), rel=1e-5)


def test_the_recipe_wins_over_the_preset_and_the_preset_over_the_checkpoint(base: Path) -> None:
    fields = {"num_specific_codes": 7, "text_config": {"hidden_size": 20}}
    config = recipe_config(Recipe(base=str(base), preset="tiny", model=fields))
    assert (config.num_specific_codes, config.num_shared_codes) == (7, 256)
    assert config.text_config.hidden_size == 20
    assert config.vision_config.hidden_size == 64
    assert recipe_config(Recipe(base=str(base), model=fields)).vision_config.hidden_size == 16


def test_without_a_checkpoint_the_preset_is_tiny(base: Path) -> None:
    assert Recipe().preset == "tiny"
    assert Recipe(base=str(base)).preset is None


def test_a_checkpoint_of_other_sizes_is_refused(base: Path) -> None:
    recipe = Recipe(base=str(base), model={"vision_config": {"hidden_size": 24}})
    with pytest.raises(ValueError, match=r"does not fit .*: vision_config\.hidden_size is \d+ in the base and 24"):
        build(recipe, ["text", "image"], [])


def test_towers_that_no_tensor_tells_apart_are_refused_with_all_that_differs(base: Path) -> None:
    wrong = {
        "vision_config": {"num_attention_heads": 4, "hidden_act": "relu"},
        "text_config": {"attention_bias": False},
    }
    with pytest.raises(ValueError, match="does not fit") as error:
        build(Recipe(base=str(base), model=wrong), ["text", "image"], [])
    said, _, fix = str(error.value).partition("\nmodel:\n")
    assert "vision_config.num_attention_heads is 2 in the base and 4 in the recipe" in said
    held = {"vision_config": {"num_attention_heads": 2, "hidden_act": "gelu"}, "text_config": {"attention_bias": True}}
    assert yaml.safe_load(fix) == held
    build(Recipe(base=str(base), model=held), ["text", "image"], [])
    build(Recipe(base=str(base), model={"vision_config": {"dropout": 0.1}}), ["text", "image"], [])


def test_the_tower_of_an_added_modality_is_named_where_a_recipe_has_it(base: Path, tmp_path: Path) -> None:
    radar = {**SMALL, "num_channels": 2, "input_size": [32], "patch_size": [4]}
    model = CodeBindModel.from_pretrained(base)
    model.add_modality("radar", radar)
    model.save_pretrained(tmp_path)
    config = CodeBindModel.from_pretrained(tmp_path).config
    config.added_encoders = {"radar": {**config.added_encoders["radar"], "num_attention_heads": 4}}
    config.shared_dim = 8 * config.shared_dim
    with pytest.raises(ValueError, match="added_encoders.radar.num_attention_heads is 2 in the base and 4") as error:
        check_fit(str(tmp_path), config)
    fix = yaml.safe_load(str(error.value).partition("\nmodel:\n")[2])
    assert fix == {"shared_dim": config.shared_dim // 8, "added_encoders": {"radar": {"num_attention_heads": 2}}}


def test_losses_without_anything_to_judge_are_named(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = {"recon": 1.0, "orth": 0.1, "commit": 1.0, "cm": 0.5}
    for model in ({}, GROWN):
        with caplog.at_level(logging.WARNING, logger="codebind_hf"):
            build(Recipe(base=str(base), model={**model, "loss_weights": weights}), ["text", "image"], [])
        said = [record.getMessage() for record in caplog.records if "no effect" in record.getMessage()]
        assert len(said) == (0 if model else 4)
        caplog.clear()


def test_a_checkpoint_without_a_bridge_is_refused(base: Path, tmp_path: Path) -> None:
    CodeBindModel.from_pretrained(base, modalities=["text", "depth"]).save_pretrained(tmp_path)
    CodeBindProcessor.from_pretrained(base).save_pretrained(tmp_path)
    recipe = Recipe(base=str(tmp_path), model={"vision_config": SMALL})
    with pytest.raises(ValueError, match=r"base: .* has no vision encoder, which the recipe's data needs"):
        build(recipe, ["text", "image", "depth"], [])


def test_binding_to_a_fresh_bridge_is_refused() -> None:
    with pytest.raises(ValueError, match="order: got 'bind' without base; a fresh bridge would stay random"):
        build(Recipe(order="bind", model=MODEL), ["text", "image", "depth"], TEXTS)


def test_a_base_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"base: '.*nowhere' is no checkpoint. Fix: give the folder of a saved model"):
        build(Recipe(base=str(tmp_path / "nowhere")), ["text", "image"], [])


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"temperature: got -?\d.*greater than 0"):
        Recipe(temperature=temperature)
