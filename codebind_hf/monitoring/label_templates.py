"""How do training texts name their labels? The templates that they follow, such as "a photo of a {}"."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from codebind_hf.data.row_tensors import flattened


# Rows that are looked at, their least share that a template stands for, and that all proposed ones do together.
MOST_ROWS = 500
_LEAST_SHARE, _LEAST_TOGETHER = 0.05, 0.5
MOST_TEMPLATES = 5
_GAP = re.compile(r"[\s_-]+")


@dataclass(frozen=True)
class FittingTemplates:
    """Templates of texts, most frequent first.

    Args:
        templates: with `{}` for the label.
        counts: texts that follow each.
        texts: all texts that were looked at beside their labels.
    """

    templates: tuple[str, ...]
    counts: tuple[int, ...]
    texts: int

    @property
    def proposed(self) -> list[str]:
        """The few that fit: each a twentieth of the texts or more, together half of them or more; empty if none do."""
        pairs = zip(self.templates, self.counts, strict=True)
        found = [(name, count) for name, count in pairs if count >= _LEAST_SHARE * self.texts][:MOST_TEMPLATES]
        enough = sum(count for _, count in found) >= _LEAST_TOGETHER * self.texts
        return [name for name, _ in found] if found and enough else []


def templates_of(pairs: Iterable[tuple[str, str]]) -> FittingTemplates:
    """The templates of `(label, text)` pairs.

    A text follows one where its label occurs in it exactly once, as whole words and in any case; underscores and
    hyphens of a label may be spaces. What only one label follows is the text of that label, and no template.
    """
    counts: Counter[str] = Counter()
    labels: dict[str, set[str]] = {}
    number = 0
    for label, text in pairs:
        number += 1
        template = _template(label, text)
        if template is not None:
            counts[template] += 1
            labels.setdefault(template, set()).add(label.lower())
    shared = {template: count for template, count in counts.items() if len(labels[template]) > 1}
    ordered = sorted(shared, key=lambda template: (-shared[template], template))
    return FittingTemplates(tuple(ordered), tuple(shared[template] for template in ordered), number)


def labelled_texts(rows: Any, seed: int = 0, most_rows: int = MOST_ROWS) -> list[tuple[str, str]]:
    """Label and text of rows that have both: of all, or of a seeded choice of so many. Of rows with several, all."""
    known = getattr(rows, "row_modalities", None)
    positions = np.array([place for place in range(len(rows)) if known is None or "text" in known[place]], dtype=int)
    if len(positions) > most_rows:
        positions = np.sort(np.random.default_rng(seed).choice(positions, most_rows, replace=False))
    found = (rows[place] for place in positions.tolist())
    return [
        (str(label), str(text))
        for row in found
        for label in flattened([row.get("label")])
        for text in flattened([row.get("text")])
    ]


def _template(label: str, text: str) -> str | None:
    words = [re.escape(word) for word in _GAP.split(label) if word]
    if not words or "{}" in text:
        return None
    pattern = r"(?<!\w)" + r"[\s_-]+".join(words) + r"(?!\w)"
    template, times = re.subn(pattern, "{}", text.strip(), flags=re.IGNORECASE)
    return template if times == 1 else None
