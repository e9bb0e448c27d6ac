"""Attention weights: against the formula, against what the attention computes inside, and of networks of others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import small_config, tiny_inputs, tiny_model
from foreign_models import foreign
from torch import Tensor

from codebind_hf.model import blocks
from codebind_hf.model.blocks import Attention
from codebind_hf.model.modeling_codebind import CodeBindModel


ALL = ("text", "image", "video", "audio", "depth", "point_cloud", "eeg", "imu")


def by_hand(attention: Attention, x: Tensor, seen: np.ndarray) -> np.ndarray:
    """softmax(q k / sqrt(d)) in float64, head by head, query by query."""

    def projected(layer: Any) -> np.ndarray:
        weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        return x.double().numpy() @ weight.T + bias

    query, key = projected(attention.q_proj), projected(attention.k_proj)
    if attention.bias_k is not None:
        bias = np.broadcast_to(attention.bias_k.detach().double().numpy(), (len(key), 1, key.shape[2]))
        key = np.concatenate([key, bias], axis=1)
    heads, size = attention.num_heads, query.shape[2] // attention.num_heads
    found = np.zeros((len(x), heads, query.shape[1], key.shape[1]))
    for sample in range(len(x)):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for place in range(query.shape[1]):
                scores = key[sample, :, part] @ query[sample, place, part] / size**0.5
                allowed = np.ones(len(scores), bool)
                allowed[: seen.shape[-1]] = seen[sample, place]
                exponents = np.where(allowed, np.exp(scores - scores[allowed].max()), 0)
                found[sample, head, place] = exponents / exponents.sum()
    return found


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_weights_are_those_of_the_formula_with_every_implementation(implementation: str) -> None:
    model = tiny_model(small_config(*ALL))
    model.set_attn_implementation(implementation)
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        output = model(**inputs, output_attentions=True, output_hidden_states=True)
    assert set(output.attentions) == set(ALL)
    for name, weights in output.attentions.items():
        tower, states = model.encoders[model.config.modality(name).encoder].tower, output.hidden_states[name]
        assert len(weights) == 2
        size = states[0].shape[1]
        seen = np.ones((len(states[0]), size, size), bool)
        if name == "text":
            seen &= np.tril(seen) & (inputs["attention_mask"].numpy() != 0)[:, None]
        for layer, state, found in zip(tower.layers, states, weights, strict=False):
            with torch.no_grad():
                expected = by_hand(layer.self_attn, layer.layer_norm1(state), seen)
            assert found.shape == expected.shape == (len(state), 2, size, size + (name == "imu"))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_weights_are_those_that_the_attention_computes_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(small_config("text", "audio"))
    model.set_attn_implementation("eager")
    inputs, inside = tiny_inputs(model.config), []
    eager = blocks.eager_attention_forward

    def watched(module: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = eager(module, *args, **kwargs)
        inside.append(weights)
        return output, weights

    monkeypatch.setattr(blocks, "eager_attention_forward", watched)
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
        alone = model.get_audio_features(inputs["input_features"], output_attentions=True)
    found = [*output.attentions["text"], *output.attentions["audio"]]
    for weights, expected in zip(found, inside, strict=False):
        torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6)
    for weights, expected in zip(alone.attentions, output.attentions["audio"], strict=True):
        assert torch.equal(weights, expected)


def test_weights_are_given_where_they_are_asked_for_alone() -> None:
    model = tiny_model(small_config("text", "image"))
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        assert model(**inputs).attentions is None
        assert model.get_text_features(inputs["input_ids"]).attentions is None
        tokens = model.get_pooled_tokens("image", inputs["pixel_values"])
        assert model(pooled_tokens={"image": tokens}, output_attentions=True).attentions == {"image": ()}
    model.set_attn_implementation("eager")
    model.config.output_attentions = True
    with torch.no_grad():
        assert set(model(**inputs).attentions) == {"text", "image", "video"}


@pytest.mark.slow
def test_a_network_of_others_gives_its_own_or_is_refused(tmp_path: Path) -> None:
    network = foreign("clip", tmp_path / "clip")
    network.set_attn_implementation("eager")
    model = CodeBindModel.from_pretrained(tmp_path / "clip")
    generator = torch.Generator().manual_seed(2)
    pictures = torch.randn(2, 3, 16, 16, generator=generator)
    ids = torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with pytest.raises(ValueError, match=r"output_attentions: CLIPModel gives none with .*'sdpa'\. Fix: .*'eager'"):
        model(pixel_values=pictures, output_attentions=True)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(pixel_values=pictures, input_ids=ids, attention_mask=mask, output_attentions=True)
        expected = {
            "image": network.vision_model(pictures, output_attentions=True).attentions,
            "text": network.text_model(ids, mask, output_attentions=True).attentions,
        }
    for name, weights in expected.items():
        assert len(weights) == len(output.attentions[name]) > 0
        for one, other in zip(weights, output.attentions[name], strict=True):
            torch.testing.assert_close(other, one)
    foreign("resnet", tmp_path / "resnet")
    with pytest.raises(ValueError, match="output_attentions: ResNetModel gives none"):
        CodeBindModel.from_pretrained(tmp_path / "resnet")(pixel_values=pictures, output_attentions=True)
