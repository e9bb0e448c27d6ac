"""Constructor arguments of the reference implementations as fields of `CodeBindConfig`."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from codebind_hf.model.presets import preset_fields


# Reference argument -> field of the encoder's configuration, for every encoder that has it.
_PER_ENCODER = {
    "embed_dim": "hidden_size",
    "num_blocks": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "drop_path": "drop_path_rate",
}
_SQUARE_KERNELS = ("depth", "thermal", "tactile")


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
    if name in _SQUARE_KERNELS and f"{name}_kernel_size" in given:
        encoder["patch_size"] = [given.pop(f"{name}_kernel_size")] * 2
    if name == "vision":
        _apply_vision(encoder, given)
    if name == "audio":
        _apply_audio(encoder, given)
    for length, argument in (("input_size", f"{name}_data_len"), ("patch_size", f"{name}_patch_size")):
        if name == "eeg" and argument in given:
            encoder[length] = [given.pop(argument)]
    if name == "imu" and "imu_kernel_size" in given:
        encoder["patch_size"] = [given.pop("imu_kernel_size")]


def _apply_vision(encoder: dict[str, Any], given: dict[str, Any]) -> None:
    frames, *patch = given.pop("kernel_size", [encoder["tubelet_size"], *encoder["patch_size"]])
    if given.pop("video_frames", frames) != frames:
        raise ValueError(
            f"architecture['video_frames']: must equal the {frames} frames of kernel_size; a position table over "
            "several frames is not supported."
        )
    encoder.update(tubelet_size=frames, patch_size=patch)


def _apply_audio(encoder: dict[str, Any], given: dict[str, Any]) -> None:
    mel, frames = encoder.get("input_size", (128, 204))
    encoder["input_size"] = [given.pop("audio_num_mel_bins", mel), given.pop("audio_target_len", frames)]
    if "audio_kernel_size" in given:
        encoder["patch_size"] = [given.pop("audio_kernel_size")] * 2
    if "audio_stride" in given:
        encoder["patch_stride"] = [given.pop("audio_stride")] * 2


_SHARED = ("out_embed_dim", "video_frames", "kernel_size")
_OWN = {
    "audio": ("kernel_size", "stride", "num_mel_bins", "target_len"),
    "imu": ("kernel_size",),
    "eeg": ("data_len", "patch_size"),
    **dict.fromkeys(_SQUARE_KERNELS, ("kernel_size",)),
}


def _unknown(argument: str, names: list[str]) -> str:
    own = [f"{name}_{suffix}" for name in names for suffix in (*_PER_ENCODER, *_OWN.get(name, ()))]
    known = [*_SHARED, *own]
    close = difflib.get_close_matches(argument, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
    return f"architecture: unknown argument {argument!r}. {hint}"
