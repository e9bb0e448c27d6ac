from collections.abc import Callable

import numpy as np
import pytest
import torch

from codebind_hf.evaluation.embedding import EmbeddedModality, EmbeddedSet
from codebind_hf.inference import code_index
from codebind_hf.inference.code_index import CodeIndex
from codebind_hf.inference.explain import explain_code


# Three rows; row 1 has no sound, row 2 no id. Three segments, codes 0 to 3.
IMAGE = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]])
AUDIO = torch.tensor([[2, 1, 2], [3, 3, 3]])


def make_set() -> EmbeddedSet:
    embeds = torch.zeros(3, 6)
    modalities = {
        "image": EmbeddedModality(torch.tensor([0, 1, 2]), embeds, embeds, shared_codes=IMAGE),
        "audio": EmbeddedModality(torch.tensor([0, 2]), embeds[:2], embeds[:2], shared_codes=AUDIO),
    }
    return EmbeddedSet(modalities, ["first", "second", None], [None] * 3, [{}] * 3)


def make_index() -> CodeIndex:
    index = CodeIndex(torch.eye(4, 2) + 1, 3, "numpy")
    index.add(IMAGE, "image", keys=["first", "second", "third"])
    index.add(AUDIO, "audio", keys=["first", "third"])
    return index


def test_the_use_of_a_code_by_hand() -> None:
    use = explain_code(make_set(), 1)
    # Code 1 fills 5 of the 9 segments of pictures (0 of row 0, all of row 2, and so on), 1 of the 6 of sounds.
    image, audio = use["image"], use["audio"]
    assert (image.count, image.share, image.items) == (5, pytest.approx(5 / 9), 2)
    assert image.by_segment.tolist() == [2, 1, 2]
    assert image.examples == [2, "first"], "the row that picks it three times comes first"
    assert (audio.count, audio.share, audio.items, audio.examples) == (1, pytest.approx(1 / 6), 1, ["first"])


def test_one_segment_alone() -> None:
    image = explain_code(make_set(), 1, segment=1)["image"]
    assert (image.count, image.share, image.items, image.examples) == (1, pytest.approx(1 / 3), 1, [2])
    assert image.by_segment.tolist() == [0, 1, 0]


def test_an_index_tells_the_same_as_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_index, "CHUNK", 2)
    for code in range(4):
        of_set, of_index = explain_code(make_set(), code), explain_code(make_index(), code)
        assert of_set.keys() == of_index.keys()
        for modality, use in of_set.items():
            names = ["third" if key == 2 else key for key in use.examples]
            other = of_index[modality]
            assert (use.count, use.share, use.items, names) == (other.count, other.share, other.items, other.examples)
            np.testing.assert_array_equal(use.by_segment, other.by_segment)


def test_counts_of_all_codes_are_all_segments() -> None:
    uses = [explain_code(make_index(), code)["image"] for code in range(4)]
    assert sum(use.count for use in uses) == IMAGE.numel()
    assert sum(use.share for use in uses) == pytest.approx(1.0)


def test_no_more_examples_than_asked_for_and_the_first_of_equals_first() -> None:
    index = CodeIndex(torch.eye(4, 2) + 1, 3, "numpy")
    index.add(torch.ones(20, 3, dtype=torch.long), "image")
    assert explain_code(index, 1, examples=3)["image"].examples == [0, 1, 2]
    assert explain_code(index, 0)["image"].examples == []


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "negative code": (lambda: explain_code(make_set(), -1), "code: got -1"),
    "code outside the book": (lambda: explain_code(make_index(), 4), "code: got 4; .* 0 to 3"),
    "segment": (lambda: explain_code(make_set(), 1, segment=3), "segment: got 3; .* 0 to 2"),
    "no codes": (lambda: explain_code(EmbeddedSet({}, [], [], []), 1), "reference: holds no shared codes"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_bad_questions_about_codes_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
