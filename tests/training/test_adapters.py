"""LoRA: where adapters sit, what they add, and that a saved one brings back everything that was trained."""

import logging
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from common import assert_same, small_config, tiny_inputs, tiny_model
from peft import PeftModel
from recipe_files import FOLDER, read
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.conversion.lora import has_lora, lora_state
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training.adapters import (
    adapter_state,
    add_lora,
    load_adapter,
    merge_lora,
    remove_lora,
    save_adapter,
)


NAMES = ("text", "image", "audio")
ALL = {f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")} | {"mlp.fc1", "mlp.fc2"}


def make_model(blocks: int = 4, **overrides: Any) -> CodeBindModel:
    return tiny_model(small_config(*NAMES, **{"audio_config": {"num_hidden_layers": blocks}, **overrides}))


def adapted(model: CodeBindModel) -> set[str]:
    return {name.partition(".lora_A.")[0] for name, _ in model.named_parameters() if ".lora_A." in name}


def changed(model: CodeBindModel) -> CodeBindModel:
    """`model` as training could leave it: adapter, heads, CLS tokens, decoders, scale and codes have moved."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if ".tower." in name and ".lora_" not in name and not name.endswith("cls_token"):
                continue
            if value.is_floating_point():
                value += 0.3 * torch.randn(value.shape, generator=generator)
                if name.endswith(".codes"):
                    value.copy_(normalize(value, dim=-1))
            else:
                value += 7
    return model


def outputs_of(model: Any, config: CodeBindConfig) -> dict[str, Tensor]:
    """Embeddings, codes and reconstructions of fixed inputs."""
    model.eval()
    with torch.no_grad():
        output = model(**tiny_inputs(config), output_reconstructions=True)
    found = {f"{name}.embeds": value for name, value in output.embeds.items()}
    found |= {f"{name}.specific": value for name, value in output.specific_embeds.items()}
    found |= {f"{name}.reconstruction": value for name, value in output.reconstructions.items()}
    return found | {f"{name}.codes": value.shared for name, value in output.codes.items()}


@pytest.fixture
def saved(tmp_path: Path) -> SimpleNamespace:
    """A base checkpoint, and an adapter trained on it."""
    base = make_model()
    base.save_pretrained(tmp_path / "base")
    model = CodeBindModel.from_pretrained(tmp_path / "base")
    before = outputs_of(model, model.config)
    add_lora(model, ["audio"], rank=3)
    save_adapter(changed(model), tmp_path / "adapter")
    outputs = outputs_of(model, model.config)
    moved = [name for name, value in outputs.items() if not torch.equal(value, before[name])]
    assert {"audio.embeds", "text.embeds", "image.specific", "image.reconstruction"} <= set(moved)
    return SimpleNamespace(base=tmp_path / "base", adapter=tmp_path / "adapter", model=model, outputs=outputs)


# Where adapters sit


@pytest.mark.parametrize(
    ("blocks", "layers", "expected"),
    [
        pytest.param(12, None, range(6, 12), id="last-6-of-12"),
        pytest.param(6, None, range(3, 6), id="last-3-of-6"),
        pytest.param(3, None, [2], id="odd"),
        pytest.param(1, None, [0], id="one"),
        pytest.param(4, [2, 0], [0, 2], id="chosen"),
    ],
)
def test_adapters_are_on_the_last_half_or_the_chosen_blocks(
    blocks: int, layers: list[int] | None, expected: Any
) -> None:
    model = make_model(blocks)
    add_lora(model, ["audio"], layers=layers)
    assert adapted(model) == {f"encoders.audio.tower.layers.{block}.{name}" for block in expected for name in ALL}


def test_attention_alone_can_have_adapters() -> None:
    model = make_model()
    add_lora(model, ["audio"], layers=[1], modules="attention")
    assert adapted(model) == {f"encoders.audio.tower.layers.1.{name}" for name in ALL if "attn" in name}


def test_several_encoders_each_count_their_own_blocks() -> None:
    model = make_model(4)
    add_lora(model, ["audio", "vision"], modules="attention")
    blocks = {tuple(name.split(".")[i] for i in (1, 4)) for name in adapted(model)}
    assert blocks == {("audio", "2"), ("audio", "3"), ("vision", "1")}


# What they add


def test_a_fresh_adapter_changes_no_bit_of_the_output() -> None:
    model = make_model()
    before = outputs_of(model, model.config)
    add_lora(model, ["audio"])
    assert_same(before, outputs_of(model, model.config))
    downs = [value for name, value in model.named_parameters() if ".lora_A." in name]
    # Were both matrices 0, neither would ever get a gradient.
    assert all(value.abs().min() > 0 for value in downs)


def test_an_adapter_adds_up_times_down_without_a_scale() -> None:
    model = make_model()
    layer = "encoders.audio.tower.layers.3.mlp.fc1"
    weight, bias = (value.detach().clone() for value in model.get_submodule(layer).parameters())
    add_lora(model, ["audio"], rank=2)
    changed(model)
    own = dict(model.get_submodule(layer).named_parameters())
    up, down = own["lora_B.default.weight"], own["lora_A.default.weight"]
    assert (up.shape, down.shape) == ((40, 2), (2, 32))
    x = torch.randn(5, 32)
    torch.testing.assert_close(model.get_submodule(layer)(x), x @ (weight + up @ down).T + bias)


def test_only_the_adapter_is_trainable_until_train_only_decides() -> None:
    model = make_model()
    add_lora(model, ["audio"])
    assert all((".lora_" in name) == value.requires_grad for name, value in model.named_parameters())


# Save and load


def test_a_fresh_base_with_the_saved_adapter_is_the_trained_model_bit_for_bit(saved: SimpleNamespace) -> None:
    model = CodeBindModel.from_pretrained(saved.base)
    load_adapter(model, saved.adapter)
    assert_same(saved.outputs, outputs_of(model, model.config))
    assert_same(dict(saved.model.state_dict()), dict(model.state_dict()))


def test_the_libraries_load_the_saved_adapter_whole(saved: SimpleNamespace) -> None:
    # With heads or codes missing from the file, these would load it without a word and embed differently.
    config = saved.model.config
    peft = PeftModel.from_pretrained(CodeBindModel.from_pretrained(saved.base), saved.adapter)
    assert_same(saved.outputs, outputs_of(peft, config))
    model = CodeBindModel.from_pretrained(saved.base)
    model.load_adapter(str(saved.adapter))
    assert_same(saved.outputs, outputs_of(model, config))
    assert_same(saved.outputs, outputs_of(CodeBindModel.from_pretrained(saved.adapter), config))


def test_the_file_holds_what_learns_and_nothing_of_the_frozen_towers(saved: SimpleNamespace) -> None:
    names = {name.removeprefix("base_model.model.") for name in load_file(saved.adapter / "adapter_model.safetensors")}
    towers = {name for name in names if ".tower." in name}
    assert {name for name in towers if ".lora_" not in name} == {
        "encoders.vision.tower.cls_token",
        "encoders.audio.tower.cls_token",
    }
    parts = ("encoders.text.shared_head.", "encoders.vision.specific_head.", "decoders.audio.", "logit_scale.")
    assert all(any(name.startswith(part) for name in names) for part in parts)
    assert {f"codebooks.shared.{name}" for name in ("codes", "cluster_size", "code_sum", "usage")} <= names
    assert {"codebooks.shared.num_updates", "codebooks.specific.audio.codes"} <= names


def test_loading_again_takes_the_saved_values(saved: SimpleNamespace) -> None:
    model = CodeBindModel.from_pretrained(saved.base)
    load_adapter(model, saved.adapter)
    changed(model)
    load_adapter(model, saved.adapter)
    assert_same(saved.outputs, outputs_of(model, model.config))


def test_a_base_loaded_without_some_modalities_takes_the_rest(saved: SimpleNamespace) -> None:
    model = CodeBindModel.from_pretrained(saved.base, modalities=["text", "audio"])
    load_adapter(model, saved.adapter)
    found = outputs_of(model, model.config)
    with torch.no_grad():
        expected = saved.model.eval()(**tiny_inputs(model.config))
    for modality in ("text", "audio"):
        assert torch.equal(found[f"{modality}.embeds"], expected.embeds[modality])


def test_a_base_loaded_without_the_adapted_modalities_takes_what_lies_beside(saved: SimpleNamespace) -> None:
    model = CodeBindModel.from_pretrained(saved.base, modalities=["text", "image"])
    load_adapter(model, saved.adapter)
    assert not has_lora(model)
    found = outputs_of(model, model.config)
    with torch.no_grad():
        expected = saved.model.eval()(**tiny_inputs(model.config))
    for modality in ("text", "image"):
        assert torch.equal(found[f"{modality}.embeds"], expected.embeds[modality])


def test_an_adapter_that_grew_a_plain_base_brings_the_architecture_to_rebuild_it(tmp_path: Path) -> None:
    # As ImageBind: one embedding, no codebook, no decoder.
    plain = small_config(*NAMES, specific_dim=0, num_shared_codes=0, align_on="continuous").to_dict()
    tiny_model(CodeBindConfig(**{**plain, "decoder_config": None})).save_pretrained(tmp_path / "base")
    model = CodeBindModel.from_pretrained(tmp_path / "base", config=small_config(*NAMES))
    add_lora(model, ["audio"])
    save_adapter(changed(model), tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"no place for.*Fix: load the base with .*architecture"):
        load_adapter(CodeBindModel.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    config = CodeBindConfig.from_pretrained(tmp_path / "adapter", subfolder="architecture")
    loaded = CodeBindModel.from_pretrained(tmp_path / "base", config=config)
    load_adapter(loaded, tmp_path / "adapter")
    assert_same(outputs_of(model, model.config), outputs_of(loaded, config))


RADAR = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "input_size": [24], "patch_size": [4]}


@pytest.mark.parametrize(("modality", "encoder"), [("point_cloud", "point"), ("radar", "radar"), ("eeg", "eeg")])
def test_every_kind_of_target_comes_back_bit_for_bit(tmp_path: Path, modality: str, encoder: str) -> None:
    model = tiny_model(small_config("text", "image", *([] if modality == "radar" else [modality])))
    if modality == "radar":
        model.add_modality("radar", {**RADAR, "num_channels": 1, "num_hidden_layers": 2})
    model.save_pretrained(tmp_path / "base")
    inputs = tiny_inputs(model.config) if modality != "radar" else {"radar_values": torch.randn(3, 1, 24)}
    before = model.eval()(**inputs).embeds[modality]
    add_lora(model, [encoder])
    assert {name.split(".")[1] for name in adapted(model)} == {encoder}
    expected = changed(model).eval()(**inputs)
    assert not torch.equal(expected.embeds[modality], before)
    save_adapter(model, tmp_path / "adapter")
    loaded = CodeBindModel.from_pretrained(tmp_path / "base")
    load_adapter(loaded, tmp_path / "adapter")
    found = loaded.eval()(**inputs)
    assert torch.equal(found.embeds[modality], expected.embeds[modality])
    assert torch.equal(found.specific_embeds[modality], expected.specific_embeds[modality])
    merged = merge_lora(loaded)(**inputs, quantize=False).embeds[modality]
    torch.testing.assert_close(merged, expected.continuous_embeds[modality], rtol=1e-4, atol=1e-5)


def test_a_file_without_decoders_embeds_the_same_and_says_what_it_lacks(
    saved: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_adapter(saved.model, tmp_path, decoders=False)
    model = CodeBindModel.from_pretrained(saved.base)
    kept = {name: value.clone() for name, value in model.decoders.state_dict().items()}
    with caplog.at_level(logging.WARNING, logger="codebind_hf"):
        load_adapter(model, tmp_path)
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("codebind_hf")]
    assert said.endswith("holds no decoders; reconstructions are those of the base.")
    found = outputs_of(model, model.config)
    embeds = {name: value for name, value in saved.outputs.items() if not name.endswith("reconstruction")}
    assert_same(embeds, {name: found[name] for name in embeds})
    assert_same(kept, dict(model.decoders.state_dict()))
    # A file with some of the decoders is still refused.
    file = tmp_path / "adapter_model.safetensors"
    whole = load_file(saved.adapter / "adapter_model.safetensors")
    save_file({name: value for name, value in whole.items() if ".decoders.audio." not in name}, file)
    with pytest.raises(ValueError, match="lacks decoders.audio"):
        load_adapter(model, tmp_path)


RECIPES = {
    **dict.fromkeys(("in1k", "p365"), "image"),
    "k400": "video",
    **dict.fromkeys(("audio", "audiocaps", "audioset", "vggsound"), "audio"),
    **dict.fromkeys(("flir", "llvip"), "thermal"),
    "sun": "depth",
    "touch_and_go": "tactile",
    "eeg": "eeg",
}
VL_RECIPES = {
    "vl-shapenet": "point_cloud",
    "vl-sun": "depth",
    **dict.fromkeys(("vl-audioset", "vl-vggsound"), "audio"),
    "vl-touch_and_go": "tactile",
    "vl-eeg": "eeg",
}


def size_of(state: dict[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in state.values())


@cache
def whole_size(preset: str) -> int:
    with torch.device("meta"):
        return size_of(CodeBindModel(CodeBindConfig.from_preset(preset)).state_dict())


@cache
def adapter_sizes(
    preset: str, modality: str, mode: str, rank: int, layers: tuple[int, ...] | None = None
) -> tuple[int, int]:
    """Bytes of an adapter checkpoint, and without decoders; nothing but shapes is made."""
    with torch.device("meta"):
        model = CodeBindModel(CodeBindConfig.from_preset(preset).restricted_to(["text", "image", modality]))
        if mode == "lora":
            add_lora(model, [model.config.modalities[modality].encoder], rank, layers)
    return size_of(adapter_state(model)), size_of(adapter_state(model, decoders=False))


@pytest.mark.parametrize("name", RECIPES)
def test_the_adapter_of_a_paper_recipe_is_less_than_a_twentieth_of_the_model(name: str) -> None:
    recipe = read(name)["recipe"]
    training = recipe["training"]
    assert "lora_layers" not in training
    assert "decoder_config" not in recipe["model"]
    sizes = adapter_sizes(recipe["preset"], RECIPES[name], training["train_mode"], training.get("lora_rank", 4))
    whole, without_decoders = (size / whole_size("codebind-ib-huge") for size in sizes)
    # Measured: 2.2 % (image, video), 2.3 % (EEG), 4.0 % (depth), 4.2 % (the others); decoders are all but 0.4 %.
    assert 0.02 < whole < 0.05
    assert without_decoders < 0.005


@pytest.mark.parametrize("name", VL_RECIPES)
def test_the_adapter_of_a_vl_recipe_is_a_small_part_of_the_model(name: str) -> None:
    recipe = read(name)["recipe"]
    training = recipe["training"]
    chosen = (VL_RECIPES[name], training["train_mode"], training["lora_rank"], tuple(training["lora_layers"]))
    whole, without_decoders = (
        size / whole_size(recipe["preset"]) for size in adapter_sizes(recipe["preset"], *chosen)
    )
    # Measured: 2.5 % of codebind-vl-large; decoders are all but 0.18 %.
    assert 0.02 < whole < 0.03
    assert without_decoders < 0.003


def test_recipes_of_the_paper_are_all_measured() -> None:
    measured = {*RECIPES, *VL_RECIPES}
    ours = {"demo", "demo-vl", "real-bridge", "real-bind"}
    assert {path.stem for path in FOLDER.glob("*.yaml")} - ours == measured


# Merging


def test_a_merged_model_is_the_adapted_one_and_saves_as_a_plain_checkpoint(
    saved: SimpleNamespace, tmp_path: Path
) -> None:
    model = merge_lora(saved.model)
    assert not has_lora(model)
    assert set(model.state_dict()) == set(CodeBindModel.from_pretrained(saved.base).state_dict())
    merged = outputs_of(model, model.config)
    for name, value in saved.outputs.items():
        if name.endswith(".codes"):
            assert torch.equal(value, merged[name])
        else:
            torch.testing.assert_close(merged[name], value, rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    loaded = CodeBindModel.from_pretrained(tmp_path / "merged")
    assert_same(merged, outputs_of(loaded, loaded.config))


def test_an_adapter_that_is_taken_out_leaves_the_bits_of_the_base(saved: SimpleNamespace) -> None:
    base = CodeBindModel.from_pretrained(saved.base)
    model = remove_lora(saved.model)
    assert not has_lora(model)
    towers = {name: value for name, value in base.state_dict().items() if ".tower." in name and "cls" not in name}
    assert_same(towers, {name: model.state_dict()[name] for name in towers})
    # Where nothing but the adapter has learned, that is the whole model again.
    before = outputs_of(base, base.config)
    add_lora(base, ["audio"])
    with torch.no_grad():
        for name, value in base.named_parameters():
            if ".lora_" in name:
                value += 0.3
    assert not torch.equal(outputs_of(base, base.config)["audio.embeds"], before["audio.embeds"])
    assert_same(before, outputs_of(remove_lora(base), base.config))
    with pytest.raises(ValueError, match="model: it has no adapter"):
        remove_lora(base)


def test_after_merging_another_adapter_fits(saved: SimpleNamespace) -> None:
    add_lora(merge_lora(saved.model), ["vision"])
    assert {name.split(".")[1] for name in adapted(saved.model)} == {"vision"}


# Errors


@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param({"encoders": ["eeg"]}, "encoders: 'eeg' is not in this model, which has text, vision", id="eeg"),
        pytest.param({"encoders": []}, "encoders: got none; choose from text, vision, audio", id="none"),
        pytest.param({"rank": 0}, "rank: got 0", id="rank"),
        pytest.param({"modules": "mlp"}, "modules: got 'mlp'; allowed: 'all', 'attention'", id="modules"),
        pytest.param(
            {"layers": [4]},
            r"layers \(lora_layers of a recipe\): got \[4\]; the tower of 'audio' has 4 blocks",
            id="too-deep",
        ),
        pytest.param({"layers": [-1]}, r"layers \(lora_layers of a recipe\): got \[-1\]", id="negative"),
        pytest.param({"layers": []}, r"layers \(lora_layers of a recipe\): got \[\]", id="no-layer"),
    ],
)
def test_a_wrong_place_for_an_adapter_is_named(options: dict[str, Any], named: str) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=named):
        add_lora(model, **{"encoders": ["audio"], **options})
    assert not has_lora(model)


def test_two_adapters_or_none_are_refused(tmp_path: Path) -> None:
    model = make_model()
    for call in (lambda: save_adapter(model, tmp_path / "none"), lambda: merge_lora(model)):
        with pytest.raises(ValueError, match="model: it has no adapter"):
            call()
    add_lora(model, ["audio"])
    with pytest.raises(ValueError, match="model: it has an adapter already"):
        add_lora(model, ["vision"])


def test_an_adapter_of_another_architecture_is_refused_and_leaves_the_model_alone(saved: SimpleNamespace) -> None:
    for overrides, named in (
        ({"num_shared_codes": 12}, r"codebooks.shared.\w+ has shape \(16,.* and this model \(12,"),
        ({"decoder_config": {"num_hidden_layers": 2}}, r"lacks decoders.vision.layers.1"),
    ):
        model = make_model(**overrides)
        before = outputs_of(model, model.config)
        with pytest.raises(ValueError, match=named):
            load_adapter(model, saved.adapter)
        assert not has_lora(model)
        assert_same(before, outputs_of(model, model.config))


def test_a_base_with_other_weights_is_refused(saved: SimpleNamespace, tmp_path: Path) -> None:
    """Such as the merged model, to which the adapter would be added a second time."""
    model = CodeBindModel.from_pretrained(saved.base)
    load_adapter(model, saved.adapter)
    merge_lora(model).save_pretrained(tmp_path)
    merged = CodeBindModel.from_pretrained(tmp_path)
    before = {name: value.clone() for name, value in merged.state_dict().items()}
    with pytest.raises(ValueError, match="trained on other weights.* of the tower of .*audio.*not onto a merged one"):
        load_adapter(merged, saved.adapter)
    assert not has_lora(merged)
    assert_same(merged.state_dict(), before)
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_an_adapter_that_is_not_finite_is_not_merged_in_part(saved: SimpleNamespace) -> None:
    model = CodeBindModel.from_pretrained(saved.base)
    load_adapter(model, saved.adapter)
    last = [parameter for name, parameter in model.named_parameters() if ".lora_B." in name][-1]
    with torch.no_grad():
        last[0, 0] = torch.nan
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="not finite; nothing was merged"):
        merge_lora(model)
    assert has_lora(model)
    assert model.state_dict().keys() == before.keys()


def test_lora_without_the_rest_is_refused(saved: SimpleNamespace, tmp_path: Path) -> None:
    # What PEFT itself writes of a model with an adapter.
    (tmp_path / "lora-only").mkdir()
    lora = {f"base_model.model.{name}": value for name, value in lora_state(saved.model).items()}
    save_file(lora, tmp_path / "lora-only" / "adapter_model.safetensors")
    saved.model.peft_config["default"].save_pretrained(tmp_path / "lora-only")
    with pytest.raises(ValueError, match="lacks encoders.text.shared_head"):
        load_adapter(CodeBindModel.from_pretrained(saved.base), tmp_path / "lora-only")


def test_a_folder_without_adapter_is_named(saved: SimpleNamespace) -> None:
    with pytest.raises(OSError, match=r"adapter_model.safetensors: missing; this folder holds no adapter"):
        load_adapter(CodeBindModel.from_pretrained(saved.base), saved.base)
