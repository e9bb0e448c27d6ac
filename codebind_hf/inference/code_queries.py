"""What may a query of an index be? Embeddings of any length, or code ids: unit vectors, segment by segment."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from codebind_hf.inference.packed_codes import checked_ids
from codebind_hf.inference.specific_codes import Book
from codebind_hf.processing.arrays import as_array


def unit_queries(queries: Any, book: Book, name: str = "queries") -> Tensor:
    """Unit queries `(queries, segments, code_dim)`, float32.

    Args:
        queries: embeddings `(queries, segments * code_dim)`, or ids `(queries, segments)` of the book.
        name: of the argument, for messages.

    Raises:
        ValueError: a wrong shape, ids outside the book or of another, or embeddings that are not finite or zero.
    """
    book.check_origin(name, queries)
    try:
        values = torch.from_numpy(np.array(as_array(queries, name), order="C"))
    except ValueError as error:
        fix = "encode first, and take one modality of the dictionary."
        raise ValueError(f"{error} Fix: {fix}" if "Fix" not in str(error) else str(error)) from error
    dim = book.segments * book.codes.shape[1]
    if not values.is_floating_point():
        ids = torch.from_numpy(checked_ids(name, values, book.num_codes, book.segments).astype(np.int64))
        values = book.codes[ids].flatten(-2)
    if values.ndim != 2 or values.shape[1] != dim or not len(values):
        raise ValueError(
            f"{name}: got shape {tuple(values.shape)}; expected embeddings (queries, {dim}) or code ids "
            f"(queries, {book.segments}), one or more. Fix: give a single query as `query[None]`."
        )
    lengths = values.double().norm(dim=1)
    if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
        raise ValueError(f"{name}: got NaN, an infinite value or a query of zeros, which has no direction.")
    # In double precision, where the norm of no float32 query overflows.
    unit = (values.double() / lengths[:, None]).float()
    return unit.unflatten(-1, (book.segments, -1))
