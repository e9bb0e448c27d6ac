"""What an attacker reads from what is given away: planted secrets, ids as they are, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from codebind_hf.evaluation import attack, given_away
from codebind_hf.evaluation.embedding import EmbeddedModality
from codebind_hf.evaluation.probes import paired_gain


def planted(items: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A speaker of three, said by the specific part alone, by a product of signs, and by one code of five."""
    draw = np.random.default_rng(seed)
    speakers = draw.integers(0, 3, items)
    shared, specific = draw.normal(size=(items, 6)), draw.normal(size=(items, 4))
    specific[:, 0] += 4 * speakers
    bent = draw.choice([-1.0, 1.0], (items, 2))
    bent[:, 1] = np.where(speakers == 0, bent[:, 0], -bent[:, 0])
    ids = draw.integers(0, 8, (items, 5))
    # Neighbouring numbers of codes mean nothing: a line through the ids does not read it.
    ids[:, 3] = np.array([5, 0, 3])[speakers]
    parts = {
        "shared": shared,
        "both": np.hstack([shared, specific]),
        "bent": np.hstack([bent, shared]),
        "codes": ids,
        "other codes": ids[:, :3],
    }
    return parts, speakers


def test_the_attacker_reads_what_is_there_and_nothing_else() -> None:
    (train, train_labels), (test, test_labels) = planted(400, 0), planted(300, 1)
    found = attack(train, train_labels, test, test_labels)
    assert list(found) == list(train)
    chance = found["shared"].chance
    assert found["shared"].accuracy < chance + 0.08
    assert found["other codes"].accuracy < chance + 0.08
    assert found["both"].accuracy > 0.9
    assert found["codes"].accuracy > 0.9
    # Who is the first speaker is a product of signs, which no line reads; the other two stay alike.
    assert found["bent"].accuracy > chance + 0.2
    gain, error = paired_gain(found["both"].correct, found["shared"].correct)
    assert gain > 10 * error


def test_labels_may_be_names_and_a_seed_gives_the_same() -> None:
    (train, train_labels), (test, test_labels) = planted(60, 0), planted(40, 1)
    names = np.array(["ann", "bob", "eve"])
    some = [{name: parts[name] for name in ("both", "codes")} for parts in (train, test)]
    one = attack(some[0], names[train_labels], some[1], names[test_labels], seed=3)
    other = attack(some[0], train_labels, some[1], test_labels, seed=3)
    assert {name: each.accuracy for name, each in one.items()} == {name: each.accuracy for name, each in other.items()}


def test_a_code_of_the_test_items_alone_and_codes_seen_once_are_no_error() -> None:
    labels = np.array([0, 1] * 5)
    found = attack({"codes": np.arange(10)[:, None]}, labels, {"codes": np.full((10, 1), 99)}, labels)
    assert found["codes"].accuracy == 0.5


def part(has_specific: bool = True, has_codes: bool = True) -> EmbeddedModality:
    values = torch.arange(12.0).view(3, 4)
    own = (values[:, :2] + 100, values[:, :2] + 200) if has_specific else (None, None)
    codes = values.long() if has_codes else None
    return EmbeddedModality(torch.arange(3), values, values + 50, *own, codes, codes if has_specific else None)


def test_what_is_given_away() -> None:
    found = given_away(part(), raw=np.zeros((3, 9)))
    assert {name: each.shape for name, each in found.items()} == {
        **{"shared_continuous": (3, 4), "both_continuous": (3, 6), "shared": (3, 4), "both": (3, 6)},
        **{"shared_codes": (3, 4), "both_codes": (3, 8), "raw": (3, 9)},
    }
    np.testing.assert_array_equal(found["both"], torch.cat([part().embeds, part().specific_embeds], 1))
    np.testing.assert_array_equal(found["shared_continuous"], part().continuous_embeds)
    np.testing.assert_array_equal(found["both_continuous"][:, 4:], part().continuous_specific_embeds)
    assert found["both_codes"].dtype.kind == "i"
    assert list(given_away(part(has_specific=False, has_codes=False))) == ["shared_continuous", "shared"]


LABELS, ROWS = np.array([0, 1, 0, 1]), np.eye(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, LABELS, {}, LABELS), "train, test: got nothing and nothing"),
        (({"a": ROWS}, LABELS, {"b": ROWS}, LABELS), "train, test: got a and b"),
        (({"a": ROWS * np.nan}, LABELS, {"a": ROWS}, LABELS), r"train\['a'\]_features: got NaN"),
        (({"a": ROWS}, LABELS[:2], {"a": ROWS}, LABELS), r"train\['a'\]_labels: got shape \(2,\)"),
        (({"a": ROWS}, LABELS, {"a": ROWS[:, :2]}, LABELS), "train_features, test_features: got widths 4 and 2"),
        (({"a": ROWS[0]}, LABELS, {"a": ROWS}, LABELS), r"train\['a'\]_features: got shape \(4,\)"),
    ],
)
def test_what_cannot_be_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attack(*arguments)
