"""Which frames of a video does the model see? Uniform clips of uniform frames, each handled like a picture."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from PIL import Image

from .arrays import as_array, plain_tensor
from .frames import Frames
from .image_processing_codebind import GridImageProcessor, check_resized
from .image_resizing import resized_shape
from .modality_processing import Windows, sliding_starts
from .pictures import picture_or_grid
from .sources import is_source
from .values import HIGHEST_RATE, LIMITS, check_choice, check_number, describe, fits, refuse, shown


# Of a sliding window where the processor has no length of clips.
_WINDOW_SECONDS = 2.0


class CodeBindVideoImageProcessor(GridImageProcessor):
    """Videos: uint8 `(frames, height, width, 3)`, a list of pictures, or `{"array", "fps"}` -> `pixel_values_videos`.

    Args:
        num_clips: clips spread uniformly over the video.
        frames_per_clip: frames spread uniformly over a clip, its first and last among them.
        clip_seconds: length of a clip, which needs the frame rate; `None` cuts the video into `num_clips` equal parts.
        num_crops: 1 (the centre of every frame), or 3 along its longer side: left, centre and right, or top, centre
            and bottom. Every clip then counts three times, its crops one after another. With 3 the geometry is
            pytorchvideo's, whose centre and longer side may differ from torchvision's by a pixel.
        time_stamps: of films whose rate varies, see what is shown when; without it frames count as if they came at
            the mean rate, as in ImageBind's reader.
    """

    model_input_names = ["pixel_values_videos"]
    modality = "video"
    argument = "videos"
    item_ndim = 4
    later = ("upright", "time_stamps")
    num_clips: int = 1
    frames_per_clip: int = 2
    clip_seconds: float | None = None
    num_crops: int = 1
    time_stamps: bool = True

    def check_parameters(self) -> None:
        """As for pictures; also the counts, and that there is something to crop."""
        super().check_parameters()
        check_number("num_clips", self.num_clips, 1, whole=True, most=LIMITS.clips)
        check_number("frames_per_clip", self.frames_per_clip, 1, whole=True)
        if self.clip_seconds is not None:
            check_number("clip_seconds", self.clip_seconds, 1e-3)
        check_choice("num_crops", self.num_crops, (1, 3))
        if self.num_crops == 3 and self.resize_mode == "stretch":
            fix = "set resize_mode='shortest_edge', which leaves something to crop."
            refuse("num_crops", "got 3 with resize_mode='stretch'", "1 for stretched frames", fix)

    def sizes(self) -> dict[str, float]:
        """Numbers in one video, and its clips."""
        clips = self.num_clips * self.num_crops
        return {"values in an item": clips * self.frames_per_clip * self.num_channels * math.prod(self.size)}

    def items(self, values: Any) -> tuple[list[Any], list[str]]:
        """As for every modality, but a list of pictures is one video."""
        if isinstance(values, (list, tuple)) and values and all(_is_frame(value) for value in values):
            return [list(values)], [self.argument]
        return super().items(values)

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One video as `(clips * crops, frames, channels, height, width)`, the crops of a clip in a row."""
        frames, fps = frames_and_rate(value, label)
        return self._clips(frames, self.frame_picks(len(frames), fps, label), label)

    def _clips(self, frames: Any, picks: list[list[int]], label: str) -> np.ndarray:
        """The clips with these frames, `(clips * crops, frames, channels, height, width)`."""
        fitted = {
            index: self._crops(
                picture_or_grid(frames[index], f"{label} frame {index}", self.num_channels, self.upright),
                f"{label} frame {index}",
            )
            for index in sorted({index for clip in picks for index in clip})
        }
        return np.concatenate([np.stack([fitted[index] for index in clip], axis=1) for clip in picks])

    @property
    def reading_options(self) -> dict[str, Any]:
        """How films lie, and when their frames are seen."""
        return {"upright": self.upright, "time_stamps": self.time_stamps}

    def load(self, value: Any, label: str) -> Any:
        """As for every modality; also the file of frames with a rate, which then is that of all of them."""
        if not isinstance(value, dict) or not is_source(value.get("array")):
            return super().load(value, label)
        part = self if value.get("fps") is None else self.with_parameters(time_stamps=False)
        return {**value, "array": super(CodeBindVideoImageProcessor, part).load(value["array"], label)}

    def windows(self, value: Any, label: str, clips: str | int, hop_seconds: float | None) -> Windows:
        """The clips of one video, however long; it needs its frame rate.

        Args:
            clips: "uniform" (as this processor spreads them), a number of clips, or "sliding": one every
                `hop_seconds` (`None`: one after the other), of `clip_seconds` or else two seconds, the last one ending
                with the video.
        """
        value, label = self.load(value, label), self.file_label(value, label)
        frames, fps = frames_and_rate(value, label)
        if fps is None:
            fix = (
                "pass {'array': frames, 'fps': rate}, or Video(path, fps=rate); of rows, a column `video_fps` says it."
            )
            refuse(label, "got a video without its frame rate", "a video with it, for the times of clips", fix)
        if clips == "sliding":
            seconds = self.clip_seconds or _WINDOW_SECONDS
            window, hop = max(1, round(seconds * fps)), max(1, round((hop_seconds or seconds) * fps))
            bounds = [(s, min(s + window, len(frames))) for s in sliding_starts(len(frames), window, hop, label)]
        else:
            part = self if clips == "uniform" else self.with_parameters(num_clips=clips)
            bounds = part._clip_bounds(len(frames), fps, label)
            seconds = (bounds[0][1] - bounds[0][0]) / fps
        picks = [self._picks(start, stop) for start, stop in bounds]
        starts = [start / fps for start, _ in bounds]
        return Windows(starts, seconds, lambda i: self._clips(frames, [picks[i]], label))

    def _crops(self, value: Image.Image | np.ndarray, label: str) -> np.ndarray:
        """One frame as `(crops, channels, height, width)`."""
        if self.num_crops == 1:
            return self.fit(value, label)[None]
        height, width = (value.height, value.width) if isinstance(value, Image.Image) else value.shape[1:]
        shape = self._scaled_shape(height, width)
        check_resized((height, width), shape, label)
        whole = self.with_parameters(size=list(shape), resize_mode="stretch", resize_edge=None, num_crops=1)
        grid = whole.fit(value, label)
        return np.stack(
            [grid[:, top : top + self.size[0], left : left + self.size[1]] for top, left in self._corners(shape)]
        )

    def _scaled_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width before three crops."""
        if self.size[0] != self.size[1] and self.resize_edge is None:
            return resized_shape((height, width), self.size, self.resize_mode, None)
        edge = self.resize_edge or self.size[0]
        # pytorchvideo's short_side_scale divides first, which matters where the longer side is almost whole.
        return (
            (edge, math.floor(width / height * edge)) if height <= width else (math.floor(height / width * edge), edge)
        )

    def _corners(self, shape: tuple[int, int]) -> list[tuple[int, int]]:
        """Top and left of three crops along the longer side, as in pytorchvideo's uniform_crop."""
        free_y, free_x = shape[0] - self.size[0], shape[1] - self.size[1]
        top, left = math.ceil(free_y / 2), math.ceil(free_x / 2)
        if free_y > free_x:
            return [(0, left), (top, left), (free_y, left)]
        return [(top, 0), (top, left), (top, free_x)]

    def frame_picks(self, num_frames: int, fps: float | None = None, label: str = "videos") -> list[list[int]]:
        """Indices of the frames of every clip."""
        return [self._picks(start, stop) for start, stop in self._clip_bounds(num_frames, fps, label)]

    def _picks(self, start: int, stop: int) -> list[int]:
        # Cut, not rounded, as pytorchvideo's UniformTemporalSubsample does.
        return [int(index) for index in np.linspace(start, stop - 1, self.frames_per_clip)]

    def _clip_bounds(self, num_frames: int, fps: float | None, label: str) -> list[tuple[int, int]]:
        if self.clip_seconds is None:
            edges = [index * num_frames / self.num_clips for index in range(self.num_clips + 1)]
            starts = [min(int(edge), num_frames - 1) for edge in edges[:-1]]
            return [(s, max(s + 1, math.ceil(e))) for s, e in zip(starts, edges[1:], strict=True)]
        if fps is None:
            fix = "pass {'array': frames, 'fps': rate}, or spread the frames: videos_kwargs={'clip_seconds': None}."
            refuse(label, f"got no frame rate, but clip_seconds={self.clip_seconds}", "a video with its rate", fix)
        # Exact fractions of the binary floats, as in pytorchvideo: a rounding error here is another frame.
        length = Fraction(self.clip_seconds)
        free = max(Fraction(num_frames / fps) - length, Fraction(0))
        begins = [free * index / max(self.num_clips - 1, 1) for index in range(self.num_clips)]
        starts = [min(math.ceil(fps * float(begin)), num_frames - 1) for begin in begins]
        stops = [min(math.ceil(fps * float(begin + length)), num_frames) for begin in begins]
        return [(start, max(start + 1, stop)) for start, stop in zip(starts, stops, strict=True)]


def _is_frame(value: Any) -> bool:
    return isinstance(value, Image.Image) or (isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim in (2, 3))


def frames_and_rate(value: Any, label: str) -> tuple[Any, float | None]:
    """A sequence of frames, and how many of them make a second if that is known."""
    value, fps = _split_fps(value, label)
    if isinstance(value, Frames):
        return value, value.fps if fps is None else fps
    return _frames(value, label), fps


def _split_fps(value: Any, label: str) -> tuple[Any, float | None]:
    if not isinstance(value, dict):
        return value, None
    if "array" not in value or set(value) - {"array", "fps"}:
        keys = shown(sorted(value, key=str))
        refuse(label, f"got a dictionary with keys {keys}", "the keys 'array' and 'fps'")
    fps = value.get("fps")
    if fps is not None and (not fits(fps, float) or not 0 < fps <= HIGHEST_RATE):
        refuse(label, f"got fps={shown(fps)}", "a number of frames per second above 0")
    return value["array"], None if fps is None else float(fps)


def _frames(value: Any, label: str) -> Any:
    """A sequence of frames, each a picture or an array."""
    if isinstance(value, (list, tuple)):
        if not value:
            refuse(label, "got a video without frames", "at least one frame")
        if all(_is_frame(frame) for frame in value):
            return value
    # Frames become arrays one by one: a tensor of them may be much larger than those that are seen.
    array = plain_tensor(value, label) if isinstance(value, torch.Tensor) else as_array(value, label)
    if array.ndim != 4:
        fix = "a single picture belongs to `images=`; add a frame axis with `frames[None]`." if array.ndim == 3 else ""
        refuse(label, f"got {describe(array)}", "(frames, height, width, channels), one frame or more", fix)
    if 0 in array.shape:
        refuse(label, f"got an empty video, {describe(array)}", "at least one frame")
    return array
