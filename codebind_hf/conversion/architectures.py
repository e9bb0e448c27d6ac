"""Constructor arguments of the reference implementations as fields of `CodeBindConfig`."""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from codebind_hf.model.presets import preset_fields


# Reference argument -> field of the encoder's configuration, for every encoder that has it.
_PER_ENCODER = {
    "embed_dim": "hidden_size",
    "num_blocks": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "drop_path": "drop_path_rate",
}
# Reference argument -> encoder, field, and along how many axes the one number counts.
_LENGTHS = {
    **{f"{name}_kernel_size": (name, "patch_size", 2) for name in ("audio", "depth", "thermal", "tactile")},
    "audio_stride": ("audio", "patch_stride", 2),
    "imu_kernel_size": ("imu", "patch_size", 1),
    "eeg_data_len": ("eeg", "input_size", 1),
    "eeg_patch_size": ("eeg", "patch_size", 1),
}
_AUDIO_SIZE = ("audio_num_mel_bins", "audio_target_len")
_SHARED = ("out_embed_dim", "video_frames", "kernel_size")


def read_architecture(file: str | None) -> dict[str, Any] | None:
    """Constructor arguments from a JSON file; `None` without one.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no JSON, or no object.
    """
    if file is None:
        return None
    try:
        architecture = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise OSError(
            f"--architecture: {file}: {(error.strerror or str(error)).lower()}. Fix: check the path."
        ) from error
    except ValueError as error:
        raise ValueError(f"--architecture: {file} is no JSON ({error}).") from error
    if not isinstance(architecture, dict):
        raise ValueError(f"--architecture: {file} holds {type(architecture).__name__}; expected an object.")
    return architecture


def reference_fields(preset: str, architecture: Mapping[str, Any] | None, encoders: Iterable[str]) -> dict[str, Any]:
    """Fields of `preset` with the reference's constructor arguments applied, and only `encoders`.

    Args:
        architecture: such as `{"vision_embed_dim": 1280, "kernel_size": [2, 14, 14]}`; what is absent keeps the
            preset's (Huge) value.

    Raises:
        ValueError: an argument that the reference does not have, or sizes that contradict each other.
    """
    fields = preset_fields(preset)
    given = dict(architecture or {})
    names = [key.removesuffix("_config") for key in fields if key.endswith("_config") and key != "decoder_config"]
    for name in names:
        _apply(fields[f"{name}_config"], name, given)
    if "out_embed_dim" in given:
        fields["shared_dim"] = given.pop("out_embed_dim")
    if given:
        raise ValueError(_unknown(min(given), names))
    kept = set(encoders)
    return {
        key: value
        for key, value in fields.items()
        if key == "decoder_config" or not key.endswith("_config") or key.removesuffix("_config") in kept
    }


def _apply(encoder: dict[str, Any], name: str, given: dict[str, Any]) -> None:
    """Move the arguments of one encoder from `given` to its configuration."""
    for argument, field in _PER_ENCODER.items():
        if f"{name}_{argument}" in given:
            encoder[field] = given.pop(f"{name}_{argument}")
    for argument, (owner, field, axes) in _LENGTHS.items():
        if owner == name and argument in given:
            encoder[field] = [given.pop(argument)] * axes
    if name == "vision":
        _apply_vision(encoder, given)
    if name == "audio":
        size = encoder.get("input_size", (128, 204))
        encoder["input_size"] = [given.pop(key, old) for key, old in zip(_AUDIO_SIZE, size, strict=True)]


def _apply_vision(encoder: dict[str, Any], given: dict[str, Any]) -> None:
    frames, *patch = given.pop("kernel_size", [encoder["tubelet_size"], *encoder["patch_size"]])
    if given.pop("video_frames", frames) != frames:
        raise ValueError(
            f"architecture['video_frames']: must equal the {frames} frames of kernel_size; a position table over "
            "several frames is not supported."
        )
    encoder.update(tubelet_size=frames, patch_size=patch)


def _unknown(argument: str, names: list[str]) -> str:
    own = [f"{name}_{suffix}" for name in names for suffix in _PER_ENCODER]
    lengths = [key for key, (owner, *_) in _LENGTHS.items() if owner in names]
    known = [*_SHARED, *_AUDIO_SIZE, *own, *lengths]
    close = difflib.get_close_matches(argument, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
    return f"architecture: unknown argument {argument!r}. {hint}"
