"""`model.decode`: one embedding of each part, of whatever items, to what a modality's decoder makes of it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import BATCH, small_config, tiny_inputs, tiny_model
from torch import Tensor

from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.outputs import CodeBindOutput
from codebind_hf.processing.processing_codebind import CodeBindProcessor


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    return tiny_model(small_config("text", "image", "depth", "point_cloud", specific_readout="token"))


@pytest.fixture(scope="module")
def output(model: CodeBindModel) -> CodeBindOutput:
    with torch.no_grad():
        return model(**tiny_inputs(model.config), output_reconstructions=True)


def only_the_first_token(model: CodeBindModel, embedding: Tensor, encoder: str) -> Tensor:
    """The decoder as it is in training where the patches of a sample are hidden."""
    decoder = model.decoders[encoder]
    tokens = torch.zeros(len(embedding), model.config.encoder_configs[encoder].num_tokens, embedding.shape[1])
    tokens[:, 0] = embedding
    x = decoder.input_projection(tokens)
    x[:, 1:] = 0
    x = decoder.embed(x) + decoder.position
    for layer in decoder.layers:
        x = layer(x)
    return decoder.head(decoder.norm(x)[:, 1:])


@torch.no_grad()
@pytest.mark.parametrize(("modality", "encoder"), [("image", "vision"), ("depth", "depth"), ("point_cloud", "point")])
def test_decoding_is_what_the_decoder_makes_of_hidden_patches(
    model: CodeBindModel, output: CodeBindOutput, modality: str, encoder: str
) -> None:
    shared, specific = output.embeds[modality], output.specific_embeds[modality]
    found = model.decode(shared, specific, modality=modality)
    assert found.shape == output.reconstructions[modality].shape
    expected = only_the_first_token(model, torch.cat([shared, specific], dim=1), encoder)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_codes_decode_to_the_bits_of_their_embeddings(model: CodeBindModel, output: CodeBindOutput) -> None:
    embeds = model.decode(output.embeds["depth"], output.specific_embeds["depth"], modality="depth")
    codes = output.codes["depth"]
    assert torch.equal(model.decode(codes.shared, codes.specific, modality="depth"), embeds)


@torch.no_grad()
def test_parts_of_different_items_and_modalities_meet(model: CodeBindModel, output: CodeBindOutput) -> None:
    """The shared part of a text beside the specific part of another item's depth; both change the answer."""
    own = output.specific_embeds["depth"]
    crossed = model.decode(output.embeds["text"], own.flip(0), modality="depth")
    assert crossed.shape == output.reconstructions["depth"].shape
    for shared, specific in ((output.embeds["depth"], own.flip(0)), (output.embeds["text"], own)):
        assert not torch.allclose(crossed, model.decode(shared, specific, modality="depth"), atol=1e-4)


@torch.no_grad()
def test_length_does_not_matter_and_gradients_reach_both_parts(model: CodeBindModel, output: CodeBindOutput) -> None:
    shared, specific = output.continuous_embeds["depth"], output.continuous_specific_embeds["depth"]
    once = model.decode(shared, specific, modality="depth")
    torch.testing.assert_close(model.decode(3 * shared, specific / 5, modality="depth"), once, rtol=1e-4, atol=1e-5)
    with torch.enable_grad():
        parts = [part.clone().requires_grad_() for part in (shared, specific)]
        model.decode(*parts, modality="depth").square().sum().backward()
    assert all(part.grad.abs().max() > 0 for part in parts)


@torch.no_grad()
def test_without_a_specific_part_the_shared_one_is_enough() -> None:
    model = tiny_model(small_config("image", "depth", specific_dim=0))
    shared = model(**tiny_inputs(model.config)).embeds["depth"]
    assert model.decode(shared, modality="depth").shape == (BATCH, 1, 8, 16)
    with pytest.raises(ValueError, match="specific: got one; depth has 0"):
        model.decode(shared, shared, modality="depth")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(
            {"modality": "text"}, "modality: 'text' has no decoder; encoders with one: vision, depth", id="text"
        ),
        pytest.param({"modality": "audio"}, "modality: 'audio' is not in this checkpoint", id="absent"),
        pytest.param({"specific": None}, "specific: got none; depth has 20", id="no-specific"),
        pytest.param({"shared": torch.zeros(2, 23)}, r"shared: got \(2, 23\); expected embeddings", id="width"),
        pytest.param({"shared": torch.zeros(2, 24, 1)}, r"shared: got \(2, 24, 1\)", id="axes"),
        pytest.param({"shared": [0.0]}, "shared: got list", id="list"),
        pytest.param({"specific": torch.zeros(3, 20)}, "shared, specific: got 2 and 3 items", id="batch"),
        pytest.param({"shared": torch.full((2, 6), 99)}, r"ids: got values in \[99, 99\]", id="codes"),
        pytest.param(
            {"specific": torch.zeros(2, 6).long()}, r"specific: got \(2, 6\); .* or codes \(batch, 5\)", id="ids"
        ),
    ],
)
def test_a_wrong_argument_is_named(model: CodeBindModel, arguments: dict[str, Any], named: str) -> None:
    good = {"shared": torch.ones(2, 24), "specific": torch.ones(2, 20), "modality": "depth"}
    assert model.decode(**good).shape[0] == 2
    with pytest.raises(ValueError, match=named):
        model.decode(**{**good, **arguments})


def test_the_example_of_the_docs_runs(model: CodeBindModel) -> None:
    text = (Path(__file__).parents[2] / "docs" / "decoupling.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    config = model.config
    names: dict[str, Any] = {
        "model": model,
        "processor": CodeBindProcessor.from_model_config(config.restricted_to(["image"]), None),
        "torch": torch,
    }
    size = config.vision_config.input_size
    names["pictures"] = [np.full((*size, 3), level, dtype=np.uint8) for level in (10, 200)]
    exec(compile(block, "decoupling.md", "exec"), names)
    assert names["mixed"].shape[:2] == (2, 3)


def test_a_decoder_of_tokens_is_refused() -> None:
    model = tiny_model(small_config("depth", decoder_inputs="codes+tokens"))
    with pytest.raises(ValueError, match="output_reconstructions=True"):
        model.decode(torch.ones(1, 24), torch.ones(1, 20), modality="depth")
