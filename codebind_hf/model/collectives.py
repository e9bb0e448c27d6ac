"""What the processes of a distributed run agree on. With one process every function is the identity."""

from typing import Any

import torch
from torch import Tensor, distributed


def num_processes() -> int:
    ready = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if ready else 1


def process_index() -> int:
    return distributed.get_rank() if num_processes() > 1 else 0


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum over all processes, without gradient; every process must call it with the same shape."""
    if num_processes() > 1:
        x = x.detach().clone()
        distributed.all_reduce(x)
    return x


def sizes_over_processes(x: Tensor) -> list[int]:
    """Rows of `x` on every process, in order of rank."""
    sizes = torch.zeros(num_processes(), dtype=torch.long, device=x.device)
    sizes[process_index()] = len(x)
    return sum_over_processes(sizes).tolist()


def gather_with_gradient(x: Tensor) -> Tensor:
    """Rows of all processes stacked in order of rank, differentiable; sizes of the first axis may differ.

    Every process must compute the same loss from the result, as the terms that use it do; averaged over processes, as
    data parallelism does, the gradient is then that of one process with all rows.
    """
    if num_processes() == 1:
        return x
    return _Gather.apply(x, sizes_over_processes(x))


class _Gather(torch.autograd.Function):
    """all_gather of rows whose backward needs no communication.

    A process without samples of a modality has nothing to differentiate and would never join a collective backward.
    Every process computes the same loss from the gathered rows, so the summed gradient is its own times their number.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.start, ctx.length = sum(sizes[: process_index()]), len(x)
        padded = torch.cat([x, x.new_zeros(max(sizes) - len(x), *x.shape[1:])])
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient[ctx.start : ctx.start + ctx.length] * num_processes(), None
