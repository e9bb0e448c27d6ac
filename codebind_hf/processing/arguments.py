"""What is each modality called in a call of the processor, which tensor does it become, and what tells its size?"""

from collections.abc import Iterable
from typing import NoReturn

from .values import nearest, refuse


# The other half of these tables, towers and axes, belongs to the network.
ARGUMENTS: dict[str, str] = {
    "text": "text",
    "image": "images",
    "video": "videos",
    "audio": "audio",
    "depth": "depth",
    "thermal": "thermal",
    "tactile": "tactile",
    "point_cloud": "point_clouds",
    "eeg": "eeg",
    "imu": "imu",
}
TENSORS: dict[str, str] = {
    "text": "input_ids",
    "image": "pixel_values",
    "video": "pixel_values_videos",
    "audio": "input_features",
    "point_cloud": "point_values",
    **{name: f"{name}_values" for name in ("depth", "thermal", "tactile", "eeg", "imu")},
}
# Fields of a model's configuration that describe the encoders.
CONFIG_FIELDS: dict[str, str] = {
    **{name: f"{name}_config" for name in ARGUMENTS},
    "image": "vision_config",
    "video": "vision_config",
    "point_cloud": "point_config",
}


def argument_of(modality: str) -> str:
    """Keyword of `CodeBindProcessor.__call__` for a modality; an added one is called by its own name."""
    return ARGUMENTS.get(modality, modality)


def tensor_of(modality: str) -> str:
    """Keyword of `CodeBindModel.forward` for a modality; an added `radar` is `radar_values`."""
    return TENSORS.get(modality, f"{modality}_values")


def refuse_keyword(key: str, arguments: Iterable[str], options: Iterable[str]) -> NoReturn:
    """Refuse a keyword of a call of the processor that is no argument, no option and no `<argument>_kwargs`."""
    allowed = [*arguments, *options, "return_tensors", *(f"{argument}_kwargs" for argument in arguments)]
    fix = nearest(ARGUMENTS.get(key, key), allowed, "`{}=`") or "a new modality needs `processor.add_modality`."
    refuse(key, "unknown keyword of the processor", ", ".join(allowed), fix)
