"""Items wherever their tensors live: the same bits, the same drawn captions, and no row opened before its time."""

import copy
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codebind_hf import CodeBindProcessor
from codebind_hf.data import Augmentation, LazyDataset, NineSenses, PreparedDataset, StoredDataset
from codebind_hf.data.items import Draw, Items, ItemView, ListedItems
from codebind_hf.data.loading import RowView, estimated_bytes, load_items
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.training.tokenization import build_tokenizer


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    tokenizer = build_tokenizer(["a wooden ring", "a metal star of a kind"])
    return CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), tokenizer)


CAPTIONED = [
    {"id": "a", "text": ["a ring", "a wooden ring", "a metal star of a kind"], "eeg": np.ones((16, 128), np.float32)},
    {"id": "b", "text": "a star", "label": ["star", "metal"], "attributes": {"x": 1}},
    {"id": "c", "eeg": np.full((16, 128), 2, np.float32), "label": "ring"},
]


class Watched(list):
    """Rows that count how often each is opened."""

    def __init__(self, rows: Any) -> None:
        super().__init__(rows)
        self.opened: Counter[int] = Counter()
        self.row_modalities = [tuple(name for name in ("text", "eeg") if name in row) for row in rows]

    def __getitem__(self, index: Any) -> Any:
        self.opened[index] += 1
        return super().__getitem__(index)


def made(kind: str, rows: Any, processor: CodeBindProcessor, folder: Path, **options: Any) -> Items:
    if kind == "disk":
        return StoredDataset(rows, processor, folder / "rows", **options)
    if kind == "list":
        items = ListedItems(list(PreparedDataset(rows, processor).items))
        items.seed = options.get("seed", 0)
        return items
    return {"memory": PreparedDataset, "lazy": LazyDataset}[kind](rows, processor, **options)


def assert_same(one: Any, other: Any) -> None:
    for name in ("id", "label", "attributes"):
        assert one[name] == other[name]
    assert list(one["tensors"]) == list(other["tensors"])
    for name, value in one["tensors"].items():
        found = other["tensors"][name]
        if name in ("input_ids", "attention_mask"):
            # In memory all texts have one length; otherwise the collator pads them.
            value, found = (x[: each["tensors"]["attention_mask"].sum()] for x, each in ((value, one), (found, other)))
        assert value.dtype == found.dtype
        assert torch.equal(value, found), name


@pytest.mark.parametrize("kind", ["lazy", "disk"])
def test_items_are_the_same_wherever_they_live(kind: str, processor: CodeBindProcessor, tmp_path: Path) -> None:
    rows = NineSenses("train", num_bridge=2, num_target=1, modalities=("text", "image", "audio", "eeg"))
    expected, items = PreparedDataset(rows, processor), made(kind, rows, processor, tmp_path)
    assert list(items.row_modalities) == expected.row_modalities
    assert len(items) == len(expected) > 3
    for one, other in zip(expected, items, strict=True):
        assert_same(one, other)
    assert_same(expected[-1], items[-1])
    if kind == "disk":
        assert items.class_names == expected.class_names


@pytest.mark.parametrize("kind", ["memory", "lazy", "disk", "list"])
def test_a_whole_item_has_its_first_caption_and_all_of_them(
    kind: str, processor: CodeBindProcessor, tmp_path: Path
) -> None:
    every = [processor(text=[text]).input_ids[0].tolist() for text in CAPTIONED[0]["text"]]
    for seed in range(6):
        item = made(kind, CAPTIONED, processor, tmp_path / str(seed), seed=seed).whole(0, ["text"])
        found = [each["input_ids"][: each["attention_mask"].sum()].tolist() for each in item["captions"]]
        assert found == every
        tensors = item["tensors"]
        assert tensors["input_ids"][: tensors["attention_mask"].sum()].tolist() == every[0]


@pytest.mark.parametrize("kind", ["memory", "lazy", "disk", "list"])
def test_a_caption_is_drawn_by_epoch_and_row_and_nothing_else(
    kind: str, processor: CodeBindProcessor, tmp_path: Path
) -> None:
    items = made(kind, CAPTIONED, processor, tmp_path, seed=3)
    every = {tuple(processor(text=[text]).input_ids[0].tolist()) for text in CAPTIONED[0]["text"]}

    def seen(epoch: int) -> tuple[int, ...]:
        tensors = items[Draw(0, epoch)]["tensors"]
        return tuple(tensors["input_ids"][tensors["attention_mask"].bool()].tolist())

    drawn = [seen(epoch) for epoch in range(24)]
    assert set(drawn) == every
    assert drawn == [seen(epoch) for epoch in range(24)]
    expected = [CAPTIONED[0]["text"][np.random.default_rng([3, epoch, 0]).integers(3)] for epoch in range(24)]
    assert drawn == [tuple(processor(text=[text]).input_ids[0].tolist()) for text in expected]


@pytest.mark.parametrize("kind", ["memory", "lazy", "disk"])
def test_an_item_may_lack_modalities_that_are_not_asked_for(
    kind: str, processor: CodeBindProcessor, tmp_path: Path
) -> None:
    items = made(kind, CAPTIONED, processor, tmp_path)
    assert set(items.take(Draw(0), ["eeg"])["tensors"]) == {"eeg_values"}
    assert set(items.take(Draw(0), ["text"])["tensors"]) == {"input_ids", "attention_mask"}
    assert items[1]["label"] == ["star", "metal"]


def test_lazy_rows_are_opened_when_their_turn_comes(processor: CodeBindProcessor) -> None:
    rows = Watched(CAPTIONED)
    items = LazyDataset(rows, processor)
    view = ItemView(items, [2, 0], ["eeg"])
    assert view.row_modalities == [("eeg",), ("eeg",)]
    assert rows.opened == {}
    assert view[1]["id"] == "a"
    assert rows.opened == {0: 1}
    assert RowView(rows, "eeg", ["eeg"]).row_modalities == [("eeg",), ("eeg",)]
    assert rows.opened == {0: 1}


@pytest.mark.parametrize("kind", ["memory", "lazy", "disk"])
def test_items_go_to_workers(kind: str, processor: CodeBindProcessor, tmp_path: Path) -> None:
    items = made(kind, CAPTIONED, processor, tmp_path)
    first = items[0]
    received = pickle.loads(pickle.dumps(items))  # noqa: S301
    assert_same(received[0], first)


BAD = [{"id": "good", "text": "a ring"}, {"id": "file", "image": "no/such/file.png"}]


def test_a_lazy_row_that_is_bad_is_named_or_skipped(
    processor: CodeBindProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OSError, match="^file: .*file.png.*on_error='skip'"):
        LazyDataset(BAD, processor)[1]
    assert LazyDataset(BAD, processor, on_error="skip")[1] is None
    assert "file is skipped" in caplog.text


def test_stored_rows_that_are_bad_are_named_or_skipped(processor: CodeBindProcessor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 of 2 rows cannot be prepared.*\n.*file: images"):
        StoredDataset(BAD, processor, tmp_path / "rows")
    assert not (tmp_path / "rows").exists()
    items = StoredDataset(BAD, processor, tmp_path / "rows", on_error="skip")
    assert [item["id"] for item in items] == ["good"]
    assert list(items.skipped) == ["file"]


def test_stored_rows_are_made_once_for_one_source_and_processor(processor: CodeBindProcessor, tmp_path: Path) -> None:
    rows, folder = Watched(CAPTIONED), tmp_path / "rows"
    StoredDataset(rows, processor, folder)
    made_at = (folder / "rows.json").stat().st_mtime_ns
    again = StoredDataset(rows, processor, folder)
    assert (folder / "rows.json").stat().st_mtime_ns == made_at
    assert again[2]["tensors"]["eeg_values"].shape == (16, 128)
    changed = [*CAPTIONED[:2], {**CAPTIONED[2], "eeg": np.zeros((16, 128), np.float32)}]
    assert not StoredDataset(changed, processor, folder)[2]["tensors"]["eeg_values"].any()
    other = CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["other words"]))
    before = (folder / "rows.json").read_text()
    StoredDataset(changed, other, folder)
    assert (folder / "rows.json").read_text() != before


def test_a_folder_of_something_else_is_left_alone(processor: CodeBindProcessor, tmp_path: Path) -> None:
    file = tmp_path / "work" / "thesis.txt"
    file.parent.mkdir()
    file.write_text("mine")
    with pytest.raises(ValueError, match="holds other files.*Fix: name a folder of its own"):
        StoredDataset(CAPTIONED, processor, file.parent)
    assert file.read_text() == "mine"


def test_damaged_files_say_what_to_do(processor: CodeBindProcessor, tmp_path: Path) -> None:
    StoredDataset(CAPTIONED, processor, tmp_path / "rows")
    file = tmp_path / "rows" / "rows-00000.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(OSError, match="tensors of row 'a' cannot be read.*delete the folder"):
        StoredDataset(CAPTIONED, processor, tmp_path / "rows")[0]


def test_what_is_large_stays_out_of_memory(processor: CodeBindProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    eeg, text = 16 * 128 * 4, sum(value.nbytes for value in processor(text=["a ring"], return_tensors="pt").values())
    rows = [*CAPTIONED, {"image": "gone.png"}]
    assert estimated_bytes(CAPTIONED[1:], processor) >= eeg + text
    assert 2 * eeg < estimated_bytes(rows, processor) < 2 * eeg + 1000
    assert isinstance(load_items(CAPTIONED, processor), PreparedDataset)
    monkeypatch.setattr("codebind_hf.data.loading.MEMORY_LIMIT", 2 * eeg)
    assert isinstance(load_items(CAPTIONED, processor), LazyDataset)
    assert isinstance(load_items(CAPTIONED, processor, "memory"), PreparedDataset)


def test_where_items_live_is_checked(processor: CodeBindProcessor) -> None:
    with pytest.raises(ValueError, match="loading: got 'ram'; allowed: 'auto', 'memory', 'disk', 'lazy'"):
        load_items(CAPTIONED, processor, "ram")
    with pytest.raises(ValueError, match="folder: got None with loading='disk'"):
        load_items(CAPTIONED, processor, "disk")
    with pytest.raises(ValueError, match="empty list of captions"):
        PreparedDataset([{"text": []}], processor)


def test_lazy_rows_are_augmented_by_seed_epoch_and_row(processor: CodeBindProcessor) -> None:
    rows = NineSenses("train", num_bridge=2, num_target=0, modalities=("text", "image"))
    own = copy.copy(processor)
    own.augmentation = {"image": [{"name": "random_resized_crop"}, {"name": "horizontal_flip"}]}
    items = load_items(rows, own, seed=5, augment=True)
    assert isinstance(items, LazyDataset)
    first, again, later, other = (items[Draw(*draw)]["tensors"] for draw in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert torch.equal(first["pixel_values"], again["pixel_values"])
    assert not torch.equal(first["pixel_values"], later["pixel_values"])
    expected = Augmentation(own).prepare(rows[1], (5, 0, 1))["tensors"]
    assert torch.equal(other["pixel_values"], expected["pixel_values"])
    plain = LazyDataset(rows, own)[0]["tensors"]["pixel_values"]
    assert torch.equal(plain, PreparedDataset(rows, processor)[0]["tensors"]["pixel_values"])
    with pytest.raises(ValueError, match="loading: got 'memory' with an augmentation.*Fix: 'lazy'"):
        load_items(rows, own, "memory", augment=True)
