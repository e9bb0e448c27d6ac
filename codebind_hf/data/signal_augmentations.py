"""How are sounds and recordings of electrodes and motion cut, shifted and made louder, before they are processed?"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from codebind_hf.data.operations import Operation, View
from codebind_hf.processing.recordings import Recording
from codebind_hf.processing.values import check_number


class Piece(Recording):
    """Part of a sound, louder or softer, that is read when it is asked for.

    Args:
        start, num_samples: of the part, in samples of `source`.
        factor: on the samples.
    """

    def __init__(self, source: Recording, start: int, num_samples: int, factor: float = 1.0) -> None:
        self.source, self.start, self.factor = source, start, np.float32(factor)
        self.rate, self.num_channels, self.num_samples = source.rate, source.num_channels, num_samples

    def read(self, start: int, stop: int) -> np.ndarray:
        """As for every recording."""
        samples = self.source.read(self.start + start, self.start + stop)
        return samples if self.factor == 1 else samples * self.factor


@dataclass(frozen=True)
class RandomClip(Operation):
    """One clip of the processor's `clip_seconds` from anywhere in the sound, in place of its own clips."""

    name = "random_clip"
    modalities = ("audio",)
    replaced: ClassVar[dict[str, Any]] = {"num_clips": 1}

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """Where it begins, as a share of what is free."""
        return partial(_clip, seconds=view.part.clip_seconds, place=rng.random())


def _clip(recording: Recording, seconds: float, place: float) -> Recording:
    length = min(math.ceil(seconds * recording.rate), recording.num_samples)
    start = int(place * (recording.num_samples - length + 1))
    return Piece(recording, start, length)


@dataclass(frozen=True)
class Gain(Operation):
    """Louder or softer by up to so many decibels."""

    decibels: float = 6.0
    name = "gain"
    modalities = ("audio",)

    def check(self) -> None:
        """At most a factor of ten."""
        check_number("decibels", self.decibels, 0, most=20)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """The factor."""
        factor = 10 ** (rng.uniform(-self.decibels, self.decibels) / 20)
        return lambda recording: Piece(recording, 0, recording.num_samples, factor)


@dataclass(frozen=True)
class TimeShift(Operation):
    """Moved by up to `size` samples of the recording; its first or last value fills what becomes free."""

    size: int = 20
    name = "time_shift"
    modalities = ("eeg", "imu")
    # Names of channels pick from files, and what is handed on is an array of those picked.
    replaced: ClassVar[dict[str, Any]] = {"channels": None, "montage": None}

    def check(self) -> None:
        """A number of samples."""
        check_number("size", self.size, 0, whole=True)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """How far."""
        return partial(shifted, steps=int(rng.integers(-self.size, self.size + 1)))


def shifted(signal: np.ndarray, steps: int) -> np.ndarray:
    """`(channels, time)` moved to later instants by `steps`."""
    return signal[:, np.clip(np.arange(signal.shape[1]) - steps, 0, signal.shape[1] - 1)]
