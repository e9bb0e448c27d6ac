"""What do a sensor's numbers mean? Columns of units, rates and intrinsics beside its own, and items that have them."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.image_processing_codebind import DEPTH_UNITS, THERMAL_UNITS
from codebind_hf.processing.items import Item, focal_length_of, item_named
from codebind_hf.processing.signal_processing_codebind import IMU_AXES
from codebind_hf.processing.values import check_number, check_pair, check_rate, check_unit, fits, refuse, shown


class Unit(NamedTuple):
    """What a column says of a modality of its row: a field of the modality's `Item`, and what refuses other values."""

    modality: str
    field: str
    check: Callable[[str, Any], Any]


def _check_depth_unit(name: str, value: Any) -> None:
    if isinstance(value, str):
        check_unit(name, value, DEPTH_UNITS)
    else:
        _check_positive(name, value)


def _check_thermal_unit(name: str, value: Any) -> None:
    if isinstance(value, str):
        check_unit(name, value, THERMAL_UNITS)
    elif not fits(value, list[float]) or len(value) != 2 or value[0] <= 0:
        refuse(name, f"got {shown(value)}", "a name of a unit, or [degrees per level, degrees of level 0]")


def _check_names(name: str, value: Any) -> None:
    if not fits(value, list[str]) or not value or not all(value):
        refuse(name, f"got {shown(value)}", "a list of names, in a table of text as JSON")


def _check_axes(name: str, value: Any) -> None:
    if not fits(value, list[str]) or not value or not {axis.removeprefix("-") for axis in value} <= set(IMU_AXES):
        refuse(name, f"got {shown(value)}", f"a list of {', '.join(IMU_AXES)}, with '-' before what points backwards")


def _check_positive(name: str, value: Any) -> None:
    check_number(name, value, 0, above=True)


UNITS: dict[str, Unit] = {
    "video_fps": Unit("video", "fps", _check_positive),
    "depth_unit": Unit("depth", "unit", _check_depth_unit),
    "depth_intrinsics": Unit("depth", "intrinsics", lambda name, value: focal_length_of(value, name)),
    "depth_baseline": Unit("depth", "baseline", _check_positive),
    "thermal_unit": Unit("thermal", "unit", _check_thermal_unit),
    "thermal_range": Unit("thermal", "range", check_pair),
    "point_cloud_color_scale": Unit("point_cloud", "color_scale", _check_positive),
    "eeg_sampling_rate": Unit("eeg", "sampling_rate", lambda name, value: check_rate(value, name)),
    "eeg_channels": Unit("eeg", "channels", _check_names),
    "eeg_montage": Unit("eeg", "montage", _check_names),
    "imu_sampling_rate": Unit("imu", "sampling_rate", lambda name, value: check_rate(value, name)),
    "imu_axes": Unit("imu", "axes", _check_axes),
}


def units_of(modalities: Iterable[str]) -> list[str]:
    """Names of the columns that say something of these modalities."""
    names = set(modalities)
    return [name for name, unit in UNITS.items() if unit.modality in names]


def checked_unit(name: str, value: Any) -> Any:
    """The value of a column of `UNITS`; in a table of text, numbers and lists are JSON.

    Raises:
        ValueError: a value that the column cannot have.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    UNITS[name].check(name, value)
    return value


def with_units(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose columns of `UNITS` went into the items that they speak of; of absent modalities they are dropped.

    Raises:
        ValueError: a value that a column cannot have.
    """
    told: dict[str, dict[str, Any]] = {}
    for name in [name for name in UNITS if row.get(name) not in (None, "")]:
        modality, field, _ = UNITS[name]
        if row.get(modality) is not None:
            told.setdefault(modality, {})[field] = checked_unit(name, row[name])
    values = {modality: item_named(modality, row[modality]) for modality in told}
    items = {modality: type(item)(**{**vars(item), **told[modality]}) for modality, item in values.items()}
    return {name: items.get(name, value) for name, value in row.items() if name not in UNITS}


def call_of(modality: str, values: Iterable[Any]) -> dict[str, Any]:
    """Keywords of the processor for values of a modality, or for one item with its options."""
    argument = argument_of(modality)
    items = [item_named(modality, value) for value in values]
    call: dict[str, Any] = {argument: [item.raw for item in items]}
    options = items[0].options if len(items) == 1 else {}
    return {**call, f"{argument}_kwargs": options} if options else call


def has_options(value: Any) -> bool:
    """Whether a value of a row is an item that changes how it is processed."""
    return isinstance(value, Item) and bool(value.options)
