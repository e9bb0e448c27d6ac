"""Which items of a gallery lie nearest to a query, when all that is kept of them is their code ids?

A quantized shared embedding IS its code ids: the index gives what exact search over the quantized embeddings gives,
with `segments * log2(num_codes) / 8` bytes an item, and gives the embeddings back exactly.
"""

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.inference.code_items import CodeItems, Columns, shown_keys, stored_keys
from codebind_hf.inference.code_scores import (
    Best,
    cosines,
    first_best,
    merged,
    queries_at_once,
    score_table,
    table_rows,
)
from codebind_hf.inference.faiss_gallery import FaissGallery
from codebind_hf.inference.index_files import StoredIndex, read_index, write_index
from codebind_hf.inference.packed_codes import checked_ids, pack_codes, packed_size, unpack_codes, unpacked


BACKENDS = ("auto", "faiss", "numpy")
# Items unpacked at a time: bounds the memory of a search whatever the size of the gallery.
CHUNK = 8192
_MOST_SENSES = 256
# Codes whose norms differ by less than this count as codes of one norm.
_SAME_NORM = 1e-3


class SearchResult(NamedTuple):
    """The nearest items of every query, nearest first; each an array `(queries, top_k)`.

    Args:
        scores: float32 cosine of the query and the quantized embedding of the item.
        keys: int64, or texts, as they were added.
        senses: names.
    """

    scores: NDArray[np.float32]
    keys: NDArray[Any]
    senses: NDArray[np.str_]


class Entries(NamedTuple):
    """Some items of one sense: its name, code ids `(items, segments)` int64 and keys `(items,)`."""

    sense: str
    ids: NDArray[np.int64]
    keys: NDArray[Any]


class CodeIndex:
    """A gallery of packed codes of any senses, for queries of any sense.

    Args:
        codes (`Tensor` of shape `(num_codes, code_dim)`): the shared codebook; `CodeIndex.from_model` takes a model's.
        segments: codes of one item.
        backend: "numpy" needs nothing more and reads a gallery from disk as it goes; "faiss" keeps a copy of the
            codes in memory and is faster for few queries at a time. "auto" is FAISS where it is installed, the codes
            have one norm and the gallery is not on disk. All give the same result.

    Raises:
        ValueError: codes of a wrong shape, an unknown backend, or "faiss" without FAISS.
    """

    def __init__(self, codes: Tensor, segments: int, backend: str = "auto") -> None:
        if codes.ndim != 2 or not codes.numel() or not bool(torch.isfinite(codes).all()):
            raise ValueError(f"codes: got shape {tuple(codes.shape)}; expected finite numbers (num_codes, code_dim).")
        self.codes = codes.detach().to("cpu", torch.float32).clone()
        self.segments, self.num_codes, self.dim = segments, len(codes), segments * codes.shape[1]
        self.bytes_per_vector = packed_size(segments, self.num_codes)
        self.backend = _checked_backend(backend)
        self.senses: list[str] = []
        self._items = CodeItems()
        self._in_faiss: dict[int, FaissGallery] = {}
        self._num_in_faiss = 0

    @classmethod
    def from_model(cls, model: Any, backend: str = "auto") -> "CodeIndex":
        """An empty index for the shared codes of a `CodeBindModel`.

        Raises:
            ValueError: the model has no shared codebook, or those of the class.
        """
        if model.codebooks.shared is None:
            raise ValueError(
                "model: has no shared codebook (`num_shared_codes` is 0), so there are no codes to index."
            )
        codes = model.codebooks.shared.codes
        return cls(codes, model.config.shared_dim // codes.shape[1], backend)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, ids: Tensor | NDArray[Any], sense: str, keys: Sequence[Any] | NDArray[Any] | None = None) -> None:
        """More items of one sense.

        Args:
            ids (integers of shape `(items, segments)`): shared code ids, as `encode(..., output="codes")` gives them.
            sense: its name.
            keys: what a search answers with, integers or texts; by default running numbers. Several items may have
                one key, such as clips of a sound or senses of an object.

        Raises:
            ValueError: ids of a wrong shape or outside the book, no name, or keys of a wrong number or kind.
        """
        ids_NS = checked_ids("ids", ids, self.num_codes, self.segments)
        kept_keys = stored_keys(keys, len(ids_NS))
        number = self._number(sense)
        senses = np.full(len(ids_NS), number, dtype=np.uint8)
        self._items.append(Columns(pack_codes(ids_NS, self.num_codes), senses, kept_keys))
        if len(ids_NS) and number == len(self.senses):
            self.senses.append(sense)

    def search(
        self, queries: Tensor | NDArray[Any], top_k: int = 10, senses: Sequence[str] | None = None
    ) -> SearchResult:
        """The `top_k` items (all, if there are fewer) with the largest cosine; of ties, those added first.

        Args:
            queries: embeddings of shape `(queries, shared_dim)`, before or after quantization and of any length, or
                code ids of shape `(queries, segments)`.
            top_k: how many.
            senses: where to search, by default everywhere.

        Raises:
            ValueError: queries of a wrong shape, outside the book, not finite or zero; `top_k` below 1; an unknown
                sense; or nothing to search in.
        """
        queries_QSD = self._queries(queries)
        if isinstance(top_k, bool) or int(top_k) != top_k or top_k < 1:
            raise ValueError(f"top_k: got {top_k}; give a whole number of at least 1.")
        wanted = self._wanted(senses)
        group = queries_at_once(self.segments, self.num_codes)
        with torch.inference_mode():
            found = [self._best(part, int(top_k), wanted) for part in queries_QSD.split(group)]
        scores, positions = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        columns = self._items.take(positions.ravel())
        names = np.array(self.senses)[columns.senses]
        assert columns.keys is not None
        return SearchResult(scores, shown_keys(columns.keys).reshape(scores.shape), names.reshape(scores.shape))

    def reconstruct(self, keys: Sequence[Any] | NDArray[Any], sense: str | None = None) -> Tensor:
        """Quantized embeddings `(keys, shared_dim)` of items, bit for bit those of `model.codes_to_embeds`.

        Args:
            keys: of the items.
            sense: of the items, where several senses have the same key.

        Raises:
            ValueError: an unknown sense, or a key that no item has, or several have.
        """
        chosen = stored_keys(keys, len(keys))
        assert chosen is not None
        columns = self._items.take(self._find(chosen, None if sense is None else self._wanted([sense])[0]))
        ids = torch.from_numpy(unpack_codes(columns.codes, self.segments, self.num_codes))
        return normalize(self.codes[ids].flatten(-2), dim=-1)

    def entries(self) -> Iterator[Entries]:
        """All items, some at a time, each time of one sense."""
        for start, columns in self._items.chunks(CHUNK):
            keys = np.arange(start, start + len(columns.codes)) if columns.keys is None else columns.keys
            ids = unpack_codes(columns.codes, self.segments, self.num_codes)
            for number in np.unique(columns.senses).tolist():
                mine = columns.senses == number
                yield Entries(self.senses[number], ids[mine], shown_keys(keys[mine]))

    def merge(self, other: "CodeIndex") -> None:
        """Add all items of another index with the same codebook behind those of this one; running numbers go on.

        Raises:
            ValueError: another codebook or number of segments, or keys of another kind.
        """
        if self.segments != other.segments or not torch.equal(self.codes, other.codes):
            raise ValueError(
                f"other: has {other.segments} segments and {other.num_codes} codes of width {other.codes.shape[1]}, "
                f"this index {self.segments} and {self.num_codes} of width {self.codes.shape[1]}; both must be the "
                "same numbers. Fix: merge shards of one model."
            )
        numbers = [self._number(sense, beyond=other.senses[:place]) for place, sense in enumerate(other.senses)]
        parts = [columns._replace(senses=_renumbered(columns.senses, numbers)) for columns in other._items.parts]
        for columns in parts:
            self._items.append(columns)
        self.senses += [sense for sense in other.senses if sense not in self.senses]

    def save(self, folder: str | os.PathLike) -> None:
        """Write the index to a folder, which appears all at once; an index that is there is replaced.

        Raises:
            ValueError: the folder holds something else.
            OSError: it cannot be written.
        """
        write_index(StoredIndex(self.codes, self.segments, self.senses, self._items), folder)

    @classmethod
    def load(cls, folder: str | os.PathLike, mmap: bool = True, backend: str = "auto") -> "CodeIndex":
        """Read what `save` wrote.

        Args:
            folder: where.
            mmap: leave the items on disk; a search reads them from there.
            backend: see `CodeIndex`.

        Raises:
            OSError: a file is missing.
            ValueError: a file is no part of an index, or does not fit the others.
        """
        stored = read_index(folder, mmap)
        index = cls(stored.codes, stored.segments, backend)
        index.senses, index._items = stored.senses, stored.items
        return index

    def _queries(self, queries: Any) -> Tensor:
        """Unit queries `(queries, segments, code_dim)`, float32."""
        if not isinstance(queries, Tensor):
            queries = np.array(queries)
            if queries.dtype.kind not in "fiu":
                raise ValueError(
                    f"queries: got {queries.dtype} of shape {queries.shape}; expected embeddings or code ids. Fix: "
                    "encode first, and take one sense of the dictionary."
                )
            queries = torch.from_numpy(queries)
        values = queries.detach().cpu()
        if not values.is_floating_point():
            ids = torch.from_numpy(checked_ids("queries", values, self.num_codes, self.segments).astype(np.int64))
            values = self.codes[ids].flatten(-2)
        if values.ndim != 2 or values.shape[1] != self.dim or not len(values):
            raise ValueError(
                f"queries: got shape {tuple(values.shape)}; expected embeddings (queries, {self.dim}) or code ids "
                f"(queries, {self.segments}), one or more. Fix: give a single query as `query[None]`."
            )
        lengths = values.double().norm(dim=1)
        if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
            raise ValueError("queries: got NaN, an infinite value or a query of zeros, which has no direction.")
        # In double precision, where the norm of no float32 query overflows.
        unit = (values.double() / lengths[:, None]).float()
        return unit.unflatten(-1, (self.segments, -1))

    def _wanted(self, senses: Sequence[str] | None) -> list[int]:
        """Numbers of the senses to search."""
        names = self.senses if senses is None else list(senses)
        unknown = [name for name in names if name not in self.senses]
        if isinstance(senses, str) or unknown or not names or not len(self):
            raise ValueError(f"senses: got {senses!r}; this index has {', '.join(self.senses) or 'no items'}.")
        return [self.senses.index(name) for name in dict.fromkeys(names)]

    def _number(self, sense: str, beyond: Sequence[str] = ()) -> int:
        """Number of a sense; the next one for a new sense, behind those `beyond` that are new too."""
        if not isinstance(sense, str) or not sense:
            raise ValueError(f"sense: got {sense!r}; give the name of a sense, such as 'image'.")
        known = [*self.senses, *(name for name in beyond if name not in self.senses)]
        if sense not in known and len(known) == _MOST_SENSES:
            raise ValueError(f"sense: {sense!r} is one more than the {_MOST_SENSES} senses that an index can have.")
        return known.index(sense) if sense in known else len(known)

    def _best(self, queries_QSD: Tensor, k: int, senses: list[int]) -> Best:
        table = score_table(queries_QSD, self.codes)
        best: Best | None = None
        if self._uses_faiss():
            self._fill_faiss()
            for number in senses:
                if number in self._in_faiss:
                    best = merged(best, self._in_faiss[number].best(queries_QSD.flatten(1), table, k), k)
        else:
            for positions, packed in self._chosen(senses):
                rows = table_rows(torch.from_numpy(unpacked(packed, self.segments, self.num_codes)), self.num_codes)
                part = first_best(cosines(table, rows), torch.from_numpy(positions), min(k, len(positions)))
                best = merged(best, part, k)
        assert best is not None
        return best

    def _chosen(self, senses: list[int]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Positions and packed codes of the items of some senses, some at a time."""
        for start, columns in self._items.chunks(CHUNK):
            positions = np.arange(start, start + len(columns.codes))
            if len(senses) < len(self.senses):
                mine = np.isin(columns.senses, senses)
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
            for number in np.unique(columns.senses).tolist():
                mine = np.flatnonzero(columns.senses == number)
                gallery = self._in_faiss.setdefault(number, FaissGallery(self.codes, self.segments))
                gallery.add(columns.codes[mine], start + mine)
        self._num_in_faiss = len(self)

    def _find(self, keys: NDArray[Any], sense: int | None) -> NDArray[np.int64]:
        """Position of the one item that has each key."""
        found: dict[Any, int] = {}
        wanted = set(keys.tolist())
        for start, columns in self._items.chunks(CHUNK):
            own = np.arange(start, start + len(columns.codes)) if columns.keys is None else columns.keys
            hits = np.isin(own, keys) if own.dtype.kind == keys.dtype.kind else np.zeros(len(own), dtype=bool)
            hits &= True if sense is None else columns.senses == sense
            for place in np.flatnonzero(hits).tolist():
                if found.setdefault(own[place], start + place) != start + place:
                    raise ValueError(
                        f"keys: {shown_keys(own[place : place + 1]).tolist()} names several items; `sense` tells "
                        "senses apart; items of one sense need a key each to be found by it."
                    )
        missing = sorted(wanted - found.keys())
        if missing:
            shown = shown_keys(np.array(missing[:5])).tolist()
            raise ValueError(
                f"keys: no item {'' if sense is None else 'of this sense '}has {shown}; it was not added."
            )
        return np.array([found[key] for key in keys.tolist()], dtype=np.int64)


def _renumbered(senses: NDArray[np.uint8], numbers: list[int]) -> NDArray[np.uint8]:
    return np.array(numbers, dtype=np.uint8)[senses]


def _has_faiss() -> bool:
    return find_spec("faiss") is not None


def _checked_backend(backend: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"backend: got {backend!r}; allowed: {', '.join(map(repr, BACKENDS))}.")
    if backend == "faiss" and not _has_faiss():
        raise ValueError(
            'backend: got "faiss", which is not installed. Fix: pip install "codebind-hf[index]", or choose "numpy".'
        )
    return backend
