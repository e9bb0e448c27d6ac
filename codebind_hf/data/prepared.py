"""How is every row processed just once? Tensors kept in memory, with every bad row named."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tqdm.auto import tqdm

from codebind_hf.data.collator import INPUT_IDS, modality_names, pad_text, pad_token_id
from codebind_hf.data.items import CAPTIONS, Draw, Items, restricted
from codebind_hf.data.row_tensors import class_names_of, drawn_caption, prepare_row
from codebind_hf.processing.values import check_choice, check_types, describe, refuse


# Not "null", as where items are embedded: a row of nothing teaches nothing.
ON_ERROR = ("raise", "skip")
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

    Raises:
        ValueError: rows that have no order, a bad row with `on_error="raise"`, or an unknown `on_error`.
    """

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], processor: Any, on_error: str = "raise", seed: int = 0
    ) -> None:
        check_choice("on_error", on_error, ON_ERROR)
        total = num_rows(rows)
        self.seed = seed
        self.skipped: dict[str, str] = {}
        self.items: list[dict[str, Any]] = []
        for index in tqdm(range(total), desc="Preparing rows", unit="row"):
            self._add(rows, index, processor)
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

    def whole(self, position: int) -> dict[str, Any]:
        """One item with all of its captions."""
        return self.items[position]

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

    def _add(self, rows: Sequence[Mapping[str, Any]], index: int, processor: Any) -> None:
        name = f"row {index}"
        try:
            row = rows[index]
            check_types({"row": row}, {"row": Mapping[str, Any]})
            check_types({"id": row.get("id")}, {"id": str | int | None})
            name = str(row.get("id") or name)
            self.items.append(prepare_row(row, processor, default_id=name))
        except (ValueError, OSError) as error:
            self.skipped[name] = str(error)


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


def report_of(skipped: Mapping[str, str], total: int) -> str:
    """All rows that cannot be prepared, in words."""
    lines = [f"  {name}: {reason}" for name, reason in list(skipped.items())[:_MAX_NAMED]]
    if len(skipped) > _MAX_NAMED:
        rest = list(skipped)[_MAX_NAMED:]
        lines.append(f"  and {len(rest)} more: {', '.join(rest)}")
    head = f"rows: {len(skipped)} of {total} rows cannot be prepared."
    fix = "Fix them, or skip them: on_error='skip', of the examples --on_error skip."
    return "\n".join([f"{head} {fix}", *lines])
