"""Rows with several captions: every caption is a query, and any caption of a row is a match."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from codebind_hf.data import LazyDataset, PreparedDataset, StoredDataset
from codebind_hf.data.items import Draw, ItemView, as_items
from codebind_hf.evaluation.embedding import EmbeddedModality, EmbeddedSet, embed_dataset
from codebind_hf.evaluation.metrics import owner_recall, retrieval_recall
from codebind_hf.evaluation.sections import retrieval_section


def unit(rows: int, seed: int, dim: int = 6) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dim))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def share_found(query: np.ndarray, gallery: np.ndarray, owners: list[int], gallery_owners: list[int], k: int) -> float:
    """Item by item: is anything of the query's owner among the k nearest?"""
    found = 0
    for vector, owner in zip(query, owners, strict=True):
        nearest = sorted(range(len(gallery)), key=lambda place: -float(vector @ gallery[place]))[:k]
        found += any(gallery_owners[place] == owner for place in nearest)
    return found / len(query)


OWNERS = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_recall_of_owners_is_that_of_a_loop(k: int) -> None:
    captions, pictures = unit(len(OWNERS), 1), unit(5, 2)
    to_captions = owner_recall(pictures, captions, range(5), OWNERS, (k,))
    assert to_captions == {f"recall_at_{k}": pytest.approx(share_found(pictures, captions, list(range(5)), OWNERS, k))}
    to_pictures = owner_recall(captions, pictures, OWNERS, range(5), (k,))
    assert to_pictures == {f"recall_at_{k}": pytest.approx(share_found(captions, pictures, OWNERS, list(range(5)), k))}


@pytest.mark.parametrize("k", [1, 2, 3])
def test_ties_count_as_the_mean_over_all_their_orders(k: int) -> None:
    # Five items that are one vector and one that is better; the query's own are two of the five.
    gallery, owners = np.array([[1.0, 0.1]] + [[1.0, 0.5]] * 5), [9, 7, 7, 8, 8, 8]
    orders = [(0, *order) for order in permutations(range(1, 6))]
    expected = np.mean([any(owners[place] == 7 for place in order[:k]) for order in orders])
    found = owner_recall([[1.0, 0.0]], gallery, [7], owners, (k,))
    assert found[f"recall_at_{k}"] == pytest.approx(expected)


def test_with_one_match_each_the_recall_is_that_of_pairs() -> None:
    query, gallery = unit(9, 3).round(0), unit(9, 4).round(0)
    query[~query.any(1)] = gallery[~gallery.any(1)] = 1.0
    assert owner_recall(query, gallery, range(9), range(9)) == pytest.approx(retrieval_recall(query, gallery))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery_owners": [0, 0, 2]}, "query_owners: got 1"),
        ({"gallery": unit(3, 1, dim=5)}, "widths 6 and 5"),
        ({"query_owners": [0, 1]}, "owners: got 2 owners for 3"),
        ({"k": (0,)}, "k: got"),
    ],
)
def test_what_has_no_recall_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"query": unit(3, 0), "gallery": unit(3, 1), "query_owners": [0, 1, 2], "gallery_owners": [0, 1, 2]}
    with pytest.raises(ValueError, match=message):
        owner_recall(**given | change)


def captioned(fake: SimpleNamespace) -> list[dict[str, Any]]:
    """Five rows with one to three captions; the first of row 2 names another class."""
    rows = fake.rows(5, modalities=("text", "image"))
    for row, count in zip(rows, (1, 3, 2, 1, 2), strict=True):
        row["text"] = [f"{row['text']}, take {number}" for number in range(count)]
    rows[2]["text"][0] = "a photo of a star"
    rows[3]["text"] = rows[3]["text"][0]
    return rows


class Saved:
    """The stand-in, with something to save."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, **values: Any) -> Any:
        return self.processor(**values)

    def save_pretrained(self, folder: str) -> None:
        """Nothing."""


KINDS: dict[str, Callable[[list, Any, Path], Any]] = {
    "raw": lambda rows, processor, folder: rows,
    "memory": lambda rows, processor, folder: PreparedDataset(rows, processor, seed=5),
    "disk": lambda rows, processor, folder: StoredDataset(rows, processor, folder / "rows", seed=5),
    "lazy": lambda rows, processor, folder: LazyDataset(rows, processor, seed=5),
    "view": lambda rows, processor, folder: ItemView(PreparedDataset(rows, processor), range(5), ["text", "image"]),
    "list": lambda rows, processor, folder: list(PreparedDataset(rows, processor).items),
    "view of a list": lambda rows, processor, folder: ItemView(
        as_items(list(PreparedDataset(rows, processor).items)), range(5), ["text", "image"]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_captions_are_embedded_wherever_the_rows_live(kind: str, fake: SimpleNamespace, tmp_path: Path) -> None:
    rows = captioned(fake)
    embedded = embed_dataset(fake.model, fake.processor, KINDS[kind](rows, Saved(fake.processor), tmp_path), 2)
    assert embedded.captions is not None
    assert embedded.captions.positions.tolist() == [0, 1, 1, 1, 2, 2, 3, 4, 4]
    flat = [{"text": text} for row in rows for text in np.atleast_1d(row["text"]).tolist()]
    alone = embed_dataset(fake.model, fake.processor, flat).modalities["text"]
    assert torch.equal(embedded.captions.continuous_embeds, alone.continuous_embeds)
    assert torch.equal(embedded.modalities["text"].embeds, alone.embeds[[0, 1, 4, 6, 7]]), "the first of every row"
    kept = embedded.only(torch.tensor([1, 4]))
    assert kept.captions is not None
    assert kept.captions.positions.tolist() == [1, 1, 1, 4, 4]


def test_training_goes_on_to_draw_one(fake: SimpleNamespace) -> None:
    items = PreparedDataset(captioned(fake), fake.processor, seed=5)
    drawn = {tuple(items[Draw(2, epoch)]["tensors"]["input_ids"].tolist()) for epoch in range(20)}
    assert len(drawn) == 2
    assert "captions" not in items.take(Draw(2), ["image"])


def test_a_view_without_text_has_no_captions(fake: SimpleNamespace) -> None:
    view = ItemView(PreparedDataset(captioned(fake), fake.processor), [1, 2], ["image"])
    embedded = embed_dataset(fake.model, fake.processor, view)
    assert set(embedded.modalities) == {"image"}
    assert embedded.captions is None


def test_a_lazy_row_that_is_skipped_is_a_row_of_nothing(fake: SimpleNamespace) -> None:
    rows = captioned(fake)
    rows[1]["image"] = "broken"
    embedded = embed_dataset(fake.model, fake.processor, LazyDataset(rows, fake.processor, on_error="skip"))
    assert len(embedded) == 5
    assert embedded.modalities["image"].positions.tolist() == [0, 2, 3, 4]
    assert embedded.ids[1] is None


def test_a_caption_that_cannot_be_read_is_left_out_by_itself(fake: SimpleNamespace) -> None:
    class Strict(type(fake.processor)):  # type: ignore[misc]
        def __call__(self, **values: Any) -> Any:
            if any("take 1" in text for text in values.get("text", ())):
                raise ValueError("text: too long")
            return super().__call__(**values)

    embedded = embed_dataset(fake.model, Strict(), captioned(fake), on_error="skip")
    assert embedded.captions is not None
    assert embedded.captions.positions.tolist() == [0, 1, 1, 2, 3, 4]
    assert [(failure.position, failure.modality) for failure in embedded.failures] == [(p, "text") for p in (1, 2, 4)]


def test_retrieval_counts_every_caption(fake: SimpleNamespace) -> None:
    rows = captioned(fake)
    section = retrieval_section(embed_dataset(fake.model, fake.processor, rows))
    owners = [0, 1, 1, 1, 2, 2, 3, 4, 4]
    # The text names a class, so a caption finds its picture; one of nine names the class of another.
    assert section["text_to_image"]["recall_at_1_continuous"] == pytest.approx(8 / 9)
    assert section["text_to_image"]["chance_at_1"] == pytest.approx(1 / 5)
    assert section["text_to_image"]["n"] == 9
    # Row 2 is still found by its other caption. Row 4 shares its vector with a caption of row 2: two of three are own.
    assert section["image_to_text"]["recall_at_1_continuous"] == pytest.approx((4 + 2 / 3) / 5)
    chances = [owners.count(row) / 9 for row in range(5)]
    assert section["image_to_text"]["chance_at_1"] == pytest.approx(np.mean(chances))
    assert section["image_to_text"]["class_only_at_1"] == 1.0, "every row is the only one of its class"
    assert section["image_to_text"]["n"] == 5
    for row in rows:
        row["text"] = np.atleast_1d(row["text"]).tolist()[0]
    first = retrieval_section(embed_dataset(fake.model, fake.processor, rows))
    assert first["image_to_text"]["recall_at_1_continuous"] < section["image_to_text"]["recall_at_1_continuous"]
    assert first["text_to_image"]["n"] == 5


def test_knowing_the_class_alone_finds_one_of_its_captions_by_chance() -> None:
    # Two rows of one class, of three captions and one: of four places, three are own, or one.
    embeds = torch.eye(4)
    pictures, captions = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0, 1, 2])
    rest = torch.tensor([[0.0, 0, 0, 1], *torch.eye(4).tolist()])
    embedded = EmbeddedSet(
        {
            "image": EmbeddedModality(pictures, embeds[:3], embeds[:3]),
            "text": EmbeddedModality(pictures, rest[:3], rest[:3]),
        },
        *([None] * 3, ["a", "a", "b"], [{}] * 3),
        captions=EmbeddedModality(captions, rest, rest),
    )
    section = retrieval_section(embedded)
    assert section["image_to_text"]["class_only_at_1"] == pytest.approx((3 / 4 + 1 / 4 + 1) / 3)
    assert section["text_to_image"]["class_only_at_1"] == pytest.approx((4 * 1 / 2 + 1) / 5)
