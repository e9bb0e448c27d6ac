"""The processor as a whole: names, shapes, saving, batches, added modalities."""

import copy
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.processing.image_processing_codebind import CodeBindImageProcessor
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer


SHAPES = {
    "input_ids": (64,),
    "attention_mask": (64,),
    "pixel_values": (3, 32, 32),
    "pixel_values_videos": (1, 2, 3, 32, 32),
    "input_features": (1, 64, 64),
    "depth_values": (1, 32, 32),
    "thermal_values": (1, 32, 32),
    "tactile_values": (3, 32, 32),
    "point_values": (256, 3),
    "eeg_values": (16, 128),
    "imu_values": (6, 128),
    "radar_values": (2, 50),
}


@pytest.fixture
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(["a red ball", "a large bell", "the sound of a bell"] * 3)


@pytest.fixture
def processor(tokenizer: CLIPTokenizer) -> CodeBindProcessor:
    config = CodeBindConfig.from_preset("tiny")
    made = CodeBindProcessor.from_model_config(config, tokenizer, text={"padding": "max_length"})
    made.add_modality("radar", num_channels=2, input_size=[50], normalize="item")
    return made


def sample(seed: int) -> dict[str, Any]:
    """One item of every modality, of sizes that differ from sample to sample."""
    rng = np.random.default_rng(seed)
    size = 30 + 7 * seed
    return {
        "text": f"a red ball number {seed}",
        "images": rng.integers(0, 256, (size, size + 9, 3), dtype=np.uint8),
        "videos": rng.integers(0, 256, (1 + seed, size, size, 3), dtype=np.uint8),
        "audio": {"array": (rng.normal(size=3000 * (seed + 1)) * 0.1).astype(np.float32), "sampling_rate": 8000},
        "depth": rng.uniform(0.5, 8, (size, size)).astype(np.float32),
        "thermal": rng.integers(0, 256, (size, size), dtype=np.uint8),
        "tactile": Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)),
        "point_clouds": rng.normal(size=(100 * (seed + 1), 3)).astype(np.float32),
        "eeg": rng.normal(size=(4 + seed, 90 + seed)).astype(np.float32),
        "imu": rng.normal(size=(6, 200 + seed)).astype(np.float32),
        "radar": rng.normal(size=(2, 77 + seed)).astype(np.float32),
    }


def assert_same(left: Any, right: Any) -> None:
    assert sorted(left) == sorted(right)
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_every_modality_gives_its_tensor_in_the_shape_of_the_encoder(processor: CodeBindProcessor) -> None:
    batch = processor(**sample(0))
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {n: (1, *s) for n, s in SHAPES.items()}
    for name, tensor in batch.items():
        assert tensor.dtype == (torch.int64 if name in ("input_ids", "attention_mask") else torch.float32)
        assert tensor.is_contiguous()
    assert processor.model_input_names == list(SHAPES)


def test_a_batch_is_the_stack_of_its_items(processor: CodeBindProcessor) -> None:
    samples = [sample(seed) for seed in range(3)]
    batch = processor(**{name: [one[name] for one in samples] for name in samples[0]})
    singles = [processor(**one) for one in samples]
    assert_same(batch, {name: torch.cat([single[name] for single in singles]) for name in batch})


def test_one_item_equals_a_list_of_one(processor: CodeBindProcessor) -> None:
    one = sample(1)
    assert_same(processor(**one), processor(**{name: [value] for name, value in one.items()}))
    assert_same(processor(**one), processor(**{name: (value,) for name, value in one.items()}))


def test_stacked_arrays_are_batches(processor: CodeBindProcessor) -> None:
    rng = np.random.default_rng(0)
    stacks = {
        "images": rng.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8),
        "videos": rng.integers(0, 256, (2, 4, 40, 40, 3), dtype=np.uint8),
        "point_clouds": rng.normal(size=(2, 300, 3)),
        "eeg": rng.normal(size=(2, 16, 100)),
        "imu": rng.normal(size=(2, 6, 100)),
        "radar": rng.normal(size=(2, 2, 100)),
        "depth": rng.uniform(1, 5, size=(2, 1, 40, 40)),
    }
    assert_same(processor(**stacks), processor(**{name: list(stack) for name, stack in stacks.items()}))
    tensors = {name: torch.from_numpy(stack) for name, stack in stacks.items()}
    assert_same(processor(**tensors), processor(**stacks))


def test_modalities_may_differ_in_number(processor: CodeBindProcessor) -> None:
    one, two = sample(0), sample(1)
    batch = processor(text=["a", "b", "c"], images=[one["images"], two["images"]], eeg=one["eeg"])
    assert {name: len(tensor) for name, tensor in batch.items()} == {
        "input_ids": 3,
        "attention_mask": 3,
        "pixel_values": 2,
        "eeg_values": 1,
    }


def test_the_processor_is_deterministic_and_leaves_its_input_alone(processor: CodeBindProcessor) -> None:
    one = sample(2)
    before = pickle.dumps(one)
    first, second = processor(**one), processor(**one)
    assert_same(first, second)
    assert pickle.dumps(one) == before


def test_saving_and_loading_changes_nothing(processor: CodeBindProcessor, tmp_path: Path) -> None:
    expected = processor(**sample(3))
    processor.save_pretrained(tmp_path)
    loaded = CodeBindProcessor.from_pretrained(tmp_path)
    assert_same(loaded(**sample(3)), expected)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.model_input_names == processor.model_input_names
    loaded.save_pretrained(tmp_path / "again")
    assert_same(CodeBindProcessor.from_pretrained(tmp_path / "again")(**sample(3)), expected)


def test_saving_again_writes_the_same_bytes_and_leaves_no_trace(processor: CodeBindProcessor, tmp_path: Path) -> None:
    """How one machine found the tokenizer, or that a processor was saved, would be written into the next copy."""
    before = processor.to_dict()
    processor.save_pretrained(tmp_path / "first")
    assert processor.to_dict() == before
    CodeBindProcessor.from_pretrained(tmp_path / "first", local_files_only=True).save_pretrained(tmp_path / "again")
    names = {path.name for path in (tmp_path / "first").iterdir()}
    assert names == {path.name for path in (tmp_path / "again").iterdir()}
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_saving_after_other_calls_saves_the_same(processor: CodeBindProcessor, tmp_path: Path) -> None:
    # transformers writes the truncation and padding of the tokenizer's last call into tokenizer.json.
    expected = processor(**sample(3))
    processor(text="a much longer text than that", text_kwargs={"max_length": 4, "padding": "longest"})
    processor(images=sample(0)["images"], images_kwargs={"size": [8, 8]})
    processor.save_pretrained(tmp_path)
    loaded = CodeBindProcessor.from_pretrained(tmp_path)
    assert "max_length" not in loaded.tokenizer.init_kwargs
    assert len(loaded.tokenizer("a red ball " * 30)["input_ids"]) > 64
    assert_same(loaded(**sample(3)), expected)


def test_changed_parameters_live_in_one_json_file(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    made = CodeBindProcessor.from_model_config(
        CodeBindConfig.from_preset("tiny"),
        tokenizer,
        text={"max_length": 20, "padding": "max_length"},
        images={"interpolation": "bilinear", "mean": [0.5], "std": [0.5]},
        audio={"clip_seconds": 2.0, "num_clips": 3},
        depth={"depth_unit": "mm"},
        thermal={"thermal_range": (0, 50)},
        eeg={"normalize": "none"},
    )
    made.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["feature_extractor"]["clip_seconds"] == 2.0
    assert saved["depth_image_processor"]["depth_unit"] == "mm"
    assert not (tmp_path / "preprocessor_config.json").exists()
    loaded = CodeBindProcessor.from_pretrained(tmp_path)
    one = {**sample(1), "depth": sample(1)["depth"] * 1000, "thermal": sample(1)["thermal"].astype(np.float32)}
    one.pop("radar")
    batch = loaded(**one)
    assert_same(batch, made(**one))
    assert batch["input_ids"].shape == (1, 20)
    assert batch["input_features"].shape == (1, 3, 64, 64)


def test_processors_can_be_pickled_and_copied(processor: CodeBindProcessor) -> None:
    expected = processor(**sample(0))
    # Made in this very line.
    assert_same(pickle.loads(pickle.dumps(processor))(**sample(0)), expected)  # noqa: S301
    assert_same(copy.deepcopy(processor)(**sample(0)), expected)


def test_numpy_and_plain_lists_hold_the_same_values(processor: CodeBindProcessor) -> None:
    one = sample(0)
    tensors = processor(**one)
    arrays = processor(**one, return_tensors="np")
    lists = processor(**one, return_tensors=None)
    for name, tensor in tensors.items():
        assert isinstance(arrays[name], np.ndarray)
        np.testing.assert_array_equal(arrays[name], tensor.numpy())
        assert isinstance(lists[name], list)
        np.testing.assert_array_equal(np.asarray(lists[name]), tensor.numpy())


def test_options_of_a_call_reach_their_modality(processor: CodeBindProcessor) -> None:
    one = sample(0)
    levels = (one["depth"] * 1000).round().astype(np.uint16)
    batch = processor(
        audio=one["audio"]["array"],
        sampling_rate=8000,
        depth=levels,
        depth_unit="mm",
        thermal=one["thermal"].astype(np.float32) / 255 * 90,
        thermal_range=(0, 90),
    )
    expected = processor(audio=one["audio"], depth=one["depth"], thermal=one["thermal"])
    assert torch.equal(batch["input_features"], expected["input_features"])
    torch.testing.assert_close(batch["depth_values"], expected["depth_values"], atol=1e-2, rtol=0)
    torch.testing.assert_close(batch["thermal_values"], expected["thermal_values"], atol=1e-4, rtol=0)
    rated = processor(audio=one["audio"]["array"], audio_kwargs={"sampling_rate": 8000})
    assert torch.equal(rated["input_features"], expected["input_features"])


def test_paths_are_read_for_every_modality_but_text(processor: CodeBindProcessor, tmp_path: Path) -> None:
    one = {name: value for name, value in sample(0).items() if name not in ("text", "audio", "tactile")}
    Image.fromarray(one["images"]).save(tmp_path / "images.png")
    for name in one.keys() - {"images"}:
        np.save(tmp_path / f"{name}.npy", one[name])
    files = {name: tmp_path / f"{name}.npy" for name in one} | {"images": tmp_path / "images.png"}
    expected = processor(**one)
    assert_same(processor(**files), expected)
    assert_same(processor(**{name: [str(file)] for name, file in files.items()}), expected)


def test_text_is_cut_with_its_end_token_kept(processor: CodeBindProcessor) -> None:
    batch = processor(text=["a red ball", "bell " * 300])
    assert batch["input_ids"].shape == (2, 64)
    assert batch["input_ids"][1, -1] == processor.tokenizer.eos_token_id
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 64]
    assert processor.batch_decode(batch["input_ids"], skip_special_tokens=True)[0] == "a red ball"
    assert processor.decode(batch["input_ids"][0], skip_special_tokens=True) == "a red ball"
    short = processor(text=["a red ball", "a"], text_kwargs={"padding": "longest"})
    assert short["input_ids"].shape == (2, 5)


def test_texts_are_padded_to_the_longest_unless_told(tokenizer: CLIPTokenizer) -> None:
    made = CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), tokenizer)
    assert made(text=["a red ball", "a"])["input_ids"].shape == (2, 5)


def test_absent_modalities_keep_defaults_but_are_refused(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    tiny = CodeBindConfig.from_preset("tiny")
    fields = {f"{name}_config": getattr(tiny, f"{name}_config") for name in ("text", "audio")}
    made = CodeBindProcessor.from_model_config(SimpleNamespace(**fields), tokenizer)
    made.save_pretrained(tmp_path)
    for each in (made, CodeBindProcessor.from_pretrained(tmp_path)):
        assert each.modalities == ["text", "audio"]
        assert each.model_input_names == ["input_ids", "attention_mask", "input_features"]
        with pytest.raises(
            ValueError, match="eeg: this checkpoint has no encoder for eeg; allowed: modalities text, audio"
        ):
            each(eeg=np.zeros((4, 10)))


def test_a_processor_without_text_needs_no_tokenizer(tmp_path: Path) -> None:
    vision = CodeBindConfig.from_preset("tiny").vision_config
    made = CodeBindProcessor.from_model_config(SimpleNamespace(vision_config=vision), None)
    made.save_pretrained(tmp_path)
    for each in (made, CodeBindProcessor.from_pretrained(tmp_path), CodeBindProcessor(modalities=["image"])):
        assert each(images=np.zeros((8, 8, 3), np.uint8))["pixel_values"].shape == (1, 3, 32, 32)
        with pytest.raises(ValueError, match="text: this processor has no tokenizer"):
            each(text="a red ball")


def test_added_encoders_of_the_configuration_are_read_too(tokenizer: CLIPTokenizer) -> None:
    config = CodeBindConfig.from_preset("tiny")
    added = {"lidar": {"num_channels": 1, "input_size": [16, 24]}}
    fields = {f"{row.encoder}_config": getattr(config, f"{row.encoder}_config") for row in MODALITIES.values()}
    made = CodeBindProcessor.from_model_config(SimpleNamespace(**fields, added_encoders=added), tokenizer)
    assert made(lidar=np.zeros((40, 40)))["lidar_values"].shape == (1, 1, 16, 24)
    assert made.model_input_names[-1] == "lidar_values"


def test_the_image_processor_alone_serves_stock_pipelines(processor: CodeBindProcessor, tmp_path: Path) -> None:
    pictures = [Image.fromarray(sample(seed)["images"]) for seed in range(2)]
    alone = processor.image_processor(images=pictures, return_tensors="pt")
    assert torch.equal(alone["pixel_values"], processor(images=pictures)["pixel_values"])
    processor.save_pretrained(tmp_path)
    loaded = CodeBindImageProcessor.from_pretrained(tmp_path)  # from the nested processor_config.json
    assert torch.equal(loaded(pictures, return_tensors="pt")["pixel_values"], alone["pixel_values"])
    changed = CodeBindImageProcessor.from_pretrained(tmp_path, size=[8, 8])
    assert changed(pictures[0], return_tensors="pt")["pixel_values"].shape == (1, 3, 8, 8)
    sound = sample(0)["audio"]["array"]
    features = processor.feature_extractor([sound], sampling_rate=8000, return_tensors="pt")["input_features"]
    assert torch.equal(features, processor(audio=sound, sampling_rate=8000)["input_features"])


def test_sizes_follow_the_configuration(tokenizer: CLIPTokenizer) -> None:
    config = CodeBindConfig.from_preset("tiny")
    config.vision_config.input_size = [24, 40]
    config.audio_config.input_size = [32, 50]
    config.point_config.input_size = [100]
    config.eeg_config.num_channels = 5
    made = CodeBindProcessor.from_model_config(config, tokenizer)
    batch = made(**{name: value for name, value in sample(0).items() if name != "radar"})
    assert batch["pixel_values"].shape == (1, 3, 24, 40)
    assert batch["pixel_values_videos"].shape == (1, 1, 2, 3, 24, 40)
    assert batch["input_features"].shape == (1, 1, 32, 50)
    assert batch["point_values"].shape == (1, 100, 3)
    assert batch["eeg_values"].shape == (1, 5, 128)


def test_padding_and_length_of_texts_may_be_given_as_other_processors_take_them(processor: CodeBindProcessor) -> None:
    texts = ["a red ball", "a"]
    plain = processor(text=texts, text_kwargs={"padding": "longest", "max_length": 4})
    flat = processor(text=texts, padding=True, truncation=True, max_length=4, return_tensors="pt")
    assert_same(plain, flat)
    assert flat["input_ids"].shape == (2, 4)
    with pytest.raises(ValueError, match="truncation: got False; allowed: True"):
        processor(text=texts, truncation=False)


@pytest.mark.parametrize(
    ("modality", "key"), [("text", "padding"), ("audio", "sampling_rate"), ("depth", "depth_unit")]
)
def test_an_option_given_twice_is_refused(processor: CodeBindProcessor, modality: str, key: str) -> None:
    """One of the two would silently win."""
    with pytest.raises(ValueError, match=f"{key}: got it twice, also in {modality}_kwargs"):
        processor(**{modality: sample(0)[modality], f"{modality}_kwargs": {key: "m"}, key: "m"})
