"""Which numbers did ImageBind and CodeBind prepare inputs with? Both as data, and processors made of them."""

import os
from collections.abc import Mapping
from typing import Any

from codebind_hf.conversion.clip_tokenizer import clip_tokenizer
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.processing_codebind import CodeBindProcessor


_CLIP_STATISTICS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
_TEXT = {"cleaning": "clip", "padding": "max_length"}
_PICTURE = {"resize_on": "pil", "interpolation": "bicubic", **_CLIP_STATISTICS}
# `antialias` of a tensor that is resized: neither project says it. torchvision has it on since 0.17, and off before;
# both projects run on either. The table takes the newer default, except for video, which pytorchvideo resizes.
_VIDEO = {
    "clip_seconds": 2.0,
    "frames_per_clip": 2,
    "num_crops": 3,
    "resize_on": "tensor",
    "interpolation": "bilinear",
    "antialias": False,
    **_CLIP_STATISTICS,
}
# Kaldi's filter bank with frames of 25 ms every 10 ms; what is missing to `num_frames` is filled before normalization.
_AUDIO = {
    "sampling_rate": 16000,
    "clip_seconds": 2.0,
    "clip_spacing": "ends",
    "short_audio": "frames",
    "channels": "first",
    "remove_mean": True,
    "window_length": 400,
    "hop_length": 160,
    "fft_length": 512,
    "window": "hann",
    "preemphasis": 0.97,
    "remove_dc_offset": True,
    "min_frequency": 20.0,
    "max_frequency": None,
    "pad_value": 0.0,
    "mean": -4.268,
    "std": 9.138,
}
# Metres become baseline (metres) * focal length (pixels) / metres; these two are of the first Kinect, which NYU used.
_DISPARITY = {"encoding": "disparity", "baseline": 0.075, "focal_length": 518.857901, "value_range": [0.01, 75.0]}
_THERMAL = {
    "resize_on": "tensor",
    "interpolation": "bilinear",
    "antialias": True,
    "mean": [0.44531357],
    "std": [0.26924619],
}
_RAW = {"remove_mean": "none", "normalize": "none", "scale": 1.0}

# facebookresearch/ImageBind@53680b0 imagebind/data.py for text, images, video and audio. It has no loader for depth,
# thermal and IMU: the depth statistics are those that ViT-Lens names as ImageBind's, the thermal ones CodeBind's.
IMAGEBIND_INPUTS: dict[str, dict[str, Any]] = {
    "text": _TEXT,
    "images": _PICTURE,
    "videos": {**_VIDEO, "num_clips": 5},
    "audio": {**_AUDIO, "num_clips": 3},
    "depth": {
        **_DISPARITY,
        "depth_range": None,
        "resize_on": "tensor",
        "interpolation": "bicubic",
        "antialias": True,
        "mean": [0.0418],
        "std": [0.0295],
    },
    "thermal": _THERMAL,
    "imu": {**_RAW, "time_crop": None},
}

# Visual-AI/CodeBind@bba682e datasets/data.py, data_transform_rgbd.py, and the data sets that call them.
CODEBIND_INPUTS: dict[str, dict[str, Any]] = {
    "text": _TEXT,
    "images": _PICTURE,
    "videos": {**_VIDEO, "num_clips": 1},
    "audio": {**_AUDIO, "num_clips": 1},
    "depth": {
        **_DISPARITY,
        "depth_range": [0.01, 50.0],
        "resize_on": "tensor",
        "interpolation": "bilinear",
        "antialias": True,
        "mean": [0.318441],
        "std": [0.11506188],
    },
    "thermal": _THERMAL,
    "tactile": _PICTURE,
    "eeg": {**_RAW, "time_crop": [20, 460]},
    "imu": {**_RAW, "time_crop": None},
}


def imagebind_processor(
    config: CodeBindConfig, bpe_file: str | os.PathLike[str], **overrides: dict[str, Any]
) -> CodeBindProcessor:
    """The processor of a converted ImageBind: `IMAGEBIND_INPUTS`, and sizes from `config`.

    Two things are not as in the reference. Each audio clip's mean is subtracted from a copy; the reference does it in
    place, so that a clip depends on those it overlaps (by up to 0.11 in our reference sounds). Depth comes in metres,
    as everywhere here; a map that is a disparity already needs `depth_unit="disparity"`, and another camera its
    `baseline` and `focal_length`.

    Args:
        config: of the converted model, e.g. `convert_imagebind(...).config`.
        bpe_file: `bpe_simple_vocab_16e6.txt.gz`, see `clip_tokenizer`.
        overrides: parameters to change, by argument of the processor, e.g. `depth={"focal_length": 570.342205}`.

    Returns:
        A `CodeBindProcessor` that `save_pretrained` writes with all its numbers, beside the model.

    Raises:
        OSError: `bpe_file` cannot be read.
        ValueError: `bpe_file` holds other merges, the text encoder has another vocabulary, or an unknown override.
    """
    return _processor(IMAGEBIND_INPUTS, config, bpe_file, overrides)


def codebind_processor(
    config: CodeBindConfig, bpe_file: str | os.PathLike[str], **overrides: dict[str, Any]
) -> CodeBindProcessor:
    """The processor of a converted CodeBind: `CODEBIND_INPUTS`, and sizes from `config`.

    It differs from the reference where `imagebind_processor` does, and in long texts, which keep their end token. The
    reference normalizes a depth map in two ways; this is the one of its training, with a mean of 0.318441. Depth that
    it loads without a picture has 0.23207855: `depth={"mean": [0.23207855]}`. The depth files of SUN and NYU hold
    8000ths of a metre: `depth={"depth_unit": 1 / 8000}`.

    Args:
        config: of the converted model, e.g. `convert_codebind(...).config`.
        bpe_file, overrides: as for `imagebind_processor`.

    Raises:
        OSError, ValueError: as for `imagebind_processor`.
    """
    return _processor(CODEBIND_INPUTS, config, bpe_file, overrides)


def _processor(
    inputs: Mapping[str, dict[str, Any]],
    config: CodeBindConfig,
    bpe_file: str | os.PathLike[str],
    overrides: Mapping[str, dict[str, Any]],
) -> CodeBindProcessor:
    tokenizer = clip_tokenizer(bpe_file)
    text: Any = config.text_config
    if text is not None and (text.vocab_size, text.eos_token_id) != (len(tokenizer), tokenizer.eos_token_id):
        raise ValueError(
            f"config.text_config: got vocab_size={text.vocab_size} and eos_token_id={text.eos_token_id}; CLIP's "
            f"tokenizer has {len(tokenizer)} and {tokenizer.eos_token_id}. Fix: pass the config of a converted model."
        )
    parameters = {name: {**inputs.get(name, {}), **overrides.get(name, {})} for name in [*inputs, *overrides]}
    return CodeBindProcessor.from_model_config(config, tokenizer if text is not None else None, **parameters)
