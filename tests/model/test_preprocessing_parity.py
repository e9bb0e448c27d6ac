"""The numbers of ImageBind, CodeBind and ViT-Lens, reached by parameters alone; needs `../shared/goldens`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from codebind_hf.model.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.model.image_processing_codebind import (
    CodeBindDepthImageProcessor,
    CodeBindImageProcessor,
    CodeBindTactileImageProcessor,
    CodeBindThermalImageProcessor,
)
from codebind_hf.model.media import read_media
from codebind_hf.model.point_processing_codebind import CodeBindPointFeatureExtractor
from codebind_hf.model.resampling import resample
from codebind_hf.model.signal_processing_codebind import CodeBindEegFeatureExtractor
from codebind_hf.model.video_processing_codebind import CodeBindVideoImageProcessor


GOLDENS = Path(__file__).parents[3] / "shared" / "goldens" / "preprocessing"
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not GOLDENS.exists(), reason="reference values in ../shared are absent"),
]
CLIP = {"size": [224, 224]}
KALDI = {"num_clips": 3, "num_mel_bins": 128, "hop_length": 160, "fft_length": 512, "channels": "first"}
IMAGEBIND_AUDIO = {
    **KALDI,
    "clip_seconds": 2.0,
    "num_frames": 204,
    "short_audio": "frames",
    "mean": -4.268,
    "std": 9.138,
}
VITLENS_AUDIO = {
    **KALDI,
    "clip_seconds": 5.0,
    "clip_spacing": "open",
    "num_frames": 512,
    "short_audio": "repeat",
    "mean": -4.2677393,
    "std": 4.5689974,
}
VITLENS_DEPTH = {
    **CLIP,
    "interpolation": "bicubic",
    "depth_unit": "disparity",
    "value_range": [0.01, 75.0],
    "mean": [0.0418],
    "std": [0.0295],
}
RAW_EEG = {"num_channels": 128, "time_crop": [20, 460], "remove_mean": "none", "normalize": "none"}


def golden(room: str, file: str = "outputs.safetensors") -> dict[str, np.ndarray]:
    return load_file(GOLDENS / room / file)


def run(processor: Any, value: Any) -> np.ndarray:
    (array,) = processor(value, return_tensors="np").values()
    return array[0]


def test_resampled_waveforms_are_torchaudios() -> None:
    for name, expected in golden("audio", "resampled.safetensors").items():
        sound = read_media("audio", GOLDENS / "audio" / f"{name}.wav")
        result = resample(np.atleast_2d(sound["array"]), sound["sampling_rate"], 16000)
        np.testing.assert_allclose(result, expected, atol=1e-6)


def test_audio_is_imagebinds() -> None:
    references = golden("audio")
    extractor = CodeBindAudioFeatureExtractor(**IMAGEBIND_AUDIO)
    for file in sorted((GOLDENS / "audio").glob("*.wav")):
        # The right values of overlapping clips are those without the reference's in-place subtraction.
        expected = references.get(f"{file.stem}.no_alias", references[f"{file.stem}.imagebind"])[:, 0]
        difference = np.abs(run(extractor, file) - expected)
        assert difference.max() < 2e-3, file.name
        assert difference.mean() < 1e-5, file.name


def test_audio_is_vitlenss() -> None:
    extractor = CodeBindAudioFeatureExtractor(**VITLENS_AUDIO)
    for name, expected in golden("audio", "outputs_vitlens.safetensors").items():
        stem, kind = name.rsplit(".", 1)
        if kind == "vitlens_crop0":
            result = run(extractor, GOLDENS / "audio" / f"{stem}.wav").transpose(0, 2, 1)[: len(expected)]
            # Float32 decides near-silent bins, and the reference divides them by half of ImageBind's deviation.
            assert np.abs(result - expected).max() < 4e-3, name
            assert np.abs(result - expected).mean() < 2e-5, name


def test_images_are_imagebinds_to_the_grey_level() -> None:
    processor = CodeBindImageProcessor(**CLIP, mean=[0.0], std=[1.0])
    for name, expected in golden("image").items():
        stem, kind = name.rsplit(".", 1)
        if kind == "uint8":
            levels = run(processor, GOLDENS / "image" / f"{stem}.png").transpose(1, 2, 0) * 255
            np.testing.assert_array_equal(levels.round().astype(np.uint8), expected)
        else:
            result = run(CodeBindImageProcessor(**CLIP), GOLDENS / "image" / f"{stem}.png")
            np.testing.assert_allclose(result, expected, atol=1e-5)


def test_tactile_is_vitlenss() -> None:
    for name, expected in golden("tactile").items():
        stem, kind = name.rsplit(".", 1)
        if kind.startswith("vitlens"):
            options = {"resize_edge": 256, "resize_on": "tensor", "antialias": kind.endswith("_aa")}
            processor = CodeBindTactileImageProcessor(**CLIP, **options)
            result = run(processor, GOLDENS / "tactile" / f"{stem}.png")
            np.testing.assert_allclose(result, expected, atol=1e-4)


def test_thermal_is_codebinds() -> None:
    for name, expected in golden("thermal").items():
        stem, part, tag = name.split(".")
        if part == "full":
            processor = CodeBindThermalImageProcessor(**CLIP, antialias=tag == "aa")
            np.testing.assert_allclose(run(processor, GOLDENS / "thermal" / f"{stem}.png"), expected, atol=1e-5)


def test_depth_is_vitlenss() -> None:
    maps = golden("depth", "inputs.safetensors")
    for name, expected in golden("depth").items():
        stem, tag = name.split(".", 1)
        if stem.startswith("vitlens"):
            processor = CodeBindDepthImageProcessor(**VITLENS_DEPTH, antialias=tag == "aa")
            np.testing.assert_allclose(run(processor, maps[f"{stem}.disparity"]), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("stem", "baseline", "focal_length"),
    [("codebind_kv1_140x187", 0.075, 518.857901), ("codebind_xtion_265x350", 0.095, 570.342205)],
)
def test_depth_is_codebinds(stem: str, baseline: float, focal_length: float) -> None:
    processor = CodeBindDepthImageProcessor(
        **CLIP,
        depth_unit=1 / 8000,
        depth_range=[0.01, 50.0],
        encoding="disparity",
        baseline=baseline,
        focal_length=focal_length,
        value_range=[0.01, 75.0],
        std=[0.11506188],
    )
    for name, expected in golden("depth").items():
        kind, _, tag = name.removeprefix(f"{stem}.").partition(".")
        if kind in ("depth_only", "paired_depth"):
            options = {"mean": [0.23207855 if kind == "depth_only" else 0.318441], "antialias": tag == "aa"}
            result = run(processor.with_parameters(**options), GOLDENS / "depth" / f"{stem}.png")
            np.testing.assert_allclose(result, expected, atol=1e-5)


def test_eeg_is_codebinds_and_vitlenss() -> None:
    recordings = golden("eeg", "inputs.safetensors")
    for name, expected in golden("eeg").items():
        stem, length = name.split(".len")
        (recording,) = (array for key, array in recordings.items() if key.split(".")[0] == stem)
        extractor = CodeBindEegFeatureExtractor(**RAW_EEG, num_samples=int(length))
        np.testing.assert_allclose(run(extractor, recording), expected, atol=1e-6)


def test_point_clouds_are_vitlenss() -> None:
    clouds, references = golden("pointcloud", "inputs.safetensors"), golden("pointcloud")
    for stem, cloud in clouds.items():
        expected = references[f"{stem}.points"]
        if stem.startswith("keep"):
            # The reference draws a permutation of a small cloud; given the same order, the points are the same.
            cloud = cloud[references[f"{stem}.indices"]]
        result = run(CodeBindPointFeatureExtractor(num_points=len(expected)), cloud)
        np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["landscape_30f_7.5fps", "portrait_17f_12fps"])
def test_the_centre_crops_of_video_clips_are_imagebinds(name: str) -> None:
    with np.load(GOLDENS / "video" / f"{name}.npz") as archive:
        video = {"array": archive["frames"], "fps": float(archive["fps"])}
    options = {"resize_on": "tensor", "interpolation": "bilinear", "antialias": False}
    result = run(CodeBindVideoImageProcessor(**CLIP, **options, num_clips=5, clip_seconds=2.0), video)
    expected = golden("video")[f"{name}.imagebind_stride4"][1::3]
    np.testing.assert_allclose(result.transpose(0, 2, 1, 3, 4)[..., ::4, ::4], expected, atol=1e-5)
