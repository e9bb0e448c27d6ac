"""Why two items match: by hand, against a count over all pairs, and against cosines of the model's own embeddings."""

import json
import math
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from codebind_hf.evaluation.embedding import EmbeddedModality, EmbeddedSet
from codebind_hf.inference import CodeIndex, code_index, explain_match


SEGMENTS, NUM_CODES = 5, 6


def codes_of(seed: int = 0, spread: float = 0.5) -> torch.Tensor:
    """Codes with norms of their own."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.exp(spread * torch.randn(NUM_CODES, 1, generator=generator))
    return normalize(torch.randn(NUM_CODES, 3, generator=generator), dim=-1) * lengths


def ids_of(items: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, NUM_CODES, (items, SEGMENTS))


IDS = {"image": ids_of(12, 1), "audio": ids_of(9, 2)}
KEYS = {name: [f"{name} {row}" for row in range(len(ids))] for name, ids in IDS.items()}


def make_index() -> CodeIndex:
    index = CodeIndex(codes_of(), SEGMENTS, "numpy")
    for name, ids in IDS.items():
        index.add(ids, name, KEYS[name])
    return index


def make_set() -> EmbeddedSet:
    """Rows 0 to 11 have a picture, rows 3 to 11 a sound; row 11 has no id."""
    modalities = {}
    for name, ids in IDS.items():
        embeds = normalize(codes_of()[torch.from_numpy(ids)].flatten(1), dim=-1)
        positions = torch.arange(12 - len(ids), 12)
        modalities[name] = EmbeddedModality(positions, embeds, embeds, shared_codes=torch.from_numpy(ids))
    return EmbeddedSet(modalities, [*(f"row {row}" for row in range(11)), None], [None] * 12, [{}] * 12)


def test_contributions_add_up_to_the_cosine_from_the_definition() -> None:
    for one, other in product(range(12), range(9)):
        vectors = [
            codes_of()[torch.from_numpy(ids)].flatten().double() for ids in (IDS["image"][one], IDS["audio"][other])
        ]
        cosine = float(torch.nn.functional.cosine_similarity(*vectors, dim=0))
        match = explain_match(make_index(), ("image", f"image {one}"), ("audio", f"audio {other}"))
        assert match.cosine == pytest.approx(cosine, abs=1e-12)
        assert match.cosine == math.fsum(match.contributions)
        assert [
            found.segment for found in match.shared if found.contribution != match.contributions[found.segment]
        ] == []
        equal = np.flatnonzero(IDS["image"][one] == IDS["audio"][other])
        assert sorted(found.segment for found in match.shared) == equal.tolist()


def test_chances_are_counted_over_all_pairs() -> None:
    for (one, other), (a, b) in {
        ("image", "audio"): (("image", "image 2"), ("audio", IDS["image"][2])),
        ("image", "image"): (("image", "image 2"), ("image", IDS["image"][2])),
    }.items():
        match = explain_match(make_index(), a, b)
        assert len(match.shared) == SEGMENTS
        pairs = list(combinations(IDS[one], 2) if one == other else product(IDS[one], IDS[other]))
        assert match.expected == pytest.approx(np.mean([(x == y).sum() for x, y in pairs]))
        for found in match.shared:
            both = sum(x[found.segment] == found.code == y[found.segment] for x, y in pairs)
            assert found.chance == pytest.approx((1 + both) / (1 + len(pairs)))
            assert found.surprise == pytest.approx(-math.log2(found.chance))
        surprises = [found.surprise for found in match.shared]
        assert surprises == sorted(surprises, reverse=True)


def test_examples_are_others_with_the_code_in_this_segment() -> None:
    match = explain_match(make_index(), ("image", "image 2"), ("audio", IDS["image"][2]), examples=2)
    for found in match.shared:
        for name, ids in IDS.items():
            having = np.flatnonzero(ids[:, found.segment] == found.code).tolist()
            others = [KEYS[name][row] for row in having if KEYS[name][row] != "image 2"]
            assert found.examples[name] == others[:2]
    assert all(
        not found.examples["image"]
        for found in explain_match(make_index(), ("image", "image 2"), ("image", "image 2"), examples=0).shared
    )


def test_the_embedded_set_an_index_and_chunks_of_one_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = explain_match(make_index(), ("image", "image 4"), ("audio", "audio 1"))
    of_set = explain_match(make_set(), ("image", "row 4"), ("audio", "row 4"))
    by_ids = explain_match(
        make_set(), ("image", IDS["image"][4].tolist()), ("audio", IDS["audio"][1]), codes=codes_of()
    )
    monkeypatch.setattr(code_index, "CHUNK", 1)
    in_chunks = explain_match(make_index(), ("image", "image 4"), ("audio", "audio 1"))
    assert in_chunks.to_dict() == whole.to_dict()
    for other in (of_set, by_ids):
        np.testing.assert_allclose(other.contributions, whole.contributions, atol=1e-7)
        assert [(one.segment, one.code, one.chance) for one in other.shared] == [
            (one.segment, one.code, one.chance) for one in whole.shared
        ]
    # The row without an id is known by its position.
    assert explain_match(make_set(), ("image", 11), ("audio", 11)).keys == (11, 11)
    assert by_ids.keys == (None, None)


def test_it_reads_as_text_and_as_json() -> None:
    index = CodeIndex(torch.eye(2, 2), 2, "numpy")
    index.add(torch.tensor([[0, 1], [0, 0]]), "image", ["cat", "dog"])
    index.add(torch.tensor([[0, 0], [1, 0]]), "audio", ["meow", "bark"])
    match = explain_match(index, ("image", "cat"), ("audio", "meow"))
    # One of two segments is equal: half of what a cosine is at most. Of 4 pairs 2 have code 0 first.
    assert str(match) == (
        "image 'cat' and audio 'meow': cosine +0.500; equal codes in 1 of 2 segments (1.0 by chance), which add "
        "+0.500, the others +0.000\n"
        "  segment   0 code     0  +0.500   0.7 bits  image: dog"
    )
    assert json.loads(json.dumps(match.to_dict()))["shared"][0]["examples"] == {"image": ["dog"], "audio": []}
    assert match.shared[0].chance == pytest.approx(3 / 5)


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "reference": (lambda: explain_match([1], ("image", 0), ("image", 1)), "reference: got"),
    "empty": (lambda: explain_match(EmbeddedSet({}, [], [], []), ("image", 0), ("image", 1)), "reference: holds no"),
    "no pair": (
        lambda: explain_match(make_index(), "image", ("audio", "audio 1")),
        r"a: got 'image'; give \(modality",
    ),
    "modality": (
        lambda: explain_match(make_index(), ("smell", 0), ("audio", "audio 1")),
        "a: got .* has image, audio",
    ),
    "key": (
        lambda: explain_match(make_index(), ("image", "image 0"), ("audio", "image 0")),
        "b: got .* key of no items",
    ),
    "kind of key": (lambda: explain_match(make_index(), ("image", 0), ("audio", "audio 0")), "a: got 0, a key of no"),
    "width": (lambda: explain_match(make_index(), ("image", [1, 2]), ("audio", "audio 0")), r"a: .* \(items, 5\)"),
    "outside": (lambda: explain_match(make_index(), ("image", [9] * 5), ("audio", "audio 0")), "a: .* from 0 to 5"),
    "no codebook": (lambda: explain_match(make_set(), ("image", [1] * 5), ("audio", 11)), "a: got ids, and .*codes="),
    "codebook": (lambda: explain_match(make_set(), ("image", 11), ("audio", 11), codes=[1.0]), "codes: got"),
    "examples": (lambda: explain_match(make_set(), ("image", 11), ("audio", 11), examples=-1), "examples: got -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_key_of_several_items_is_refused() -> None:
    index = make_index()
    index.add(ids_of(1, 5), "image", ["image 3"])
    with pytest.raises(ValueError, match="a: got 'image 3', a key of 2 items of image"):
        explain_match(index, ("image", "image 3"), ("audio", "audio 0"))
