"""What every sub-processor of a modality is: checked parameters that live in JSON, and a loop over checked items."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import get_annotations
from typing import Any, ClassVar, NamedTuple, Self, get_origin

import numpy as np
from transformers import BatchFeature

from .arrays import split_items
from .foreign_files import FILE_LIMITS, FileLimits
from .media import read_media
from .sources import called, is_source
from .values import check_rate, check_size, check_types, refuse, refuse_unknown, shortened, shown, split_rated


class Windows(NamedTuple):
    """The clips of one recording, of which each is made when it is asked for.

    Args:
        starts: seconds at which the clips begin.
        seconds: length of a clip.
        values: gives the tensor of the clip with an index, as one sample of the model.
    """

    starts: list[float]
    seconds: float
    values: Callable[[int], np.ndarray]


def sliding_starts(length: int, window: int, hop: int, label: str = "hop_seconds") -> list[int]:
    """First samples of windows that cover all of `length` samples, the last of them ending with it.

    Raises:
        ValueError: more of them than `LIMITS.clips`.
    """
    check_size(1 + max(length - window, 0) // hop, label, "sliding clips", "clips", "choose larger hop_seconds,")
    starts = list(range(0, max(length - window, 0) + 1, hop))
    return starts if starts[-1] + window >= length else [*starts, length - window]


TENSOR_TYPES = ("pt", "np", None)
# Keys that transformers writes beside the parameters of a processor.
_BOOKKEEPING = ("image_processor_type", "feature_extractor_type", "processor_class", "auto_map")


def check_tensor_type(return_tensors: Any) -> None:
    """Refuse a `return_tensors` other than "pt", "np" or `None`."""
    if not isinstance(return_tensors, (str, type(None))) or return_tensors not in TENSOR_TYPES:
        refuse("return_tensors", f"got {shown(return_tensors)}", "'pt', 'np' or None")


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Put the item's name before what reading its file, at once or later, has to complain about."""
    try:
        yield
    except (OSError, ValueError) as error:
        if str(error).startswith((f"{label}:", f"{label} frame ")):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{label}: {shortened(str(error))}") from error


class ModalityProcessing:
    """Base of all sub-processors; mixed in before the transformers class that saves and loads them.

    A subclass names its parameters with their defaults, all of them JSON values, as annotated fields, checks them in
    `check_parameters` and turns one item into one array in `process_item`.
    """

    # Of all parameters, those of the classes above included.
    defaults: ClassVar[dict[str, Any]] = {}
    type_key: ClassVar[str]
    model_input_names: list[str]
    modality: str
    argument: str
    item_ndim: int | None = None
    # Parameters that earlier versions do not know: left out of files while they have their defaults.
    later: ClassVar[tuple[str, ...]] = ()
    # Of all files that are read, whichever processor reads them.
    file_limits: ClassVar[FileLimits] = FILE_LIMITS

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = [name for name, hint in get_annotations(cls).items() if get_origin(hint) is not ClassVar]
        named = {name: vars(cls)[name] for name in (*cls.defaults, *own) if name in vars(cls)}
        cls.defaults = {**cls.defaults, **named}

    def __init__(self, **parameters: Any) -> None:
        super().__init__()
        for key in _BOOKKEEPING:
            parameters.pop(key, None)
        refuse_unknown(type(self).__name__, parameters, self.defaults)
        for name, value in {**copy.deepcopy(self.defaults), **parameters}.items():
            setattr(self, name, list(value) if isinstance(value, tuple) else value)
        self.check_parameters()
        hints = {name: hint for cls in reversed(type(self).__mro__) for name, hint in get_annotations(cls).items()}
        check_types({name: getattr(self, name) for name in self.defaults}, hints)
        for what, count in self.sizes().items():
            check_size(count, type(self).__name__, what, fix="choose smaller parameters,")

    def check_parameters(self) -> None:
        """Refuse values that a subclass cannot work with; types are checked when it has."""

    def sizes(self) -> dict[str, float]:
        """Numbers that the parameters ask for, by what they are, such as those of one processed item."""
        return {}

    def parameters(self) -> dict[str, Any]:
        """All parameters by name."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.defaults}

    def with_parameters(self, **overrides: Any) -> Self:
        """This processor, or a copy of it with some parameters changed."""
        return type(self)(**{**self.parameters(), **overrides}) if overrides else self

    def to_dict(self) -> dict[str, Any]:
        """Parameters, class name and, for code on the Hub, where the class is found."""
        extra = {"auto_map": self.auto_map} if hasattr(self, "auto_map") else {}
        return {**self.saved_parameters(), self.type_key: type(self).__name__, **extra}

    def saved_parameters(self) -> dict[str, Any]:
        """All parameters but later ones that have their defaults."""
        return {n: v for n, v in self.parameters().items() if n not in self.later or v != self.defaults[n]}

    @classmethod
    def from_dict(cls, *saved: dict[str, Any], **kwargs: Any) -> Any:
        """Build from one saved dictionary; parameters among `kwargs` win, other `kwargs` belong to the loader."""
        return_unused = kwargs.pop("return_unused_kwargs", False)
        overrides = {name: value for name, value in kwargs.items() if name in cls.defaults}
        processor = cls(**{**saved[0], **overrides})
        if not return_unused:
            return processor
        return processor, {name: value for name, value in kwargs.items() if name not in cls.defaults}

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One checked item as one float32 array."""
        raise NotImplementedError

    @property
    def media(self) -> str:
        """What `read_media` calls the files of this modality."""
        return self.modality

    @property
    def reading_options(self) -> dict[str, Any]:
        """Arguments of `read_media` that are parameters of this processor."""
        return {}

    def load(self, value: Any, label: str) -> Any:
        """`value`, or what the file that it stands for holds."""
        if not is_source(value):
            return value
        with naming(label):
            return read_media(self.media, value, **self.reading_options)

    def file_label(self, value: Any, label: str) -> str:
        """`label` and, if `value` stands for a file, that file: for what is refused once it has been read."""
        source = value["array"] if isinstance(value, dict) and "array" in value else value
        return f"{label}: {self.modality} file {shortened(called(source))!r}" if is_source(source) else label

    def items(self, values: Any) -> tuple[list[Any], list[str]]:
        """Items and labels of what the user passed."""
        return split_items(values, self.argument, self.item_ndim)

    def batch(self, values: Any, process: Callable[..., np.ndarray], return_tensors: str | None) -> BatchFeature:
        """Apply `process(item, label)` to every item and stack the results under this modality's tensor name."""
        check_tensor_type(return_tensors)
        items, labels = self.items(values)
        arrays: Any = []
        for item, label in zip(items, labels, strict=True):
            with naming(label):
                arrays.append(process(self.load(item, label), self.file_label(item, label)))
        if return_tensors is not None:
            arrays = np.stack(arrays)
        return BatchFeature({self.model_input_names[0]: arrays}, tensor_type=return_tensors)


class RatedProcessing(ModalityProcessing):
    """Base of the modalities that are sampled in time and need, or may have, a sampling rate."""

    def load(self, value: Any, label: str) -> Any:
        """As for every modality; the file that samples with a rate are in has no other rate of its own."""
        if not isinstance(value, dict) or not is_source(value.get("array")):
            return super().load(value, label)
        found = self.load(value["array"], label)
        if isinstance(found, dict) and value.get("sampling_rate") not in (None, found["sampling_rate"]):
            got = f"got sampling_rate={shown(value['sampling_rate'])} for a file at {found['sampling_rate']} Hz"
            refuse(self.file_label(value, label), got, "the file's own rate", "leave the rate out.")
        return found if isinstance(found, dict) else {**value, "array": found}

    def process_signal(self, array: Any, rate: int | None, label: str) -> np.ndarray:
        """One signal with its sampling rate in Hz, if known, as one float32 array."""
        raise NotImplementedError

    def __call__(
        self, values: Any, sampling_rate: int | None = None, return_tensors: str | None = None, **overrides: Any
    ) -> BatchFeature:
        """Process one signal or a list of signals.

        Args:
            values: array, tensor, path, or `{"array", "sampling_rate"}`; or a list of these.
            sampling_rate: Hz of the arrays that come without their own. It describes the input; the rate that this
                processor works at is a parameter.
            return_tensors: "pt", "np" or `None` (a list of arrays).
            overrides: parameters to change for this call only.
        """
        processor = self.with_parameters(**overrides)

        def process(value: Any, label: str) -> np.ndarray:
            array, own_rate = split_rated(value, label)
            rate = sampling_rate if own_rate is None else own_rate
            return processor.process_signal(array, None if rate is None else check_rate(rate, label), label)

        return processor.batch(values, process, return_tensors)
