"""Does a frozen bridge understand the rows that something is to be bound with? A look at a few of them, before."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from codebind_hf.data.items import row_modalities
from codebind_hf.data.row_tensors import flattened
from codebind_hf.evaluation.embedding import class_embeddings, embed_dataset, embed_texts
from codebind_hf.evaluation.metrics import best_is_relevant
from codebind_hf.evaluation.summary import wilson_interval
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.monitoring.known_words import KnownWords, known_words
from codebind_hf.monitoring.opening import free_memory
from codebind_hf.monitoring.random_state import kept_random_state
from codebind_hf.processing.processing_codebind import CodeBindProcessor


# At most, of a large bridge some seconds on a GPU; and rows at least.
MOST_ROWS, MOST_CLASSES, MOST_TEMPLATES = 128, 256, 4
LEAST_ROWS = 10
_SHOWN_TO = ("image", "video")
_BATCH = 16


@dataclass(frozen=True)
class BridgeLook:
    """What a frozen bridge makes of some rows.

    Args:
        modality: of its vision encoder, that was compared with words; `None` where rows have none beside words.
        words_are: "labels", shown in `templates`, or without labels "texts", the rows' own.
        templates: of labels.
        rows, classes: how many items were named, by one of how many labels or texts.
        accuracy: share that was named right, before quantization.
        low, high: its 95 % interval (Wilson).
        chance: of a bridge that knows nothing.
        words: what the tokenizer knows; `None` where that cannot be said.
    """

    modality: str | None = None
    words_are: str = "labels"
    templates: tuple[str, ...] = ()
    rows: int = 0
    classes: int = 0
    accuracy: float = 0.0
    low: float = 0.0
    high: float = 1.0
    chance: float = 0.0
    words: KnownWords | None = None

    @property
    def is_at_chance(self) -> bool:
        """Whether what was named right may be luck."""
        return self.modality is not None and self.low <= self.chance

    def as_json(self) -> dict[str, Any]:
        """As values of JSON."""
        words = self.words and self.words.as_json()
        return {**asdict(self), "templates": list(self.templates), "words": words, "is_at_chance": self.is_at_chance}

    def lines(self) -> list[str]:
        """What is said of it."""
        if self.modality is None:
            return []
        share = f"{100 * self.accuracy:.1f} % (95 %: {100 * self.low:.1f} to {100 * self.high:.1f}; chance"
        return [
            f"bridge: before training it names {self.rows} rows of {self.modality} by {self.classes} "
            f"{self.words_are}: {share} {100 * self.chance:.1f})"
        ]

    def warnings(self) -> list[str]:
        """What should be looked at before time is spent."""
        found = []
        if self.is_at_chance:
            found.append(
                f"bridge: at chance on your {self.words_are}; what is bound to it then learns nothing of what they "
                "mean. Fix: a bridge that knows such pictures and words (--bridge, --base), or texts in its words "
                '(--text_from_label "a photo of a {}", --template).'
            )
        if self.words is not None and self.words.share_unknown > 0.5:
            known = self.words
            found.append(
                f"bridge: its tokenizer does not know {known.unknown + known.spelled} of the {known.words} words of "
                f"your {self.words_are}, such as {', '.join(map(repr, known.examples))}: they are read letter by "
                "letter or not at all. Fix: labels and texts in the language of the bridge, whole words for codes."
            )
        return found


def look_at_bridge(
    model: CodeBindModel,
    processor: CodeBindProcessor,
    rows: Any,
    templates: Sequence[str],
    seed: int = 0,
    device: torch.device | None = None,
) -> BridgeLook | None:
    """Name a seeded choice of pictures or videos by the labels of the rows, or where they have none by their texts.

    Nothing that is trained afterwards changes by a bit. An item that cannot be read is left out: the run says so.

    Args:
        model: with its bridge; what it is to learn does not matter.
        rows: raw rows, by number.
        templates: that labels are shown in, of which the first few are used.
        device: to look on, if it has room; the model then goes back to where it was.

    Returns:
        `None` for a model without text, or rows without words.
    """
    if "text" not in model.config.modality_names:
        return None
    with kept_random_state(), _placed(model, device):
        modality, sample = _sample(model, rows, seed)
        labels = [_words(row, "label") for row in sample]
        are_labels = len({label for each in labels for label in each}) > 1
        words = labels if are_labels else [_words(row, "text") for row in sample]
        classes = _classes(rows if are_labels else None, words)
        if not classes:
            return None
        kind, shown = ("labels", tuple(templates[:MOST_TEMPLATES])) if are_labels else ("texts", ())
        known = _known(processor, classes)
        kept = [place for place, each in enumerate(words) if each]
        if modality is None or len(classes) < 2 or len(kept) < LEAST_ROWS:
            return BridgeLook(words_are=kind, templates=shown, words=known)
        pictures = [{modality: sample[place][modality]} for place in kept]
        found = embed_dataset(model, processor, pictures, _BATCH, [modality], on_error="skip", progress=False)
        if modality not in found.modalities:
            return BridgeLook(words_are=kind, templates=shown, words=known)
        pictured = found.modalities[modality]
        relevant = _relevant([words[kept[place]] for place in pictured.positions.tolist()], classes)
        if are_labels:
            prototypes = class_embeddings(model, processor, classes, shown).continuous_embeds
        else:
            prototypes = embed_texts(model, processor, classes, _BATCH).continuous_embeds
        scores = normalize(pictured.continuous_embeds.float(), dim=-1) @ normalize(prototypes.float(), dim=-1).T
        accuracy, number = best_is_relevant(scores.cpu(), relevant), len(relevant)
        low, high = wilson_interval(accuracy, number)
        chance = float(relevant.mean())
        return BridgeLook(modality, kind, shown, number, len(classes), accuracy, low, high, chance, known)


@contextmanager
def _placed(model: CodeBindModel, device: torch.device | None) -> Iterator[None]:
    """Have the model on a device inside the block, if it fits into half of what is free there."""
    before = model.device
    sizes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    free = None if device is None or device.type == before.type else free_memory(device)
    if device is None or free is None or 2 * sizes > free:
        yield
        return
    model.to(device)  # type: ignore[arg-type]
    try:
        yield
    finally:
        model.to(before)  # type: ignore[arg-type]


def _sample(model: CodeBindModel, rows: Any, seed: int) -> tuple[str | None, list[dict[str, Any]]]:
    """A modality of the vision encoder, and a seeded choice of the rows that have it; else of all rows."""
    present = row_modalities(rows)
    known = [name for name in _SHOWN_TO if name in model.config.modality_names]
    by_modality = {name: [place for place, names in enumerate(present) if name in names] for name in known}
    modality = next((name for name, places in by_modality.items() if places), None)
    places = np.asarray(range(len(present)) if modality is None else by_modality[modality], dtype=int)
    if len(places) > MOST_ROWS:
        places = np.sort(np.random.default_rng(seed).choice(places, MOST_ROWS, replace=False))
    return modality, [dict(rows[place]) for place in places.tolist()]


def _classes(rows: Any, words: Sequence[Sequence[str]]) -> list[str]:
    """Those of the sample first, then others that the rows know of, as many as are shown at most."""
    others = getattr(rows, "class_names", None) or []
    return list(dict.fromkeys([*(each for several in words for each in several), *map(str, others)]))[:MOST_CLASSES]


def _known(processor: CodeBindProcessor, texts: Iterable[str]) -> KnownWords | None:
    tokenizer = getattr(processor, "tokenizer", None)
    return None if tokenizer is None else known_words(tokenizer, texts, lower=processor.text_cleaning is not None)


def _relevant(words: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    places = {name: place for place, name in enumerate(classes)}
    relevant = np.zeros((len(words), len(classes)), dtype=bool)
    for row, each in enumerate(words):
        relevant[row, [places[name] for name in each if name in places]] = True
    return relevant


def _words(row: dict[str, Any], name: str) -> list[str]:
    return [str(each) for each in flattened([row.get(name)])]
