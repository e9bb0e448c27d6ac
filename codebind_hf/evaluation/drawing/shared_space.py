"""Pictures of the shared space: one map in two colourings, and how far the modalities lie apart as a whole."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codebind_hf.evaluation.drawing.layout import flat_layout
from codebind_hf.evaluation.embedding import EmbeddedSet
from codebind_hf.evaluation.figure_style import (
    CONTINUOUS,
    INK,
    QUANTIZED,
    bare,
    color_of,
    heading,
    legend,
    new_figure,
    pretty,
    quiet,
)
from codebind_hf.evaluation.probes import one_thread
from codebind_hf.evaluation.side_by_side import results_of
from codebind_hf.evaluation.suite import Evaluation


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_POINTS = 1400
_MOST_CLASSES_NAMED = 30
_POINT: dict[str, Any] = {"s": 15, "alpha": 0.8, "linewidths": 0}
_TEXT_POINT: dict[str, Any] = {"s": 75, "marker": "*", "edgecolors": "white", "linewidths": 0.6}
_MARKERS = ("o", "^", "s", "X", "D", "P", "v", "*", "<", ">")
_HUES, _MOST_COLUMNS = 10, 5

Report = dict[str, Any]


def shared_space_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """One t-SNE of the quantized shared embeddings, coloured by class and by modality.

    The mean of every modality is taken away first: whether modalities agree on what is alike is one question, how far
    apart they lie as a whole another, which `gap_figure` shows. Of classes named by two words, such as "glass ring",
    the first is the hue and the last the marker.
    """
    points, modalities, labels = _sampled(evaluation.embedded, evaluation.seed)
    if len(points) < 10:
        return None
    layout = partial(_flattened, points, modalities, evaluation.seed)
    (places,) = results_of([layout], evaluation.num_workers)
    labelled = evaluation.class_embeds is not None
    figure = new_figure(10.4 if labelled else 5.2, 6.0)
    panels = figure.subplots(1, 2 if labelled else 1, squeeze=False)[0]
    if labelled:
        _color_by_class(panels[0], places, labels, evaluation.classes)
    for name in sorted(dict.fromkeys(modalities), key=lambda modality: modality == "text"):
        chosen = np.array([modality == name for modality in modalities])
        style = _TEXT_POINT if name == "text" else _POINT
        panels[-1].scatter(*places[chosen].T, color=color_of(name), label=pretty(name), **style)
    heading(panels[-1], "The same map by modality" if labelled else "Shared space by modality")
    legend(panels[-1], loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=5, columnspacing=1.0, handletextpad=0.1)
    for axes in panels:
        bare(axes)
    return figure


def gap_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """Bars of how far the mean of each modality lies from the others', after and before quantization."""
    entries = report.get("modality_gap")
    if not entries:
        return None
    names = sorted(entries, key=lambda name: entries[name]["gap"])
    heights = np.arange(len(names))
    figure = new_figure(6.8, 0.36 * len(names) + 1.1)
    axes = figure.subplots()
    for offset, key, color, label in (
        (0.2, "gap", QUANTIZED, "quantized"),
        (-0.2, "gap_continuous", CONTINUOUS, "continuous"),
    ):
        bars = axes.barh(heights + offset, [entries[name][key] for name in names], 0.38, color=color, label=label)
        axes.bar_label(bars, fmt="%.2f", fontsize=7.5, color=INK, padding=2)
    axes.set_yticks(heights, [pretty(name) for name in names])
    axes.set_xlim(0, 1.12 * max(max(entry["gap"], entry["gap_continuous"]) for entry in entries.values()))
    axes.set_xlabel(
        "distance of a modality's mean from the mean of the others; 0 is no gap, 2 the most", fontsize=8.5, color=INK
    )
    heading(axes, "How far modalities lie apart as a whole")
    quiet(axes, grid="x")
    legend(axes, loc="lower right")
    return figure


def class_styles(classes: list[str]) -> list[tuple[Any, str]]:
    """Colour and marker of every class: by its first and last word where two words name them all, else in turn."""
    words = [name.split() for name in classes]
    firsts, lasts = (list(dict.fromkeys(each[end] for each in words if each)) for end in (0, -1))
    is_grid = all(len(each) == 2 for each in words) and len(firsts) <= _HUES and len(lasts) <= len(_MARKERS)
    if is_grid and len(firsts) * len(lasts) < 2 * len(classes):
        hues = _hues(len(firsts))
        return [(hues[firsts.index(one)], _MARKERS[lasts.index(two)]) for one, two in words]
    count = min(_HUES, len(classes)) if len(classes) <= _HUES * len(_MARKERS) else -(-len(classes) // len(_MARKERS))
    hues = _hues(count)
    return [(hues[place % count], _MARKERS[place // count]) for place in range(len(classes))]


def _hues(number: int) -> np.ndarray:
    from matplotlib import colormaps

    if number <= 10:
        return colormaps["tab10"](range(number))
    return colormaps["hsv"](np.linspace(0, 1, number, endpoint=False)) * [0.86, 0.86, 0.86, 1]


def _color_by_class(axes: "Axes", places: np.ndarray, labels: list[str | None], classes: list[str]) -> None:
    for label, (color, marker) in zip(classes, class_styles(classes), strict=True):
        chosen = np.array([entry == label for entry in labels])
        axes.scatter(*places[chosen].T, color=color, label=label, marker=marker, **_POINT)
    heading(axes, "Shared space by class, every modality centred")
    if len(classes) <= _MOST_CLASSES_NAMED:
        # A column a marker, where it stands for the last word.
        lasts = len({name.split()[-1] for name in classes if name})
        columns = lasts if lasts <= _MOST_COLUMNS and len(classes) % lasts == 0 else 4
        options: dict[str, Any] = {"columnspacing": 0.6, "handletextpad": 0.1}
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns, **options)


def _sampled(embedded: EmbeddedSet, seed: int) -> tuple[np.ndarray, list[str], list[str | None]]:
    """Quantized shared embeddings of a seeded sample of rows, all modalities; equal texts once."""
    most_rows = max(_MOST_POINTS // len(embedded.modalities), 10)
    kept = torch.from_numpy(np.random.default_rng(seed).permutation(len(embedded))[:most_rows])
    points, modalities, labels = [], [], []
    for name, modality in embedded.only(kept).modalities.items():
        unique = np.unique(modality.embeds.numpy(), axis=0, return_index=True)[1] if name == "text" else ...
        points.append(modality.embeds.numpy()[unique])
        labels += [embedded.labels[row] for row in modality.positions.numpy()[unique]]
        modalities += [name] * len(points[-1])
    return np.concatenate(points), modalities, labels


def _flattened(points: np.ndarray, modalities: list[str], seed: int) -> np.ndarray:
    with one_thread():
        return flat_layout(points, modalities, seed)
