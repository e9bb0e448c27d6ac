"""Numbers that are no longer finite: a step that has them is left out, or ends the run before it spoils anything."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from codebind_hf.model.codebooks import Codebook
from codebind_hf.training.processes import largest_of_all


logger = logging.getLogger(__name__)

_FIX = "Fix: a lower learning_rate, a smaller max_grad_norm, or max_skipped_steps, to leave such steps out."


class DivergenceGuard:
    """Watches what a model computes in training.

    Args:
        model: whose codebooks and weights are looked at.
        max_skipped: steps that may be left out. With any, codebooks are copied before each step, since they learn
            while the loss is computed.
    """

    def __init__(self, model: Any, max_skipped: int) -> None:
        self._model, self._max_skipped = model, max_skipped
        self._books = {name: book for name, book in model.codebooks.named_modules() if isinstance(book, Codebook)}
        self._watched: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        self._copies: list[Tensor] = []
        self.num_skipped = 0

    def prepare(self) -> None:
        """Before a forward pass."""
        if self._max_skipped and not self._watched:
            self._copies = [buffer.clone() for buffer in self._buffers()]

    def watch(self, terms: dict[str, Tensor], embeds: dict[str, Tensor]) -> None:
        """After a forward pass: its loss terms, and its embeddings by modality."""
        detached = [{name: value.detach() for name, value in each.items()} for each in (terms, embeds)]
        self._watched.append((detached[0], detached[1]))

    def refuses(self, grad_norm: Tensor | float, step: int) -> bool:
        """Whether a step must be left out, whose gradients are all there; the same on all processes.

        Raises:
            FloatingPointError: it must, and no more steps may be left out; names the terms, modalities and codebooks.
        """
        is_finite = bool(torch.isfinite(torch.as_tensor(grad_norm)).all())
        watched, self._watched = self._watched, []
        if is_finite and _all_finite(self._buffers()):
            return False
        found = f"step {step}: {self._found(watched)}"
        if self.num_skipped >= self._max_skipped:
            left_out = f" {self.num_skipped} steps were left out before." if self._max_skipped else ""
            raise FloatingPointError(f"{found}. The weights from before this step were not changed.{left_out} {_FIX}")
        self.num_skipped += 1
        logger.warning("%s; left out, %d of %d.", found, self.num_skipped, self._max_skipped)
        for buffer, copy in zip(self._buffers(), self._copies, strict=True):
            buffer.copy_(copy)
        for parameter in self._model.parameters():
            parameter.grad = None
        return True

    def check_weights(self, step: int) -> None:
        """Refuse to save what nothing can be computed with.

        Raises:
            FloatingPointError: a weight or a codebook is not finite, on any process.
        """
        tensors = (parameter.detach() for parameter in self._model.parameters())
        is_broken = not (_all_finite(tensors) and _all_finite(self._buffers()))
        if largest_of_all(int(is_broken)):
            raise FloatingPointError(f"step {step}: weights are not finite, and are not saved. {_FIX}")

    def _buffers(self) -> Iterator[Tensor]:
        for book in self._books.values():
            yield from (buffer for buffer in book.buffers() if buffer.is_floating_point())

    def _found(self, watched: list[tuple[dict[str, Tensor], dict[str, Tensor]]]) -> str:
        """What is not finite, in words."""
        names = []
        for kind, place in (("loss term", 0), ("embeddings of", 1)):
            broken = [name for each in watched for name, value in each[place].items() if not _all_finite([value])]
            names += [f"{kind} {', '.join(dict.fromkeys(broken))}"] if broken else []
        broken = [name for name, book in self._books.items() if not _all_finite(book.buffers())]
        names += [f"codebook {', '.join(broken)}"] if broken else []
        modalities = ", ".join(dict.fromkeys(name for each in watched for name in each[1]))
        return f"not finite: {'; '.join(names) or 'gradients'} (batch of {modalities})"


def _all_finite(tensors: Any) -> bool:
    flags = [_local(tensor).isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return not flags or bool(torch.stack(flags).all())


def _local(tensor: Tensor | nn.Parameter) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
