"""Does an item's class show better from several modalities together, and does the specific part help there?

Frozen embeddings of the modalities of an item are fused and classified by one layer (paper table 5: events of AVE from
video and audio). Every modality alone is the control: a fusion that does not beat the better of them fuses nothing.

Axes in this file: N items, M modalities, D width of a modality's embedding, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from codebind_hf.evaluation.embedding import EmbeddedSet, items_at
from codebind_hf.evaluation.probes import paired_gain, validation_mask
from codebind_hf.processing.values import check_choice


FUSIONS = ("concat", "sum", "attention")
PARTS = ("shared", "specific", "shared+specific")
# Of the paper's head; the optimizer, which it does not name, is Adam.
LEARNING_RATE, EPOCHS = 5e-3, 10
_BATCH = 64
_RESAMPLES = 1000
_LEAST_ITEMS = 10


class Alone(NamedTuple):
    """One modality without the others, by the same head.

    Args:
        accuracy: share of the test items classified correctly.
        gain, standard_error: of the fusion over this modality, on the same test items.
        correct (booleans of shape `(test items,)`).
    """

    accuracy: float
    gain: float
    standard_error: float
    correct: np.ndarray


class FusionResult(NamedTuple):
    """Outcome of one fusion.

    Args:
        accuracy: share of the test items classified correctly.
        interval: 95 % of it when test items are drawn again with replacement.
        chance: share of the test set's largest class.
        alone: the controls, by modality.
        learning_rate: of the head; where several were given, the best on the validation part.
        correct (booleans of shape `(test items,)`): which were classified correctly, for paired comparisons.
    """

    accuracy: float
    interval: tuple[float, float]
    chance: float
    alone: dict[str, Alone]
    learning_rate: float
    correct: np.ndarray


class FusionHead(nn.Module):
    """One layer on fused embeddings; starts from zeros, so that nothing but the order of the batches is random.

    Args:
        widths: of the embedding of every modality.
        num_classes: how many.
        fusion: "concat" side by side; "sum" of the embeddings; "attention", their sum with weights that are a softmax
            over the modalities of the product with one learned query.

    Raises:
        ValueError: an unknown fusion, or one that needs equal widths.
    """

    def __init__(self, widths: Sequence[int], num_classes: int, fusion: str) -> None:
        super().__init__()
        check_choice("fusion", fusion, FUSIONS)
        if fusion != "concat" and len(set(widths)) > 1:
            raise ValueError(
                f"fusion: {fusion!r} needs embeddings of one width, got {', '.join(map(str, widths))}. Fix: 'concat'."
            )
        self.fusion = fusion
        width = sum(widths) if fusion == "concat" else widths[0]
        # The usual start would draw from the global generator.
        self.layer = nn.utils.skip_init(nn.Linear, width, num_classes)
        self.query = nn.Parameter(torch.zeros(widths[0])) if fusion == "attention" else None
        for parameter in self.layer.parameters():
            nn.init.zeros_(parameter)

    def forward(self, embeds: Sequence[Tensor]) -> Tensor:
        """Logits `(items, classes)` of the modalities' embeddings, `(items, width)` each."""
        if self.fusion == "concat":
            return self.layer(torch.cat(list(embeds), dim=-1))
        embeds_NMD = torch.stack(list(embeds), dim=1)
        if self.query is None:
            return self.layer(embeds_NMD.sum(1))
        weights_NM1 = (embeds_NMD @ self.query / math.sqrt(len(self.query))).softmax(dim=1).unsqueeze(-1)
        return self.layer((weights_NM1 * embeds_NMD).sum(1))


@torch.inference_mode(False)
def fusion_accuracy(
    train: EmbeddedSet,
    test: EmbeddedSet,
    modalities: Sequence[str],
    part: str = "shared+specific",
    fusion: str = "concat",
    quantized: bool = True,
    seed: int = 0,
    learning_rates: Sequence[float] = (LEARNING_RATE,),
    epochs: int = EPOCHS,
) -> FusionResult:
    """Accuracy on `test` of a one-layer head that `train` has taught on the fused embeddings of each row.

    Rows that lack one of the modalities do not count. Embeddings have unit norm by part, times the root of its width.

    Args:
        modalities: two or more.
        part: "shared", "specific" or "shared+specific".
        fusion: "concat", "sum" or "attention", see `FusionHead`.
        quantized: the embeddings after their codes, as in the paper, or before.
        seed: of the order of the batches, of the validation part and of the resampling.
        learning_rates: of several the best on a validation part of `train` is taken; the test set never chooses.
        epochs: over the training rows.

    Raises:
        ValueError: unknown modality, part or fusion; fewer than two modalities; no row that has them all; a row
            without label; a class of the test rows that no training row has; or wrong learning rates or epochs.
    """
    check_choice("part", part, PARTS)
    check_choice("fusion", fusion, FUSIONS)
    names = list(dict.fromkeys(modalities))
    if len(names) < 2:
        raise ValueError(f"modalities: got {', '.join(names) or 'none'}; a fusion needs two or more.")
    if not len(learning_rates) or not all(rate > 0 for rate in learning_rates) or epochs < 1:
        raise ValueError(
            f"learning_rates, epochs: got {list(learning_rates)} and {epochs}; rates are above 0, epochs 1 or more."
        )
    taught, judged = _Items.of(train, names, "train"), _Items.of(test, names, "test")
    unseen = sorted(set(judged.labels.tolist()) - set(taught.labels.tolist()))
    if unseen:
        raise ValueError(
            f"test: the class {unseen[0]!r} and {len(unseen) - 1} more have no training row, so no head can name "
            "them. Fix: training rows of every class, or leave these rows out."
        )
    return _Fit(taught, judged, names, part, quantized, seed, tuple(learning_rates), epochs).result(fusion)


@torch.inference_mode(False)
def fusion_section(
    train: EmbeddedSet, test: EmbeddedSet, modalities: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Every fusion of every part, quantized, as in paper table 5; empty where there is nothing to fuse.

    Args:
        modalities: by default video and audio where rows have both, else the two, text apart, that most rows have.

    Returns:
        `modalities`, `n`, `n_train`, `chance`; `left_out`, test rows of classes that no training row has; by fusion
        and part `heads` with `accuracy`, `low` and `high` of its interval; by modality and part `alone`; and by fusion
        `specific_gain` with its `standard_error`: of both parts over the shared part alone, on the same items.
    """
    names = list(modalities or _pair_of(test))
    if len(names) < 2 or not set(names) <= set(train.modalities) & set(test.modalities):
        return {}
    taught, judged = (_Items.labelled(embedded, names) for embedded in (train, test))
    known = np.isin(judged.labels, np.unique(taught.labels))
    left_out, judged = int((~known).sum()), judged.only(known)
    if min(len(taught), len(judged)) < _LEAST_ITEMS or len(np.unique(taught.labels)) < 2:
        return {}
    has_specific = all(train.modalities[name].specific_embeds is not None for name in names)
    fits = [(part, _Fit(taught, judged, names, part, seed=seed)) for part in (PARTS if has_specific else PARTS[:1])]
    have_one_width = all(len({x.shape[1] for x in fit.train}) == 1 for _, fit in fits)
    fusions = FUSIONS if have_one_width else FUSIONS[:1]
    found = {fusion: {part: fit.result(fusion) for part, fit in fits} for fusion in fusions}
    first = found["concat"]
    section: dict[str, Any] = {
        **{"modalities": names, "n": len(judged), "n_train": len(taught), "left_out": left_out},
        "chance": first["shared"].chance,
        "heads": {
            fusion: {
                part: {"accuracy": one.accuracy, "low": one.interval[0], "high": one.interval[1]}
                for part, one in by_part.items()
            }
            for fusion, by_part in found.items()
        },
        "alone": {name: {part: one.alone[name].accuracy for part, one in first.items()} for name in names},
    }
    if has_specific:
        pairs = {
            fusion: paired_gain(each["shared+specific"].correct, each["shared"].correct)
            for fusion, each in found.items()
        }
        section["specific_gain"] = {
            fusion: {"gain": gain, "standard_error": error} for fusion, (gain, error) in pairs.items()
        }
    return section


@dataclass
class _Items:
    """Items of a set that have all modalities: the set restricted to each, and labels `(N,)`."""

    embedded: EmbeddedSet
    rows: Tensor
    labels: np.ndarray

    @classmethod
    def of(cls, embedded: EmbeddedSet, names: Sequence[str], side: str) -> "_Items":
        missing = [name for name in names if name not in embedded.modalities]
        if missing:
            raise ValueError(f"modalities: {side} has no {missing[0]!r}; it has {', '.join(embedded.modalities)}.")
        rows = _rows_with(embedded, names)
        labels = [embedded.labels[row] for row in rows.tolist()]
        if not labels:
            raise ValueError(f"{side}: no row has all of {', '.join(names)}.")
        if None in labels:
            raise ValueError(
                f"{side}: row {int(rows[labels.index(None)])} and {labels.count(None) - 1} more have no label. Fix: "
                "label them, or leave them out (`embedded.only(rows)`)."
            )
        return cls(embedded, rows, np.array(labels, dtype=str))

    @classmethod
    def labelled(cls, embedded: EmbeddedSet, names: Sequence[str]) -> "_Items":
        rows = [row for row in _rows_with(embedded, names).tolist() if embedded.labels[row] is not None]
        return cls(
            embedded, torch.tensor(rows, dtype=torch.long), np.array([embedded.labels[row] for row in rows], str)
        )

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, kept: np.ndarray) -> "_Items":
        return replace(self, rows=self.rows[torch.from_numpy(kept)], labels=self.labels[kept])

    def features(self, name: str, part: str, quantized: bool) -> Tensor:
        """Embeddings `(N, D)` of one modality, `part` as in `fusion_accuracy`."""
        modality = self.embedded.modalities[name]
        modality = modality.take(items_at(modality.positions, self.rows))
        values = {
            "shared": modality.embeds if quantized else modality.continuous_embeds,
            "specific": modality.specific_embeds if quantized else modality.continuous_specific_embeds,
        }
        chosen = [values[each] for each in part.split("+")]
        if any(value is None for value in chosen):
            raise ValueError(f"part: got {part!r}, but {name} has no specific part. Fix: 'shared'.")
        return torch.cat(
            [normalize(x.float(), dim=-1) * math.sqrt(x.shape[-1]) for x in chosen if x is not None], dim=-1
        )


class _Fit:
    """Heads on one part of the same items: fused, and on every modality alone, each of which is taught once."""

    def __init__(
        self,
        taught: _Items,
        judged: _Items,
        names: Sequence[str],
        part: str,
        quantized: bool = True,
        seed: int = 0,
        rates: tuple[float, ...] = (LEARNING_RATE,),
        epochs: int = EPOCHS,
    ) -> None:
        self.names, self.seed, self.rates, self.epochs = names, seed, rates, epochs
        self.train = [taught.features(name, part, quantized) for name in names]
        self.test = [judged.features(name, part, quantized) for name in names]
        self.classes, ids = np.unique(taught.labels, return_inverse=True)
        self.labels, self.wanted = torch.from_numpy(ids), judged.labels
        self.validation = torch.from_numpy(validation_mask(taught.labels, seed))

    @cached_property
    def alone(self) -> dict[str, np.ndarray]:
        parts = zip(self.names, self.train, self.test, strict=True)
        return {name: self._judged([one], [two], "concat")[1] for name, one, two in parts}

    def result(self, fusion: str) -> FusionResult:
        rate, correct = self._judged(self.train, self.test, fusion)
        alone = {name: Alone(float(own.mean()), *paired_gain(correct, own), own) for name, own in self.alone.items()}
        chance = float(np.unique(self.wanted, return_counts=True)[1].max() / len(self.wanted))
        return FusionResult(float(correct.mean()), _interval(correct, self.seed), chance, alone, rate, correct)

    def _judged(self, train: list[Tensor], test: list[Tensor], fusion: str) -> tuple[float, np.ndarray]:
        """The learning rate, and which test items a head of it classifies correctly."""
        rate = self.rates[0] if len(self.rates) == 1 else self._best_rate(train, fusion)
        with torch.no_grad():
            ids = self._taught(train, self.labels, fusion, rate)(test).argmax(-1)
        return rate, self.classes[ids.numpy()] == self.wanted

    def _best_rate(self, train: list[Tensor], fusion: str) -> float:
        fitted, held_out = ~self.validation, self.validation
        accuracies = []
        for rate in self.rates:
            head = self._taught([x[fitted] for x in train], self.labels[fitted], fusion, rate)
            with torch.no_grad():
                right = head([x[held_out] for x in train]).argmax(-1) == self.labels[held_out]
            accuracies.append(float(right.float().mean()))
        return self.rates[int(np.argmax(accuracies))]

    @torch.enable_grad()
    def _taught(self, parts: list[Tensor], labels: Tensor, fusion: str, rate: float) -> FusionHead:
        generator = torch.Generator().manual_seed(self.seed)
        head = FusionHead([x.shape[-1] for x in parts], len(self.classes), fusion)
        optimizer = torch.optim.Adam(head.parameters(), lr=rate)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(labels), generator=generator).split(_BATCH):
                optimizer.zero_grad()
                cross_entropy(head([x[rows] for x in parts]), labels[rows]).backward()
                optimizer.step()
        return head


def _rows_with(embedded: EmbeddedSet, names: Sequence[str]) -> Tensor:
    """Rows that have all modalities, in order."""
    rows = embedded.modalities[names[0]].positions
    for name in names[1:]:
        rows = rows[torch.isin(rows, embedded.modalities[name].positions)]
    return rows.sort().values


def _pair_of(embedded: EmbeddedSet) -> tuple[str, ...]:
    names = [name for name in embedded.modalities if name != "text"]
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    counts = {pair: len(_Items.labelled(embedded, pair)) for pair in pairs}
    if counts.get(("video", "audio")):
        return ("video", "audio")
    return max(counts, key=lambda pair: counts[pair], default=())


def _interval(correct: np.ndarray, seed: int) -> tuple[float, float]:
    # Of items that are right or wrong, a draw with replacement is a binomial one.
    generator = np.random.default_rng(seed)
    means = generator.binomial(len(correct), correct.mean(), size=_RESAMPLES) / len(correct)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
