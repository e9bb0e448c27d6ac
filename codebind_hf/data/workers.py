"""Processes that read rows, or fit probes, beside the one that asked for them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def in_own_group(worker: int, begin: Callable[[int], None] | None = None) -> None:
    """As `worker_init_fn` of a `DataLoader`: leave Ctrl-C and SIGTERM to the process that loads.

    A terminal or scheduler sends them to all processes of a group. The one that loads may have to save first, and
    takes a worker that ends for one that was killed; without it, workers end by themselves.

    Args:
        worker: its number.
        begin: what else it begins with.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    if begin is not None:
        begin(worker)


@contextmanager
def named_workers(name: str, fix: str = "fewer workers, and --resume") -> Iterator[None]:
    """Work with loaders whose number of workers is `name`.

    Raises:
        OSError: a worker was killed, as for want of memory.
    """
    try:
        yield
    except RuntimeError as error:
        # The loader's only sign of it.
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(f"{name}: {error} Fix: {fix}.") from error
