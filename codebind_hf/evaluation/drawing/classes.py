"""Pictures of classes: how many are right, how near items are to words, and what is taken for what."""

from typing import TYPE_CHECKING, Any

import numpy as np

from codebind_hf.evaluation.embedding import ClassEmbeds
from codebind_hf.evaluation.figure_style import (
    CHANCE,
    CONTINUOUS,
    INK,
    QUANTIZED,
    bare_spines,
    heading,
    legend,
    new_figure,
    pretty,
    quiet,
)
from codebind_hf.evaluation.suite import Evaluation
from codebind_hf.evaluation.summary import wilson_interval


if TYPE_CHECKING:
    from matplotlib.figure import Figure


# More names at the side of a map are not readable.
_MOST_NAMED = 30
_PANELS_A_ROW = 4

Report = dict[str, Any]


def zero_shot_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """Bars of zero-shot accuracy by modality, quantized and continuous, with intervals, over the chance level."""
    entries = report.get("zero_shot")
    if not entries:
        return None
    names = sorted(entries, key=lambda name: -entries[name]["accuracy"])
    places = np.arange(len(names))
    figure = new_figure(8.4, 3.2)
    axes = figure.subplots()
    for offset, key, color, label in (
        (-0.2, "accuracy", QUANTIZED, "quantized"),
        (0.2, "accuracy_continuous", CONTINUOUS, "continuous"),
    ):
        values = [100 * entries[name][key] for name in names]
        ends = [
            wilson_interval(min(max(value / 100, 0.0), 1.0), entries[name]["n"])
            for name, value in zip(names, values, strict=True)
        ]
        reach = np.abs(100 * np.array(ends).T - values)
        bars = axes.bar(places + offset, values, width=0.38, color=color, label=label)
        axes.errorbar(places + offset, values, reach, fmt="none", ecolor=INK, elinewidth=0.8, capsize=2)
        axes.bar_label(bars, [f"{value:.0f}" for value in values], fontsize=8, color=INK, padding=5)
    chance = 100 * next(iter(entries.values()))["chance"]
    axes.axhline(chance, color=CHANCE, linewidth=1.4, linestyle=(0, (4, 2)), label=f"chance {chance:.1f} %")
    axes.set_xticks(places, [pretty(name) for name in names])
    highest = 100 * max(max(entry["accuracy"], entry["accuracy_continuous"]) for entry in entries.values())
    axes.set_ylim(0, max(1.14 * highest, 1.5 * chance))
    axes.set_ylabel("accuracy, %", fontsize=9, color=INK)
    heading(axes, f"Zero-shot into {len(evaluation.classes)} classes, 95 % intervals")
    quiet(axes, grid="y")
    legend(axes, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)
    return figure


def similarity_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """For each modality a class-ordered map: mean cosine of a class's items (rows) to every class text (columns)."""
    classes = evaluation.class_embeds
    if classes is None or not report.get("zero_shot"):
        return None
    tables = {name: _class_similarity(evaluation, classes, name) for name in report["zero_shot"]}
    limit = max(np.nanmax(np.abs(table)) for table in tables.values())
    titles = [f"{pretty(name)}, {100 * report['zero_shot'][name]['accuracy']:.0f} % right" for name in tables]
    return _maps(
        *(list(tables.values()), titles, list(evaluation.classes)),
        style={"cmap": "RdBu_r", "vmin": -limit, "vmax": limit},
        labels=("class of the item", "words for the class", "cosine, less its mean"),
    )


def confusion_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """For each modality which share of a class (rows) is taken for which (columns)."""
    entries = {name: entry for name, entry in report.get("by_class", {}).items() if "confusion" in entry}
    if not entries:
        return None
    tables = [100 * np.array(entry["confusion"]) for entry in entries.values()]
    titles = []
    for name, entry in entries.items():
        worst = min(entry["accuracy_of"], key=lambda each: entry["accuracy_of"][each]["accuracy"])
        titles.append(f"{pretty(name)}; least {100 * entry['accuracy_of'][worst]['accuracy']:.0f} %: {worst}")
    return _maps(
        *(tables, titles, list(evaluation.classes)),
        style={"cmap": "Blues", "vmin": 0, "vmax": 100},
        labels=("class", "is taken for", "share of the class, %"),
    )


def _maps(
    tables: list[np.ndarray], titles: list[str], names: list[str], style: dict[str, Any], labels: tuple[str, str, str]
) -> "Figure":
    """Square maps of classes by classes, with the names of the classes at the outer sides."""
    columns = min(_PANELS_A_ROW, len(tables))
    lines = -(-len(tables) // columns)
    figure = new_figure(2.5 * columns + 1.9, 2.75 * lines + 1.3)
    panels = figure.subplots(lines, columns, squeeze=False)
    named, places = len(names) <= _MOST_NAMED, range(len(names))
    size = min(7.5, 130 / max(len(names), 1))
    for place, axes in enumerate(panels.flat):
        axes.set_visible(place < len(tables))
        if place >= len(tables):
            continue
        picture = axes.imshow(tables[place], **style)
        is_first, is_lowest = place % columns == 0, place + columns >= len(tables)
        axes.set_yticks(places, names) if named and is_first else axes.set_yticks([])
        axes.set_xticks(places, names, rotation=90) if named and is_lowest else axes.set_xticks([])
        axes.tick_params(colors=INK, labelsize=size, length=0, pad=1)
        bare_spines(axes)
        heading(axes, titles[place], size=8.5)
    figure.supylabel(labels[0], fontsize=9, color=INK)
    figure.supxlabel(labels[1], fontsize=9, color=INK)
    bar = figure.colorbar(picture, ax=panels, shrink=0.6, pad=0.015, aspect=30)
    bar.set_label(labels[2], fontsize=8.5, color=INK)
    bar.ax.tick_params(labelsize=8, length=0)
    return figure


def _class_similarity(evaluation: Evaluation, classes: ClassEmbeds, name: str) -> np.ndarray:
    modality = evaluation.embedded.modalities[name]
    table = np.full((len(evaluation.classes), len(evaluation.classes)), np.nan)
    embedded, rows = evaluation.embedded, modality.positions.tolist()
    # Rows with several labels belong to each of their classes.
    labels = [embedded.label_sets[row] if embedded.label_sets else (embedded.labels[row],) for row in rows]
    cosine = (modality.embeds @ classes.embeds.T).numpy()
    for position, label in enumerate(evaluation.classes):
        chosen = np.array([label in each for each in labels], dtype=bool)
        if chosen.any():
            table[position] = cosine[chosen].mean(axis=0)
    return table - np.nanmean(table)
