"""Features of another network as the processor reads them: arrays, files, manifests, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.data.augmentation import Augmentation
from codebind_hf.data.row_tensors import prepare_row
from codebind_hf.inference import Audio, Image


TOWER = {"stem": "features", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 0}
CONFIG = CodeBindConfig(
    shared_dim=12,
    specific_dim=0,
    code_dim=4,
    num_shared_codes=9,
    vision_config={**TOWER, "num_channels": 6, "input_size": [1]},
    audio_config={**TOWER, "num_channels": 7, "input_size": [5]},
    added_encoders={"radar": {**TOWER, "num_channels": 3, "input_size": [4]}},
)
VECTOR = np.arange(6, dtype=np.float64) / 7
SEQUENCE = np.arange(1, 22, dtype=np.float32).reshape(3, 7)


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    return CodeBindProcessor.from_model_config(CONFIG, None)


def test_vectors_stay_as_they_are_and_sequences_end_in_zeros(processor: CodeBindProcessor) -> None:
    batch = processor(images=[VECTOR, VECTOR[None] * 2], audio=SEQUENCE, radar=[np.ones((4, 3))])
    assert torch.equal(batch["pixel_values"], torch.tensor(np.stack([VECTOR, 2 * VECTOR]), dtype=torch.float32))
    assert torch.equal(batch["input_features"][0, :3], torch.from_numpy(SEQUENCE))
    assert not batch["input_features"][0, 3:].any()
    assert batch["radar_values"].shape == (1, 4, 3)
    assert processor(images=np.ones((3, 6)))["pixel_values"].shape == (3, 6)


@pytest.mark.parametrize("ending", ["npy", "safetensors", "safetensors of bfloat16"])
def test_files_are_read(processor: CodeBindProcessor, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"item.{ending.split()[0]}"
    kind = torch.bfloat16 if "bfloat16" in ending else torch.float32
    values = torch.from_numpy(SEQUENCE).to(kind)
    if ending == "npy":
        np.save(file, SEQUENCE)
    else:
        save_file({"features": values, "other": torch.zeros(2)}, file)
    assert torch.equal(processor(audio=str(file))["input_features"][0, :3], values.float())


def test_a_manifest_holds_paths_of_features(processor: CodeBindProcessor, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", VECTOR)
    save_file({"only": torch.from_numpy(SEQUENCE)}, tmp_path / "sound.safetensors")
    np.save(tmp_path / "radar.npy", np.ones((2, 3)))
    row = {"id": "a", "image": "image.npy", "audio": "sound.safetensors", "radar": "radar.npy"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    rows = Manifest(tmp_path / "rows.jsonl", modalities=["radar"]).validate()
    item = prepare_row(rows[0], processor)
    assert {name: tuple(x.shape) for name, x in item["tensors"].items()} == {
        "pixel_values": (6,),
        "input_features": (5, 7),
        "radar_values": (4, 3),
    }


def test_encode_takes_them_like_any_item(processor: CodeBindProcessor, tmp_path: Path) -> None:
    np.save(tmp_path / "sound.npy", SEQUENCE)
    model = CodeBindModel(CONFIG).eval()
    path = tmp_path / "sound.npy"
    found = model.encode(
        {"image": [VECTOR], "video": [VECTOR], "audio": [path], "radar": [np.ones((2, 3))]}, processor
    )
    assert np.array_equal(found["image"], found["video"])
    mixed = model.encode([Image(VECTOR), Audio(path), {"radar": np.ones((2, 3))}], processor, clips="sliding")
    np.testing.assert_allclose(mixed, np.concatenate([found[x] for x in ("image", "audio", "radar")]), atol=1e-6)
    (clip,) = model.encode({"audio": [SEQUENCE]}, processor, pool="none")["audio"]
    np.testing.assert_allclose(clip.embeds, found["audio"], atol=1e-6)


def test_it_is_saved_with_the_processor(processor: CodeBindProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    again = CodeBindProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    assert torch.equal(again(audio=SEQUENCE)["input_features"], processor(audio=SEQUENCE)["input_features"])
    assert again(radar=[np.ones((2, 3))])["radar_values"].shape == (1, 4, 3)


def test_a_processor_without_such_modalities_says_nothing_of_them(tmp_path: Path) -> None:
    CodeBindProcessor.from_model_config(CodeBindConfig(imu_config={}), None).save_pretrained(tmp_path)
    assert "readers" not in json.loads((tmp_path / "processor_config.json").read_text())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": np.ones(5)}, r"images: got shape \(5,\); allowed: \(6,\), one vector. Fix: use the features"),
        ({"images": [VECTOR, np.ones((4, 6))]}, r"images\[1\]: got shape \(4, 6\).*pool the tokens"),
        ({"audio": np.ones((7, 3))}, r"audio: got shape \(7, 3\).*`array.T`"),
        ({"audio": np.ones((6, 7))}, "audio: got 6 tokens; allowed: up to 5. Fix: cut it"),
        ({"audio": np.ones((2, 5, 8))}, r"audio\[0\]: got shape \(5, 8\)"),
        ({"audio": SEQUENCE * [[1], [0], [1]]}, "audio: got a vector of zeros, token 1"),
        ({"images": np.full(6, np.nan)}, "images: got 6 NaN or infinite values"),
        ({"images": "words"}, "no such file"),
        ({"radar": [np.ones((2, 4))]}, r"radar\[0\]: got shape \(2, 4\); allowed: \(tokens, 3\)"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else None,
)
def test_what_is_no_such_feature_is_refused_by_name(
    processor: CodeBindProcessor, given: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        processor(**given)


def test_a_file_is_named_with_its_item(processor: CodeBindProcessor, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.ones(9))
    with pytest.raises(ValueError, match=r"images\[1\]: image file .*wide.npy.*: got shape \(9,\)"):
        processor(images=[VECTOR, str(tmp_path / "wide.npy")])
    save_file({"a": torch.ones(6), "b": torch.ones(6)}, tmp_path / "two.safetensors")
    with pytest.raises(OSError, match="two.safetensors.*holds 2 tensors, none called 'features'"):
        processor(images=str(tmp_path / "two.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "two.safetensors").read_bytes()[:-7])
    with pytest.raises(OSError, match="cut.safetensors"):
        processor(images=str(tmp_path / "cut.safetensors"))
    (tmp_path / "x.png").touch()
    with pytest.raises(ValueError, match="unsupported suffix '.png'"):
        processor(images=str(tmp_path / "x.png"))


def test_vectors_are_normalized_and_zeros_behind_a_sequence_are_not(tmp_path: Path) -> None:
    mean, std = np.linspace(-1, 1, 7), np.linspace(0.5, 2, 7)
    usual = CodeBindProcessor.from_model_config(CONFIG, None)
    processor = CodeBindProcessor.from_model_config(
        CONFIG, None, audio={"normalize": {"mean": mean.tolist(), "std": std.tolist()}}
    )
    values = processor(audio=SEQUENCE)["input_features"][0]
    np.testing.assert_allclose(values[:3], (SEQUENCE - mean) / std, rtol=1e-6)
    assert not values[3:].any()
    # What has none says nothing of it, so that earlier versions read it.
    assert "normalize" not in usual.readers["audio"]
    assert "normalize" not in usual.added_modalities["radar"]
    processor.save_pretrained(tmp_path)
    again = CodeBindProcessor.from_pretrained(tmp_path)
    assert torch.equal(again(audio=SEQUENCE)["input_features"][0], values)


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        ("item", "normalize: got 'item'; allowed: 'none', 'rows', or mean and std, each of 6 numbers"),
        ({"mean": [0.0] * 6}, "normalize"),
        ({"mean": [0.0] * 6, "std": [1.0] * 5}, "normalize"),
        ({"mean": [0.0] * 6, "std": [0.0] * 6}, "normalize: got a mean that is not finite, or a std of 0"),
        ({"mean": [float("nan")] * 6, "std": [1.0] * 6}, "normalize: got a mean that is not finite"),
    ],
    ids=["word", "half", "short", "zero", "nan"],
)
def test_a_normalization_that_cannot_be_is_refused(normalize: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeBindProcessor.from_model_config(CONFIG, None, images={"normalize": normalize})


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        ({"smell": {"kind": "features"}}, "readers"),
        ({"text": {"kind": "features"}}, "readers"),
        ({"image": {"kind": "magic"}}, "kind"),
        ({"image": {"kind": "features", "num_channels": 0}}, "num_channels"),
        ({"image": {"kind": "features", "input_size": [1, 2]}}, "input_size"),
        ({"image": 3}, "readers"),
    ],
    ids=str,
)
def test_readers_that_cannot_be_are_refused(readers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeBindProcessor(modalities=["image", "imu"], readers=readers)


def test_neither_parameters_nor_augmentations_of_raw_data_are_taken(processor: CodeBindProcessor) -> None:
    with pytest.raises(ValueError, match=r"overrides\['audio'\]: got parameters for another"):
        CodeBindProcessor.from_model_config(CONFIG, None, audio={"num_clips": 2})
    augmented = CodeBindProcessor.from_model_config(CONFIG, None)
    augmented.augmentation = {"image": [{"name": "horizontal_flip"}]}
    with pytest.raises(ValueError, match=r"augmentation.image: got it for what another"):
        Augmentation(augmented)
