"""What is one row of real data: a thing with a name, and where its senses are."""

import re
from dataclasses import dataclass, field
from typing import Any


# Words that tell two pictures of one kind of thing apart, not two kinds.
_FILLER_WORDS = """
    an and another at by for from in is it its left of off on one open closed or right some the this to two three with
    front side back top view small little big large tall short old new modern simple double single round square red
    orange yellow green blue purple violet pink brown black white grey gray silver gold golden dark light
"""
_FILLER = frozenset(_FILLER_WORDS.split())
GROUPINGS = ("name", "noun", "exact")


@dataclass
class Thing:
    """An object, or a recording that stands for a class.

    Args:
        collection: which package it is of; galleries hold one collection.
        key: its name in that collection, unique.
        name: what it is called.
        sentence: what its text sense reads.
        kind: a word of a coarse classification.
        files: by sense, a file, or what else its reader takes.
        attributes: what can be read off it, by name, such as `language` or `size_cm`.
    """

    collection: str
    key: str
    name: str
    sentence: str
    kind: str
    files: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """A name for files."""
        return f"{self.collection}-" + re.sub(r"[^a-z0-9]+", "_", self.key.lower()).strip("_")


def plain_name(name: str) -> str:
    """A name without what tells near-namesakes apart: `Two Red Chairs (side view)` and `A chair.` are both `chair`.

    Kept are lower-case words that are no filler, in the singular and in the order of the alphabet, and of numbers and
    single letters those that are named as such (`The letter a.`); all words where none would be left.
    """
    bare = re.sub(r"^(?:a|an|the)\s+", "", re.sub(r"\([^)]*\)", " ", name.lower().strip()))
    words = [_singular(word) for word in re.findall(r"[^\W_]+", bare)]
    named = {word for before, word in zip(words, words[1:], strict=False) if before in ("letter", "number", "numeral")}
    kept = [word for word in words if word in named or (len(word) > 1 and not word.isdigit() and word not in _FILLER)]
    return " ".join(sorted(set(kept or words or [name.lower().strip()])))


def _singular(word: str) -> str:
    for ending, instead in (("ies", "y"), ("ves", "f"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + instead
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def groups_of(names: list[str], by: str = "name") -> list[int]:
    """Numbers of groups that a split keeps together.

    Args:
        by: "name", for names whose plain names are equal; "noun", which also joins those that end in the same noun,
            as a kitchen chair and a deck chair do; or "exact", for names that are equal letter by letter.

    Raises:
        ValueError: another `by`.
    """
    if by not in GROUPINGS:
        raise ValueError(f"by: got {by!r}; allowed: {', '.join(GROUPINGS)}.")
    leader: dict[str, str] = {}

    def found(key: str) -> str:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    keys = [f"whole {name.strip() if by == 'exact' else plain_name(name)}" for name in names]
    for key, name in zip(keys, names, strict=True):
        leader[found(key)] = found(f"noun {_noun(name)}" if by == "noun" else key)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(found(key), len(numbers)) for key in keys]


def _noun(name: str) -> str:
    """The last word of a noun phrase, before any `of`, `with` or comma."""
    bare = re.sub(r"^(?:a|an|the)\s+", "", name.lower())
    bare = re.split(r"\b(?:of|with|in|on|at|from|and|for|by)\b|[,.;:(]", bare)[0]
    words = [_singular(word) for word in re.findall(r"[^\W\d_]+", bare) if len(word) > 1]
    kept = [word for word in words if word not in _FILLER]
    return (kept or words or [name.lower().strip()])[-1]
