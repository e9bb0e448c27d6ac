"""What is done to the tensors that a processor gives? Erasing, spectrogram masks, noise, and moves of point clouds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codebind_hf.data.operations import (
    MAPS,
    PICTURES,
    Operation,
    View,
    between,
    check_range,
    check_share,
    unchanged,
)
from codebind_hf.processing.values import check_choice, check_number


_TRIES = 10


def _processed(value: float | None, part: Any) -> Tensor:
    """A value as it is after normalization, `(channels, 1, 1)`; `None` is the mean."""
    mean = torch.tensor(part.mean).view(-1, 1, 1)
    std = torch.tensor(part.std).view(-1, 1, 1)
    return torch.zeros_like(mean) if value is None else (value - mean) / std


@dataclass(frozen=True)
class RandomErasing(Operation):
    """A rectangle filled with one value, with probability `p`, as torchvision's RandomErasing; in all frames the same.

    Args:
        scale: share of the area.
        ratio: height by width.
        value: in [0, 1], before mean and standard deviation are applied; `None` is the mean.
    """

    p: float = 0.5
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    value: float | None = None
    name = "random_erasing"
    modalities = (*PICTURES, *MAPS)
    on_tensors = True
    shared = ("p", "scale", "ratio")

    def check(self) -> None:
        """A probability, ranges and a value."""
        check_share("p", self.p)
        check_range("scale", self.scale, 0, 1)
        check_range("ratio", self.ratio, 0, 1e3)
        if self.value is not None:
            check_share("value", self.value)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """A rectangle, or nothing."""
        height, width = view.part.size
        if rng.random() >= self.p:
            return unchanged
        for _ in range(_TRIES):
            area = height * width * between(rng, self.scale)
            aspect = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < rows < height and 0 < columns < width:
                # Shares, so that tensors of other sizes lose the same part of the scene.
                top, left = int(rng.random() * (height - rows + 1)), int(rng.random() * (width - columns + 1))
                place = (..., slice(top, top + rows), slice(left, left + columns))
                return partial(_filled, place=place, value=_processed(self.value, view.part))
        return unchanged


def _filled(tensor: Tensor, place: tuple[Any, ...], value: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


# Spectrograms, `(clips, mel bins, frames)`


@dataclass(frozen=True)
class FrequencyMask(Operation):
    """Bands of mel bins covered, in all clips the same (SpecAugment, arXiv 1904.08779, section 2).

    Args:
        size: a band is of 0 to `size` bins, all equally likely.
        count: of bands.
        value: log-mel, before mean and standard deviation are applied; `None` is the mean.
    """

    size: int = 12
    count: int = 1
    value: float | None = None
    name = "frequency_mask"
    modalities = ("audio",)
    on_tensors = True
    _length = "num_mel_bins"

    def check(self) -> None:
        """A width and a count."""
        check_number("size", self.size, 0, whole=True)
        check_number("count", self.count, 1, whole=True, most=100)

    def check_part(self, part: Any) -> None:
        """At most the whole spectrogram."""
        check_number("size", self.size, 0, whole=True, most=getattr(part, self._length))

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """The bands."""
        hidden = np.zeros(getattr(view.part, self._length), dtype=bool)
        for _ in range(self.count):
            width = int(rng.integers(self.size + 1))
            start = int(rng.integers(len(hidden) - width + 1))
            hidden[start : start + width] = True
        return partial(self._covered, hidden=torch.from_numpy(hidden), value=_processed(self.value, view.part))

    def _covered(self, tensor: Tensor, hidden: Tensor, value: Tensor) -> Tensor:
        return torch.where(hidden[:, None], value, tensor)


@dataclass(frozen=True)
class TimeMask(FrequencyMask):
    """The same of frames."""

    size: int = 24
    name = "time_mask"
    _length = "num_frames"

    def _covered(self, tensor: Tensor, hidden: Tensor, value: Tensor) -> Tensor:
        return torch.where(hidden, value, tensor)


@dataclass(frozen=True)
class Noise(Operation):
    """Numbers from [0, 1] added, times one from [0, `strength`], as AST and ViT-Lens do after normalization."""

    strength: float = 0.1
    name = "noise"
    modalities = ("audio",)
    on_tensors = True

    def check(self) -> None:
        """A strength."""
        check_number("strength", self.strength, 0)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """One strength, and noise of the tensor's shape when it is known."""
        factor = rng.uniform(0, self.strength)
        return lambda tensor: tensor + (factor * torch.from_numpy(rng.random(tuple(tensor.shape)))).to(tensor.dtype)


@dataclass(frozen=True)
class TimeRoll(Operation):
    """Frames moved around in a circle by up to `size`."""

    size: int = 10
    name = "time_roll"
    modalities = ("audio",)
    on_tensors = True

    def check(self) -> None:
        """A number of frames."""
        check_number("size", self.size, 0, whole=True)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """How far."""
        steps = int(rng.integers(-self.size, self.size + 1))
        return lambda tensor: torch.roll(tensor, steps, dims=-1)


@dataclass(frozen=True)
class ChannelDropout(Operation):
    """Each channel set to zero, which is what a missing one is, with probability `p`."""

    p: float = 0.1
    name = "channel_dropout"
    modalities = ("eeg", "imu")
    on_tensors = True

    def check(self) -> None:
        """A probability."""
        check_share("p", self.p)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """Which of them."""
        kept = torch.from_numpy(rng.random(view.part.num_channels) >= self.p)
        return lambda tensor: torch.where(kept[:, None], tensor, torch.zeros_like(tensor))


# Point clouds, `(points, 3 or 6)`, of which the colours stay. They are moved when the processor has centred and scaled
# them, which would undo it.


@dataclass(frozen=True)
class _PointOperation(Operation):
    modalities = ("point_cloud",)
    on_tensors = True


def _moved(cloud: Tensor, matrix: Any = 1.0, offset: Any = 0.0) -> Tensor:
    """Points times a matrix or factor, plus an offset."""
    points = cloud[:, :3].numpy().astype(np.float64)
    points = points @ matrix if isinstance(matrix, np.ndarray) else points * matrix
    moved = torch.from_numpy(points + offset).to(cloud.dtype)
    return torch.cat([moved, cloud[:, 3:]], dim=1)


@dataclass(frozen=True)
class PointDropout(_PointOperation):
    """Points replaced by the first one, each with a probability drawn from [0, `most`] for the cloud."""

    most: float = 0.875
    name = "point_dropout"

    def check(self) -> None:
        """A probability."""
        check_share("most", self.most)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """Which of them."""
        dropped = torch.from_numpy(rng.random(view.part.num_points) < rng.uniform(0, self.most))
        return lambda cloud: torch.where(dropped[:, None], cloud[0], cloud)


@dataclass(frozen=True)
class PointScale(_PointOperation):
    """All coordinates times one factor from `factors`."""

    factors: Sequence[float] = (0.8, 1.25)
    name = "point_scale"

    def check(self) -> None:
        """Factors above 0."""
        check_range("factors", self.factors, 0, 1e3)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """The factor."""
        return partial(_moved, matrix=between(rng, self.factors))


@dataclass(frozen=True)
class PointShift(_PointOperation):
    """The cloud moved along each axis by up to `size`, in units of the processed cloud."""

    size: float = 0.1
    name = "point_shift"

    def check(self) -> None:
        """A distance."""
        check_number("size", self.size, 0)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """Where to."""
        return partial(_moved, offset=rng.uniform(-self.size, self.size, 3))


@dataclass(frozen=True)
class PointJitter(_PointOperation):
    """Every point moved by Gaussian noise of deviation `std`, cut at `most`."""

    std: float = 0.01
    most: float = 0.05
    name = "point_jitter"

    def check(self) -> None:
        """Distances."""
        check_number("std", self.std, 0)
        check_number("most", self.most, 0)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """The noise."""
        noise = rng.normal(0, self.std, (view.part.num_points, 3)).clip(-self.most, self.most)
        return partial(_moved, offset=noise)


@dataclass(frozen=True)
class PointTilt(_PointOperation):
    """Turned about x, y and z by small Gaussian angles, in radians, of deviation `std`, cut at `most`."""

    std: float = 0.06
    most: float = 0.18
    name = "point_tilt"

    def check(self) -> None:
        """Angles."""
        check_number("std", self.std, 0)
        check_number("most", self.most, 0, most=math.pi)

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """The angles."""
        about_x, about_y, about_z = rng.normal(0, self.std, 3).clip(-self.most, self.most)
        matrix = turn_about("z", about_z) @ turn_about("y", about_y) @ turn_about("x", about_x)
        return partial(_moved, matrix=matrix)


@dataclass(frozen=True)
class PointRotation(_PointOperation):
    """Turned by any angle about the axis of the processed cloud that points up: "y", with `swap_yz` "z"."""

    axis: str = "y"
    name = "point_rotation"

    def check(self) -> None:
        """An axis."""
        check_choice("axis", self.axis, ("x", "y", "z"))

    def draw(self, rng: np.random.Generator, view: View) -> Callable[[Any], Any]:
        """The angle."""
        return partial(_moved, matrix=turn_about(self.axis, rng.uniform(0, 2 * math.pi)))


def turn_about(axis: str, angle: float) -> np.ndarray:
    """Rotation by `angle` radians about an axis, `(3, 3)`."""
    place = "xyz".index(axis)
    first, second = (place + 1) % 3, (place + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[second, first] = math.sin(angle)
    matrix[first, second] = -math.sin(angle)
    return matrix
