"""Why do two items match? The code ids that they share, how rare each is, and what it adds to their cosine.

The cosine of two quantized embeddings is a sum over segments, and a segment adds a number that follows from two ids.
So a match can be told in words: in this segment both have what these items have too.

Axes in this file: N items, S segments, K codes, D width of a code.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codebind_hf.evaluation.embedding import EmbeddedSet
from codebind_hf.inference.code_index import CodeIndex, Entries
from codebind_hf.inference.explain import entries_of
from codebind_hf.inference.packed_codes import checked_ids
from codebind_hf.processing.arrays import as_array
from codebind_hf.processing.values import check_number, check_types, describe, shown


@dataclass
class SharedCode:
    """One code that two items both have in one segment.

    Args:
        segment, code: where, and the id; the same id in another segment is another thing.
        contribution: what the segment adds to the cosine.
        chance: share of the pairs of the reference, one item of each modality, that both have this code in this
            segment, with the pair itself counted as one more, so that it is never 0.
        surprise: bits, `-log2(chance)`.
        examples: by modality of the reference, keys of other items that have this code in this segment.
    """

    segment: int
    code: int
    contribution: float
    chance: float
    surprise: float
    examples: dict[str, list[Any]]


@dataclass
class CodeMatch:
    """What two items have in common, in codes.

    Args:
        modalities, keys: of the two items; the key of one given by its ids is `None`.
        cosine: of the two quantized shared embeddings; the sum of `contributions`.
        contributions (array of shape `(segments,)`): what every segment adds to the cosine, whether its codes are
            equal or not.
        shared: codes that both have, the most surprising first.
        expected: number of segments with equal codes that a pair of the reference has on average.
    """

    modalities: tuple[str, str]
    keys: tuple[Any, Any]
    cosine: float
    contributions: NDArray[np.float64]
    shared: list[SharedCode]
    expected: float

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {**asdict(self), "contributions": self.contributions.tolist()}

    def __str__(self) -> str:
        names = [
            name if key is None else f"{name} {key!r}" for name, key in zip(self.modalities, self.keys, strict=True)
        ]
        of_shared = math.fsum(one.contribution for one in self.shared)
        lines = [
            f"{names[0]} and {names[1]}: cosine {self.cosine:+.3f}; equal codes in {len(self.shared)} of "
            f"{len(self.contributions)} segments ({self.expected:.1f} by chance), which add {of_shared:+.3f}, the "
            f"others {self.cosine - of_shared:+.3f}"
        ]
        for one in self.shared:
            found = "; ".join(f"{name}: {', '.join(map(str, keys))}" for name, keys in one.examples.items() if keys)
            lines.append(
                f"  segment {one.segment:3} code {one.code:5}  {one.contribution:+.3f}  {one.surprise:4.1f} bits  "
                f"{found or 'nothing else'}"
            )
        return "\n".join(lines)


@dataclass
class _Item:
    """One of the two: `vectors` are its segments `(S, D)`, together of unit norm."""

    modality: str
    key: Any
    ids: NDArray[np.int64]
    vectors: NDArray[np.float64]


def explain_match(
    reference: EmbeddedSet | CodeIndex, a: Sequence[Any], b: Sequence[Any], examples: int = 3, codes: Any = None
) -> CodeMatch:
    """Which codes two items share, segment by segment, how surprising that is, and what else has them.

    Args:
        reference: rows that a model has embedded (their keys are row ids, or positions where a row has none), or an
            index: where keys, chances and examples come from.
        a, b: the two items, `(modality, key)` of one in the reference or `(modality, ids)` with the shared code ids of
            any item, `(segments,)`; modalities may be the same or not.
        examples: how many keys to give at most of every modality, for every shared code; those that come first.
        codes (`Tensor` of shape `(num_codes, code_dim)`, *optional*): the shared codebook, which an `EmbeddedSet` does
            not hold and which items given by their ids need; `model.codebooks.shared.codes`.

    Returns:
        A `CodeMatch`. Of a model whose encoders have books of their own (`shared_codebook="per_encoder"`) two items
        must be of one encoder: code 17 of one is not code 17 of another.

    Raises:
        ValueError: an item that the reference does not have, or has twice; ids of a wrong number or outside the book;
            a modality that the reference lacks, or ids without `codes`.
    """
    check_types({"reference": reference}, {"reference": EmbeddedSet | CodeIndex})
    check_number("examples", examples, 0, whole=True)
    book = reference.codes if isinstance(reference, CodeIndex) else None if codes is None else _checked_book(codes)
    first, second = _found(reference, {"a": a, "b": b}, book)
    contributions = (first.vectors * second.vectors).sum(1)
    equal = np.flatnonzero(first.ids == second.ids).tolist()
    counts, others = _counted(reference, (first, second), equal, examples)
    pairs, agreeing = _pairs(counts, first.modality, second.modality)
    found = []
    for segment in equal:
        code = int(first.ids[segment])
        chance = (1 + int(agreeing[segment, code] if code < agreeing.shape[1] else 0)) / (1 + pairs)
        adds = float(contributions[segment])
        found.append(SharedCode(segment, code, adds, chance, -math.log2(chance), others[segment]))
    return CodeMatch(
        (first.modality, second.modality),
        (first.key, second.key),
        math.fsum(contributions.tolist()),
        contributions,
        sorted(found, key=lambda one: -one.surprise),
        float(agreeing.sum() / pairs) if pairs else 0.0,
    )


def _checked_book(codes: Any) -> Tensor:
    book = torch.from_numpy(np.array(as_array(codes, "codes")))
    if book.ndim != 2 or not book.is_floating_point() or not bool(book.isfinite().all()):
        raise ValueError(f"codes: got {describe(codes)}; expected finite numbers (num_codes, code_dim).")
    return book


def _found(reference: EmbeddedSet | CodeIndex, given: dict[str, Any], book: Tensor | None) -> list[_Item]:
    """The two items, by the names of their arguments."""
    known: dict[str, int] = {}
    rows: dict[str, list[tuple[Entries, int]]] = {name: [] for name in given}
    for entry in entries_of(reference):
        known[entry.modality] = entry.ids.shape[1]
        for name, pair in given.items():
            if _is_pair(pair) and entry.modality == pair[0]:
                rows[name] += [(entry, row) for row in _rows_of(entry.keys, pair[1])]
    if not known:
        raise ValueError(
            "reference: holds no shared codes. Fix: add items, or embed rows with a model that has codes."
        )
    items = []
    for name, pair in given.items():
        if not _is_pair(pair) or pair[0] not in known:
            raise ValueError(
                f"{name}: got {shown(pair)}; give (modality, key) or (modality, ids). The reference has "
                f"{', '.join(known)}."
            )
        if _are_ids(pair[1]):
            items.append(_of_ids(name, pair[0], pair[1], known[pair[0]], book))
        else:
            items.append(_of_key(name, pair[0], pair[1], rows[name], reference))
    return items


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str)


def _are_ids(value: Any) -> bool:
    return isinstance(value, (np.ndarray, Tensor, list, tuple))


def _rows_of(keys: NDArray[Any], wanted: Any) -> list[int]:
    """Places of a key; a text is never a number."""
    if _are_ids(wanted):
        return []
    is_text = isinstance(wanted, str)
    places = [isinstance(key, str) == is_text and key == wanted for key in keys.tolist()]
    return np.flatnonzero(places).tolist()


def _of_ids(name: str, modality: str, given: Any, segments: int, book: Tensor | None) -> _Item:
    if book is None:
        raise ValueError(
            f"{name}: got ids, and the reference holds no codebook. Fix: `codes=model.codebooks.shared.codes`."
        )
    ids = checked_ids(name, as_array(given, name)[None], len(book), segments)[0].astype(np.int64)
    return _Item(modality, None, ids, _unit(book.double().numpy()[ids]))


def _of_key(
    name: str, modality: str, key: Any, places: list[tuple[Entries, int]], reference: EmbeddedSet | CodeIndex
) -> _Item:
    if len(places) != 1:
        raise ValueError(
            f"{name}: got {shown(key)}, a key of {len(places) or 'no'} items of {modality}; expected one. Fix: keys "
            "that tell items apart, or code ids."
        )
    entry, row = places[0]
    ids = np.asarray(entry.ids[row], dtype=np.int64)
    if isinstance(reference, CodeIndex):
        return _Item(modality, key, ids, _unit(reference.codes.double().numpy()[ids]))
    # The rows of an embedded modality are one entry, so its row is theirs.
    embed = reference.modalities[modality].embeds[row].double().numpy()
    return _Item(modality, key, ids, _unit(embed.reshape(len(ids), -1)))


def _unit(vectors_SD: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors_SD / np.linalg.norm(vectors_SD)


def _counted(
    reference: EmbeddedSet | CodeIndex, items: tuple[_Item, _Item], equal: list[int], most: int
) -> tuple[dict[str, NDArray[np.int64]], dict[int, dict[str, list[Any]]]]:
    """By modality how many items have each code in each segment, `(S, K)`; by segment the examples of its code."""
    counts: dict[str, NDArray[np.int64]] = {}
    examples: dict[int, dict[str, list[Any]]] = {segment: {} for segment in equal}
    for modality, ids_NS, keys in entries_of(reference):
        added = _counts(np.asarray(ids_NS, dtype=np.int64))
        counts[modality] = _sum_of(counts[modality], added) if modality in counts else added
        own = [item.key for item in items if item.modality == modality and item.key is not None]
        for segment in equal:
            found = examples[segment].setdefault(modality, [])
            places = np.flatnonzero(ids_NS[:, segment] == items[0].ids[segment])[: most - len(found) + len(own)]
            found += [key for key in keys[places].tolist() if key not in own][: most - len(found)]
    return counts, examples


def _counts(ids_NS: NDArray[np.int64]) -> NDArray[np.int64]:
    segments, size = ids_NS.shape[1], 1 + int(ids_NS.max())
    rows = (ids_NS + np.arange(segments) * size).ravel()
    return np.bincount(rows, minlength=segments * size).reshape(segments, size)


def _sum_of(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    size = max(one.shape[1], other.shape[1])
    first, second = (np.pad(part, ((0, 0), (0, size - part.shape[1]))) for part in (one, other))
    return first + second


def _pairs(counts: dict[str, NDArray[np.int64]], one: str, other: str) -> tuple[int, NDArray[np.int64]]:
    """Number of pairs of two items, one of each modality, and how many of them both have each code of each segment."""
    first, second = counts[one], counts[other]
    items = int(first[0].sum())
    if one == other:
        return items * (items - 1) // 2, first * (first - 1) // 2
    size = min(first.shape[1], second.shape[1])
    return items * int(second[0].sum()), first[:, :size] * second[:, :size]
