"""Ways to store vectors in few bytes: FAISS's quantizers, and codebooks such as ours, behind one signature."""

from collections.abc import Callable

import faiss
import numpy as np
import torch

from codebind_hf.model.codebooks import nearest_codes, spherical_kmeans, unit_segments


# From training embeddings to what is left of others once they are stored.
Stored = Callable[[np.ndarray], np.ndarray]
Storage = Callable[[np.ndarray], Stored]


def of_faiss(factory: str, size: int) -> Storage:
    """A quantizer by its name there, such as `OPQ32,PQ32x8`, that stores a vector in at most `size` bytes."""

    def fitted(train: np.ndarray) -> Stored:
        index = faiss.index_factory(train.shape[1], factory)
        if index.sa_code_size() > size:
            raise ValueError(f"{factory}: takes {index.sa_code_size()} bytes; allowed: {size}.")
        index.train(train)
        return lambda vectors: index.sa_decode(index.sa_encode(np.ascontiguousarray(vectors)))

    return fitted


def one_book(levels: int, size: int) -> Storage:
    """Segments that each are the sum of codes of one book for all segments: with one level what our codes are."""

    def fitted(train: np.ndarray) -> Stored:
        width = train.shape[1] * levels // size
        left = unit_segments(torch.from_numpy(train), width).flatten(0, 1)
        books = []
        for level in range(levels):
            # Only the first level's codes have one length; what a level leaves is smaller by as much for all.
            scale = float(left.norm(dim=1).mean())
            books.append((scale, spherical_kmeans(left / scale, 256, seed=level)))
            left = left - scale * books[-1][1][nearest_codes(left / scale, books[-1][1])]

        def stored(vectors: np.ndarray) -> np.ndarray:
            rest = unit_segments(torch.from_numpy(np.ascontiguousarray(vectors)), width).flatten(0, 1)
            kept = torch.zeros_like(rest)
            for scale, book in books:
                chosen = scale * book[nearest_codes(rest / scale, book)]
                kept, rest = kept + chosen, rest - chosen
            return kept.view(len(vectors), -1).numpy()

        return stored

    return fitted


def storages(size: int) -> dict[str, Storage]:
    """Those that are compared with codes of this many bytes."""
    found = {
        "residual": of_faiss(f"RQ{size}x8", size),
        "product of residuals": of_faiss(f"PRQ{size // 4}x4x8", size),
        "OPQ": of_faiss(f"OPQ{size},PQ{size}x8", size),
        "PQ": of_faiss(f"PQ{size}x8", size),
        "one book": one_book(1, size),
        "one book, two codes a segment": one_book(2, size),
    }
    # A bit a number, and two floats.
    return {**found, "RaBitQ": of_faiss("RaBitQ", size)} if size >= 24 else found


def of_codes(codes: torch.Tensor) -> Storage:
    """The codebook of a model, which is fitted already."""

    def stored(vectors: np.ndarray) -> np.ndarray:
        segments = unit_segments(torch.from_numpy(np.ascontiguousarray(vectors)), codes.shape[1])
        return codes[nearest_codes(segments.flatten(0, 1), codes)].view(len(vectors), -1).numpy()

    return lambda train: stored
