"""How is every row processed just once? Tensors kept in memory, with every bad row named."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from codebind_hf.data.choices import ON_ERROR
from codebind_hf.data.collator import INPUT_IDS, modality_names, pad_text, pad_token_id
from codebind_hf.data.items import CAPTIONS, Draw, Items, drawn_caption, restricted
from codebind_hf.data.preparing import prepared_rows
from codebind_hf.data.row_tensors import class_names_of
from codebind_hf.processing.values import check_choice, describe, refuse


_MAX_NAMED = 20


class PreparedDataset(Items):
    """Rows as tensors: each row goes through the processor once, here, with a progress bar.

    Items are `{"tensors": {name: tensor}, "id", "label", "attributes"}`, without a batch axis, for `CodeBindCollator`;
    of several captions of a row, an epoch of training sees one. `LazyDataset` is for data that does not fit.

    Args:
        rows: raw rows: `NineSenses`, `Manifest`, `rows_from_dataset(...)` or a list of dictionaries.
        processor (`CodeBindProcessor`): turns values or file names into tensors.
        on_error: "raise" reports ALL bad rows in one `ValueError` after the last row was tried; "skip" leaves them out
            and keeps their names and reasons in `skipped`.
        seed: of the captions that are drawn.
        num_workers: processes that read and process rows; 0: this one. The tensors are the same.

    Raises:
        ValueError: rows that have no order, a bad row with `on_error="raise"`, an unknown `on_error`, or `num_workers`
            that is no whole number from 0.
        OSError: a worker was killed.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        processor: Any,
        on_error: str = "raise",
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        check_choice("on_error", on_error, ON_ERROR)
        total = num_rows(rows)
        self.seed = seed
        self.skipped: dict[str, str] = {}
        self.items: list[dict[str, Any]] = []
        # Rows of a list are values in memory, which tensors are to replace.
        self._rows = None if isinstance(rows, list) else rows
        self._kept: list[int] = []
        for place, (name, item, reason) in enumerate(prepared_rows(rows, processor, num_workers)):
            if item is None:
                self.skipped[name] = reason
            else:
                self.items.append(item)
                self._kept.append(place)
        if self.skipped and on_error == "raise":
            raise ValueError(report_of(self.skipped, total))
        self._pad_texts(processor)

    @cached_property
    def row_modalities(self) -> list[tuple[str, ...]]:  # type: ignore[override]
        """Modalities of every row."""
        return [modality_names(item) for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, draw: Draw, modalities: Sequence[str] | None = None) -> dict[str, Any]:
        """One item with no modalities but these, and the caption that its epoch drew."""
        return restricted(drawn_caption(self.items[draw.position], self.seed, draw), modalities)

    def whole(self, position: int, modalities: Sequence[str] | None = None) -> dict[str, Any]:
        """One item with all of its captions."""
        return restricted(self.items[position], modalities)

    def raw(self, position: int) -> Mapping[str, Any] | None:
        """The row that an item is made of, unless rows are a list of values."""
        return None if self._rows is None else self._rows[self._kept[position]]

    @property
    def class_names(self) -> list[str]:
        """Labels in the order of their first appearance."""
        return class_names_of(item["label"] for item in self.items)

    def _pad_texts(self, processor: Any) -> None:
        """Give all texts one length, so that batches need no pad token; the collator cuts what is padding in all."""
        texts = [tensors for item in self.items for tensors in (item["tensors"], *item.get(CAPTIONS, ()))]
        texts = [tensors for tensors in texts if INPUT_IDS in tensors]
        lengths = {len(tensors[INPUT_IDS]) for tensors in texts}
        if len(lengths) > 1:
            pad_id = pad_token_id(processor)
            for tensors in texts:
                tensors.update(pad_text(tensors, max(lengths), pad_id))


def num_rows(rows: Any) -> int:
    """How many rows there are.

    Raises:
        ValueError: rows without a length or without numbers.
    """
    allowed = "a list of rows, or what has a length and rows by number"
    if isinstance(rows, (str, bytes, Mapping)) or not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        refuse("rows", f"got {describe(rows)}", allowed)
    try:
        return len(rows)
    except TypeError as error:
        raise ValueError(f"rows: got {describe(rows)}, which has no length; allowed: {allowed}.") from error


def by_fix(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Lines that say what is wrong with what, and once what mends several of them.

    Args:
        reasons: names and messages, in which "Fix:" begins what mends it.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in reasons:
        got, _, fix = reason.partition(" Fix: ")
        groups.setdefault(fix, []).append((name, got))
    lines = []
    for fix, group in groups.items():
        if fix and len(group) > 1:
            lines += [f"Fix: {fix}", *(f"  {name}: {got}" for name, got in group)]
        else:
            lines += [f"{name}: {got}{f' Fix: {fix}' if fix else ''}" for name, got in group]
    return lines


def report_of(skipped: Mapping[str, str], total: int) -> str:
    """All rows that cannot be prepared, in words."""
    lines = [f"  {line}" for line in by_fix(list(skipped.items())[:_MAX_NAMED])]
    if len(skipped) > _MAX_NAMED:
        rest = list(skipped)[_MAX_NAMED:]
        lines.append(f"  and {len(rest)} more: {', '.join(rest)}")
    head = f"rows: {len(skipped)} of {total} rows cannot be prepared."
    fix = "Fix them, or skip them: on_error='skip', of the examples --on_error skip."
    return "\n".join([f"{head} {fix}", *lines])
