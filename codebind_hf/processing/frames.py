"""Where do the frames of a video come from? Folders and films of which single frames are read when asked for."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .foreign_files import FILE_LIMITS, TRUNCATED, check_frame, check_limit, optional, reading


# Containers that hold their data themselves: a play list names other files and addresses.
_CONTAINERS = "mov,matroska,webm,avi,aac"
_HIGHEST_FPS = 240.0


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


class _Shown(NamedTuple):
    """At which tick a frame appears, how many it stays (`None`: it is not shown), and the seconds of one."""

    tick: int | None
    stays: int | None
    seconds: Fraction


class FilmFrames(Frames):
    """A film that the library `av` decodes, once through for frames that are asked for in their order.

    Args:
        upright: turn and mirror frames as the display matrix says, which phones write.
        time_stamps: of a film whose rate varies, give what is seen at a constant one, the highest that it has; or else
            every frame once, as if they came at the mean rate.

    Raises:
        OSError: it cannot be decoded, has no frame, is beyond a limit or, without `allow_truncated`, cut short.
    """

    def __init__(
        self, file: Path, allow_truncated: bool = False, upright: bool = True, time_stamps: bool = True
    ) -> None:
        self.file, self._av, self._upright = file, optional("av", "video", f"{file.suffix} files"), upright
        if not allow_truncated and _matroska_end(file) > file.stat().st_size:
            raise OSError(TRUNCATED)
        with opened_film(self._av, file) as container:
            if not container.streams.video:
                raise OSError("cannot be decoded: holds no video track")
            stream = container.streams.video[0]
            check_frame(stream.width, stream.height)
            check_limit("seconds", (container.duration or 0) / self._av.time_base, "seconds")
            self.fps = float(stream.average_rate) if stream.average_rate else None
            check_limit("frames", stream.frames, "frames")
            declared = 0 if allow_truncated else stream.frames
        # Where a header counts frames, packets are one each; others may hold nothing that is shown.
        found = self._found(decodes=not declared, allow_truncated=allow_truncated)
        if len(found) < declared:
            raise OSError(TRUNCATED)
        check_limit("frames", len(found), "frames")
        shown = [each for each in found if each.stays is not None]
        if not shown:
            raise OSError("holds no video frame")
        self._order = np.arange(len(shown))
        *times, end = _presentation_times(shown) if time_stamps else [0.0]
        if len(times) > 1 and not _is_constant(times, self.fps):
            self.fps = (len(times) - 1) / times[-1] if times[-1] else None
            if not _is_constant(times, self.fps):
                self.fps = _highest_rate(times)
                instants = np.arange(max(1, round(end * self.fps))) / self.fps
                self._order = np.searchsorted(times, instants + 1e-6, side="right") - 1
        self._decoded: Iterator[np.ndarray] = iter(())
        self._position, self._last = len(shown), np.empty(0)

    def _found(self, decodes: bool, allow_truncated: bool) -> list[_Shown]:
        """When frames are shown."""
        found = []
        with opened_film(self._av, self.file) as container:
            packets = (each for each in container.demux(video=0) if each.size or each.pts is not None)
            try:
                for each in islice(container.decode(video=0) if decodes else packets, FILE_LIMITS.frames + 1):
                    is_shown = decodes or each.size and not each.is_discard
                    found.append(_Shown(each.pts, (each.duration or 0) if is_shown else None, each.time_base))
            except self._av.error.FFmpegError:
                if not allow_truncated:
                    raise
        return found

    def _frames(self) -> Iterator[np.ndarray]:
        with opened_film(self._av, self.file) as container:
            for frame in container.decode(video=0):
                check_frame(frame.width, frame.height)
                matrix = frame.side_data.get("DISPLAYMATRIX") if self._upright else None
                picture = frame.to_ndarray(format="rgb24")
                yield picture if matrix is None else turned(picture, np.frombuffer(bytes(matrix), np.int32))

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> np.ndarray:
        if index >= len(self):
            raise OSError(f"video file {str(self.file)!r}: ends after {len(self)} frames, before frame {index}")
        index = int(self._order[index])
        if index < self._position - 1 or not self._last.size:
            self._decoded, self._position = self._frames(), 0
        with reading("video", self.file):
            while self._position <= index and (frame := next(self._decoded, None)) is not None:
                self._position, self._last = self._position + 1, frame
            if self._position > index:
                return self._last
            raise OSError(f"ends after {self._position} frames, before frame {index}")


def turned(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`(height, width, 3)` turned by a quarter, a half or three quarters, or mirrored.

    Args:
        matrix: nine numbers: a place `(x, y)` is seen at `(a x + c y, b x + d y)`, of `[[a, b, _], [c, d, _], ...]`.

    Raises:
        OSError: another angle.
    """
    a, b, _, c, d = (int(number) for number in matrix[:5])
    straight, across = abs(a) + abs(d), abs(b) + abs(c)
    if min(straight, across) > max(straight, across) / 32:
        fix = "Fix: turn it with a program for films, or read it as stored: upright=False"
        raise OSError(f"is turned by its display matrix, and not by quarters, which is not supported. {fix}")
    if across > straight:
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _presentation_times(shown: list[_Shown]) -> list[float]:
    """Seconds from the first frame at which frames appear, and last the film ends; one number if nothing says it."""
    known = sorted((each.tick, each.stays or 0) for each in shown if each.tick is not None)
    if len(known) < len(shown):
        return [0.0]
    ticks = [tick for tick, _ in known]
    last = known[-1][1] or (ticks[-1] - ticks[-2] if len(ticks) > 1 else 1)
    return [float((tick - ticks[0]) * shown[0].seconds) for tick in (*ticks, ticks[-1] + last)]


def _is_constant(times: list[float], fps: float | None) -> bool:
    """Whether frames come at this rate: none is half a frame early or late."""
    return fps is not None and all(abs(time * fps - index) < 0.5 for index, time in enumerate(times))


def _highest_rate(times: list[float]) -> float:
    """Frames a second where they follow most closely; a whole number where ticks of milliseconds hide one."""
    rate = min(_HIGHEST_FPS, 1 / float(np.diff(times).clip(1e-6).min()))
    return float(round(rate)) if abs(rate - round(rate)) < 0.02 * rate else rate


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
