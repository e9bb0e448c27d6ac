"""ImageBind's checkpoint becomes a model whose embeddings are ImageBind's, and turns back into the same file."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from common import assert_same, tiny_inputs
from reference_checkpoints import TINY, golden_inputs, relative
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from codebind_hf import CodeBindConfig, CodeBindModel
from codebind_hf.conversion import convert_imagebind, revert_imagebind
from codebind_hf.conversion.imagebind import empty_model


MASK = "modality_preprocessors.text.mask"
INPUTS = ("vision", "vision_video", "vision_frames", "text", "audio", "depth", "thermal", "imu")


def assert_reverts(model: CodeBindModel, file: Path) -> None:
    original = torch.load(file, weights_only=True)
    del original[MASK]
    assert_same(revert_imagebind(model), original)


def test_there_and_back_is_the_same_file(imagebind_file: Path) -> None:
    assert_reverts(convert_imagebind(imagebind_file, TINY), imagebind_file)


def test_saving_and_loading_changes_nothing(imagebind_file: Path, tmp_path: Path) -> None:
    model = convert_imagebind(imagebind_file, TINY)
    model.save_pretrained(tmp_path / "ours")
    loaded = CodeBindModel.from_pretrained(tmp_path / "ours")
    assert_same(loaded.state_dict(), model.state_dict())
    assert_reverts(loaded, imagebind_file)
    inputs = tiny_inputs(model.config) | {"input_ids": torch.tensor([[49406, 7, 49407]] * 3)}
    inputs.pop("attention_mask")
    first, second = model(**inputs), loaded(**inputs)
    assert_same(first.embeds, second.embeds)


def test_it_has_no_codebook_so_its_embeddings_are_continuous(imagebind_file: Path) -> None:
    model = convert_imagebind(imagebind_file, TINY)
    depth = torch.randn(2, 1, 224, 224)
    assert torch.equal(
        model(depth_values=depth).embeds["depth"], model(depth_values=depth, quantize=False).embeds["depth"]
    )
    assert model.logit_scale.log_scale.item() == pytest.approx(2.6593, abs=1e-4)
    assert not model.training


def test_safetensors_are_read_too(imagebind_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "imagebind.safetensors"
    save_file(torch.load(imagebind_file, weights_only=True), file)
    assert_same(convert_imagebind(file, TINY).state_dict(), convert_imagebind(imagebind_file, TINY).state_dict())


def test_missing_unknown_and_misshapen_tensors_are_named(imagebind_file: Path, tmp_path: Path) -> None:
    tensors = torch.load(imagebind_file, weights_only=True)
    changes: dict[str, dict[str, Any]] = {
        r"missing keys modality_heads\.imu\.3\.weight": {"modality_heads.imu.3.weight": None},
        r"unknown keys modality_trunks\.smell\.blocks\.0": {
            "modality_trunks.smell.blocks.0.norm_1.bias": torch.ones(2)
        },
        r"modality_heads\.vision\.2\.weight has shape \(3, 12\)": {
            "modality_heads.vision.2.weight": torch.ones(3, 12)
        },
    }
    for message, change in changes.items():
        changed = {key: value for key, value in {**tensors, **change}.items() if value is not None}
        torch.save(changed, tmp_path / "changed.pth")
        with pytest.raises(ValueError, match=message):
            convert_imagebind(tmp_path / "changed.pth", TINY)


def test_the_wrong_architecture_is_refused(imagebind_file: Path) -> None:
    with pytest.raises(ValueError, match="architecture"):
        convert_imagebind(imagebind_file)
    with pytest.raises(ValueError, match=r"modality_trunks\.text\.blocks\.1"):
        convert_imagebind(imagebind_file, TINY | {"text_num_blocks": 1})


def test_ib_huge_has_the_size_and_the_keys_of_the_published_checkpoint() -> None:
    model = empty_model(CodeBindConfig.from_preset("ib-huge"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_200_781_057
    published = revert_imagebind(model)
    shapes = {key: tuple(value.shape) for key, value in published.items()}
    blocks = {"vision": 32, "text": 24, "audio": 12, "depth": 12, "thermal": 12, "imu": 6}
    for name, count in blocks.items():
        layers = {int(key.split(".")[3]) for key in shapes if key.startswith(f"modality_trunks.{name}.blocks.")}
        assert layers == set(range(count))
    expected = {
        "modality_preprocessors.vision.rgbt_stem.proj.1.weight": (1280, 3, 2, 14, 14),
        "modality_preprocessors.vision.pos_embedding_helper.pos_embed": (1, 257, 1280),
        "modality_preprocessors.vision.cls_token": (1, 1, 1280),
        "modality_preprocessors.text.token_embedding.weight": (49408, 1024),
        "modality_preprocessors.text.pos_embed": (1, 77, 1024),
        "modality_preprocessors.audio.rgbt_stem.proj.weight": (768, 1, 16, 16),
        "modality_preprocessors.audio.pos_embedding_helper.pos_embed": (1, 229, 768),
        "modality_preprocessors.depth.depth_stem.proj.weight": (384, 1, 16, 16),
        "modality_preprocessors.thermal.rgbt_stem.norm_layer.bias": (768,),
        "modality_preprocessors.imu.imu_stem.proj.weight": (512, 48),
        "modality_preprocessors.imu.pos_embed": (1, 251, 512),
        "modality_trunks.vision.pre_transformer_layer.0.weight": (1280,),
        "modality_trunks.vision.blocks.31.attn.in_proj_weight": (3840, 1280),
        "modality_trunks.text.blocks.23.mlp.fc1.weight": (4096, 1024),
        "modality_trunks.imu.blocks.5.attn.bias_k": (1, 1, 512),
        "modality_heads.text.proj.1.weight": (1024, 1024),
        "modality_heads.imu.3.weight": (1024, 512),
        "modality_heads.depth.2.weight": (1024, 384),
        "modality_postprocessors.text.1.log_logit_scale": (),
    }
    assert {key: shapes[key] for key in expected} == expected


@pytest.mark.parity
def test_ib_huge_reverts_to_the_keys_of_the_reference(imagebind_golden: tuple[Path, dict[str, Any]]) -> None:
    kinds = {_kind(key) for key in torch.load(imagebind_golden[0], weights_only=True)}
    ours = {_kind(key) for key in revert_imagebind(empty_model(CodeBindConfig.from_preset("ib-huge")))}
    constants = {key for key in kinds if key.endswith("log_logit_scale") and ".text." not in key}
    assert kinds - ours == constants | {MASK}
    assert ours <= kinds


def _kind(key: str) -> str:
    return re.sub(r"blocks\.\d+", "blocks.*", key)


@pytest.fixture(scope="module")
def converted(imagebind_golden: tuple[Path, dict[str, Any]]) -> CodeBindModel:
    return convert_imagebind(*imagebind_golden)


@pytest.mark.parity
@pytest.mark.parametrize("name", INPUTS)
def test_tokens_heads_and_embeddings_are_imagebinds(
    converted: CodeBindModel, imagebind_golden: tuple[Path, dict[str, Any]], name: str
) -> None:
    folder = imagebind_golden[0].parent
    expected = load_file(folder / "outputs.safetensors")
    with torch.no_grad():
        output = converted(**golden_inputs(folder)[name], quantize=False, output_hidden_states=True)
    (modality,) = output.embeds
    tokens = output.hidden_states[modality][-1]
    assert relative(tokens, expected[f"{name}.trunk"]) < 1e-6
    assert relative(output.embeds[modality], normalize(expected[f"{name}.output"], dim=-1)) < 1e-6
    if name != "text":
        head = converted.encoders[converted.config.modality(modality).encoder].shared_head
        assert relative(head(tokens[:, 0]), expected[f"{name}.head"]) < 1e-6


@pytest.mark.parity
def test_the_reference_file_is_reverted_bit_for_bit(
    converted: CodeBindModel, imagebind_golden: tuple[Path, dict[str, Any]]
) -> None:
    assert_reverts(converted, imagebind_golden[0])
