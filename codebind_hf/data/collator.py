"""How do rows with different modalities become one batch? Tensors per modality, and which rows they belong to."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from codebind_hf.data.columns import EXTRA_COLUMNS, present_modalities
from codebind_hf.data.units import call_of, has_options
from codebind_hf.model.modalities import MODALITIES, Modality, added_modality


ATTENTION_MASK = "attention_mask"
INPUT_IDS = "input_ids"
# Of an item and of a batch: by modality, what its tower gave, in place of the modality's tensor.
POOLED_TOKENS = "pooled_tokens"


def modality_names(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Modalities of a raw or prepared row, the built-in ones first and in their order."""
    if "tensors" in row:
        names = {_modality_of_tensor(name).name for name in row["tensors"] if name != ATTENTION_MASK}
        names |= set(row.get(POOLED_TOKENS, ()))
    else:
        names = {name for name in row if name not in EXTRA_COLUMNS}
        names = set(present_modalities(row, names))
    return (*(name for name in MODALITIES if name in names), *sorted(names - set(MODALITIES)))


def _modality_of_tensor(tensor: str) -> Modality:
    for modality in MODALITIES.values():
        if modality.tensor == tensor:
            return modality
    return added_modality(tensor.removesuffix("_values"))


def modality_for(modality: str) -> Modality:
    """The built-in modality `modality`, or the one a user added under this name."""
    return MODALITIES.get(modality) or added_modality(modality)


class CodeBindCollator:
    """Batches raw or prepared rows, each with any subset of modalities, for `CodeBindModel.forward`.

    The result holds, per modality that any row has, its tensor stacked over the rows that have it (text with
    `attention_mask`, as wide as the longest in the batch), `"rows"`: for every such modality the positions of these
    rows in the batch, and `"return_loss": True`. Pooled tokens that rows have in place of a tensor are stacked
    under `"pooled_tokens"`.

    Args:
        processor (`CodeBindProcessor`, *optional*): needed for raw rows; prepared rows (`PreparedDataset`) need none,
            unless their texts differ in length: then its tokenizer says how to pad.
        return_loss: what `"return_loss"` is.
    """

    def __init__(self, processor: Any = None, return_loss: bool = True) -> None:
        self.processor = processor
        self.return_loss = return_loss

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One batch of `rows`, without those that are skipped (`None`).

        Raises:
            ValueError: no rows, a row without any modality, raw rows without a processor, raw and prepared rows
                mixed, or items of one modality whose tensors differ in shape.
        """
        if not len(rows):
            raise ValueError("rows: got an empty batch; allowed: one row or more.")
        rows = [row for row in rows if row is not None]
        if not rows:
            raise ValueError("rows: none of a batch can be read, see the log. Fix: mend them, or larger batches.")
        are_prepared = {"tensors" in row for row in rows}
        if len(are_prepared) > 1:
            raise ValueError("rows: got raw and prepared rows in one batch; allowed: all of one kind.")
        positions = _positions(rows)
        tensors = self._stacked(rows, positions) if are_prepared.pop() else self._processed(rows, positions)
        index = {modality: torch.tensor(places, dtype=torch.long) for modality, places in positions.items()}
        return {**tensors, "rows": index, "return_loss": self.return_loss}

    def _processed(self, rows: Sequence[Mapping[str, Any]], positions: Mapping[str, list[int]]) -> dict[str, Tensor]:
        if self.processor is None:
            raise ValueError("processor: got None, but the rows are raw. Fix: CodeBindCollator(processor).")
        tensors: dict[str, Tensor] = {}
        for modality, places in positions.items():
            values = [rows[i][modality] for i in places]
            # Options are of a whole call.
            calls = [[value] for value in values] if any(map(has_options, values)) else [values]
            parts = [self.processor(**call_of(modality, each), return_tensors="pt") for each in calls]
            tensors |= (
                {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts[1:] else parts[0]
            )
        return _trimmed(tensors)

    def _stacked(self, rows: Sequence[Mapping[str, Any]], positions: Mapping[str, list[int]]) -> dict[str, Any]:
        tensors: dict[str, Any] = {}
        for modality, places in positions.items():
            if modality in rows[places[0]].get(POOLED_TOKENS, ()):
                tokens = [rows[i][POOLED_TOKENS][modality] for i in places]
                tensors.setdefault(POOLED_TOKENS, {})[modality] = _stack(tokens, modality, rows, places)
                continue
            name = modality_for(modality).tensor
            items = [rows[i]["tensors"] for i in places]
            if name == INPUT_IDS:
                tensors |= _trimmed(self._padded(items))
            else:
                tensors[name] = _stack([item[name] for item in items], modality, rows, places)
        return tensors

    def _padded(self, items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Token ids and attention masks, padded on the right where lengths differ."""
        longest = max(len(item[INPUT_IDS]) for item in items)
        is_even = all(len(item[INPUT_IDS]) == longest for item in items)
        pad_id = 0 if is_even else pad_token_id(self.processor)
        padded = [pad_text(item, longest, pad_id) for item in items]
        return {name: torch.stack([item[name] for item in padded]) for name in (INPUT_IDS, ATTENTION_MASK)}


def pad_token_id(processor: Any) -> int:
    """Id that the tokenizer of `processor` pads texts with.

    Raises:
        ValueError: no processor, no tokenizer, or a tokenizer without a pad token.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    if getattr(tokenizer, "pad_token_id", None) is None:
        fix = "pass the processor whose tokenizer made them, and give that a pad token"
        raise ValueError(f"processor: texts of different lengths need a pad token. Fix: {fix}.")
    return int(tokenizer.pad_token_id)  # type: ignore[union-attr]


def pad_text(tensors: Mapping[str, Tensor], length: int, pad_id: int) -> dict[str, Tensor]:
    """One text's token ids and attention mask, padded on the right to `length`."""
    ids = tensors[INPUT_IDS]
    mask = tensors.get(ATTENTION_MASK, torch.ones_like(ids))
    missing = length - len(ids)
    padded = {INPUT_IDS: F.pad(ids, (0, missing), value=pad_id), ATTENTION_MASK: F.pad(mask, (0, missing))}
    return {**tensors, **padded}


def _trimmed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cut the columns on the right that are padding in every text of the batch."""
    mask = tensors.get(ATTENTION_MASK)
    if mask is None:
        return tensors
    used = int(mask.any(0).nonzero().max()) + 1 if bool(mask.any()) else mask.shape[1]
    cut = {name: tensors[name][:, :used] for name in (INPUT_IDS, ATTENTION_MASK)}
    return {**tensors, **cut}


def _positions(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Modality -> places in the batch of the rows that have it."""
    found: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        modalities = modality_names(row)
        if not modalities:
            raise ValueError(
                f"rows: row {place} (id {row.get('id')!r}) has no modality; every row needs at least one."
            )
        for modality in modalities:
            found.setdefault(modality, []).append(place)
    order = [name for name in MODALITIES if name in found]
    return {name: found[name] for name in [*order, *sorted(set(found) - set(order))]}


def _stack(
    values: Sequence[Tensor], modality: str, rows: Sequence[Mapping[str, Any]], places: Sequence[int]
) -> Tensor:
    for value, place in zip(values, places, strict=True):
        if value.shape != values[0].shape:
            shapes = f"{tuple(value.shape)}, but {rows[places[0]].get('id')!r} has {tuple(values[0].shape)}"
            raise ValueError(f"{modality}: row {rows[place].get('id')!r} has shape {shapes}; one batch has one shape.")
    return torch.stack(list(values))
