"""LossBalancer: weights that keep every loss term at a chosen ratio to the alignment loss."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from codebind_hf.model.collectives import num_processes, sum_over_processes


# Ratios of the paper's code (Visual-AI/CodeBind@bba682e loss_balance.py); `seg`, `decorr` and `views` are ours.
TARGET_RATIOS = {
    "commit": 0.01,
    "cm": 0.1,
    "cctr": 0.1,
    "cuni": 0.1,
    "orth": 0.1,
    "decorr": 0.1,
    "views": 1.0,
    "uni": 1.0,
    "seg": 0.1,
}
FIXED_TERMS = ("align", "recon")
MAX_WEIGHTS = {"commit": 1e4}


class LossBalancer:
    """Adaptive weights (paper section 3.4): weight = EMA(base) * target ratio / EMA(term).

    Magnitudes are averaged and weights set at update steps only: the first batch, then every `interval` batches,
    where the interval grows from `min_interval` to `max_interval` as sin(progress * pi / 2). Terms in `fixed` keep
    weight 1. Processes average their magnitudes first, so every process holds the same weights.

    Args:
        target_ratios: wanted ratio of each weighted term to the base term, by name.
        base: the term that the others are measured against.
        fixed: terms whose weight stays 1.
        momentum: of the moving averages.
        min_interval, max_interval: batches between updates, at the start and after `max_steps`.
        max_steps: batches over which the interval grows.
        max_weights: upper bounds of weights, by name.
    """

    def __init__(
        self,
        target_ratios: Mapping[str, float] | None = None,
        base: str = "align",
        fixed: tuple[str, ...] = FIXED_TERMS,
        momentum: float = 0.9,
        min_interval: int = 10,
        max_interval: int = 100,
        max_steps: int = 40000,
        max_weights: Mapping[str, float] | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: got {momentum}; it must be in [0, 1).")
        if not 1 <= min_interval <= max_interval or max_steps < 1:
            raise ValueError(
                f"min_interval, max_interval, max_steps: got {min_interval}, {max_interval}, {max_steps}; they need "
                "1 <= min_interval <= max_interval and max_steps of 1 or more."
            )
        self.target_ratios = dict(TARGET_RATIOS if target_ratios is None else target_ratios)
        self.base, self.fixed, self.momentum = base, fixed, momentum
        self.min_interval, self.max_interval, self.max_steps = min_interval, max_interval, max_steps
        self.max_weights = dict(MAX_WEIGHTS if max_weights is None else max_weights)
        names = dict.fromkeys([base, *fixed, *self.target_ratios])
        self.magnitudes = dict.fromkeys(names, 1.0)
        self.weights = dict.fromkeys(names, 1.0)
        self.interval = min_interval
        self.num_batches = 0
        self.last_update = 0

    def _next_interval(self) -> int:
        growth = math.sin(min(self.num_batches / self.max_steps, 1.0) * math.pi / 2)
        return int(self.min_interval + (self.max_interval - self.min_interval) * growth)

    def weighted(
        self, terms: Mapping[str, Tensor], training: bool = True, factors: Mapping[str, float] | None = None
    ) -> Tensor:
        """Weighted sum of the terms of one batch; in training also counts the batch and maybe updates the weights.

        Args:
            factors: of some weights, by name, such as those of terms that are only beginning.

        Raises:
            ValueError: a term that has neither a target ratio nor a fixed weight.
        """
        for name in terms:
            if name not in self.weights:
                known = ", ".join(self.weights)
                raise ValueError(f"terms: no target ratio for {name!r}; known: {known}. Name it in target_ratios.")
        if training:
            self._count(terms)
        factors = factors or {}
        return sum(factors.get(name, 1.0) * self.weights[name] * value for name, value in terms.items())  # type: ignore[return-value]

    def _count(self, terms: Mapping[str, Tensor]) -> None:
        self.num_batches += 1
        is_first = self.num_batches == 1
        if is_first or self.num_batches - self.last_update >= self.interval:
            for name, value in self._magnitudes(terms).items():
                kept = 0.0 if is_first else self.momentum
                self.magnitudes[name] = kept * self.magnitudes[name] + (1 - kept) * value
            self._set_weights(terms)
            self.last_update = self.num_batches
            self.interval = self._next_interval()

    def _magnitudes(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Absolute values of the terms, averaged over the processes."""
        if num_processes() == 1:
            return {name: abs(float(value.detach())) for name, value in terms.items()}
        some = next(iter(terms.values()))
        packed = some.detach().new_zeros(len(self.weights), 2)
        for row, name in enumerate(self.weights):
            if name in terms:
                packed[row, 0], packed[row, 1] = terms[name].detach().abs(), 1
        summed = sum_over_processes(packed).tolist()
        return {name: total / count for name, (total, count) in zip(self.weights, summed, strict=True) if count}

    def _set_weights(self, terms: Mapping[str, Tensor]) -> None:
        for name, ratio in self.target_ratios.items():
            if num_processes() > 1 or name in terms:
                weight = self.magnitudes[self.base] * ratio / (self.magnitudes[name] + 1e-8)
                self.weights[name] = min(weight, self.max_weights.get(name, math.inf))

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as JSON values."""
        return {
            "magnitudes": dict(self.magnitudes),
            "weights": dict(self.weights),
            "num_batches": self.num_batches,
            "last_update": self.last_update,
            "interval": self.interval,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            ValueError: the state is of a balancer with other terms.
        """
        if set(state["weights"]) != set(self.weights):
            raise ValueError(f"state: it weighs {sorted(state['weights'])}; this balancer {sorted(self.weights)}.")
        self.magnitudes, self.weights = dict(state["magnitudes"]), dict(state["weights"])
        self.num_batches, self.last_update = state["num_batches"], state["last_update"]
        self.interval = state["interval"]
