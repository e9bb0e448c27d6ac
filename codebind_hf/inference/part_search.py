"""Search by what a thing is, by which one it is, or by both, when both parts of the gallery are packed codes.

By "what": the shared part, across modalities. By "which": the specific part, among items of one encoder. By "both":
the cosine of the two side by side, which is a weighted mean of the two cosines, as each part has unit norm.

Axes in this file: Q queries, S segments of one part, D width of a code.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from codebind_hf.inference.code_queries import unit_queries
from codebind_hf.inference.code_scores import Best, best_of, first_best, packed_cosines, queries_at_once, score_table
from codebind_hf.inference.code_storage import CodeStorage
from codebind_hf.inference.specific_codes import Book, SpecificCodes
from codebind_hf.processing.arrays import as_float_array
from codebind_hf.processing.values import check_number, describe, refuse


def join_parts(shared: ArrayLike, specific: ArrayLike, specific_weight: float = 0.5) -> NDArray[np.float32]:
    """Embeddings whose cosines are the scores of a search by "both", for any other vector store.

    Args:
        shared (array of shape `(items, shared_dim)`), specific (array of shape `(items, specific_dim)`): of any
            length, before or after quantization.
        specific_weight: share of the specific cosine, 0 to 1.

    Returns:
        Unit vectors `(items, shared_dim + specific_dim)`, float32.

    Raises:
        ValueError: no two matrices of as many rows, or a row without direction.
    """
    check_number("specific_weight", specific_weight, 0, most=1)
    parts = [
        _unit_rows(name, value) * np.sqrt(weight)
        for name, value, weight in (("shared", shared, 1 - specific_weight), ("specific", specific, specific_weight))
    ]
    if len(parts[0]) != len(parts[1]):
        refuse("specific", f"got {len(parts[1])} rows", f"one for each of the {len(parts[0])} rows of `shared`")
    return np.concatenate(parts, axis=1).astype(np.float32)


class PartGallery(NamedTuple):
    """Items whose specific parts are compared.

    Args:
        book: of the shared parts.
        items: the index.
        specific: its specific codes.
        modalities: names by number.
        size: items that are scored at a time.
    """

    book: Book
    items: CodeStorage
    specific: SpecificCodes
    modalities: Sequence[str]
    size: int

    def best(
        self, shared_QSD: Tensor | None, specific: Any, k: int, modalities: Sequence[str] | None, weight: float
    ) -> list[Best]:
        """The best items of every group of queries.

        Args:
            shared_QSD: unit queries, or `None` to compare specific parts alone.
            specific: specific parts of the same queries, as in `unit_queries`.
            k: how many.
            modalities: where; `None` is wherever specific codes are.
            weight: of the specific cosine.

        Raises:
            ValueError: modalities without specific codes or of several codebooks, or queries that do not fit.
        """
        names, book = self.specific.searched(modalities)
        own_QSD = unit_queries(specific, book)
        if shared_QSD is not None and len(shared_QSD) != len(own_QSD):
            raise ValueError(f"queries: got {len(shared_QSD)} shared and {len(own_QSD)} specific parts; give a pair.")
        group = min(queries_at_once(each.segments, each.num_codes) for each in (self.book, book))
        found = []
        for start in range(0, len(own_QSD), group):
            own = score_table(own_QSD[start : start + group], book.codes)
            table = None if shared_QSD is None else score_table(shared_QSD[start : start + group], self.book.codes)
            found.append(best_of(self._parts(table, own, book, k, names, weight), k))
        return found

    def _parts(
        self, table: Tensor | None, own: Tensor, book: Book, k: int, names: Sequence[str], weight: float
    ) -> Iterator[Best]:
        numbers = {self.modalities.index(name): name for name in names}
        for positions, packed, own_packed in self.specific.aligned(self.items, numbers, self.size):
            scores = packed_cosines(own, own_packed, book)
            if table is not None:
                scores = (1 - weight) * packed_cosines(table, packed, self.book) + weight * scores
            yield first_best(scores, torch.from_numpy(positions), min(k, len(positions)))


def parts_of(queries: Any, by: str) -> tuple[Any, Any]:
    """Shared and specific part of queries, `None` for one that `by` does not ask for.

    Args:
        queries: both parts, as `out.codes["image"]` or a pair, or for "what" and "which" the one part alone.

    Raises:
        ValueError: a part is missing.
    """
    parts = {"what": (queries, None), "which": (None, queries)}.get(by)
    is_named = hasattr(queries, "shared") and hasattr(queries, "specific")
    if is_named:
        parts = (queries.shared if by != "which" else None, queries.specific if by != "what" else None)
    elif parts is None:
        if not isinstance(queries, (list, tuple)) or len(queries) != 2:
            raise ValueError(
                f"queries: got {describe(queries)}; by='both' needs a pair (shared parts, specific parts)."
            )
        parts = tuple(queries)
    if (parts[0] is None and by != "which") or (parts[1] is None and by != "what"):
        lacking = "specific" if by == "which" or parts[0] is not None else "shared"
        raise ValueError(f"queries: got no {lacking} parts, which by={by!r} needs. Text has no specific part.")
    return parts[0], parts[1]


def _unit_rows(name: str, value: Any) -> NDArray[np.float64]:
    rows = as_float_array(value, name).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) if rows.ndim == 2 else np.zeros(1)
    if not lengths.all():
        refuse(name, f"got {describe(value)}", "a matrix (items, dim) without rows of zeros")
    return rows / lengths
