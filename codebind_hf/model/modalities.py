"""Which modalities exist, which tower reads each, and from which tensor."""

import reprlib
from dataclasses import dataclass


_LONGEST = 120


@dataclass(frozen=True)
class Modality:
    """One modality as the network knows it.

    Args:
        name: key in data rows, in `modalities=` and in every output dictionary.
        encoder: the tower with its own weights; `image` and `video` share `vision`.
        tensor: keyword of `CodeBindModel.forward`.
        axes: axes of the tensor after the batch axis.
    """

    name: str
    encoder: str
    tensor: str
    axes: tuple[str, ...]


_BUILT_IN = (
    Modality("text", "text", "input_ids", ("tokens",)),
    Modality("image", "vision", "pixel_values", ("channels", "height", "width")),
    Modality("video", "vision", "pixel_values_videos", ("clips", "frames", "channels", "height", "width")),
    Modality("audio", "audio", "input_features", ("clips", "mel", "frames")),
    Modality("depth", "depth", "depth_values", ("channels", "height", "width")),
    Modality("thermal", "thermal", "thermal_values", ("channels", "height", "width")),
    Modality("tactile", "tactile", "tactile_values", ("channels", "height", "width")),
    Modality("point_cloud", "point", "point_values", ("points", "coordinates")),
    Modality("eeg", "eeg", "eeg_values", ("channels", "time")),
    Modality("imu", "imu", "imu_values", ("channels", "time")),
)

MODALITIES: dict[str, Modality] = {modality.name: modality for modality in _BUILT_IN}
ENCODERS: tuple[str, ...] = tuple(dict.fromkeys(modality.encoder for modality in _BUILT_IN))
BRIDGE_ENCODERS: tuple[str, ...] = ("text", "vision")


def added_modality(name: str) -> Modality:
    """A modality that a user adds: `radar` is read by tower `radar` from `radar_values`."""
    return Modality(name, name, f"{name}_values", ("channels", "..."))


def shown(value: object) -> str:
    """`value` as one would write it, for messages: short, on one line, and without an error whatever it is."""
    try:
        text = " ".join(reprlib.repr(value).split())
    except Exception:  # Integers of many digits, and whatever an object's own method raises.
        text = type(value).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def modality_named(name: str, added: tuple[str, ...] = ()) -> Modality:
    """The built-in or added modality called `name`.

    Raises:
        ValueError: no such modality; the message lists the known ones.
    """
    if isinstance(name, str) and name in MODALITIES:
        return MODALITIES[name]
    if isinstance(name, str) and name in added:
        return added_modality(name)
    known = ", ".join([*MODALITIES, *added])
    raise ValueError(
        f"modalities: unknown modality {shown(name)}; known: {known}. A new modality needs `model.add_modality`."
    )
