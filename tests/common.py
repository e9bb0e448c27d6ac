"""The tiny model of the tests and inputs for it. Every axis has a size of its own, so that swapped axes fail."""

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.modalities import Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.presets import merge_fields


BATCH = 3
CLIPS = {"video": 2, "audio": 2}
ALL_TERMS = ("align", "seg", "recon", "orth", "decorr", "uni", "commit", "cm", "cctr", "cuni")
EOS, PAD = 1, 2


def _tower(**fields: Any) -> dict[str, Any]:
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    return {**tower, **fields}


_TINY: dict[str, Any] = {
    "shared_dim": 24,
    "specific_dim": 20,
    "code_dim": 4,
    "num_shared_codes": 16,
    "num_specific_codes": 10,
    "initializer_range": 0.2,
    "logit_scale_init_value": 1.5,
    "text_config": _tower(vocab_size=50, max_position_embeddings=12),
    "vision_config": _tower(input_size=[16, 24], patch_size=[8, 8], tubelet_size=2),
    "audio_config": _tower(input_size=[14, 18], patch_size=[6, 6], patch_stride=[4, 4], stem_norm=True),
    "depth_config": _tower(input_size=[16, 32], patch_size=[8, 8], stem_widths=[6]),
    "thermal_config": _tower(input_size=[8, 20], patch_size=[4, 5], stem_bias=True),
    "tactile_config": _tower(input_size=[18, 12], patch_size=[6, 6], pre_norm=True, stem_position=True),
    "point_config": _tower(
        input_size=[40],
        num_groups=9,
        group_size=7,
        point_widths=[8, 12, 16, 11],
        stem_dim=22,
        lens_num_latents=5,
        lens_num_heads=2,
        lens_head_dim=8,
        lens_cross_head_dim=6,
    ),
    "eeg_config": _tower(num_channels=5, input_size=[33], patch_size=[3], patch_stride=[3]),
    "imu_config": _tower(num_channels=6, input_size=[28], patch_size=[7], add_bias_kv=True),
    "decoder_config": {
        "hidden_size": 28,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 36,
    },
}


def tiny_config(**overrides: Any) -> CodeBindConfig:
    """Every encoder, 2 blocks of width 32, 16 codes of width 4; nested overrides merge key by key."""
    return CodeBindConfig(**merge_fields(_TINY, overrides))


def small_config(*modalities: str, **overrides: Any) -> CodeBindConfig:
    """`tiny_config` with only the encoders that these modalities need."""
    return tiny_config(**overrides).restricted_to(modalities)


def tiny_model(config: CodeBindConfig | None = None, **overrides: Any) -> CodeBindModel:
    """A fresh model in evaluation mode; the same weights whenever it is made."""
    torch.manual_seed(0)
    return CodeBindModel(config or tiny_config(**overrides)).eval()


def tiny_inputs(config: CodeBindConfig, batch: int = BATCH, seed: int = 1) -> dict[str, Tensor]:
    """Random tensors for every modality of `config`: the keyword arguments of `forward`."""
    generator = torch.Generator().manual_seed(seed)
    inputs: dict[str, Tensor] = {}
    for name, modality in config.modalities.items():
        encoder = config.encoder_configs[modality.encoder]
        if name == "text":
            inputs |= text_inputs(encoder, batch, generator)
        else:
            inputs[modality.tensor] = torch.randn(batch, *input_shape(modality, encoder), generator=generator)
    return inputs


def text_inputs(encoder: CodeBindEncoderConfig, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts of 4, 5, 6, ... tokens, the last of them the end token, padded to the longest."""
    longest = min(batch + 3, encoder.max_position_embeddings)
    ids = torch.randint(3, encoder.vocab_size, (batch, longest), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(batch):
        length = min(row + 4, longest)
        ids[row, length - 1] = EOS
        ids[row, length:] = PAD
        mask[row, length:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def input_shape(modality: Modality, encoder: CodeBindEncoderConfig) -> tuple[int, ...]:
    clips = CLIPS.get(modality.name, 1)
    if modality.name == "video":
        return (clips, encoder.tubelet_size, encoder.num_channels, *encoder.input_size)
    if modality.name == "audio":
        return (clips, *encoder.input_size)
    if encoder.stem == "points":
        return (*encoder.input_size, encoder.num_channels)
    return (encoder.num_channels, *encoder.input_size)


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Random unit vectors along the last axis."""
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def buffers_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of every buffer."""
    return {name: value.clone() for name, value in module.named_buffers()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Bit for bit equal tensors under the same names."""
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def free_port() -> int:
    """A port of this machine for processes that meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_a_fork(check: Callable[[], None]) -> None:
    """Run a check in a copy of this process.

    Where a worker dies, torch raises out of a signal handler, wherever the main thread is: also in the middle of a
    lock's release, which other threads would then wait for.
    """
    process = multiprocessing.get_context("fork").Process(target=check)
    process.start()
    process.join(100)
    assert process.exitcode == 0, f"exit code {process.exitcode}; what was wrong stands on the error output"
