"""Streams: every row once an epoch, whoever reads it, and the same batches where a run goes on."""

import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from torch.utils.data import DataLoader

from codebind_hf import CodeBindProcessor
from codebind_hf.data import StreamedDataset
from codebind_hf.data.sources import dataset_stream
from codebind_hf.data.streamed import Past, Place
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.training.stream_batches import StreamBatches
from codebind_hf.training.tokenization import build_tokenizer


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    return CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["a ring of n"]))


WORDS = {"id": Value("string"), "text": Value("string")}
GRID = [[Value("float32")]]


def rows_of(count: int) -> Dataset:
    """Rows of text and EEG; every third has no EEG, so that it cannot be trained on."""
    rows = [
        {"id": f"{n}", "text": f"ring {n}", "eeg": None if n % 3 == 2 else np.full((16, 128), n, np.float32).tolist()}
        for n in range(count)
    ]
    return Dataset.from_list(rows, features=Features({**WORDS, "eeg": GRID}))


def streamed(processor: Any, count: int = 12, shards: int = 4, **options: Any) -> StreamedDataset:
    data = StreamedDataset(rows_of(count).to_iterable_dataset(num_shards=shards), processor, **options)
    return data.restricted(["text", "eeg"], ["eeg"], ["text", "image"])


def ids(passed: Any) -> list[str]:
    return [each.item["id"] for each in passed]


USABLE = sorted(str(n) for n in range(12) if n % 3 != 2)


def test_usable_rows_come_once_with_their_tensors(processor: CodeBindProcessor) -> None:
    passed = list(streamed(processor, shuffle_buffer=0))
    assert sorted(ids(passed)) == USABLE
    assert {each.modalities for each in passed} == {("text", "eeg")}
    assert float(passed[0].item["tensors"]["eeg_values"].std()) == pytest.approx(0, abs=1e-3)
    assert set(passed[0].item["tensors"]) == {"input_ids", "attention_mask", "eeg_values"}


@pytest.mark.parametrize("shards", [1, 3, 4])
@pytest.mark.parametrize("workers", [0, 2])
def test_processes_and_workers_share_the_rows(processor: CodeBindProcessor, shards: int, workers: int) -> None:
    found = []
    for process in range(2):
        part = streamed(processor, shards=shards).part(0, process, 2)
        found += ids(DataLoader(part, batch_size=None, num_workers=workers, collate_fn=lambda passed: passed))
    assert sorted(found) == USABLE


def test_an_epoch_has_its_own_order_which_comes_back(processor: CodeBindProcessor) -> None:
    data = streamed(processor, seed=3)
    orders = [ids(data.part(epoch)) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == USABLE


def batches(data: StreamedDataset, count: int, first: int = 0, workers: int = 0, **options: Any) -> list[list[str]]:
    found = iter(StreamBatches(data, 3, num_workers=workers, first=first, **options))
    return [[item["id"] for item in next(found)] for _ in range(count)]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_goes_on_sees_every_remaining_row_once(processor: CodeBindProcessor, workers: int) -> None:
    data = streamed(processor, count=24)
    whole = batches(data, 14, workers=workers)
    assert Counter(name for batch in whole[:6] for name in batch) == Counter(str(n) for n in range(24) if n % 3 != 2)
    # Workers take time to start: with them, once in the first epoch and once in the second.
    for first in (4, 9) if workers else (1, 4, 6, 9):
        assert batches(data, 14 - first, first=first, workers=workers) == whole[first:]


def test_rows_that_were_trained_on_are_not_read_again(
    processor: CodeBindProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, read = streamed(processor, count=24), []
    whole = batches(data, 6)
    monkeypatch.setattr(
        StreamedDataset, "_item", lambda self, cells, *_: read.append(cells["id"]) or {"id": cells["id"]}
    )
    assert batches(data, 2, first=4) == whole[4:6]
    assert sorted(read) == sorted(name for batch in whole[4:] for name in batch)


def test_the_last_rows_of_an_epoch_may_be_left_out(processor: CodeBindProcessor) -> None:
    data = streamed(processor)  # 8 usable rows
    assert [len(batch) for batch in batches(data, 6)] == [3, 3, 2, 3, 3, 2]
    assert [len(batch) for batch in batches(data, 4, drop_last=True)] == [3, 3, 3, 3]


def test_batches_hold_one_set_of_modalities(processor: CodeBindProcessor) -> None:
    eeg = np.zeros((16, 128), np.float32).tolist()
    imu = np.zeros((6, 256), np.float32).tolist()
    rows = [
        {"id": f"{n}", "text": "a", "eeg": eeg if n % 2 else None, "imu": None if n % 2 else imu} for n in range(12)
    ]
    features = Features({**WORDS, "eeg": GRID, "imu": GRID})
    stream = Dataset.from_list(rows, features=features).to_iterable_dataset()
    data = StreamedDataset(stream, None).restricted(["text", "eeg", "imu"], ["eeg", "imu"], ["text"])
    counted = data.part(0, counts_only=True)
    assert Counter(each.modalities for each in counted) == {("text", "eeg"): 6, ("text", "imu"): 6}


def test_unreadable_rows_are_named_or_left_out(processor: CodeBindProcessor, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"id": "good", "text": "a", "eeg": [[0.0] * 128] * 16},
        {"id": "bad", "text": "b", "eeg": [[0.0] * 128] * 17},
    ]
    stream = Dataset.from_list(rows).to_iterable_dataset()
    with pytest.raises(ValueError, match="^bad: eeg.*on_error='skip'"):
        list(StreamedDataset(stream, processor, shuffle_buffer=0))
    skipping = StreamedDataset(stream, processor, on_error="skip", shuffle_buffer=0)
    assert [each.item and each.item["id"] for each in skipping] == ["good", None]
    assert "bad is skipped" in caplog.text
    assert [[item["id"] for item in next(iter(StreamBatches(skipping, 2)))]] == [["good"]]


def test_a_stream_without_usable_rows_says_so(processor: CodeBindProcessor) -> None:
    data = streamed(processor, count=1, shards=1).restricted(["text"], ["text"], ["text"])
    with pytest.raises(ValueError, match="the stream has no batch of rows that can be aligned"):
        next(iter(StreamBatches(data, 2)))


def test_what_is_past_follows_places() -> None:
    past = Past({0: 2}, frozenset([Place(0, 1)]))
    assert [past.has(Place(*place)) for place in ((0, 0), (0, 1), (0, 2), (1, 0))] == [True, False, False, False]


def test_shards_of_files_are_read_by_their_endings(processor: CodeBindProcessor, tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number in range(3):
                picture = io.BytesIO()
                Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(picture, "png")
                sound = io.BytesIO()
                soundfile.write(sound, np.full(1600, 0.1 * number, np.float32), 16_000, format="WAV")
                files = {"png": picture.getvalue(), "txt": f"ring {number}".encode(), "wav": sound.getvalue()}
                for ending, content in files.items():
                    entry = tarfile.TarInfo(f"{shard}-{number}.{ending}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    data = dataset_stream(tmp_path).with_processor(processor)
    assert data.modalities == ("text", "image", "audio")
    assert sorted(set(data.texts)) == ["ring 0", "ring 1", "ring 2"]
    passed = list(data.restricted(["text", "image"], ["image"], ["text", "image"]))
    assert sorted(ids(passed)) == [f"{shard}-{number}" for shard in range(2) for number in range(3)]
    found = {each.item["id"]: each.item["tensors"]["pixel_values"].mean().item() for each in passed}
    assert found["0-0"] == found["1-0"] < found["0-1"] < found["0-2"]
    heard = {each.item["id"]: each.item["tensors"]["input_features"] for each in data}
    sound = {"array": np.full(1600, 0.2, np.float32), "sampling_rate": 16_000}
    torch.testing.assert_close(heard["1-2"], processor(audio=[sound])["input_features"][0], atol=1e-3, rtol=0)


def test_text_of_a_stream_comes_from_labels(processor: CodeBindProcessor) -> None:
    features = Features({"image": ImageFeature(), "label": Value("string")})
    picture = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    stream = Dataset.from_dict({"image": [picture] * 2, "label": ["ring", "star"]}, features=features)
    data = StreamedDataset(stream.to_iterable_dataset(), processor, text_from_label=["a {}"], shuffle_buffer=0)
    assert data.modalities == ("text", "image")
    assert data.texts == ["a ring", "a star"]
    assert [each.modalities for each in data] == [("text", "image")] * 2


def test_a_stream_is_a_stream() -> None:
    with pytest.raises(ValueError, match="stream: got Dataset; allowed: a datasets.IterableDataset"):
        StreamedDataset(rows_of(1))
    with pytest.raises(ValueError, match="on_error: got 'null'"):
        StreamedDataset(rows_of(1).to_iterable_dataset(), on_error="null")
