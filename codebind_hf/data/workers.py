"""Processes that read rows beside the one that asked for them."""

import os
from collections.abc import Callable


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
