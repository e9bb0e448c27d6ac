"""Checkpoints by time, and one when a run is asked to end."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from codebind_hf.training.processes import largest_of_all


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Saving takes no more than about this share of the time, however large the model is.
_LARGEST_SHARE = 0.02
_DUE = 1


class RunInterrupted(KeyboardInterrupt):
    """A run was asked to end.

    Args:
        signal_number: what asked.
        step, max_steps: where it stopped, after saving that step, and where it would have ended; `None` where it was
            not at a step, or was asked twice and ended at once.
    """

    def __init__(self, signal_number: int, step: int | None = None, max_steps: int | None = None) -> None:
        self.signal_number, self.step, self.max_steps = signal_number, step, max_steps
        where = "ended the run" if step is None else f"at step {step} of {max_steps}"
        kept = "what it had saved is kept" if step is None else "saved"
        super().__init__(f"{signal.Signals(signal_number).name} {where}; {kept}.")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM end what runs meanwhile with `RunInterrupted`; then they do what they did before."""

    def end(number: int, frame: FrameType | None) -> None:
        _give_back(previous)
        raise RunInterrupted(number)

    previous = _taken(end)
    try:
        yield
    finally:
        _give_back(previous)


def _taken(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Have `handler` called on signals that are not ignored; returns what was called before.

    A command in the background of a shell script ignores what is typed, and goes on doing so.
    """
    # Python lets no other thread handle signals.
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    # `None` is a handler that is not Python's, which cannot be given back.
    return {number: signal.signal(number, handler) or signal.SIG_DFL for number in heard}


def _give_back(previous: dict[int, Any]) -> None:
    """Give signals back to whom they belonged."""
    for number, handler in previous.items():
        signal.signal(number, handler)


class TimedCheckpoints(TrainerCallback):
    """Asks for a checkpoint every `minutes` (0: at every step), and for a last one on SIGINT or SIGTERM.

    All processes save at the same step. A second signal does what it did before training began. Where saving itself
    takes long, checkpoints are further apart.

    Args:
        at_end: also at the last step; for a stage that others follow.

    Attributes:
        stopped_by: the signal that ended training, which was saved at its last step.
        came_late: a signal that came after the last step, which may not be saved.
    """

    def __init__(self, minutes: float, at_end: bool = False) -> None:
        self._seconds, self._at_end = 60 * minutes, at_end
        self._saved_at = self._asked_at = time.monotonic()
        self._longest = 0.0
        self._previous: dict[int, Any] = {}
        self._received = 0
        self.stopped_by: int | None = None
        self.came_late: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = time.monotonic()
        self._previous = _taken(self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        signal.signal(number, self._previous[number])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wanted = largest_of_all(self._received or (_DUE if self._is_due(state) else 0))
        if wanted:
            self._asked_at = time.monotonic()
            control.should_save = True
        if wanted > _DUE:
            self.stopped_by = wanted
            control.should_training_stop = True

    def _is_due(self, state: Any) -> bool:
        elapsed = time.monotonic() - self._saved_at
        if state.global_step >= state.max_steps:
            return self._at_end
        return not self._seconds or elapsed >= max(self._seconds, self._longest / _LARGEST_SHARE)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = time.monotonic()
        self._longest = max(self._longest, self._saved_at - self._asked_at)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stopped_by is None:
            self.came_late = largest_of_all(self._received) or None
        self.restore()

    def restore(self) -> None:
        """Give the signals back to whom they belonged; an error ends training without `on_train_end`."""
        _give_back(self._previous)
        self._previous = {}
