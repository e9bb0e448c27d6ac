"""Constructor arguments of the reference implementations become fields of the configuration."""

from typing import Any

import pytest
from reference_checkpoints import TINY_CODEBIND

from codebind_hf.conversion.architectures import reference_fields
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.presets import preset_fields


def test_without_arguments_it_is_the_preset() -> None:
    names = ("text", "vision", "audio", "depth", "thermal", "imu")
    expected = CodeBindConfig(**preset_fields("ib-huge")).to_dict()
    assert CodeBindConfig(**reference_fields("ib-huge", None, names)).to_dict() == expected


@pytest.mark.parametrize(
    ("argument", "value", "encoder", "field", "expected"),
    [
        ("vision_embed_dim", 64, "vision", "hidden_size", 64),
        ("text_num_blocks", 3, "text", "num_hidden_layers", 3),
        ("imu_num_heads", 4, "imu", "num_attention_heads", 4),
        ("audio_drop_path", 0.3, "audio", "drop_path_rate", 0.3),
        ("kernel_size", [4, 7, 8], "vision", "patch_size", [7, 8]),
        ("kernel_size", [4, 7, 8], "vision", "tubelet_size", 4),
        ("audio_kernel_size", 8, "audio", "patch_size", [8, 8]),
        ("audio_stride", 5, "audio", "patch_stride", [5, 5]),
        ("audio_num_mel_bins", 64, "audio", "input_size", [64, 204]),
        ("audio_target_len", 100, "audio", "input_size", [128, 100]),
        ("depth_kernel_size", 8, "depth", "patch_size", [8, 8]),
        ("imu_kernel_size", 4, "imu", "patch_size", [4]),
        ("eeg_data_len", 512, "eeg", "input_size", [512]),
        ("eeg_patch_size", 2, "eeg", "patch_size", [2]),
    ],
)
def test_every_argument_has_its_field(argument: str, value: Any, encoder: str, field: str, expected: Any) -> None:
    fields = reference_fields("codebind-ib-huge", {argument: value}, (encoder,))
    assert fields[f"{encoder}_config"][field] == expected
    CodeBindConfig(**fields)


def test_only_the_encoders_asked_for_are_kept() -> None:
    small = {name: value for name, value in TINY_CODEBIND.items() if name != "out_embed_dim"}
    fields = reference_fields("codebind-ib-huge", small, ("text", "eeg"))
    assert set(CodeBindConfig(**fields).encoder_configs) == {"text", "eeg"}


def test_an_unknown_argument_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'vision_embed_dims'. Did you mean 'vision_embed_dim'"):
        reference_fields("ib-huge", {"vision_embed_dims": 8}, ("vision",))


def test_only_arguments_of_the_encoders_there_are_are_suggested() -> None:
    with pytest.raises(ValueError, match=r"unknown argument 'eeg_data_len'\. Known: (?!.*eeg_)"):
        reference_fields("ib-huge", {"eeg_data_len": 8}, ("vision",))


def test_frames_that_contradict_the_kernel_are_refused() -> None:
    with pytest.raises(ValueError, match="video_frames.*2 frames"):
        reference_fields("ib-huge", {"video_frames": 4}, ("vision",))
