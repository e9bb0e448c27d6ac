"""What does training do to a row before and after it is processed? The augmentation in a processor, row by row."""

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from codebind_hf.data.collator import modality_names
from codebind_hf.data.columns import EXTRA_COLUMNS
from codebind_hf.data.operations import MAPS, SCENE, Operation, View, in_turn
from codebind_hf.data.picture_augmentations import (
    ColorJitter,
    HorizontalFlip,
    RandAugment,
    RandomResizedCrop,
    RandomSquareCrop,
    Rotation,
    VerticalFlip,
    shape_of,
)
from codebind_hf.data.row_tensors import prepare_row
from codebind_hf.data.signal_augmentations import Gain, RandomClip, TimeShift
from codebind_hf.data.tensor_augmentations import (
    ChannelDropout,
    FrequencyMask,
    Noise,
    PointDropout,
    PointJitter,
    PointRotation,
    PointScale,
    PointShift,
    PointTilt,
    RandomErasing,
    TimeMask,
    TimeRoll,
)
from codebind_hf.processing.arguments import argument_of, tensor_of
from codebind_hf.processing.arrays import as_float_array
from codebind_hf.processing.feature_reading import FeatureReader
from codebind_hf.processing.foreign_processing import ForeignReader
from codebind_hf.processing.frames import Frames
from codebind_hf.processing.items import Imu, item_named
from codebind_hf.processing.model_sizes import checked_augmentation
from codebind_hf.processing.pictures import grey_grid, picture_or_grid
from codebind_hf.processing.values import check_rate, check_types, nearest, refuse, refuse_unknown, split_rated
from codebind_hf.processing.video_processing_codebind import frames_and_rate


Change = Callable[[Any], Any]

OPERATIONS: dict[str, type[Operation]] = {
    kind.name: kind
    for kind in (
        *(RandomResizedCrop, RandomSquareCrop, HorizontalFlip, VerticalFlip, Rotation, RandAugment, ColorJitter),
        *(RandomErasing, RandomClip, Gain, FrequencyMask, TimeMask, Noise, TimeRoll, TimeShift, ChannelDropout),
        *(PointDropout, PointScale, PointShift, PointJitter, PointTilt, PointRotation),
    )
}


class Augmentation:
    """The augmentation of a processor, checked; `processor` is its copy without what random crops and clips replace.

    Raises:
        ValueError: an unknown operation or option, an option of another type or beyond its bounds, an operation that
            the modality cannot have or has twice, one of raw items after one of tensors, or options that differ
            between modalities of one scene where both must have the same crop, mirror or rectangle.
    """

    def __init__(self, processor: Any) -> None:
        names = [*processor.modalities, *processor.added_modalities]
        augmentation = checked_augmentation(processor.augmentation or {}, names)
        self.parts = {modality: processor.part(argument_of(modality)) for modality in names if modality != "text"}
        for modality in augmentation:
            if isinstance(self.parts.get(modality), (FeatureReader, ForeignReader)):
                fix = "leave it out; `input_noise` of training adds noise."
                refuse(f"augmentation.{modality}", "got it for what another network gives or takes", "others", fix)
        self.operations = {
            modality: _operations(modality, given, self.parts.get(modality))
            for modality, given in augmentation.items()
            if given
        }
        _check_scene(self.operations)
        self.processor = _without(processor, self.parts, self.operations)

    def prepare(
        self,
        row: Mapping[str, Any],
        seed: Sequence[int],
        default_id: str = "",
        modalities: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """One raw row as augmented tensors without a batch axis, as `prepare_row` gives them; see `augmented_row`.

        Args:
            modalities: open and process no others.
        """
        check_types({"seed": seed}, {"seed": Sequence[int]})
        if not seed or min(seed) < 0:
            refuse("seed", f"got {list(seed)}", "whole numbers of 0 or more, such as (seed, epoch, row)")
        if modalities is not None:
            row = {key: value for key, value in row.items() if key in EXTRA_COLUMNS or key in modalities}
        present = [modality for modality in modality_names(row) if modality in self.operations]
        changed = {**row, **self._changed_values(row, present, seed)}
        item = prepare_row(changed, self.processor, default_id)
        for modality in present:
            name, view = tensor_of(modality), View(self.parts[modality])
            item["tensors"][name] = in_turn(item["tensors"][name], self._changes(modality, view, seed, True))
        return item

    def _changed_values(self, row: Mapping[str, Any], present: Sequence[str], seed: Sequence[int]) -> dict[str, Any]:
        """What the processor is given, of the modalities whose raw items are changed."""
        values = {}
        for modality in present:
            if not all(operation.on_tensors for operation in self.operations[modality]):
                label = f"{argument_of(modality)}[0]"
                values[modality] = _Raw(modality, row[modality], self.parts[modality], label)
        cut = [name for name in values if any("resize_mode" in each.replaced for each in self.operations[name])]
        scene = next((values[modality].shape for modality in SCENE if modality in cut), (0, 0))
        changed = {}
        for modality, raw in values.items():
            view = View(self.parts[modality], scene if modality in SCENE else raw.shape)
            changes = self._changes(modality, view, seed, on_tensors=False)
            changed[modality] = raw.changed(partial(in_turn, changes=changes))
        return changed

    def _changes(self, modality: str, view: View, seed: Sequence[int], on_tensors: bool) -> list[Change]:
        """The draws of a modality's operations, each from random numbers of its own."""
        return [
            operation.draw(_generator(seed, modality, operation), view)
            for operation in self.operations[modality]
            if operation.on_tensors == on_tensors
        ]


def augmented_row(row: Mapping[str, Any], processor: Any, seed: Sequence[int], default_id: str = "") -> dict[str, Any]:
    """One raw row as tensors, augmented as `processor.augmentation` says; without one the same as `prepare_row`.

    Modalities that see one scene (image, video, depth, thermal) get the same crop, mirrors and erased rectangle where
    they have these operations. For many rows, make an `Augmentation` once and call its `prepare`.

    Args:
        seed: `(seed, epoch, row)`: the sample follows from it and the row alone, whichever worker draws it and when.

    Raises:
        ValueError: see `Augmentation` and `prepare_row`; also seeds that are no whole numbers of 0 or more.
        OSError: a file cannot be read.
    """
    if not getattr(processor, "augmentation", None):
        return prepare_row(row, processor, default_id)
    return Augmentation(processor).prepare(row, seed, default_id)


def _generator(seed: Sequence[int], modality: str, operation: Operation) -> np.random.Generator:
    """Random numbers of an operation: those of the scene where its modalities share a draw."""
    scope = "scene" if operation.shared and modality in SCENE else modality
    key = (zlib.crc32(scope.encode()), zlib.crc32(operation.name.encode()))
    return np.random.default_rng(np.random.SeedSequence([int(number) for number in seed], spawn_key=key))


# Checks


def _operations(modality: str, given: Sequence[Mapping[str, Any]], part: Any) -> tuple[Operation, ...]:
    found: list[Operation] = []
    for index, entry in enumerate(given):
        label = f"augmentation.{modality}[{index}]"
        operation = _operation(modality, entry, label)
        try:
            operation.check_part(part)
        except ValueError as error:
            raise ValueError(f"{label} {operation.name}: {error}") from error
        if operation.name in (each.name for each in found):
            refuse(label, f"got {operation.name!r} a second time", "every operation once")
        if not operation.on_tensors and found and found[-1].on_tensors:
            fix = "put it first: it acts on the item, the other on the tensor that is made of it."
            refuse(label, f"got {operation.name!r} after {found[-1].name!r}", "the other order", fix)
        found.append(operation)
    return tuple(found)


def _operation(modality: str, entry: Mapping[str, Any], label: str) -> Operation:
    allowed = sorted(name for name, kind in OPERATIONS.items() if modality in kind.modalities)
    name = entry["name"]
    if name not in OPERATIONS:
        refuse(label, f"got {name!r}", ", ".join(allowed) or "none", nearest(name, allowed))
    kind = OPERATIONS[name]
    if name not in allowed:
        fix = "measured values have no colours." if modality in MAPS and "image" in kind.modalities else ""
        refuse(label, f"got {name!r} for {modality}", ", ".join(allowed) or "none", fix)
    options = {key: value for key, value in entry.items() if key != "name"}
    refuse_unknown(f"{label} {name}", options, [field.name for field in fields(kind)])
    try:
        return kind(**options)
    except ValueError as error:
        raise ValueError(f"{label} {name}: {error}") from error


def _check_scene(operations: Mapping[str, Sequence[Operation]]) -> None:
    first: dict[str, tuple[str, Operation]] = {}
    for modality in SCENE:
        for operation in operations.get(modality, ()):
            other, same = first.setdefault(operation.name, (modality, operation))
            for option in operation.shared:
                held, wanted = getattr(same, option), getattr(operation, option)
                if held != wanted:
                    got = f"got {option}={wanted} for {modality} and {held} for {other}, which see one scene"
                    refuse(f"augmentation: {operation.name}", got, f"one {option} for both")


def _without(processor: Any, parts: Mapping[str, Any], operations: Mapping[str, Sequence[Operation]]) -> Any:
    """A copy of `processor` whose sub-processors leave out what operations do in their place."""
    plain = copy.copy(processor)
    attributes = {id(getattr(processor, name)): name for name in processor.get_attributes()}
    for modality, given in operations.items():
        replaced = {name: value for operation in given for name, value in operation.replaced.items()}
        own = {name: value for name, value in replaced.items() if name in parts[modality].defaults}
        if own:
            setattr(plain, attributes[id(parts[modality])], parts[modality].with_parameters(**own))
    return plain


# Raw items


class _Raw:
    """The raw item of a row in the form that operations take, and how it goes on from there to the processor.

    Args:
        value: as the processor takes it; a file is opened as the processor opens it.
    """

    def __init__(self, modality: str, value: Any, part: Any, label: str) -> None:
        self.label, self.item = label, item_named(modality, value)
        part = part.with_parameters(**self.item.options)
        self.value, self.rate = part.load(self.item.raw, label), None
        self.upright = getattr(part, "upright", True)
        if modality in MAPS:
            # Integers keep their type: the processor asks for their unit, and knows their largest by it.
            is_ours = hasattr(part, "mended")
            plain = partial(grey_grid, colour=modality == "thermal", upright=self.upright)
            self.value = (part.mended if is_ours else plain)(self.value, label)[0]
        elif modality == "video":
            self.value, self.rate = frames_and_rate(self.value, label)
        elif modality == "audio":
            self.value, rate = split_rated(self.value, label)
            self.value = part.recording(self.value, None if rate is None else check_rate(rate, label), label)
            self.rate = self.value.rate
        elif modality in ("eeg", "imu"):
            self.value, self.rate = split_rated(self.value, label)
            self.value = getattr(part, "mended", as_float_array)(self.value, label)
        else:
            self.value = picture_of(self.value, label, self.upright)
        self.modality = modality

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what has them."""
        if self.modality == "video":
            return shape_of(picture_of(self.value[0], f"{self.label} frame 0", self.upright))
        return shape_of(self.value) if isinstance(self.value, (np.ndarray, Image.Image)) else (0, 0)

    def changed(self, change: Change) -> Any:
        """What the processor is given."""
        if self.modality == "video":
            return ChangedFrames(self, change)
        value = change(self.value)
        if self.modality in MAPS:
            return replace(self.item, value=value)
        if self.modality == "imu":
            rate = None if self.rate is None else int(self.rate)
            return Imu(value, rate, **self.item.options)
        return value if self.rate is None else {"array": value, "sampling_rate": self.rate}


class ChangedFrames(Frames):
    """Frames that are changed, all alike, when they are asked for."""

    def __init__(self, raw: _Raw, change: Change) -> None:
        self._raw, self.fps, self._change = raw, raw.rate, change

    def __len__(self) -> int:
        return len(self._raw.value)

    def __getitem__(self, index: int) -> np.ndarray:
        label = f"{self._raw.label} frame {index}"
        return np.asarray(self._change(picture_of(self._raw.value[index], label, self._raw.upright)))


def picture_of(value: Any, label: str, upright: bool = True) -> Image.Image:
    """An RGB picture of 8 bits; floats in [0, 1] are rounded to 256 levels.

    Raises:
        ValueError: what the processor would refuse as a picture.
    """
    found = picture_or_grid(value, label, 3, upright)
    if isinstance(found, np.ndarray):
        found = Image.fromarray(np.round(found.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))
    return found.convert("RGB")
