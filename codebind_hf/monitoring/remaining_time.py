"""How long will a stage take? Said once, as soon as enough steps were measured."""

import logging
from time import perf_counter
from typing import Any

from transformers import TrainerCallback


logger = logging.getLogger(__name__)


class RemainingTime(TrainerCallback):
    """Says how long a stage still takes, by the mean of its first steps; a stage that is over before needs no word.

    Args:
        name: of the stage.
        following: stages that come after it, of which nothing is known yet.
        warmup_steps: first steps that do not count: they load, compile and fill caches.
        least_steps, least_seconds: to measure, both of them.
    """

    def __init__(
        self, name: str, following: int = 0, warmup_steps: int = 5, least_steps: int = 20, least_seconds: float = 5.0
    ) -> None:
        self.name, self.following = name, following
        self.warmup_steps, self.least_steps, self.least_seconds = warmup_steps, least_steps, least_seconds
        self._steps, self._since, self._said = 0, 0.0, False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the steps of this process, also of a run that goes on."""
        if self._said or not state.is_world_process_zero:
            return
        self._steps += 1
        if self._steps == self.warmup_steps:
            self._since = perf_counter()
        measured = self._steps - self.warmup_steps
        if measured < self.least_steps or perf_counter() - self._since < self.least_seconds:
            return
        self._said = True
        seconds = (perf_counter() - self._since) / measured
        left = state.max_steps - state.global_step
        if left > 0:
            others = f"; {self.following} more after it" if self.following else ""
            logger.info(
                "%s: about %s for the %s steps that are left, at %.2f s a step%s.",
                *(self.name, in_words(seconds * left), f"{left:,}", seconds, others),
            )


def in_words(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
