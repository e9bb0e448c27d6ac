"""Who does the many small fits of an evaluation? This process, or several beside it; the same numbers either way."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from codebind_hf.data.choices import BAR_DELAY
from codebind_hf.data.workers import in_own_group, named_workers
from codebind_hf.processing.values import LIMITS, check_number


T = TypeVar("T")


def results_of(calls: Sequence[Callable[[], T]], num_workers: int = 0, description: str | None = None) -> list[T]:
    """What every call gives, in the order of `calls`.

    Args:
        calls: that need one thread each and nothing of each other. Workers take them in turn, so that they are done
            soonest where those beside each other take about as long.
        num_workers: processes that do them; 0: this one.
        description: of a progress bar, for what takes longer than two seconds; `None` for no bar.

    Raises:
        ValueError: `num_workers` is no whole number from 0.
        OSError: a worker was killed, as for want of memory.
        Exception: whatever a call raises, of the first that does.
    """
    check_number("num_workers", num_workers, 0, whole=True, most=LIMITS.workers)
    bar = partial(tqdm, desc=description, total=len(calls), disable=description is None, delay=BAR_DELAY)
    if not num_workers or len(calls) < 2:
        return [call() for call in bar(calls)]
    # A generator of its own: the loader would draw its seed from the one that others draw from.
    loader: DataLoader = DataLoader(
        _Calls(calls),
        batch_size=None,
        num_workers=min(num_workers, len(calls)),
        # All at once: a worker never waits for the results of another to be taken.
        prefetch_factor=len(calls),
        worker_init_fn=in_own_group,
        generator=torch.Generator(),
    )
    results: list[T] = []
    with named_workers("num_workers", fix="fewer workers"):
        for outcome in bar(loader):
            if outcome.error is not None:
                raise outcome.error
            results.append(outcome.value)
    return results


class _Outcome:
    """What a call gave, in a class of its own: the loader would make tensors of numbers and arrays."""

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self.value, self.error = value, error


class _Calls(Dataset, Generic[T]):
    """Outcomes by number, made where they are asked for."""

    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self.calls = calls

    def __len__(self) -> int:
        return len(self.calls)

    def __getitem__(self, index: int) -> _Outcome:
        try:
            return _Outcome(self.calls[index]())
        except Exception as error:
            # To be raised as it is: the loader would bury its message in a report of where it was.
            return _Outcome(error=error)
