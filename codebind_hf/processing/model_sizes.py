"""Which modalities does a processor have, and which parameters follow from the configuration of a model?"""

from typing import Any

from .arguments import ARGUMENTS, CONFIG_FIELDS
from .values import check_choice, check_types, nearest, refuse, shown


def checked_modalities(modalities: list[str] | None, has_tokenizer: bool) -> list[str]:
    """Built-in modalities in their order; `None` is all that can be read."""
    if modalities is None:
        return [name for name in ARGUMENTS if has_tokenizer or name != "text"]
    for name in modalities:
        check_choice("modalities", name, tuple(ARGUMENTS))
    if "text" in modalities and not has_tokenizer:
        refuse("tokenizer", "got None, but 'text' is among the modalities", "a tokenizer", "drop 'text' or pass one.")
    return [name for name in ARGUMENTS if name in modalities]


def checked_augmentation(augmentation: Any, modalities: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Operations by modality; what they are called and take is checked where they are applied."""
    check_types({"augmentation": augmentation}, {"augmentation": dict[str, list[dict[str, Any]]]})
    for modality, operations in augmentation.items():
        if modality not in modalities:
            fix = nearest(modality, modalities)
            refuse("augmentation", f"got the modality {shown(modality)}", ", ".join(modalities), fix)
        for index, operation in enumerate(operations):
            if not isinstance(operation.get("name"), str):
                refuse(f"augmentation.{modality}[{index}]", f"got {shown(operation)}", "a dictionary with a 'name'")
    return {modality: [dict(operation) for operation in augmentation[modality]] for modality in augmentation}


def configured_modalities(config: Any) -> list[str]:
    """Built-in modalities whose encoder the configuration has."""
    return [name for name, field in CONFIG_FIELDS.items() if getattr(config, field, None) is not None]


def size_parameters(name: str, encoder: Any) -> dict[str, Any]:
    """Parameters of a modality's sub-processor that follow from its encoder's sizes."""
    if encoder is None:
        return {}
    size = [int(length) for length in encoder.input_size]
    if name == "audio":
        return {"num_mel_bins": size[0], "num_frames": size[1]}
    if name == "point_cloud":
        sizes = {"num_points": size[0], "max_candidates": max(size[0], 32768)}
        return {**sizes, "num_channels": encoder.num_channels}
    if name in ("eeg", "imu"):
        return {"num_channels": encoder.num_channels, "num_samples": size[0]}
    frames = {"frames_per_clip": max(encoder.tubelet_size, 1)} if name == "video" else {}
    return {"size": size, "num_channels": encoder.num_channels, **frames}


def added_sizes(encoder: Any) -> dict[str, Any]:
    """What `add_modality` is told of an added encoder, a dictionary or a configuration."""
    fields = encoder if isinstance(encoder, dict) else vars(encoder)
    missing = [key for key in ("num_channels", "input_size") if key not in fields]
    if missing:
        refuse("added_encoders", f"got an encoder without {missing[0]!r}", "num_channels and input_size")
    sizes = {"num_channels": fields["num_channels"], "input_size": [int(length) for length in fields["input_size"]]}
    return {**sizes, "stem": "features"} if fields.get("stem") == "features" else sizes
