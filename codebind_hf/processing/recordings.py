"""Where do the samples of a sound come from? Arrays in memory, or files that are read piece by piece."""

import importlib
import math
import wave
from pathlib import Path
from typing import Any

import numpy as np

from .resampling import resampled_piece


class Recording:
    """A sound of `num_samples` samples on `num_channels` channels at `rate` Hz, of which any piece can be read."""

    rate: int
    num_channels: int
    num_samples: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`, float32 `(channels, samples)`; both lie within the recording."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.rate

    def length_at(self, rate: int) -> int:
        """Samples at another rate."""
        divisor = math.gcd(self.rate, rate)
        return math.ceil(rate // divisor * self.num_samples / (self.rate // divisor))

    def at(self, rate: int, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop` of the recording at another rate, cut at its end; the same as of the whole."""
        return resampled_piece(self.read, self.num_samples, self.rate, rate, start, stop)


class ArrayRecording(Recording):
    """A sound in memory, float32 `(channels, samples)`."""

    def __init__(self, samples: np.ndarray, rate: int) -> None:
        self.samples, self.rate = samples, rate
        self.num_channels, self.num_samples = samples.shape

    def read(self, start: int, stop: int) -> np.ndarray:
        """A view."""
        return self.samples[:, start:stop]


class WaveRecording(Recording):
    """A WAV file of integer PCM.

    Raises:
        wave.Error: another kind of WAV file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with wave.open(str(file), "rb") as stream:
            self.num_channels, self.rate = stream.getnchannels(), stream.getframerate()
            self.num_samples, self.width = stream.getnframes(), stream.getsampwidth()
            if self.width not in (1, 2, 3, 4):
                raise wave.Error(f"{8 * self.width}-bit samples")
            self.num_samples = _samples_there(stream, self.num_channels * self.width)

    def read(self, start: int, stop: int) -> np.ndarray:
        """From the file."""
        with wave.open(str(self.file), "rb") as stream:
            stream.setpos(start)
            data = stream.readframes(stop - start)
        return np.ascontiguousarray(_pcm(data, self.width).reshape(-1, self.num_channels).T)


class SoundFileRecording(Recording):
    """Any other file that the library `soundfile` reads.

    Raises:
        ImportError: it is not installed.
    """

    def __init__(self, file: Path) -> None:
        self.file, self._soundfile = file, importlib.import_module("soundfile")
        with self._soundfile.SoundFile(str(file)) as stream:
            self.num_channels, self.rate, self.num_samples = stream.channels, stream.samplerate, stream.frames

    def read(self, start: int, stop: int) -> np.ndarray:
        """From the file."""
        options: dict[str, Any] = {"start": start, "stop": stop, "dtype": "float32", "always_2d": True}
        samples, _ = self._soundfile.read(str(self.file), **options)
        return np.ascontiguousarray(samples.T)


def _samples_there(stream: wave.Wave_read, frame_size: int) -> int:
    """How many samples a WAV file really has: one that was cut short still names all."""
    low, high = 0, stream.getnframes()
    while low < high:
        middle = (low + high + 1) // 2
        stream.setpos(middle - 1)
        low, high = (middle, high) if len(stream.readframes(1)) == frame_size else (low, middle - 1)
    return low


def _pcm(data: bytes, width: int) -> np.ndarray:
    """Little-endian PCM samples of `width` bytes as float32 in [-1, 1)."""
    if width == 1:
        return (np.frombuffer(data, dtype=np.uint8).astype(np.float32) - 128.0) / 128.0
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
        return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return (np.frombuffer(data, dtype=f"<i{width}") / 2.0 ** (8 * width - 1)).astype(np.float32)
