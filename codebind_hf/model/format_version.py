"""Which versions of a checkpoint's files does this code read, and how does an older one become one of today?"""

from collections.abc import Callable
from typing import Any


FORMAT_VERSION = 1
# What turns the configuration of a version into one of the next.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def check_version(version: int) -> None:
    """Refuse a version that this code does not know.

    Raises:
        ValueError: saying how to get code that does.
    """
    if not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"format_version: got {version}; this code reads 1 to {FORMAT_VERSION}. Fix: a newer codebind_hf reads "
            "newer checkpoints (`pip install --upgrade codebind-hf`)."
        )


def of_this_version(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a saved configuration as today's code names them.

    Raises:
        ValueError: a version that this code does not know.
    """
    version = fields.get("format_version", 1)
    check_version(version)
    for number in range(version, FORMAT_VERSION):
        fields = {**MIGRATIONS[number](fields), "format_version": number + 1}
    return fields
