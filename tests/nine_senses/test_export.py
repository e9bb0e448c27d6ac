from pathlib import Path

import numpy as np
import pytest
import torch

from codebind_hf.data import CodeBindCollator, Manifest, NineSenses, rows_from_dataset
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.media import read_media
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    data = NineSenses("test", num_rows=1)
    tokenizer = build_tokenizer([template.format(name) for template in data.templates for name in data.class_names])
    return CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), tokenizer)


def assert_same_batches(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name


def test_exported_files_give_the_same_tensors_as_rows_in_memory(processor: CodeBindProcessor, tmp_path: Path) -> None:
    data = NineSenses("test", num_rows=3)
    manifest = Manifest(data.export(tmp_path)).validate()
    collate = CodeBindCollator(processor)
    assert_same_batches(collate(data[:]), collate(manifest[:]))
    assert [row["attributes"] for row in manifest] == [row["attributes"] for row in data]
    assert manifest.class_names == list(dict.fromkeys(row["label"] for row in data))


def test_the_hugging_face_dataset_gives_the_same_tensors(processor: CodeBindProcessor) -> None:
    data = NineSenses("test", num_rows=3)
    rows = rows_from_dataset(data.dataset)
    collate = CodeBindCollator(processor)
    assert_same_batches(collate(data[:]), collate(rows[:]))
    assert [row["attributes"] for row in rows] == [row["attributes"] for row in data]
    assert [row["id"] for row in rows] == [row["id"] for row in data]


def test_missing_modalities_are_none_in_the_dataset_and_absent_in_rows_and_manifest(tmp_path: Path) -> None:
    data = NineSenses("train", num_bridge=1, num_target=1)
    assert data.dataset[0]["depth"] is None
    assert data.dataset[0]["video"] is None
    expected = [set(row) for row in data]
    assert [set(row) for row in rows_from_dataset(data.dataset)] == expected
    assert [set(row) for row in Manifest(data.export(tmp_path))] == expected


def test_depth_can_be_written_in_millimetres_and_points_as_arrays(tmp_path: Path) -> None:
    data = NineSenses("test", num_rows=1, modalities=["depth", "point_cloud"])
    row = Manifest(data.export(tmp_path, depth_format="png", point_format="npy"))[0]
    millimetres = read_media("depth", row["depth"])
    assert millimetres.dtype.kind in "ui"
    assert np.array_equal((millimetres / 1000).astype(np.float32), data[0]["depth"])
    assert np.array_equal(np.load(row["point_cloud"]), data[0]["point_cloud"])


def test_paths_in_the_manifest_are_relative(tmp_path: Path) -> None:
    data = NineSenses("test", num_rows=1)
    first = tmp_path / "first"
    data.export(first)
    moved = first.rename(tmp_path / "moved")
    assert Manifest(moved / "manifest.jsonl").validate()[0]["eeg"].startswith(str(moved))


@pytest.mark.parametrize("argument", ["depth_format", "point_format"])
def test_an_unknown_format_is_refused(argument: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{argument}: got 'exr'; allowed"):
        NineSenses("test", num_rows=1).export(tmp_path, **{argument: "exr"})
