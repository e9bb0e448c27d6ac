"""What does each part of an embedding know: private and shared labels, read from both parts and from their controls.

The measure is that of DisentangledSSL (uhlerlab/DisentangledSSL@cda29ec, `linearprobe_Disen`): in the ideal case the
specific part knows every private attribute and not the class, the shared part the class and no private attribute.
"""

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch

from codebind_hf.evaluation.controls import Controls
from codebind_hf.evaluation.embedding import EmbeddedSet
from codebind_hf.evaluation.metrics import pool_precision
from codebind_hf.evaluation.probes import (
    ProbeResult,
    linear_probe,
    mlp_probe,
    paired_gain,
    predictability,
    random_projection,
    residual,
)
from codebind_hf.evaluation.side_by_side import results_of


PARTS = {
    "specific": "specific_embeds",
    "specific_continuous": "continuous_specific_embeds",
    "shared": "embeds",
    "shared_continuous": "continuous_embeds",
}
# What needs no training: the raw input, a random projection of it, a fresh network, and the closed form.
CONTROLS = ("raw", "projection", "untrained", "residual")
# An attribute that neither the raw input nor a fresh network knows this well is not readable at all.
READABLE = 0.6
# The label of a row among a modality's attributes; no attribute of a modality may be called so.
CLASS = "class"
_LEAST_ITEMS = 10
# How many of the nearest items count in retrieval within a modality.
NEIGHBOURS = 10

Section = dict[str, dict[str, Any]]
Features = dict[str, tuple[np.ndarray, np.ndarray]]
ControlSets = tuple[Mapping[str, Controls], Mapping[str, Controls]]


def probe_section(
    train: EmbeddedSet,
    test: EmbeddedSet,
    seed: int = 0,
    controls: ControlSets | None = None,
    num_workers: int = 0,
    progress: bool = False,
) -> dict[str, Section]:
    """Probes of every attribute called "<modality>.<attribute>", and of the class, on that modality's embeddings.

    Args:
        controls: of the rows of `train` and of `test`, from `controls_of`.
        num_workers: processes that fit the probes; 0: this one.
        progress: show a progress bar.

    Returns:
        `{modality: {attribute: {shared, shared_continuous, specific, specific_continuous, chance, n, ...}}}`, the
        class of a row being the attribute "class". `specific_minus_shared` and its `standard_error` compare the two
        quantized read-outs item by item, the same names with `_continuous` the two before quantization. With
        `controls` come `raw`, `projection` (a random one to the size of the specific part), `untrained` and `residual`
        (the closed form); `readable`; and `shared_mlp` and `specific_mlp`, what a small network reads of the two
        before quantization. An attribute with too few items, with one value only, or with more values than half of the
        items it would be learned from, is left out, and so are classes of one item each.
    """
    attributes = sorted({name for attributes in test.attributes for name in attributes})
    plans: dict[tuple[str, str], _Plan] = {}
    for modality in sorted(set(test.modalities) & set(train.modalities)):
        own = [name for name in attributes if name.startswith(f"{modality}.") and name != f"{modality}."]
        if own and min(len(train.modalities[modality]), len(test.modalities[modality])) >= _LEAST_ITEMS:
            features = _features(train, test, modality, seed, controls)
            for name in [*own, CLASS]:
                if plan := _planned(train, test, modality, name, features, seed):
                    plans[modality, name.partition(".")[2] or CLASS] = plan
    # Those of one reader beside each other: workers take them in turn, and they take about as long.
    order = sorted(((*key, reader) for key, plan in plans.items() for reader in plan.probes), key=itemgetter(2))
    calls = [plans[modality, name].probes[reader] for modality, name, reader in order]
    done = results_of(calls, num_workers, "Fitting probes" if progress else None)
    results = dict(zip(order, done, strict=True))
    section: dict[str, Section] = {}
    for (modality, name), plan in plans.items():
        found = {reader: results[modality, name, reader] for reader in plan.probes}
        section.setdefault(modality, {})[name] = _entry(name, found, plan.num_training)
    return section


def decoupling_section(
    train: EmbeddedSet, test: EmbeddedSet, probes: Mapping[str, Section], controls: ControlSets | None
) -> Section:
    """How well the two parts of every modality are told apart: `{modality: {...}}`.

    Returns:
        By modality `specific_from_shared` and `shared_from_specific`, the R2 of a ridge regression of one part on the
        other before quantization; and, where probes have controls, over the readable private attributes: `kept`, the
        share of what the best of raw input and fresh network knows above chance that the quantized specific part still
        knows, and `leaked`, the share that the continuous shared part knows.
    """
    section: Section = {}
    for name in sorted(set(train.modalities) & set(test.modalities)):
        one, two = train.modalities[name], test.modalities[name]
        own = one.continuous_specific_embeds, two.continuous_specific_embeds
        if own[0] is None or own[1] is None or min(len(one), len(two)) < _LEAST_ITEMS:
            continue
        shared = one.continuous_embeds, two.continuous_embeds
        section[name] = {
            "specific_from_shared": predictability(shared[0], own[0], shared[1], own[1]),
            "shared_from_specific": predictability(own[0], shared[0], own[1], shared[1]),
        }
        readable = [entry for entry in probes.get(name, {}).values() if entry.get("readable")]
        if controls is not None and readable:
            section[name] |= {
                "readable": len(readable),
                "kept": float(np.mean([share_of_best(entry, "specific") for entry in readable])),
                "leaked": float(np.mean([share_of_best(entry, "shared_continuous") for entry in readable])),
            }
    return section


def fine_grained_section(embedded: EmbeddedSet) -> dict[str, Section]:
    """Retrieval within one modality, of items of one class or of one class and private attribute (paper table 4).

    Every item is a query, and all others are its gallery; one that nothing else is like does not count.

    Returns:
        `{modality: {attribute: {shared, specific, both, chance, shared_at_10, specific_at_10, both_at_10,
        chance_at_10, both_at_least_shared, n}}}`, "class" being the class alone: how often the nearest item is alike,
        and which share of the ten nearest (`pool_precision`), by cosines of the quantized parts and of both side by
        side. `both_at_least_shared` is the share of queries for which both find as many of ten as the shared part.
    """
    section: dict[str, Section] = {}
    for modality in embedded.modalities:
        for name in [*attributes_of(embedded, modality), CLASS]:
            if entry := _alike(embedded, modality, name):
                section.setdefault(modality, {})[name.partition(".")[2] or CLASS] = entry
    return section


def _alike(embedded: EmbeddedSet, modality: str, name: str) -> dict[str, Any]:
    part = embedded.modalities[modality]
    (has_class, classes), (has_value, values) = (labels_of(embedded, modality, label) for label in (CLASS, name))
    both = has_class & has_value
    pairs = [f"{a}|{b}" for a, b in zip(classes[both[has_class]], values[both[has_value]], strict=True)]
    _, groups, counts = np.unique(np.array(pairs, dtype=str), return_inverse=True, return_counts=True)
    known = part.take(torch.from_numpy(both))
    shared, specific = known.embeds, known.specific_embeds
    if specific is None or len(groups) < _LEAST_ITEMS or counts.max() < 2:
        return {}
    compared = {"shared": shared, "specific": specific, "both": torch.cat([shared, specific], dim=1)}
    entry: dict[str, Any] = {}
    tens = {}
    for key, embeds in compared.items():
        found = pool_precision(embeds, groups, (1, NEIGHBOURS))
        entry[key], tens[key] = float(np.nanmean(found["precision_at_1"])), found[f"precision_at_{NEIGHBOURS}"]
        entry[f"{key}_at_{NEIGHBOURS}"] = float(np.nanmean(tens[key]))
    others = counts[groups] - 1
    shares = others[others > 0] / (len(groups) - 1)
    at_ten = shares * min(NEIGHBOURS, len(groups) - 1) / np.minimum(others[others > 0], NEIGHBOURS)
    as_good = tens["both"][others > 0] >= tens["shared"][others > 0] - 1e-9
    return {
        **entry,
        "chance": float(shares.mean()),
        f"chance_at_{NEIGHBOURS}": float(at_ten.mean()),
        "both_at_least_shared": float(as_good.mean()),
        "n": int((others > 0).sum()),
    }


def share_of_best(entry: Mapping[str, float], reader: str) -> float:
    """Of what the raw input or a fresh network knows above chance, the share that `reader` knows; 0 at chance."""
    best = max(entry["raw"], entry["untrained"]) - entry["chance"]
    return max(entry[reader] - entry["chance"], 0.0) / best


def halves(embedded: EmbeddedSet, seed: int) -> tuple[EmbeddedSet, EmbeddedSet]:
    """Two seeded halves of the rows: one to train probes on, one to test them on."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(embedded)))
    return embedded.only(order[: len(order) // 2]), embedded.only(order[len(order) // 2 :])


def _features(
    train: EmbeddedSet, test: EmbeddedSet, modality: str, seed: int, controls: ControlSets | None
) -> Features:
    """What is probed of every item of a modality, by reader: of training and of test items."""
    one, two = train.modalities[modality], test.modalities[modality]
    parts = {reader: (getattr(one, part), getattr(two, part)) for reader, part in PARTS.items()}
    features = {name: (a.numpy(), b.numpy()) for name, (a, b) in parts.items() if a is not None and b is not None}
    if controls is None or modality not in controls[0] or modality not in controls[1]:
        return features
    first, second = (control[modality].of(part.positions) for control, part in zip(controls, (one, two), strict=True))
    size, raw, shared = (
        first.untrained.shape[1],
        (first.raw.numpy(), second.raw.numpy()),
        features["shared_continuous"],
    )
    return {
        **features,
        "raw": raw,
        "projection": (random_projection(raw[0], size, seed), random_projection(raw[1], size, seed)),
        "untrained": (first.untrained.numpy(), second.untrained.numpy()),
        "residual": residual(raw[0], shared[0], raw[1], shared[1], size),
    }


class _Plan(NamedTuple):
    """Probes of one attribute of one modality by reader, not fitted yet, and how many items they train on."""

    probes: dict[str, Callable[[], ProbeResult]]
    num_training: int


def _planned(
    train: EmbeddedSet, test: EmbeddedSet, modality: str, name: str, features: Features, seed: int
) -> _Plan | None:
    """`None` where there is too little to learn from, also of an attribute of which nearly every item has a value of
    its own, as free text and measurements do; a class is one however few items it has."""
    known, labels = zip(*(labels_of(embedded, modality, name) for embedded in (train, test)), strict=True)
    most = len(labels[0]) - 1 if name == CLASS else len(labels[0]) / 2
    if min(map(len, labels)) < _LEAST_ITEMS or not 2 <= len(np.unique(labels[0])) <= most:
        return None

    def probe(kind: Callable[..., ProbeResult], reader: str) -> Callable[[], ProbeResult]:
        first, second = features[reader]
        return partial(kind, first[known[0]], labels[0], second[known[1]], labels[1], seed)

    probes = {reader: probe(linear_probe, reader) for reader in features}
    if "raw" in features:
        probes |= {f"{part}_mlp": probe(mlp_probe, f"{part}_continuous") for part in ("specific", "shared")}
    return _Plan(probes, len(labels[0]))


def _entry(name: str, found: Mapping[str, ProbeResult], num_training: int) -> dict[str, Any]:
    """The entry of one attribute of one modality."""
    linear = {reader: result for reader, result in found.items() if not reader.endswith("_mlp")}
    entry: dict[str, Any] = {reader: result.accuracy for reader, result in linear.items()}
    entry |= {"chance": found["shared"].chance, "n": len(found["shared"].correct), "n_train": num_training}
    if "raw" in entry:
        entry |= {reader: result.accuracy for reader, result in found.items() if reader not in linear}
        best = max(entry["raw"], entry["untrained"])
        entry["readable"] = bool(name != CLASS and best >= READABLE and best > entry["chance"])
    for suffix in ("", "_continuous"):
        if f"specific{suffix}" in found:
            gain, error = paired_gain(found[f"specific{suffix}"].correct, found[f"shared{suffix}"].correct)
            entry |= {f"specific_minus_shared{suffix}": gain, f"standard_error{suffix}": error}
    return entry


def attributes_of(embedded: EmbeddedSet, modality: str) -> list[str]:
    """Names of the private attributes, "<modality>.<attribute>", that items of a modality have, sorted."""
    rows = embedded.modalities[modality].positions.tolist()
    names = {name for row in rows for name in embedded.attributes[row]}
    return sorted(name for name in names if name.startswith(f"{modality}.") and name != f"{modality}.")


def labels_of(embedded: EmbeddedSet, modality: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Which items of a modality have the attribute `name`, or a class, and its values."""
    rows = embedded.modalities[modality].positions.tolist()
    values = [embedded.labels[row] if name == CLASS else embedded.attributes[row].get(name) for row in rows]
    known = np.array([value is not None for value in values], dtype=bool)
    return known, np.array([str(value) for value in values if value is not None])
