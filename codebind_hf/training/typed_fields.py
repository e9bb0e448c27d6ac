"""Settings as they come from YAML, JSON and callers: only known names, each of the type that its field says."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codebind_hf.processing.values import fits, nearest, shown, words_for


_NUMBER = re.compile(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?")
# More names than these help nobody who mistyped one.
_MOST_NAMED = 24


def check_names(given: Iterable[Any], known: Sequence[str], where: str) -> None:
    """Refuse a name that is not among `known`, with the nearest one that is.

    Raises:
        ValueError: starts with `where`.
    """
    for name in given:
        if name not in known:
            some = ", ".join(known[:_MOST_NAMED]) + (", ..." if len(known) > _MOST_NAMED else "")
            hint = nearest(name, known, "{!r}").capitalize() or f"Allowed: {some}."
            raise ValueError(f"{where}: unknown key {shown(name)}. {hint}")


def check_mapping(value: Any, where: str) -> dict[str, Any]:
    """`value` as a dictionary with text as keys; nothing at all is an empty one.

    Raises:
        ValueError: starts with `where`.
    """
    if value is None:
        return {}
    if not fits(value, Mapping[str, Any]):
        raise ValueError(f"{where}: got {shown(value)}; expected a mapping of names to values.")
    return dict(value)


def check_types(values: Mapping[str, Any], hints: Mapping[str, Any], where: str) -> None:
    """Refuse values of another type than their names have in `hints`.

    A whole number is also a float. Text that is a number is refused with what YAML needs for one.

    Raises:
        ValueError: starts with `where`.
    """
    for name, value in values.items():
        if not fits(value, hints[name]):
            if isinstance(value, str) and _NUMBER.fullmatch(value):
                fix = "Fix: YAML needs a point, such as 5.0e-4, and no quotes around a number."
                raise ValueError(f"{where}: {name} is the text {value!r}, not a number. {fix}")
            raise ValueError(f"{where}: {name} is {shown(value)}; expected {words_for(hints[name])}.")
