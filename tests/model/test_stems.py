"""Stems: order of patches, convolutions, positions; and the lens behind them."""

import pytest
import torch
from common import small_config, tiny_model
from torch import nn

from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.stems import PatchStem, build_stem
from codebind_hf.model.towers import Tower


def patch_stem(**fields: object) -> PatchStem:
    """A stem whose single output channel is the sum of a patch."""
    config = {"hidden_size": 1, "num_attention_heads": 1, "num_channels": 1, **fields}
    stem = PatchStem(CodeBindEncoderConfig(**config))
    nn.init.ones_(stem.projection.weight)
    return stem


# Patches


def test_patches_come_row_by_row() -> None:
    picture = torch.zeros(1, 1, 4, 6)
    for row in range(2):
        for column in range(3):
            picture[0, 0, 2 * row, 2 * column] = 10 * row + column
    tokens = patch_stem(input_size=[4, 6], patch_size=[2, 2])(picture)
    assert tokens[0, :, 0].tolist() == [0, 1, 2, 10, 11, 12]


def test_patches_of_a_signal_come_in_time_and_may_overlap() -> None:
    tokens = patch_stem(input_size=[6], patch_size=[3], patch_stride=[1])(torch.arange(6.0).view(1, 1, 6))
    assert tokens[0, :, 0].tolist() == [3, 6, 9, 12]


def test_spectrogram_patches_have_frequency_first() -> None:
    spectrogram = torch.zeros(1, 1, 4, 6)
    spectrogram[0, 0, 3] = 1
    tokens = patch_stem(input_size=[4, 6], patch_size=[2, 3])(spectrogram)
    assert tokens[0, :, 0].tolist() == [0, 0, 3, 3]


def test_a_picture_is_repeated_to_fill_one_tubelet() -> None:
    stem = patch_stem(input_size=[2, 2], patch_size=[2, 2], tubelet_size=3)
    picture = torch.randn(1, 1, 2, 2)
    torch.testing.assert_close(stem(picture)[0, 0, 0], 3 * picture.sum())
    torch.testing.assert_close(stem(picture), stem(picture.unsqueeze(2).expand(-1, -1, 3, -1, -1)))


def test_frames_of_a_tubelet_have_weights_of_their_own() -> None:
    stem = patch_stem(input_size=[2, 2], patch_size=[2, 2], tubelet_size=2)
    stem.projection.weight.data[:, :, 1] = 10
    video = torch.zeros(1, 1, 2, 2, 2)
    video[:, :, 1, 0, 0] = 1
    assert stem(video).item() == 10


@pytest.mark.parametrize(
    ("fields", "shape", "tokens"),
    [
        ({"input_size": [32, 16], "patch_size": [8, 8], "stem_widths": [3, 5]}, (2, 3, 32, 16), 8),
        ({"input_size": [32, 16], "patch_size": [8, 4], "stem_widths": [5], "tubelet_size": 2}, (2, 3, 32, 16), 16),
        ({"input_size": [40], "patch_size": [8], "patch_stride": [4], "stem_widths": [3, 5]}, (2, 3, 40), 9),
        ({"input_size": [14, 18], "patch_size": [6, 6], "patch_stride": [4, 4]}, (2, 3, 14, 18), 12),
    ],
)
def test_a_stem_gives_as_many_tokens_as_its_configuration_says(
    fields: dict, shape: tuple[int, ...], tokens: int
) -> None:
    config = CodeBindEncoderConfig(hidden_size=12, num_attention_heads=2, stem_norm=True, stem_position=True, **fields)
    stem = build_stem(config)
    assert config.num_stem_tokens == tokens
    assert stem(torch.randn(shape)).shape == (2, tokens, 12)


def test_convolutions_never_mix_the_frames_of_a_tubelet() -> None:
    config = CodeBindEncoderConfig(
        hidden_size=4, num_attention_heads=2, input_size=[8, 8], patch_size=[4, 4], stem_widths=[3], tubelet_size=2
    )
    convolution = build_stem(config).convolutions[0]
    video = torch.randn(1, 3, 2, 8, 8)
    changed = video.clone()
    changed[:, :, 1] += 1
    torch.testing.assert_close(convolution(video)[:, :, 0], convolution(changed)[:, :, 0])
    assert convolution(video).shape == (1, 3, 2, 4, 4)


def test_a_picture_passes_convolutions_once_and_gives_what_equal_frames_give() -> None:
    config = CodeBindEncoderConfig(
        hidden_size=4, num_attention_heads=2, input_size=[8, 8], patch_size=[4, 4], stem_widths=[3], tubelet_size=2
    )
    stem, picture = build_stem(config), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(stem(picture), stem(picture.unsqueeze(2).expand(-1, -1, 2, -1, -1)))
    shapes = []
    stem.convolutions.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    stem(picture)
    assert shapes == [(2, 3, 1, 8, 8)]


def test_a_stem_position_is_added_to_every_token() -> None:
    config = CodeBindEncoderConfig(
        hidden_size=4, num_attention_heads=2, input_size=[8, 8], patch_size=[4, 4], stem_position=True
    )
    stem, x = build_stem(config), torch.randn(2, 3, 8, 8)
    before = stem(x)
    stem.position.data.copy_(torch.arange(16.0).view(4, 4))
    torch.testing.assert_close(stem(x) - before, torch.arange(16.0).view(4, 4).expand(2, -1, -1))


def test_a_tower_puts_cls_first_and_adds_positions_to_all_tokens() -> None:
    tower = tiny_model(small_config("thermal")).encoders["thermal"].tower
    assert isinstance(tower, Tower)
    tower.position.data[0] += 5
    tower.position.data[1:] += 3
    x = torch.randn(2, 1, 8, 20)
    tokens = tower.embed(x)
    torch.testing.assert_close(tokens[:, 1:], tower.stem(x) + tower.position[1:])
    torch.testing.assert_close(tokens[0, 0], tower.cls_token + tower.position[0])


def test_a_tower_may_do_without_positions() -> None:
    model = tiny_model(small_config("eeg", eeg_config={"has_position": False}))
    assert model.encoders["eeg"].tower.position is None
    x = torch.randn(1, 5, 33)
    shuffled = x.view(1, 5, 11, 3).flip(2).reshape(1, 5, 33)
    first, second = (model.get_eeg_features(y, quantize=False).pooler_output for y in (x, shuffled))
    torch.testing.assert_close(first, second)


# Lens


def test_a_lens_gives_its_latents_whatever_the_number_of_tokens() -> None:
    lens = tiny_model(small_config("point_cloud")).encoders["point"].tower.lens
    few, many = lens(torch.randn(2, 3, 22)), lens(torch.randn(2, 50, 22))
    assert few.shape == many.shape == (2, 5, 32)
    assert len(lens.stages) == 1
    assert len(lens.stages[0]) == 2


def test_a_lens_does_not_see_the_order_of_its_tokens() -> None:
    lens = tiny_model(small_config("point_cloud")).encoders["point"].tower.lens
    tokens = torch.randn(2, 9, 22)
    torch.testing.assert_close(lens(tokens), lens(tokens.flip(1)))


def test_the_gate_of_a_lens_is_the_second_half() -> None:
    """perceiver-pytorch: value, gate = chunk(2); value * gelu(gate)."""
    mlp = tiny_model(small_config("point_cloud")).encoders["point"].tower.lens.stages[0][0].mlp
    x = torch.randn(2, 5, 32)
    hidden = mlp.fc1(x)
    expected = mlp.fc2(hidden[..., :128] * nn.functional.gelu(hidden[..., 128:]))
    torch.testing.assert_close(mlp(x), expected)
