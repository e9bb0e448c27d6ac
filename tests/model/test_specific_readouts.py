"""What the specific head reads: as the released code does, a token of its own, or the other tokens."""

from typing import Any

import pytest
import torch
from common import BATCH, small_config, tiny_config, tiny_inputs, tiny_model
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.heads import Encoder
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training.freezing import train_only, trainable_parts


OWN = ("token", "pool", "network")
own_readouts = pytest.mark.parametrize("readout", OWN)


def model_with(readout: str, **overrides: Any) -> CodeBindModel:
    return tiny_model(tiny_config(specific_readout=readout, **overrides))


def expected_readout(encoder: Encoder, readout: str, values: Tensor) -> Tensor:
    """Written out with the modules of the tower: what the specific head is to see, `(batch, width)`."""
    states = encoder.tower(values)
    if readout == "network":
        return encoder.specific_readout.network(values)[-1][:, 0]
    if readout == "pool":
        return sum(states[-1][:, position] for position in range(1, states[-1].shape[1])) / (states[-1].shape[1] - 1)
    own = encoder.specific_readout.token.expand(len(values), 1, -1)
    for layer, others in zip(encoder.tower.layers, states, strict=False):
        seen = layer.layer_norm1(torch.cat([others, own], dim=1))
        attention = layer.self_attn
        query, key, value = attention.q_proj(seen[:, -1:]), attention.k_proj(seen), attention.v_proj(seen)
        if attention.bias_k is not None:
            key, value = (
                torch.cat([x, bias.expand(len(values), 1, -1)], dim=1)
                for x, bias in ((key, attention.bias_k), (value, attention.bias_v))
            )
        heads = []
        for head in range(attention.num_heads):
            part = slice(head * 16, head * 16 + 16)
            weights = (query[..., part] @ key[..., part].transpose(1, 2) / 4).softmax(-1)
            heads.append(weights @ value[..., part])
        own = own + attention.out_proj(torch.cat(heads, dim=-1))
        own = own + layer.mlp(layer.layer_norm2(own))
    return own[:, 0]


@own_readouts
@pytest.mark.parametrize("modality", ["depth", "point_cloud", "eeg", "imu"])
def test_the_specific_part_is_that_of_the_read_out_written_out(readout: str, modality: str) -> None:
    model = model_with(readout)
    tensor = model.config.modality(modality).tensor
    values = tiny_inputs(model.config)[tensor]
    encoder = model.encoders[model.config.modality(modality).encoder]
    expected = encoder.specific_head(expected_readout(encoder, readout, values))
    output = model(**{tensor: values})
    torch.testing.assert_close(
        output.continuous_specific_embeds[modality], normalize(expected, dim=-1), rtol=1e-4, atol=1e-5
    )


@own_readouts
def test_the_shared_part_is_the_same_bits_with_and_without_a_read_out(readout: str) -> None:
    released, model = model_with("cls"), model_with(readout)
    model.load_state_dict(released.state_dict(), strict=False)
    inputs = tiny_inputs(model.config)
    # Read from one token, the two parts of several clips are normalized jointly.
    inputs |= {name: inputs[name][:, :1] for name in ("pixel_values_videos", "input_features")}
    found, expected = model(**inputs), released(**inputs)
    for name, value in expected.embeds.items():
        assert torch.equal(found.embeds[name], value), name
        assert name == "text" or not torch.equal(found.specific_embeds[name], expected.specific_embeds[name])


@own_readouts
def test_who_wants_the_shared_part_does_not_pay_for_the_specific_one(
    readout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_with(readout)
    for part in (model.encoders["audio"].specific_head, model.encoders["audio"].specific_readout):
        monkeypatch.setattr(part, "forward", None)
    features = tiny_inputs(model.config)["input_features"]
    assert features.shape[1] == 2
    assert model.get_audio_features(features).pooler_output.shape == (BATCH, 24)


@own_readouts
def test_clips_are_normalized_by_part_and_then_averaged(readout: str) -> None:
    model = model_with(readout)
    features, encoder = tiny_inputs(model.config)["input_features"], model.encoders["audio"]
    clips = [encoder.specific_head(expected_readout(encoder, readout, x.unsqueeze(1))) for x in features.unbind(1)]
    expected = normalize(sum(normalize(clip, dim=-1) for clip in clips), dim=-1)
    found = model(input_features=features).continuous_specific_embeds["audio"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_encoder_may_have_a_read_out_of_its_own() -> None:
    config = small_config("depth", "eeg", eeg_config={"specific_readout": "token"})
    assert [config.specific_readout_of(name) for name in ("depth", "eeg")] == ["cls", "token"]
    names = [name for name, _ in tiny_model(config).named_parameters() if "specific_readout" in name]
    assert names == ["encoders.eeg.specific_readout.token"]
    assert CodeBindConfig.from_dict(config.to_dict()).specific_readout_of("eeg") == "token"


def test_text_and_models_without_specific_part_have_no_read_out() -> None:
    assert not any(
        "readout" in name for name in tiny_model(small_config("text", specific_readout="token")).state_dict()
    )
    config = small_config("eeg", specific_readout="token", specific_dim=0)
    assert not any("readout" in name for name in tiny_model(config).state_dict())


def test_an_added_modality_has_the_read_out_of_the_model() -> None:
    model = tiny_model(small_config("text", "image", specific_readout="token"))
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model.add_modality("radar", CodeBindEncoderConfig(num_channels=5, input_size=[33], patch_size=[3], **tower))
    assert model.encoders["radar"].specific_readout.token.abs().max() > 0
    assert model(radar_values=torch.randn(2, 5, 33)).specific_embeds["radar"].shape == (2, 20)


def test_a_token_beside_a_frozen_tower_learns_and_leaves_the_tower_alone() -> None:
    model = model_with("token", loss_weights={"recon": 1.0})
    train_only(model, ["depth"], mode="heads")
    inputs = {name: tiny_inputs(model.config)[name] for name in ("pixel_values", "depth_values")}
    before = model.eval()(**inputs)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    model.train()(**inputs, return_loss=True).loss.backward()
    token = model.encoders["depth"].specific_readout.token
    assert token.grad.abs().max() > 1e-6
    assert all(parameter.grad is None for parameter in model.encoders["depth"].tower.layers.parameters())
    optimizer.step()
    after = model.eval()(**inputs)
    # The codes of the shared book move while training; what comes before them does not.
    assert torch.equal(before.continuous_embeds["image"], after.continuous_embeds["image"])
    moved = after.continuous_specific_embeds["depth"] - before.continuous_specific_embeds["depth"]
    assert moved.abs().max() > 1e-4
    assert trainable_parts(model)["specific_heads"] == 32 * 2 + 20 * 32 + 32


@pytest.mark.parametrize("readout", ["token", "network"])
def test_gradient_checkpointing_changes_nothing_of_a_read_out(readout: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = model_with(readout, loss_weights={"recon": 1.0}).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        inputs = {name: tiny_inputs(model.config)[name] for name in ("pixel_values", "depth_values")}
        model(**inputs, return_loss=True).loss.backward()
        gradients.append({name: x.grad for name, x in model.named_parameters() if x.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-5, atol=1e-7)


def test_a_network_has_as_many_blocks_as_its_encoder_says_and_attends_as_it_does() -> None:
    config = small_config(
        "depth",
        "eeg",
        specific_readout="network",
        eeg_config={"specific_num_hidden_layers": 2, "num_hidden_layers": 3},
    )
    model = tiny_model(config)
    networks = {name: encoder.specific_readout.network for name, encoder in model.encoders.items()}
    assert {name: len(network.layers) for name, network in networks.items()} == {"depth": 1, "eeg": 2}
    model.set_attn_implementation("eager")
    assert {network.config._attn_implementation for network in networks.values()} == {"eager"}
    inputs = tiny_inputs(config)
    eager = model(**inputs).continuous_specific_embeds
    model.set_attn_implementation("sdpa")
    assert {network.layers[0].self_attn.config._attn_implementation for network in networks.values()} == {"sdpa"}
    for name, value in model(**inputs).continuous_specific_embeds.items():
        torch.testing.assert_close(value, eager[name], rtol=1e-4, atol=1e-5)


def test_a_network_and_its_tower_teach_each_other_nothing() -> None:
    weights = {"loss_weights": {"align": 0.0, "recon": 1.0}, "reconstruction_gradient": "specific"}
    model = model_with("network", **weights).train()
    inputs = {name: tiny_inputs(model.config)[name] for name in ("pixel_values", "depth_values")}
    model(**inputs, return_loss=True).loss.backward()
    encoder = model.encoders["depth"]
    own = [parameter.grad for parameter in encoder.specific_readout.network.layers.parameters()]
    assert all(gradient is not None for gradient in own)
    # The decoder also sees tokens of the tower, as codes of the shared part, which pass nothing back.
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in encoder.tower.parameters())


@pytest.mark.parametrize("route", ["both", "specific"])
def test_nothing_is_decoded_where_the_shared_head_learns_alone(route: str) -> None:
    model = model_with("network", loss_weights={"recon": 1.0}, reconstruction_gradient=route).train()
    train_only(model, ["depth"], bridges=["image"], bridge_mode="shared_heads")
    found: list[str] = []
    for name, decoder in model.decoders.items():
        decoder.register_forward_hook(lambda *_, name=name: found.append(name))
    inputs = {name: tiny_inputs(model.config)[name] for name in ("pixel_values", "depth_values")}
    model(**inputs, return_loss=True)
    assert found == ["depth"]


def test_reconstruction_teaches_the_parts_that_it_may() -> None:
    for route, reaches in (("both", True), ("specific", False)):
        model = model_with("token", loss_weights={"align": 0.0, "recon": 1.0}, reconstruction_gradient=route).train()
        inputs = {name: tiny_inputs(model.config)[name] for name in ("pixel_values", "depth_values")}
        model(**inputs, return_loss=True).loss.backward()
        head = model.encoders["depth"].shared_head.projection.weight
        assert (head.grad is not None and bool(head.grad.abs().max() > 0)) == reaches
        assert model.encoders["depth"].specific_head.projection.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"specific_readout": "mean"}, "specific_readout: got 'mean'", id="read-out"),
        pytest.param({"eeg_config": {"specific_readout": "patches"}}, "specific_readout: got 'patches'", id="encoder"),
        pytest.param({"reconstruction_gradient": "shared"}, "reconstruction_gradient: got 'shared'", id="gradient"),
    ],
)
def test_a_wrong_choice_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(Exception, match=named):
        small_config("eeg", **fields)
