"""What number does a model reach on a row of the paper? Rows, prototypes, the metric, an interval, and every item."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codebind_hf.benchmarks.entry import Benchmark
from codebind_hf.benchmarks.figures import BASELINE, OF_BACKBONE
from codebind_hf.benchmarks.rows import Rows
from codebind_hf.evaluation import benchmark_scores as scoring
from codebind_hf.evaluation.embedding import EmbeddedModality, class_embeddings, embed_dataset, embed_texts
from codebind_hf.evaluation.environment import environment
from codebind_hf.evaluation.metrics import hit_shares, match_places
from codebind_hf.evaluation.writing import write_text
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.processing_codebind import CodeBindProcessor


# Quantized embeddings are the paper's; the others say what the codes cost.
_READ_OUTS = {"ours": "embeds", "continuous": "continuous_embeds"}


@dataclass(frozen=True)
class _Scores:
    """What the metric needs: one statistic a number, units that are drawn together, and items to write down."""

    statistics: dict[str, scoring.Statistic]
    units: np.ndarray
    items: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]


def evaluate_benchmark(
    model: CodeBindModel,
    processor: CodeBindProcessor,
    benchmark: Benchmark,
    root: str | Path,
    protocol: str = "paper",
    backbone: str = "ib",
    split: str = "test",
    limit: int | None = None,
    partial: bool = False,
    batch_size: int = 64,
    seed: int = 0,
    draws: int = 1000,
    on_error: str = "raise",
    progress: bool = True,
) -> dict[str, Any]:
    """The number of a benchmark, in percent, with a bootstrap interval and what every item got.

    Under "paper" the processor also takes the clips and crops of the authors' protocol.

    Args:
        root: folder of the data set, in its owners' layout.
        protocol, backbone, split: as for `Benchmark.rows`.
        limit: at most so many rows, evenly spread; then the number is not the paper's.
        partial: as for `Benchmark.check`.
        draws: of the bootstrap, over items, or over clips where texts look for clips.
        on_error: as for `embed_dataset`; items that are skipped are listed, and do not count.

    Returns:
        `{"ours": {metric: {"value", "low", "high"}}, "continuous": likewise, "paper", "baseline", "data", "items",
        "arrays", ...}`; `arrays` holds the scores of every item and class where the metric needs them.

    Raises:
        ValueError: the model cannot read the modality, the benchmark is only for training, or see `check`.
        OSError: see `check`, or (with "raise") a file of a row cannot be read.
    """
    if benchmark.is_only_for_training:
        raise ValueError(f"{benchmark.title}: is only for training; evaluate on modelnet40.")
    missing = [name for name in (benchmark.modality, "text") if name not in model.config.modalities]
    if missing:
        known = ", ".join(model.config.modalities)
        raise ValueError(f"{benchmark.title}: needs {' and '.join(missing)}, but this model has {known}.")
    found = benchmark.check(root, protocol, split, partial, backbone)
    fitting = fitting_processor(processor, benchmark, protocol, backbone)
    embedded = embed_dataset(
        model,
        fitting,
        found.rows.some(limit),
        batch_size,
        modalities=(benchmark.modality,),
        on_error=on_error,
        progress=progress,
    )
    if benchmark.modality not in embedded.modalities:
        raise ValueError(f"{benchmark.title}: not one item could be read: {embedded.failures[0].message}")
    items = embedded.modalities[benchmark.modality]
    rows = found.rows.some(limit).take(items.positions.numpy())
    task = _Task(model, fitting, benchmark, Path(root), protocol, backbone)
    measure = task.captions if benchmark.metric.kind == "recall" else task.classes
    scores = {name: measure(rows, getattr(items, part), part) for name, part in _READ_OUTS.items()}
    figures = benchmark.figures
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "modality": benchmark.modality,
        "metric": list(benchmark.metric.names),
        "protocol": protocol,
        "backbone": backbone,
        "split": split,
        **{name: _measured(one, draws, seed) for name, one in scores.items()},
        "paper": figures.get(OF_BACKBONE[backbone]),
        "baseline": {BASELINE[backbone]: figures.get(BASELINE[backbone])},
        "templates": list(benchmark.prompts(backbone)),
        "data": {
            "fingerprint": found.fingerprint(),
            "rows": len(rows),
            "listed": found.num_listed,
            "expected": found.num_expected,
            "missing": len(found.missing),
            "is_whole": found.is_whole and limit is None and not embedded.failures,
            "limit": limit,
        },
        "processing": fitting.part(argument_of(benchmark.modality)).parameters(),
        "seed": seed,
        "draws": draws,
        "environment": environment(),
        "failures": [vars(failure) for failure in embedded.failures],
        "items": scores["ours"].items,
        "arrays": scores["ours"].arrays,
    }


def fitting_processor(
    processor: CodeBindProcessor, benchmark: Benchmark, protocol: str, backbone: str
) -> CodeBindProcessor:
    """The processor as the benchmark's rows and the protocol need it; the one given stays as it is."""
    fitting, argument = copy.copy(processor), argument_of(benchmark.modality)
    part = processor.part(argument)
    options: dict[str, Any] = {}
    if benchmark.modality == "depth" and part.depth_unit is not None:
        # Rows hold metres, whatever the files of the checkpoint's training were in.
        options["depth_unit"] = None
    if protocol == "paper":
        options |= benchmark.processing.get(backbone, {}).get(argument, {})
        if processor.text_cleaning == "vitlens":
            # ViT-Lens cleans the captions of its training, and no prompt.
            fitting.text_cleaning = "open_clip"
    attribute = next((name for name in processor.get_attributes() if getattr(processor, name) is part), None)
    if attribute is None:
        if options:
            raise ValueError(
                f"protocol: got {protocol!r}, which sets {', '.join(options)} of {benchmark.modality}; this model "
                "reads it by another network's processor. Fix: protocol='sound'."
            )
        return fitting
    setattr(fitting, attribute, part.with_parameters(**options))
    return fitting


@dataclass(frozen=True)
class _Task:
    """A model that faces a benchmark."""

    model: CodeBindModel
    processor: CodeBindProcessor
    benchmark: Benchmark
    root: Path
    protocol: str
    backbone: str
    made: dict[Any, Any] = field(default_factory=dict)

    def classes(self, rows: Rows, embeds: Tensor, part: str) -> _Scores:
        """Items against the prototypes of all classes."""
        labels, names = rows.column("label"), self.benchmark.class_names(self.root)
        if self.backbone in self.benchmark.only_present:
            present = set(labels)
            names = [name for name in names if name in present]
        scores = scoring.cosines(embeds.numpy(), self._prototypes(tuple(names), part).numpy())
        if self.benchmark.metric.kind == "average_precision":
            return self._precision(rows, scores, names)
        merged = self.benchmark.merged.get(self.backbone, {})
        groups = [merged.get(name, name) for name in names]
        kinds = list(dict.fromkeys(groups))
        wanted = [merged.get(label, label) for label in labels]
        targets = scoring.positions_of(wanted, kinds, self.benchmark.title)
        cuts = dict(zip(self.benchmark.metric.names, self.benchmark.metric.at, strict=True))
        if merged:
            hits = {
                name: scoring.merged_hits(scores, targets, scoring.positions_of(groups, kinds, self.benchmark.title))
                for name in cuts
            }
        else:
            hits = {name: scoring.class_hits(scores, targets, cut) for name, cut in cuts.items()}
        items = [
            {
                "id": name,
                "label": label,
                "prediction": groups[best],
                **{cut: float(one[n]) for cut, one in hits.items()},
            }
            for n, (name, label, best) in enumerate(zip(rows.column("id"), wanted, scores.argmax(1), strict=True))
        ]
        if not self.benchmark.metric.folds:
            statistics = {name: scoring.mean_of(one) for name, one in hits.items()}
        else:
            folds = np.array([attributes["fold"] for attributes in rows.column("attributes")])
            statistics = {name: scoring.mean_of_folds(one, folds) for name, one in hits.items()}
            items = [{**item, "fold": int(fold)} for item, fold in zip(items, folds, strict=True)]
        return _Scores(statistics, np.arange(len(rows)), items, {})

    def captions(self, rows: Rows, embeds: Tensor, part: str) -> _Scores:
        """Every caption looks for its clip among all clips."""
        texts, owners = [], []
        for place, captions in enumerate(rows.column("text")):
            texts += captions
            owners += [place] * len(captions)
        queries = getattr(self._embedded(tuple(texts)), part)
        targets = np.array(owners, dtype=np.int64)
        before, tied = match_places(queries.numpy(), embeds.numpy(), targets)
        metric, ids = self.benchmark.metric, rows.column("id")
        statistics = {
            name: scoring.mean_of(hit_shares(before, tied, cut))
            for name, cut in zip(metric.names, metric.at, strict=True)
        }
        items = [
            {"id": ids[owner], "text": text, "before": int(better), "tied": int(same)}
            for text, owner, better, same in zip(texts, owners, before, tied, strict=True)
        ]
        return _Scores(statistics, targets, items, {})

    def _precision(self, rows: Rows, scores: np.ndarray, names: Sequence[str]) -> _Scores:
        relevant = np.zeros(scores.shape, dtype=bool)
        for place, labels in enumerate(rows.column("label")):
            relevant[place, scoring.positions_of(labels, names, self.benchmark.title)] = True
        items = [
            {"id": name, "label": labels, "prediction": names[best]}
            for name, labels, best in zip(rows.column("id"), rows.column("label"), scores.argmax(1), strict=True)
        ]
        arrays = {"scores": scores.astype(np.float32), "relevant": relevant, "classes": np.array(names)}
        statistics = {"mAP": scoring.mean_precision_of(scores, relevant)}
        return _Scores(statistics, np.arange(len(rows)), items, arrays)

    def _prototypes(self, names: tuple[str, ...], part: str) -> Tensor:
        """One vector a class: the mean over templates, then over the names that it is shown under."""
        aliases = self.benchmark.aliases.get(self.protocol, {})
        shown = [aliases.get(name, (name,)) for name in names]
        flat = tuple(one for several in shown for one in several)
        made = getattr(self._class_embeds(flat), part)
        parts = made.split([len(several) for several in shown])
        return torch.stack([torch.nn.functional.normalize(one.mean(0), dim=0) for one in parts])

    def _class_embeds(self, names: tuple[str, ...]) -> Any:
        key = ("classes", names)
        if key not in self.made:
            templates = self.benchmark.prompts(self.backbone)
            self.made[key] = class_embeddings(self.model, self.processor, names, templates)
        return self.made[key]

    def _embedded(self, texts: tuple[str, ...]) -> EmbeddedModality:
        key = ("texts", texts)
        if key not in self.made:
            self.made[key] = embed_texts(self.model, self.processor, texts)
        return self.made[key]


def _measured(scores: _Scores, draws: int, seed: int) -> dict[str, dict[str, float]]:
    """Every number of the metric in percent, with its interval."""
    ones, found = np.ones(len(scores.units)), {}
    for name, statistic in scores.statistics.items():
        low, high = scoring.interval(statistic, scores.units, draws, seed)
        found[name] = {"value": 100 * statistic(ones), "low": 100 * low, "high": 100 * high}
    return found


def comparison_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: one line a number, the paper's beside ours and the difference."""
    lines = ["| row | protocol | metric | paper | ours (95 %) | difference | continuous | items |"]
    lines.append("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for result in results:
        published = result["paper"] or (None,) * len(result["metric"])
        items = f"{result['data']['rows']}" + ("" if result["data"]["is_whole"] else " of a part")
        for name, figure in zip(result["metric"], published, strict=True):
            ours, smooth = result["ours"][name], result["continuous"][name]["value"]
            measured = f"{ours['value']:.1f} ({ours['low']:.1f} to {ours['high']:.1f})"
            paper, gap = ("-", "-") if figure is None else (f"{figure:.1f}", f"{ours['value'] - figure:+.1f}")
            cells = [result["title"], result["protocol"], name, paper, measured, gap, f"{smooth:.1f}", items]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_benchmarks(results: Sequence[Mapping[str, Any]], file: Path) -> list[Path]:
    """Write results as JSON, the table beside it as Markdown, and scores of items and classes as `.npz`.

    Raises:
        OSError: a file cannot be written.
    """
    written, kept = [], []
    for result in results:
        arrays = result["arrays"]
        if arrays:
            scores = file.with_name(f"{file.stem}.{result['benchmark']}.npz")
            scores.parent.mkdir(parents=True, exist_ok=True)
            draft = scores.with_name(f".{scores.name}")
            with draft.open("wb") as stream:
                np.savez_compressed(stream, **arrays)
            written.append(draft.replace(scores))
        kept.append({**result, "arrays": written[-1].name if arrays else None})
    text = json.dumps({"results": kept}, indent=1)
    return [write_text(file, text), write_text(file.with_suffix(".md"), comparison_table(results)), *written]
