"""Which items of packed codes are nearest to a query, exactly and in bounded memory?

A quantized embedding is its codes side by side, so its product with a query is a sum over segments of numbers that a
table of `query segment x code` holds. Its norm is a sum of the same kind, of squared norms of codes, and is one more
column of the table: codes of converted checkpoints have norms of their own. Items with the same codes get the same
bits whatever they are scored with, so a tie is an equality, and the item that was added first wins it.

Axes in this file: Q queries, N items, S segments, K codes, D width of a code, T = S * K rows of a table.
"""

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from codebind_hf.inference.packed_codes import unpacked
from codebind_hf.inference.specific_codes import Book


# Bytes of the tables of the queries that are searched at a time.
TABLE_BYTES = 2**26
_MOST_QUERIES = 64
_SMALLEST_NORM = 1e-12


class Best(NamedTuple):
    """The best items of some queries, best first: cosines `(Q, k)` float32 and positions `(Q, k)` int64."""

    scores: Tensor
    positions: Tensor


def queries_at_once(segments: int, num_codes: int) -> int:
    """How many queries have tables of at most `TABLE_BYTES`; one at least, and few enough to stay in a cache."""
    return max(1, min(_MOST_QUERIES, TABLE_BYTES // (4 * segments * num_codes)))


def score_table(queries_QSD: Tensor, codes_KD: Tensor) -> Tensor:
    """Products of every query segment and code, and in the last column squared norms of codes: `(T, Q + 1)`."""
    products_SKQ = torch.einsum("qsd,kd->skq", queries_QSD, codes_KD)
    norms_K1 = codes_KD.square().sum(-1, keepdim=True)
    norms_SK1 = norms_K1.expand(queries_QSD.shape[1], -1, -1)
    return torch.cat([products_SKQ, norms_SK1], dim=-1).flatten(0, 1).contiguous()


def table_rows(ids_NS: Tensor, num_codes: int) -> Tensor:
    """Rows of a table that belong to code ids, int32 of shape `(N, S)`."""
    return ids_NS.int() + torch.arange(ids_NS.shape[1], dtype=torch.int32) * num_codes


def cosines(table_TQ: Tensor, rows_NS: Tensor) -> Tensor:
    """Cosine of every query of a table with the quantized embeddings of some items, `(Q, N)`."""
    sums_NQ = embedding_bag(rows_NS, table_TQ, mode="sum")
    return (sums_NQ[:, :-1] / _norms(sums_NQ[:, -1:])).T.contiguous()


def packed_cosines(table_TQ: Tensor, packed: NDArray[np.uint8], book: Book) -> Tensor:
    """`cosines` of some items whose codes are packed."""
    ids_NS = torch.from_numpy(unpacked(packed, book.segments, book.num_codes))
    return cosines(table_TQ, table_rows(ids_NS, book.num_codes))


def best_of(parts: Iterable[Best], k: int) -> Best:
    """The k best of all parts of a gallery, of which there is one at least."""
    return reduce(lambda one, other: merged(one, other, k), parts)


def cosines_of_one(products_T: Tensor, squares_T: Tensor, rows_NS: Tensor) -> Tensor:
    """`cosines` of one query, `(1, N)`, from its column of a table and the last one; the same bits."""
    sums_N, squares_N = (embedding_bag(rows_NS, part.unsqueeze(1), mode="sum") for part in (products_T, squares_T))
    return (sums_N / _norms(squares_N)).T


def item_norms(codes_KD: Tensor, rows_NS: Tensor) -> Tensor:
    """Norms of the codes of some items side by side, `(N,)`."""
    squares_T1 = codes_KD.square().sum(-1, keepdim=True).repeat(rows_NS.shape[1], 1)
    return _norms(embedding_bag(rows_NS, squares_T1, mode="sum")).squeeze(1)


def first_best(scores_QN: Tensor, positions: Tensor, k: int) -> Best:
    """The k best items of every query; of equal scores, those whose columns come first.

    Args:
        scores_QN: one column an item.
        positions: what each column is, `(N,)` or `(Q, N)`.
        k: at most N.
    """
    kth_Q1 = scores_QN.topk(k, dim=1).values[:, -1:]
    above_QN, tied_QN = scores_QN > kth_Q1, scores_QN == kth_Q1
    places_Q1 = k - above_QN.sum(1, keepdim=True)
    # topk takes any of the items that tie with the last place.
    kept_QN = above_QN | (tied_QN & (tied_QN.cumsum(1) <= places_Q1))
    columns_Qk = kept_QN.nonzero()[:, 1].view(-1, k)
    chosen_Qk, order_Qk = scores_QN.gather(1, columns_Qk).sort(dim=1, descending=True, stable=True)
    columns_Qk = columns_Qk.gather(1, order_Qk)
    return Best(chosen_Qk, positions.expand_as(scores_QN).gather(1, columns_Qk))


def merged(one: Best, other: Best, k: int) -> Best:
    """The k best of two results; of equal scores, the one with the smaller position."""
    scores, positions = (torch.cat(pair, dim=1) for pair in zip(one, other, strict=True))
    order = positions.argsort(dim=1)
    return first_best(scores.gather(1, order), positions.gather(1, order), min(k, scores.shape[1]))


def _norms(squares: Tensor) -> Tensor:
    return squares.sqrt().clamp(min=_SMALLEST_NORM)
