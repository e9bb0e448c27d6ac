"""Who makes tensors of rows that are kept? This process, or several beside it; in the order of the rows either way."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from codebind_hf.data.items import CAPTIONS
from codebind_hf.data.row_tensors import prepare_row
from codebind_hf.data.workers import in_own_group, named_workers
from codebind_hf.processing.values import LIMITS, check_number, check_types


# Rows that a worker sends at once.
_ROWS_A_MESSAGE = 16


class PreparedRow(NamedTuple):
    """A row's name and its item, or the reason why it has none."""

    name: str
    item: dict[str, Any] | None
    reason: str = ""


def prepared_rows(
    rows: Sequence[Mapping[str, Any]], processor: Any, num_workers: int = 0, description: str = "Preparing rows"
) -> Iterator[PreparedRow]:
    """Every row as tensors, with a progress bar; the same whoever makes them.

    Args:
        num_workers: processes that read and process rows; 0: this one.
        description: of the progress bar.

    Raises:
        ValueError: `num_workers` is no whole number from 0.
        OSError: a worker was killed, as for want of memory.
    """
    check_number("num_workers", num_workers, 0, whole=True, most=LIMITS.workers)
    source = _Rows(rows, processor)
    with tqdm(total=len(source), desc=description, unit="row") as bar:
        for each in _in_workers(source, num_workers) if num_workers else map(source.made, range(len(source))):
            yield each
            bar.update()


def _in_workers(source: "_Rows", num_workers: int) -> Iterator[PreparedRow]:
    # A generator of its own: the loader would draw its seed from the one that weights are drawn from.
    loader: DataLoader = DataLoader(
        source,
        _ROWS_A_MESSAGE,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=in_own_group,
        generator=torch.Generator(),
    )
    with named_workers("preprocessing_num_workers"):
        for made in loader:
            for name, item, reason in made:
                yield PreparedRow(name, item and _converted(item, torch.from_numpy), reason)


class _Rows(Dataset):
    """Rows by number, made where they are asked for."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], processor: Any) -> None:
        self.rows, self.processor = rows, processor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> PreparedRow:
        """A row as arrays: a tensor that crosses processes keeps a file open for as long as it lives."""
        name, item, reason = self.made(index)
        return PreparedRow(name, item and _converted(item, Tensor.numpy), reason)

    def made(self, index: int) -> PreparedRow:
        """A row as tensors."""
        name = f"row {index}"
        try:
            row = self.rows[index]
            check_types({"row": row}, {"row": Mapping[str, Any]})
            check_types({"id": row.get("id")}, {"id": str | int | None})
            name = str(row.get("id") or name)
            return PreparedRow(name, prepare_row(row, self.processor, default_id=name))
        except (ValueError, OSError) as error:
            return PreparedRow(name, None, str(error))


def _converted(item: dict[str, Any], convert: Any) -> dict[str, Any]:
    """An item whose tensors went through `convert`."""
    converted = {**item, "tensors": {name: convert(value) for name, value in item["tensors"].items()}}
    if CAPTIONS in item:
        converted[CAPTIONS] = [{name: convert(value) for name, value in each.items()} for each in item[CAPTIONS]]
    return converted
