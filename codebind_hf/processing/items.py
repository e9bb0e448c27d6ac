"""What is this item? Wrappers that say which modality a value is of, and what follows from a value without one."""

import os
import urllib.parse
import warnings
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image as Pillow

from .media import SUFFIXES
from .values import describe, refuse


_WRAPPERS = "Text, Image, Video, Audio, Depth, Thermal, Tactile, PointCloud, Eeg, Imu, Sensor"
# Modalities whose files nobody takes for another's. A picture may be a depth map; without a wrapper it is a picture.
_BY_SUFFIX: dict[str, str | None] = {
    **{suffix: modality for modality in ("audio", "image", "video") for suffix in SUFFIXES[modality]},
    ".ply": "point_cloud",
    **dict.fromkeys((".npy", ".npz"), None),
}


@dataclass(frozen=True)
class Item:
    """A value of one modality. Every further field is an option of its sub-processor, `None` for the default."""

    value: Any
    kind: ClassVar[str]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the sub-processor for this item."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "value"}
        return {_OPTION_NAMES.get(name, name): option for name, option in own.items() if option is not None}

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
    """A depth map; `unit` is "m", "cm", "mm", metres per unit, or "disparity"."""

    unit: str | float | None = None
    kind = "depth"


@dataclass(frozen=True)
class Thermal(Item):
    """A thermal map; `range` is `(low, high)` in its unit."""

    range: tuple[float, float] | None = None
    kind = "thermal"


@dataclass(frozen=True)
class PointCloud(Item):
    """A point cloud; `color_scale` is the value of a full colour."""

    color_scale: float | None = None
    kind = "point_cloud"


@dataclass(frozen=True)
class _Rated(Item):
    """Samples at a rate; a file has its own."""

    sampling_rate: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """None: the rate goes with the samples."""
        return {}

    @property
    def raw(self) -> Any:
        """Samples with their rate."""
        if self.sampling_rate is None:
            return self.value
        return {"array": self.value, "sampling_rate": self.sampling_rate}


@dataclass(frozen=True)
class Audio(_Rated):
    """A sound."""

    kind = "audio"


@dataclass(frozen=True)
class Eeg(_Rated):
    """A recording of electrodes, `(electrodes, time)`."""

    kind = "eeg"


@dataclass(frozen=True)
class Imu(_Rated):
    """A recording of a motion sensor, `(6, time)`."""

    kind = "imu"


@dataclass(frozen=True)
class Video(Item):
    """Frames; `fps` is their rate."""

    fps: float | None = None
    kind = "video"

    @property
    def options(self) -> dict[str, Any]:
        """None: the rate goes with the frames."""
        return {}

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
    def options(self) -> dict[str, Any]:
        """None."""
        return {}

    @property
    def name(self) -> str:
        """The modality's name."""
        return self.modality


_OPTION_NAMES = {"unit": "depth_unit", "range": "thermal_range"}


def item_of(value: Any, label: str, known: tuple[str, ...], allow_urls: bool = False) -> Item:
    """A value of a mixed list as an item: wrapped, `{"depth": map}`, a text, a path, a picture, a sound with its rate.

    A string is a text, unless it is the path of a file or, with a separator in it, of a folder of frames. One that
    ends like a file and names none is refused, as is a file that may be of several modalities.

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
        suffix = Path(value).suffix.lower()
        if suffix in _BY_SUFFIX and not os.path.exists(value):
            fix = "correct the path, or wrap words as Text(...)."
            refuse(label, f"got {value!r}, which ends like a file and names none", "a file that exists", fix)
        is_frames = os.path.isdir(value) and any(mark in value for mark in (os.sep, "/"))
        return _item_of_path(Path(value), label, value) if is_frames or suffix in _BY_SUFFIX else Text(value)
    if isinstance(value, os.PathLike):
        return _item_of_path(Path(value), label, value)
    if isinstance(value, Pillow.Image):
        return Image(value)
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


def _item_of_path(path: Path, label: str, value: Any) -> Item:
    modality = "video" if path.is_dir() else _BY_SUFFIX.get(path.suffix.lower())
    if modality is None:
        fix = "wrap it, such as Depth(path), Eeg(path) or Thermal(path)."
        refuse(label, f"got {str(value)!r}, which may be of several modalities", "a suffix that tells", fix)
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


_KINDS: dict[str, type[Item]] = {
    each.kind: each for each in (Text, Image, Video, Audio, Depth, Thermal, Tactile, PointCloud, Eeg, Imu)
}
