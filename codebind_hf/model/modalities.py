"""Which modalities exist, which tower reads each, and from which tensor."""

from dataclasses import dataclass


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


def modality_named(name: str, added: tuple[str, ...] = ()) -> Modality:
    """The built-in or added modality called `name`.

    Raises:
        ValueError: no such modality; the message lists the known ones.
    """
    if name in MODALITIES:
        return MODALITIES[name]
    if name in added:
        return added_modality(name)
    known = ", ".join([*MODALITIES, *added])
    raise ValueError(
        f"modalities: unknown modality {name!r}; known: {known}. A new modality needs `model.add_modality`."
    )
