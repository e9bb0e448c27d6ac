"""An experiment of the official CodeBind becomes one model, and turns back into the same files."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from common import assert_same
from reference_checkpoints import TINY_CODEBIND, random_lora
from safetensors.torch import load_file, save_file

from codebind_hf import CodeBindModel
from codebind_hf.conversion import convert_codebind, revert_codebind
from codebind_hf.conversion.lora import add_released_lora, lora_pairs, released_lora
from codebind_hf.training.adapters import remove_lora


CONTINUED = {"temperature": 0.05, "loss_vq_weight": 50, "loss_vq_reg_weight": 0.01, "loss_cmcm_weight": 1.0}
# Frames of two clips, so that clips are averaged.
AUDIO = torch.randn(2, 2, 128, 204, generator=torch.Generator().manual_seed(0))


def convert(experiment: Path, imagebind_file: Path, **options: Any) -> CodeBindModel:
    return convert_codebind(experiment, imagebind_file, TINY_CODEBIND, **options)


def files_of(experiment: Path, which: str = "best") -> dict[str, dict[str, torch.Tensor]]:
    files = {}
    for file in (experiment / "checkpoints").glob(f"*_{which}.*"):
        read = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        files[file.stem.removesuffix(f"_{which}")] = read
    return files


def test_there_and_back_are_the_same_files(experiment: Path, imagebind_file: Path) -> None:
    model = convert(experiment, imagebind_file, lora="adapter")
    back, original = revert_codebind(model), files_of(experiment)
    base = torch.load(imagebind_file, weights_only=True)
    # What the experiment does not save comes from its base.
    for module, name in product(("trunks", "postprocessors"), ("text", "vision", "audio")):
        prefix = f"modality_{module}.{name}."
        original[f"imagebind-{module}-{name}"] = {
            key.removeprefix(prefix): x for key, x in base.items() if key.startswith(prefix)
        }
    original = {name: tensors for name, tensors in original.items() if tensors}
    assert back.keys() == original.keys()
    for name, tensors in original.items():
        assert_same(back[name], tensors)


WIDTHS = pytest.mark.parametrize(
    ("experiment", "vision", "audio"),
    [
        pytest.param({"specific_code_dim": 4}, 4, 4, id="all"),
        pytest.param({"audio_config": {"specific_code_dim": 2}}, 8, 2, id="one"),
    ],
    indirect=["experiment"],
)


@WIDTHS
def test_specific_codes_of_another_width_are_converted_and_turn_back(
    experiment: Path, imagebind_file: Path, vision: int, audio: int, tmp_path: Path
) -> None:
    file = "imagebind-vector_quantise-"
    model, original = convert(experiment, imagebind_file), files_of(experiment)[file]
    assert original["mvq_dict.common.embedding.weight"].shape == (20, 8)
    assert original["mvq_dict.audio.embedding.weight"].shape == (10, audio)
    config = model.config
    assert config.code_dim == 8
    assert [config.code_dim_of("specific", name) for name in ("vision", "audio")] == [vision, audio]
    assert ("specific_code_dim" in config.to_dict()["vision_config"]) == (vision != 8)
    model.save_pretrained(tmp_path / "ours")
    model = CodeBindModel.from_pretrained(tmp_path / "ours")
    assert_same(revert_codebind(model)[file], original)
    output = model(input_features=AUDIO)
    segments = output.continuous_specific_embeds["audio"].unflatten(-1, (-1, audio))
    codes = original["mvq_dict.audio.embedding.weight"]
    ids = (segments @ torch.nn.functional.normalize(codes, dim=-1).T).argmax(-1)
    assert output.codes["audio"].specific.tolist() == ids.tolist()
    expected = torch.nn.functional.normalize(codes[ids].flatten(1), dim=-1)
    torch.testing.assert_close(output.specific_embeds["audio"], expected)


@WIDTHS
def test_the_weight_of_commit_is_said_to_fit_shared_codes_alone(
    experiment: Path, imagebind_file: Path, vision: int, audio: int, caplog: pytest.LogCaptureFixture
) -> None:
    (experiment / "cfg_all_train.yaml").write_text(yaml.safe_dump(CONTINUED))
    assert convert(experiment, imagebind_file).config.loss_weight("commit") == 50 / 8
    assert "'commit' is the released weight for codes of 8 numbers" in caplog.text
    assert [name in caplog.text for name in ("vision", "audio")] == [vision != 8, audio != 8]
    caplog.clear()
    # Its own mean over single numbers is exact for every width.
    assert convert(experiment, imagebind_file, parity=True).config.loss_weight("commit") == 50
    assert caplog.text == ""


def test_specific_codes_that_do_not_divide_their_embedding_are_named(experiment: Path, imagebind_file: Path) -> None:
    file = experiment / "checkpoints" / "imagebind-vector_quantise-_best.pth"
    books = torch.load(file, weights_only=True)
    torch.save({key: x[:, :3] if ".audio." in key and x.ndim == 2 else x for key, x in books.items()}, file)
    with pytest.raises(ValueError, match="specific_dim: got 16 for audio, not a multiple of specific_code_dim=3"):
        convert(experiment, imagebind_file)


def test_the_sizes_follow_from_the_tensors(experiment: Path, imagebind_file: Path) -> None:
    config = convert(experiment, imagebind_file).config
    assert list(config.encoder_configs) == ["text", "vision", "audio"]
    assert (config.shared_dim, config.specific_dim, config.code_dim) == (24, 16, 8)
    assert (config.num_shared_codes, config.num_specific_codes) == (20, 10)
    assert (config.decoder_config.hidden_size, config.decoder_config.num_hidden_layers) == (16, 1)
    assert not config.normalize_codes
    assert config.decoder_inputs == "codes+tokens"


def test_merging_and_keeping_the_adapter_give_the_same_embeddings(experiment: Path, imagebind_file: Path) -> None:
    merged = convert(experiment, imagebind_file)(input_features=AUDIO)
    adapter = convert(experiment, imagebind_file, lora="adapter")(input_features=AUDIO)
    assert torch.equal(merged.codes["audio"].shared, adapter.codes["audio"].shared)
    for name in ("embeds", "continuous_embeds", "specific_embeds"):
        torch.testing.assert_close(getattr(merged, name)["audio"], getattr(adapter, name)["audio"])


def test_merging_adds_up_times_down(experiment: Path, imagebind_file: Path) -> None:
    lora = files_of(experiment)["imagebind-lora-audio"]
    merged = convert(experiment, imagebind_file).state_dict()
    base = torch.load(imagebind_file, weights_only=True)
    fused = base["modality_trunks.audio.blocks.1.attn.in_proj_weight"]
    fused = fused + lora["blocks.1.attn.in_proj_lora_up"] @ lora["blocks.1.attn.in_proj_lora_down"]
    for part, name in zip(fused.chunk(3), "qkv", strict=True):
        torch.testing.assert_close(merged[f"encoders.audio.tower.layers.1.self_attn.{name}_proj.weight"], part)
    first = base["modality_trunks.audio.blocks.0.attn.in_proj_weight"].chunk(3)[0]
    assert torch.equal(merged["encoders.audio.tower.layers.0.self_attn.q_proj.weight"], first)


def test_lora_of_best_is_the_default_and_last_can_be_asked_for(experiment: Path, imagebind_file: Path) -> None:
    best, last = (
        released_lora(convert(experiment, imagebind_file, lora="adapter", lora_which=which))["audio"]
        for which in (None, "last")
    )
    assert_same(best, files_of(experiment)["imagebind-lora-audio"])
    assert_same(last, files_of(experiment, "last")["imagebind-lora-audio"])
    assert not torch.equal(best["blocks.1.mlp.fc1_lora_up"], last["blocks.1.mlp.fc1_lora_up"])


def test_the_adapter_can_be_saved_and_loaded_on_a_fresh_base(
    experiment: Path, imagebind_file: Path, tmp_path: Path
) -> None:
    model = convert(experiment, imagebind_file, lora="adapter")
    expected = model(input_features=AUDIO).embeds["audio"]
    model.save_pretrained(tmp_path / "adapter")
    remove_lora(model).save_pretrained(tmp_path / "base")
    fresh = CodeBindModel.from_pretrained(tmp_path / "base")
    assert not torch.equal(fresh(input_features=AUDIO).continuous_embeds["audio"], expected)
    fresh.load_adapter(str(tmp_path / "adapter"))
    fresh.eval()
    assert torch.equal(fresh(input_features=AUDIO).embeds["audio"], expected)


def test_the_merged_model_can_be_saved_and_loaded(experiment: Path, imagebind_file: Path, tmp_path: Path) -> None:
    model = convert(experiment, imagebind_file)
    model.save_pretrained(tmp_path / "ours")
    assert_same(CodeBindModel.from_pretrained(tmp_path / "ours").state_dict(), model.state_dict())


def test_options_of_the_experiment_become_weights_and_temperature(experiment: Path, imagebind_file: Path) -> None:
    (experiment / "cfg_all_train.yaml").write_text(yaml.safe_dump(CONTINUED))
    model = convert(experiment, imagebind_file)
    assert model.logit_scale().item() == pytest.approx(20)
    # Ours averages over segments of 8 numbers, the released term over numbers.
    assert model.config.loss_weights == {"recon": 1.0, "commit": 50 / 8, "cm": 1.0, "cctr": 0.01, "cuni": 0.01}
    released = convert(experiment, imagebind_file, parity=True).config
    assert released.loss_weights["commit"] == 50
    assert released.parity_losses
    assert released.parity_codebooks


def test_without_options_the_scale_is_that_of_text(experiment: Path, imagebind_file: Path) -> None:
    model = convert(experiment, imagebind_file)
    assert model.logit_scale.log_scale.item() == 2.5
    assert model.config.loss_weights is None


def test_an_experiment_without_lora_converts(experiment: Path, imagebind_file: Path) -> None:
    for file in (experiment / "checkpoints").glob("*lora*"):
        file.unlink()
    for lora in ("merge", "adapter"):
        model = convert(experiment, imagebind_file, lora=lora)
        assert released_lora(model) == {}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"which": "worst"}, "which: got 'worst'; allowed: 'best', 'last'"),
        ({"lora_which": "worst"}, "lora_which: got 'worst'"),
        ({"lora": "drop"}, "lora: got 'drop'; allowed: 'merge', 'adapter'"),
        ({"which": "last"}, r"which: got 'last', but of imagebind-.* there is only imagebind-.*_best\.pth"),
    ],
)
def test_wrong_choices_are_named(experiment: Path, imagebind_file: Path, option: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(experiment, imagebind_file, **option)


def test_unknown_files_and_missing_folders_are_named(experiment: Path, imagebind_file: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent: no such folder"):
        convert(tmp_path / "absent", imagebind_file)
    torch.save({}, experiment / "checkpoints" / "imagebind-nose-audio_best.pth")
    with pytest.raises(ValueError, match=r"unknown file imagebind-nose-audio_best\.pth"):
        convert(experiment, imagebind_file)


@pytest.mark.parametrize(
    ("option", "value"), [("distance", "l2"), ("norm_code", False), ("seg_type", 2), ("share_codebook", True)]
)
def test_a_quantizer_that_ours_does_not_compute_is_refused(
    experiment: Path, imagebind_file: Path, option: str, value: Any
) -> None:
    (experiment / "cfg_all_train.yaml").write_text(yaml.safe_dump({"vector_quantise": {option: value}}))
    with pytest.raises(ValueError, match=f"vector_quantise.{option} is {value!r}"):
        convert(experiment, imagebind_file)


def test_missing_and_unknown_tensors_are_named(experiment: Path, imagebind_file: Path) -> None:
    file = experiment / "checkpoints" / "imagebind-heads_mvq-audio_best.pth"
    tensors = torch.load(file, weights_only=True)
    torch.save({key: x for key, x in tensors.items() if key != "0.bias"}, file)
    with pytest.raises(ValueError, match=r"missing keys modality_heads_mvq\.audio\.0\.bias"):
        convert(experiment, imagebind_file)
    torch.save(tensors | {"7.weight": torch.ones(1)}, file)
    with pytest.raises(ValueError, match=r"unknown keys modality_heads_mvq\.audio\.7\.weight"):
        convert(experiment, imagebind_file)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("lora-audio_best.safetensors", r"lora_which: got 'best', but of imagebind-lora-audio there is only"),
        ("vector_quantise-_best.pth", r"no imagebind-vector_quantise- file with mvq_dict\.common, the shared"),
        ("heads_mvq-audio_best.pth", "no imagebind-heads_mvq-audio, the specific head of audio"),
        ("heads-vision_best.pth", "has imagebind-heads of audio, text; every experiment has text and vision"),
    ],
)
def test_a_missing_file_is_named_and_never_another_model(
    experiment: Path, imagebind_file: Path, removed: str, message: str
) -> None:
    (experiment / "checkpoints" / f"imagebind-{removed}").unlink()
    with pytest.raises(ValueError, match=message):
        convert(experiment, imagebind_file)


def test_a_missing_codebook_of_one_modality_is_named(experiment: Path, imagebind_file: Path) -> None:
    file = experiment / "checkpoints" / "imagebind-vector_quantise-_best.pth"
    books = torch.load(file, weights_only=True)
    torch.save({key: x for key, x in books.items() if ".audio." not in key}, file)
    with pytest.raises(ValueError, match=r"mvq_dict\.audio, the specific codebook"):
        convert(experiment, imagebind_file)


def test_the_folder_of_the_files_is_the_same_experiment(experiment: Path, imagebind_file: Path) -> None:
    (experiment / "cfg_all_train.yaml").write_text(yaml.safe_dump(CONTINUED))
    whole, files = (convert(folder, imagebind_file) for folder in (experiment, experiment / "checkpoints"))
    assert_same(whole.state_dict(), files.state_dict())
    assert whole.config.to_dict() == files.config.to_dict()


def test_an_unknown_modality_of_the_base_is_named(experiment: Path, imagebind_file: Path) -> None:
    tensors = torch.load(imagebind_file, weights_only=True)
    torch.save(tensors | {"modality_trunks.smell.blocks.0.norm_1.bias": torch.ones(2)}, imagebind_file)
    with pytest.raises(ValueError, match=r"unknown keys modality_trunks\.smell"):
        convert(experiment, imagebind_file)


def test_lora_of_two_encoders_is_merged_or_kept_alike(experiment: Path, imagebind_file: Path) -> None:
    save_file(random_lora(12), experiment / "checkpoints" / "imagebind-lora-vision_best.safetensors")
    merged, adapter = (convert(experiment, imagebind_file, lora=lora) for lora in ("merge", "adapter"))
    inputs = {"input_features": AUDIO, "pixel_values": torch.randn(2, 3, 224, 224)}
    first, second = (model(**inputs).continuous_embeds for model in (merged, adapter))
    for name in ("audio", "image"):
        torch.testing.assert_close(first[name], second[name])
    assert set(released_lora(adapter)) == {"audio", "vision"}


@pytest.mark.parametrize("base_type", [torch.float16, torch.float32])
def test_half_precision_weights_run_and_their_codebooks_stay_float32(
    experiment: Path, imagebind_file: Path, base_type: torch.dtype
) -> None:
    for file in [*(experiment / "checkpoints").glob("*.pth"), imagebind_file]:
        wanted = base_type if file == imagebind_file else torch.float16
        halved = {key: x.to(wanted) for key, x in torch.load(file, weights_only=True).items()}
        torch.save(halved, file)
    model = convert(experiment, imagebind_file)
    assert {parameter.dtype for parameter in model.parameters()} == {base_type}
    assert model.codebooks.shared.codes.dtype == torch.float32
    embeds = model.float()(input_features=AUDIO).embeds["audio"]
    torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(2))


def test_a_trunk_that_no_file_holds_is_named(experiment: Path, imagebind_file: Path) -> None:
    tensors = torch.load(imagebind_file, weights_only=True)
    kept = {key: x for key, x in tensors.items() if not key.startswith("modality_trunks.audio")}
    torch.save(kept, imagebind_file)
    with pytest.raises(ValueError, match=r"missing keys modality_trunks\.audio\.blocks\.0.* a further file of `base`"):
        convert(experiment, imagebind_file)


def test_lora_that_does_not_fit_is_named(experiment: Path, imagebind_file: Path) -> None:
    model = convert(experiment, imagebind_file)
    down, up = torch.ones(3, 12), torch.ones(12, 3)
    with pytest.raises(ValueError, match=r"unknown key blocks\.1\.attn\.gate_lora_down"):
        lora_pairs("audio", {"blocks.1.attn.gate_lora_down": down})
    with pytest.raises(ValueError, match="has down only"):
        lora_pairs("audio", {"blocks.1.attn.out_proj_lora_down": down})
    far = {"blocks.9.attn.out_proj_lora_down": down, "blocks.9.attn.out_proj_lora_up": up}
    with pytest.raises(ValueError, match=r"layers\.9\.self_attn\.out_proj, which this architecture lacks"):
        add_released_lora(model, {"audio": far})
    save_file(far, experiment / "checkpoints" / "imagebind-lora-audio_best.safetensors")
    with pytest.raises(ValueError, match=r"layers\.9\.self_attn\.out_proj, which this architecture lacks"):
        convert(experiment, imagebind_file)
    mixed = {"audio": random_lora(12, rank=3), "vision": random_lora(12, rank=2)}
    with pytest.raises(ValueError, match=r"ranks \[2, 3\]"):
        add_released_lora(model, mixed)


def test_adapters_that_the_original_cannot_hold_are_refused(experiment: Path, imagebind_file: Path) -> None:
    model = convert(experiment, imagebind_file, lora="adapter")
    with torch.no_grad():
        model.encoders["audio"].tower.layers[1].self_attn.k_proj.lora_A["default"].weight.add_(1)
    with pytest.raises(ValueError, match="different down matrices"):
        revert_codebind(model)
