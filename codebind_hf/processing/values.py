"""How is anything refused, shown in a message, and checked? What every part of this room says and asks alike."""

import difflib
import math
import os
import reprlib
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

import numpy as np
import torch


HIGHEST_RATE = 1_000_000
_LONGEST = 120
_UNIT_WORDS = {
    **{"metre": "m", "centimetre": "cm", "millimetre": "mm", "level": "levels", "k": "kelvin"},
    **dict.fromkeys(("c", "degc", "\u00b0c"), "celsius"),
    **dict.fromkeys(("f", "degf", "\u00b0f"), "fahrenheit"),
}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 3
# What is in a file tells nobody anything.
_SHORT.repr_bytes = _SHORT.repr_bytearray = lambda value, level: f"{len(value):,} bytes"  # type: ignore[attr-defined]


@dataclass
class Limits:
    """The largest input that is taken. Sizes are compared with it before anything of such a size is made.

    Set a field of `LIMITS` to take more, or less: `LIMITS.clips = 10**6`.

    Args:
        values: numbers that one item holds, becomes, or needs on the way, such as a dense copy of sparse ones.
        pixels: of a picture as it comes.
        resized_pixels: of a picture that is resized and will be cropped.
        clips: of one recording.
        tokens: of a text, padding included.
        workers: threads.
    """

    values: int = 2**30
    pixels: int = 2**28
    resized_pixels: int = 2**26
    clips: int = 2**16
    tokens: int = 2**16
    workers: int = 1024


LIMITS = Limits()


def refuse(label: str, got: str, allowed: str, fix: str = "") -> NoReturn:
    """Raise the one kind of error of every processor: where, what came, what is allowed, what to do."""
    raise ValueError(f"{label}: {got}; allowed: {allowed}." + (f" Fix: {fix}" if fix else ""))


def is_path(value: Any) -> bool:
    """Whether `value` can only be meant as a file name."""
    return isinstance(value, (str, os.PathLike))


def describe(value: Any) -> str:
    """Type and, for arrays, shape and dtype of `value`, for messages: a short line, whatever the value is."""
    kind = type(value).__name__
    if isinstance(value, str):
        kind += f" ({value[:40]!r})"
    elif isinstance(value, (bytes, bytearray)):
        kind += f" of length {len(value)}"
    elif isinstance(value, (np.ndarray, torch.Tensor)):
        try:
            kind += f" of shape {tuple(value.shape)} and dtype {value.dtype}"
        except Exception:  # Nested tensors and parameters without data have no shape, each with an error of its own.
            kind += f" without a shape, of dtype {value.dtype}"
    return _one_line(kind)


def shown(value: Any) -> str:
    """`value` as one would write it, for messages: a short line, whatever the value is."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return describe(value)
    try:
        return _one_line(_SHORT.repr(value))
    except Exception:  # Integers of many digits, and whatever an object's own method raises.
        return describe(value)


def _one_line(text: str) -> str:
    return shortened(" ".join(text.split()), _LONGEST)


def shortened(text: str, most: int = 1000) -> str:
    """Text of at most `most` characters; what is beyond them is dots."""
    return text if len(text) <= most else text[: most - 3] + "..."


def nearest(name: Any, known: Iterable[str], form: str = "`{}`") -> str:
    """The question whether one of the `known` names was meant, or nothing if none is like `name`."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"did you mean {form.format(close[0])}?" if close else ""


def refuse_unknown(label: str, given: Iterable[Any], known: Iterable[str]) -> None:
    """Refuse the first of the `given` names that is not `known`, with the nearest that is."""
    known = list(known)
    for name in given:
        if name not in known:
            refuse(label, f"got unknown parameter {shown(name)}", ", ".join(sorted(known)), nearest(name, known))


def check_choice(name: str, value: Any, allowed: Sequence[Any], fix: str = "") -> None:
    """Refuse an argument that is none of the `allowed` values; `True` is not 1."""
    is_plain = value is None or isinstance(value, (str, int, float, np.integer, np.floating))
    if not is_plain or not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
        refuse(name, f"got {shown(value)}", ", ".join(repr(one) for one in allowed), fix)


def check_unit(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """As `check_choice`, for names of units; other words for them are told what they are called here."""
    word = str(value).strip().lower().replace("meter", "metre").removesuffix("s")
    meant = _UNIT_WORDS.get(word, word)
    near = nearest(meant, [one for one in allowed if isinstance(one, str)], "{!r}") if isinstance(value, str) else ""
    check_choice(name, value, allowed, near)


def check_number(
    name: str, value: Any, least: float, whole: bool = False, most: float = math.inf, above: bool = False
) -> None:
    """Refuse an argument that is not a finite number (or whole number) from `least` to `most`.

    Args:
        above: `least` itself is not allowed.
    """
    kinds: tuple[type, ...] = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if is_number and _largest(whole) < value < math.inf:
        most = min(most, _largest(whole))
    if not is_number or not least <= value <= most or value in (math.inf, least if above else math.inf):
        bound = f"in [{least}, {most}]" if most < math.inf else f"above {least}" if above else f"of at least {least}"
        refuse(name, f"got {shown(value)}", f"a {'whole ' if whole else ''}number {bound}")


def _largest(whole: bool) -> float:
    """What any number may be: no array has more items, and no float is larger."""
    return 2**63 - 1 if whole else sys.float_info.max


def check_pair(name: str, value: Any) -> None:
    """Refuse an argument that is not `[low, high]` with low < high, both finite."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(fits(one, float) for one in value):
        refuse(name, f"got {shown(value)}", "a pair of numbers [low, high]")
    if not value[0] < value[1]:
        refuse(name, f"got {shown(value)}", "low < high")


def check_types(values: Mapping[str, Any], hints: Mapping[str, Any], fix: str = "") -> None:
    """Refuse the first of the named `values` whose type is not that of its hint.

    Args:
        hints: by name, annotations of `bool`, `int`, `float` (finite), `str`, `None`, other classes, `list[...]`,
            `Sequence[...]`, `dict[...]`, `Mapping[...]`, `Literal[...]` and unions of these.
    """
    for name, value in values.items():
        if not fits(value, hints[name]):
            refuse(name, f"got {shown(value)}", words_for(hints[name]), fix)


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type that an annotation names; `True` is no number, and NaN and infinity are none."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(value is one or (isinstance(value, str) and value == one) for one in inner)
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, (bool, np.bool_))
    if hint in (int, float):
        kinds = (int, np.integer) if hint is int else (int, float, np.integer, np.floating)
        is_finite = isinstance(value, (int, np.integer)) or (isinstance(value, kinds) and math.isfinite(value))
        return isinstance(value, kinds) and not isinstance(value, bool) and is_finite
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return is_list and all(fits(one, inner[0]) for one in value)
    return isinstance(value, origin or hint)


_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    type(None): "None",
    os.PathLike: "a path",
}


def words_for(hint: Any) -> str:
    """The type that an annotation names, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(words_for, inner))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a dictionary from {words_for(inner[0])} to {words_for(inner[1])}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list with each {words_for(inner[0])}"
    return "anything" if hint is Any else _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def check_rate(rate: Any, label: str) -> int:
    """A sampling rate in Hz as an integer.

    Raises:
        ValueError: not a whole number between 1 and `HIGHEST_RATE`.
    """
    if not fits(rate, float) or not 1 <= rate <= HIGHEST_RATE or rate != int(rate):
        refuse(label, f"got sampling_rate={shown(rate)}", f"a whole number of Hz from 1 to {HIGHEST_RATE}")
    return int(rate)


def check_size(count: float, label: str, what: str, limit: str = "values", fix: str = "") -> None:
    """Refuse what needs more than a field of `LIMITS` allows.

    Args:
        what: is counted, such as "pixels after resizing".
        limit: name of the field.
    """
    most = getattr(LIMITS, limit)
    if count > most:
        raised = f"{fix} or, with memory for it, raise `{LIMITS.__module__}.LIMITS.{limit}`.".lstrip()
        refuse(label, f"got {count:.3g} {what}", f"up to {most}", raised)


def split_rated(value: Any, label: str) -> tuple[Any, Any]:
    """`(array, sampling rate or None)` of a value that may be a dictionary `{"array", "sampling_rate"}`."""
    if not isinstance(value, dict):
        return value, None
    if "array" not in value or not set(value) <= {"array", "sampling_rate", "path"}:
        keys = shown(sorted(value, key=str))
        refuse(label, f"got a dictionary with keys {keys}", "the keys 'array' and 'sampling_rate'")
    return value["array"], value.get("sampling_rate")
