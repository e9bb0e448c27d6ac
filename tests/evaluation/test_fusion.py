"""Fusion of modalities by one layer: planted classes that only several tell, and a transcription of the head."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from codebind_hf.evaluation.embedding import EmbeddedModality, EmbeddedSet
from codebind_hf.evaluation.fusion import FUSIONS, FusionHead, fusion_accuracy, fusion_section


PAIR = ("video", "audio")


def planted(number: int, seed: int, classes: int = 4) -> EmbeddedSet:
    """Class = 2 * first bit + second bit: video's shared part shows the first bit, audio's the second; a specific
    part repeats the other bit weakly in audio, and holds noise in video."""
    rng = np.random.default_rng(seed)
    names = rng.integers(0, classes, number)
    bits = np.stack([names // 2, names % 2], axis=1) * 2.0 - 1

    def part(signal: np.ndarray, noise: float) -> torch.Tensor:
        rows = noise * rng.standard_normal((number, 6))
        rows[:, 0] += signal
        return normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)

    def modality(shared: np.ndarray, specific: np.ndarray) -> EmbeddedModality:
        before, own = part(shared, 0.3), part(specific, 0.5)
        # After the codes a little is lost.
        after = normalize((before * 4).round() + 1e-3, dim=-1)
        return EmbeddedModality(torch.arange(number), after, before, own, own)

    both = {"video": modality(bits[:, 0], 0 * bits[:, 1]), "audio": modality(bits[:, 1], bits[:, 0])}
    labels = [f"class {name}" for name in names]
    return EmbeddedSet(both, [None] * number, list(labels), [{} for _ in range(number)])


TRAIN, TEST = planted(200, 0), planted(150, 1)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_two_modalities_tell_what_neither_tells_alone(fusion: str) -> None:
    rates = (0.1,)
    found = fusion_accuracy(TRAIN, TEST, PAIR, "shared", "concat", learning_rates=rates)
    assert found.accuracy > 0.9
    assert all(one.accuracy < 0.65 for one in found.alone.values())
    for one in found.alone.values():
        assert one.gain == pytest.approx(found.accuracy - one.accuracy)
        gains = found.correct.astype(float) - one.correct
        assert one.standard_error == pytest.approx(gains.std(ddof=1) / np.sqrt(150))
    low, high = found.interval
    assert low < found.accuracy < high < low + 0.2
    assert found.chance == max(TEST.labels.count(name) for name in set(TEST.labels)) / 150
    # One axis for both bits: a sum cannot tell (1, -1) from (-1, 1).
    summed = fusion_accuracy(TRAIN, TEST, PAIR, "shared", fusion, learning_rates=rates)
    assert (summed.accuracy > 0.9) == (fusion == "concat")


def test_the_specific_part_adds_what_it_knows() -> None:
    shared, both = (
        fusion_accuracy(TRAIN, TEST, PAIR, part, learning_rates=(0.1,)) for part in ("shared", "shared+specific")
    )
    assert both.alone["audio"].accuracy > shared.alone["audio"].accuracy + 0.2
    assert both.alone["video"].accuracy < 0.65


def test_the_head_learns_as_transcribed() -> None:
    found = fusion_accuracy(TRAIN, TEST, PAIR, "shared+specific", "concat", seed=3, epochs=2)
    columns = [
        x * 6**0.5
        for embedded in (TRAIN, TEST)
        for name in PAIR
        for x in (embedded.modalities[name].embeds, embedded.modalities[name].specific_embeds)
    ]
    train, test = torch.cat(columns[:4], dim=1), torch.cat(columns[4:], dim=1)
    classes = sorted(set(TRAIN.labels))
    wanted = torch.tensor([classes.index(label) for label in TRAIN.labels])
    weight, bias = torch.zeros(4, 24, requires_grad=True), torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=5e-3)
    generator = torch.Generator().manual_seed(3)
    for _ in range(2):
        order = torch.randperm(200, generator=generator)
        for start in range(0, 200, 64):
            rows = order[start : start + 64]
            optimizer.zero_grad()
            cross_entropy(train[rows] @ weight.T + bias, wanted[rows]).backward()
            optimizer.step()
    ids = (test @ weight.T + bias).argmax(1).tolist()
    assert found.correct.tolist() == [classes[i] == label for i, label in zip(ids, TEST.labels, strict=True)]
    assert found.learning_rate == 5e-3


def test_attention_weighs_modalities_by_a_softmax_and_starts_from_their_mean() -> None:
    head = FusionHead([3, 3], 2, "attention")
    torch.nn.init.normal_(head.layer.weight, generator=torch.Generator().manual_seed(0))
    one, two = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[-1.0, 0.0, 1.0]])
    torch.testing.assert_close(head([one, two]), head.layer((one + two) / 2))
    head.query.data = torch.tensor([3.0**0.5, 0.0, 0.0])
    # Scores 1 and -1: weights e / (e + 1/e) and the rest.
    share = torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(head([one, two]), head.layer(share * one + (1 - share) * two))


def test_the_learning_rate_is_chosen_without_the_test_set() -> None:
    chosen = fusion_accuracy(TRAIN, TEST, PAIR, learning_rates=(1e-6, 0.1))
    assert chosen.learning_rate == 0.1
    assert chosen.correct.tolist() == fusion_accuracy(TRAIN, TEST, PAIR, learning_rates=(0.1,)).correct.tolist()
    wrong = planted(150, 1)
    wrong.labels = wrong.labels[1:] + wrong.labels[:1]
    assert fusion_accuracy(TRAIN, wrong, PAIR, learning_rates=(1e-6, 0.1)).learning_rate == 0.1


def test_a_seed_repeats_itself_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with torch.inference_mode():
        one = fusion_accuracy(TRAIN, TEST, PAIR, seed=2, epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    two = fusion_accuracy(TRAIN, TEST, PAIR, seed=2, epochs=1)
    assert (one.accuracy, one.interval) == (two.accuracy, two.interval)


def test_rows_without_one_of_the_modalities_do_not_count_and_rows_go_together() -> None:
    def shuffled(embedded: EmbeddedSet, kept: list[int]) -> EmbeddedSet:
        order = torch.tensor(kept)[torch.randperm(len(kept), generator=torch.Generator().manual_seed(1))]
        changed = {"video": embedded.modalities["video"].take(order), "audio": embedded.modalities["audio"]}
        return EmbeddedSet(changed, embedded.ids, list(embedded.labels), embedded.attributes)

    found = fusion_accuracy(TRAIN, shuffled(TEST, list(range(100))), PAIR)
    whole = fusion_accuracy(TRAIN, TEST, PAIR)
    assert found.correct.tolist() == whole.correct[:100].tolist()


def changed(**fields: object) -> EmbeddedSet:
    return EmbeddedSet(**{**vars(planted(60, 2)), **fields})


def without_specific() -> EmbeddedSet:
    embedded = planted(60, 2)
    embedded.modalities["video"].specific_embeds = None
    return embedded


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda: fusion_accuracy(TRAIN, TEST, PAIR, fusion="product"), "fusion: got 'product'", id="fusion"
        ),
        pytest.param(lambda: fusion_accuracy(TRAIN, TEST, PAIR, part="own"), "part: got 'own'; allowed", id="part"),
        pytest.param(lambda: fusion_accuracy(TRAIN, TEST, ["audio"]), "modalities: got audio; a fusion", id="one"),
        pytest.param(lambda: fusion_accuracy(TRAIN, TEST, ["audio", "eeg"]), "train has no 'eeg'", id="absent"),
        pytest.param(
            lambda: fusion_accuracy(changed(labels=[None, None, *planted(60, 2).labels[2:]]), TEST, PAIR),
            "train: row 0 and 1 more have no label",
            id="unlabelled",
        ),
        pytest.param(
            lambda: fusion_accuracy(TRAIN, changed(labels=["new", *planted(60, 2).labels[1:]]), PAIR),
            "test: the class 'new' and 0 more have no training row",
            id="unseen",
        ),
        pytest.param(
            lambda: fusion_accuracy(without_specific(), TEST, PAIR), "but video has no specific part", id="no specific"
        ),
        pytest.param(
            lambda: fusion_accuracy(TRAIN.only(torch.tensor([])), TEST, PAIR), "train has no 'video'", id="nothing"
        ),
        pytest.param(lambda: fusion_accuracy(TRAIN, TEST, PAIR, learning_rates=(0.0,)), "learning_rates", id="rate"),
        pytest.param(
            lambda: FusionHead([4, 6], 2, "sum"), "'sum' needs embeddings of one width, got 4, 6", id="width"
        ),
    ],
)
def test_what_cannot_be_fused_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_section_is_the_functions_numbers() -> None:
    section = fusion_section(TRAIN, TEST, seed=4)
    assert section["modalities"] == ["video", "audio"]
    both, shared = (fusion_accuracy(TRAIN, TEST, PAIR, part, "sum", seed=4) for part in ("shared+specific", "shared"))
    entry = section["heads"]["sum"]["shared"]
    assert (entry["accuracy"], entry["low"], entry["high"]) == (shared.accuracy, *shared.interval)
    assert section["specific_gain"]["sum"]["gain"] == pytest.approx(both.accuracy - shared.accuracy)
    assert section["alone"]["audio"]["shared+specific"] == both.alone["audio"].accuracy
    assert (section["n"], section["n_train"], section["left_out"]) == (150, 200, 0)


def test_a_section_leaves_out_what_no_head_could_name_and_parts_that_are_not_there() -> None:
    test = changed(labels=["new", None, *planted(60, 2).labels[2:]])
    section = fusion_section(TRAIN, test)
    assert (section["n"], section["left_out"]) == (58, 1)
    section = fusion_section(without_specific(), TEST)
    assert {part for heads in section["heads"].values() for part in heads} == {"shared"}
    assert "specific_gain" not in section


def test_there_is_no_section_without_labels_or_with_one_modality() -> None:
    assert fusion_section(TRAIN, changed(labels=[None] * 60)) == {}
    assert fusion_section(TRAIN, changed(modalities={"audio": TEST.modalities["audio"]})) == {}
    assert fusion_section(TRAIN.only(torch.arange(5)), TEST) == {}
