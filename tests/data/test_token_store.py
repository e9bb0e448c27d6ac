"""Pooled tokens in files: by row and caption, under a key, whole or not at all, and never those of something else."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import small_config, tiny_model
from torch import Tensor

from codebind_hf.data import CodeBindCollator
from codebind_hf.data.items import Draw, ItemView, ListedItems, drawn
from codebind_hf.data.pooled_tokens import PooledItems, TokenStore, pool_rows, tokens_key


ROWS = {2: [torch.randn(1, 4)], 0: [torch.randn(2, 4), torch.randn(2, 4)], 5: []}


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    made = TokenStore(tmp_path / "image-a", "a", 7)
    made.write(ROWS)
    made.scan()
    return made


def test_rows_are_read_by_number_and_caption(store: TokenStore) -> None:
    assert store.missing(range(7)) == [1, 3, 4, 6]
    assert torch.equal(store.read(Draw(2), 0), ROWS[2][0])
    for epoch in range(6):
        draw = Draw(0, epoch)
        assert torch.equal(store.read(draw, 3), ROWS[0][drawn(2, 3, draw)])
    assert {drawn(2, 3, Draw(0, epoch)) for epoch in range(6)} == {0, 1}
    assert store.read(Draw(5), 0) is None, "a row that could not be read"
    with pytest.raises(ValueError, match="has no tokens of row 1"):
        store.read(Draw(1), 0)


def test_a_store_grows_and_goes_to_workers(store: TokenStore) -> None:
    store.read(Draw(2), 0)
    added = {1: [torch.randn(1, 4).bfloat16()]}
    store.write(added)
    store.scan()
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert torch.equal(copy.read(Draw(1), 0), added[1][0])
    assert torch.equal(copy.read(Draw(2), 0), ROWS[2][0])
    again = TokenStore(store.folder, "a", 7)
    again.scan(check=True)
    assert again.missing(range(7)) == [3, 4, 6]
    assert not list(store.folder.glob("*.draft"))


def test_files_of_another_key_are_not_read(store: TokenStore, caplog: pytest.LogCaptureFixture) -> None:
    other = TokenStore(store.folder, "b", 7)
    other.scan(check=True)
    assert other.missing(range(7)) == list(range(7))
    assert "is of another tower or other rows, and not read" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "renamed"])
def test_a_damaged_file_is_an_error_that_names_it(store: TokenStore, damage: str) -> None:
    (path,) = store.folder.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "renamed":
        path = path.rename(path.with_name("000000000-0123456789abcdef01234567.safetensors"))
    elif damage == "changed":
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    with pytest.raises(OSError, match=f"{path.name}: holds other bytes than were written. Fix: delete the file"):
        TokenStore(store.folder, "a", 7).scan(check=True)
    if damage in ("cut", "empty"):
        with pytest.raises(OSError, match=f"{path.name}: is damaged .* Fix: delete the file"):
            TokenStore(store.folder, "a", 7).scan()


def test_a_file_that_goes_away_while_training_is_an_error(store: TokenStore) -> None:
    shutil.rmtree(store.folder)
    with pytest.raises(OSError, match="cannot be read .* Fix: delete the file, and its rows go through the tower"):
        store.read(Draw(2), 0)


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "image-a").write_text("a file in the way")
    with pytest.raises(OSError, match="image-a"):
        TokenStore(tmp_path / "image-a", "a", 7).write(ROWS)


def test_the_key_is_of_the_tower_the_rows_and_the_precision() -> None:
    def key(change: Any = None, precision: str = "no", rows: str = "rows", name: str = "image", **fields: Any) -> str:
        model = tiny_model(small_config("text", "image", "depth", **fields))
        if change is not None:
            with torch.no_grad():
                change(model)
        return tokens_key(model, name, rows, precision)

    first = key()
    assert key() == first
    assert key(lambda model: model.encoders["vision"].shared_head.projection.weight.add_(1)) == first, "heads run live"
    assert key(lambda model: model.codebooks.shared.codes.neg_()) == first
    changed = {
        "weight": key(lambda model: model.encoders["vision"].tower.layers[1].mlp.fc2.weight[0, 0].add_(1e-6)),
        "type": key(lambda model: model.bfloat16()),
        "attention": key(lambda model: model.set_attn_implementation("eager")),
        "precision": key(precision="bf16"),
        "rows": key(rows="others"),
        "modality": key(name="video"),
        "configuration": key(vision_config={"layer_norm_eps": 1e-4}),
    }
    assert len({first, *changed.values()}) == 1 + len(changed), changed


def rows_of(count: int) -> ListedItems:
    return ListedItems([{"tensors": {"pixel_values": torch.full((3, 4, 4), float(i))}, "id": i} for i in range(count)])


def mean(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.flatten(1).mean(1).reshape(-1, 1, 1)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_every_row_goes_through_the_tower_once_in_even_batches(workers: int) -> None:
    sizes = []

    def pooled(values: Tensor, mask: Tensor | None) -> Tensor:
        sizes.append(len(values))
        return mean(values, mask)

    before = torch.get_rng_state()
    found = dict(pool_rows(rows_of(70), range(1, 66), "image", CodeBindCollator(), pooled, workers))
    assert torch.equal(torch.get_rng_state(), before), "training draws what it would have drawn"
    assert sizes == [33, 32], "not 64 and one alone"
    assert list(found) == list(range(1, 66))
    assert all(torch.equal(tokens[0], torch.full((1, 1), float(position))) for position, tokens in found.items())


def test_items_have_tokens_instead_of_tensors_through_any_views(tmp_path: Path) -> None:
    items = [
        {"tensors": {"pixel_values": torch.ones(3, 4, 4), "eeg_values": torch.full((2, 3), float(i))}, "id": str(i)}
        for i in range(6)
    ]
    whole = ListedItems(items)
    view = ItemView(ItemView(whole, [5, 3, 1], ["image", "eeg"]), [2, 0], ["image", "eeg"])
    store = TokenStore(tmp_path / "image", "a", 6)
    store.write({position: [torch.full((1, 4), float(position))] for position in (1, 3)} | {5: []})
    store.scan()
    pooled = PooledItems(view, {"image": store})
    assert (len(pooled), pooled.row_modalities) == (2, [("image", "eeg")] * 2)
    item = pooled[Draw(0, 4)]
    assert list(item["tensors"]) == ["eeg_values"]
    assert (item["id"], float(item["tensors"]["eeg_values"][0, 0])) == ("1", 1.0)
    assert np.array_equal(item["pooled_tokens"]["image"], np.full((1, 4), 1.0))
    assert pooled[1] is None, "skipped, as it is without tokens"
    assert pooled.take(Draw(1), ["eeg"])["pooled_tokens"] == {}
    batch = CodeBindCollator()([item, {**item, "id": "again"}, None])
    assert batch["pooled_tokens"]["image"].shape == (2, 1, 4)
    assert set(batch["rows"]) == {"image", "eeg"}
    assert "pixel_values" not in batch
