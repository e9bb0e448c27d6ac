"""What does an index hold of every item? Packed codes, a modality and a key, in memory or on disk, in pieces."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from codebind_hf.processing.arrays import as_array
from codebind_hf.processing.values import shown


# Texts are kept as UTF-8 and end with a zero: neither it nor a surrogate can be in one.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Columns(NamedTuple):
    """Some items: codes `(items, bytes)` uint8, numbers of modalities `(items,)` uint8, keys `(items,)` or `None`.

    Keys are int64, or UTF-8 bytes for texts; without keys, the key of an item is its position in the index.
    """

    codes: NDArray[np.uint8]
    modalities: NDArray[np.uint8]
    keys: NDArray[Any] | None

    def of(self, rows: Any) -> "Columns":
        """Some of the items: a slice, positions or a mask."""
        return Columns(self.codes[rows], self.modalities[rows], None if self.keys is None else self.keys[rows])


class CodeStorage:
    """Items in the order they were added. Pieces that lie on disk stay there; those in memory are joined."""

    def __init__(self) -> None:
        self.parts: list[Columns] = []

    def __len__(self) -> int:
        return sum(len(part.codes) for part in self.parts)

    @property
    def key_kind(self) -> str | None:
        """ "numbers", "integers" or "texts"; `None` while there is no item."""
        return kind_of(self.parts[0].keys) if self.parts else None

    def append(self, columns: Columns) -> None:
        """More items, behind the others.

        Raises:
            ValueError: their keys are of another kind than those that are there.
        """
        if not len(columns.codes):
            return
        kind = kind_of(columns.keys)
        if self.key_kind not in (None, kind):
            raise ValueError(
                f"keys: got {kind}, and this index has {self.key_kind}; an index has keys of one kind. Fix: give "
                "every item a key of the same type, or none at all (running numbers)."
            )
        self.parts.append(columns)
        # Joining equals with equals copies an item a few times, however many small pieces come.
        while len(self.parts) > 1 and _may_join(*self.parts[-2:]):
            self.parts[-2:] = [_joined(*self.parts[-2:])]

    def chunks(self, size: int, start: int = 0) -> Iterator[tuple[int, Columns]]:
        """Position of the first item and columns of at most `size` items at a time, from position `start` on."""
        position = 0
        for part in self.parts:
            for first in range(max(0, start - position), len(part.codes), size):
                yield position + first, part.of(slice(first, first + size))
            position += len(part.codes)

    def take(self, positions: NDArray[np.int64]) -> tuple[Columns, NDArray[Any]]:
        """The items at `positions` (one axis), in that order, and the key of each."""
        if not len(positions):
            return self.parts[0].of(slice(0, 0)), positions
        ends = np.cumsum([len(part.codes) for part in self.parts])
        owners = np.searchsorted(ends, positions, side="right")
        pieces, places = [], []
        for number in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == number)
            start = int(ends[number]) - len(self.parts[number].codes)
            pieces.append(self.parts[number].of(positions[mine] - start))
            places.append(mine)
        order = np.argsort(np.concatenate(places))
        columns = _joined(*pieces).of(order)
        return columns, positions if columns.keys is None else columns.keys

    def find(self, keys: NDArray[Any], modality: int | None, size: int) -> NDArray[np.int64]:
        """Position of the one item that has each of the stored `keys`.

        Args:
            modality: number of theirs, where several have the same keys.
            size: how many items are looked at at a time.

        Raises:
            ValueError: a key that no item has, or several.
        """
        found: dict[Any, int] = {}
        wanted = set(keys.tolist())
        for start, columns in self.chunks(size):
            own = np.arange(start, start + len(columns.codes)) if columns.keys is None else columns.keys
            hits = np.isin(own, keys) if own.dtype.kind == keys.dtype.kind else np.zeros(len(own), dtype=bool)
            hits &= True if modality is None else columns.modalities == modality
            for place in np.flatnonzero(hits).tolist():
                if found.setdefault(own[place], start + place) != start + place:
                    raise ValueError(
                        f"keys: {shown_keys(own[place : place + 1]).tolist()} names several items; `modality` tells "
                        "modalities apart; items of one modality need a key each to be found by it."
                    )
        missing = sorted(wanted - found.keys())
        if missing:
            some = shown_keys(np.array(missing[:5])).tolist()
            raise ValueError(
                f"keys: no item {'' if modality is None else 'of this modality '}has {some}; it was not added."
            )
        return np.array([found[key] for key in keys.tolist()], dtype=np.int64)


def kind_of(keys: NDArray[Any] | None) -> str:
    """ "numbers" (no keys), "integers" or "texts"."""
    if keys is None:
        return "numbers"
    return {"i": "integers", "S": "texts"}.get(keys.dtype.kind, str(keys.dtype))


def stored_keys(keys: Any, count: int | None = None) -> NDArray[Any]:
    """Keys of a user as they are stored.

    Args:
        count: how many there have to be.

    Raises:
        ValueError: no list, not as many as items, neither all integers nor all texts, or a text with a zero or half a
            character.
    """
    keys = as_array(keys, "keys", may_be_empty=True) if isinstance(keys, Tensor) else keys
    is_list = isinstance(keys, Iterable) and not isinstance(keys, (str, bytes, Mapping))
    values = keys.tolist() if isinstance(keys, np.ndarray) else list(keys) if is_list else None
    if not isinstance(values, list):
        raise ValueError(f"keys: got {shown(keys)}; allowed: a list of integers or texts.")
    if count is not None and len(values) != count:
        raise ValueError(f"keys: got {len(values)} for {count} items; give one for each.")
    if all(isinstance(key, (int, np.integer)) and not isinstance(key, bool) for key in values):
        return _integers(values)
    if all(isinstance(key, str) and not _UNSTORABLE.search(key) for key in values):
        return np.array([key.encode() for key in values], dtype=np.bytes_)
    kinds = ", ".join(sorted({type(key).__name__ for key in values}))
    raise ValueError(f"keys: got {kinds}; allowed: all integers, or all texts without zero characters and surrogates.")


def shown_keys(keys: NDArray[Any]) -> NDArray[Any]:
    """Keys as the user gave them."""
    return np.char.decode(keys, "utf-8") if keys.dtype.kind == "S" else keys


def _integers(values: Sequence[Any]) -> NDArray[np.int64]:
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError as error:
        raise ValueError("keys: an integer has more than 64 bits. Fix: give it as a text.") from error


def _may_join(one: Columns, other: Columns) -> bool:
    in_memory = not isinstance(one.codes, np.memmap) and not isinstance(other.codes, np.memmap)
    return in_memory and len(one.codes) <= 2 * len(other.codes)


def _joined(*parts: Columns) -> Columns:
    keys = None if parts[0].keys is None else np.concatenate([part.keys for part in parts if part.keys is not None])
    return Columns(
        np.concatenate([part.codes for part in parts]), np.concatenate([part.modalities for part in parts]), keys
    )
