"""How the pages write a mean and half of its interval."""

from collections.abc import Mapping
from typing import Any


def value(entry: Mapping[str, Any], signed: bool = False, times: float = 100) -> str:
    """In per cent unless `times` says otherwise; without an interval where there was one split."""
    mean, half = times * entry["mean"], times * entry["half"]
    number = f"{mean:+.1f}" if signed else f"{mean:.1f}"
    return number if half != half else f"{number} ± {half:.1f}"
