"""Which items of a gallery lie nearest to a query, when all that is kept of them is their code ids?

A quantized shared embedding IS its code ids: the index gives what exact search over the quantized embeddings gives,
with `segments * log2(num_codes) / 8` bytes an item, and gives the embeddings back exactly.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.inference.choices import BY
from codebind_hf.inference.code_queries import unit_queries
from codebind_hf.inference.code_scores import (
    Best,
    best_of,
    first_best,
    packed_cosines,
    queries_at_once,
    score_table,
)
from codebind_hf.inference.code_storage import CodeStorage, Columns, shown_keys, stored_keys
from codebind_hf.inference.faiss_gallery import FaissGallery
from codebind_hf.inference.index_files import StoredIndex, read_index, write_index
from codebind_hf.inference.packed_codes import pack_codes, packed_size, unpack_codes
from codebind_hf.inference.part_search import PartGallery, parts_of
from codebind_hf.inference.specific_codes import SpecificCodes, books_of, check_books, checked_book, checked_books
from codebind_hf.processing.values import check_choice, check_number, check_types, fits, shown
from codebind_hf.renamed import renamed_attribute, renamed_keywords, warn_of


BACKENDS = ("auto", "faiss", "numpy")
# Items unpacked at a time: bounds the memory of a search whatever the size of the gallery.
CHUNK = 8192
_MOST_MODALITIES = 256
# Codes whose norms differ by less than this count as codes of one norm.
_SAME_NORM = 1e-3


class SearchResult(NamedTuple):
    """The nearest items of every query, nearest first; each an array `(queries, top_k)`.

    Args:
        scores: float32 cosine of the query and the quantized embedding of the item.
        keys: int64, or texts, as they were added.
        modalities: names.
    """

    scores: NDArray[np.float32]
    keys: NDArray[Any]
    modalities: NDArray[np.str_]

    @property
    def senses(self) -> NDArray[np.str_]:
        """Old name of `modalities`."""
        warn_of("SearchResult.senses", "modalities")
        return self.modalities


class Entries(NamedTuple):
    """Some items of one modality: its name, code ids `(items, segments)` int64 and keys `(items,)`."""

    modality: str
    ids: NDArray[np.int64]
    keys: NDArray[Any]


class CodeIndex:
    """A gallery of packed codes of any modalities, for queries of any modality.

    Args:
        codes (`Tensor` of shape `(num_codes, code_dim)`): the shared codebook; `CodeIndex.from_model` takes a model's.
        segments: codes of one item.
        backend: "numpy" needs nothing more and reads a gallery from disk as it goes; "faiss" keeps a copy of the
            codes in memory and is faster for few queries at a time. "auto" is FAISS where it is installed, the codes
            have one norm and the gallery is not on disk. All give the same result. A search that compares specific
            parts never needs FAISS.
        specific: by modality, the codebook `(num_codes, code_dim)` of its specific part and the codes of one item, for
            searches by "which" and "both"; `CodeIndex.from_model` takes a model's.

    Raises:
        ValueError: codes of a wrong shape, an unknown backend, or "faiss" without FAISS.
    """

    senses = renamed_attribute("senses", "modalities")

    def __init__(
        self,
        codes: Tensor,
        segments: int,
        backend: str = "auto",
        specific: Mapping[str, tuple[Tensor, int]] | None = None,
    ) -> None:
        self.book = checked_book(codes, segments)
        self.codes, self.segments = self.book
        self.num_codes, self.dim = len(self.codes), segments * self.codes.shape[1]
        self.bytes_per_vector = packed_size(segments, self.num_codes)
        self.backend = _checked_backend(backend)
        self.modalities: list[str] = []
        # Modalities whose ids are of this codebook, where others of the model have another; `None` takes all.
        self.only: tuple[str, ...] | None = None
        self._items = CodeStorage()
        self._specific = SpecificCodes(checked_books(specific))
        self._in_faiss: dict[int, FaissGallery] = {}
        self._num_in_faiss = 0

    @classmethod
    def from_model(cls, model: Any, backend: str = "auto", modality: str | None = None) -> "CodeIndex":
        """An empty index for the shared codes of a `CodeBindModel`.

        Args:
            model: the model.
            backend: see `CodeIndex`.
            modality: whose codes, where every encoder has a codebook of its own (`shared_codebook="per_encoder"`):
                the index then takes this and the other modalities of its encoder alone, as equal ids of two books are
                not one code. Queries that are embeddings may be of any modality.

        Raises:
            ValueError: the model has no shared codebook, or several and no `modality`, an unknown modality, or those
                of the class.
        """
        config = model.config
        if model.codebooks.shared is None:
            raise ValueError(
                "model: has no shared codebook (`num_shared_codes` is 0), so there are no codes to index."
            )
        of = {name: config.book_of("shared", each.encoder) for name, each in config.modalities.items()}
        books = set(of.values()) if modality is None else {of[config.modality(modality).name]}
        if len(books) > 1:
            raise ValueError(
                f"model: has {len(books)} codebooks for its shared parts (`shared_codebook` is "
                f"{config.shared_codebook!r}), and an index compares codes of one. Fix: `from_model(model, "
                f"modality={list(of)[-1]!r})`, an index a codebook, or search continuous embeddings."
            )
        only = tuple(name for name, book in of.items() if book in books)
        codes = model.codebooks.book("shared", config.modality(only[0]).encoder).codes
        index = cls(codes, config.shared_dim // codes.shape[1], backend, books_of(model, only))
        index.only = None if config.shared_codebook == "one" else only
        return index

    def __len__(self) -> int:
        return len(self._items)

    @renamed_keywords(sense="modality")
    def add(
        self,
        ids: Tensor | NDArray[Any],
        modality: str,
        keys: Sequence[Any] | NDArray[Any] | None = None,
        specific: Tensor | NDArray[Any] | None = None,
    ) -> None:
        """More items of one modality.

        Args:
            ids (integers of shape `(items, segments)`): shared code ids, as `encode(..., output="codes")` gives them.
            modality: its name.
            keys: what a search answers with, integers or texts; by default running numbers. Several items may have
                one key, such as clips of a sound or modalities of an object.
            specific (integers of shape `(items, segments)`, *optional*): specific code ids of the same items, as
                `encode(..., output="codes", part="specific")` gives them; all items of a modality have them, or none.

        Raises:
            ValueError: ids of a wrong shape, outside the book or of another, no name, or wrong keys.
        """
        ids_NS = self.book.checked("ids", ids)
        kept_keys = None if keys is None else stored_keys(keys, len(ids_NS))
        number = self._number(modality)
        own = self._specific.packed(modality, specific, len(ids_NS), modality in self.modalities)
        modalities = np.full(len(ids_NS), number, dtype=np.uint8)
        self._items.append(Columns(pack_codes(ids_NS, self.num_codes), modalities, kept_keys))
        self._specific.append(modality, own)
        if len(ids_NS) and number == len(self.modalities):
            self.modalities.append(modality)

    @renamed_keywords(senses="modalities")
    def search(
        self,
        queries: Any,
        top_k: int = 10,
        modalities: Sequence[str] | None = None,
        by: str = "what",
        specific_weight: float = 0.5,
    ) -> SearchResult:
        """The `top_k` items (all, if there are fewer) with the largest cosine; of ties, those added first.

        Args:
            queries: embeddings of shape `(queries, shared_dim)`, before or after quantization and of any length, or
                code ids of shape `(queries, segments)`. For "which" the same of specific parts, for "both" a pair
                `(shared, specific)`; `out.codes["image"]` of a model has both and does for all three.
            top_k: how many.
            modalities: where to search, by default everywhere; for "which" and "both" wherever specific codes are.
            by: "what" finds the same kind of thing, in any modality, by the shared part; "which" this very unit, in
                modalities of the queries' encoder alone, by the specific part; "both" weighs the two cosines.
            specific_weight: share of the specific cosine in "both", 0 to 1. The score is the cosine of the two parts
                side by side, the shared one times `sqrt(1 - specific_weight)`, the other `sqrt(specific_weight)`.

        Raises:
            ValueError: queries of a wrong shape, outside the book, not finite or zero; `top_k` below 1; an unknown
                modality, for "which" and "both" one without specific codes, or several with codebooks of their own; or
                nothing to search in.
        """
        check_choice("by", by, BY)
        check_number("specific_weight", specific_weight, 0, most=1)
        shared, specific = parts_of(queries, by)
        shared_QSD = None if by == "which" else unit_queries(shared, self.book)
        if not fits(top_k, float) or top_k < 1 or int(top_k) != top_k:
            raise ValueError(f"top_k: got {shown(top_k)}; give a whole number of at least 1.")
        wanted = self._wanted(modalities)
        with torch.inference_mode():
            if by == "what" and shared_QSD is not None:
                groups = shared_QSD.split(queries_at_once(self.segments, self.num_codes))
                found = [best_of(self._parts(group, int(top_k), wanted), int(top_k)) for group in groups]
            else:
                gallery = PartGallery(self.book, self._items, self._specific, self.modalities, CHUNK)
                weight = specific_weight if by == "both" else 1.0
                found = gallery.best(shared_QSD, specific, int(top_k), modalities, weight)
        scores, positions = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        columns, keys = self._items.take(positions.ravel())
        names = np.array(self.modalities)[columns.modalities]
        return SearchResult(scores, shown_keys(keys).reshape(scores.shape), names.reshape(scores.shape))

    @renamed_keywords(sense="modality")
    def reconstruct(self, keys: Sequence[Any] | NDArray[Any], modality: str | None = None) -> Tensor:
        """Quantized embeddings `(keys, shared_dim)` of items, bit for bit those of `model.codes_to_embeds`.

        Args:
            keys: of the items.
            modality: of the items, where several modalities have the same key.

        Raises:
            ValueError: an unknown modality, or a key that no item has, or several have.
        """
        chosen = stored_keys(keys)
        if not len(self):
            raise ValueError(f"keys: got {shown(keys)}; expected keys of the {len(self)} items of this index.")
        number = None if modality is None else self._wanted([modality])[0]
        columns, _ = self._items.take(self._items.find(chosen, number, CHUNK))
        ids = torch.from_numpy(unpack_codes(columns.codes, self.segments, self.num_codes))
        return normalize(self.codes[ids].flatten(-2), dim=-1)

    def entries(self) -> Iterator[Entries]:
        """All items, some at a time, each time of one modality."""
        for start, columns in self._items.chunks(CHUNK):
            keys = np.arange(start, start + len(columns.codes)) if columns.keys is None else columns.keys
            ids = unpack_codes(columns.codes, self.segments, self.num_codes)
            for number in np.unique(columns.modalities).tolist():
                mine = columns.modalities == number
                yield Entries(self.modalities[number], ids[mine], shown_keys(keys[mine]))

    def merge(self, other: "CodeIndex") -> None:
        """Add all items of another index with the same codebook behind those of this one; running numbers go on.

        Raises:
            ValueError: another codebook or number of segments, or keys of another kind.
        """
        check_types({"other": other}, {"other": CodeIndex})
        if self.segments != other.segments or not torch.equal(self.codes, other.codes):
            raise ValueError(
                f"other: has {other.segments} segments and {other.num_codes} codes of width {other.codes.shape[1]}, "
                f"this index {self.segments} and {self.num_codes} of width {self.codes.shape[1]}; both must be the "
                "same numbers. Fix: merge shards of one model."
            )
        self._specific.check_merge(other._specific, [name for name in other.modalities if name in self.modalities])
        numbers = [
            self._number(modality, beyond=other.modalities[:place]) for place, modality in enumerate(other.modalities)
        ]
        parts = [
            columns._replace(modalities=_renumbered(columns.modalities, numbers)) for columns in other._items.parts
        ]
        for columns in parts:
            self._items.append(columns)
        self._specific.merge(other._specific)
        self.modalities += [modality for modality in other.modalities if modality not in self.modalities]

    def save(self, folder: str | os.PathLike) -> None:
        """Write the index to a folder, which appears all at once; an index that is there is replaced.

        Raises:
            ValueError: the folder holds something else.
            OSError: it cannot be written.
        """
        check_types({"folder": folder}, {"folder": str | os.PathLike})
        stored = StoredIndex(self.codes, self.segments, self.modalities, self._items, self.only, self._specific)
        write_index(stored, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike, mmap: bool = True, backend: str = "auto", model: Any = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: where.
            mmap: leave the items on disk; a search reads them from there.
            backend: see `CodeIndex`.
            model: whose codes this index is to take and search; its codebooks must be those of the index.

        Raises:
            OSError: a file is missing.
            ValueError: a file is no part of an index, or does not fit the others; or a model with other codebooks.
        """
        check_types({"folder": folder}, {"folder": str | os.PathLike})
        stored = read_index(folder, mmap)
        index = cls(stored.codes, stored.segments, backend)
        index.modalities, index._items = stored.modalities, stored.items
        index.only, index._specific = stored.only, stored.specific
        if model is not None:
            check_books(model, index.book, stored.specific.books, index.only or index.modalities)
        return index

    def _wanted(self, modalities: Sequence[str] | None) -> list[int]:
        """Numbers of the modalities to search."""
        is_list = fits(modalities, Sequence[str])
        names = self.modalities if modalities is None else list(modalities) if is_list else []
        unknown = [name for name in names if name not in self.modalities]
        if unknown or not names or not len(self):
            raise ValueError(
                f"modalities: got {shown(modalities)}; this index has {', '.join(self.modalities) or 'no items'}."
            )
        return [self.modalities.index(name) for name in dict.fromkeys(names)]

    def _number(self, modality: str, beyond: Sequence[str] = ()) -> int:
        """Number of a modality; the next one for a new modality, behind those `beyond` that are new too."""
        if not isinstance(modality, str) or not modality:
            raise ValueError(f"modality: got {shown(modality)}; give the name of a modality, such as 'image'.")
        if self.only is not None and modality not in self.only:
            raise ValueError(
                f"modality: got {modality!r}; the codes of this index are of {', '.join(self.only)} alone. Fix: "
                f"`CodeIndex.from_model(model, modality={modality!r})` for another index."
            )
        known = [*self.modalities, *(name for name in beyond if name not in self.modalities)]
        if modality not in known and len(known) == _MOST_MODALITIES:
            raise ValueError(
                f"modality: {modality!r} is one more than the {_MOST_MODALITIES} modalities that an index can have."
            )
        return known.index(modality) if modality in known else len(known)

    def _parts(self, queries_QSD: Tensor, k: int, modalities: list[int]) -> Iterator[Best]:
        """The best of a part of the items at a time; there is at least one."""
        table = score_table(queries_QSD, self.codes)
        if self._uses_faiss():
            self._fill_faiss()
            for number in modalities:
                if number in self._in_faiss:
                    yield self._in_faiss[number].best(queries_QSD.flatten(1), table, k)
        else:
            for positions, packed in self._chosen(modalities):
                scores = packed_cosines(table, packed, self.book)
                yield first_best(scores, torch.from_numpy(positions), min(k, len(positions)))

    def _chosen(self, modalities: list[int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Positions and packed codes of the items of some modalities, some at a time."""
        for start, columns in self._items.chunks(CHUNK):
            positions = np.arange(start, start + len(columns.codes))
            if len(modalities) < len(self.modalities):
                mine = np.isin(columns.modalities, modalities)
                positions, columns = positions[mine], columns.of(mine)
            if len(positions):
                yield positions, columns.codes

    def _uses_faiss(self) -> bool:
        if self.backend != "auto":
            return self.backend == "faiss"
        lengths = self.codes.norm(dim=-1)
        have_one_norm = bool(lengths.max() - lengths.min() <= _SAME_NORM * lengths.max())
        return _has_faiss() and have_one_norm and not any(isinstance(x.codes, np.memmap) for x in self._items.parts)

    def _fill_faiss(self) -> None:
        """Hand FAISS the items it does not have yet."""
        for start, columns in self._items.chunks(CHUNK, self._num_in_faiss):
            for number in np.unique(columns.modalities).tolist():
                mine = np.flatnonzero(columns.modalities == number)
                gallery = self._in_faiss.setdefault(number, FaissGallery(self.codes, self.segments))
                gallery.add(columns.codes[mine], start + mine)
        self._num_in_faiss = len(self)


def _renumbered(modalities: NDArray[np.uint8], numbers: list[int]) -> NDArray[np.uint8]:
    return np.array(numbers, dtype=np.uint8)[modalities]


def _has_faiss() -> bool:
    return find_spec("faiss") is not None


def _checked_backend(backend: str) -> str:
    check_choice("backend", backend, BACKENDS)
    if backend == "faiss" and not _has_faiss():
        raise ValueError(
            'backend: got "faiss", which is not installed. Fix: pip install "codebind-hf[index]", or choose "numpy".'
        )
    return backend
