"""Sensors at fault, made from standardised readings of a healthy one."""

import numpy as np
import torch
from torch import Tensor


# Deviations by which the readings of a sensor that has drifted are off, each by its own share of them.
DRIFT = 1.0


def drifted(values: Tensor, seed: int) -> Tensor:
    """Readings `(rows, width)` that are all off by the same vector.

    Args:
        seed: of that vector.
    """
    offset = DRIFT * np.random.default_rng(seed).standard_normal(values.shape[1]).astype(np.float32)
    return values + torch.from_numpy(offset)


def derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """An order in which nothing is in its place."""
    order = rng.permutation(count)
    found = np.empty(count, dtype=int)
    found[order] = np.roll(order, 1)
    return found
