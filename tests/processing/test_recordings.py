"""Sounds that are read piece by piece: the same samples as of the whole, from arrays and files, at any rate."""

import wave
from pathlib import Path

import numpy as np
import pytest

from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.media import open_recording, read_media
from codebind_hf.processing.modality_processing import sliding_starts
from codebind_hf.processing.recordings import ArrayRecording, SoundFileRecording
from codebind_hf.processing.resampling import resample


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=(channels, samples))).astype(np.float32)


def write(file: Path, samples: np.ndarray, rate: int) -> Path:
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(len(samples))
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes((samples.T * 32767).astype("<i2").tobytes())
    return file


@pytest.mark.parametrize(("rate", "target"), [(16000, 16000), (44100, 16000), (8000, 16000), (22050, 16000), (3, 7)])
@pytest.mark.parametrize(("start", "stop"), [(0, 50), (123, 1000), (990, 2000), (40_000, 40_100), (0, 10**9)])
def test_a_piece_at_another_rate_is_a_piece_of_the_whole(rate: int, target: int, start: int, stop: int) -> None:
    samples = noise(60_000, channels=2)
    recording = ArrayRecording(samples, rate)
    whole = resample(samples, rate, target)
    assert recording.length_at(target) == whole.shape[1]
    np.testing.assert_allclose(recording.at(target, start, stop), whole[:, start:stop], atol=1e-7)


def test_files_are_read_in_pieces(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", noise(5000, channels=2), 8000)
    recording = SoundFileRecording(file)
    assert (recording.rate, recording.num_channels, recording.num_samples, recording.seconds) == (8000, 2, 5000, 0.625)
    whole = read_media("audio", file)["array"]
    for start, stop in ((0, 5000), (17, 18), (4990, 5000)):
        np.testing.assert_array_equal(recording.read(start, stop), whole[:, start:stop])


def test_a_file_that_was_cut_short_is_refused_unless_its_samples_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", noise(1000), 8000)
    file.write_bytes(file.read_bytes()[: 44 + 2 * 600])
    with pytest.raises(OSError, match=r"a\.wav': it is cut short.*allow_truncated=True"):
        open_recording(file)
    recording = open_recording(file, allow_truncated=True)
    assert recording.num_samples == 600
    assert recording.read(590, 600).shape == (1, 10)


def test_paths_and_arrays_have_the_same_features(tmp_path: Path) -> None:
    samples = noise(70_000)
    file = write(tmp_path / "a.wav", samples, 44_100)
    extractor = CodeBindAudioFeatureExtractor(num_clips=3, clip_seconds=0.5)
    read = {"array": read_media("audio", file)["array"], "sampling_rate": 44_100}
    first, second = (extractor(x, return_tensors="np")["input_features"] for x in (file, read))
    np.testing.assert_array_equal(first, second)


def test_a_file_with_infinite_samples_is_refused(tmp_path: Path) -> None:
    import soundfile

    samples = noise(16_000)[0]
    samples[9000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"audio: got NaN or infinite samples"):
        CodeBindAudioFeatureExtractor()(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("length", "window", "hop", "starts"),
    [
        (10, 4, 4, [0, 4, 6]),
        (12, 4, 4, [0, 4, 8]),
        (3, 4, 4, [0]),
        (4, 4, 1, [0]),
        (9, 4, 2, [0, 2, 4, 5]),
        (9, 2, 4, [0, 4, 7]),
    ],
)
def test_windows_cover_the_whole_and_end_with_it(length: int, window: int, hop: int, starts: list[int]) -> None:
    assert sliding_starts(length, window, hop) == starts


def test_windows_of_a_sound_are_its_clips() -> None:
    samples = noise(40_000)[0]
    extractor = CodeBindAudioFeatureExtractor(num_clips=2, clip_seconds=1.0)
    sound = {"array": samples, "sampling_rate": 16_000}
    whole = extractor(sound, return_tensors="np")["input_features"][0]
    uniform = extractor.windows(sound, "audio", "uniform", None)
    assert (uniform.starts, uniform.seconds) == ([0.0, 1.5], 1.0)
    np.testing.assert_array_equal(np.concatenate([uniform.values(i) for i in range(2)]), whole)
    three = extractor.windows(sound, "audio", 3, None)
    assert three.starts == [0.0, 0.75, 1.5]
    sliding = extractor.windows(sound, "audio", "sliding", 0.5)
    assert sliding.starts == [0.0, 0.5, 1.0, 1.5]
    part = {"array": samples[8000:24_000], "sampling_rate": 16_000}
    np.testing.assert_array_equal(sliding.values(1)[0], extractor(part, return_tensors="np")["input_features"][0, 0])
