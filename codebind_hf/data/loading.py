"""Where do the tensors of rows live: in memory, in files, or nowhere, made anew every time?"""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codebind_hf.data.choices import LOADINGS
from codebind_hf.data.columns import EXTRA_COLUMNS
from codebind_hf.data.fingerprints import digest_of, fingerprint
from codebind_hf.data.items import Items, row_modalities
from codebind_hf.data.lazy import LazyDataset
from codebind_hf.data.prepared import PreparedDataset
from codebind_hf.data.row_tensors import prepare_row
from codebind_hf.data.stored import StoredDataset
from codebind_hf.processing.values import check_choice


logger = logging.getLogger(__name__)

# Of all tensors that "auto" keeps in memory. Every loader worker and process may come to hold them once.
MEMORY_LIMIT = 4 * 2**30
_TRIES = 8


def load_items(
    rows: Sequence[Mapping[str, Any]],
    processor: Any,
    loading: str = "auto",
    on_error: str = "raise",
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    augment: bool = False,
    num_workers: int = 0,
) -> Items:
    """Rows as tensors, kept where `loading` says; training on them is the same wherever that is.

    Args:
        loading: "memory" (`PreparedDataset`), "disk" (`StoredDataset`), "lazy" (`LazyDataset`), or "auto": in memory
            if all tensors take at most `MEMORY_LIMIT` bytes and nothing is augmented, else lazy.
        on_error: "raise" or "skip". In memory and on disk all bad rows are known before training starts; a lazy one
            is met when its turn comes.
        seed: of the captions that are drawn.
        folder: of the files, with "disk".
        augment: apply the processor's `augmentation`, for which rows must be made anew every time.
        num_workers: processes that make rows which are kept; rows that are made when their turn comes have the
            loader's workers.

    Raises:
        ValueError: an unknown `loading` or `on_error`, "disk" without a folder, an augmentation of rows that are kept,
            or bad rows with `on_error="raise"`.
        OSError: files cannot be written or read.
    """
    check_choice("loading", loading, LOADINGS)
    if augment and processor.augmentation:
        if loading not in ("auto", "lazy"):
            raise ValueError(
                f"loading: got {loading!r} with an augmentation, which makes rows anew every time. Fix: 'lazy', or no "
                "augmentation."
            )
        _note_idle(num_workers)
        return LazyDataset(rows, processor, on_error, seed, augment=True)
    if loading == "disk":
        if folder is None:
            raise ValueError("folder: got None with loading='disk'. Fix: name a folder for the tensors' files.")
        return StoredDataset(rows, processor, Path(folder), on_error, seed, num_workers)
    is_small = loading == "memory" or loading == "auto" and estimated_bytes(rows, processor) <= MEMORY_LIMIT
    if is_small:
        return PreparedDataset(rows, processor, on_error, seed, num_workers)
    _note_idle(num_workers)
    return LazyDataset(rows, processor, on_error, seed)


def _note_idle(num_workers: int) -> None:
    if num_workers:
        logger.warning(
            "preprocessing_num_workers: %d are not used, since rows are processed when their turn comes (lazy); the "
            "loader's are dataloader_num_workers, under `training` of a recipe.",
            num_workers,
        )


def estimated_bytes(rows: Sequence[Mapping[str, Any]], processor: Any) -> int:
    """About what the tensors of all rows take: of every modality, what one row's take, times the rows that have it."""
    names = row_modalities(rows)
    counts = Counter(name for present in names for name in present)
    return sum(count * _bytes_of_one(rows, names, modality, processor) for modality, count in counts.items())


def _bytes_of_one(
    rows: Sequence[Mapping[str, Any]], names: Sequence[tuple[str, ...]], modality: str, processor: Any
) -> int:
    """Of the first row that can be read; 0 where the first few cannot, which whoever prepares them will say."""
    positions = (position for position, present in enumerate(names) if modality in present)
    for position, _ in zip(positions, range(_TRIES), strict=False):
        try:
            tensors = prepare_row(only(rows[position], [modality]), processor)["tensors"]
        except (ValueError, OSError):
            continue
        return sum(tensor.nbytes for tensor in tensors.values())
    return 0


class RowView(Sequence[dict[str, Any]]):
    """The rows that have one modality, with some of their modalities; none is opened before it is asked for."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], required: str, modalities: Sequence[str]) -> None:
        names = row_modalities(rows)
        self.rows, self.modalities = rows, tuple(modalities)
        self.positions = [position for position, present in enumerate(names) if required in present]
        kept = {each: tuple(name for name in each if name in self.modalities) for each in set(names)}
        self.row_modalities = [kept[names[position]] for position in self.positions]

    @property
    def fingerprint(self) -> str:
        """Digest of all rows, and of which are seen."""
        return digest_of([fingerprint(self.rows), self.positions, self.modalities])

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return only(self.rows[self.positions[index]], self.modalities)


def only(row: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """A raw row without other modalities."""
    kept = (*modalities, *EXTRA_COLUMNS)
    return {name: value for name, value in row.items() if name in kept}
