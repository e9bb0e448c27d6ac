"""Small checkpoints in the layouts of the reference implementations, and how golden inputs are read."""

import gzip
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode


TINY: dict[str, Any] = {
    "out_embed_dim": 24,
    **{f"{name}_embed_dim": 12 for name in ("vision", "text", "audio", "depth", "thermal", "imu")},
    **{f"{name}_num_blocks": 2 for name in ("vision", "text", "audio", "depth", "thermal", "imu")},
    **{f"{name}_num_heads": 2 for name in ("vision", "text", "audio", "depth", "thermal", "imu")},
}
TINY_CODEBIND: dict[str, Any] = {
    **TINY,
    **{f"{name}_{key}": TINY[f"audio_{key}"] for name in ("tactile", "eeg") for key in ("embed_dim", "num_blocks")},
    "tactile_num_heads": 2,
    "eeg_num_heads": 2,
    "eeg_data_len": 12,
}
SCALES = {f"modality_postprocessors.{name}.1.log_logit_scale": 1.25 for name in ("audio", "depth", "thermal", "imu")}


def golden_inputs(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Arguments of `forward` by the name of a golden input; the files hold float16 to be cast."""
    tensors = load_file(folder / "inputs.safetensors")
    floats = {name: x.float() if x.is_floating_point() else x for name, x in tensors.items()}
    renamed = {
        "vision": ("pixel_values", lambda x: x),
        # (batch, clips, channels, frames, height, width) to our order of axes.
        "vision_video": ("pixel_values_videos", lambda x: x.transpose(2, 3)),
        # The reference reads five axes as clips of single frames and repeats each to fill a tubelet.
        "vision_frames": ("pixel_values_videos", lambda x: x.unsqueeze(2).expand(-1, -1, 2, -1, -1, -1)),
        "text": ("input_ids", lambda x: x),
        "audio": ("input_features", lambda x: x.squeeze(2)),
    }
    plain = {name: (f"{name}_values", lambda x: x) for name in ("depth", "thermal", "tactile", "imu", "eeg")}
    renamed |= plain
    return {name: {renamed[name][0]: renamed[name][1](x)} for name, x in floats.items() if name in renamed}


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value."""
    assert found.shape == expected.shape
    return float((found.detach() - expected).abs().max() / expected.abs().max())


def random_lora(width: int, rank: int = 3) -> dict[str, Tensor]:
    """LoRA of the last of two blocks, in the keys of the official files."""
    sizes = {
        "attn.in_proj": (width, 3 * width),
        "attn.out_proj": (width, width),
        "mlp.fc1": (width, 4 * width),
        "mlp.fc2": (4 * width, width),
    }
    tensors: dict[str, Tensor] = {}
    for name, (inputs, outputs) in sizes.items():
        tensors[f"blocks.1.{name}_lora_down"] = 0.3 * torch.randn(rank, inputs)
        tensors[f"blocks.1.{name}_lora_up"] = 0.3 * torch.randn(outputs, rank)
    return tensors


def write_merges(file: Path) -> Path:
    """A merges file with as many merges as CLIP's, of every two bytes."""
    letters = bytes_to_unicode().values()
    merges = [f"{left} {right}" for left in letters for right in letters][:48894]
    file.write_bytes(gzip.compress("\n".join(["#version", *merges]).encode()))
    return file


_CLIP = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_TOWER = {**_CLIP, "layer_norm_eps": 1e-5, "normalize_clips": False}
_TRUNK = {**_TOWER, "pre_norm": True, "input_size": [28, 28], "patch_size": [14, 14]}
_POINTS = {**_TOWER, "pre_norm": True, "input_size": [40], "num_groups": 9, "group_size": 7, "stem_dim": 10}
_LENS = {"lens_num_latents": 4, "lens_num_heads": 3, "lens_head_dim": 4, "lens_cross_head_dim": 4}
# ViT-Lens with seven small towers; every kind of tokenizer and lens that the merged file has.
SMALL_VITLENS: dict[str, Any] = {
    "shared_dim": 24,
    "specific_dim": 0,
    "num_shared_codes": 0,
    "num_specific_codes": 0,
    "align_on": "continuous",
    "initializer_range": 0.2,
    "logit_scale_init_value": 2.75,
    "text_config": {**_TOWER, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 0},
    "vision_config": _TRUNK,
    "audio_config": {
        **_TRUNK,
        **_LENS,
        "input_size": [128, 34],
        "patch_stride": [10, 10],
        "stem_position": True,
        "lens_depth": 2,
        "lens_self_blocks": 3,
    },
    "depth_config": {**_TRUNK, "stem_position": True},
    "tactile_config": _TRUNK,
    "point_config": {
        **_POINTS,
        **_LENS,
        "point_widths": [5, 6, 7, 8],
        "lens_depth": 4,
    },
    "eeg_config": {
        **_TRUNK,
        **_LENS,
        "num_channels": 5,
        "input_size": [12],
        "patch_size": [1],
        "stem_bias": True,
        "stem_position": True,
    },
}
# The point tower of bigG in small: balls, colours, fewer blocks than the image tower.
SMALL_OPENSHAPE: dict[str, Any] = {
    **{key: value for key, value in SMALL_VITLENS.items() if not key.endswith("_config")},
    "point_config": {
        **_POINTS,
        **_LENS,
        "num_hidden_layers": 1,
        "num_channels": 6,
        "point_grouping": "ball",
        "point_widths": [5, 6, 7],
        "lens_depth": 2,
    },
}
# What the shapes of their tensors do not tell.
SMALL_ARCHITECTURE: dict[str, Any] = {
    "backbone": {"heads": 2},
    "text": {"heads": 2},
    "tokenizer": {"pc": {"npoints": 40, "num_group": 9, "group_size": 7}},
}
