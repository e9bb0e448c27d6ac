"""What all processes of a run must agree on before any of them acts on it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env


_SECONDS_BETWEEN_LOOKS = 0.5


def joined_processes() -> PartialState:
    """This process among those that were launched with it, which ends when their launcher does.

    Where none has a device, the library takes each for a single one until it is told that they run on the CPU.
    """
    end_with_launcher()
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu)


@contextmanager
def launched_processes() -> Iterator[PartialState]:
    """`joined_processes` for a script, each with its share of the cores; they part where all have come to its end.

    One that exits still joined may abort, and a run that is done then looks like one that failed. After an error
    others may still wait for this one, and nothing is taken apart.
    """
    state = joined_processes()
    if state.device.type == "cpu":
        # `accelerate launch` leaves a process one thread.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // state.num_processes))
    yield state
    state.destroy_process_group()


@cache
def end_with_launcher() -> None:
    """End this process at once when the elastic launcher that started it is gone; asking again changes nothing.

    A launcher that is killed leaves its processes alive, each in a session of its own; they would go on writing beside
    the run that is started next.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = os.getppid()
    was_there = _is_python(launcher)

    def watch() -> None:
        while was_there and os.getppid() == launcher:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    threading.Thread(target=watch, name="end_with_launcher", daemon=True).start()


def _is_python(process: int) -> bool:
    """Whether a process can be a launcher; whoever takes in orphans is none, and may not be looked at."""
    try:
        return "python" in os.path.basename(psutil.Process(process).exe())
    except psutil.Error:
        return False


def largest_of_all(value: int) -> int:
    """The largest `value` that any process has; every process must ask."""
    state = PartialState()
    if state.num_processes == 1:
        return value
    shared = torch.tensor(value, dtype=torch.int64, device=state.device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return int(shared)


def decided_by_main(decide: Callable[[], Any]) -> Any:
    """What `decide` gives on the main process, on all; a `ValueError` or `OSError` is raised on all, too.

    Others would see files half-way through what the main process does with them.
    """
    outcome: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            outcome[0] = decide()
        except (ValueError, OSError) as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def done_by_all(act: Callable[[], None]) -> None:
    """Wait until every process has acted; a `ValueError` or `OSError` of one is raised on all, which else would wait.

    Every process must ask.
    """
    outcome: list[Exception | None] = [None]
    try:
        act()
    except (ValueError, OSError) as error:
        outcome = [error]
    if PartialState().num_processes > 1:
        outcome = gather_object(outcome)
    if failed := [error for error in outcome if error is not None]:
        raise failed[0]
