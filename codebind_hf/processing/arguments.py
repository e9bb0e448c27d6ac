"""What is each modality called in a call of the processor, which tensor does it become, and what tells its size?"""

from typing import Any

from .values import fits, nearest, refuse, shown


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
# Keywords of a call that belong to one modality, beside `<argument>_kwargs` for everything else.
OPTIONS: dict[str, str] = {
    "sampling_rate": "audio",
    "depth_unit": "depth",
    **dict.fromkeys(("thermal_unit", "thermal_range"), "thermal"),
    **dict.fromkeys(("padding", "truncation", "max_length"), "text"),
}
# What the processor itself hands to every sub-processor.
_OF_THE_CALL = {"return_tensors", "values", "images", "point_clouds", "text"}


def argument_of(modality: str) -> str:
    """Keyword of `CodeBindProcessor.__call__` for a modality; an added one is called by its own name."""
    return ARGUMENTS.get(modality, modality)


def tensor_of(modality: str) -> str:
    """Keyword of `CodeBindModel.forward` for a modality; an added `radar` is `radar_values`."""
    return TENSORS.get(modality, f"{modality}_values")


def call_options(keywords: dict[str, Any], arguments: list[str]) -> dict[str, dict[str, Any]]:
    """Keywords of a call of the processor by the argument that they belong to.

    Raises:
        ValueError: an unknown keyword, one that is given twice, or no dictionary of a sub-processor's parameters.
    """
    options: dict[str, dict[str, Any]] = {}
    for key, value in keywords.items():
        argument = key.removesuffix("_kwargs")
        if key in OPTIONS:
            own = keywords.get(f"{OPTIONS[key]}_kwargs")
            if isinstance(own, dict) and key in own:
                refuse(key, f"got it twice, also in {OPTIONS[key]}_kwargs", "one value", "pass it once.")
            options.setdefault(OPTIONS[key], {})[key] = value
        elif key.endswith("_kwargs") and argument in arguments:
            if not fits(value, dict[str, Any]) or _OF_THE_CALL & set(value):
                refuse(key, f"got {shown(value)}", "a dictionary of the sub-processor's parameters")
            options.setdefault(argument, {}).update(value)
        else:
            _refuse_keyword(key, arguments)
    return options


def _refuse_keyword(key: str, arguments: list[str]) -> None:
    allowed = [*arguments, *OPTIONS, "return_tensors", *(f"{argument}_kwargs" for argument in arguments)]
    fix = nearest(ARGUMENTS.get(key, key), allowed, "`{}=`") or "a new modality needs `processor.add_modality`."
    refuse(key, "unknown keyword of the processor", ", ".join(allowed), fix)
