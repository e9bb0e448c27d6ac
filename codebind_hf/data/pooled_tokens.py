"""How does a tower that does not learn run once a row, and never again? Its pooled tokens, kept in files by row."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from codebind_hf.data.collator import POOLED_TOKENS, CodeBindCollator, modality_for
from codebind_hf.data.fingerprints import bytes_of, digest_of
from codebind_hf.data.items import Draw, Items, ItemView, drawn, texts_or_tensors
from codebind_hf.data.workers import in_own_group
from codebind_hf.model.format_version import FORMAT_VERSION


logger = logging.getLogger(__name__)

# Rows of a file: what a run that is killed while it writes may have to do again.
ROWS_A_FILE = 512
ITEMS_A_BATCH = 64
_FORMAT = 1
_ENDING = ".safetensors"
_FIX = "Fix: delete the file, and its rows go through the tower again."
# Of a configuration, what says nothing about the network.
_NAMES = ("_name_or_path", "transformers_version", "architectures")


def tokens_key(model: Any, modality: str, rows: str, precision: str = "no") -> str:
    """Digest of all that the pooled tokens of a modality follow from.

    That is the weights and the configuration of its tower, `rows`, the precision, and how this code writes files.

    Args:
        model (`CodeBindModel`): what its heads and codebooks are does not count, as they run on the tokens.
        rows: digest of rows and processor, such as `Items.fingerprint_of`.
        precision: of autocast.
    """
    encoder = model.encoders[model.config.modality(modality).encoder]
    config = {name: value for name, value in encoder.config.to_dict().items() if name not in _NAMES}
    attention = encoder.config._attn_implementation
    parts = [_FORMAT, FORMAT_VERSION, modality, precision, attention, config, rows]
    digest = hashlib.sha256(digest_of(parts).encode())
    for name, value in sorted(encoder.tower.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + bytes_of(value))
    return digest.hexdigest()


class TokenStore:
    """Pooled tokens of one modality, by number of the row and of its caption, in files that are mapped.

    A file is named after its contents and says which key it is of; files of another key are not read.

    Args:
        folder: of the files, which is theirs alone.
        key: of `tokens_key`.
        num_rows: rows that there may be.
    """

    def __init__(self, folder: str | os.PathLike, key: str, num_rows: int) -> None:
        self.folder, self.key = Path(folder), key
        # Of every row: its file, or -1; and how many captions it has, 0 for a row that could not be read.
        self.file_of = np.full(num_rows, -1, dtype=np.int32)
        self.captions = np.zeros(num_rows, dtype=np.int32)
        self.paths: list[Path] = []
        self.seen: set[Path] = set()
        self._files: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def scan(self, check: bool = False) -> None:
        """See which rows are there.

        Args:
            check: compare every file with the digest in its name, which takes reading it.

        Raises:
            OSError: a file is damaged.
        """
        for path in sorted(set(self.folder.glob(f"*{_ENDING}")) - self.seen):
            self._add(path, check)
            self.seen.add(path)

    def _add(self, path: Path, check: bool) -> None:
        if check and not path.stem.endswith(_digest_of_file(path)):
            raise OSError(f"{path}: holds other bytes than were written. {_FIX}")
        try:
            with safe_open(path, framework="pt") as file:
                said = file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise OSError(f"{path}: is damaged ({error}). {_FIX}") from error
        if said.get("key") != self.key:
            logger.warning("%s is of another tower or other rows, and not read.", path)
            return
        for position, captions in json.loads(said["rows"]).items():
            self.file_of[int(position)], self.captions[int(position)] = len(self.paths), captions
        self.paths.append(path)

    def missing(self, positions: Sequence[int]) -> list[int]:
        """Those of these rows that are not there."""
        return [position for position in positions if self.file_of[position] < 0]

    def write(self, rows: Mapping[int, Sequence[Tensor]]) -> None:
        """Add rows, with the tokens `(clips, hidden_size)` of each caption, in one file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        said = {"key": self.key, "rows": json.dumps({position: len(tokens) for position, tokens in rows.items()})}
        tensors = {
            f"{position}.{caption}": each.clone()
            for position, tokens in rows.items()
            for caption, each in enumerate(tokens)
        }
        draft = self.folder / f"{min(rows):09d}.draft"
        try:
            save_file(tensors, draft, metadata=said)
            os.replace(draft, self.folder / f"{min(rows):09d}-{_digest_of_file(draft)}{_ENDING}")
        except SafetensorError as error:
            raise OSError(f"{self.folder}: cannot be written ({error}). Fix: free space on the disk.") from error
        finally:
            draft.unlink(missing_ok=True)

    def read(self, draw: Draw, seed: int) -> Tensor | None:
        """Tokens of a row and of the caption that its epoch drew; `None` of a row that could not be read.

        Raises:
            OSError: its file is gone or damaged.
            ValueError: a row that is not there.
        """
        number, captions = int(self.file_of[draw.position]), int(self.captions[draw.position])
        if number < 0:
            raise ValueError(f"{self.folder}: has no tokens of row {draw.position}.")
        if not captions:
            return None
        caption = drawn(captions, seed, draw) if captions > 1 else 0
        try:
            if number not in self._files:
                self._files[number] = safe_open(self.paths[number], framework="pt")
            return self._files[number].get_tensor(f"{draw.position}.{caption}")
        except (SafetensorError, OSError) as error:
            raise OSError(f"{self.paths[number]}: cannot be read ({error}). {_FIX}") from error


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, partial(hashlib.blake2b, digest_size=12)).hexdigest()


class PooledItems(Items):
    """Items with pooled tokens in place of the tensors of some modalities, which are then neither read nor processed.

    Args:
        items: all modalities of each row.
        stores: by modality; they hold every row that has it.
    """

    def __init__(self, items: Items, stores: Mapping[str, TokenStore]) -> None:
        self.items, self.base, self.stores = items, base_of(items), dict(stores)
        self.row_modalities = items.row_modalities

    def take(self, draw: Draw, modalities: Sequence[str] | None = None) -> dict[str, Any] | None:
        """One item with no modalities but these; `None` for a row that is skipped.

        Raises:
            ValueError, OSError: as of `items`, or tokens cannot be read.
        """
        kept = [name for name in self.row_modalities[draw.position] if modalities is None or name in modalities]
        origin = origin_of(self.items, draw)
        tokens = {name: self.stores[name].read(origin, self.base.seed) for name in kept if name in self.stores}
        if any(found is None for found in tokens.values()):
            return None
        item = self.base.take(origin, [name for name in kept if name not in tokens])
        return None if item is None else {**item, POOLED_TOKENS: tokens}


def base_of(items: Items) -> Items:
    """The items behind all views of them."""
    while isinstance(items, ItemView):
        items = items.items
    return items


def origin_of(items: Items, draw: Draw) -> Draw:
    """A row of a view as one of `base_of(items)`."""
    while isinstance(items, ItemView):
        draw = draw._replace(position=items.positions[draw.position])
        items = items.items
    return draw


class _Rows(torch.utils.data.Dataset):
    """Whole items of one modality, for the workers of a loader."""

    def __init__(self, items: Items, positions: Sequence[int], modality: str) -> None:
        self.items, self.positions, self.modality = items, positions, modality

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, number: int) -> tuple[int, Sequence[Mapping[str, Tensor]]]:
        position = self.positions[number]
        item = self.items.whole(position, [self.modality])
        return position, () if item is None else texts_or_tensors(item, self.modality)


def pool_rows(
    items: Items,
    positions: Sequence[int],
    modality: str,
    collator: CodeBindCollator,
    pooled: Callable[[Tensor, Tensor | None], Tensor],
    num_workers: int = 0,
) -> Iterator[tuple[int, list[Tensor]]]:
    """Of every row its number and the pooled tokens `(clips, hidden_size)` of each of its captions, on the CPU.

    Args:
        items: no view.
        positions: of rows that have `modality`.
        pooled: `(values, attention_mask)` of a batch to tokens `(batch, clips, hidden_size)`.
        num_workers: processes that read and process rows.

    Raises:
        ValueError, OSError: as of `items`.
    """
    # Random numbers of its own: those of the training are not touched.
    loader = DataLoader(
        _Rows(items, positions, modality),
        batch_size=_even_size(len(positions)),
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=in_own_group,
        generator=torch.Generator(),
    )
    for rows in loader:
        entries = [(position, tensors) for position, texts in rows for tensors in texts]
        found: dict[int, list[Tensor]] = {position: [] for position, _ in rows}
        for part in _even_parts(entries, modality):
            batch = collator([{"tensors": tensors} for _, tensors in part])
            tokens = pooled(batch[modality_for(modality).tensor], batch.get("attention_mask")).cpu()
            for (position, _), each in zip(part, tokens, strict=True):
                found[position].append(each)
        yield from found.items()


def _even_parts(entries: Sequence[tuple[int, Mapping[str, Tensor]]], modality: str) -> Iterator[list[Any]]:
    """Entries in parts of one shape."""
    name = modality_for(modality).tensor
    kinds = groupby(entries, key=lambda entry: () if modality == "text" else entry[1][name].shape)
    for same in (list(group) for _, group in kinds):
        size = _even_size(len(same))
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _even_size(count: int) -> int:
    """Size of batches of `ITEMS_A_BATCH` items or fewer, none much smaller: an item alone is summed otherwise."""
    return -(-count // max(1, -(-count // ITEMS_A_BATCH)))
