"""What is an operation of an augmentation? Checked options, and a draw that is applied to everything it holds for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

import numpy as np

from codebind_hf.processing.values import check_number, check_types, refuse, shown


# Modalities that see one scene: what moves their pixels is drawn once for all that a row has.
SCENE = ("image", "video", "depth", "thermal")
PICTURES = ("image", "video", "tactile")
MAPS = ("depth", "thermal")


@dataclass(frozen=True)
class View:
    """What an operation is drawn for.

    Args:
        part: sub-processor of the modality.
        shape: height and width of the picture or map; of a scene those of the first that a row has.
    """

    part: Any
    shape: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Operation:
    """One operation with its options, which are the fields of its class.

    Raises:
        ValueError: an option of another type, or beyond its bounds.
    """

    name: ClassVar[str]
    modalities: ClassVar[tuple[str, ...]]
    # Whether it acts on the tensor that the processor gives, instead of what the processor is given.
    on_tensors: ClassVar[bool] = False
    # Options that have to be the same in all modalities of a scene; without any, each modality has a draw of its own.
    shared: ClassVar[tuple[str, ...]] = ()
    # Parameters of the sub-processor that the operation stands in for.
    replaced: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        check_types(vars(self), get_type_hints(type(self)))
        self.check()
        for name, value in vars(self).items():
            # As they are in JSON, lists could not be compared with the defaults.
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)

    def check(self) -> None:
        """Refuse options beyond their bounds."""

    def check_part(self, part: Any) -> None:
        """Refuse what does not fit the tensors of a sub-processor."""

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """What this sample gets, as a function that changes no argument."""
        raise NotImplementedError


def check_share(name: str, value: float) -> None:
    """Refuse what is no probability or share."""
    check_number(name, value, 0, most=1)


def check_range(name: str, value: Sequence[float], least: float, most: float, above: bool = True) -> None:
    """Refuse what is not `[low, high]` with low <= high within bounds.

    Args:
        above: `least` itself is not allowed.
    """
    if len(value) != 2 or value[0] > value[1]:
        refuse(name, f"got {shown(value)}", "[low, high] with low <= high")
    for number in value:
        check_number(name, number, least, most=most, above=above)


def unchanged(value: Any) -> Any:
    """`value` itself."""
    return value


def between(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """A number from `[low, high]`."""
    return float(rng.uniform(bounds[0], bounds[1]))


def in_turn(value: Any, changes: Sequence[Callable[[Any], Any]]) -> Any:
    """`value` after all changes."""
    for change in changes:
        value = change(value)
    return value
