"""The reading half of `encode`, without a model: batches of tensors from items of any number."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from codebind_hf import CodeBindProcessor
from codebind_hf.inference import Depth
from codebind_hf.training.tokenization import build_tokenizer


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    made = CodeBindProcessor(tokenizer=build_tokenizer(["a bell"], 600))
    made.add_modality("radar", num_channels=2, input_size=[7])
    return made


def eeg(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(16, 300)).astype(np.float32)


def sound(seconds: float) -> dict[str, Any]:
    values = np.random.default_rng(0).normal(size=round(16_000 * seconds))
    return {"array": (0.1 * values).astype(np.float32), "sampling_rate": 16_000}


def test_items_of_one_modality_share_a_batch_and_keep_their_positions(processor: CodeBindProcessor) -> None:
    items = [{"eeg": eeg(0)}, "a bell", {"eeg": eeg(1)}, {"radar": np.ones((2, 9))}, {"eeg": eeg(2)}]
    batches = {(batch.modality, *batch.positions): batch for batch in processor.stream(items, batch_size=2)}
    assert list(batches) == [("eeg", 0, 2), ("text", 1), ("radar", 3), ("eeg", 4)]
    direct = processor(eeg=[eeg(0), eeg(1)], radar=[np.ones((2, 9))], text=["a bell"])
    assert torch.equal(batches["eeg", 0, 2].tensors["eeg_values"], direct["eeg_values"])
    assert torch.equal(batches["radar", 3].tensors["radar_values"], direct["radar_values"])
    assert set(batches["text", 1].tensors) == {"input_ids", "attention_mask"}
    assert all(batch.starts is None and batch.is_last and batch.seconds == 0 for batch in batches.values())


def test_items_with_other_options_are_another_batch(processor: CodeBindProcessor) -> None:
    grid = np.full((20, 30), 2.0, np.float32)
    metres, millimetres = processor.stream([Depth(grid, unit="m"), Depth(1000 * grid, unit="mm")])
    torch.testing.assert_close(metres.tensors["depth_values"], millimetres.tensors["depth_values"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clips_come_with_their_times_as_samples_of_their_own(processor: CodeBindProcessor, num_workers: int) -> None:
    seconds = processor.feature_extractor.clip_seconds
    options = {"batch_size": 2, "clips": "sliding", "num_workers": num_workers}
    batches = list(processor.stream([sound(2.5 * seconds)], modality="audio", **options))
    assert [batch.starts for batch in batches] == [[0.0, seconds], [pytest.approx(1.5 * seconds)]]
    assert [batch.is_last for batch in batches] == [False, True]
    assert [len(batch.tensors["input_features"]) for batch in batches] == [2, 1]
    assert {batch.seconds for batch in batches} == {seconds}


def test_options_are_checked_at_once_and_items_when_they_are_reached(processor: CodeBindProcessor) -> None:
    with pytest.raises(ValueError, match="batch_size: got 0; allowed: a whole number of at least 1"):
        processor.stream(["a bell"], batch_size=0)
    with pytest.raises(ValueError, match="items: 'smell' is not in this checkpoint, which has text, image"):
        processor.stream(["a bell"], modality="smell")
    with pytest.raises(ValueError, match="items: got str; expected"):
        processor.stream("a bell")
    batches = processor.stream([{"eeg": eeg(0)}, 3], batch_size=1)
    assert next(batches).positions == [0]
    with pytest.raises(ValueError, match=r"items\[1\]: got int"):
        next(batches)


def test_what_the_model_lacks_is_refused(processor: CodeBindProcessor) -> None:
    with pytest.raises(ValueError, match=r"items\[0\]: 'eeg' is not in this checkpoint; it has text, image"):
        list(processor.stream([{"eeg": eeg(0)}], known=("text", "image")))


def test_no_more_is_read_than_batches_need(processor: CodeBindProcessor) -> None:
    read: list[int] = []

    def endless() -> Iterator[dict[str, np.ndarray]]:
        while True:
            read.append(len(read))
            yield {"eeg": eeg(len(read))}

    batches = processor.stream(endless(), batch_size=3)
    assert [next(batches).positions, next(batches).positions] == [[0, 1, 2], [3, 4, 5]]
    assert len(read) == 6
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)
