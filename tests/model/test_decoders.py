"""Decoders: sizes of what they rebuild, what they are measured against, and patches that are hidden in training."""

import pytest
import torch
from common import BATCH, small_config, tiny_inputs, tiny_model
from torch.nn.functional import interpolate

from codebind_hf.model.codebooks import Quantized
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.configuration_modalities import CodeBindDecoderConfig, CodeBindPointConfig
from codebind_hf.model.decoders import Decoder, reconstruction_target


ENCODER = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3}
OVERLAPPING = {"num_channels": 1, "input_size": [24, 34], "patch_size": [8, 8], "patch_stride": [4, 6], **ENCODER}


def decoder(encoder: CodeBindEncoderConfig, **fields: object) -> Decoder:
    config = CodeBindDecoderConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, **fields)
    config._attn_implementation = "eager"
    made = Decoder(config, encoder, embedding_dim=10, takes_tokens=False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        pytest.param({"num_channels": 2, "input_size": [40], "patch_size": [8]}, (3, 2, 20), id="signal"),
        pytest.param({"num_channels": 1, "input_size": [24, 32], "patch_size": [8, 8]}, (3, 1, 12, 16), id="picture"),
        # (5 - 1) * 2 + 4 by (5 - 1) * 3 + 4: half of the stride and of the kernel on a grid of 5 x 5.
        pytest.param(OVERLAPPING, (3, 1, 12, 16), id="overlapping"),
        pytest.param({"input_size": [16, 16], "patch_size": [8, 8], "tubelet_size": 2}, (3, 3, 2, 8, 8), id="clip"),
    ],
)
def test_a_grid_is_rebuilt_at_half_resolution(fields: dict, shape: tuple[int, ...]) -> None:
    encoder = CodeBindEncoderConfig(**{**ENCODER, **fields})
    output = decoder(encoder)(torch.randn(3, encoder.num_tokens, 10))
    assert output.shape == shape


def test_a_cloud_is_rebuilt_with_half_of_its_points() -> None:
    encoder = CodeBindPointConfig(input_size=[40], num_groups=5, group_size=4, point_widths=[4, 6, 8, 6], **ENCODER)
    assert decoder(encoder)(torch.randn(3, encoder.num_tokens, 10)).shape == (3, 20, 3)


def test_targets_are_the_input_at_the_size_of_the_output() -> None:
    picture, output = torch.randn(2, 3, 16, 16), torch.zeros(2, 3, 8, 8)
    smaller = interpolate(picture, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(reconstruction_target(picture, output, is_points=False), smaller)
    frames = reconstruction_target(picture, torch.zeros(2, 3, 2, 8, 8), is_points=False)
    torch.testing.assert_close(frames, torch.stack([smaller, smaller], dim=2))
    signal = torch.arange(8.0).expand(2, 3, 8)
    halves = reconstruction_target(signal, torch.zeros(2, 3, 4), is_points=False)
    torch.testing.assert_close(halves, torch.tensor([0.5, 2.5, 4.5, 6.5]).expand(2, 3, 4))
    cloud = torch.randn(2, 7, 3)
    assert torch.equal(reconstruction_target(cloud, torch.zeros(2, 4, 3), is_points=True), cloud)


def test_hidden_patches_leave_only_the_cls_token_and_only_in_training() -> None:
    encoder = CodeBindEncoderConfig(**{**ENCODER, "num_channels": 1, "input_size": [16], "patch_size": [4]})
    made = decoder(encoder, hide_patches=0.5)
    one = torch.randn(1, encoder.num_tokens, 10).expand(64, -1, -1)
    other = one.clone()
    other[:, 1:] += 1
    made.train()
    torch.manual_seed(0)
    first = made(one)
    torch.manual_seed(0)
    second = made(other)
    same = (first == second).flatten(1).all(1)
    # Half of 64 samples, give or take four standard deviations of 4.
    assert 16 < int(same.sum()) < 48
    made.eval()
    assert not (made(one) == made(other)).flatten(1).all(1).any()


def test_a_decoder_from_which_all_patches_are_hidden_never_sees_them() -> None:
    encoder = CodeBindEncoderConfig(**{**ENCODER, "num_channels": 1, "input_size": [16], "patch_size": [4]})
    made = decoder(encoder, hide_patches=1)
    tokens = torch.randn(2, encoder.num_tokens, 10)
    for mode in (True, False):
        made.train(mode)
        torch.testing.assert_close(made(tokens), made(tokens[:, :1]))
    half = decoder(encoder, hide_patches=0.5)
    half.load_state_dict(made.state_dict())
    torch.testing.assert_close(half.eval()(tokens[:, :1]), made(tokens))


@pytest.mark.parametrize("recon", [0.0, 1.0])
def test_with_all_patches_hidden_only_embeddings_are_quantized(recon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(
        "text", "depth", specific_dim=24, decoder_config={"hide_patches": 1.0}, loss_weights={"recon": recon}
    )
    model = tiny_model(config).train()
    inputs = tiny_inputs(config)
    found: list[Quantized] = []
    monkeypatch.setattr(model.codebooks, "update", lambda chosen: found.extend(value for _, _, value in chosen))
    output = model(**inputs, return_loss=True)
    # Text has no specific part; of the other, the shared and the specific one.
    assert [value.ids.numel() for value in found] == [BATCH * 24 // config.code_dim] * 3
    assert ("recon" in output.loss_terms) == bool(recon)
    made = model.eval()(depth_values=inputs["depth_values"], output_reconstructions=True)
    decoded = model.decode(made.embeds["depth"], made.specific_embeds["depth"], modality="depth")
    torch.testing.assert_close(made.reconstructions["depth"], decoded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_of_hidden_patches_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="hide_patches"):
        CodeBindDecoderConfig(hide_patches=share)


@pytest.mark.parametrize("quantize_specific", [True, False])
def test_released_decoders_see_both_parts_at_the_length_of_their_segments(quantize_specific: bool) -> None:
    """One norm over both parts: a specific part of length 1 beside segments of length 1 would hardly be seen."""
    config = small_config("depth", decoder_inputs="codes+tokens", quantize_specific=quantize_specific)
    model = tiny_model(config)
    seen: list[torch.Tensor] = []
    model.decoders["depth"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(**tiny_inputs(config), output_reconstructions=True)
    shared, specific = seen[0].split([24, 20], dim=-1)
    torch.testing.assert_close(seen[0].norm(dim=-1), torch.ones(seen[0].shape[:2]))
    ratio = shared.norm(dim=-1) / specific.norm(dim=-1)
    torch.testing.assert_close(ratio, torch.full_like(ratio, (24 / 20) ** 0.5))


def test_electrodes_are_rebuilt_from_the_latents_of_a_lens_at_full_length() -> None:
    """Patches of one sample have no half: ViT-Lens's EEG is rebuilt as long as it is."""
    lens = {"lens_num_latents": 6, "lens_num_heads": 3, "lens_head_dim": 4, "lens_cross_head_dim": 4}
    encoder = CodeBindEncoderConfig(num_channels=5, input_size=[32], patch_size=[1], **lens, **ENCODER)
    made = decoder(encoder)
    output = made(torch.randn(3, encoder.num_tokens, 10))
    assert output.shape == (3, 5, 32)
    assert made.head.spread.weight.shape == (32, 6)
    recording = torch.randn(3, 5, 32)
    assert torch.equal(reconstruction_target(recording, output, is_points=False), recording)


def test_coloured_clouds_are_rebuilt_with_their_colours() -> None:
    encoder = CodeBindPointConfig(
        input_size=[40],
        num_groups=5,
        group_size=4,
        num_channels=6,
        point_grouping="ball",
        point_widths=[4, 6],
        **ENCODER,
    )
    assert decoder(encoder)(torch.randn(3, encoder.num_tokens, 10)).shape == (3, 20, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["point_cloud", "eeg"])
def test_a_decoder_of_a_lens_learns_its_input(name: str) -> None:
    """A recording and a cloud, from the codes of a lens's latents: the error falls to a quarter of the start's."""
    lens = {"lens_num_latents": 6, "lens_num_heads": 2, "lens_head_dim": 8, "lens_cross_head_dim": 8}
    shape = {"eeg_config": {"input_size": [24], "patch_size": [1], "patch_stride": [1], **lens}, "point_config": lens}
    weights = {"align": 0.0, "recon": 1.0}
    model = tiny_model(small_config("text", name, **shape, loss_weights=weights, code_dim=2)).train()
    inputs = tiny_inputs(model.config)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    errors = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = model(**inputs, return_loss=True).loss_terms["recon"]
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < errors[0] / 4
