"""When is a frame of a film seen? When its file says so, at constant and at varying rates, in clips and windows."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codebind_hf.data.augmentation import Augmentation
from codebind_hf.processing.media import read_media
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.video_processing_codebind import CodeBindVideoImageProcessor


av = pytest.importorskip("av")

# A second in ticks; Matroska rounds to milliseconds.
TICKS = 30_000
# A second at thirty frames, and nine of a frame each.
SLOWED = [*(index / 30 for index in range(30)), *(1.0 + index for index in range(9))]
VARYING = {
    "a fast and a slow part": SLOWED,
    "frames that a phone left out": [index / 30 for index in range(240) if index % 60 < 20],
    "a slide show": [0.0, 2.5, 3.0, 7.75, 8.0],
    "a rate that rises": [float(np.sqrt(index)) for index in range(80)],
}
CONTAINERS = ["a.mp4", "a.mkv", *(pytest.param(name, marks=pytest.mark.slow) for name in ("a.mov", "a.webm"))]


def level(index: int) -> int:
    """What tells a frame from those around it, also after compression."""
    return 16 + (index * 56) % 224


def write(path: Path, times: Sequence[float], codec: str = "", ticks: int = TICKS) -> Path:
    codec = codec or ("libvpx" if path.suffix == ".webm" else "mpeg4")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 32, 32, "yuv420p", 2_000_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, ticks)
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level(index), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * ticks), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def seen_at(times: Sequence[float], instants: Sequence[float]) -> list[int]:
    """Naively: the level of the last frame that appears before or at each instant."""
    return [level(max(index for index, time in enumerate(times) if time <= instant)) for instant in instants]


def levels(frames: Any, places: Sequence[int]) -> list[float]:
    return [float(np.median(frames[place])) for place in places]


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("kind", VARYING)
def test_films_of_varying_rate_show_what_a_player_shows(tmp_path: Path, kind: str, name: str) -> None:
    file = write(tmp_path / name, VARYING[kind])
    # Containers count in ticks of their own, Matroska's in milliseconds.
    with av.open(str(file)) as container:
        ticks = container.streams.video[0].time_base
    times = [float(round(time / ticks) * ticks) for time in VARYING[kind]]
    frames = read_media("video", file)
    assert len(frames) / frames.fps == pytest.approx(times[-1], abs=0.5)
    places = range(0, len(frames), max(1, len(frames) // 40))
    found = levels(frames, places)
    np.testing.assert_allclose(found, seen_at(times, [place / frames.fps + 1e-5 for place in places]), atol=14)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_window_shows_its_own_seconds(tmp_path: Path, name: str) -> None:
    """The film of the report: second 2 is frame 31 and second 3 frame 32, where the first second was seen."""
    file = write(tmp_path / name, SLOWED)
    part = CodeBindVideoImageProcessor(size=[4, 4], frames_per_clip=3, mean=[0.0], std=[1 / 255], num_channels=1)
    windows = part.with_parameters(clip_seconds=2.0).windows(str(file), "videos", "sliding", 1.0)
    assert windows.starts[:4] == pytest.approx([0, 1, 2, 3], abs=0.04)
    assert windows.starts[-1] + windows.seconds == pytest.approx(9.03, abs=0.05)
    found = np.median(windows.values(2), axis=(0, 2, 3, 4))
    np.testing.assert_allclose(found, [level(31), level(31), level(32)], atol=14)


def test_clips_of_a_length_and_equal_parts_go_by_time(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mp4", SLOWED)
    part = CodeBindVideoImageProcessor(size=[4, 4], mean=[0.0], std=[1 / 255], num_channels=1, num_clips=3)
    for options, instants in (
        ({"clip_seconds": 2.0}, [(0.0, 1.97), (3.53, 5.48), (7.05, 9.0)]),
        ({"clip_seconds": None}, [(0.0, 3.0), (3.0, 6.0), (6.0, 9.0)]),
    ):
        clips = part(file, return_tensors="np", **options)["pixel_values_videos"][0]
        found = np.median(clips, axis=(2, 3, 4)).ravel()
        np.testing.assert_allclose(found, seen_at(SLOWED, np.ravel(instants)), atol=14)


def test_without_stamps_frames_count_as_the_reference_counts_them(tmp_path: Path) -> None:
    """decord's rule: frames from ceil(rate * begin) on, of the mean rate in the header."""
    file = write(tmp_path / "a.mp4", SLOWED)
    with av.open(str(file)) as container:
        rate = float(container.streams.video[0].average_rate)
    frames = read_media("video", file, time_stamps=False)
    assert (len(frames), frames.fps) == (len(SLOWED), rate)
    part = CodeBindVideoImageProcessor(size=[4, 4], mean=[0.0], std=[1 / 255], num_channels=1, clip_seconds=2.0)
    clip = part(file, time_stamps=False, return_tensors="np")["pixel_values_videos"][0]
    last = int(np.ceil(rate * 2.0)) - 1
    np.testing.assert_allclose(np.median(clip, axis=(2, 3, 4)).ravel(), [level(0), level(last)], atol=14)
    saved = CodeBindVideoImageProcessor(time_stamps=False).to_dict()
    assert CodeBindVideoImageProcessor.from_dict(saved).time_stamps is False
    assert "time_stamps" not in CodeBindVideoImageProcessor().to_dict()


def test_a_rate_that_is_given_is_that_of_the_frames(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mp4", SLOWED)
    part = CodeBindVideoImageProcessor(size=[4, 4], mean=[0.0], std=[1 / 255], num_channels=1, clip_seconds=1.0)
    given = part({"array": str(file), "fps": 13.0}, return_tensors="np")["pixel_values_videos"][0]
    np.testing.assert_allclose(np.median(given, axis=(2, 3, 4)).ravel(), [level(0), level(12)], atol=14)


@pytest.mark.parametrize(
    "rate", [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(24000, 1001)]
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_constant_rates_keep_every_frame_once(tmp_path: Path, rate: Fraction, name: str) -> None:
    if name == "a.avi":
        times, ticks = [float(index / rate) for index in range(30)], rate
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for index in range(30):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level(index), np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, 1 / ticks
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    else:
        times = [float(index / rate) for index in range(30)]
        write(tmp_path / name, times)
    frames = read_media("video", tmp_path / name)
    assert len(frames) == 30
    # The last frame of these films, of which the writer knows no end, stays for a thirtieth of a second.
    assert frames.fps == pytest.approx(float(rate), rel=0.02)
    np.testing.assert_allclose(levels(frames, range(30)), [level(index) for index in range(30)], atol=14)


def test_training_draws_from_what_is_seen(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mp4", SLOWED)
    part = CodeBindVideoImageProcessor(size=[4, 4], frames_per_clip=2, clip_seconds=4.0)
    processor = CodeBindProcessor(video_image_processor=part, modalities=["video"])
    plain = processor(videos=[str(file)])["pixel_values_videos"][0]
    processor.augmentation = {"video": [{"name": "horizontal_flip", "p": 1.0}]}
    drawn = Augmentation(processor).prepare({"video": str(file)}, (0, 0, 0))["tensors"]["pixel_values_videos"]
    np.testing.assert_allclose(drawn.flip(-1).numpy(), plain.numpy(), atol=0.1)


def test_frames_may_be_asked_for_in_any_order(tmp_path: Path) -> None:
    frames = read_media("video", write(tmp_path / "a.mp4", SLOWED))
    places = [260, 3, 3, 100, 40, 260, 0]
    grid = [place / frames.fps + 1e-3 for place in places]
    np.testing.assert_allclose(levels(frames, places), seen_at(SLOWED, grid), atol=14)
