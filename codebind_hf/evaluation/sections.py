"""The parts of an evaluation report, each a pure function of embedded rows.

Every score is given for both read-outs: `x` is the quantized one, `x_continuous` the one before quantization.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.data.row_tensors import class_names_of
from codebind_hf.evaluation.embedding import ClassEmbeds, EmbeddedModality, EmbeddedSet
from codebind_hf.evaluation.health import code_agreement, codebook_health, modality_usage
from codebind_hf.evaluation.metrics import (
    best_is_relevant,
    chance_of_any,
    mean_average_precision,
    owner_recall,
    pool_recall,
    retrieval_recall,
    zero_shot_accuracy,
)
from codebind_hf.evaluation.summary import wilson_interval
from codebind_hf.model.configuration_codebind import CodeBindConfig


CUTS = (1, 10)
MOST_POOLED = 10_000
BRIDGES = ("text", "image")
READ_OUTS = (("", "embeds"), ("_continuous", "continuous_embeds"))
Section = dict[str, dict[str, Any]]


def zero_shot_section(embedded: EmbeddedSet, classes: ClassEmbeds, class_names: Sequence[str]) -> Section:
    """Zero-shot accuracy of every modality but text: `{modality: {accuracy, accuracy_continuous, chance, ..., n}}`.

    `majority` is what always naming the most frequent class would give, `low` and `high` the 95 % interval of the
    accuracy.

    Where rows have several labels, an item is right when the class that is nearest is among them, and
    `mean_average_precision` is the mean over classes of how well each ranks the items.

    Raises:
        ValueError: a label is not among the class names.
    """
    index = {name: position for position, name in enumerate(class_names)}
    unknown = sorted(set(class_names_of([*embedded.labels, *embedded.label_sets])) - set(index))
    if unknown:
        raise ValueError(f"class_names: the rows are labelled {unknown[0]!r}, which is not among the class names.")
    if embedded.label_sets:
        return _multi_label_section(embedded, classes, index)
    section = {}
    for name, modality in embedded.modalities.items():
        labelled = modality.take(
            torch.tensor([embedded.labels[row] is not None for row in modality.positions.tolist()])
        )
        if name == "text" or not len(labelled):
            continue
        labels = [index[str(embedded.labels[row])] for row in labelled.positions.tolist()]
        scores = {
            f"accuracy{suffix}": zero_shot_accuracy(getattr(labelled, part), getattr(classes, part), labels)
            for suffix, part in READ_OUTS
        }
        majority = max(Counter(labels).values()) / len(labels)
        entry = {**scores, **_interval(scores["accuracy"], len(labels)), "chance": 1 / len(class_names)}
        section[name] = {**entry, "majority": majority, "n": len(labels)}
    return section


def _interval(accuracy: float, count: int) -> dict[str, float]:
    return dict(zip(("low", "high"), wilson_interval(accuracy, count), strict=True))


def _multi_label_section(embedded: EmbeddedSet, classes: ClassEmbeds, index: dict[str, int]) -> Section:
    section = {}
    for name, modality in embedded.modalities.items():
        has_labels = [bool(embedded.label_sets[row]) for row in modality.positions.tolist()]
        labelled = modality.take(torch.tensor(has_labels))
        if name == "text" or not len(labelled):
            continue
        relevant = np.zeros((len(labelled), len(index)), dtype=bool)
        for item, row in enumerate(labelled.positions.tolist()):
            relevant[item, [index[label] for label in embedded.label_sets[row]]] = True
        entry: dict[str, Any] = {}
        for suffix, part in READ_OUTS:
            scores = normalize(getattr(labelled, part), dim=-1) @ normalize(getattr(classes, part), dim=-1).T
            entry[f"accuracy{suffix}"] = best_is_relevant(scores, relevant)
            entry[f"mean_average_precision{suffix}"] = mean_average_precision(scores.T.numpy(), relevant.T)
        majority = float(relevant.mean(axis=0).max())
        entry |= _interval(entry["accuracy"], len(labelled))
        section[name] = {**entry, "chance": float(relevant.mean()), "majority": majority, "n": len(labelled)}
    return section


def retrieval_section(embedded: EmbeddedSet) -> Section:
    """Instance-level recall between every two modalities, both ways: `{"<query>_to_<gallery>": {...}}`.

    A row's match is the same row in the other modality; equal texts tie, so a text that names only a class finds its
    row among the rows of that class by chance. Where all rows of a pair are labelled, `class_only_at_<k>` is the
    recall of a ranking that knows the class and nothing else: the mean over queries of min(k / n, 1), of n gallery
    items of the query's class (of several matches, the chance that any is among k of the n). Of rows with several
    captions every caption is a query, and in the other direction a row is found where any of its captions is.
    """
    section = {}
    for query in embedded.modalities:
        for gallery in embedded.modalities:
            one, other = embedded.all_of_both(query, gallery)
            if query != gallery and min(len(one), len(other)) > 1:
                section[f"{query}_to_{gallery}"] = _pair_recall(one, other, embedded.labels)
    return section


def emergent_pairs(embedded: EmbeddedSet, trained_pairs: Iterable[tuple[str, str]] | None = None) -> list[str]:
    """The retrieval pairs of modalities never trained together; by default all that involve neither text nor image."""
    trained = None if trained_pairs is None else {frozenset(pair) for pair in trained_pairs}
    pairs = [(one, other) for one in embedded.modalities for other in embedded.modalities if one != other]
    if trained is None:
        emergent = [pair for pair in pairs if not set(pair) & set(BRIDGES)]
    else:
        emergent = [pair for pair in pairs if frozenset(pair) not in trained]
    return [f"{one}_to_{other}" for one, other in emergent if len(embedded.both(one, other)[0]) > 1]


def mixed_pool_section(embedded: EmbeddedSet) -> Section:
    """Retrieval from one pool that holds every modality of every row, by the modality of the query.

    The query itself is left out; any other modality of its row is right. `nearest_same_modality` is the share of
    queries whose nearest item is of the query's own modality and so of another row: far above `same_modality_chance`
    it shows a gap between the modalities. Of a large set, a fixed random choice of rows with about `MOST_POOLED`
    items is pooled.
    """
    embedded = _pool_of(embedded)
    pooled = list(embedded.modalities.values())
    if len(pooled) < 2:
        return {}
    owners = torch.cat([modality.positions for modality in pooled])
    kinds = torch.cat([torch.full((len(modality),), kind) for kind, modality in enumerate(pooled)])
    columns = {}
    for suffix, part in READ_OUTS:
        embeds = torch.cat([getattr(modality, part) for modality in pooled])
        found = pool_recall(embeds, owners, k=CUTS)
        columns.update({f"{name}{suffix}": values for name, values in found.items()})
        # The only item of its modality has no other to be nearest to.
        columns[f"nearest_same_modality{suffix}"] = np.nan_to_num(pool_recall(embeds, kinds, k=(1,))["recall_at_1"])
    columns["same_modality_chance"] = _same_owner_share(kinds)
    section = {}
    for kind, name in enumerate(embedded.modalities):
        mask = (kinds == kind).numpy() & ~np.isnan(columns["recall_at_1"])
        if mask.any():
            means = {column: _mean(values[mask]) for column, values in columns.items()}
            section[name] = {**means, "n": int(mask.sum()), "pool": len(owners) - 1}
    return section


def codebook_section(embedded: EmbeddedSet, config: CodeBindConfig) -> Section:
    """Health of the shared book (with `by_modality`) and of each encoder's own: `{"shared" | encoder: {...}}`.

    A book that quantizes both parts of an encoder is judged by what both pick.
    """
    picked: dict[str, dict[str, list[Tensor]]] = {}
    for part in ("shared", "specific"):
        for name, modality in embedded.modalities.items():
            ids = modality.shared_codes if part == "shared" else modality.specific_codes
            if ids is not None:
                book = config.book_of(part, config.modalities[name].encoder)
                picked.setdefault(book, {}).setdefault(name, []).append(ids.reshape(-1))
    sizes = {book: config.num_specific_codes_of(book) for book in picked if book != "shared"}
    return {
        book: _book_health(
            {name: torch.cat(ids) for name, ids in by_modality.items()}, sizes.get(book, config.num_shared_codes)
        )
        for book, by_modality in picked.items()
    }


def agreement_section(embedded: EmbeddedSet, config: CodeBindConfig) -> Section:
    """Share of segments in which two modalities of a row pick the same shared code: `{"<one>_and_<other>": {...}}`.

    Only of modalities that have one codebook for their shared parts: equal ids of two books are not one code.
    """
    books = {
        name: config.book_of("shared", config.modalities[name].encoder)
        for name, modality in embedded.modalities.items()
        if modality.shared_codes is not None
    }
    coded = list(books)
    section = {}
    for position, one in enumerate(coded):
        for other in coded[position + 1 :]:
            first, second = (modality.shared_codes for modality in embedded.both(one, other))
            if books[one] == books[other] and first is not None and second is not None and len(first) > 1:
                section[f"{one}_and_{other}"] = code_agreement(first, second)
    return section


def _pair_recall(one: EmbeddedModality, other: EmbeddedModality, labels: Sequence[str | None]) -> dict[str, Any]:
    queries, items = one.positions.numpy(), other.positions.numpy()
    has_captions = len(np.unique(queries)) < max(len(queries), len(items))
    entry: dict[str, Any] = {}
    for suffix, part in READ_OUTS:
        values = getattr(one, part), getattr(other, part)
        found = owner_recall(*values, queries, items, CUTS) if has_captions else retrieval_recall(*values, k=CUTS)
        entry |= {f"{name}{suffix}": value for name, value in found.items()}
    matches = np.bincount(items)[queries]
    entry |= {f"chance_at_{cut}": _chance(np.full(len(one), len(other)), matches, cut) for cut in CUTS}
    known = [labels[row] for row in items.tolist()]
    if None not in known:
        counts = Counter(known)
        in_class = np.array([counts[labels[row]] for row in queries.tolist()])
        entry |= {f"class_only_at_{cut}": _chance(in_class, matches, cut) for cut in CUTS}
    return {**entry, "n": len(one)}


def _chance(candidates: np.ndarray, matches: np.ndarray, k: int) -> float:
    """Of queries that cannot tell their matches from any of their candidates, the share that find one among k."""
    if (matches == 1).all():
        shares = np.minimum(k / candidates, 1.0)
        return float(shares[0]) if (shares == shares[0]).all() else _mean(shares)
    return _mean(chance_of_any(np.zeros(len(candidates), dtype=np.int64), candidates, matches, k))


def _book_health(ids: dict[str, Tensor], num_codes: int) -> dict[str, Any]:
    every = torch.cat([picked.reshape(-1) for picked in ids.values()])
    return {**codebook_health(every, num_codes), "by_modality": modality_usage(ids, num_codes)}


def _pool_of(embedded: EmbeddedSet) -> EmbeddedSet:
    items = sum(len(modality) for modality in embedded.modalities.values())
    if items <= MOST_POOLED:
        return embedded
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(embedded)))
    return embedded.only(order[: max(1, len(embedded) * MOST_POOLED // items)])


def _same_owner_share(owners: Tensor) -> np.ndarray:
    counts = torch.bincount(owners)[owners]
    return ((counts - 1) / (len(owners) - 1)).numpy()


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values))
