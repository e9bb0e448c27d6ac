"""How are values of flags read, and what is said of those that cannot be? Nothing here imports torch."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NoReturn

import typer


def whole_number(least: int, most: int | None = None) -> Callable[[Any], int]:
    """What reads a flag that is a whole number from `least`, up to `most` if there is one."""
    allowed = f"of {least} or more" if most is None else f"from {least} to {most}"

    def read(value: Any) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least or most is not None and number > most:
            raise typer.BadParameter(f"got {value}; allowed: a whole number {allowed}.")
        return number

    return read


def number(value: Any) -> float:
    """What reads a flag that is a number."""
    try:
        return float(value)
    except ValueError as error:
        raise typer.BadParameter(f"got {value}; allowed: a number.") from error


def one_of(allowed: Sequence[str]) -> Callable[[Any], str]:
    """What reads a flag that is one of a few words."""

    def read(value: Any) -> str:
        if value not in allowed:
            raise typer.BadParameter(f"got {value}; allowed: {', '.join(allowed)}.{did_you_mean(value, allowed)}")
        return str(value)

    return read


def renames(value: Any) -> dict[str, str]:
    """`img=image,caption=text` as a dictionary.

    Raises:
        typer.BadParameter: a part without `=`, or a column named twice.
    """
    pairs = [part.partition("=") for part in str(value).split(",")]
    found = {old.strip(): new.strip() for old, _, new in pairs}
    if len(found) < len(pairs) or not all(old.strip() and new.strip() for old, _, new in pairs):
        raise typer.BadParameter(f"got {value!r}; allowed: column=name pairs, such as img=image,caption=text.")
    return found


def some_or_all(value: Any) -> list[str] | bool:
    """`text,image` as a list; `True` for all."""
    return True if value == "all" else str(value).split(",")


def did_you_mean(value: Any, known: Sequence[str]) -> str:
    """The nearest of the known words as a fix, with a space before it; empty where none is near."""
    near = difflib.get_close_matches(str(value), known, n=1)
    return f" Fix: did you mean {near[0]}?" if near else ""


def refuse(message: str) -> NoReturn:
    """End with the status of a wrong call.

    Raises:
        typer.BadParameter: always.
    """
    raise typer.BadParameter(message)


def needs(module: str, extra: str, what: str) -> None:
    """Refuse work that a library does which is not installed, before any of it is done.

    Raises:
        ImportError: it lacks; the message names the extra that brings it.
    """
    if find_spec(module) is None:
        raise ImportError(f'{what} needs {module}, which is not installed. Fix: pip install "codebind-hf[{extra}]".')


def exactly_one(given: Mapping[str, Any], of: str = "") -> None:
    """Refuse none or several of flags that say the same.

    Args:
        given: values by name.
        of: what they name, for the message.
    """
    at_most_one(given)
    if not any(given.values()):
        refuse(f"give {_or(given)}{of and f' ({of})'}.")


def at_most_one(given: Mapping[str, Any]) -> None:
    """Refuse several of flags that say the same."""
    named = [name for name, value in given.items() if value]
    if len(named) > 1:
        refuse(f"--{' and --'.join(named)}: got {'both' if len(named) == 2 else 'all'}; give one of them.")


def _or(names: Mapping[str, Any]) -> str:
    *most, last = [f"--{name}" for name in names]
    return f"{', '.join(most)} or {last}" if most else last
