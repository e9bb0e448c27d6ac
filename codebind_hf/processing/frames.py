"""Where do the frames of a video come from? Folders and films of which single frames are read when asked for."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


class Frames:
    """A sequence of uint8 frames `(height, width, 3)`, at `fps` frames a second if that is known."""

    fps: float | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> np.ndarray:
        raise NotImplementedError


class FolderFrames(Frames):
    """Pictures of one size, in the order given.

    Args:
        files: of the frames.
        read: gives the picture in a file.
    """

    def __init__(self, files: list[Path], read: Callable[[Path], Any]) -> None:
        self.files, self._read = files, read
        self._size: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        frame = np.asarray(self._read(self.files[index]))
        self._size = self._size or frame.shape
        if frame.shape != self._size:
            sizes = f"{frame.shape[1]}x{frame.shape[0]} after {self._size[1]}x{self._size[0]}"
            name = str(self.files[index])
            raise OSError(f"video file {name!r}: frame of size {sizes}; all frames of a video have one size.")
        return frame


class FilmFrames(Frames):
    """A film that the library `av` decodes, once through for frames that are asked for in their order.

    Raises:
        ImportError: it is not installed.
        OSError: the file cannot be decoded, or has no frame.
    """

    def __init__(self, file: Path) -> None:
        self.file, self._av = file, importlib.import_module("av")
        with self._opened() as container:
            stream = container.streams.video[0]
            self.fps = float(stream.average_rate) if stream.average_rate else None
            self._count = stream.frames or sum(1 for _ in container.decode(video=0))
        if not self._count:
            raise OSError("holds no video frame")
        self._decoded: Iterator[np.ndarray] = iter(())
        self._position = self._count

    def _opened(self) -> Any:
        try:
            return self._av.open(str(self.file))
        except (self._av.error.FFmpegError, IndexError) as error:
            raise OSError(f"cannot be decoded ({error})") from error

    def _frames(self) -> Iterator[np.ndarray]:
        with self._opened() as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        if index < self._position:
            self._decoded, self._position = self._frames(), 0
        for frame in self._decoded:
            self._position += 1
            if self._position > index:
                return frame
        raise OSError(f"video file {str(self.file)!r}: ends after {self._position} frames, before frame {index}.")
