"""How does one row become tensors? Its modalities processed, its captions kept or one of them drawn."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from codebind_hf.data.collator import ATTENTION_MASK, INPUT_IDS, modality_names
from codebind_hf.data.columns import present_modalities
from codebind_hf.data.items import CAPTIONS
from codebind_hf.data.units import call_of
from codebind_hf.processing.values import check_types


# An item with any of several labels, and of a row with any of several texts.
_EXTRAS = {"id": str | int | None, "label": str | int | list[str] | None, "attributes": Mapping[str, Any] | None}

NO_LABELS = (
    "text_from_label: the rows have no labels. Fix: a column `label`, or rename one to it (--columns old=label), or "
    "leave it out (--text_from_label)."
)


def prepare_row(
    row: Mapping[str, Any], processor: Any, default_id: str = "", modalities: Sequence[str] | None = None
) -> dict[str, Any]:
    """One raw row as tensors without a batch axis.

    A row's `text` may be a list of captions: `tensors` then holds the first, `captions` the tensors of all.

    Args:
        default_id: the row's id, if it has none.
        modalities: process no others.

    Raises:
        ValueError: the row has no modality, an id, a label or attributes of another type, or a value that the
            processor refuses.
        OSError: a file cannot be read.
    """
    check_types({name: row.get(name) for name in _EXTRAS}, _EXTRAS)
    present = modality_names(row)
    if not present:
        raise ValueError("the row has no modality; allowed: one or more.")
    kept = [name for name in present if modalities is None or name in modalities]
    values: dict[str, Any] = {name: [row[name]] for name in kept}
    captions = row["text"] if "text" in kept and isinstance(row["text"], (list, tuple)) else None
    if captions is not None:
        if not captions:
            raise ValueError("text: got an empty list of captions; allowed: a text, or one caption or more.")
        values["text"] = list(captions)
    calls = {key: value for name, each in values.items() for key, value in call_of(name, each).items()}
    batch = processor(**calls, return_tensors="pt")
    tensors: dict[str, Tensor] = {name: torch.as_tensor(value)[0] for name, value in batch.items()}
    row_id, attributes = row.get("id") or default_id, row.get("attributes") or {}
    item = {"tensors": tensors, "id": row_id, "label": row.get("label"), "attributes": attributes}
    if captions is not None and len(captions) > 1:
        names = [name for name in (INPUT_IDS, ATTENTION_MASK) if name in batch]
        item[CAPTIONS] = [{name: torch.as_tensor(batch[name])[i] for name in names} for i in range(len(captions))]
    return item


def class_names_of(labels: Iterable[Any]) -> list[str]:
    """Labels in the order of their first appearance; a row may have several."""
    return list(dict.fromkeys(flattened(labels)))


def flattened(values: Iterable[Any]) -> list[Any]:
    """Labels or texts of rows, of which some have several and some none."""
    every = (each for value in values for each in (value if isinstance(value, (list, tuple)) else [value]))
    return [each for each in every if each is not None and each != ""]


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Texts that `with_text` makes texts of.

    Raises:
        ValueError: one without `{}`.
    """
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"text_from_label: got {template!r}; a template holds {{}} where the label belongs.")
    return tuple(templates)


def with_text(row: dict[str, Any], templates: Sequence[str]) -> dict[str, Any]:
    """A row without text, with one of its label; of several templates or labels a list, as of captions.

    Raises:
        ValueError: neither text nor label.
    """
    if not templates or present_modalities(row, ["text"]):
        return row
    labels = class_names_of([row.get("label")])
    if not labels:
        raise ValueError(f"text_from_label: row {row.get('id')!r} has no label. Fix: give it one, or a text.")
    texts = [template.replace("{}", label) for label in labels for template in templates]
    return {**row, "text": texts[0] if len(texts) == 1 else texts}
