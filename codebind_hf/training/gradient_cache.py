"""Gradients of a large batch in the memory of a small one (GradCache: Gao et al. 2021, arXiv 2101.06983).

Samples go through the encoders and decoders a chunk at a time without keeping activations; the objective sees the
whole batch; on the way back each chunk is computed once more, with the same random numbers, and its activations are
dropped before those of the next are made. What is kept of a chunk is what the objective reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from codebind_hf.model.codebooks import Codebook, Quantized
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.inputs import ModalityInput
from codebind_hf.model.objective import ModalityState


def check_config(config: CodeBindConfig, size: int, is_sharded: bool) -> None:
    """Refuse settings under which chunks would not give the gradients of the whole batch.

    Args:
        size: samples in a chunk, for the message.
        is_sharded: whether FSDP holds the weights.

    Raises:
        ValueError: names the setting.
    """
    settings = {
        "parity_losses": config.parity_losses,
        "parity_codebooks": config.parity_codebooks,
        "output_hidden_states": config.output_hidden_states,
        "fsdp": is_sharded,
    }
    if refused := [name for name, value in settings.items() if value]:
        raise ValueError(
            f"gradient_cache_chunk: got {size} together with {', '.join(refused)}; chunks are exact without "
            f"{'it' if len(refused) == 1 else 'them'} only. Fix: turn one of the two off."
        )


@contextmanager
def in_chunks(model: Any, size: int) -> Iterator[None]:
    """Forward passes of `model` inside take `size` samples of a modality at a time; `backward` may come later.

    Raises:
        ValueError: an encoder learns by batch statistics, which are not those of its chunks.
    """
    codes = CodesAsOf(model.codebooks)
    model.modality_runner = partial(_run_modality, size=size, codes=codes)
    try:
        yield
    finally:
        model.modality_runner = None


class CodesAsOf:
    """The codes that all codebooks have now, for recomputations that come after they moved."""

    def __init__(self, codebooks: nn.Module) -> None:
        self.books = [module for module in codebooks.modules() if isinstance(module, Codebook)]
        self.kept = [book.codes.clone() for book in self.books]
        self.swapped: list[Tensor] = []

    def __enter__(self) -> None:
        self.swapped = [book.codes for book in self.books]
        self._set(self.kept)

    def __exit__(self, *error: object) -> None:
        self._set(self.swapped)

    def _set(self, codes: list[Tensor]) -> None:
        for book, values in zip(self.books, codes, strict=True):
            book.codes = values


def _run_modality(
    model: Any, value: ModalityInput, decode: bool, all_tokens: bool, size: int, codes: CodesAsOf
) -> tuple[ModalityState, tuple[Tensor, ...]]:
    """What the model says of one modality, chunk by chunk; without hidden states."""
    _check_norms(model, value.modality.encoder)

    def run(values: Tensor, mask: Tensor | None, view: Tensor | None) -> ModalityState:
        part = value._replace(values=values, attention_mask=mask, view=view)
        state, _ = model._quantized(part, decode, all_tokens)
        state.shared_tokens, state.specific_tokens = _slim(state.shared_tokens), _slim(state.specific_tokens)
        return state

    values = value.values.split(size * value.clips)
    masks = [None] * len(values) if value.attention_mask is None else value.attention_mask.split(size)
    views = [None] * len(values) if value.view is None else value.view.split(size * value.clips)
    chunks = [
        checkpoint(run, *chunk, use_reentrant=False, context_fn=lambda: (nullcontext(), codes))
        for chunk in zip(values, masks, views, strict=True)
    ]
    return _joined(chunks), ()


def _check_norms(model: Any, encoder: str) -> None:
    for module in model.encoders[encoder].modules():
        if isinstance(module, nn.BatchNorm1d) and module.training:
            raise ValueError(
                f"gradient_cache_chunk: the batch norm of the {encoder} encoder learns, and the statistics of a chunk "
                "are not those of the batch. Fix: null (None in Python), or freeze this encoder or its norm's weight."
            )


def _slim(tokens: Quantized | None) -> Quantized | None:
    """Of all tokens, the objective and the codebooks read segments and codes."""
    if tokens is None:
        return None
    return tokens._replace(continuous=tokens.continuous[:, :0], embedding=tokens.embedding[:, :0])


def _joined(chunks: list[ModalityState]) -> ModalityState:
    """One state of all samples."""
    quantized = ("shared", "specific", "shared_tokens", "specific_tokens")
    fields: dict[str, Any] = {name: _quantized([getattr(chunk, name) for chunk in chunks]) for name in quantized}
    for name in ("reconstruction", "target", "view"):
        fields[name] = _stacked([getattr(chunk, name) for chunk in chunks])
    return replace(chunks[0], **fields)


def _quantized(parts: list[Quantized | None]) -> Quantized | None:
    if parts[0] is None:
        return None
    return Quantized._make(_stacked(list(fields)) for fields in zip(*parts, strict=True))


def _stacked(parts: list[Tensor | None]) -> Tensor | None:
    return None if parts[0] is None else torch.cat(parts)  # type: ignore[arg-type]
