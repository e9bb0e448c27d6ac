"""Embedding raw data in batches: what `CodeBindModel.encode` does."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


OUTPUTS = ("numpy", "torch", "codes")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode meanwhile, and afterwards the mode from before, whatever happens."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def encode_items(model: Any, items: Any, processor: Any, batch_size: int, quantize: bool, output: str) -> Any:
    """See `CodeBindModel.encode`."""
    if output not in OUTPUTS:
        raise ValueError(f"output: got {output!r}; allowed: {', '.join(map(repr, OUTPUTS))}.")
    if output == "codes" and model.codebooks.shared is None:
        raise ValueError('output: got "codes", but this model has no shared codebook; choose "numpy" or "torch".')
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}; it must be 1 or more.")
    if isinstance(items, Mapping):
        by_name = {
            name: _encode_modality(model, processor, name, x, batch_size, quantize, output)
            for name, x in items.items()
        }
        return {name: _converted(x, output) for name, x in by_name.items()}
    names, values = _modalities_of(items)
    results: list[Tensor | None] = [None] * len(names)
    for name in dict.fromkeys(names):
        positions = [i for i, other in enumerate(names) if other == name]
        chosen = [values[i] for i in positions]
        encoded = _encode_modality(model, processor, name, chosen, batch_size, quantize, output)
        for position, row in zip(positions, encoded, strict=True):
            results[position] = row
    return _converted(torch.stack([row for row in results if row is not None]), output)


def _modalities_of(items: Any) -> tuple[list[str], list[Any]]:
    """Modality and value of every item of a mixed list."""
    if isinstance(items, str) or not isinstance(items, Sequence) or not len(items):
        raise ValueError(
            f"items: got {type(items).__name__}; expected a dictionary of lists by modality, or a list of mixed items."
        )
    names: list[str] = []
    values: list[Any] = []
    for position, item in enumerate(items):
        if isinstance(item, str):
            item = {"text": item}
        if not isinstance(item, Mapping) or len(item) != 1:
            raise ValueError(
                f"items[{position}]: got {type(item).__name__}; a mixed item is a text or a dictionary with one "
                'modality, such as {"image": picture}.'
            )
        names.extend(item)
        values.extend(item.values())
    return names, values


def _kind(values: Any) -> str:
    is_empty = isinstance(values, Sequence) and not len(values)
    return f"an empty {type(values).__name__}" if is_empty else type(values).__name__


@torch.inference_mode()
def _encode_modality(
    model: Any, processor: Any, name: str, values: Any, batch_size: int, quantize: bool, output: str
) -> Tensor:
    modalities = model.config.modalities
    if name not in modalities:
        raise ValueError(f"items: {name!r} is not in this checkpoint, which has {', '.join(modalities)}.")
    if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
        raise ValueError(
            f"items[{name!r}]: expected a list of one or more values, got {_kind(values)}. Fix: give a list, such as "
            f"{{{name!r}: [value]}}."
        )
    parts = []
    with evaluating(model):
        for start in range(0, len(values), batch_size):
            chosen = list(values[start : start + batch_size])
            batch = processor(**{modalities[name].argument: chosen}, return_tensors="pt")
            tensors = {key: value.to(model.device) for key, value in batch.items()}
            result = model(**tensors, quantize=quantize)
            parts.append(result.codes[name].shared if output == "codes" else result.embeds[name])
    return torch.cat(parts).cpu()


def _converted(values: Tensor, output: str) -> Any:
    return values.numpy() if output == "numpy" else values
