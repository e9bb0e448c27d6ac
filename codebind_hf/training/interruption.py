"""Checkpoints by time, and one when a run is asked to end."""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from codebind_hf.training.processes import largest_of_all


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Saving takes no more than about this share of the time, however large the model is.
_LARGEST_SHARE = 0.02
_DUE = 1


class RunInterrupted(KeyboardInterrupt):
    """A run was asked to end, and saved first.

    Args:
        signal_number: what asked.
        step, max_steps: where it stopped, and where it would have ended.
    """

    def __init__(self, signal_number: int, step: int, max_steps: int) -> None:
        self.signal_number, self.step, self.max_steps = signal_number, step, max_steps
        super().__init__(f"{signal.Signals(signal_number).name} at step {step} of {max_steps}; saved.")


def command_to_go_on(script: str, output_dir: Path) -> str:
    """The command line that goes on with a run, as it can be typed here."""
    launcher = shutil.which("accelerate")
    own = Path(sys.executable).with_name("accelerate")
    # An environment that is not activated has its launcher beside its Python.
    name = "accelerate" if launcher or not own.is_file() else os.path.relpath(own)
    return f"{name} launch {script} --resume --output_dir {output_dir}"


class TimedCheckpoints(TrainerCallback):
    """Asks for a checkpoint every `minutes` (0: at every step), and for a last one on SIGINT or SIGTERM.

    All processes save at the same step. A second signal ends the process at once. Where saving itself takes long,
    checkpoints are further apart.

    Args:
        at_end: also at the last step, if the last checkpoint is half that time ago; for a stage that others follow.
    """

    def __init__(self, minutes: float, at_end: bool = False) -> None:
        self._seconds, self._at_end = 60 * minutes, at_end
        self._saved_at = self._asked_at = time.monotonic()
        self._longest = 0.0
        self._previous: dict[int, Any] = {}
        self._received = 0
        self.stopped_by: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = time.monotonic()
        # Python lets no other thread handle signals.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}

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
            return self._at_end and elapsed >= self._seconds / 2
        return not self._seconds or elapsed >= max(self._seconds, self._longest / _LARGEST_SHARE)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = time.monotonic()
        self._longest = max(self._longest, self._saved_at - self._asked_at)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.restore()
        if self._received and self.stopped_by is None:
            # It came after the last step was judged.
            signal.raise_signal(self._received)

    def restore(self) -> None:
        """Give the signals back to whom they belonged; an error ends training without `on_train_end`."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
