from types import SimpleNamespace

import numpy as np
import pytest
import torch

from codebind_hf.evaluation import Evaluation
from codebind_hf.evaluation.class_scores import MOST_CONFUSED, class_section, gap_section
from codebind_hf.evaluation.embedding import ClassEmbeds, EmbeddedModality, EmbeddedSet


def set_of(parts: dict[str, torch.Tensor], labels: list[str | None]) -> EmbeddedSet:
    modalities = {name: EmbeddedModality(torch.arange(len(each)), each, each) for name, each in parts.items()}
    rows = len(labels)
    return EmbeddedSet(modalities, [None] * rows, labels, [{} for _ in range(rows)])


def test_answers_are_counted_by_class_and_ties_take_turns() -> None:
    classes = torch.eye(3)
    items = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [1.0, 1.0, 0], [0, 0, 1.0]])
    embedded = set_of({"audio": items}, ["a", "a", "b", "c"])
    entry = class_section(embedded, ClassEmbeds(classes, classes), ["a", "b", "c"])["audio"]
    assert entry["confusion"] == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    assert {name: each["accuracy"] for name, each in entry["accuracy_of"].items()} == {"a": 0.5, "b": 0.5, "c": 1.0}
    assert entry["majority"] == 0.5
    assert entry["confused"] == [["a", "b", 0.5, 2], ["b", "a", 0.5, 1]]
    assert entry["codes_gain"] == 0.0


def test_classes_by_class_come_to_the_accuracy_of_all(fake: SimpleNamespace) -> None:
    evaluation = Evaluation(fake.model, fake.processor, fake.rows(60), progress=False)
    report = evaluation.report()
    for name, entry in report["by_class"].items():
        whole = report["zero_shot"][name]
        mean = sum(each["accuracy"] * each["n"] for each in entry["accuracy_of"].values()) / entry["n"]
        assert mean == pytest.approx(whole["accuracy"], abs=1e-6)
        assert entry["codes_gain"] == pytest.approx(whole["accuracy"] - whole["accuracy_continuous"], abs=1e-6)


def test_a_square_of_very_many_classes_is_left_out() -> None:
    count = MOST_CONFUSED + 1
    embedded = set_of({"audio": torch.eye(count)}, [f"c{place}" for place in range(count)])
    classes = ClassEmbeds(torch.eye(count), torch.eye(count))
    entry = class_section(embedded, classes, [f"c{place}" for place in range(count)])["audio"]
    assert "confusion" not in entry
    assert len(entry["accuracy_of"]) == count


def test_one_item_has_no_spread_and_is_finite() -> None:
    embedded = set_of({"audio": torch.tensor([[1.0, 0]])}, ["a"])
    entry = class_section(embedded, ClassEmbeds(torch.eye(2), torch.eye(2)), ["a", "b"])["audio"]
    assert entry["standard_error"] == 0.0


def test_a_gap_is_the_distance_of_means() -> None:
    parts = {"image": torch.tensor([[1.0, 0], [1.0, 0]]), "audio": torch.tensor([[0, 2.0], [0, 3.0]])}
    section = gap_section(set_of(parts, [None, None]))
    assert section["image"]["gap"] == pytest.approx(2**0.5)
    assert section["audio"]["gap_continuous"] == pytest.approx(2**0.5)


def test_one_modality_lies_apart_from_nothing() -> None:
    assert gap_section(set_of({"image": torch.eye(2)}, [None, None])) == {}


def test_class_knowledge_alone_finds_what_a_simulation_of_it_finds() -> None:
    """A ranking that puts the items of the query's class first, in any order."""
    rng = np.random.default_rng(0)
    labels = [f"c{min(int(rng.exponential(2)), 5)}" for _ in range(60)]
    random = torch.from_numpy(rng.standard_normal((60, 8))).float()
    embedded = set_of({"image": random, "audio": random.flip(0)}, labels)
    from codebind_hf.evaluation.sections import retrieval_section

    entry = retrieval_section(embedded)["image_to_audio"]
    names = np.array(labels)
    for cut in (1, 10):
        hits = []
        for _ in range(400):
            for query in range(60):
                order = np.lexsort((rng.random(60), names != names[query]))
                hits.append(query in order[:cut])
        assert entry[f"class_only_at_{cut}"] == pytest.approx(np.mean(hits), abs=0.01)
        by_formula = np.mean([min(cut / (names == name).sum(), 1) for name in names])
        assert entry[f"class_only_at_{cut}"] == pytest.approx(by_formula)
