"""Sizes are compared with limits before there is anything of such a size, and the limits can be set."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing.outcomes import guarded
from PIL import Image

from codebind_hf import CodeBindProcessor
from codebind_hf.inference import Depth
from codebind_hf.processing.array_processing_codebind import CodeBindArrayFeatureExtractor
from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.image_processing_codebind import CodeBindImageProcessor
from codebind_hf.processing.point_processing_codebind import CodeBindPointFeatureExtractor
from codebind_hf.processing.signal_processing_codebind import CodeBindEegFeatureExtractor
from codebind_hf.processing.values import LIMITS
from codebind_hf.processing.video_processing_codebind import CodeBindVideoImageProcessor
from codebind_hf.training.tokenization import build_tokenizer


SOUND = {"array": np.zeros(32000, np.float32), "sampling_rate": 16000}
FILM = {"array": np.zeros((4, 8, 8, 3), np.uint8), "fps": 2.0}
HUGE = 10**9


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    return CodeBindProcessor(tokenizer=build_tokenizer(["a bell"], 600))


TOO_LARGE: dict[str, tuple[Callable[[CodeBindProcessor], Any], str]] = {
    "clips of a film": (lambda p: CodeBindVideoImageProcessor(num_clips=HUGE), r"num_clips: got 1000000000.*\[1, 6"),
    "clips of a sound": (lambda p: p(audio=SOUND, audio_kwargs={"num_clips": HUGE}), "num_clips: got 1000000000"),
    "frames": (lambda p: CodeBindVideoImageProcessor(frames_per_clip=HUGE), "ImageProcessor: got .*values in an item"),
    "size": (lambda p: CodeBindImageProcessor(size=[10**6, 10**6]), r"CodeBindImageProcessor: got 3e\+12 values"),
    "frames of sound": (lambda p: CodeBindAudioFeatureExtractor(num_frames=HUGE), "got 6.4e.10 values in an item"),
    "seconds": (lambda p: CodeBindAudioFeatureExtractor(clip_seconds=1e9), "got 1.6e.13 samples in a clip"),
    "transform": (lambda p: CodeBindAudioFeatureExtractor(fft_length=2**40), "samples in the windows of a clip"),
    "rate": (lambda p: CodeBindAudioFeatureExtractor(sampling_rate=10**12), "sampling_rate: got .*1000000]"),
    "samples": (lambda p: CodeBindEegFeatureExtractor(num_samples=10**12), "EegFeatureExtractor: got 1.6e.13 values"),
    "resampled": (
        lambda p: CodeBindEegFeatureExtractor(sampling_rate=10**6)(
            {"array": np.zeros((2, 10**4), np.float32), "sampling_rate": 1}
        ),
        "eeg: got 2e.10 resampled values",
    ),
    "points": (lambda p: CodeBindPointFeatureExtractor(num_points=HUGE, max_candidates=HUGE), "got 3e.09 values"),
    "array": (
        lambda p: CodeBindArrayFeatureExtractor(name="radar", input_size=[10**6, 10**6]),
        r"CodeBindArrayFeatureExtractor: got 1e\+12 values",
    ),
    "tokens": (lambda p: p(text="a", padding="max_length", max_length=HUGE), "max_length: got 1000000000"),
    "many clips": (lambda p: list(p.stream([SOUND], clips=HUGE)), "clips: got 1000000000; allowed: .*up to 65536"),
    "threads": (lambda p: list(p.stream(["a"], num_workers=HUGE)), "num_workers: got 1000000000"),
    "tiny hops": (
        lambda p: list(p.stream([{**SOUND, "array": np.zeros(10**6, np.float32)}], clips="sliding", hop_seconds=1e-9)),
        r"items\[0\]: got 9.84e\+05 sliding clips.*larger hop_seconds",
    ),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_would_fill_the_memory_is_refused_at_once(processor: CodeBindProcessor, name: str) -> None:
    call, message = TOO_LARGE[name]
    with guarded(seconds=20, megabytes=1024), pytest.raises(ValueError, match=message):
        call(processor)


def narrow(height: int, width: int) -> dict[str, tuple[type, Any]]:
    """One picture for every way to the resizing."""
    return {
        "picture": (CodeBindImageProcessor, Image.new("RGB", (width, height))),
        "levels": (CodeBindImageProcessor, np.zeros((height, width, 3), np.uint8)),
        "floats": (CodeBindImageProcessor, np.zeros((height, width, 3), np.float32)),
        "crops of a film": (CodeBindVideoImageProcessor, np.zeros((2, height, width, 3), np.uint8)),
    }


@pytest.mark.parametrize("way", narrow(1, 1))
@pytest.mark.parametrize("shape", [(1, 30000), (30000, 1)])
def test_a_long_and_narrow_picture_is_not_resized_whole(way: str, shape: tuple[int, int]) -> None:
    cls, value = narrow(*shape)[way]
    options = {"num_crops": 3} if way == "crops of a film" else {}
    with (
        guarded(seconds=20, megabytes=1024),
        pytest.raises(ValueError, match=rf"(images|videos frame 0): got .*resizing {shape[0]}x{shape[1]} .*stretch"),
    ):
        cls(size=[224, 224], **options)(value)


def test_both_ways_out_of_a_narrow_picture_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.linspace(0, 255, 30000).astype(np.uint8).reshape(1, 30000, 1).repeat(3, axis=2)
    cut = row[:, 14999:15000]
    middle = CodeBindImageProcessor(size=[224, 224])(cut)["pixel_values"][0]
    assert middle.shape == (3, 224, 224)
    assert CodeBindImageProcessor(size=[224, 224], resize_mode="stretch")(row)["pixel_values"][0].shape == middle.shape
    # At a size at which the whole fits, the middle of the whole is what its cut middle gives.
    small = {"size": [8, 8]}
    whole = CodeBindImageProcessor(**small)(row)["pixel_values"][0]
    np.testing.assert_allclose(whole, CodeBindImageProcessor(**small)(cut)["pixel_values"][0], atol=0.02)
    monkeypatch.setattr(LIMITS, "resized_pixels", 8 * 8 * 30000 - 1)
    with pytest.raises(ValueError, match="raise `codebind_hf.processing.values.LIMITS.resized_pixels`"):
        CodeBindImageProcessor(**small)(row)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "pixels", 99)
    picture = Image.new("RGB", (10, 10))
    with pytest.raises(ValueError, match="images: got 100 pixels; allowed: up to 99. Fix: shrink it"):
        CodeBindImageProcessor()(picture)
    monkeypatch.setattr(LIMITS, "pixels", 100)
    assert CodeBindImageProcessor()(picture)["pixel_values"][0].shape == (3, 32, 32)


def test_limits_do_not_touch_what_is_usual(processor: CodeBindProcessor) -> None:
    batch = processor(images=np.zeros((40, 3000, 3), np.uint8), videos=FILM, audio=SOUND, text="a bell")
    assert batch["pixel_values"].shape == (1, 3, 32, 32)
    assert len(list(processor.stream([Depth(np.ones((9, 9), np.float32))], num_workers=2))) == 1
    hour = {"array": torch.zeros(16000 * 60), "sampling_rate": 16000}
    assert sum(len(each.starts or ()) for each in processor.stream([hour], clips="sliding", hop_seconds=0.5)) == 119
