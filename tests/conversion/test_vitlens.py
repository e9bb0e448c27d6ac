"""ViT-Lens's files become a model and turn back into the same files: every layout, without any reference value."""

import copy
import json
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import assert_same, tiny_inputs
from reference_checkpoints import SMALL_ARCHITECTURE, SMALL_OPENSHAPE, SMALL_VITLENS
from safetensors.torch import save_file
from torch import Tensor

from codebind_hf import CodeBindConfig, CodeBindModel
from codebind_hf.conversion import convert_vitlens, revert_vitlens
from codebind_hf.conversion.imagebind import empty_model
from codebind_hf.conversion.vitlens_architectures import vitlens_fields
from codebind_hf.model.presets import merge_fields


TARGETS = {"audio": "audio", "depth": "depth", "tactile": "tactile", "pc": "point_cloud", "eeg": "eeg"}
SCALE = "logit_scale"


def small_model(*modalities: str, fields: dict[str, Any] = SMALL_VITLENS) -> CodeBindModel:
    """Random weights and statistics, the same for the towers that several models share."""
    torch.manual_seed(0)
    model = CodeBindModel(CodeBindConfig(**fields)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            module.num_batches_tracked += 3
    if not modalities:
        return model
    part = CodeBindModel(model.config.restricted_to(modalities)).eval()
    part.load_state_dict({name: value for name, value in model.state_dict().items() if name in part.state_dict()})
    return part


def merged(model: CodeBindModel) -> dict[str, Any]:
    names = ["image", "text", "pc", "depth", "audio", "tactile", "eeg"]
    return {"model_var": "small", "modality_loaded": names, "state_dict": revert_vitlens(model)}


def training_file(model: CodeBindModel, prefix: str = "module.") -> dict[str, Any]:
    """One modality as a training loop saved it: numbers of numpy and the state of an optimizer beside the tensors."""
    state = {prefix + key: value for key, value in revert_vitlens(model, "single").items()}
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": np.float64(2e-4), "params": [0]}]}
    return {"epoch": 80, "name": "x", "state_dict": state, "optimizer": optimizer, "best_acc1": np.float64(12.5)}


def backbone_file(model: CodeBindModel, scale: Any, **extra: Any) -> dict[str, Any]:
    state = {f"module.{key}": value for key, value in revert_vitlens(model, "backbone").items()}
    rest = {"image_proj": None, "text_proj": OrderedDict(), "epoch": np.int64(9), "best_acc": np.float32(0.5)}
    return {"state_dict": state, SCALE: scale, **rest, **extra}


def saved(content: Any, file: Path) -> Path:
    torch.save(content, file)
    return file


def convert(file: Any, **changes: Any) -> CodeBindModel:
    return convert_vitlens(file, merge_fields(copy.deepcopy(SMALL_ARCHITECTURE), changes))


@pytest.fixture
def merged_file(tmp_path: Path) -> Path:
    return saved(merged(small_model()), tmp_path / "vitlens.pt")


def changed(file: Path, changes: dict[str, Tensor | None]) -> Path:
    """A copy of a merged file with some tensors replaced, added or removed."""
    content = torch.load(file, weights_only=True)
    state = {**content["state_dict"], **changes}
    content["state_dict"] = {key: value for key, value in state.items() if value is not None}
    return saved(content, file.with_name("changed.pt"))


# There and back


def test_the_merged_file_is_reverted_bit_for_bit(merged_file: Path) -> None:
    model = convert(merged_file)
    assert_same(revert_vitlens(model), torch.load(merged_file, weights_only=True)["state_dict"])
    assert model.config.modality_names == ("text", "image", "video", "audio", "depth", "tactile", "point_cloud", "eeg")
    assert not model.training


def test_what_is_converted_is_the_model_that_was_written(merged_file: Path) -> None:
    model, original = convert(merged_file, logit_scale=2.75), small_model()
    assert model.config.to_dict() == {**original.config.to_dict(), "initializer_range": 0.02}
    assert_same(model.state_dict(), original.state_dict())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("name", "modality"), TARGETS.items())
def test_a_file_of_one_modality_says_which_and_is_reverted(
    name: str, modality: str, prefix: str, tmp_path: Path
) -> None:
    content = training_file(small_model("text", "image", modality), prefix)
    model = convert(saved(content, tmp_path / "x.pt"))
    assert model.config.modality_names == ("text", "image", "video", modality)
    assert model.logit_scale.log_scale.item() == 2.75
    back = {prefix + key: value for key, value in revert_vitlens(model, "single").items()}
    assert_same(back, content["state_dict"])


@pytest.mark.parametrize("scale", [torch.tensor(2.5), OrderedDict(logit_scale=torch.tensor(2.5))])
def test_a_big_g_file_holds_the_point_tower_alone(scale: Any, tmp_path: Path) -> None:
    original = small_model(fields=SMALL_OPENSHAPE)
    content = backbone_file(original, scale)
    model = convert(saved(content, tmp_path / "x.pt"))
    assert model.config.modality_names == ("point_cloud",)
    assert model.config.point_config.point_grouping == "ball"
    assert model.logit_scale.log_scale.item() == 2.5
    assert_same(
        {f"module.{key}": value for key, value in revert_vitlens(model, "backbone").items()}, content["state_dict"]
    )
    clouds = torch.rand(2, 40, 6)
    assert torch.equal(
        model(point_values=clouds).embeds["point_cloud"], original(point_values=clouds).embeds["point_cloud"]
    )


def test_open_clip_is_text_and_images(tmp_path: Path) -> None:
    state = revert_vitlens(small_model("text", "image"), "single")
    assert "visual.conv1.weight" in state
    model = convert(saved(state, tmp_path / "open_clip_pytorch_model.bin"))
    assert model.config.modality_names == ("text", "image", "video")
    assert_same(revert_vitlens(model, "single"), state)
    save_file(state, tmp_path / "open_clip.safetensors")
    assert_same(convert(tmp_path / "open_clip.safetensors").state_dict(), model.state_dict())


def test_files_of_one_bridge_become_one_model(tmp_path: Path) -> None:
    files = [
        saved(training_file(small_model("text", "image", modality)), tmp_path / f"{modality}.pt")
        for modality in ("audio", "point_cloud")
    ]
    model = convert(files)
    assert model.config.modality_names == ("text", "image", "video", "audio", "point_cloud")
    assert_same(model.state_dict(), small_model("text", "image", "audio", "point_cloud").state_dict())
    point = saved(backbone_file(small_model(fields=SMALL_OPENSHAPE), torch.tensor(2.5)), tmp_path / "point.pt")
    clip = saved(revert_vitlens(small_model("text", "image"), "single"), tmp_path / "clip.bin")
    assert convert([point, clip]).config.modality_names == ("text", "image", "video", "point_cloud")
    assert convert([point, clip]).logit_scale.log_scale.item() == 2.5


def test_files_of_different_bridges_are_refused(tmp_path: Path) -> None:
    files = [
        saved(training_file(small_model("text", "image", name)), tmp_path / f"{name}.pt") for name in ("audio", "eeg")
    ]
    content = torch.load(files[1], weights_only=False)
    content["state_dict"]["module.ln_final.bias"] += 1
    torch.save(content, files[1])
    with pytest.raises(ValueError, match=r"eeg\.pt has another vitlens\.text\.ln_final\.bias than the files before"):
        convert(files)
    with pytest.raises(ValueError, match="checkpoint: got an empty list"):
        convert([])


def test_saving_and_loading_changes_nothing(merged_file: Path, tmp_path: Path) -> None:
    model = convert(merged_file)
    model.save_pretrained(tmp_path / "ours")
    loaded = CodeBindModel.from_pretrained(tmp_path / "ours")
    assert_same(loaded.state_dict(), model.state_dict())
    assert_same(revert_vitlens(loaded), torch.load(merged_file, weights_only=True)["state_dict"])
    inputs = tiny_inputs(model.config) | {"input_ids": torch.tensor([[49406, 7, 49407]] * 3)}
    inputs.pop("attention_mask")
    assert_same(model(**inputs).embeds, loaded(**inputs).embeds)
    part = CodeBindModel.from_pretrained(tmp_path / "ours", modalities=["text", "point_cloud"])
    assert list(part.encoders) == ["text", "point"]


def test_half_precision_files_keep_their_bits(merged_file: Path) -> None:
    content = torch.load(merged_file, weights_only=True)
    halves = {key: x.half() if x.is_floating_point() else x for key, x in content["state_dict"].items()}
    model = convert(saved({"state_dict": halves}, merged_file))
    assert {parameter.dtype for parameter in model.encoders.parameters()} == {torch.float16}
    back = revert_vitlens(model)
    assert all(torch.equal(back[key], value.to(back[key].dtype)) for key, value in halves.items())


@pytest.mark.parametrize(
    ("layout", "modalities", "message"),
    [
        ("merge", (), "layout: got 'merge'; allowed: 'merged', 'single', 'backbone'"),
        ("single", (), "layout: got 'single' for towers of text, image, audio, .*; it holds one modality beside text"),
        ("backbone", ("text", "point_cloud"), "layout: got 'backbone' for towers of text, pc; it holds a point tower"),
    ],
)
def test_a_layout_without_room_is_refused(layout: str, modalities: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        revert_vitlens(small_model(*modalities), layout)


def test_a_model_with_additions_has_no_place_in_the_original(merged_file: Path) -> None:
    fields = {**SMALL_VITLENS, "specific_dim": 24, "num_shared_codes": 6, "num_specific_codes": 4}
    model = CodeBindModel(CodeBindConfig(**fields))
    with pytest.raises(ValueError, match="has no place in the original layout"):
        revert_vitlens(model)


# What a file may hold


def test_numbers_of_numpy_1_and_2_are_read_and_code_is_not(tmp_path: Path) -> None:
    content = training_file(small_model("text", "image", "eeg"))
    content |= {"scheduler": {"last_lr": [np.float32(1e-3)], "flag": np.bool_(True), "steps": np.int64(7)}}
    file = saved(content, tmp_path / "x.pt")
    expected = convert(file).state_dict()
    old = tmp_path / "old.pt"
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(old, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(entry.filename, data)
    assert_same(convert(old).state_dict(), expected)
    for harmful in (np.array([1.0, 2.0]), Path("x")):
        saved({**content, "extra": harmful}, file)
        with pytest.raises(
            ValueError, match=r"x\.pt: holds more than tensors, and files with code are never executed"
        ):
            convert(file)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    for content, message in (
        (
            {"encoder.weight": torch.ones(2)},
            r"x\.pt: has keys such as encoder\.weight; those of ViT-Lens and OpenCLIP",
        ),
        ({"state_dict": {}}, r"x\.pt: its state_dict is dict; expected tensors by name"),
        ({"state_dict": {"vitlens.a": 3}}, r"x\.pt: 'vitlens\.a' is int; expected tensors only"),
        ({"visual.proj": torch.ones(2, 2)}, r"x\.pt: its tower has no tokenizer that is known"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(saved(content, tmp_path / "x.pt"))
    with pytest.raises(OSError, match="no such file"):
        convert(tmp_path / "absent.pt")


def test_a_big_g_file_with_a_projection_of_its_own_is_refused(tmp_path: Path) -> None:
    model = small_model(fields=SMALL_OPENSHAPE)
    content = backbone_file(model, None, text_proj={"weight": torch.ones(2, 2)})
    with pytest.raises(ValueError, match=r"x\.pt: has text_proj, a projection of the features"):
        convert(saved(content, tmp_path / "x.pt"))
    content = backbone_file(model, None)
    content["state_dict"]["module.head.weight"] = torch.ones(2)
    with pytest.raises(ValueError, match=r"x\.pt: has head\.weight beside its backbone"):
        convert(saved(content, tmp_path / "x.pt"))


def test_missing_unknown_and_misshapen_tensors_are_named(merged_file: Path) -> None:
    changes: dict[str, dict[str, Tensor | None]] = {
        r"missing keys vitlens\.eeg\.ln_post\.bias": {"vitlens.eeg.ln_post.bias": None},
        r"missing keys vitlens\.pc\.visual_adapter\.reduce_dim\.weight": {
            "vitlens.pc.visual_adapter.reduce_dim.weight": None
        },
        r"unknown keys vitlens\.smell\.proj": {"vitlens.smell.proj": torch.ones(2)},
        r"unknown keys vitlens\.image\.visual_adapter\.pos_emb": {
            "vitlens.image.visual_adapter.pos_emb": torch.ones(2)
        },
        r"vitlens\.image\.ln_pre\.weight has shape \(3,\)": {"vitlens.image.ln_pre.weight": torch.ones(3)},
        r"its towers end in spaces of different sizes \{.*'image': 7": {"vitlens.image.proj": torch.ones(16, 7)},
    }
    for message, change in changes.items():
        with pytest.raises(ValueError, match=message):
            convert(changed(merged_file, change))


# Temperature


def test_the_merged_file_has_no_temperature_so_it_is_that_of_clip(merged_file: Path) -> None:
    assert convert(merged_file).logit_scale().item() == pytest.approx(100, rel=1e-5)
    assert convert(merged_file, logit_scale=1.5).logit_scale.log_scale.item() == 1.5


# What shapes say


@pytest.mark.parametrize(
    ("preset", "modalities"), [("vl-large", None), ("vl-bigg", None), ("vl-bigg", ["point_cloud"])]
)
def test_the_published_models_need_no_architecture(preset: str, modalities: list[str] | None) -> None:
    config = CodeBindConfig.from_preset(preset)
    config = config.restricted_to(modalities) if modalities else config
    meta = revert_vitlens(empty_model(config))
    # Numbers that need no memory: one of them, seen from everywhere.
    source = {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in meta.items()}
    found = CodeBindConfig(**vitlens_fields(source, {"logit_scale": config.logit_scale_init_value}))
    for encoder in config.encoder_configs.values():
        # Four times the width, in so many words.
        encoder.intermediate_size = encoder.mlp_size
    assert json.loads(found.to_json_string()) == json.loads(config.to_json_string())


def test_vl_large_has_the_size_and_the_keys_of_the_published_checkpoint() -> None:
    model = empty_model(CodeBindConfig.from_preset("vl-large"))
    count = sum(parameter.numel() for name, parameter in model.named_parameters() if "logit_scale" not in name)
    assert count == 2_222_741_760
    assert f"{count / 1e6:.1f}" == "2222.7"
    shapes = {key: tuple(value.shape) for key, value in revert_vitlens(model).items()}
    lens, adapter = "vitlens.pc.perceiver.layers", "vitlens.pc.visual_adapter"
    expected = {
        "vitlens.image.conv1.weight": (1024, 3, 14, 14),
        "vitlens.tactile.conv1.weight": (1024, 3, 14, 14),
        "vitlens.depth.visual_adapter.conv1.weight": (1024, 1, 14, 14),
        "vitlens.depth.visual_adapter.pos_emb": (256, 1024),
        "vitlens.audio.visual_adapter.conv1.weight": (1024, 1, 14, 14),
        "vitlens.audio.visual_adapter.pos_emb": (600, 1024),
        "vitlens.audio.perceiver.layers.1.2.2.1.fn.net.2.weight": (1024, 4096),
        "vitlens.eeg.visual_adapter.proj.weight": (1024, 128, 1),
        "vitlens.eeg.visual_adapter.proj.bias": (1024,),
        "vitlens.eeg.visual_adapter.pos_emb": (512, 1024),
        "vitlens.pc.class_embedding": (1024,),
        "vitlens.pc.positional_embedding": (257, 1024),
        "vitlens.pc.proj": (1024, 768),
        "vitlens.pc.transformer.resblocks.23.attn.in_proj_weight": (3072, 1024),
        "vitlens.pc.transformer.resblocks.23.mlp.c_fc.weight": (4096, 1024),
        "vitlens.pc.perceiver.latents": (256, 1024),
        f"{lens}.3.0.norm_context.weight": (384,),
        f"{lens}.3.0.fn.to_q.weight": (64, 1024),
        f"{lens}.3.0.fn.to_kv.weight": (128, 384),
        f"{lens}.3.0.fn.to_out.weight": (1024, 64),
        f"{lens}.3.1.fn.net.0.weight": (8192, 1024),
        f"{lens}.3.2.0.0.fn.to_q.weight": (1024, 1024),
        f"{lens}.3.2.0.0.fn.to_kv.weight": (2048, 1024),
        f"{lens}.3.2.0.1.fn.net.2.weight": (1024, 4096),
        f"{adapter}.encoder.first_conv.0.weight": (128, 3, 1),
        f"{adapter}.encoder.first_conv.1.running_var": (128,),
        f"{adapter}.encoder.first_conv.3.weight": (256, 128, 1),
        f"{adapter}.encoder.second_conv.0.weight": (512, 512, 1),
        f"{adapter}.encoder.second_conv.3.weight": (256, 512, 1),
        f"{adapter}.reduce_dim.weight": (384, 256),
        f"{adapter}.pos_embed.0.weight": (128, 3),
        f"{adapter}.pos_embed.2.weight": (384, 128),
        "vitlens.text.token_embedding.weight": (49408, 768),
        "vitlens.text.positional_embedding": (77, 768),
        "vitlens.text.transformer.resblocks.11.ln_2.bias": (768,),
        "vitlens.text.text_projection": (768, 768),
    }
    assert {key: shapes[key] for key in expected} == expected
    stages = {key.split(".")[4] for key in shapes if key.startswith(f"{lens}.")}
    assert stages == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("part", "millions"),
    [
        ("point.tower.lens", "118.54"),
        ("audio.tower.lens", "126.73"),
        ("eeg.tower.lens", "29.92"),
        ("point.tower.stem", "0.58"),
    ],
)
def test_lenses_have_the_published_sizes(part: str, millions: str) -> None:
    model = empty_model(CodeBindConfig.from_preset("vl-large"))
    count = sum(p.numel() for p in model.encoders.get_submodule(part).parameters())
    assert f"{count / 1e6:.2f}" == millions


def test_vl_bigg_has_the_published_sizes() -> None:
    model = empty_model(CodeBindConfig.from_preset("vl-bigg"))
    point = model.encoders["point"].tower
    assert f"{sum(p.numel() for p in point.lens.parameters()) / 1e6:.2f}" == "312.33"
    assert sum(p.numel() for p in point.stem.parameters()) == 89_280
    shapes = {key: tuple(value.shape) for key, value in revert_vitlens(model).items()}
    adapter = "vitlens.pc.visual_adapter"
    expected = {
        f"{adapter}.sa.mlp_convs.0.weight": (64, 9, 1, 1),
        f"{adapter}.sa.mlp_convs.2.weight": (256, 64, 1, 1),
        f"{adapter}.sa.mlp_bns.2.running_mean": (256,),
        f"{adapter}.lift.0.weight": (256, 259, 1),
        f"{adapter}.lift.2.bias": (256,),
        "vitlens.pc.perceiver.layers.3.0.fn.to_q.weight": (104, 1664),
        "vitlens.pc.transformer.resblocks.31.mlp.c_fc.weight": (8192, 1664),
        "vitlens.image.transformer.resblocks.47.attn.in_proj_bias": (4992,),
        "vitlens.text.text_projection": (1280, 1280),
    }
    assert {key: shapes[key] for key in expected} == expected


def test_frames_behind_the_last_patch_do_not_matter(merged_file: Path) -> None:
    """34 to 43 frames give three columns of patches; the shortest is what is not said."""
    assert convert(merged_file).config.audio_config.input_size == [128, 34]
    longer = convert(merged_file, tokenizer={"audio": {"target_length": 43}})
    assert longer.config.audio_config.input_size == [128, 43]
    sound = torch.randn(1, 1, 128, 43)
    first = convert(merged_file)(input_features=sound[..., :34]).embeds["audio"]
    torch.testing.assert_close(longer(input_features=sound).embeds["audio"], first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbones": {}}, "architecture: unknown key 'backbones'. Did you mean 'backbone'"),
        (
            {"tokenizer": {"pc": {"groups": 3}}},
            r"architecture\.tokenizer\.pc: unknown key 'groups'\. Did you mean 'group_size'",
        ),
        ({"lens": {"pc": {"stages": 3}}}, r"architecture\.lens\.pc: unknown key 'stages'. Known: input_chan, depth"),
        ({"backbone": 3}, r"architecture\.backbone: got int; expected a dictionary"),
        ({"backbone": {"heads": None}}, "no published model has a width of 16, so its number of heads is unknown"),
        ({"backbone": {"width": 32}}, "backbone.width is 32, but the checkpoint's tensors say 16"),
        ({"backbone": {"layers": 3}}, "backbone.layers is 3, but the checkpoint's tensors say 2"),
        ({"backbone": {"act": "relu"}}, "backbone.act is 'relu'; allowed: 'gelu_exact', 'gelu', 'quick_gelu'"),
        ({"backbone": {"mlp_ratio": 4.0}}, "backbone.mlp_ratio is 4.0, but the checkpoint's tensors say 1.5"),
        ({"backbone": {"heads": None, "head_dim": 5}}, "backbone.heads x head_dim is 3 x 5, but the width is 16"),
        ({"text": {"embed_dim": 32}}, "text.embed_dim is 32, but the checkpoint's tensors say 24"),
        ({"text": {"pool": "cls"}}, "text.pool is 'cls', but .* say 'argmax token id'"),
        ({"tokenizer": {"depth": {"stride": 7}}}, "tokenizer.depth.stride is 7, but .* say 14"),
        ({"tokenizer": {"audio": {"grid_freq_time": [1, 1]}}}, r"audio.grid_freq_time is \[1, 1\], but .* \[12, 3\]"),
        ({"tokenizer": {"eeg": {"bias": False}}}, "tokenizer.eeg.bias is False, but .* say True"),
        ({"tokenizer": {"tactile": {"same_as": "audio"}}}, "tactile.same_as is 'audio', but .* say 'image'"),
        ({"lens": {"depth": {"depth": 2}}}, r"architecture.lens.depth: unknown key 'depth'"),
        ({"text": {"context_length": 60}}, "text.context_length is 60, but the checkpoint's tensors say 77"),
        (
            {"lens": {"latent_heads": 5}},
            r"lens.latent_heads x lens.latent_dim_head is 5 x 4, but the lens of audio has 12",
        ),
        ({"lens": {"audio": {"self_per_cross_attn": 2}}}, "lens.audio.self_per_cross_attn is 2, but .* say 3"),
        ({"lens": {"audio": {"depth": 3}}}, "lens.audio.depth is 3, but the checkpoint has 2 stages"),
        ({"lens": {"pc": {"depth": 3}}}, "lens.pc.depth is 3, but the checkpoint has 4 stages"),
        (
            {"tokenizer": {"pc": {"kind": "pnsa"}}},
            "tokenizer.pc.kind is 'pnsa', but the checkpoint's tensors say 'pointbert'",
        ),
        ({"tokenizer": {"pc": {"fps_start_index": 4}}}, "fps_start_index is 4; allowed: 0, 'random'"),
        (
            {"tokenizer": {"pc": {"npoints": 4}}},
            "num_groups, group_size: got 9 and 7; neither may exceed the 4 points",
        ),
        ({"tokenizer": {"audio": {"target_length": 60}}}, "target_length is 60, but 36 tokens need 34 to 43 frames"),
        (
            {"tokenizer": {"audio": {"mel_bins": 78}}},
            "the 36 audio tokens are no grid of 7 rows, which 78 mel bins in steps of 10 give",
        ),
        (
            {"tokenizer": {"eeg": {"time_len": 13}}},
            "tokenizer.eeg.time_len is 13, but the checkpoint's tensors say 12",
        ),
    ],
)
def test_an_untrue_architecture_is_refused(merged_file: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(merged_file, **change)


def test_what_is_said_of_the_backbone_is_said_of_text_too(merged_file: Path) -> None:
    config = convert(merged_file, backbone={"act": "quick_gelu", "layer_norm_eps": 1e-6}).config
    found = {(encoder.hidden_act, encoder.layer_norm_eps) for encoder in config.encoder_configs.values()}
    assert found == {("quick_gelu", 1e-6)}
    narrow = convert(merged_file, backbone={"heads": None, "head_dim": 4}).config
    assert (narrow.vision_config.num_attention_heads, narrow.text_config.num_attention_heads) == (4, 2)


def test_a_bridge_of_another_type_is_named(tmp_path: Path) -> None:
    files = [
        saved(training_file(small_model("text", "image", name)), tmp_path / f"{name}.pt") for name in ("audio", "eeg")
    ]
    content = torch.load(files[1], weights_only=False)
    content["state_dict"] = {key: x.half() for key, x in content["state_dict"].items()}
    torch.save(content, files[1])
    with pytest.raises(ValueError, match="than the files before it, of torch.float16 and torch.float32"):
        convert(files)


def test_farthest_point_sampling_may_start_at_random(merged_file: Path) -> None:
    model = convert(merged_file, tokenizer={"pc": {"fps_start_index": "random"}})
    assert model.config.point_config.fps_start == "random"
    points = torch.randn(2, 40, 3)
    assert not torch.equal(*(model(point_values=points).embeds["point_cloud"] for _ in range(2)))


# Lenses whose stages share weights


STAGE = "vitlens.pc.perceiver.layers"


def with_stages(file: Path, copies: dict[int, int | None]) -> dict[str, Tensor]:
    """Tensors of the merged file in which stages of the point lens are copies of others, or gone."""
    state = torch.load(file, weights_only=True)["state_dict"]
    for key in [key for key in state if key.startswith(f"{STAGE}.")]:
        number, _, rest = key.removeprefix(f"{STAGE}.").partition(".")
        if int(number) in copies:
            origin = copies[int(number)]
            if origin is None:
                del state[key]
            else:
                state[key] = state[f"{STAGE}.{origin}.{rest}"]
    return state


def test_a_tied_lens_becomes_one_with_equal_stages(merged_file: Path, tmp_path: Path) -> None:
    state = with_stages(merged_file, {2: 1, 3: 1})
    file = saved({"state_dict": state}, tmp_path / "tied.pt")
    for given in ({}, {"weight_tie_layers": True, "audio": {"depth": 2}}):
        model = convert(file, lens=given)
        stages = model.encoders["point"].tower.lens.stages
        assert len(stages) == 4
        assert_same(stages[1].state_dict(), stages[3].state_dict())
        assert_same(revert_vitlens(model), state)
    # Equal, and not the same: they are saved, and they learn, each by itself.
    model.save_pretrained(tmp_path / "ours")
    assert_same(CodeBindModel.from_pretrained(tmp_path / "ours").state_dict(), model.state_dict())
    model(point_values=torch.randn(2, 40, 3)).embeds["point_cloud"][:, 0].sum().backward()
    with torch.no_grad():
        for parameter in model.encoders["point"].tower.lens.parameters():
            parameter -= parameter.grad
    assert not torch.equal(stages[1][0].mlp.fc1.weight, stages[3][0].mlp.fc1.weight)


def test_a_tied_lens_whose_copies_were_left_out_needs_a_word(tmp_path: Path) -> None:
    """384 numbers a token before 24 blocks: where the published lens has four stages, two may be all or half of it."""
    point = {**SMALL_VITLENS["point_config"], "stem_dim": 384, "num_hidden_layers": 24}
    fields = {**SMALL_OPENSHAPE, "point_config": point}
    full = {"state_dict": revert_vitlens(small_model(fields=fields))}
    whole = saved({"state_dict": with_stages(saved(full, tmp_path / "a.pt"), {2: 1, 3: 1})}, tmp_path / "whole.pt")
    left = {
        key: x
        for key, x in torch.load(whole)["state_dict"].items()
        if not key.startswith((f"{STAGE}.2", f"{STAGE}.3"))
    }
    file = saved({"state_dict": left}, tmp_path / "left.pt")
    with pytest.raises(
        ValueError, match="stages 0 and 1, where the published one has 4: all of an untied lens, or what"
    ):
        convert(file)
    tied = convert(file, lens={"weight_tie_layers": True, "pc": {"depth": 4}})
    assert_same(tied.state_dict(), convert(whole).state_dict())
    with pytest.raises(ValueError, match="how many there were is not said. Fix: pass lens.pc.depth too"):
        convert(file, lens={"weight_tie_layers": True})
    tied.save_pretrained(tmp_path / "tied")
    short = convert(file, lens={"weight_tie_layers": False, "pc": {"depth": 2}})
    assert short.config.point_config.lens_depth == 2
    assert_same(revert_vitlens(short), left)
    with pytest.raises(ValueError, match="lens.pc.depth is 4, but the checkpoint has 2 stages"):
        convert(file, lens={"weight_tie_layers": False, "pc": {"depth": 4}})


def test_untied_weights_are_never_tied(merged_file: Path) -> None:
    with pytest.raises(ValueError, match="weight_tie_layers is True, but the stages of pc hold different weights"):
        convert(merged_file, lens={"weight_tie_layers": True, "audio": {"depth": 2}})


def test_stages_that_are_tied_in_part_or_missing_are_refused(merged_file: Path, tmp_path: Path) -> None:
    part = with_stages(merged_file, {})
    for number in (2, 3):
        part[f"{STAGE}.{number}.0.fn.to_q.weight"] = part[f"{STAGE}.1.0.fn.to_q.weight"]
    with pytest.raises(ValueError, match="the lens of pc are tied in part: 1 of 10 matrices"):
        convert(saved({"state_dict": part}, tmp_path / "part.pt"))
    gap = with_stages(merged_file, {2: None})
    with pytest.raises(ValueError, match=r"the lens of pc has stages \[0, 1, 3\]; some are missing"):
        convert(saved({"state_dict": gap}, tmp_path / "gap.pt"))
