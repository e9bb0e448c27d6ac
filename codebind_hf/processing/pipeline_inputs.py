"""What may a pipeline be given? Items of a known modality, labels, templates, galleries: checked and named."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers.utils import cached_file

from .arrays import as_float_array
from .items import Item, item_named, item_of
from .sources import is_source
from .values import check_choice, check_types, describe, refuse, shown


# Beside a checkpoint: from which cosine on an item is one of some labels, by modality, and what it was measured with.
THRESHOLDS_FILE = "abstention.json"
# What is one item although it has a length or can be iterated over.
ONE_ITEM = (str, bytes, os.PathLike, Mapping, np.ndarray, Tensor, Image.Image)
# Keys of a data row that name no modality.
_ROW_KEYS = frozenset({"id", "label", "attributes"})


@dataclass(frozen=True)
class Numbered:
    """An item and its position in the input, which messages name."""

    position: int
    value: Any


@dataclass(frozen=True)
class Gallery:
    """Embedded items that queries are compared with, every distinct embedding kept once.

    Equal embeddings, which codes make often, then have equal scores to the last bit.

    Args:
        distinct_embeds (`Tensor` of shape `(distinct, dim)`): unit vectors.
        rows (`Tensor` of shape `(items,)`): of every item in `distinct_embeds`.
        indices: position of every item in the list that it came from.
        modalities: of every item; `None` for embeddings given without one.
        quantize: whether they are quantized; `None` for embeddings that were given.
    """

    distinct_embeds: Tensor
    rows: Tensor
    indices: tuple[int, ...]
    modalities: tuple[str | None, ...]
    quantize: bool | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def closest(self, query: Tensor, modalities: Sequence[str] | None, top_k: int) -> list[tuple[int, float]]:
        """Position and cosine of the `top_k` items closest to one query; of equal ones, the first first."""
        cosines = (self.distinct_embeds @ query).clamp(-1.0, 1.0)[self.rows]
        positions = torch.arange(len(self)) if modalities is None else torch.tensor(self.positions(modalities))
        scores, order = cosines[positions].sort(descending=True, stable=True)
        return list(zip(positions[order[:top_k]].tolist(), scores[:top_k].tolist(), strict=True))

    def positions(self, modalities: Sequence[str]) -> list[int]:
        """Items of these modalities.

        Raises:
            ValueError: the gallery has no item of one of them.
        """
        check_types({"modalities": modalities}, {"modalities": str | Sequence[str]})
        wanted = [modalities] if isinstance(modalities, str) else list(modalities)
        present = sorted({modality for modality in self.modalities if modality is not None})
        if not wanted:
            refuse("modalities", "got an empty list", ", ".join(present))
        for modality in wanted:
            check_choice("modalities", modality, tuple(present))
        return [position for position, modality in enumerate(self.modalities) if modality in wanted]


def named_item(item: Any, modality: str | None, known: tuple[str, ...]) -> Item:
    """What is of a known modality: as `encode` tells it, a dictionary that names it, or any with `modality`.

    Raises:
        ValueError: the item does not tell its modality, or names one that the checkpoint lacks or `modality` rules
            out.
    """
    fix = f'name it: {{"{known[-1]}": value}}, or pass modality="{known[-1]}".'
    if isinstance(item, Item):
        check_choice("item", item.name, known if modality is None else (modality,))
        return item
    if modality is not None:
        return item_named(modality, item[modality] if isinstance(item, Mapping) and modality in item else item)
    if isinstance(item, Mapping) and not is_source(item):
        modalities = [name for name in item if name in known and item[name] is not None]
        strange = [name for name in item if name not in known and name not in _ROW_KEYS]
        if strange or not modalities:
            got = f"got a dictionary with keys {', '.join(map(shown, item)) or '(none)'}"
            refuse("item", got, f"one modality among {', '.join(known)}", fix)
        if len(modalities) > 1:
            refuse(
                "item",
                f"got {' and '.join(modalities)} in one item",
                "one modality",
                f'pass modality="{modalities[0]}".',
            )
        return item_named(modalities[0], item[modalities[0]])
    if not is_source(item) and not isinstance(item, Image.Image):
        refuse(
            "item", f"got {describe(item)}, which may be of any modality", f"a modality among {', '.join(known)}", fix
        )
    found = item_of(item, "item", known)
    if found.name not in known:
        refuse("item", f"got {describe(item)}", f"a modality among {', '.join(known)}", fix)
    return found


def numbered(items: Iterable[Any]) -> Iterator[Numbered]:
    """The items with their positions."""
    return (Numbered(position, item) for position, item in enumerate(items))


def checked_labels(labels: Any) -> tuple[str, ...]:
    """Labels to choose from: one or more different strings."""
    if isinstance(labels, (str, Mapping)) or not isinstance(labels, Iterable):
        refuse("candidate_labels", f"got {describe(labels)}", "a list of labels", 'such as ["a ring", "a bell"].')
    found = tuple(labels)
    for position, label in enumerate(found):
        if not isinstance(label, str):
            refuse(f"candidate_labels[{position}]", f"got {describe(label)}", "str")
    if not found:
        refuse("candidate_labels", "got an empty list", "one label or more")
    twice = [label for label in dict.fromkeys(found) if found.count(label) > 1]
    if twice:
        refuse("candidate_labels", f"got {twice[0]!r} twice", "labels that differ", "name each label once.")
    return found


def checked_templates(templates: Any) -> tuple[str, ...]:
    """One or more texts with `{}` where a label belongs."""
    is_list = isinstance(templates, Iterable) and not isinstance(templates, (bytes, Mapping))
    found = (templates,) if isinstance(templates, str) else tuple(templates) if is_list else ()
    if not found:
        refuse("hypothesis_template", f"got {shown(templates)}", "a text or a list of texts with {} for the label")
    for template in found:
        if not isinstance(template, str) or "{}" not in template:
            fix = 'write {} where the label belongs, or "{}" for labels that are whole texts.'
            refuse("hypothesis_template", f"got {shown(template)}", "a text that holds {}", fix)
    return found


def checked_embeds(values: np.ndarray | Tensor, dim: int, label: str) -> Tensor:
    """Embeddings `(items, dim)` as float32 unit vectors."""
    array = torch.from_numpy(as_float_array(values, label).astype(np.float32))
    if array.ndim != 2 or array.shape[1] != dim or not len(array):
        fix = "for raw data pass a list of items."
        refuse(label, f"got {describe(values)}", f"embeddings (items, {dim}), one item or more", fix)
    nonzero = array.any(dim=1)
    if not nonzero.all():
        refuse(label, f"got a zero vector in row {int(nonzero.int().argmin())}", "vectors with a direction")
    return normalize(array, dim=-1)


def unit(embeds: Tensor) -> Tensor:
    """Embeddings as float32 of unit norm; those of a float32 model are both already."""
    return embeds if embeds.dtype == torch.float32 else normalize(embeds.float(), dim=-1)


def stored_thresholds(model: Any) -> dict[str, Any]:
    """What `THRESHOLDS_FILE` beside the checkpoint of a model holds; empty without one.

    Raises:
        ValueError: it is damaged.
    """
    place = str(getattr(model.config, "_name_or_path", "") or "")
    try:
        revision = getattr(model.config, "_commit_hash", None)
        found = cached_file(place, THRESHOLDS_FILE, _commit_hash=revision) if place else None
    except OSError:
        # Most checkpoints have none, and the folder of a model that is loaded may be gone.
        found = None
    if found is None:
        return {}
    try:
        return dict(json.loads(Path(found).read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{found}: is no JSON ({error}). Fix: evaluate the run again, or remove it.") from error


def checked_thresholds(value: Any, known: tuple[str, ...]) -> float | dict[str, float]:
    """A cosine, or one by modality."""
    entries = value if isinstance(value, Mapping) else {"": value}
    for name, number in entries.items():
        label = f"threshold[{name!r}]" if name else "threshold"
        if name:
            check_choice("threshold", name, known)
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not -1 <= number <= 1:
            refuse(label, f"got {shown(number)}", "a cosine from -1 to 1, or one by modality")
    return dict(value) if isinstance(value, Mapping) else float(value)


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last one perhaps shorter; no more than one is held."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
