"""What do features of another network look like over the rows of a training? Means and deviations, kept with it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from codebind_hf.data.items import row_modalities
from codebind_hf.data.loading import only
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.feature_reading import FeatureReader
from codebind_hf.processing.processing_codebind import CodeBindProcessor


logger = logging.getLogger(__name__)
# Of the largest; what changes less does not change.
_LEAST_STD = 1e-6


def fit_normalization(processor: CodeBindProcessor, rows: Any, on_error: str = "raise") -> None:
    """Put mean and std of rows where a reader of features has `normalize: "rows"`, in place.

    Every number of a vector has its own, over all vectors of all rows; one that never changes has the largest std.

    Args:
        rows: raw ones.
        on_error: "raise" or "skip", as in `PreparedDataset`, which names the rows that are skipped.

    Raises:
        ValueError: no row has such features, rows of a stream, or a row that cannot be used.
        OSError: a file cannot be read.
    """
    names = [*(processor.readers or {}), *processor.added_modalities]
    parts = {name: processor.part(argument_of(name)) for name in names}
    wanted = {n: p for n, p in parts.items() if isinstance(p, FeatureReader) and p.normalize == "rows"}
    # Pictures and videos have one encoder, and so one normalization.
    both = wanted.pop("video", None) if "image" in wanted else None
    if wanted and isinstance(rows, StreamedDataset):
        raise ValueError(
            "normalize: got 'rows' for rows of a stream, which are not read before the training. Fix: give mean and "
            "std, or read the rows by number, without `streaming`."
        )
    for name, part in wanted.items():
        found = {"normalize": _moments(name, part, rows, on_error)}
        if name in processor.added_modalities:
            processor.added_modalities[name] |= found
            continue
        readers: Any = processor.readers
        for each in (name, "video") if name == "image" and both is not None else (name,):
            readers[each] |= found


def _moments(
    name: str, part: FeatureReader, rows: Sequence[Mapping[str, Any]], on_error: str
) -> dict[str, list[float]]:
    reader = part.with_parameters(normalize="none")
    count, first, total, squares = 0, None, np.zeros(part.num_channels), np.zeros(part.num_channels)
    positions = [place for place, present in enumerate(row_modalities(rows)) if name in present]
    for position in tqdm(positions, desc=f"Means of {name}", unit="row", disable=len(positions) < 1000):
        label = f"row {position}, {name}"
        try:
            item = reader.load(only(rows[position], [name])[name], label)
            vectors = np.atleast_2d(reader.process_item(item, label)).astype(np.float64)
        except (ValueError, OSError):
            if on_error == "raise":
                raise
            continue
        vectors = vectors[vectors.any(1)] if len(vectors) > 1 else vectors
        # Far from 0, squares would leave nothing of small deviations.
        first = vectors[0] if first is None else first
        vectors = vectors - first
        count, total, squares = count + len(vectors), total + vectors.sum(0), squares + (vectors**2).sum(0)
    if first is None:
        raise ValueError(
            f"normalize: got 'rows', and no row has {name!r} that can be read. Fix: give mean and std, or 'none'."
        )
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    largest = std.max() or 1.0
    # Divided by hardly anything, a number that changes for the first time after the training would drown all others.
    std = np.where(std > _LEAST_STD * largest, std, largest)
    logger.info("%s: mean and std of %s vectors normalize it.", name, f"{count:,}")
    return {"mean": (first + mean).tolist(), "std": std.tolist()}
