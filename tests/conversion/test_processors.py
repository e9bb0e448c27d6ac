"""Processors of converted checkpoints: their numbers, sizes from the configuration, saving, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_checkpoints import write_merges
from transformers.utils import logging

from codebind_hf.conversion.processors import (
    CODEBIND_INPUTS,
    IMAGEBIND_INPUTS,
    VITLENS_INPUTS,
    codebind_processor,
    imagebind_processor,
    vitlens_processor,
)
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.processing_codebind import CodeBindProcessor


IMAGEBIND = CodeBindConfig.from_preset("ib-huge")
CODEBIND = CodeBindConfig.from_preset("codebind-ib-huge")
VITLENS = CodeBindConfig.from_preset("vl-large")
PROJECTS = pytest.mark.parametrize(
    ("make", "config", "inputs"),
    [
        pytest.param(imagebind_processor, IMAGEBIND, IMAGEBIND_INPUTS, id="imagebind"),
        pytest.param(codebind_processor, CODEBIND, CODEBIND_INPUTS, id="codebind"),
        pytest.param(vitlens_processor, VITLENS, VITLENS_INPUTS, id="vitlens"),
    ],
)
PARTS = {
    "images": "image_processor",
    "videos": "video_image_processor",
    "audio": "feature_extractor",
    "depth": "depth_image_processor",
    "thermal": "thermal_image_processor",
    "tactile": "tactile_image_processor",
    "point_clouds": "point_feature_extractor",
    "eeg": "eeg_feature_extractor",
    "imu": "imu_feature_extractor",
}
# What the projects do not have in common; clips of videos count once for each of three crops, if there are three.
SHAPES = {
    "imagebind_processor": {
        "pixel_values_videos": (15, 2, 3, 224, 224),
        "input_features": (3, 128, 204),
        "thermal_values": (1, 224, 224),
        "imu_values": (6, 2000),
    },
    "codebind_processor": {
        "pixel_values_videos": (3, 2, 3, 224, 224),
        "input_features": (1, 128, 204),
        "thermal_values": (1, 224, 224),
        "imu_values": (6, 2000),
        "tactile_values": (3, 224, 224),
        "eeg_values": (128, 440),
    },
    "vitlens_processor": {
        "pixel_values_videos": (3, 1, 3, 224, 224),
        "input_features": (3, 128, 512),
        "tactile_values": (3, 224, 224),
        "point_values": (8192, 3),
        "eeg_values": (128, 512),
    },
}


@pytest.fixture(scope="module")
def bpe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_merges(tmp_path_factory.mktemp("bpe") / "merges.txt.gz")


def raw(config: CodeBindConfig) -> dict[str, Any]:
    """One raw item of every modality of the configuration, by argument."""
    rng = np.random.default_rng(0)
    items = {
        "text": "A café &amp; <|endoftext|>",
        "images": rng.integers(0, 256, (250, 300, 3), dtype=np.uint8),
        "videos": {"array": rng.integers(0, 256, (9, 40, 60, 3), dtype=np.uint8), "fps": 3.0},
        "audio": {"array": (rng.normal(size=30000) * 0.1).astype(np.float32), "sampling_rate": 8000},
        "depth": rng.uniform(0.5, 8, (230, 250)).astype(np.float32),
        "thermal": rng.integers(0, 256, (230, 250), dtype=np.uint8),
        "tactile": rng.integers(0, 256, (250, 300, 3), dtype=np.uint8),
        "point_clouds": rng.normal(size=(9000, 3)).astype(np.float32),
        "eeg": rng.normal(size=(128, 500)),
        "imu": rng.normal(size=(6, 2000)).astype(np.float32),
    }
    return {argument_of(name): items[argument_of(name)] for name in config.modality_names}


@PROJECTS
def test_every_tensor_has_the_shape_of_the_reference(
    make: Callable[..., CodeBindProcessor], config: CodeBindConfig, inputs: dict[str, Any], bpe_file: Path
) -> None:
    shapes = {
        "input_ids": (77,),
        "attention_mask": (77,),
        "pixel_values": (3, 224, 224),
        "depth_values": (1, 224, 224),
        **SHAPES[make.__name__],
    }
    batch = make(config, bpe_file)(**raw(config))
    assert {name: tuple(tensor.shape[1:]) for name, tensor in batch.items()} == shapes


@PROJECTS
def test_saved_processors_give_identical_tensors(
    make: Callable[..., CodeBindProcessor],
    config: CodeBindConfig,
    inputs: dict[str, Any],
    bpe_file: Path,
    tmp_path: Path,
) -> None:
    processor = make(config, bpe_file)
    processor.save_pretrained(tmp_path)
    loaded = CodeBindProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    expected, result = processor(**raw(config)), loaded(**raw(config))
    assert sorted(result) == sorted(expected)
    for name, tensor in expected.items():
        assert torch.equal(result[name], tensor), name


@PROJECTS
def test_every_number_of_the_table_is_in_the_json(
    make: Callable[..., CodeBindProcessor],
    config: CodeBindConfig,
    inputs: dict[str, Any],
    bpe_file: Path,
    tmp_path: Path,
) -> None:
    make(config, bpe_file).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    text = {"text_cleaning": inputs["text"]["cleaning"], "text_padding": "max_length", "max_text_length": 77}
    assert {name: saved[name] for name in text} == text
    assert set(inputs) == {argument_of(name) for name in config.modality_names}
    for argument in set(inputs) - {"text"}:
        # Recordings without a low-pass are saved as before there was one.
        part = {"low_pass": False, **saved[PARTS[argument]]}
        assert {name: part[name] for name in inputs[argument]} == inputs[argument], argument


def test_imu_of_the_right_size_is_left_as_it_is(bpe_file: Path) -> None:
    motion = raw(IMAGEBIND)["imu"]
    (result,) = imagebind_processor(IMAGEBIND, bpe_file)(imu=motion, return_tensors="np")["imu_values"]
    np.testing.assert_array_equal(result, motion)


def test_depth_in_metres_is_the_disparity_of_the_first_kinect(bpe_file: Path) -> None:
    metres = np.full((224, 224), 2.5, np.float32)
    disparity = np.float32(0.075 * 518.857901) / metres
    # 38.914 / 2.5 = 15.566, of 75 is 0.20754: 5.6184 = (0.20754 - 0.0418) / 0.0295 and -0.96381 with CodeBind's.
    for processor, value in (
        (imagebind_processor(IMAGEBIND, bpe_file), (15.56573703 / 75 - 0.0418) / 0.0295),
        (codebind_processor(CODEBIND, bpe_file), (15.56573703 / 75 - 0.318441) / 0.11506188),
    ):
        result = processor(depth=metres)["depth_values"]
        np.testing.assert_allclose(result, value, atol=1e-4)
        same = processor(depth=disparity, depth_kwargs={"depth_unit": "disparity"})["depth_values"]
        np.testing.assert_allclose(same, result, atol=1e-5)


def test_depth_in_metres_is_vitlenss_disparity_of_eight_times_the_distance(bpe_file: Path) -> None:
    """Its files hold eighths of what they say, and its statistics are theirs: a room has values around 0, not 16."""
    metres = np.linspace(0.4, 8, 224 * 224, dtype=np.float32).reshape(224, 224)
    result = vitlens_processor(VITLENS, bpe_file)(depth=metres)["depth_values"][0, 0].numpy()
    read = np.clip(8 * metres.astype(np.float64), 0.01, 50)
    disparity = np.clip(0.075 * 518.857901 / read, 0.01, 75) / 75
    np.testing.assert_allclose(result, (disparity - 0.0418) / 0.0295, rtol=1e-4, atol=1e-4)
    assert -1.5 < np.median(result) < 1


def test_sounds_of_the_models_of_two_seconds_have_clips_of_two_seconds(bpe_file: Path) -> None:
    fields = VITLENS.to_dict()
    for frames, seconds in ((512, 5.0), (204, 2.0), (208, 2.0), (1024, 10.0)):
        fields["audio_config"]["input_size"] = [128, frames]
        extractor = vitlens_processor(CodeBindConfig(**fields), bpe_file).feature_extractor
        assert (extractor.clip_seconds, extractor.num_frames, extractor.num_clips) == (seconds, frames, 3)


def test_a_depth_map_beyond_the_range_is_warned_of(bpe_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Such as the eighths of millimetres in SUN's files, read as millimetres."""
    levels = np.linspace(8000, 48_000, 240 * 240).reshape(240, 240).astype(np.uint16)
    processor = vitlens_processor(VITLENS, bpe_file)
    logging.enable_propagation()
    with caplog.at_level("WARNING"):
        flat = processor(depth=levels, depth_unit="mm")["depth_values"]
    assert flat.std() < 1e-5
    assert "all distances (8 to 48 m) lie beyond depth_range=[0.00125, 6.25]" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert processor(depth=levels, depth_unit=1 / 8000)["depth_values"].std() > 0.1
    assert caplog.text == ""


def test_coloured_clouds_of_bigg_are_prepared_as_openshape_does(bpe_file: Path) -> None:
    config = CodeBindConfig.from_preset("vl-bigg")
    processor = vitlens_processor(config, bpe_file)
    rng = np.random.default_rng(2)
    cloud = np.concatenate([rng.normal(size=(12000, 3)), rng.random((12000, 3))], axis=1)
    result = processor(point_clouds=cloud)["point_values"][0].numpy()
    assert result.shape == (10000, 6)
    places, colours = result[:, :3], result[:, 3:]
    np.testing.assert_allclose(places.mean(0), 0, atol=1e-5)
    assert np.linalg.norm(places, axis=1).max() == pytest.approx(1, abs=1e-5)
    # Every colour tells which point it was: y and z are exchanged, and no point was taken twice.
    rows = [int(np.abs(cloud[:, 3:] - colour).sum(1).argmin()) for colour in colours[:200]]
    assert len(set(rows)) == 200
    picked = cloud[rows][:, [0, 2, 1]]
    scale = (picked[0] - picked[1]) / (places[0] - places[1])
    np.testing.assert_allclose(scale, scale[0], rtol=1e-3)
    grey = processor(point_clouds=cloud[:, :3])["point_values"][0].numpy()
    np.testing.assert_allclose(grey[:, 3:], 0.4)
    np.testing.assert_allclose(grey[:, :3], places)


def test_texts_are_cleaned_as_vitlenss_interface_does_or_as_its_benchmarks(bpe_file: Path) -> None:
    texts = ["A Bell, ringing (far)!", "a bell, ringing far"]
    cleaned = vitlens_processor(VITLENS, bpe_file)(text=texts)["input_ids"]
    assert torch.equal(cleaned[0], cleaned[1])
    plain = vitlens_processor(VITLENS, bpe_file, text={"cleaning": "open_clip"})(text=texts)["input_ids"]
    assert not torch.equal(plain[0], plain[1])


def test_overlapping_audio_clips_do_not_depend_on_each_other(bpe_file: Path) -> None:
    # The reference subtracts a clip's mean in place, so that the clips of a sound differ from those of its parts.
    processor = imagebind_processor(IMAGEBIND, bpe_file)
    sound = (np.random.default_rng(1).normal(size=40000) * 0.1 + np.linspace(0, 0.5, 40000)).astype(np.float32)
    whole = processor(audio={"array": sound, "sampling_rate": 16000})["input_features"][0]
    for clip, start in enumerate((0, 4000, 8000)):
        part = processor(audio={"array": sound[start : start + 32000], "sampling_rate": 16000})["input_features"][0]
        torch.testing.assert_close(whole[clip], part[0], rtol=0, atol=0)


def test_overrides_change_their_parameters_and_no_others(bpe_file: Path) -> None:
    changes = {"depth": {"mean": [0.23207855]}, "audio": {"num_clips": 3}, "text": {"padding": "longest"}}
    processor = codebind_processor(CODEBIND, bpe_file, **changes)
    assert processor.depth_image_processor.mean == [0.23207855]
    assert processor.depth_image_processor.std == [0.11506188]
    assert processor.feature_extractor.num_clips == 3
    assert processor.feature_extractor.hop_length == 160
    assert (processor.text_padding, processor.text_cleaning) == ("longest", "clip")
    assert codebind_processor(CODEBIND, bpe_file).depth_image_processor.mean == [0.318441]


def test_sizes_are_the_configurations(bpe_file: Path) -> None:
    fields = CODEBIND.to_dict()
    fields["eeg_config"]["input_size"] = [512]
    fields["audio_config"]["input_size"] = [64, 100]
    processor = codebind_processor(CodeBindConfig(**fields), bpe_file)
    assert processor.eeg_feature_extractor.num_samples == 512
    assert (processor.feature_extractor.num_mel_bins, processor.feature_extractor.num_frames) == (64, 100)


def test_a_checkpoint_without_text_has_a_processor_without_text(bpe_file: Path, tmp_path: Path) -> None:
    config = CODEBIND.restricted_to(["depth", "image"])
    processor = codebind_processor(config, bpe_file)
    assert "text" not in processor.modalities
    processor.save_pretrained(tmp_path)
    assert CodeBindProcessor.from_pretrained(tmp_path).modalities == processor.modalities


def test_a_folder_that_holds_a_model_alone_says_which_file_is_missing(bpe_file: Path, tmp_path: Path) -> None:
    CODEBIND.save_pretrained(tmp_path)
    with pytest.raises(
        OSError, match=r"processor_config.json: no such file.*Fix: `processor.save_pretrained\('.*'\)`"
    ):
        CodeBindProcessor.from_pretrained(tmp_path)
    imagebind_processor(IMAGEBIND, bpe_file).save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text("{}")
    with pytest.raises(OSError, match="processor_config.json: holds no parameters for 'image_processor'"):
        CodeBindProcessor.from_pretrained(tmp_path)


def test_wrong_arguments_are_refused(bpe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="bpe_file: cannot read"):
        imagebind_processor(IMAGEBIND, tmp_path / "missing.txt.gz")
    with pytest.raises(ValueError, match="config.text_config: got vocab_size=1024 and eos_token_id=1; .* 49408"):
        codebind_processor(CodeBindConfig.from_preset("tiny"), bpe_file)
    with pytest.raises(ValueError, match="overrides: got unknown argument 'sound'"):
        imagebind_processor(IMAGEBIND, bpe_file, sound={})
    with pytest.raises(ValueError, match="got unknown parameter 'colour'"):
        imagebind_processor(IMAGEBIND, bpe_file, images={"colour": 1})
    with pytest.raises(ValueError, match=r"overrides\['text'\]: got unknown parameter 'length'.*padding, cleaning"):
        imagebind_processor(IMAGEBIND, bpe_file, text={"length": 3})
