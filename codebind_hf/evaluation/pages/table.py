"""A table as data, and as Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


_NUMBER = re.compile(r"-|[-+]?\d[\d.e+-]*( ± [\d.]+)?( \([-\d.]+ to [-\d.]+\))?")


class Table(NamedTuple):
    """Lines of text under a header, as every kind of page shows them.

    Args:
        header: name of every column.
        rows: cells of every line; a cell `` `like this` `` is shown as code.
        caption: what the table is of, where more than one is under a heading.
    """

    header: tuple[str, ...]
    rows: list[list[str]]
    caption: str = ""

    @property
    def are_numbers(self) -> list[bool]:
        """Of every column, whether it holds nothing but numbers, which are aligned on the right."""
        return [all(_NUMBER.fullmatch(row[place]) for row in self.rows) for place in range(len(self.header))]

    def markdown(self) -> str:
        """The table as Markdown, without its caption."""
        rules = ["---:" if number else "---" for number in self.are_numbers]
        lines = [list(self.header), rules, *self.rows]
        return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def table_of(header: Sequence[str], rows: Iterable[Iterable[Any]], caption: str = "") -> list[Table]:
    """One table, or none where there are no rows."""
    cells = [[str(cell) for cell in row] for row in rows]
    return [Table(tuple(header), cells, caption)] if cells else []


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; columns of numbers are right-aligned."""
    return Table(tuple(header), [[str(cell) for cell in row] for row in rows]).markdown()


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f}"


def between(share: float, interval: Sequence[float]) -> str:
    """A share and its 95 % interval, in percent."""
    return f"{percent(share)} ({percent(interval[0])} to {percent(interval[1])})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
