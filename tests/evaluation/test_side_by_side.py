"""Calls in other processes: their results, their order, their errors, and workers that are killed."""

import os
import signal
from functools import partial

import numpy as np
import pytest
import torch
from common import in_a_fork

from codebind_hf.evaluation.side_by_side import results_of


def squares_of(number: int) -> tuple[int, np.ndarray]:
    return os.getpid(), np.full(3, number, dtype=np.float32) ** 2


def refuse(number: int) -> int:
    if number == 2:
        raise ValueError("number: got 2; allowed: others. Fix: none.")
    return number


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_come_in_the_order_of_the_calls_and_as_they_are(num_workers: int) -> None:
    found = results_of([partial(squares_of, number) for number in range(7)], num_workers)
    for number, (_, squares) in enumerate(found):
        assert isinstance(squares, np.ndarray)
        assert squares.tolist() == [number**2] * 3
    processes = {process for process, _ in found}
    assert (processes == {os.getpid()}) if num_workers == 0 else (len(processes) == 2 and os.getpid() not in processes)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_is_raised_as_the_call_raised_it(num_workers: int) -> None:
    with pytest.raises(ValueError, match=r"^number: got 2; allowed: others\. Fix: none\.$"):
        results_of([partial(refuse, number) for number in range(4)], num_workers)


def test_random_numbers_of_the_caller_go_on_as_if_nothing_had_been_started() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    results_of([partial(refuse, 0)] * 3, num_workers=2)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_worker_is_an_error_with_a_fix() -> None:
    in_a_fork(_killed)


def _killed() -> None:
    with pytest.raises(OSError, match="num_workers: DataLoader worker .* Fix: fewer workers"):
        results_of([be_killed] * 3, num_workers=2)


def test_a_number_of_workers_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="num_workers: got -1"):
        results_of([], num_workers=-1)
