"""What the processes of a distributed run agree on. With one process every function is the identity."""

import torch
from torch import Tensor, distributed
from torch.distributed.nn import functional as differentiable


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


def gather_with_gradient(x: Tensor) -> Tensor:
    """Rows of all processes stacked in order of rank, differentiable; sizes of the first axis may differ."""
    if num_processes() == 1:
        return x
    sizes = torch.zeros(num_processes(), dtype=torch.long, device=x.device)
    sizes[process_index()] = len(x)
    distributed.all_reduce(sizes)
    padding = x.new_zeros(int(sizes.max()) - len(x), *x.shape[1:])
    parts = differentiable.all_gather(torch.cat([x, padding]))
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])
