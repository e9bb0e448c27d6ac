"""The specific parts in an index: a codebook and packed codes for every modality that has them.

The shared part says what kind of thing an item is, in any modality; the specific part which one it is, to other items
of its own encoder alone, as every encoder has specific codes of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codebind_hf.inference.code_storage import CodeStorage
from codebind_hf.inference.packed_codes import checked_ids, pack_codes, packed_size
from codebind_hf.model.codebook_fitting import codes_digest
from codebind_hf.processing.arrays import as_array
from codebind_hf.processing.values import LIMITS, check_number, check_types, describe, shown


class Book(NamedTuple):
    """A codebook `(num_codes, code_dim)` float32, and how many of its codes an item has."""

    codes: Tensor
    segments: int

    @property
    def num_codes(self) -> int:
        return len(self.codes)

    @property
    def bytes(self) -> int:
        """Bytes of the packed codes of one item."""
        return packed_size(self.segments, self.num_codes)

    def equals(self, other: "Book") -> bool:
        """Whether ids mean the same in both."""
        return self.segments == other.segments and torch.equal(self.codes, other.codes)

    @property
    def digest(self) -> str:
        """SHA-256 of the codes, as code ids of `model.encode` name it."""
        return codes_digest(self.codes)

    def checked(self, name: str, ids: Any) -> NDArray[Any]:
        """Code ids `(items, segments)` of this book; there may be none.

        Raises:
            ValueError: a wrong shape, ids outside the book or of another book.
        """
        self.check_origin(name, ids)
        return checked_ids(name, as_array(ids, name, may_be_empty=True), self.num_codes, self.segments)

    def check_origin(self, name: str, ids: Any) -> None:
        """Refuse code ids that say they are of another codebook; ids that say nothing are taken at their word."""
        origin = getattr(ids, "codebook", None)
        if origin is not None and origin != self.digest:
            raise ValueError(
                f"{name}: got ids of the codebook {origin[:12]}, and this index holds the codes of {self.digest[:12]} "
                "(SHA-256), in which equal ids are other codes. Fix: encode with the model of this index, or "
                "`CodeIndex.from_model(model)` for another index."
            )


def checked_book(codes: Any, segments: Any, name: str = "codes") -> Book:
    """What a user gives as a codebook.

    Raises:
        ValueError: codes of a wrong shape or not finite, or a wrong number of segments.
    """
    book = as_array(codes, name, may_be_empty=True)
    if book.ndim != 2 or not book.size or book.dtype.kind != "f" or not np.isfinite(book.astype(np.float32)).all():
        raise ValueError(f"{name}: got shape {book.shape}; expected finite numbers (num_codes, code_dim).")
    check_number("segments", segments, 1, whole=True, most=LIMITS.values // book.shape[1])
    return Book(torch.from_numpy(book.astype(np.float32)), segments)


def checked_books(given: Any) -> dict[str, Book]:
    """Specific codebooks by modality as a user gives them: each `(codes, segments)`.

    Raises:
        ValueError: no such dictionary, or a book that `checked_book` refuses.
    """
    check_types({"specific": given}, {"specific": Mapping[str, Any] | None})
    for name, pair in (given or {}).items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"specific: got {describe(pair)} for {name!r}; expected (codes, segments).")
    return {name: checked_book(pair[0], pair[1], f"specific[{name!r}]") for name, pair in (given or {}).items()}


class PackedRows:
    """Packed codes of items in the order they were added. Pieces on disk stay there; those in memory are joined."""

    def __init__(self, parts: Sequence[NDArray[np.uint8]] = ()) -> None:
        self.parts = list(parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def append(self, packed: NDArray[np.uint8]) -> None:
        """More items, behind the others."""
        self.parts.append(packed)
        # As in `CodeStorage`: an item is copied a few times, however many small pieces come.
        while len(self.parts) > 1 and _may_join(*self.parts[-2:]):
            self.parts[-2:] = [np.concatenate(self.parts[-2:])]

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Items `start` to `stop`."""
        found, first = [], 0
        for part in self.parts:
            if first < stop and start < first + len(part):
                found.append(part[max(0, start - first) : stop - first])
            first += len(part)
        return np.asarray(found[0]) if len(found) == 1 else np.concatenate(found)


class SpecificCodes:
    """Specific codes of the items of some modalities; row i of a modality is the i-th of its items in the index.

    Args:
        books: by modality, also of modalities that have no items yet.
    """

    def __init__(self, books: Mapping[str, Book] | None = None) -> None:
        self.books = dict(books or {})
        self.rows: dict[str, PackedRows] = {}

    def packed(self, modality: str, ids: Any, count: int, is_known: bool) -> NDArray[np.uint8] | None:
        """Specific codes of `count` new items of a modality, packed; `None` where it has none.

        Args:
            is_known: whether the index has items of this modality.

        Raises:
            ValueError: no codebook for them, a wrong shape, or ids where the others have none, or the other way round.
        """
        if is_known and count and (ids is None) == (modality in self.rows):
            has = "have specific codes" if ids is None else "have no specific codes"
            raise ValueError(
                f"specific: got {'none' if ids is None else 'codes'} for {shown(modality)}, whose items in this index "
                f"{has}. Fix: add all items of a modality with them, or all without."
            )
        if ids is None:
            return None
        if modality not in self.books:
            raise ValueError(
                f"specific: got codes for {shown(modality)}; this index knows specific codebooks for "
                f"{', '.join(self.books) or 'no modality'}. Fix: leave `specific` out, or `CodeIndex.from_model` of a "
                "model with a specific codebook for it."
            )
        book = self.books[modality]
        ids_NS = book.checked("specific", ids)
        if len(ids_NS) != count:
            raise ValueError(f"specific: got codes of {len(ids_NS)} items; `ids` has {count}.")
        return pack_codes(ids_NS, book.num_codes)

    def append(self, modality: str, packed: NDArray[np.uint8] | None) -> None:
        """What `packed` gave, behind the others."""
        if packed is not None and len(packed):
            self.rows.setdefault(modality, PackedRows()).append(packed)

    def check_merge(self, other: "SpecificCodes", modalities: Sequence[str]) -> None:
        """Refuse specific codes of another index that do not go with these.

        Args:
            modalities: that both indices have items of.
        """
        for name in other.rows:
            if name in self.books and not self.books[name].equals(other.books[name]):
                raise ValueError(f"other: has another specific codebook for {name!r}. Fix: merge shards of one model.")
        for name in modalities:
            if (name in self.rows) != (name in other.rows):
                raise ValueError(
                    f"other: items of {name!r} have specific codes in only one of the two indices. Fix: add all items "
                    "of a modality with them, or all without."
                )

    def merge(self, other: "SpecificCodes") -> None:
        """Take what `check_merge` let through."""
        for name, rows in other.rows.items():
            self.books.setdefault(name, other.books[name])
            for part in rows.parts:
                self.append(name, part)

    def searched(self, modalities: Sequence[str] | None) -> tuple[list[str], Book]:
        """The modalities to search by specific parts, and the codebook that all of them have.

        Args:
            modalities: asked for; `None` is all that have specific codes.

        Raises:
            ValueError: one without specific codes, none at all, or several codebooks.
        """
        names = list(self.rows) if modalities is None else list(dict.fromkeys(modalities))
        missing = [name for name in names if name not in self.rows]
        if missing or not names:
            raise ValueError(
                f"modalities: got {shown(modalities)}; this index has specific codes of "
                f"{', '.join(self.rows) or 'no modality'}. Fix: `add(..., specific=...)`, or by='what'."
            )
        book = self.books[names[0]]
        if not all(self.books[name].equals(book) for name in names):
            raise ValueError(
                f"modalities: got {shown(modalities)}, and {', '.join(names)} have specific codebooks of their own, "
                f"so that specific parts cannot be compared. Fix: modalities=[{names[0]!r}], that of the queries."
            )
        return names, book

    def aligned(
        self, items: CodeStorage, numbers: Mapping[int, str], size: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]]:
        """Positions, packed shared codes and packed specific codes of the items of some modalities of one codebook.

        Args:
            items: of the whole index.
            numbers: names of the modalities by their numbers.
            size: how many items are looked at at a time.
        """
        seen = dict.fromkeys(numbers, 0)
        for start, columns in items.chunks(size):
            for number, name in numbers.items():
                mine = np.flatnonzero(columns.modalities == number)
                if len(mine):
                    own = self.rows[name].rows(seen[number], seen[number] + len(mine))
                    seen[number] += len(mine)
                    yield start + mine, columns.codes[mine], own


def books_of(model: Any, modalities: Sequence[str]) -> dict[str, tuple[Tensor, int]]:
    """Codes of the specific codebook of every modality of a model that has one, and how many of them an item has."""
    found = {}
    for name in modalities:
        encoder = model.config.modality(name).encoder
        book, size = model.codebooks.book("specific", encoder), model.config.specific_dim_of(encoder)
        if book is not None and size:
            found[name] = (book.codes, size // book.codes.shape[1])
    return found


def check_books(model: Any, book: Book, specific: Mapping[str, Book], modalities: Sequence[str]) -> None:
    """Refuse a model whose ids mean something else than those of an index.

    Args:
        book, specific: of the index.
        modalities: whose shared ids it holds; none is those of any.

    Raises:
        ValueError: names the codebook that is another one, and both digests.
    """
    known = {name: each.encoder for name, each in model.config.modalities.items()}
    pairs = [
        ("shared", model.codebooks.book("shared", known[name]), book) for name in modalities or known if name in known
    ]
    pairs += [
        (f"specific ({name})", model.codebooks.book("specific", known[name]), own)
        for name, own in specific.items()
        if name in known
    ]
    for part, theirs, ours in pairs:
        digest = "none" if theirs is None else codes_digest(theirs.codes)[:12]
        if digest != ours.digest[:12]:
            raise ValueError(
                f"model: its {part} codebook is {digest}, and this index holds the codes of {ours.digest[:12]} "
                "(SHA-256). Fix: load the checkpoint that the index was made with, or encode the gallery anew."
            )


def _may_join(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    in_memory = not isinstance(one, np.memmap) and not isinstance(other, np.memmap)
    return in_memory and len(one) <= 2 * len(other)
