"""Settings as they come from YAML, JSON and callers: only known names, each of the type that its field says."""

import difflib
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin


_NUMBER = re.compile(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?")
_NAMES = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a whole number"}


def check_names(given: Iterable[Any], known: Sequence[str], where: str) -> None:
    """Refuse a name that is not among `known`, with the nearest one that is.

    Raises:
        ValueError: starts with `where`.
    """
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Allowed: {', '.join(known)}."
            raise ValueError(f"{where}: unknown key {name!r}. {hint}")


def check_mapping(value: Any, where: str) -> dict[str, Any]:
    """`value` as a dictionary with text as keys; nothing at all is an empty one.

    Raises:
        ValueError: starts with `where`.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
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
            raise ValueError(f"{where}: {name} is {shown(value)}; expected {described(hints[name])}.")


def shown(value: Any) -> str:
    """Type and value, cut to a length that can be read."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def described(hint: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(described(part) for part in parts))
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if hint in (None, type(None)):
        return "nothing"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(repr(each.value) for each in hint)
    kind = origin or hint
    name = _NAMES.get(kind, "a number" if kind is float else getattr(kind, "__name__", str(kind)))
    return f"{name} of {described(parts[-1])}" if parts and parts[-1] not in (Any, ...) else name


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if hint in (None, type(None)):
        return value is None
    kind = origin or hint
    if kind in (int, float):
        is_number = isinstance(value, (int, float) if kind is float else int)
        return is_number and not isinstance(value, bool)
    if not isinstance(value, kind):
        return False
    if isinstance(value, Mapping):
        return not parts or all(fits(key, parts[0]) and fits(each, parts[1]) for key, each in value.items())
    if isinstance(value, (list, set)):
        return not parts or all(fits(each, parts[0]) for each in value)
    return True
