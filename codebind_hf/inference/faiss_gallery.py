"""How does FAISS search packed codes and still give what exact search gives?

All sub-quantizers of an `IndexPQ` hold the shared codebook, and items come in as they are packed, so that nothing is
encoded again. FAISS ranks by product, does not divide by norms, and orders ties as they come. So it only names
candidates, which are scored again exactly; more are asked for until none of the others can be among the best.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codebind_hf.inference.code_scores import Best, cosines_of_one, first_best, item_norms, table_rows
from codebind_hf.inference.packed_codes import bits_per_code, pack_codes, packed_size, unpacked


# Candidates beyond `top_k` in the first attempt, and how many times as many each further one asks for.
_SPARE = 64
_GROWTH = 4
# FAISS cannot make tables of fewer codes for every width of a code.
_SMALLEST_BOOK = 8


class FaissGallery:
    """The items of one modality in FAISS.

    Args:
        codes (`Tensor` of shape `(num_codes, code_dim)`): the shared codebook.
        segments: codes of one item.
    """

    def __init__(self, codes: Tensor, segments: int) -> None:
        import faiss

        self.faiss: Any = faiss
        self.codes, self.segments, self.num_codes = codes, segments, len(codes)
        self.book_size = max(self.num_codes, _SMALLEST_BOOK)
        bits = bits_per_code(self.book_size)
        self.index: Any = faiss.IndexPQ(segments * codes.shape[1], segments, bits, faiss.METRIC_INNER_PRODUCT)
        # FAISS wants a power of two; what fills up the book has no id that is ever packed.
        book = np.zeros((2**bits, codes.shape[1]), dtype=np.float32)
        book[: self.num_codes] = codes.numpy()
        faiss.copy_array_to_vector(np.tile(book, (segments, 1, 1)).ravel(), self.index.pq.centroids)
        self.index.is_trained = True
        self.positions: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.norms = (np.inf, 0.0)

    def __len__(self) -> int:
        return len(self.positions)

    def add(self, packed: NDArray[np.uint8], positions: NDArray[np.int64]) -> None:
        """More items; `positions` are larger than those before."""
        if not len(packed):
            return
        ids = unpacked(packed, self.segments, self.num_codes)
        self.index.add_sa_codes(packed if self.book_size == self.num_codes else pack_codes(ids, self.book_size))
        self.positions = np.concatenate([self.positions, positions])
        norms = item_norms(self.codes, table_rows(torch.from_numpy(ids), self.num_codes))
        self.norms = min(self.norms[0], float(norms.min())), max(self.norms[1], float(norms.max()))

    def best(self, queries: Tensor, table: Tensor, k: int) -> Best:
        """The `k` best items of unit queries `(queries, dim)` with their `score_table`; of ties, the first added."""
        k = min(k, len(self))
        scores = torch.empty(len(queries), k)
        positions = torch.empty(len(queries), k, dtype=torch.long)
        open_queries, wanted = torch.arange(len(queries)), min(k + _SPARE, len(self))
        while len(open_queries):
            products, found = self.index.search(queries[open_queries].numpy(), wanted)
            best = self._scored_again(np.sort(found, axis=1), table, open_queries, k)
            scores[open_queries], positions[open_queries] = best
            is_open = self._largest_unseen(torch.from_numpy(products[:, -1])) >= best.scores[:, -1]
            open_queries = open_queries[is_open] if wanted < len(self) else open_queries[:0]
            wanted = min(wanted * _GROWTH, len(self))
        return Best(scores, positions)

    def _scored_again(self, found: NDArray[np.int64], table: Tensor, queries: Tensor, k: int) -> Best:
        """Candidates in the order they were added, `(queries, candidates)`, with exact cosines."""
        held = self.faiss.rev_swig_ptr(self.index.codes.data(), len(self) * packed_size(self.segments, self.book_size))
        held = held.reshape(len(self), -1)
        # One query at a time needs its own column alone, side by side in memory.
        columns = table.T.contiguous()
        scores = []
        for query, row in zip(queries.tolist(), found, strict=True):
            ids = torch.from_numpy(unpacked(held[row], self.segments, self.book_size))
            scores.append(cosines_of_one(columns[query], columns[-1], table_rows(ids, self.num_codes)))
        return first_best(torch.cat(scores), torch.from_numpy(self.positions[found]), k)

    def _largest_unseen(self, products: Tensor) -> Tensor:
        """A bound on the cosine of every item whose product is at most this, with what FAISS may round.

        A sum of S products of D terms errs by less than (S + D) float32 epsilons of the norm: its terms add up to the
        product of the norms at most, by Cauchy-Schwarz. Twice that for the exact cosine, and twice for good measure.
        """
        smallest, largest = self.norms
        margin = 4 * (self.segments + self.codes.shape[1] + 2) * float(np.finfo(np.float32).eps)
        norm = torch.where(products > 0, smallest, largest)
        return products / norm + margin * largest / smallest
