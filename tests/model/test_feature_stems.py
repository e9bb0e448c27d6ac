"""Towers on what another network made of the input: values, padding that changes nothing, and what is refused."""

from typing import Any

import pytest
import torch
from common import assert_same, tiny_model
from torch import Tensor
from torch.nn.functional import layer_norm, normalize

from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.modeling_codebind import CodeBindModel


WIDTH, LONGEST = 7, 5
TOWER = {"stem": "features", "num_channels": WIDTH, "hidden_size": 16, "num_attention_heads": 2}
VECTORS = {**TOWER, "input_size": [1], "num_hidden_layers": 0}
SEQUENCES = {**TOWER, "input_size": [LONGEST], "num_hidden_layers": 2, "has_position": False}
DECODER = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}


def config_of(**fields: Any) -> CodeBindConfig:
    sizes = {"shared_dim": 12, "specific_dim": 8, "code_dim": 4, "num_shared_codes": 9, "num_specific_codes": 6}
    return CodeBindConfig(**{**sizes, "initializer_range": 0.3, **fields})


def shared_of(model: CodeBindModel, **values: Tensor) -> Tensor:
    with torch.no_grad():
        return model(**values, quantize=False).pooler_output


def padded(sequence: Tensor) -> Tensor:
    return torch.cat([sequence, torch.zeros(len(sequence), LONGEST - sequence.shape[1], WIDTH)], dim=1)


def test_vectors_without_blocks_go_through_norms_and_projections_alone() -> None:
    """The tower written out: LayerNorm, projection, CLS token and position added, then the head."""
    model = tiny_model(config_of(vision_config={**VECTORS, "stem_norm": True, "stem_bias": True}))
    x, encoder = torch.randn(3, WIDTH), model.encoders["vision"]
    tower, head = encoder.tower, encoder.shared_head
    with torch.no_grad():
        token = layer_norm(x, (WIDTH,), eps=1e-6) @ tower.stem.projection.weight.T + tower.stem.projection.bias
        token = token + tower.cls_token + tower.position[0]
        shared = layer_norm(token, (16,), eps=1e-6) @ head.projection.weight.T
        specific = layer_norm(token, (16,), eps=1e-6) @ encoder.specific_head.projection.weight.T
        found = model(pixel_values=x)
    torch.testing.assert_close(found.continuous_embeds["image"], normalize(shared, dim=-1))
    torch.testing.assert_close(found.continuous_specific_embeds["image"], normalize(specific, dim=-1))


def test_a_sequence_without_blocks_is_pooled_to_the_mean_of_its_tokens() -> None:
    model = tiny_model(config_of(vision_config={**SEQUENCES, "num_hidden_layers": 0}))
    x, tower = torch.randn(3, 4, WIDTH), model.encoders["vision"].tower
    with torch.no_grad():
        expected = tower.cls_token + (x @ tower.stem.projection.weight.T).mean(1)
        torch.testing.assert_close(tower(padded(x))[-1][:, 0], expected)


@pytest.mark.parametrize("fields", [{}, {"lens_num_latents": 3, "lens_num_heads": 2, "lens_head_dim": 8}], ids=str)
@pytest.mark.parametrize("readout", ["cls", "token", "pool", "network"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_changes_nothing(fields: dict[str, Any], readout: str, attention: str) -> None:
    """The same weights on the sequence as it is, in a tower of its length, and on the padded one."""
    own = {**SEQUENCES, **fields, "specific_readout": readout}
    long = tiny_model(config_of(vision_config=own))
    short = CodeBindModel(config_of(vision_config={**own, "input_size": [3]})).eval()
    short.load_state_dict(long.state_dict())
    for model in (long, short):
        model.set_attn_implementation(attention)
    x = torch.randn(4, 3, WIDTH)
    with torch.no_grad():
        first, second = long(pixel_values=padded(x)), short(pixel_values=x)
        # One that fills its place, beside those that do not.
        mixed = long(pixel_values=torch.cat([padded(x), torch.randn(1, LONGEST, WIDTH)]))
    for name in ("continuous_embeds", "continuous_specific_embeds"):
        expected = second[name]["image"]
        torch.testing.assert_close(first[name]["image"], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mixed[name]["image"][:4], expected, rtol=1e-4, atol=1e-5)
        assert (expected[0] - expected[1]).abs().max() > 1e-2


def test_a_sequence_of_zeros_alone_gives_numbers() -> None:
    model = tiny_model(config_of(vision_config={**SEQUENCES, "lens_num_latents": 3}))
    assert shared_of(model, pixel_values=torch.zeros(2, LONGEST, WIDTH)).isfinite().all()


def test_every_modality_but_text_can_have_it() -> None:
    names = ["vision", "audio", "depth", "thermal", "tactile", "point", "eeg", "imu"]
    config = config_of(**{f"{name}_config": VECTORS for name in names}, added_encoders={"radar": SEQUENCES})
    model = tiny_model(config)
    inputs = {modality.tensor: torch.randn(2, WIDTH) for modality in config.modalities.values()}
    inputs["radar_values"] = torch.randn(2, LONGEST, WIDTH)
    with torch.no_grad():
        output = model(**inputs)
        assert list(output.embeds) == list(config.modality_names)
        for name, modality in config.modalities.items():
            alone = model.get_features(name, inputs[modality.tensor]).pooler_output
            torch.testing.assert_close(alone, output.embeds[name])
    with pytest.raises(ValueError, match="'features' for text"):
        config_of(text_config={**VECTORS, "vocab_size": 9})


def test_decoders_rebuild_vectors_and_sequences_and_every_part_learns() -> None:
    encoders = {
        "vision_config": {**VECTORS, "specific_readout": "network"},
        "audio_config": SEQUENCES,
        "eeg_config": {**SEQUENCES, "lens_num_latents": 3, "specific_readout": "pool"},
    }
    model = tiny_model(config_of(**encoders, decoder_config=DECODER, loss_weights={"recon": 1.0, "align": 1.0}))
    sequences = torch.randn(4, LONGEST, WIDTH)
    values = {"pixel_values": torch.randn(4, WIDTH), "input_features": sequences, "eeg_values": sequences}
    output = model.train()(**values, return_loss=True, output_reconstructions=True)
    for name, tensor in zip(("image", "audio", "eeg"), values.values(), strict=True):
        assert output.reconstructions[name].shape == tensor.shape
        assert torch.equal(output.reconstruction_targets[name], tensor)
    output.loss.backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
    # Keys shift all scores alike; the scale of one temperature without text and image is not asked for.
    assert [name for name in idle if not name.endswith("k_proj.bias") and "logit_scale" not in name] == []


def test_it_is_saved_with_its_weights(tmp_path: Any) -> None:
    model = tiny_model(config_of(vision_config=VECTORS, added_encoders={"radar": SEQUENCES}))
    model.save_pretrained(tmp_path)
    again = CodeBindModel.from_pretrained(tmp_path)
    assert_same(model.state_dict(), again.state_dict())
    assert again.config.encoder_configs["radar"].stem == "features"
    some = CodeBindModel.from_pretrained(tmp_path, modalities=["radar"])
    x = torch.randn(2, LONGEST, WIDTH)
    assert torch.equal(shared_of(some, radar_values=x), shared_of(model, radar_values=x))


def test_a_modality_of_features_is_added_to_a_model() -> None:
    model = tiny_model(config_of(vision_config=VECTORS))
    x = torch.randn(2, WIDTH)
    before = shared_of(model, pixel_values=x)
    model.add_modality("radar", CodeBindEncoderConfig(**SEQUENCES))
    assert torch.equal(shared_of(model, pixel_values=x), before)
    tokens = model.get_pooled_tokens("radar", torch.randn(2, LONGEST, WIDTH))
    assert tokens.shape == (2, 1, 16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_size": [4, 4]}, r"input_size: got \[4, 4\]"),
        ({"tubelet_size": 2}, "neither frames nor a grid"),
        ({"stem_widths": [8]}, "neither frames nor a grid"),
        ({"input_size": [3], "add_bias_kv": True}, "add_bias_kv"),
        ({"specific_readout": "token"}, "sees nothing"),
    ],
    ids=lambda value: str(value),
)
def test_fields_that_make_no_tower_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeBindEncoderConfig(**{**VECTORS, **fields})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(2, WIDTH + 1), r"pixel_values: got shape \(2, 8\); expected \(batch, 7\) = \(batch, features\)"),
        (torch.zeros(2, 1, WIDTH), r"expected \(batch, 7\)"),
        (torch.zeros(0, WIDTH), "1 or more"),
        (torch.zeros(2, WIDTH, dtype=torch.int64), "dtype torch.int64"),
        (torch.full((2, WIDTH), torch.nan), "14 numbers that are NaN"),
    ],
    ids=["width", "axes", "empty", "integers", "NaN"],
)
def test_inputs_that_are_no_such_features_are_refused(values: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(config_of(vision_config=VECTORS))(pixel_values=values)


def test_sequences_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(batch, 5, 7\) = \(batch, tokens, features\)"):
        tiny_model(config_of(vision_config=SEQUENCES))(pixel_values=torch.zeros(2, 3, WIDTH))
