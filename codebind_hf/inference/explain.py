"""What does a code stand for? The items of a reference set that pick it, modality by modality."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codebind_hf.evaluation.embedding import EmbeddedSet
from codebind_hf.inference.code_index import CodeIndex, Entries
from codebind_hf.processing.values import check_number, check_types, shown


@dataclass
class CodeUse:
    """How one modality of a reference set uses one code.

    Args:
        count: segments that picked it, of all items.
        share: of all segments of this modality; with a uniform use of the codebook, 1 / its size.
        items: items that picked it at least once.
        examples: keys of items, those that picked it most often first.
        by_segment (array of shape `(segments,)`): `count` of each segment.
    """

    count: int
    share: float
    items: int
    examples: list[Any]
    by_segment: NDArray[np.int64]


def explain_code(
    reference: EmbeddedSet | CodeIndex, code: int, segment: int | None = None, examples: int = 5
) -> dict[str, CodeUse]:
    """Which items of a reference set pick a shared code, by modality.

    Args:
        reference: rows that a model has embedded (their keys are row ids, or positions where a row has none), or an
            index.
        code: id of the code.
        segment: count this segment alone; a shared code may mean different things in different segments.
        examples: how many keys to give at most.

    Returns:
        A `CodeUse` for every modality, also for those that never pick the code. Of a model whose encoders have books
        of their own (`shared_codebook="per_encoder"`), code 17 of one modality is not code 17 of another.

    Raises:
        ValueError: no modality with shared codes, or `code`, `segment` or `examples` out of range.
    """
    check_types({"reference": reference}, {"reference": EmbeddedSet | CodeIndex})
    check_number("code", code, 0, whole=True)
    check_number("examples", examples, 0, whole=True)
    if segment is not None:
        check_number("segment", segment, 0, whole=True)
    if isinstance(reference, CodeIndex) and code >= reference.num_codes:
        raise ValueError(f"code: got {shown(code)}; this index has codes 0 to {reference.num_codes - 1}.")
    tallies: dict[str, _Tally] = {}
    for modality, ids, keys in entries_of(reference):
        if segment is not None and not 0 <= segment < ids.shape[1]:
            raise ValueError(f"segment: got {shown(segment)}; an embedding has segments 0 to {ids.shape[1] - 1}.")
        tallies.setdefault(modality, _Tally(ids.shape[1], examples)).add(ids == code, keys, segment)
    if not tallies:
        raise ValueError(
            "reference: holds no shared codes. Fix: add items, or embed rows with a model that has codes."
        )
    return {modality: tally.result() for modality, tally in tallies.items()}


class _Tally:
    """Counts of one modality, some items at a time, and the best examples so far."""

    def __init__(self, segments: int, examples: int) -> None:
        self.by_segment = np.zeros(segments, dtype=np.int64)
        self.items, self.seen, self.wanted = 0, 0, examples
        self.best: list[tuple[int, Any]] = []

    def add(self, picks_NS: NDArray[np.bool_], keys: NDArray[Any], segment: int | None) -> None:
        if segment is not None:
            picks_NS = picks_NS & (np.arange(picks_NS.shape[1]) == segment)
        picks_N = picks_NS.sum(1)
        self.by_segment += picks_NS.sum(0)
        self.items += int((picks_N > 0).sum())
        self.seen += len(picks_NS) * (1 if segment is not None else picks_NS.shape[1])
        places = [place for place in np.argsort(-picks_N, kind="stable")[: self.wanted].tolist() if picks_N[place]]
        self.best += zip(picks_N[places].tolist(), keys[places].tolist(), strict=True)
        # Sorting is stable: of equal counts, the item that came first stays first.
        self.best = sorted(self.best, key=lambda example: -example[0])[: self.wanted]

    def result(self) -> CodeUse:
        count = int(self.by_segment.sum())
        return CodeUse(count, count / max(self.seen, 1), self.items, [key for _, key in self.best], self.by_segment)


def entries_of(reference: EmbeddedSet | CodeIndex) -> Iterator[Entries]:
    """Items with shared codes, some at a time, each time of one modality; a row without id has its position as key."""
    if isinstance(reference, CodeIndex):
        yield from reference.entries()
        return
    for name, modality in reference.modalities.items():
        if modality.shared_codes is not None and len(modality):
            ids = [reference.ids[position] or position for position in modality.positions.tolist()]
            yield Entries(name, modality.shared_codes.numpy(), np.array(ids, dtype=object))
