from types import SimpleNamespace

import pytest
import torch

from codebind_hf.evaluation import sections
from codebind_hf.evaluation.embedding import ClassEmbeds, EmbeddedModality, EmbeddedSet, embed_dataset
from codebind_hf.evaluation.sections import (
    agreement_section,
    codebook_section,
    emergent_pairs,
    mixed_pool_section,
    retrieval_section,
    zero_shot_section,
)


def modality(embeds: list, positions: list[int] | None = None, continuous: list | None = None) -> EmbeddedModality:
    rows = torch.tensor(embeds, dtype=torch.float32)
    before = rows if continuous is None else torch.tensor(continuous, dtype=torch.float32)
    return EmbeddedModality(torch.arange(len(rows)) if positions is None else torch.tensor(positions), rows, before)


def embedded_set(modalities: dict[str, EmbeddedModality], labels: list | None = None, rows: int = 4) -> EmbeddedSet:
    return EmbeddedSet(modalities, [None] * rows, labels or [None] * rows, [{} for _ in range(rows)])


EYE = [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]]


def test_zero_shot_scores_both_read_outs_of_every_modality_but_text() -> None:
    swapped = [EYE[1], EYE[0], EYE[2], EYE[3]]
    embedded = embedded_set({"text": modality(EYE), "audio": modality(swapped, continuous=EYE)}, labels=list("abcd"))
    classes = ClassEmbeds(torch.tensor(EYE), torch.tensor(EYE))
    section = zero_shot_section(embedded, classes, list("abcd"))
    low, high = section["audio"].pop("low"), section["audio"].pop("high")
    assert section == {
        "audio": {"accuracy": 0.5, "accuracy_continuous": 1.0, "chance": 0.25, "majority": 0.25, "n": 4}
    }
    # Wilson's interval of 2 of 4.
    assert (low, high) == (pytest.approx(0.15004, abs=1e-5), pytest.approx(0.84996, abs=1e-5))


def test_zero_shot_leaves_out_rows_without_a_label() -> None:
    embedded = embedded_set({"audio": modality(EYE)}, labels=["a", None, "c", None])
    section = zero_shot_section(embedded, ClassEmbeds(torch.tensor(EYE), torch.tensor(EYE)), list("abcd"))
    assert section["audio"]["n"] == 2


def test_a_label_outside_the_classes_is_refused() -> None:
    embedded = embedded_set({"audio": modality(EYE)}, labels=["a", "b", "x", "a"])
    with pytest.raises(ValueError, match="'x'"):
        zero_shot_section(embedded, ClassEmbeds(torch.tensor(EYE), torch.tensor(EYE)), ["a", "b"])


def test_retrieval_matches_rows_that_have_both_modalities() -> None:
    embedded = embedded_set({"audio": modality([EYE[3], EYE[1]], positions=[3, 1]), "depth": modality(EYE)})
    section = retrieval_section(embedded)
    assert set(section) == {"audio_to_depth", "depth_to_audio"}
    assert section["audio_to_depth"]["n"] == 2
    assert section["audio_to_depth"]["recall_at_1"] == 1.0
    assert section["audio_to_depth"]["chance_at_1"] == 0.5
    assert section["audio_to_depth"]["chance_at_10"] == 1.0


def test_equal_texts_find_their_row_only_by_chance_within_the_class() -> None:
    # Two classes of two rows, texts that name the class, images that tell every row apart.
    texts = [EYE[0], EYE[0], EYE[1], EYE[1]]
    images = [[1, 0.1, 0.3, 0], [1, 0.1, 0, 0.3], [0.1, 1, 0.3, 0], [0.1, 1, 0, 0.3]]
    embedded = embedded_set({"text": modality(texts), "image": modality(images)}, labels=["a", "a", "b", "b"])
    section = retrieval_section(embedded)
    assert section["image_to_text"]["recall_at_1"] == 0.5
    assert section["text_to_image"]["recall_at_1"] == pytest.approx(0.5)
    assert section["text_to_image"]["class_only_at_1"] == 0.5


def test_emergent_pairs_are_those_without_a_bridge_unless_named() -> None:
    embedded = embedded_set({name: modality(EYE) for name in ("text", "image", "audio", "depth")})
    assert emergent_pairs(embedded) == ["audio_to_depth", "depth_to_audio"]
    trained = [("image", "text"), ("audio", "text"), ("depth", "audio"), ("depth", "text")]
    assert emergent_pairs(embedded, trained) == [
        "image_to_audio",
        "image_to_depth",
        "audio_to_image",
        "depth_to_image",
    ]


def test_a_mixed_pool_shows_a_gap_between_the_modalities() -> None:
    # Every modality in a corner of its own: the nearest item is always of the query's modality, never the right one.
    images = [[1, 0.1, 0, 0], [1, 0.2, 0, 0], [1, 0.3, 0, 0]]
    sounds = [[0.1, 0, 1, 0], [0.2, 0, 1, 0], [0.3, 0, 1, 0]]
    embedded = embedded_set({"image": modality(images), "audio": modality(sounds)}, rows=3)
    section = mixed_pool_section(embedded)
    assert section["image"]["nearest_same_modality"] == 1.0
    assert section["image"]["recall_at_1"] == 0.0
    assert section["image"]["recall_at_10"] == 1.0
    assert section["image"]["same_modality_chance"] == pytest.approx(2 / 5)
    assert section["image"]["pool"] == 5


def test_a_mixed_pool_of_matching_modalities_finds_the_other_modality() -> None:
    embedded = embedded_set({"image": modality(EYE), "audio": modality(EYE)})
    section = mixed_pool_section(embedded)
    assert section["audio"]["recall_at_1"] == 1.0
    assert section["audio"]["nearest_same_modality"] == 0.0


@pytest.mark.parametrize("sounds", [[EYE[1]], [EYE[0]]], ids=["far", "near"])
def test_the_only_item_of_a_modality_has_no_other_to_be_nearest_to(sounds: list) -> None:
    embedded = embedded_set({"image": modality(EYE), "audio": modality(sounds)})
    section = mixed_pool_section(embedded)
    assert section["audio"]["n"] == 1
    assert section["audio"]["nearest_same_modality"] == section["audio"]["same_modality_chance"] == 0.0
    assert section["audio"]["nearest_same_modality_continuous"] == 0.0
    # The sound is of row 0, and as near as its own picture in one case only.
    assert section["audio"]["recall_at_1"] == (1.0 if sounds[0] == EYE[0] else 0.0)


def test_a_large_pool_is_cut_to_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "MOST_POOLED", 4)
    embedded = embedded_set({"image": modality(EYE), "audio": modality(EYE)})
    section = mixed_pool_section(embedded)
    assert section["image"]["pool"] == 3
    assert section["image"]["recall_at_1"] == section["audio"]["recall_at_1"] == 1.0


def test_one_modality_alone_has_no_mixed_pool() -> None:
    assert mixed_pool_section(embedded_set({"image": modality(EYE)})) == {}


def test_image_and_video_share_the_book_of_the_vision_encoder(fake: SimpleNamespace) -> None:
    embedded = embed_dataset(fake.model, fake.processor, fake.rows(20), progress=False)
    section = codebook_section(embedded, fake.model.config)
    assert set(section) == {"shared", "vision", "audio", "thermal", "point", "eeg"}
    assert set(section["vision"]["by_modality"]) == {"image", "video"}
    assert "text" in section["shared"]["by_modality"]


def test_modalities_without_codes_have_no_codebook_section(fake: SimpleNamespace) -> None:
    assert codebook_section(embedded_set({"image": modality(EYE)}), fake.model.config) == {}
    assert agreement_section(embedded_set({"image": modality(EYE), "audio": modality(EYE)}), fake.model.config) == {}


def test_modalities_of_one_object_agree_on_codes_above_chance(fake: SimpleNamespace) -> None:
    section = agreement_section(
        embed_dataset(fake.model, fake.processor, fake.rows(60), progress=False), fake.model.config
    )
    assert section["image_and_audio"]["agreement"] > 2 * section["image_and_audio"]["chance"]
    assert "audio_and_image" not in section
