"""One call that evaluates a model on rows: embed them once, then fill every section of the report."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from codebind_hf.data.choices import BAR_DELAY
from codebind_hf.data.row_tensors import class_names_of
from codebind_hf.evaluation.abstention import abstention_section
from codebind_hf.evaluation.class_scores import class_section, gap_section
from codebind_hf.evaluation.class_structure import information_section, intra_class_section
from codebind_hf.evaluation.controls import Controls, controls_of
from codebind_hf.evaluation.decoupling import (
    CLASS,
    ControlSets,
    decoupling_section,
    fine_grained_section,
    halves,
    probe_section,
    share_of_best,
)
from codebind_hf.evaluation.embedding import (
    ClassEmbeds,
    EmbeddedSet,
    Rows,
    check_templates,
    class_embeddings,
    embed_dataset,
    modalities_to_read,
)
from codebind_hf.evaluation.environment import environment
from codebind_hf.evaluation.fusion import fusion_section
from codebind_hf.evaluation.reconstruction import reconstruction_section
from codebind_hf.evaluation.sections import (
    BRIDGES,
    agreement_section,
    codebook_section,
    emergent_pairs,
    mixed_pool_section,
    retrieval_section,
    zero_shot_section,
)
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.objective import aligned_pairs
from codebind_hf.processing.processing_codebind import CodeBindProcessor


_TIMES_CHANCE = 5
_CLEAR_LEAD = 0.15


@dataclass
class Evaluation:
    """A model and the rows to judge it on; everything derived from them is computed once, when first asked for.

    Args:
        model: a `CodeBindModel`.
        processor: its `CodeBindProcessor`.
        rows: rows or prepared rows of any subset of modalities, with or without labels and attributes.
        class_names: classes of zero-shot classification; by default the labels of the rows, sorted.
        templates: texts with `{}` where the class name belongs.
        probe_rows: rows to train the linear probes on; by default a seeded half of `rows`, tested on the other half.
        training_rows: rows over which codebook usage is counted; by default `rows`.
        seed: of everything random.
        trained_pairs: pairs of modalities that were trained together; by default those that the model's configuration
            aligns with text or image.
        batch_size: rows at a time.
        on_error: "raise" or "skip", as in `embed_dataset`.
        controls: probe the raw input and a fresh network of the same configuration beside the two parts.
        fused: modalities whose embeddings are fused and classified together; by default as in `fusion_section`.
        progress: show progress bars.
        num_workers: processes that fit probes and lay out the shared space; 0: this one. The numbers are the same.

    Raises:
        ValueError: a template without `{}`, or rows with no modality that the model reads. Of modalities that it does
            not read, the log tells.
    """

    model: CodeBindModel
    processor: CodeBindProcessor
    rows: Rows
    class_names: Sequence[str] | None = None
    templates: Sequence[str] = ("a photo of a {}",)
    probe_rows: Rows | None = None
    training_rows: Rows | None = None
    seed: int = 0
    trained_pairs: Iterable[tuple[str, str]] | None = None
    batch_size: int = 64
    on_error: str = "raise"
    controls: bool = True
    fused: Sequence[str] | None = None
    progress: bool = True
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_templates(self.templates)
        for name in ("rows", "training_rows"):
            rows = getattr(self, name)
            # What else comes may have to open every row for it.
            if isinstance(rows, list) or hasattr(rows, "row_modalities"):
                modalities_to_read(self.model, rows, name)

    @cached_property
    def embedded(self) -> EmbeddedSet:
        """The rows, embedded."""
        embedded = self._embed(self.rows)
        if not embedded.modalities and (failures := embedded.failures):
            one = failures[0]
            raise ValueError(f"rows: none can be read; row {one.position}, {one.modality}: {one.message}")
        if not embedded.modalities:
            raise ValueError(
                f"rows: no row has a modality that this model reads ({', '.join(self.model.config.modality_names)})."
            )
        return embedded

    @cached_property
    def training_set(self) -> EmbeddedSet:
        return self.embedded if self.training_rows is None else self._embed(self.training_rows)

    @cached_property
    def probe_sets(self) -> tuple[EmbeddedSet, EmbeddedSet]:
        """What the probes train on and what they are tested on."""
        if self.probe_rows is None:
            return halves(self.embedded, self.seed)
        same = self.probe_rows is self.training_rows
        return (self.training_set if same else self._embed(self.probe_rows)), self.embedded

    @cached_property
    def probe_controls(self) -> ControlSets | None:
        """Of both `probe_sets`; `None` without `controls`."""
        if not self.controls:
            return None
        tested = self._controls(self.rows, self.embedded)
        return tested if self.probe_rows is None else self._controls(self.probe_rows, self.probe_sets[0]), tested

    @cached_property
    def probes(self) -> dict[str, Any]:
        return probe_section(*self.probe_sets, self.seed, self.probe_controls, self.num_workers, self.progress)

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of modalities that were trained together, each in the order of the model's modalities."""
        known = list(self.model.config.modality_names)
        given = self.trained_pairs
        if given is None:
            given = [(one, other) for one, other, _ in aligned_pairs(self.model.config) if one in BRIDGES]
        pairs = {frozenset(pair) for pair in given}
        return [(a, b) for place, a in enumerate(known) for b in known[place + 1 :] if frozenset((a, b)) in pairs]

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes; empty when there is nothing to classify."""
        if self.class_names is not None:
            return list(self.class_names)
        return sorted(class_names_of([*self.embedded.labels, *self.embedded.label_sets]))

    @cached_property
    def class_embeds(self) -> ClassEmbeds | None:
        """Class prototypes, or `None` without a text encoder or without two classes."""
        if len(self.classes) < 2 or "text" not in self.model.config.modality_names:
            return None
        return class_embeddings(self.model, self.processor, self.classes, self.templates)

    def report(self) -> dict[str, Any]:
        """The whole report: plain dictionaries, lists, strings and finite numbers, ready for JSON.

        A section that does not apply (zero-shot without labels, probes without attributes) is absent.

        Raises:
            ValueError: as `embed_dataset`; a label outside `class_names`; no row with a modality that the model reads.
        """
        start = time.perf_counter()
        bar = tqdm(_SECTIONS.items(), desc="Evaluating", unit="section", disable=not self.progress, delay=BAR_DELAY)
        report = {name: section for name, fill in bar if (section := fill(self)) != {}}
        summary = {name: entry for name, fill in _SUMMARIES.items() if (entry := fill(report))}
        about = {"seed": self.seed, "seconds": time.perf_counter() - start, "environment": environment()}
        return as_json({"summary": summary, **report, **about})

    def _embed(self, rows: Rows) -> EmbeddedSet:
        return embed_dataset(
            self.model, self.processor, rows, self.batch_size, on_error=self.on_error, progress=self.progress
        )

    def _controls(self, rows: Rows, embedded: EmbeddedSet) -> dict[str, Controls]:
        """Only of modalities with attributes to probe, as a fresh network costs memory and time."""
        named = {name.partition(".")[0] for attributes in embedded.attributes for name in attributes}
        return controls_of(self.model, self.processor, rows, embedded, named, self.seed, self.batch_size)


def evaluate_model(
    model: CodeBindModel,
    processor: CodeBindProcessor,
    rows: Rows,
    class_names: Sequence[str] | None = None,
    templates: Sequence[str] = ("a photo of a {}",),
    probe_rows: Rows | None = None,
    training_rows: Rows | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """The report of a model on rows: zero-shot, retrieval, probes, codebooks, reconstruction, environment.

    Arguments are those of `Evaluation` (`options` are its remaining fields); errors are those of
    `Evaluation.report`.
    """
    evaluation = Evaluation(model, processor, rows, class_names, templates, probe_rows, training_rows, seed, **options)
    return evaluation.report()


def as_json(value: Any, path: str = "report") -> Any:
    """`value` with numpy and torch scalars as plain ones.

    Raises:
        ValueError: a number is not finite; the message names its place.
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(entry, f"{path}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(entry, f"{path}[{position}]") for position, entry in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: got {value}; a report holds finite numbers only.")
    return value


def _rows_section(evaluation: Evaluation) -> dict[str, Any]:
    embedded = evaluation.embedded
    return {
        "n": len(embedded),
        "modalities": {name: len(modality) for name, modality in embedded.modalities.items()},
        "failures": [vars(failure) for failure in embedded.failures],
    }


def _zero_shot(evaluation: Evaluation) -> dict[str, Any]:
    classes = evaluation.class_embeds
    return {} if classes is None else zero_shot_section(evaluation.embedded, classes, evaluation.classes)


def _abstention(evaluation: Evaluation) -> dict[str, Any]:
    classes, seed = evaluation.class_embeds, evaluation.seed
    return {} if classes is None else abstention_section(evaluation.embedded, classes, evaluation.classes, seed)


def _codebook_rows(evaluation: Evaluation) -> dict[str, Any]:
    source = "rows" if evaluation.training_rows is None else "training_rows"
    return {"source": source, "n": len(evaluation.training_set)}


def _reconstruction(evaluation: Evaluation) -> dict[str, Any]:
    return reconstruction_section(
        evaluation.model, evaluation.processor, evaluation.rows, evaluation.embedded, evaluation.batch_size
    )


def _decoupling(evaluation: Evaluation) -> dict[str, Any]:
    return decoupling_section(*evaluation.probe_sets, evaluation.probes, evaluation.probe_controls)


_SECTIONS: dict[str, Callable[[Evaluation], Any]] = {
    "rows": _rows_section,
    "class_names": lambda evaluation: evaluation.classes,
    "templates": lambda evaluation: list(evaluation.templates),
    "zero_shot": _zero_shot,
    "by_class": lambda evaluation: class_section(evaluation.embedded, evaluation.class_embeds, evaluation.classes),
    "abstention": _abstention,
    "retrieval": lambda evaluation: retrieval_section(evaluation.embedded),
    "trained_pairs": lambda evaluation: [f"{one}_and_{other}" for one, other in evaluation.pairs],
    "emergent_pairs": lambda evaluation: emergent_pairs(evaluation.embedded, evaluation.pairs),
    "mixed_pool": lambda evaluation: mixed_pool_section(evaluation.embedded),
    "modality_gap": lambda evaluation: gap_section(evaluation.embedded),
    "codebooks": lambda evaluation: codebook_section(evaluation.training_set, evaluation.model.config),
    "codebook_rows": _codebook_rows,
    "agreement": lambda evaluation: agreement_section(evaluation.embedded, evaluation.model.config),
    "probes": lambda evaluation: evaluation.probes,
    "decoupling": _decoupling,
    "fine_grained": lambda evaluation: fine_grained_section(evaluation.embedded),
    "intra_class": lambda evaluation: intra_class_section(evaluation.embedded),
    "information": lambda evaluation: information_section(evaluation.embedded, evaluation.seed),
    "fusion": lambda evaluation: fusion_section(*evaluation.probe_sets, evaluation.fused, evaluation.seed),
    "reconstruction": _reconstruction,
}


def _zero_shot_summary(report: Mapping[str, Any]) -> dict[str, Any]:
    entries = report.get("zero_shot", {})
    if not entries:
        return {}
    times = {name: entry["accuracy"] / entry["chance"] for name, entry in entries.items()}
    return {
        "mean_accuracy": _mean(entry["accuracy"] for entry in entries.values()),
        "mean_accuracy_continuous": _mean(entry["accuracy_continuous"] for entry in entries.values()),
        "least_times_chance": min(times.values()),
        f"modalities_at_{_TIMES_CHANCE}x_chance": sorted(
            name for name, ratio in times.items() if ratio >= _TIMES_CHANCE
        ),
    }


def _retrieval_summary(report: Mapping[str, Any]) -> dict[str, Any]:
    emergent = set(report.get("emergent_pairs", ()))
    groups: dict[str, list[Mapping[str, float]]] = {}
    for name, entry in report.get("retrieval", {}).items():
        groups.setdefault("emergent" if name in emergent else "trained", []).append(entry)
    keys = ("recall_at_1", "recall_at_10", "recall_at_10_continuous", "chance_at_10")
    return {
        group: {"pairs": len(entries), **{key: _mean(entry[key] for entry in entries) for key in keys}}
        for group, entries in groups.items()
    }


def _probe_summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """How often the specific part knows a private attribute better than the shared part does."""
    entries = {
        (modality, attribute): entry
        for modality, attributes in report.get("probes", {}).items()
        for attribute, entry in attributes.items()
        if "specific" in entry and attribute != CLASS
    }
    if not entries:
        return {}
    better = [name for (name, _), entry in entries.items() if entry["specific_minus_shared"] > 0]
    return {
        "attributes": len(entries),
        "specific_beats_shared": len(better),
        "by_two_standard_errors": sum(
            entry["specific_minus_shared"] > 2 * entry["standard_error"] for entry in entries.values()
        ),
        "modalities_with_two_or_more": sorted({name for name in better if better.count(name) > 1}),
    }


def _decoupling_summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """Over the readable attributes of all modalities: what the specific part keeps and what the shared part leaks."""
    entries = [
        entry
        for attributes in report.get("probes", {}).values()
        for entry in attributes.values()
        if entry.get("readable")
    ]
    if not entries:
        return {}
    return {
        "readable": len(entries),
        "kept": _mean(share_of_best(entry, "specific") for entry in entries),
        "leaked": _mean(share_of_best(entry, "shared_continuous") for entry in entries),
        "specific_knows_as_much_as_untrained": sum(entry["specific"] >= entry["untrained"] for entry in entries),
        "specific_leads_by_15_points": sum(
            entry["specific_minus_shared_continuous"] >= _CLEAR_LEAD for entry in entries
        ),
        "shared_above_chance": _mean(entry["shared_continuous"] - entry["chance"] for entry in entries),
    }


_SUMMARIES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "zero_shot": _zero_shot_summary,
    "retrieval": _retrieval_summary,
    "probes": _probe_summary,
    "decoupling": _decoupling_summary,
}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
