"""Where do the frames of a video come from? Folders and films of which single frames are read when asked for."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .foreign_files import FILE_LIMITS, TRUNCATED, check_frame, check_limit, optional, reading


# Containers that hold their data themselves: a play list names other files and addresses.
_CONTAINERS = "mov,matroska,webm,avi,aac"


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
        check_limit("frames", len(files), "frames")
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


def opened_film(av: ModuleType, file: Path) -> Any:
    """A container that `av` opened, of a kind that reads no other file."""
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    # Without the prefix, what stands before a colon in a name would be taken for a protocol.
    return av.open(f"file:{file}", options=options)


class FilmFrames(Frames):
    """A film that the library `av` decodes, once through for frames that are asked for in their order.

    Raises:
        OSError: it cannot be decoded, has no frame, is beyond a limit or, without `allow_truncated`, cut short.
    """

    def __init__(self, file: Path, allow_truncated: bool = False) -> None:
        self.file, self._av = file, optional("av", "video", f"{file.suffix} files")
        if not allow_truncated and _matroska_end(file) > file.stat().st_size:
            raise OSError(TRUNCATED)
        with opened_film(self._av, file) as container:
            if not container.streams.video:
                raise OSError("cannot be decoded: holds no video track")
            stream = container.streams.video[0]
            check_frame(stream.width, stream.height)
            check_limit("seconds", (container.duration or 0) / self._av.time_base, "seconds")
            self.fps = float(stream.average_rate) if stream.average_rate else None
            self._count = 0 if allow_truncated else stream.frames
        self._count = self._count or self._counted(allow_truncated)
        check_limit("frames", self._count, "frames")
        if not self._count:
            raise OSError("holds no video frame")
        self._decoded: Iterator[np.ndarray] = iter(())
        self._position = self._count

    def _counted(self, allow_truncated: bool) -> int:
        """Frames that can be decoded."""
        count = 0
        with opened_film(self._av, self.file) as container:
            try:
                for _ in islice(container.decode(video=0), FILE_LIMITS.frames + 1):
                    count += 1
            except self._av.error.FFmpegError:
                if not allow_truncated:
                    raise
        return count

    def _frames(self) -> Iterator[np.ndarray]:
        with opened_film(self._av, self.file) as container:
            for frame in container.decode(video=0):
                check_frame(frame.width, frame.height)
                yield frame.to_ndarray(format="rgb24")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        if index < self._position:
            self._decoded, self._position = self._frames(), 0
        with reading("video", self.file):
            for frame in self._decoded:
                self._position += 1
                if self._position > index:
                    return frame
            raise OSError(f"ends after {self._position} frames, before frame {index}")


def _matroska_end(file: Path) -> int:
    """Where the segment of a Matroska file, whose header does not count frames, ends; 0 if that is unknown."""
    with file.open("rb") as stream:
        head = stream.read(80)
    place = head.find(b"\x18S\x80g") + 4 if head.startswith(b"\x1aE\xdf\xa3") else 0
    if not 4 < place < 72:
        return 0
    # The leading zeros of the first byte tell how many bytes follow; all ones mean that the length is unknown.
    width = 9 - head[place].bit_length()
    largest = (1 << 7 * width) - 1
    length = int.from_bytes(head[place : place + width], "big") & largest
    return 0 if length == largest else place + width + length
