"""What pages of the senses call refused is refused, and what they call read is read."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from codebind_hf import CodeBindConfig, CodeBindProcessor
from codebind_hf.inference import Audio, Depth, Eeg, Image, Imu, PointCloud, Tactile, Thermal, Video


DRAW = np.random.default_rng(0)
BYTES = DRAW.integers(0, 255, (40, 48, 3), dtype=np.uint8)
FRAMES = DRAW.integers(0, 255, (6, 40, 48, 3), dtype=np.uint8)
GRID = DRAW.integers(300, 60000, (40, 48), dtype=np.uint16)
SOUND = 0.1 * DRAW.normal(size=16000).astype(np.float32)
POINTS = DRAW.normal(size=(900, 3)).astype(np.float32)

REFUSED: dict[str, Callable[[], Any]] = {
    "image: floats up to 255": lambda: Image(BYTES.astype(np.float32)),
    "image: 16 bits": lambda: Image(GRID),
    "image: normalized already": lambda: Image(BYTES / 128.0 - 1),
    "image: an array alone": lambda: BYTES,
    "audio: without a rate": lambda: Audio(SOUND),
    "audio: int64": lambda: Audio((SOUND * 32768).astype(np.int64), 16000),
    "audio: floats of the size of int16": lambda: Audio(SOUND * 32768, 16000),
    "audio: samples by channels": lambda: Audio(np.stack([SOUND, SOUND], axis=1), 16000),
    "depth: integers without a unit": lambda: Depth(GRID),
    "depth: a coloured picture": lambda: Depth(BYTES),
    "thermal: 16 bits without unit and range": lambda: Thermal(GRID),
    "thermal: a unit without a range": lambda: Thermal(GRID, unit="centikelvin"),
    "tactile: differences with signs": lambda: Tactile(BYTES / 128.0 - 1),
    "point cloud: axes first": lambda: PointCloud(POINTS.T),
    "eeg: time by electrodes": lambda: Eeg(DRAW.normal(size=(512, 4))),
    "imu: time by channels": lambda: Imu(DRAW.normal(size=(400, 6))),
}
READ: dict[str, Callable[[], Any]] = {
    "image": lambda: Image(BYTES),
    "colours first": lambda: Image(BYTES.transpose(2, 0, 1)),
    "frames of colours first": lambda: Video(FRAMES.transpose(0, 3, 1, 2), fps=25),
    "false colours": lambda: Thermal(BYTES),
    "floats": lambda: Image(BYTES / 255.0),
    "video": lambda: Video(FRAMES, fps=25),
    "channels by samples": lambda: Audio(np.stack([SOUND, SOUND]), 16000),
    "depth": lambda: Depth(GRID, unit="mm"),
    "thermal": lambda: Thermal(GRID, unit="centikelvin", range=(15, 40)),
    "levels": lambda: Thermal(BYTES[..., 0]),
    "differences": lambda: Tactile(BYTES / 512.0 + 0.5),
    "points": lambda: PointCloud(POINTS),
    "eeg": lambda: Eeg(DRAW.normal(size=(4, 512)), 256),
    "imu": lambda: Imu(DRAW.normal(size=(6, 400)), 100),
}


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    config = CodeBindConfig.from_preset("tiny")
    senses = [name for name in config.modality_names if name != "text"]
    return CodeBindProcessor.from_model_config(config.restricted_to(senses), tokenizer=None)


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_of_the_pages_is_refused(name: str, processor: CodeBindProcessor) -> None:
    with pytest.raises((ValueError, OSError)):
        list(processor.stream([REFUSED[name]()]))


@pytest.mark.parametrize("name", READ)
def test_what_stands_beside_it_is_read(name: str, processor: CodeBindProcessor) -> None:
    (batch,) = processor.stream([READ[name]()])
    assert batch.tensors
