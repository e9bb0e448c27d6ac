"""Cosines within classes and mutual information of codes: against loops, scikit-learn and hand-computed values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

from codebind_hf.evaluation.class_structure import (
    information_section,
    intra_class_cosine,
    intra_class_section,
    mean_cosine,
    normalized_mutual_information,
)
from codebind_hf.evaluation.embedding import EmbeddedSet, embed_dataset


def embedded_rows(fake: SimpleNamespace, number: int) -> EmbeddedSet:
    return embed_dataset(fake.model, fake.processor, fake.rows(number), progress=False)


def looped(embeds: np.ndarray, labels: list[str], other: np.ndarray) -> float:
    means = []
    for value in sorted(set(labels)):
        mine = [row for row, label in enumerate(labels) if label == value]
        cosines = [
            embeds[i] @ other[j] / np.linalg.norm(embeds[i]) / np.linalg.norm(other[j])
            for i in mine
            for j in mine
            if i != j
        ]
        if cosines:
            means.append(np.mean(cosines))
    return float(np.mean(means))


def test_the_cosine_within_classes_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    embeds, other = rng.standard_normal((9, 4)), rng.standard_normal((9, 4))
    labels = list("aaabbbbcd")
    assert intra_class_cosine(embeds, labels) == pytest.approx(looped(embeds, labels, embeds))
    assert intra_class_cosine(embeds, labels, other) == pytest.approx(looped(embeds, labels, other))
    assert mean_cosine(embeds) == pytest.approx(looped(embeds, ["x"] * 9, embeds))


def test_the_cosine_of_two_classes_is_the_one_worked_out() -> None:
    # Class a: cos((1, 0), (0, 2)) = 0. Class b: cos((1, 1), (3, 3)) = 1. Each counts once, whatever its size.
    embeds = [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 3.0], [5.0, 5.0]]
    assert intra_class_cosine(embeds, list("aabbb")) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("labels", "other", "message"),
    [
        pytest.param(["a", "b", "c"], None, "labels: none of 3 classes has two items", id="alone"),
        pytest.param(["a", "a"], None, r"got shapes \(3, 2\), \(2,\)", id="labels"),
        pytest.param(["a", "a", "a"], np.ones((3, 4)), r"and \(3, 4\); expected a row of each", id="widths"),
    ],
)
def test_what_has_no_cosine_within_classes_is_named(labels: list[str], other: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        intra_class_cosine(np.ones((3, 2)), labels, other)


def test_the_section_knows_which_part_holds_the_class(fake: SimpleNamespace) -> None:
    embedded = embedded_rows(fake, 100)
    entry = intra_class_section(embedded)["eeg"]
    eeg = embedded.modalities["eeg"]
    labels = [str(label) for label in embedded.labels]
    for key, part in (("shared", eeg.embeds), ("specific_continuous", eeg.continuous_specific_embeds)):
        assert entry[key] == pytest.approx(looped(part.numpy(), labels, part.numpy()))
    assert entry["shared"] > entry["shared_between"] + 0.3
    assert entry["specific"] == pytest.approx(entry["specific_between"], abs=0.05)
    assert (entry["classes"], entry["n"]) == (5, 100)
    # The parts of the stand-in differ in width.
    assert "cross" not in entry
    assert "text" not in intra_class_section(embedded)


def test_parts_of_one_width_are_compared_with_each_other(fake: SimpleNamespace) -> None:
    embedded = embedded_rows(fake, 20)
    eeg = embedded.modalities["eeg"]
    eeg.specific_embeds, eeg.continuous_specific_embeds = eeg.embeds.roll(1, 0), -eeg.continuous_embeds
    entry = intra_class_section(embedded)["eeg"]
    labels = [str(label) for label in embedded.labels]
    assert entry["cross"] == pytest.approx(looped(eeg.embeds.numpy(), labels, eeg.embeds.roll(1, 0).numpy()))
    assert entry["cross_continuous"] == pytest.approx(-entry["shared_continuous"])


# Mutual information


def test_information_is_scikit_learns_of_every_segment() -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 7, (80, 5)) * 3
    labels = np.array(list("abcd"))[(ids[:, 2] // 3 + (rng.random(80) < 0.3)) % 4]
    found = normalized_mutual_information(ids, labels)
    assert found == pytest.approx([normalized_mutual_info_score(labels, column) for column in ids.T])
    assert found.argmax() == 2


@pytest.mark.parametrize(
    ("ids", "labels", "expected"),
    [
        pytest.param([[0], [0], [1], [1]], list("aabb"), 1.0, id="same"),
        pytest.param([[0], [1], [0], [1]], list("aabb"), 0.0, id="independent"),
        pytest.param([[3], [3], [3], [3]], list("aabb"), 0.0, id="one code"),
        pytest.param([[3], [3]], list("aa"), 1.0, id="nothing to say"),
    ],
)
def test_information_of_the_extremes(ids: list, labels: list[str], expected: float) -> None:
    assert normalized_mutual_information(ids, labels).tolist() == pytest.approx([expected])
    assert normalized_mutual_info_score(labels, np.array(ids)[:, 0]) == pytest.approx(expected)


def test_ids_of_another_number_than_the_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ids, labels: got shapes \(3, 2\) and \(2,\)"):
        normalized_mutual_information(np.zeros((3, 2), int), ["a", "b"])


def test_codes_say_what_their_part_holds_and_permuted_labels_say_nothing(fake: SimpleNamespace) -> None:
    embedded = embedded_rows(fake, 400)
    section = information_section(embedded)["eeg"]
    mark, of_class = section["mark"], section["class"]
    assert mark["specific"] > mark["specific_permuted"] + 0.2
    assert mark["shared"] == pytest.approx(mark["shared_permuted"], abs=0.03)
    assert of_class["shared"] > of_class["shared_permuted"] + 0.2
    assert of_class["specific"] == pytest.approx(of_class["specific_permuted"], abs=0.03)
    assert mark["specific_max"] >= mark["specific"]
    values = [attributes["eeg.mark"] for attributes in embedded.attributes]
    assert mark["category"] == pytest.approx(normalized_mutual_info_score(values, embedded.labels))
    codes = embedded.modalities["eeg"].specific_codes.numpy()
    assert mark["specific"] == pytest.approx(
        np.mean([normalized_mutual_info_score(values, column) for column in codes.T])
    )
    assert "category" not in of_class
    assert information_section(embedded, seed=0) == information_section(embedded)
    assert information_section(embedded, seed=1)["eeg"]["mark"]["specific"] == mark["specific"]


def test_without_attributes_or_codes_nothing_is_said(fake: SimpleNamespace) -> None:
    embedded = embedded_rows(fake, 30)
    for modality in embedded.modalities.values():
        modality.shared_codes = modality.specific_codes = None
    assert set(information_section(embedded)["eeg"]["mark"]) == {"n", "category"}
    embedded.attributes = [{} for _ in range(30)]
    assert information_section(embedded) == {}
    embedded.labels = [None] * 30
    assert intra_class_section(embedded) == {}
    assert torch.is_tensor(embedded.modalities["eeg"].embeds)
