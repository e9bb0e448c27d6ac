"""What is this item? Wrappers that say which modality a value is of, and what follows from a value without one."""

import os
import urllib.parse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image as Pillow

from .media import SUFFIXES, frame_files
from .sources import called, is_decoder, is_source, kind_of, parts_of
from .values import describe, fits, is_path, nearest, refuse, shown


_WRAPPERS = "Text, Image, Video, Audio, Depth, Thermal, Tactile, PointCloud, Eeg, Imu, Sensor"
# Endings of files that may be of several modalities, or words.
_SEVERAL = (".npy", ".npz", ".txt", ".csv")
# Modalities whose files nobody takes for another's. A picture may be a depth map; without a wrapper it is a picture.
_OWN_FILES = ("audio", "image", "video", "point_cloud", "eeg")
_BY_SUFFIX: dict[str, str | None] = {
    **{suffix: modality for modality in _OWN_FILES for suffix in SUFFIXES[modality]},
    **dict.fromkeys(_SEVERAL, None),
}
# Fields that go with the value, or say which modality it is of.
_WITH_VALUE = ("value", "sampling_rate", "fps", "modality")


@dataclass(frozen=True)
class Item:
    """A value of one modality. Every further field is an option of its sub-processor, `None` for the default."""

    value: Any
    kind: ClassVar[str]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the sub-processor for this item."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in _WITH_VALUE}
        # A unit and a range are those of the modality where a processor has all options side by side.
        names = {name: f"{self.kind}_{name}" if name in ("unit", "range") else name for name in own}
        return {names[name]: option for name, option in own.items() if option is not None}

    @property
    def name(self) -> str:
        """The modality's name."""
        return self.kind

    @property
    def raw(self) -> Any:
        """What the processor is given."""
        return self.value


@dataclass(frozen=True)
class Text(Item):
    """Words, also such as are the name of a file or a URL."""

    kind = "text"


@dataclass(frozen=True)
class Image(Item):
    """A photograph."""

    kind = "image"


@dataclass(frozen=True)
class Tactile(Item):
    """The picture of a tactile sensor's gel."""

    kind = "tactile"


@dataclass(frozen=True)
class Depth(Item):
    """A depth map; `unit` is "m", "cm", "mm", metres per unit, or "disparity".

    For disparities, `intrinsics` of its camera are `(fx, fy, cx, cy)` or the matrix of 3 x 3, in pixels, of which the
    focal length fx counts, and `baseline` is in metres.
    """

    unit: str | float | None = None
    intrinsics: Sequence[Any] | None = None
    baseline: float | None = None
    invalid: str | None = None
    kind = "depth"

    @property
    def options(self) -> dict[str, Any]:
        """The unit, and what makes disparities of metres."""
        focal_length = None if self.intrinsics is None else focal_length_of(self.intrinsics, "intrinsics")
        camera = {"focal_length": focal_length, "baseline": self.baseline}
        options = {"depth_unit": self.unit, "invalid": self.invalid, **camera}
        return {name: option for name, option in options.items() if option is not None}


@dataclass(frozen=True)
class Thermal(Item):
    """A thermal map; `range` is `(low, high)`, in degrees Celsius where `unit` is given, else in the map's own unit.

    `unit` is "celsius", "kelvin", "fahrenheit", "decicelsius", "centicelsius", "decikelvin", "centikelvin",
    `(degrees per level, degrees of level 0)`, or "levels": all that the type of the integers can hold.
    """

    range: tuple[float, float] | None = None
    unit: str | tuple[float, float] | None = None
    invalid: str | None = None
    kind = "thermal"


@dataclass(frozen=True)
class PointCloud(Item):
    """A point cloud; `color_scale` is the value of a full colour, `mesh_samples` how many points a mesh gives."""

    color_scale: float | None = None
    mesh_samples: int | None = None
    invalid: str | None = None
    kind = "point_cloud"


@dataclass(frozen=True)
class _Rated(Item):
    """Samples at a rate; a file has its own."""

    sampling_rate: int | None = None

    @property
    def raw(self) -> Any:
        """Samples with their rate."""
        if self.sampling_rate is None:
            return self.value
        return {"array": self.value, "sampling_rate": self.sampling_rate}


@dataclass(frozen=True)
class Audio(_Rated):
    """A sound."""

    invalid: str | None = None
    kind = "audio"


@dataclass(frozen=True)
class Eeg(_Rated):
    """A recording of electrodes, `(electrodes, time)`; `channels` are names in a file, in the order wanted.

    `montage` names the electrodes of an array, so that channels can be picked of it, too.
    """

    channels: Sequence[str] | None = None
    montage: Sequence[str] | None = None
    invalid: str | None = None
    kind = "eeg"


@dataclass(frozen=True)
class Imu(_Rated):
    """A recording of a motion sensor, `(6, time)`; `axes` names its channels where they come in another order."""

    axes: Sequence[str] | None = None
    invalid: str | None = None
    kind = "imu"


@dataclass(frozen=True)
class Video(Item):
    """Frames; `fps` is their rate."""

    fps: float | None = None
    kind = "video"

    @property
    def raw(self) -> Any:
        """Frames with their rate."""
        return self.value if self.fps is None else {"array": self.value, "fps": self.fps}


@dataclass(frozen=True)
class Sensor(Item):
    """An array of a modality that was added to the model, by its name."""

    modality: str = ""
    sense: InitVar[str | None] = None
    kind = ""

    def __post_init__(self, sense: str | None) -> None:
        if sense is not None:
            warnings.warn("Sensor(sense=) is called modality= now.", DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "modality", sense)

    @property
    def name(self) -> str:
        """The modality's name."""
        return self.modality


def item_of(value: Any, label: str, known: tuple[str, ...], allow_urls: bool = False) -> Item:
    """A value of a mixed list as an item: wrapped, `{"depth": map}`, a text, a file, a picture, a sound with its rate.

    A string is a text, unless it is the path of a file or, with a separator in it, of a folder of frames. What may be
    either is refused: the path of a file of an unknown kind or of several modalities, a string that ends like a file
    and names none, and the name of a folder of pictures without a separator.

    Args:
        label: of the value, for messages.
        known: modalities of the checkpoint.
        allow_urls: take a URL by the suffix of its path.

    Raises:
        ValueError: an array or a path that may be of several modalities, a URL, or something else.
    """
    if isinstance(value, Item):
        return value
    if isinstance(value, str):
        if is_url(value) and allow_urls:
            return _item_of_path(Path(urllib.parse.urlsplit(value).path), label, value)
        if is_url(value):
            refuse(label, f"got the URL {value!r}", "local files", "pass allow_urls=True, or wrap words as Text(...).")
        return _item_of_path(Path(value), label, value) if _is_path(value, label) else Text(value)
    if isinstance(value, os.PathLike):
        return _item_of_path(Path(value), label, value)
    if isinstance(value, Pillow.Image):
        return Image(value)
    if is_source(value):
        name = "video" if is_decoder(value, "video") else "audio" if is_decoder(value, "audio") else None
        return item_named(name, value) if name else _item_of_path(Path(parts_of(value)[0]), label, value)
    if isinstance(value, Mapping):
        if "array" in value and "sampling_rate" in value:
            return Audio(dict(value))
        if len(value) == 1:
            ((name, one),) = value.items()
            return item_named(str(name), one)
    fix = f"say its modality: a wrapper such as Depth(array, unit='m') ({_WRAPPERS}), or {{{known[-1]!r}: value}}."
    refuse(label, f"got {describe(value)}", "an item whose modality is known", fix)


def is_url(value: Any) -> bool:
    """Whether a string names something remote."""
    return isinstance(value, str) and value.partition("://")[0].lower() in ("http", "https", "ftp", "s3", "gs", "hf")


def _is_path(value: str, label: str) -> bool:
    """Whether a string is the path of a file or folder, and not words."""
    if os.path.isdir(value):
        has_separator = any(mark in value for mark in (os.sep, "/"))
        if not has_separator and frame_files(value):
            fix = f"write './{value}' or Video({value!r}) for the video, Text({value!r}) for the words."
            refuse(label, f"got {value!r}, the name of a folder of pictures", "a path with a separator", fix)
        return has_separator
    if os.path.exists(value):
        return True
    if Path(value).suffix.lower() in _BY_SUFFIX:
        fix = "correct the path, or wrap words as Text(...)."
        refuse(label, f"got {value!r}, which ends like a file and names none", "a file that exists", fix)
    return False


def _item_of_path(path: Path, label: str, value: Any) -> Item:
    if is_path(value) and path.is_dir():
        return Video(value)
    content = "" if is_url(value) else kind_of(value, list(_BY_SUFFIX))
    # What is no file of its suffix is refused, with the reason, by whoever reads it.
    suffix = content or path.suffix.lower()
    if suffix not in _BY_SUFFIX:
        guess = (
            f"{nearest(suffix, _BY_SUFFIX, '{}')} Else convert it," if nearest(suffix, _BY_SUFFIX) else "convert it,"
        )
        fix = f"{guess} pass what it holds as an array in a wrapper, or wrap words as Text(...)."
        refuse(label, f"got {called(value)!r}, a file with the suffix {suffix!r}", "those in docs/files.md", fix)
    modality = _BY_SUFFIX[suffix]
    if modality is None:
        fix = "wrap it, such as Depth(path), Eeg(path), PointCloud(path), Thermal(path), or words as Text(...)."
        refuse(label, f"got {called(value)!r}, which may be of several modalities", "a suffix that tells", fix)
    return item_named(modality, value)


def item_named(name: str, value: Any) -> Item:
    """A value as an item of the modality called `name`.

    Raises:
        ValueError: the value is wrapped as one of another modality.
    """
    if isinstance(value, Item):
        if value.name != name:
            refuse(name, f"got an item of {value.name!r}", f"a value or an item of {name!r}")
        return value
    return _KINDS[name](value) if name in _KINDS else Sensor(value, name)


def focal_length_of(intrinsics: Any, label: str) -> float:
    """The focal length in pixels, along the rows of a picture, of `(fx, fy, cx, cy)` or the matrix of 3 x 3.

    Raises:
        ValueError: something else, or a focal length of 0 or less.
    """
    is_matrix = fits(intrinsics, Sequence[Sequence[float]]) and [len(row) for row in intrinsics] == [3, 3, 3]
    if not is_matrix and not (fits(intrinsics, Sequence[float]) and len(intrinsics) == 4):
        refuse(label, f"got {shown(intrinsics)}", "[fx, fy, cx, cy] or the matrix of 3 x 3, in pixels")
    focal_length = intrinsics[0][0] if is_matrix else intrinsics[0]
    if focal_length <= 0:
        refuse(label, f"got the focal length {focal_length:g}", "one above 0, in pixels")
    return float(focal_length)


_KINDS: dict[str, type[Item]] = {
    each.kind: each for each in (Text, Image, Video, Audio, Depth, Thermal, Tactile, PointCloud, Eeg, Imu)
}
