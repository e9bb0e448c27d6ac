"""How is every row processed just once? Tensors kept in memory, with every bad row named."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from codebind_hf.data.collator import INPUT_IDS, modality_names, pad_text, pad_token_id
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.values import check_choice, check_types, describe, refuse


# Not "null", as where items are embedded: a row of nothing teaches nothing.
ON_ERROR = ("raise", "skip")
_MAX_NAMED = 20


class PreparedDataset(Sequence[dict[str, Any]], Dataset):
    """Rows as tensors: each row goes through the processor once, here, with a progress bar.

    Items are `{"tensors": {name: tensor}, "id", "label", "attributes"}`, without a batch axis, for `CodeBindCollator`.

    Args:
        rows: raw rows: `NineSenses`, `Manifest`, `rows_from_dataset(...)` or a list of dictionaries.
        processor (`CodeBindProcessor`): turns values or file names into tensors.
        on_error: "raise" reports ALL bad rows in one `ValueError` after the last row was tried; "skip" leaves them out
            and keeps their names and reasons in `skipped`.

    Raises:
        ValueError: rows that have no order, a bad row with `on_error="raise"`, or an unknown `on_error`.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], processor: Any, on_error: str = "raise") -> None:
        check_choice("on_error", on_error, ON_ERROR)
        total = _length(rows)
        self.skipped: dict[str, str] = {}
        self.items: list[dict[str, Any]] = []
        for index in tqdm(range(total), desc="Preparing rows", unit="row"):
            self._add(rows, index, processor)
        if self.skipped and on_error == "raise":
            raise ValueError(_report(self.skipped, total))
        self._pad_texts(processor)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.items)

    @property
    def class_names(self) -> list[str]:
        """Labels in the order of their first appearance."""
        return list(dict.fromkeys(item["label"] for item in self.items if item["label"] is not None))

    def _pad_texts(self, processor: Any) -> None:
        """Give all texts one length, so that batches need no pad token; the collator cuts what is padding in all."""
        texts = [item for item in self.items if INPUT_IDS in item["tensors"]]
        lengths = {len(item["tensors"][INPUT_IDS]) for item in texts}
        if len(lengths) > 1:
            pad_id = pad_token_id(processor)
            for item in texts:
                item["tensors"] = pad_text(item["tensors"], max(lengths), pad_id)

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


def _length(rows: Any) -> int:
    allowed = "a list of rows, or what has a length and rows by number"
    if isinstance(rows, (str, bytes, Mapping)) or not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        refuse("rows", f"got {describe(rows)}", allowed)
    try:
        return len(rows)
    except TypeError as error:
        raise ValueError(f"rows: got {describe(rows)}, which has no length; allowed: {allowed}.") from error


def prepare_row(row: Mapping[str, Any], processor: Any, default_id: str = "") -> dict[str, Any]:
    """One raw row as tensors without a batch axis.

    Raises:
        ValueError: the row has no modality, an id, a label or attributes of another type, or a value that the
            processor refuses.
        OSError: a file cannot be read.
    """
    extras = {"id": str | int | None, "label": str | int | None, "attributes": Mapping[str, Any] | None}
    check_types({name: row.get(name) for name in extras}, extras)
    modalities = modality_names(row)
    if not modalities:
        raise ValueError("the row has no modality; allowed: one or more.")
    batch = processor(**{argument_of(modality): [row[modality]] for modality in modalities}, return_tensors="pt")
    tensors: dict[str, Tensor] = {name: torch.as_tensor(value)[0] for name, value in batch.items()}
    row_id, attributes = row.get("id") or default_id, row.get("attributes") or {}
    return {"tensors": tensors, "id": row_id, "label": row.get("label"), "attributes": attributes}


def _report(skipped: Mapping[str, str], total: int) -> str:
    lines = [f"  {name}: {reason}" for name, reason in list(skipped.items())[:_MAX_NAMED]]
    if len(skipped) > _MAX_NAMED:
        rest = list(skipped)[_MAX_NAMED:]
        lines.append(f"  and {len(rest)} more: {', '.join(rest)}")
    head = f"rows: {len(skipped)} of {total} rows cannot be prepared."
    fix = "Fix them, or skip them: on_error='skip', of the examples --on_error skip."
    return "\n".join([f"{head} {fix}", *lines])
