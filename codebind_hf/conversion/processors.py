"""Which numbers did ImageBind, CodeBind and ViT-Lens prepare inputs with? As data, and processors made of them."""

import os
from collections.abc import Mapping
from typing import Any

from codebind_hf.conversion.clip_vocabulary import clip_tokenizer
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.processing.processing_codebind import CodeBindProcessor


_CLIP_STATISTICS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
_TEXT = {"cleaning": "clip", "padding": "max_length"}
# The references read pictures as they are stored, and recordings without a low-pass. ImageBind's and CodeBind's reader
# of films turns frames as the display matrix says, and counts them as if they came at the mean rate.
_FRAME = {"resize_on": "pil", "interpolation": "bicubic", **_CLIP_STATISTICS}
_PICTURE = {**_FRAME, "upright": False}
# `antialias` of a tensor that is resized: neither project says it. torchvision has it on since 0.17, and off before;
# both projects run on either. The table takes the newer default, except for video, which pytorchvideo resizes.
_VIDEO = {
    "clip_seconds": 2.0,
    "frames_per_clip": 2,
    "num_crops": 3,
    "resize_on": "tensor",
    "interpolation": "bilinear",
    "antialias": False,
    "time_stamps": False,
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
_DISPARITY = {
    "encoding": "disparity",
    "baseline": 0.075,
    "focal_length": 518.857901,
    "value_range": [0.01, 75.0],
    "upright": False,
}
_THERMAL = {
    "upright": False,
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
    "eeg": {**_RAW, "time_crop": [20, 460], "low_pass": False},
    "imu": {**_RAW, "time_crop": None},
}

# TencentARC/ViT-Lens@2b4f2e0 mm_vit_lens/data_processors.py. Maps and tactile pictures were resized by a torchvision
# that does not smooth tensors. Its depth files are disparities of eight times the distance (the shift of SUN RGB-D's
# PNG files is not undone), which its mean and deviation belong to: so an eighth of the baseline and of the range. It
# has no loader for videos; frames are the first ones of clips like the sound's.
VITLENS_INPUTS: dict[str, dict[str, Any]] = {
    "text": {"cleaning": "vitlens", "padding": "max_length"},
    "images": _PICTURE,
    "videos": {**_FRAME, "num_clips": 3, "frames_per_clip": 1, "clip_seconds": 5.0, "num_crops": 1},
    "audio": {
        **_AUDIO,
        "num_clips": 3,
        "clip_seconds": 5.0,
        "clip_spacing": "open",
        "short_audio": "repeat",
        "mean": -4.2677393,
        "std": 4.5689974,
    },
    "depth": {
        **_DISPARITY,
        "baseline": 0.075 / 8,
        "depth_range": [0.01 / 8, 50.0 / 8],
        "resize_on": "tensor",
        "interpolation": "bicubic",
        "antialias": False,
        "mean": [0.0418],
        "std": [0.0295],
    },
    "tactile": {**_PICTURE, "resize_on": "tensor", "resize_edge": 256, "antialias": False},
    "point_clouds": {"selection": "farthest", "center": True, "unit_sphere": True},
    "eeg": {**_RAW, "time_crop": [20, 460], "low_pass": False},
}
# Of the point towers with colours, which are OpenShape's: clouds stand on the x-y plane, points are a random choice.
_COLORED_POINTS = {"selection": "random", "swap_yz": True, "missing_color": 0.4}


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


def vitlens_processor(
    config: CodeBindConfig, bpe_file: str | os.PathLike[str], **overrides: dict[str, Any]
) -> CodeBindProcessor:
    """The processor of a converted ViT-Lens: `VITLENS_INPUTS`, and sizes from `config`.

    Nothing is random: a sound shorter than a clip is repeated from its start, and farthest point sampling begins with
    the first point, of clouds beyond 32768 points (`max_candidates`) after they were thinned in order. Clouds with
    fewer points are repeated in order, which changes no token. Texts are cleaned as ViT-Lens's own interface cleans
    captions; its zero-shot benchmarks use `text={"cleaning": "open_clip"}`. Depth comes in metres, as everywhere here;
    its own files are `depth_unit="disparity"`, and the PNG files of SUN RGB-D `depth_unit=1 / 8000`. Colours of a
    cloud, where the encoder sees them, are in [0, 1], or `point_clouds={"color_scale": 255}`.

    Args:
        config: of the converted model, e.g. `convert_vitlens(...).config`.
        bpe_file, overrides: as for `imagebind_processor`.

    Raises:
        OSError, ValueError: as for `imagebind_processor`.
    """
    inputs = dict(VITLENS_INPUTS)
    points, audio = config.point_config, config.audio_config
    if isinstance(audio, CodeBindEncoderConfig):
        # 512 frames are 5 s and some padding; the models of 2 s have as many a second.
        seconds = max(1.0, float(round(audio.input_size[1] * 5 / 512)))
        inputs["audio"] = inputs["audio"] | {"clip_seconds": seconds}
    if isinstance(points, CodeBindEncoderConfig) and points.num_channels > 3:
        inputs["point_clouds"] = inputs["point_clouds"] | _COLORED_POINTS
    return _processor(inputs, config, bpe_file, overrides)


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
