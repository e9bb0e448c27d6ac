"""Which items find their own object at once, and which do not at all? A few of both, to look at and listen to."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from torch.nn.functional import normalize

from codebind_hf.data.items import Items
from codebind_hf.evaluation.embedding import EmbeddedModality
from codebind_hf.evaluation.metrics import match_places
from codebind_hf.evaluation.pages.items import shown_item
from codebind_hf.evaluation.suite import Evaluation
from codebind_hf.processing.arguments import tensor_of


MOST_CASES, MOST_FOUND, MOST_MODALITIES = 2, 3, 12
SAME_OBJECT, SAME_CLASS = "same object", "same class"


class Shown(NamedTuple):
    """An item on the page.

    Args:
        item: its HTML.
        name: its label or id.
        cosine: to the query; `None` of the query itself.
        relation: `SAME_OBJECT`, `SAME_CLASS` or nothing.
    """

    item: Markup
    name: str
    cosine: float | None = None
    relation: str = ""


class Case(NamedTuple):
    """A query, what it should find and at which place of how many that is, and what it finds first."""

    query: Shown
    wanted: Shown
    place: float
    of: int
    found: list[Shown]


class Matches(NamedTuple):
    """The best and the worst cases of a modality that asks another."""

    query: str
    gallery: str
    best: list[Case]
    worst: list[Case]


def best_and_worst(evaluation: Evaluation, cases: int = MOST_CASES, found: int = MOST_FOUND) -> list[Matches]:
    """Of every modality the queries whose own object comes first, and last, among those of another modality.

    A modality asks for the image of its object; an image for its sound, or for what else there is. Ranks are those
    before quantization, as in a search. Cases are of different classes where there are several; of equal ranks, those
    nearest to their own object come first. Rows are read for what is shown alone.

    Raises:
        ValueError, OSError: with `on_error="raise"`, an item to show cannot be read.
    """
    embedded = evaluation.embedded
    results = []
    # Words are looked at last: there is less to see.
    for name in sorted(embedded.modalities, key=lambda name: name == "text")[:MOST_MODALITIES]:
        gallery = _gallery_of(name, list(embedded.modalities))
        if gallery is None:
            continue
        queries, items = embedded.both(name, gallery)
        if len(queries) < 2:
            continue
        before, tied = match_places(queries.continuous_embeds, items.continuous_embeds)
        places = before + (tied + 1) / 2
        cosines = _cosines(queries, items)
        labels = [embedded.labels[row] for row in queries.positions.tolist()]
        ranked = np.lexsort((-cosines, places))
        best = list(_of_different_classes(ranked, labels, cases))
        # What is shown as best is not shown as worst, too.
        rest = [place for place in ranked[::-1] if place not in best]
        worst = list(_of_different_classes(rest, labels, min(cases, len(rest))))
        show = _Shower(evaluation, name, gallery, queries, items, found)
        made = [[show.case(int(number), float(places[number])) for number in chosen] for chosen in (best, worst)]
        results.append(Matches(name, gallery, *made))
    return results


def value_of(rows: Any, position: int, modality: str) -> Any:
    """What a row holds of a modality: the raw value where it is at hand, else the tensor made of it."""
    raw = rows.raw(position) if isinstance(rows, Items) else None
    row = rows[position] if raw is None else raw
    if "tensors" not in row:
        return row[modality]
    # Ids of tokens are no words.
    return row.get("label") or row.get("id") or "" if modality == "text" else row["tensors"][tensor_of(modality)]


class _Shower:
    """Items of two modalities that belong to the same rows, as HTML."""

    def __init__(
        self,
        evaluation: Evaluation,
        query: str,
        gallery: str,
        queries: EmbeddedModality,
        items: EmbeddedModality,
        found: int,
    ) -> None:
        self.evaluation, self.query, self.gallery, self.found = evaluation, query, gallery, found
        self.rows: dict[int, Any] = {}
        self.positions = queries.positions.tolist()
        self.queries, self.items = (normalize(each.continuous_embeds, dim=-1) for each in (queries, items))

    def case(self, number: int, place: float) -> Case:
        cosines = self.items @ self.queries[number]
        best = torch.argsort(cosines, descending=True, stable=True)[: self.found].tolist()
        found = [self._shown(self.gallery, other, float(cosines[other]), number) for other in best]
        wanted = self._shown(self.gallery, number, float(cosines[number]), number)
        return Case(self._shown(self.query, number), wanted, place, len(self.positions), found)

    def _shown(self, modality: str, number: int, cosine: float | None = None, asked: int | None = None) -> Shown:
        position, embedded = self.positions[number], self.evaluation.embedded
        label = embedded.labels[position]
        name = label or embedded.ids[position] or f"row {position}"
        relation = ""
        if asked is not None:
            same_class = label is not None and label == embedded.labels[self.positions[asked]]
            relation = SAME_OBJECT if asked == number else SAME_CLASS if same_class else ""
        on_error = self.evaluation.on_error
        try:
            value = value_of(self.evaluation.rows, position, modality)
        except (ValueError, OSError) as error:
            if on_error == "raise":
                raise
            return Shown(Markup('<div class="item broken">{}</div>').format(str(error)), name, cosine, relation)
        return Shown(shown_item(modality, value, name, on_error), name, cosine, relation)


def _gallery_of(name: str, modalities: list[str]) -> str | None:
    """The other modality that is best looked at, or listened to; texts often repeat."""
    others = [other for other in modalities if other != name]
    for wanted in ("image", "audio"):
        if wanted in others:
            return wanted
    return next((other for other in others if other != "text"), others[0] if others else None)


def _of_different_classes(ranked: Any, labels: list[str | None], count: int) -> Iterator[int]:
    seen: list[str | None] = []
    several = len(set(labels)) >= count
    for number in ranked:
        label = labels[int(number)]
        if not several or label not in seen:
            seen.append(label)
            yield int(number)
        if len(seen) == count:
            return


def _cosines(queries: EmbeddedModality, items: EmbeddedModality) -> np.ndarray:
    unit = [normalize(each.continuous_embeds.double(), dim=-1) for each in (queries, items)]
    return (unit[0] * unit[1]).sum(-1).numpy()


def relation_mark(relation: str) -> str:
    """What stands before a relation, so that colour alone need not say it."""
    return {SAME_OBJECT: "✓", SAME_CLASS: "≈"}.get(relation, "✗")
