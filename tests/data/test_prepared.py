import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from common import in_a_fork

from codebind_hf.data import LazyDataset, NineSenses, PreparedDataset, StoredDataset, load_items
from codebind_hf.data.workers import named_workers
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    return CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["a wooden ring"]))


BAD = [
    {"id": "good", "eeg": np.ones((16, 128), np.float32)},
    {"id": "shape", "eeg": np.ones((17, 128), np.float32)},
    {"id": "file", "image": "no/such/file.png"},
    {"id": "none"},
]


def test_items_are_tensors_without_a_batch_axis(processor: CodeBindProcessor) -> None:
    row = NineSenses("test", num_rows=1)[0]
    item = PreparedDataset([row], processor)[0]
    assert (item["id"], item["label"], item["attributes"]) == (row["id"], row["label"], row["attributes"])
    assert item["tensors"]["eeg_values"].shape == (16, 128)
    assert item["tensors"]["pixel_values_videos"].ndim == 5
    assert item["tensors"]["input_ids"].dtype == torch.int64


def test_all_bad_rows_are_named_in_one_error(processor: CodeBindProcessor) -> None:
    with pytest.raises(ValueError, match="3 of 4 rows cannot be prepared. Fix them, or skip them") as error:
        PreparedDataset(BAD, processor)
    for name in ("shape: eeg", "file: images", "none: the row has no modality"):
        assert name in str(error.value)


def test_skipped_rows_are_kept_by_name_and_reason(processor: CodeBindProcessor) -> None:
    items = PreparedDataset(BAD, processor, on_error="skip")
    assert [item["id"] for item in items] == ["good"]
    assert list(items.skipped) == ["shape", "file", "none"]
    assert "17" in items.skipped["shape"]


def test_rows_without_an_id_are_called_by_their_number(processor: CodeBindProcessor) -> None:
    assert list(PreparedDataset([{"eeg": "gone.npy"}], processor, on_error="skip").skipped) == ["row 0"]


def test_an_error_of_the_program_is_not_taken_for_a_bad_row() -> None:
    for workers in (0, 1):
        with pytest.raises(TypeError, match="a defect"):
            PreparedDataset([{"text": "a"}], _broken, on_error="skip", num_workers=workers)


def test_class_names_come_in_order_of_appearance(processor: CodeBindProcessor) -> None:
    rows = [{"text": "x", "label": "b"}, {"text": "y"}, {"text": "z", "label": "a"}, {"text": "z", "label": "b"}]
    assert PreparedDataset(rows, processor).class_names == ["b", "a"]


def test_on_error_is_checked_before_any_work() -> None:
    for choice in ("ignore", "null", None):
        with pytest.raises(ValueError, match=f"on_error: got {choice!r}; allowed: 'raise', 'skip'"):
            PreparedDataset([], None, on_error=choice)


def test_workers_make_the_same_tensors_in_the_same_order(processor: CodeBindProcessor) -> None:
    rows = [{**row, "text": ["a wooden ring", "a ring"]} for row in NineSenses("test", num_rows=20)]
    rows[3] = {"id": "bad", "eeg": np.ones((17, 128), np.float32)}
    before = torch.get_rng_state()
    items = [PreparedDataset(rows, processor, on_error="skip", num_workers=workers) for workers in (0, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert [list(each.skipped) for each in items] == [["bad"], ["bad"]]
    assert items[0].skipped == items[1].skipped
    assert [item["id"] for item in items[0]] == [item["id"] for item in items[1]]
    for alone, beside in zip(items[0].items, items[1].items, strict=True):
        for key in ("tensors", "captions"):
            torch.testing.assert_close(alone[key], beside[key], rtol=0, atol=0)
        assert len(beside["captions"]) == 2


def test_stored_rows_are_the_same_with_workers(processor: CodeBindProcessor, tmp_path: Path) -> None:
    rows = [dict(row) for row in NineSenses("test", num_rows=3, modalities=["text", "depth"])]
    for workers in (0, 1):
        StoredDataset(rows, processor, tmp_path / str(workers), num_workers=workers)
    made = [sorted((tmp_path / str(workers)).iterdir()) for workers in (0, 1)]
    assert [file.read_bytes() for file in made[0]] == [file.read_bytes() for file in made[1]]
    assert [file.name for file in made[0]] == ["rows-00000.safetensors", "rows.json"]


def _broken(**_: object) -> None:
    raise TypeError("a defect")


def test_a_killed_worker_is_an_error_with_a_fix() -> None:
    in_a_fork(_killed)


def _killed() -> None:
    with pytest.raises(OSError, match="^preprocessing_num_workers: DataLoader worker .* Fix: fewer workers"):
        PreparedDataset([{"text": "a"}], _dying, num_workers=1)


def _dying(**_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_num_workers_is_a_whole_number(processor: CodeBindProcessor) -> None:
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="num_workers: got"):
            PreparedDataset([{"text": "a"}], processor, num_workers=wrong)  # type: ignore[arg-type]


def test_only_the_death_of_a_worker_is_told_otherwise() -> None:
    killed = r"^dataloader_num_workers: DataLoader worker \(pid 3\) is killed. Fix: fewer workers"
    with pytest.raises(OSError, match=killed), named_workers("dataloader_num_workers"):
        raise RuntimeError("DataLoader worker (pid 3) is killed.")
    with pytest.raises(RuntimeError, match="^another$"), named_workers("dataloader_num_workers"):
        raise RuntimeError("another")


def test_workers_that_are_not_used_are_noted(processor: CodeBindProcessor, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(load_items([{"text": "a"}], processor, "lazy", num_workers=2), LazyDataset)
    assert "preprocessing_num_workers: 2 are not used, since rows are processed when their turn comes" in caplog.text
    caplog.clear()
    load_items([{"text": "a"}], processor, "lazy")
    assert caplog.text == ""
