"""Which templates training texts follow, counted by hand."""

from typing import Any

import pytest

from codebind_hf.monitoring.label_templates import MOST_ROWS, labelled_texts, templates_of


def test_templates_are_counted_most_frequent_first() -> None:
    pairs = [
        *[("dog", "this is a dog"), ("cat", "this is a cat"), ("cat", "this is a cat")],
        *[("dog", "a dog!"), ("cat", "a cat!"), ("cat", "This is a cat")],
    ]
    found = templates_of(pairs)
    # The last begins in another way, which only one label has.
    assert found.templates == ("this is a {}", "a {}!")
    assert found.counts == (3, 2)
    assert found.texts == 6


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("living_room", "the living room"),
        ("living-room", "the Living Room"),
        ("living room", "the living_room"),
        ("C++ (code)", "the c++ (code)"),
        ("star", "the star "),
    ],
)
def test_labels_are_found_as_they_are_written_in_texts(label: str, text: str) -> None:
    assert templates_of([(label, text), ("cat", "the cat")]).templates == ("the {}",)


@pytest.mark.parametrize(
    ("label", "text"),
    [("cat", "a category"), ("cat", "a cat and a cat"), ("cat", "a dog"), ("cat", "a {} cat"), ("_", "a _")],
)
def test_texts_that_do_not_name_their_label_once_follow_none(label: str, text: str) -> None:
    assert templates_of([(label, text), ("dog", text.replace("cat", "dog"))]).templates == ()


def test_what_one_label_alone_follows_is_no_template() -> None:
    assert templates_of([("dog", "a wet dog in the rain"), ("Dog", "a wet dog in the rain")]).proposed == []


def texts(**counts: int) -> list[tuple[str, str]]:
    return [
        (label, f"{start} {label}")
        for start, count in counts.items()
        for label in ["dog", "cat"]
        for _ in range(count)
    ]


def test_proposed_are_the_few_that_stand_for_most_texts() -> None:
    assert templates_of(texts(one=10, two=8, three=7, four=6, five=1)).proposed == [
        *("one {}", "two {}", "three {}", "four {}")
    ]
    assert templates_of(texts(a=9, b=8, c=7, d=6, e=5, f=4)).proposed == ["a {}", "b {}", "c {}", "d {}", "e {}"]
    # 40 % of the texts follow one, the others none.
    assert templates_of([*texts(one=2), *[("dog", "something")] * 6]).proposed == []
    assert templates_of([]).proposed == []


def test_a_label_alone_is_a_template_too() -> None:
    assert templates_of([("dog", "dog"), ("cat", "Cat")]).proposed == ["{}"]


def test_rows_with_several_labels_and_captions_give_every_pair() -> None:
    rows: list[Any] = [{"label": ["a", "b"], "text": ["x", "y"]}, {"label": None, "text": "z"}, {"label": "c"}]
    assert labelled_texts(rows) == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_of_many_rows_the_same_some_are_looked_at() -> None:
    opened: list[int] = []

    class Rows(list[Any]):
        row_modalities = [("text",) if place % 2 else ("image",) for place in range(4 * MOST_ROWS)]

        def __getitem__(self, place: Any) -> Any:
            opened.append(place)
            return {"label": f"{place}", "text": f"number {place}"}

        def __len__(self) -> int:
            return len(self.row_modalities)

    first = labelled_texts(Rows(), seed=3)
    assert len(first) == len(opened) == MOST_ROWS
    assert all(place % 2 for place in opened)
    assert labelled_texts(Rows(), seed=3) == first
    assert labelled_texts(Rows(), seed=4) != first
