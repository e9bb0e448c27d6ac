"""Whatever is refused of a file names the item and the file, also when the file itself could be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from codebind_hf import CodeBindProcessor
from codebind_hf.processing.values import LIMITS
from codebind_hf.training.tokenization import build_tokenizer


def array(*shape: int, dtype: Any = np.float32) -> Callable[[Path], None]:
    return lambda file: np.save(file, np.ones(shape, dtype))


def deep_picture(file: Path) -> None:
    Image.fromarray(np.full((40, 40), 1500, np.uint16)).save(file)


def far_map(file: Path) -> None:
    np.save(file, np.full((40, 40), 1500.0, np.float32))


def broken_sound(file: Path) -> None:
    soundfile.write(file, np.full(32_000, np.nan, np.float32), 16_000, subtype="FLOAT")


def picture(file: Path) -> None:
    Image.new("RGB", (60, 40)).save(file)


# Argument of the processor, modality, file, what it holds, and what is wrong with that.
REFUSED = {
    "16 bits without a unit": ("depth", "depth", "map.png", deep_picture, "got integers (uint16) without a unit"),
    "far": ("depth", "depth", "map.npy", far_map, "got float values around 1500, read as metres"),
    "levels": ("thermal", "thermal", "heat.png", deep_picture, "got ndarray of shape (1, 40, 40) and dtype uint16"),
    "large": ("images", "image", "a.png", picture, "pixels after resizing 40x60"),
    "large gel": ("tactile", "tactile", "a.png", picture, "pixels after resizing 40x60"),
    "no frames": ("videos", "video", "a.npy", array(3, 4), "got ndarray of shape (3, 4)"),
    "NaN": ("audio", "audio", "a.wav", broken_sound, "got NaN or infinite samples"),
    "columns": ("point_clouds", "point_cloud", "a.npy", array(5, 4), "got shape (5, 4)"),
    "axes": ("eeg", "eeg", "a.npy", array(2, 3, 4), "got shape (2, 3, 4)"),
    "channels": ("imu", "imu", "a.npy", array(7, 20), "got 7 channels"),
    "an added modality": ("radar", "radar", "a.npy", array(3, 9), "got shape (3, 9)"),
}
each_refusal = pytest.mark.parametrize(
    ("argument", "modality", "name", "write", "reason"), REFUSED.values(), ids=REFUSED
)


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    made = CodeBindProcessor(tokenizer=build_tokenizer(["a bell"], 600))
    made.add_modality("radar", num_channels=2, input_size=[7])
    return made


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS, "resized_pixels", 1100)


@each_refusal
def test_the_processor_names_item_and_file(
    processor: CodeBindProcessor,
    tmp_path: Path,
    argument: str,
    modality: str,
    name: str,
    write: Callable[[Path], None],
    reason: str,
) -> None:
    file = tmp_path / name
    write(file)
    with pytest.raises(ValueError, match="allowed|up to") as caught:
        processor(**{argument: [str(file)]}, return_tensors="pt")
    expected = f"{argument}[0]: {modality} file {str(file)!r}"
    assert str(caught.value).startswith(expected)
    assert reason in str(caught.value)
    # The same value in memory is refused in the same words, without a file.
    assert str(caught.value).count(str(file)) == 1


@each_refusal
def test_encode_names_its_own_position_and_the_file(
    processor: CodeBindProcessor,
    tmp_path: Path,
    argument: str,
    modality: str,
    name: str,
    write: Callable[[Path], None],
    reason: str,
) -> None:
    file = tmp_path / name
    write(file)
    with pytest.raises(ValueError, match="allowed|up to") as caught:
        list(processor.stream(["a bell", {modality: file}]))
    assert str(caught.value).startswith(f"items[1]: {modality} file {str(file)!r}")
    assert reason in str(caught.value)


@pytest.mark.parametrize("clips", ["sliding", 2])
def test_clips_of_a_file_name_it(processor: CodeBindProcessor, tmp_path: Path, clips: Any) -> None:
    broken_sound(tmp_path / "a.wav")
    np.save(tmp_path / "b.npy", np.ones((3, 4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"items\[0\]: audio file '.*a\.wav': got NaN"):
        list(processor.stream([tmp_path / "a.wav"], clips=clips))
    with pytest.raises(ValueError, match=r"items\[0\]: video file '.*b\.npy': got ndarray"):
        list(processor.stream([{"video": tmp_path / "b.npy"}], clips=clips))


def test_a_file_with_its_rate_is_named(processor: CodeBindProcessor, tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.ones((2, 3, 4), np.float32))
    with pytest.raises(ValueError, match=r"eeg\[0\]: eeg file '.*a\.npy': got shape"):
        processor(eeg=[{"array": str(file), "sampling_rate": 256}])
    with pytest.raises(ValueError, match=r"videos\[0\]: video file '.*a\.npy': got"):
        processor(videos=[{"array": str(file), "fps": 25}])


def test_values_in_memory_name_no_file(processor: CodeBindProcessor) -> None:
    with pytest.raises(ValueError, match=r"^depth\[0\]: got integers \(uint16\) without a unit"):
        processor(depth=[np.full((40, 40), 1500, np.uint16)])


def test_one_bad_file_of_several_is_the_one_that_is_named(processor: CodeBindProcessor, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.full((40, 40), 2.0, np.float32))
    deep_picture(tmp_path / "bad.png")
    with pytest.raises(ValueError, match=r"^depth\[1\]: depth file '.*bad\.png': got integers"):
        processor(depth=[tmp_path / "good.npy", tmp_path / "bad.png"])
