"""Named architectures, as data: what `CodeBindConfig.from_preset` builds."""

from copy import deepcopy
from typing import Any


_TINY_TOWER: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "layer_norm_eps": 1e-6,
    "pre_norm": True,
    "dropout": 0.1,
}


def _tiny(**fields: Any) -> dict[str, Any]:
    return {**_TINY_TOWER, **fields}


def _picture(**fields: Any) -> dict[str, Any]:
    """A 32 x 32 picture in 16 patches. Convolutions first: images learn in fewer steps."""
    return _tiny(**{"input_size": [32, 32], "patch_size": [8, 8], "stem_widths": [24, 48], **fields})


# Defaults of tiny follow measurements on NineSenses and on the study it was designed after, not the paper's table:
# alignment on the continuous embedding with the codes learning beside it, short codes, a heavier image pair, and a
# specific part with a network of its own, which keeps what the shared part drops (docs/decoupling.md).
_TINY: dict[str, Any] = {
    "shared_dim": 64,
    "specific_dim": 64,
    "code_dim": 4,
    "num_shared_codes": 256,
    "num_specific_codes": 128,
    "align_on": "continuous",
    "quantize_specific": True,
    "even_segments": True,
    "specific_readout": "network",
    "initializer_range": 0.08,
    "logit_scale_init_value": 2.0,
    "loss_weights": {"recon": 20.0, "decorr": 15.0, "views": 3.0, "uni": 0.05, "commit": 0.5},
    "pair_weights": {"image": 3.0, "text": 1.0, "bridge": 1.0},
    "text_config": _tiny(vocab_size=1024, max_position_embeddings=64, dropout=0.0),
    "vision_config": _picture(num_channels=3, tubelet_size=2, dropout=0.0),
    "audio_config": _picture(num_channels=1, input_size=[64, 64], patch_size=[16, 8], patch_stride=[16, 8]),
    "depth_config": _picture(num_channels=1),
    "thermal_config": _picture(num_channels=1),
    "tactile_config": _picture(num_channels=3),
    "point_config": _tiny(
        input_size=[256], num_groups=32, group_size=16, point_widths=[16, 32, 64, 64], has_position=False
    ),
    "eeg_config": _tiny(input_size=[128], patch_size=[8], num_channels=16, stem_widths=[32, 48]),
    "imu_config": _tiny(input_size=[128], patch_size=[8], num_channels=6, stem_widths=[32, 48]),
    "decoder_config": {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 192,
        "hide_patches": 1.0,
    },
}


def _imagebind_tower(width: int, blocks: int, heads: int, **fields: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "layer_norm_eps": 1e-6,
        "stem_norm_eps": 1e-5,
        **fields,
    }


def _imagebind_target(width: int, blocks: int, heads: int, **fields: Any) -> dict[str, Any]:
    """A tower that ImageBind bound to its image-text bridge: a norm after the stem, a learned key and value."""
    return _imagebind_tower(width, blocks, heads, stem_norm=True, add_bias_kv=True, **fields)


# facebookresearch/ImageBind@53680b0 imagebind_model.py, imagebind_huge: 1.2 billion parameters. It has one embedding
# and no codebook; `logit_scale_init_value` is log(1 / 0.07).
_IMAGEBIND_HUGE: dict[str, Any] = {
    "shared_dim": 1024,
    "specific_dim": 0,
    "num_shared_codes": 0,
    "num_specific_codes": 0,
    "align_on": "continuous",
    "logit_scale_init_value": 2.659260036932778,
    "text_config": _imagebind_tower(1024, 24, 16, bos_token_id=49406, eos_token_id=49407, pad_token_id=0),
    "vision_config": _imagebind_tower(1280, 32, 16, patch_size=[14, 14], tubelet_size=2, pre_norm=True),
    "audio_config": _imagebind_target(768, 12, 12, drop_path_rate=0.1),
    "depth_config": _imagebind_target(384, 12, 8),
    "thermal_config": _imagebind_target(768, 12, 12),
    "imu_config": _imagebind_target(512, 6, 8, drop_path_rate=0.7),
}

# Visual-AI/CodeBind@bba682e config/cfg_model.yaml: ImageBind with tactile and EEG towers, specific heads, codebooks
# and decoders. Decoders see the towers' tokens beside the codes, as the released weights were trained.
_CODEBIND_IB_HUGE: dict[str, Any] = {
    **_IMAGEBIND_HUGE,
    "specific_dim": 1024,
    "code_dim": 8,
    "num_shared_codes": 1024,
    "num_specific_codes": 256,
    "align_on": "codes",
    "decoder_inputs": "codes+tokens",
    # Paper appendix, table 1, image; the weight of `commit` is divided by the 8 numbers of a segment.
    "loss_weights": {"recon": 1.0, "orth": 0.1, "uni": 1.0, "commit": 1.25, "cm": 0.05, "cctr": 0.01, "cuni": 0.01},
    "tactile_config": _imagebind_target(768, 12, 12),
    "eeg_config": _imagebind_target(768, 6, 8, stem_bias=True, has_decoder=False),
    "imu_config": {**_IMAGEBIND_HUGE["imu_config"], "has_decoder": False},
    "decoder_config": {"layer_norm_eps": 1e-6, "attention_bias": False, "has_position": False},
}


def _clip_tower(width: int, blocks: int, heads: int, **fields: Any) -> dict[str, Any]:
    """A transformer of OpenCLIP; clips are averaged before they are normalized, as ViT-Lens does."""
    sizes = {"hidden_size": width, "num_hidden_layers": blocks, "num_attention_heads": heads}
    return {**sizes, "layer_norm_eps": 1e-5, "normalize_clips": False, **fields}


def _clip_text(width: int, blocks: int, heads: int) -> dict[str, Any]:
    return _clip_tower(width, blocks, heads, bos_token_id=49406, eos_token_id=49407, pad_token_id=0)


def _vit_l(**fields: Any) -> dict[str, Any]:
    """OpenCLIP's ViT-L/14 on a picture, or on what a lens makes of another modality."""
    return _clip_tower(1024, 24, 16, **{"patch_size": [14, 14], "pre_norm": True, **fields})


def _lens(depth: int, self_blocks: int, **fields: Any) -> dict[str, Any]:
    """As many latents as a picture has patches."""
    return {"lens_num_latents": 256, "lens_depth": depth, "lens_self_blocks": self_blocks, **fields}


# TencentARC/ViT-Lens@2b4f2e0, the seven towers of vitlensL.pt: 2.2 billion parameters. CLIP's scale is at its cap.
_VITLENS_LARGE: dict[str, Any] = {
    "shared_dim": 768,
    "specific_dim": 0,
    "num_shared_codes": 0,
    "num_specific_codes": 0,
    "align_on": "continuous",
    "logit_scale_init_value": 4.605170185988092,
    "text_config": _clip_text(768, 12, 12),
    "vision_config": _vit_l(),
    "audio_config": _vit_l(input_size=[128, 512], patch_stride=[10, 10], stem_position=True, **_lens(2, 3)),
    "depth_config": _vit_l(stem_position=True),
    "tactile_config": _vit_l(),
    "point_config": _clip_tower(1024, 24, 16, pre_norm=True, stem_dim=384, **_lens(4, 1)),
    "eeg_config": _vit_l(input_size=[512], patch_size=[1], stem_bias=True, stem_position=True, **_lens(1, 1)),
}

# The same for bigG14_sk16_openshape_all.pt, whose point tower leaves out the first 16 of 48 blocks, with the text and
# image towers of OpenCLIP's ViT-bigG/14. `logit_scale_init_value` is log(1 / 0.07), where OpenShape starts.
_VITLENS_BIGG: dict[str, Any] = {
    "shared_dim": 1280,
    "specific_dim": 0,
    "num_shared_codes": 0,
    "num_specific_codes": 0,
    "align_on": "continuous",
    "logit_scale_init_value": 2.659260036932778,
    "text_config": _clip_text(1280, 32, 20),
    "vision_config": _clip_tower(1664, 48, 16, patch_size=[14, 14], pre_norm=True, intermediate_size=8192),
    "point_config": _clip_tower(
        *(1664, 32, 16),
        pre_norm=True,
        intermediate_size=8192,
        input_size=[10000],
        num_channels=6,
        point_grouping="ball",
        point_widths=[64, 64, 256],
        group_size=64,
        stem_dim=256,
        **_lens(4, 1, lens_head_dim=104, lens_cross_head_dim=104),
    ),
}

# CodeBind's heads, codebooks and decoders on ViT-Lens, which was never released: codes of the same width, so that 768
# numbers are 96 segments, and decoders that see nothing but codes, as in the paper.
_CODEBIND_ADDITIONS: dict[str, Any] = {
    "code_dim": 8,
    "num_shared_codes": 1024,
    "num_specific_codes": 256,
    "align_on": "codes",
    "loss_weights": _CODEBIND_IB_HUGE["loss_weights"],
    "decoder_config": {"layer_norm_eps": 1e-6},
}


_TINY_LENS = {"lens_num_latents": 16, "lens_num_heads": 4, "lens_head_dim": 16, "lens_cross_head_dim": 16}

# tiny with the shapes of ViT-Lens: a Perceiver lens for the modalities that are least like pictures.
_TINY_VL: dict[str, Any] = {
    **{name: value for name, value in _TINY.items() if name != "imu_config"},
    "text_config": {**_TINY["text_config"], "normalize_clips": False},
    "vision_config": {**_TINY["vision_config"], "tubelet_size": 1, "normalize_clips": False},
    "audio_config": {**_TINY["audio_config"], "stem_position": True, "normalize_clips": False, **_TINY_LENS},
    "depth_config": {**_TINY["depth_config"], "stem_position": True, "normalize_clips": False},
    "thermal_config": {**_TINY["thermal_config"], "stem_position": True, "normalize_clips": False},
    "tactile_config": {**_TINY["tactile_config"], "normalize_clips": False},
    "point_config": {**_TINY["point_config"], "has_position": True, "normalize_clips": False, **_TINY_LENS},
    "eeg_config": {**_TINY["eeg_config"], "stem_position": True, "normalize_clips": False, **_TINY_LENS},
}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _TINY,
    "tiny-vl": _TINY_VL,
    "ib-huge": _IMAGEBIND_HUGE,
    "codebind-ib-huge": _CODEBIND_IB_HUGE,
    "vl-large": _VITLENS_LARGE,
    "codebind-vl-large": {**_VITLENS_LARGE, **_CODEBIND_ADDITIONS, "specific_dim": 768},
    "vl-bigg": _VITLENS_BIGG,
    "codebind-vl-bigg": {**_VITLENS_BIGG, **_CODEBIND_ADDITIONS, "specific_dim": 1280},
}


def preset_fields(name: str) -> dict[str, Any]:
    """A fresh copy of the fields of preset `name`.

    Raises:
        ValueError: no such preset; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ValueError(f"name: unknown preset {name!r}; known presets: {', '.join(PRESETS)}.")
    return deepcopy(PRESETS[name])


def merge_fields(fields: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`fields` with `overrides` on top; dictionaries merge key by key, everything else replaces."""
    merged = dict(fields)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_fields(merged[key], value) if both else value
    return merged
