"""What training asks of rows that became tensors: which modalities each has, and one of them, whole or in part."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from codebind_hf.data.collator import ATTENTION_MASK, INPUT_IDS, modality_for, modality_names
from codebind_hf.data.fingerprints import bytes_of


# Of an item whose row has several captions: tensors of each, of which `tensors` holds one.
CAPTIONS = "captions"


class Draw(NamedTuple):
    """A row of an epoch: what is drawn anew every time, captions and augmentations, follows from the two.

    So nothing has to be told to loader workers, however many there are and wherever a run goes on.
    """

    position: int
    epoch: int = 0


def as_draw(index: Any) -> Draw:
    """`index` of a row as a `Draw`; a number is one of epoch 0."""
    return index if isinstance(index, Draw) else Draw(int(index))


class Items(Dataset):
    """Rows as tensors, by number or `Draw`. An item is `{"tensors", "id", "label", "attributes"}`.

    A subclass says what every row has in `row_modalities`, without making tensors for it, and makes an item in `take`;
    one whose rows have several captions also in `whole`. `seed` is of the captions that are drawn.
    """

    row_modalities: Sequence[tuple[str, ...]]
    seed: int = 0

    def take(self, draw: Draw, modalities: Sequence[str] | None = None) -> dict[str, Any] | None:
        """One item with no modalities but these, by default all; `None` for a row that is skipped."""
        raise NotImplementedError

    def whole(self, position: int, modalities: Sequence[str] | None = None) -> dict[str, Any] | None:
        """An item as it is kept and judged: where its row has several captions, `captions` are the tensors of all."""
        return self.take(Draw(position), modalities)

    def raw(self, position: int) -> Mapping[str, Any] | None:
        """The row that an item is made of, where it is at hand; `None` elsewhere."""
        return None

    def fingerprint_of(self, modality: str) -> str:
        """Digest of what the tensors of a modality follow from; here that of the tensors themselves."""
        digest = hashlib.sha256()
        for position, names in enumerate(self.row_modalities):
            item = self.whole(position, [modality]) if modality in names else None
            for tensors in [] if item is None else texts_or_tensors(item, modality):
                for name, value in sorted(tensors.items()):
                    digest.update(f"{position} {name} {value.dtype} {tuple(value.shape)}".encode() + bytes_of(value))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.row_modalities)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        draw = as_draw(index)
        if not -len(self) <= draw.position < len(self):
            raise IndexError(f"row {draw.position} of {len(self)} rows.")
        return self.take(draw._replace(position=draw.position % len(self)))

    def __iter__(self) -> Iterator[Any]:
        return (self[position] for position in range(len(self)))


class ListedItems(Items):
    """Items that are a list already; of several captions an epoch sees one, as of rows that are kept elsewhere."""

    def __init__(self, items: Sequence[Mapping[str, Any]]) -> None:
        self.items = items
        self.row_modalities = [modality_names(item) for item in items]

    def take(self, draw: Draw, modalities: Sequence[str] | None = None) -> dict[str, Any]:
        return restricted(drawn_caption(self.items[draw.position], self.seed, draw), modalities)

    def whole(self, position: int, modalities: Sequence[str] | None = None) -> dict[str, Any]:
        return restricted(self.items[position], modalities)


class ItemView(Items):
    """Some rows of `items`, with only some of their modalities.

    Args:
        positions: of the rows.
        modalities: to keep.
    """

    def __init__(self, items: Items, positions: Sequence[int], modalities: Sequence[str]) -> None:
        self.items, self.positions = items, list(positions)
        self.modalities = tuple(modalities)
        kept = {names: tuple(name for name in names if name in self.modalities) for names in set(items.row_modalities)}
        self.row_modalities = [kept[items.row_modalities[position]] for position in self.positions]

    def take(self, draw: Draw, modalities: Sequence[str] | None = None) -> dict[str, Any] | None:
        return self.items.take(draw._replace(position=self.positions[draw.position]), self._kept(modalities))

    def whole(self, position: int, modalities: Sequence[str] | None = None) -> dict[str, Any] | None:
        """As `take`, and every caption."""
        return self.items.whole(self.positions[position], self._kept(modalities))

    def _kept(self, modalities: Sequence[str] | None) -> Sequence[str]:
        return self.modalities if modalities is None else [name for name in self.modalities if name in modalities]


def as_items(items: Any) -> Items:
    """`items` themselves, or a list of them."""
    return items if isinstance(items, Items) else ListedItems(items)


def drawn_caption(item: Mapping[str, Any], seed: int, draw: Draw) -> dict[str, Any]:
    """`item` with one of its captions, which follows from the seed, the epoch and the row alone."""
    captions = item.get(CAPTIONS)
    if not captions:
        return dict(item)
    chosen = captions[drawn(len(captions), seed, draw)]
    return {**item, "tensors": {**item["tensors"], **chosen}}


def drawn(count: int, seed: int, draw: Draw) -> int:
    """One of `count`, the same whenever and wherever it is asked for."""
    return int(np.random.default_rng([seed, draw.epoch, draw.position]).integers(count))


def texts_or_tensors(item: Mapping[str, Any], modality: str) -> Sequence[Mapping[str, Tensor]]:
    """Of an item with one modality its tensors, or those of each of its captions."""
    return (modality == "text" and item.get(CAPTIONS)) or [item["tensors"]]


def restricted(item: Mapping[str, Any], modalities: Sequence[str] | None) -> dict[str, Any]:
    """An item without tensors of other modalities."""
    if modalities is None:
        return dict(item)
    kept = {modality_for(name).tensor for name in modalities}
    if INPUT_IDS in kept:
        kept.add(ATTENTION_MASK)
    else:
        item = {name: value for name, value in item.items() if name != CAPTIONS}
    return {**item, "tensors": {name: value for name, value in item["tensors"].items() if name in kept}}


def row_modalities(rows: Any) -> Sequence[tuple[str, ...]]:
    """The modalities of every row: what `rows` say of themselves in `row_modalities`, or what each row has."""
    known = getattr(rows, "row_modalities", None)
    return known if known is not None else [modality_names(rows[position]) for position in range(len(rows))]
