"""What is said of a report where a command ends: the numbers that matter, as a small table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any


_HEADER = ("zero-shot", "accuracy", "95 % interval", "continuous", "chance", "majority", "n")


def wilson_interval(share: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """The interval in which a share lies that was seen in `count` independent trials.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference (1927). Unlike the
    interval of the normal distribution it stays between 0 and 1, and says something of 0 hits as well.

    Args:
        share: of hits, from 0 to 1; a tie may count as part of a hit.
        count: trials.

    Raises:
        ValueError: no trials, or a share outside of 0 to 1.
    """
    if count < 1 or not 0 <= share <= 1:
        raise ValueError(f"share, count: got {share} of {count}; allowed: a share from 0 to 1 of at least one trial.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    denominator = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / denominator
    width = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / denominator
    return max(0.0, centre - width), min(1.0, centre + width)


def accuracy_table(report: Mapping[str, Any]) -> list[str]:
    """A line a modality, in percent: accuracy of zero-shot classification with its interval, before quantization,
    by chance, and of always naming the class that most items have. Empty where nothing was classified.
    """
    entries = report.get("zero_shot", {})
    rows = [[name, *_cells(entry)] for name, entry in entries.items()]
    return aligned([_HEADER, *rows]) if rows else []


def _cells(entry: Mapping[str, Any]) -> Iterable[str]:
    low, high = wilson_interval(entry["accuracy"], entry["n"])
    yield _percent(entry["accuracy"])
    yield f"{_percent(low)} to {_percent(high)}"
    yield from (_percent(entry.get(key)) for key in ("accuracy_continuous", "chance", "majority"))
    yield str(entry["n"])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of a table: the first column begins, the others end, below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        )
        for first, *cells in rows
    ]
