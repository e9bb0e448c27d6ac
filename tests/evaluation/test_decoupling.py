"""The matrix of probes, its controls, and what is counted from it, on a stand-in whose parts are known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from codebind_hf.evaluation.controls import RAW_NUMBERS, Controls, controls_of
from codebind_hf.evaluation.decoupling import (
    ControlSets,
    decoupling_section,
    fine_grained_section,
    halves,
    labels_of,
    probe_section,
    share_of_best,
)
from codebind_hf.evaluation.embedding import EmbeddedSet, embed_dataset
from codebind_hf.evaluation.probes import random_projection


def embedded_rows(fake: SimpleNamespace, number: int) -> EmbeddedSet:
    return embed_dataset(fake.model, fake.processor, fake.rows(number), progress=False)


def controls(fake: SimpleNamespace, number: int, names: tuple[str, ...] = ("eeg", "image")) -> ControlSets:
    rows = fake.rows(number)
    made = controls_of(fake.model, fake.processor, rows, embedded_rows(fake, number), names)
    return made, made


def test_probes_find_the_mark_in_the_specific_part_only(fake: SimpleNamespace) -> None:
    embedded = embed_dataset(fake.model, fake.processor, fake.rows(160), progress=False)
    train, test = halves(embedded, seed=0)
    entry = probe_section(train, test)["eeg"]["mark"]
    assert entry["specific_continuous"] > 0.9
    assert entry["specific"] > entry["shared"] + 0.3
    assert entry["specific_minus_shared"] == pytest.approx(entry["specific"] - entry["shared"])
    assert entry["n"] == entry["n_train"] == 80
    coin = probe_section(train, test)["eeg"]["coin"]
    assert abs(coin["specific"] - 0.5) < 0.2


def test_halves_share_no_row(fake: SimpleNamespace) -> None:
    embedded = embed_dataset(fake.model, fake.processor, fake.rows(11), progress=False)
    one, two = halves(embedded, seed=3)
    rows = np.concatenate([half.modalities["image"].positions.numpy() for half in (one, two)])
    assert sorted(rows) == list(range(11))


def test_attributes_of_absent_modalities_and_of_one_value_are_left_out(fake: SimpleNamespace) -> None:
    rows = fake.rows(40, modalities=("image",))
    for row in rows:
        row["attributes"] |= {"radar.range": 1, "image.constant": 5, "plain": 1}
    embedded = embed_dataset(fake.model, fake.processor, rows, progress=False)
    assert set(probe_section(*halves(embedded, 0))["image"]) == {"coin", "mark", "class"}


@pytest.mark.parametrize(("classes", "there"), [(15, True), (40, False)])
def test_free_text_is_no_attribute_and_a_class_of_few_items_is_a_class(
    fake: SimpleNamespace, classes: int, there: bool
) -> None:
    embedded = embedded_rows(fake, 40)
    embedded.labels = [str(number % classes) for number in range(40)]
    for number, row in enumerate(embedded.attributes):
        row["eeg.note"], row["eeg.pace"] = f"said {number}", number % 9
    train, test = halves(embedded, 0)
    assert len(set(labels_of(train, "eeg", "class")[1])) > 10
    assert set(probe_section(train, test)["eeg"]) == {"coin", "mark", "pace"} | ({"class"} if there else set())


def test_the_shared_part_knows_the_class_and_the_specific_part_does_not(fake: SimpleNamespace) -> None:
    entry = probe_section(*halves(embedded_rows(fake, 160), seed=0))["eeg"]["class"]
    assert entry["shared_continuous"] > 0.9
    assert entry["specific_continuous"] < 0.4
    assert entry["specific_minus_shared_continuous"] == pytest.approx(
        entry["specific_continuous"] - entry["shared_continuous"]
    )
    assert entry["standard_error_continuous"] > 0


@pytest.mark.slow
def test_a_small_network_reads_what_lies_in_no_line(fake: SimpleNamespace) -> None:
    embedded = embedded_rows(fake, 400)
    signs = torch.randint(0, 2, (400, 2), generator=torch.Generator().manual_seed(0))
    embedded.modalities["eeg"].continuous_specific_embeds[:, :2] = 2.0 * signs - 1
    for row, (one, other) in zip(embedded.attributes, signs.tolist(), strict=True):
        row["eeg.same"] = int(one == other)
    made = controls_of(fake.model, fake.processor, fake.rows(400), embedded, ("eeg",))
    entry = probe_section(*halves(embedded, seed=0), controls=(made, made))["eeg"]["same"]
    assert entry["specific_continuous"] < 0.7
    assert entry["specific_mlp"] > 0.9
    assert entry["shared_mlp"] < 0.7


def test_controls_are_probed_beside_the_parts(fake: SimpleNamespace) -> None:
    sections = probe_section(*halves(embedded_rows(fake, 160), 0), controls=controls(fake, 160, ("eeg",)))
    entry = sections["eeg"]["mark"]
    # The input is a rotation of the latents, and the stand-in knows it before any training.
    assert min(entry[name] for name in ("raw", "untrained", "residual")) > 0.9
    assert entry["untrained"] == entry["specific_continuous"]
    assert entry["chance"] < entry["projection"] < entry["raw"]
    assert entry["readable"] is True
    assert sections["eeg"]["coin"]["readable"] is False
    assert sections["eeg"]["class"]["readable"] is False
    assert "raw" not in sections["audio"]["mark"]


@pytest.mark.slow
def test_probes_in_other_processes_are_the_same_numbers(fake: SimpleNamespace) -> None:
    train, test = halves(embedded_rows(fake, 160), seed=0)
    both = controls(fake, 160)
    alone, beside = (probe_section(train, test, controls=both, num_workers=workers) for workers in (0, 2))
    assert {"eeg", "image"} <= set(alone)
    assert "specific_mlp" in alone["eeg"]["mark"]
    assert beside == alone
    assert [list(entries) for entries in beside.values()] == [list(entries) for entries in alone.values()]


def test_controls_follow_the_rows(fake: SimpleNamespace) -> None:
    made = controls(fake, 12)[0]["image"]
    chosen = torch.tensor([7, 2, 3])
    few = made.of(chosen)
    assert torch.equal(few.positions, chosen)
    for name in ("raw", "untrained"):
        assert torch.equal(getattr(few, name), getattr(made, name)[chosen])
    assert made.raw.shape == (12, 3 * 8 * 8)


def test_a_long_input_is_projected_to_a_fixed_number_of_numbers() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3 * RAW_NUMBERS))
    first = random_projection(rows, RAW_NUMBERS, seed=1)
    assert first.shape == (5, RAW_NUMBERS)
    np.testing.assert_array_equal(first[:2], random_projection(rows[:2], RAW_NUMBERS, seed=1))
    assert not np.array_equal(first, random_projection(rows, RAW_NUMBERS, seed=2))
    # Distances survive, as Johnson and Lindenstrauss promise.
    before, after = (np.linalg.norm(x[0] - x[1]) for x in (rows, first))
    assert after == pytest.approx(before, rel=0.15)


def test_making_controls_leaves_the_random_state_alone(fake: SimpleNamespace) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    controls(fake, 12)
    assert torch.equal(torch.rand(3), expected)


def entry(**fields: Any) -> dict[str, Any]:
    return {"raw": 0.9, "untrained": 0.5, "chance": 0.3, "readable": True, **fields}


def test_shares_are_of_what_the_best_control_knows_above_chance() -> None:
    assert share_of_best(entry(specific=0.6), "specific") == pytest.approx(0.5)
    assert share_of_best(entry(specific=0.2), "specific") == 0
    assert share_of_best(entry(untrained=0.95, specific=0.95), "specific") == 1


def test_a_modality_keeps_and_leaks_the_mean_over_its_readable_attributes(fake: SimpleNamespace) -> None:
    train, test = halves(embedded_rows(fake, 80), seed=0)
    probes = {
        "eeg": {
            "mark": entry(specific=0.9, shared_continuous=0.3),
            "coin": entry(readable=False, specific=0.3, shared_continuous=0.9),
            "tone": entry(specific=0.6, shared_continuous=0.6),
        }
    }
    nothing: dict[str, Controls] = {}
    section = decoupling_section(train, test, probes, (nothing, nothing))
    assert set(section) == {"image", "video", "audio", "thermal", "point_cloud", "eeg"}
    assert section["eeg"]["readable"] == 2
    assert section["eeg"]["kept"] == pytest.approx(0.75)
    assert section["eeg"]["leaked"] == pytest.approx(0.25)
    assert set(section["image"]) == {"specific_from_shared", "shared_from_specific"}
    assert set(decoupling_section(train, test, probes, None)["eeg"]) == set(section["image"])


def test_one_part_predicts_the_other_as_far_as_they_say_the_same(fake: SimpleNamespace) -> None:
    embedded = embedded_rows(fake, 200)
    apart = decoupling_section(*halves(embedded, 0), {}, None)["eeg"]
    assert abs(apart["specific_from_shared"]) < 0.1
    part = embedded.modalities["eeg"]
    part.continuous_specific_embeds = part.continuous_embeds[:, :4] @ torch.randn(4, 6)
    same = decoupling_section(*halves(embedded, 0), {}, None)["eeg"]
    assert same["specific_from_shared"] > 0.99
    assert same["shared_from_specific"] < same["specific_from_shared"]


def test_both_parts_together_find_the_same_class_with_the_same_mark(fake: SimpleNamespace) -> None:
    section = fine_grained_section(embedded_rows(fake, 200))
    found = section["eeg"]["mark"]
    assert found["both"] > 0.7
    assert found["both"] > max(found["shared"], found["specific"]) + 0.2
    assert found["chance"] == pytest.approx(1 / 20, abs=0.02)
    assert found["n"] == 200
    assert "text" not in section


def test_fine_grained_retrieval_needs_two_items_that_are_alike(fake: SimpleNamespace) -> None:
    embedded = embedded_rows(fake, 12)
    embedded.attributes = [{"eeg.serial": position} for position in range(12)]
    assert set(fine_grained_section(embedded)["eeg"]) == {"class"}
    embedded.labels = list(map(str, range(12)))
    assert fine_grained_section(embedded) == {}


def test_ten_neighbours_are_counted_by_part_and_query_as_in_a_loop(fake: SimpleNamespace) -> None:
    embedded = embedded_rows(fake, 60)
    found, eeg = fine_grained_section(embedded)["eeg"]["class"], embedded.modalities["eeg"]
    parts = {"shared": eeg.embeds, "specific": eeg.specific_embeds}
    parts["both"] = torch.cat(list(parts.values()), dim=1)
    shares = {}
    for name, embeds in parts.items():
        similarity = torch.nn.functional.normalize(embeds.double(), dim=1)
        similarity = similarity @ similarity.T
        shares[name] = np.array([share_of_ten(similarity[row], embedded.labels, row) for row in range(60)])
        assert found[f"{name}_at_10"] == pytest.approx(shares[name].mean())
    assert found["both_at_least_shared"] == pytest.approx((shares["both"] >= shares["shared"] - 1e-9).mean())
    assert 0 < found["both_at_least_shared"] < 1
    # Every class has 11 others among 59, so at chance each of the ten places is right with 11 / 59.
    assert found["chance_at_10"] == pytest.approx(11 / 59)


def share_of_ten(similarity: torch.Tensor, labels: list[str | None], row: int) -> float:
    """Mean over many random orders of the items that tie."""
    others = [item for item in range(len(similarity)) if item != row]
    values = np.round(similarity[others].numpy(), 6)
    cut = np.sort(values)[::-1][9]
    right = np.array([labels[item] == labels[row] for item in others])
    above, tied = values > cut, values == cut
    return float(right[above].sum() + right[tied].mean() * (10 - above.sum())) / 10
