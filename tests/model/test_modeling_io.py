"""Saving and loading: every tensor comes back, on every way in."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from common import (
    CodeBindModel,
    assert_same,
    buffers_of,
    small_config,
    tiny_config,
    tiny_inputs,
    tiny_model,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import MODALITIES


RADAR = {"num_channels": 2, "input_size": [10], "patch_size": [5], "hidden_size": 16, "num_attention_heads": 2}


def scrambled(config: CodeBindConfig) -> CodeBindModel:
    """A model in which no parameter and no buffer has the value of a fresh one."""
    model = tiny_model(config)
    generator = torch.Generator().manual_seed(5)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data.add_(0.1 * torch.rand(tensor.shape, generator=generator))
        else:
            tensor.data.add_(7)
    return model


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    """Read only."""
    model = scrambled(tiny_config())
    model.add_modality("radar", RADAR)
    return model.eval()


@pytest.fixture(scope="module")
def folder(model: CodeBindModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(path)
    return path


def flat(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor in nested dictionaries and tuples."""
    if isinstance(value, Tensor):
        return {name: value}
    items = value.items() if hasattr(value, "items") else enumerate(value) if isinstance(value, tuple) else ()
    return {key: x for part, child in items for key, x in flat(child, f"{name}.{part}").items()}


@pytest.fixture(scope="module")
def inputs(model: CodeBindModel) -> dict[str, Tensor]:
    return tiny_inputs(model.config) if "radar" not in model.config.modalities else with_radar(model.config)


def with_radar(config: CodeBindConfig) -> dict[str, Tensor]:
    plain = CodeBindConfig(**{**config.to_dict(), "added_encoders": None})
    return {**tiny_inputs(plain), "radar_values": torch.randn(3, 2, 10, generator=torch.Generator().manual_seed(2))}


def test_a_saved_model_gives_every_output_again(
    model: CodeBindModel, folder: Path, inputs: dict[str, Tensor], complaints: list[str]
) -> None:
    loaded = CodeBindModel.from_pretrained(folder)
    options = {"output_reconstructions": True, "output_hidden_states": True, "return_loss": True}
    first, second = flat(model(**inputs, **options)), flat(loaded(**inputs, **options))
    assert len(first) > 100
    assert_same(first, second)
    assert not loaded.training
    assert complaints == []


def test_a_saved_model_holds_every_parameter_and_buffer(model: CodeBindModel, folder: Path) -> None:
    loaded, information = CodeBindModel.from_pretrained(folder, output_loading_info=True)
    assert_same(dict(model.named_parameters()), dict(loaded.named_parameters()))
    assert_same(buffers_of(model), buffers_of(loaded))
    assert all(not value for value in information.values()), information
    assert set(load_file(folder / "model.safetensors")) == set(model.state_dict())


def test_saving_again_writes_the_same_weights_and_an_equal_configuration(folder: Path, tmp_path: Path) -> None:
    CodeBindModel.from_pretrained(folder).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    first, second = (CodeBindConfig.from_pretrained(path).to_dict() for path in (folder, tmp_path))
    for config in (first, second):
        for part in config.values():
            # The library writes the data type into nested configurations on loading only.
            _ = part.pop("dtype", None) if isinstance(part, dict) else None
    assert first == second


def test_a_model_in_several_files_loads(model: CodeBindModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size="300KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same(model.state_dict(), CodeBindModel.from_pretrained(tmp_path).state_dict())


def test_the_auto_classes_load_the_model(folder: Path) -> None:
    import codebind_hf  # noqa: F401, PLC0415

    assert isinstance(AutoConfig.from_pretrained(folder), CodeBindConfig)
    assert isinstance(AutoModel.from_pretrained(folder), CodeBindModel)


def test_a_key_that_the_library_writes_does_not_lock_a_checkpoint(tmp_path: Path) -> None:
    model = tiny_model(small_config("eeg"))
    model.config.tie_word_embeddings = False
    model.save_pretrained(tmp_path)
    assert CodeBindModel.from_pretrained(tmp_path).config.tie_word_embeddings is False


def test_every_tensor_is_a_parameter_or_a_saved_buffer(model: CodeBindModel) -> None:
    """A plain attribute would neither move, nor be saved, nor survive construction on meta."""
    for name, module in model.named_modules():
        loose = [key for key, value in vars(module).items() if isinstance(value, Tensor)]
        assert loose == [], name
        assert module._non_persistent_buffers_set == set(), name


def test_no_two_tensors_share_memory(model: CodeBindModel) -> None:
    pointers = [tensor.data_ptr() for tensor in model.state_dict().values()]
    assert len(set(pointers)) == len(pointers)


def test_a_model_can_be_built_on_meta() -> None:
    with torch.device("meta"):
        model = CodeBindModel(tiny_config())
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


def test_a_model_loaded_from_meta_without_a_checkpoint_equals_one_built_on_the_cpu() -> None:
    """Buffers have the same bits; random parameters the same distribution: nothing is left unfilled."""
    config = tiny_config()
    built = tiny_model(config)
    empty = CodeBindModel.from_pretrained(None, config=config, state_dict={})
    fresh, cpu = buffers_of(empty), buffers_of(built)
    assert_same(fresh, cpu)
    for name, parameter in empty.named_parameters():
        expected, parameter = dict(built.named_parameters())[name].detach(), parameter.detach()
        assert parameter.isfinite().all(), name
        if parameter.numel() > 300:
            assert float(parameter.std()) == pytest.approx(float(expected.std()), rel=0.3), name
        if (expected == expected.flatten()[0]).all():
            assert torch.equal(parameter, expected), name


def test_initializing_again_gives_the_same_buffers() -> None:
    model = tiny_model()
    before = buffers_of(model)
    for buffer in model.buffers():
        buffer.zero_() if not buffer.is_floating_point() else buffer.fill_(torch.nan)
    model.apply(model._init_weights)
    assert_same(before, buffers_of(model))


def test_every_parameter_is_initialized() -> None:
    """A parameter that no rule sets keeps the NaN written here."""
    model = tiny_model(tiny_config(added_encoders={"radar": RADAR}, decoder_inputs="codes+tokens"))
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    model.apply(model._init_weights)
    assert [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()] == []


def test_fresh_weights_have_the_asked_spread() -> None:
    model = tiny_model(tiny_config(initializer_range=0.05))
    for name, parameter in model.state_dict().items():
        # The points stem has a rule of its own.
        is_large = name.endswith(".weight") and parameter.ndim >= 2 and parameter.numel() > 300
        if is_large and ".point.tower.stem" not in name:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.2), name
    assert model.encoders["point"].tower.lens.latents.std().item() == pytest.approx(1, rel=0.3)
    assert model.logit_scale.log_scale.item() == 1.5


MISSING = (
    "encoders.vision.tower.layers.0.mlp.fc1.weight",
    "encoders.point.tower.stem.local.1.running_var",
    "encoders.imu.tower.layers.1.self_attn.bias_k",
    "encoders.audio.tower.stem.norm.weight",
    "codebooks.shared.codes",
    "codebooks.specific.eeg.cluster_size",
    "logit_scale.log_scale",
)


@pytest.mark.parametrize("name", MISSING)
def test_a_checkpoint_that_lacks_one_tensor_initializes_that_one_only(
    model: CodeBindModel, folder: Path, tmp_path: Path, name: str
) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    loaded, information = CodeBindModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(information["missing_keys"]) == {name}
    state = loaded.state_dict()
    fresh = state.pop(name)
    assert_same({key: x for key, x in model.state_dict().items() if key != name}, state)
    assert fresh.isfinite().all()
    assert not torch.equal(fresh, model.state_dict()[name])
    owner = loaded.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, Codebook):
        assert torch.equal(fresh, owner.initial_state()[name.rpartition(".")[2]])


# Data types


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_codes_stay_float32_bit_for_bit_through_half_precision(
    model: CodeBindModel, folder: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    codes = buffers_of(model.codebooks)
    half = CodeBindModel.from_pretrained(folder, dtype=dtype)
    assert {x.dtype for x in half.parameters()} == {dtype}
    assert_same(codes, buffers_of(half.codebooks))
    half.save_pretrained(tmp_path)
    again = CodeBindModel.from_pretrained(tmp_path)
    assert {x.dtype for x in again.parameters()} == {dtype}
    assert_same(codes, buffers_of(again.codebooks))
    assert_same(codes, buffers_of(again.half().float().codebooks))


def test_batch_norm_counts_survive_half_precision(model: CodeBindModel, folder: Path) -> None:
    half = CodeBindModel.from_pretrained(folder, dtype=torch.bfloat16)
    norms = [module for module in half.modules() if isinstance(module, nn.BatchNorm1d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {7}


# Some modalities of a checkpoint


@pytest.mark.parametrize(
    "modalities", [("text", "image"), ("eeg",), ("video", "audio"), ("radar", "text"), ("image", "video")]
)
def test_a_subset_of_modalities_loads_quietly_with_equal_embeddings(
    model: CodeBindModel, folder: Path, inputs: dict[str, Tensor], modalities: tuple[str, ...], complaints: list[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, information = CodeBindModel.from_pretrained(folder, modalities=modalities, output_loading_info=True)
    assert complaints == []
    assert not information["unexpected_keys"]
    assert not information["missing_keys"]
    encoders = {"vision" if name in ("image", "video") else name for name in modalities}
    assert set(loaded.encoders) == encoders
    tensors = {"radar": "radar_values"} | {name: modality.tensor for name, modality in MODALITIES.items()}
    given = {tensors[name]: inputs[tensors[name]] for name in modalities}
    expected, result = model(**given, output_reconstructions=True), loaded(**given, output_reconstructions=True)
    assert_same(flat(expected), flat(result))


def test_a_subset_saves_and_loads_as_a_checkpoint_of_its_own(folder: Path, tmp_path: Path) -> None:
    subset = CodeBindModel.from_pretrained(folder, modalities=["text", "eeg"])
    subset.save_pretrained(tmp_path)
    loaded = CodeBindModel.from_pretrained(tmp_path)
    assert loaded.config.modality_names == ("text", "eeg")
    assert_same(subset.state_dict(), loaded.state_dict())


def test_modalities_may_be_given_with_other_configuration(model: CodeBindModel, folder: Path) -> None:
    loaded = CodeBindModel.from_pretrained(folder, modalities=["eeg"], max_logit_scale=5.0, dtype=torch.bfloat16)
    assert loaded.config.max_logit_scale == 5.0
    assert loaded.dtype == torch.bfloat16
    assert set(loaded.encoders) == {"eeg"}
    assert CodeBindModel.from_pretrained(folder, max_logit_scale=5.0).config.max_logit_scale == 5.0


def test_decoders_can_be_left_out_quietly(model: CodeBindModel, folder: Path, complaints: list[str]) -> None:
    loaded = CodeBindModel.from_pretrained(folder, decoder_config=None)
    assert len(loaded.decoders) == 0
    assert complaints == []


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["smell"], "modalities: unknown modality 'smell'; known: text, image"),
        (["imu"], "modality: 'imu' is not in this checkpoint, which has text, eeg"),
        ([], "modalities: got an empty list; choose from text, eeg"),
    ],
)
def test_modalities_that_a_checkpoint_lacks_are_refused(tmp_path: Path, modalities: list[str], message: str) -> None:
    tiny_model(small_config("text", "eeg")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        CodeBindModel.from_pretrained(tmp_path, modalities=modalities)


def test_an_empty_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="model.safetensors"):
        CodeBindModel.from_pretrained(tmp_path)


def test_a_checkpoint_holds_no_code_path(folder: Path) -> None:
    stored = json.loads((folder / "config.json").read_text())
    assert str(folder) not in json.dumps(stored)
    assert stored["model_type"] == "codebind"
    assert stored["added_encoders"]["radar"] == RADAR


def test_attention_is_chosen_on_loading(folder: Path) -> None:
    loaded = CodeBindModel.from_pretrained(folder, attn_implementation="eager")
    kinds = {module.config._attn_implementation for module in loaded.modules() if hasattr(module, "is_causal")}
    assert kinds == {"eager"}
