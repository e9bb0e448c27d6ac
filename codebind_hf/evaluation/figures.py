"""Pictures of an evaluation: the shared space, similarities, retrieval, accuracy, probes and codebooks."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codebind_hf.evaluation.decoupling_figures import probe_figure, swap_figure
from codebind_hf.evaluation.embedding import ClassEmbeds, EmbeddedSet
from codebind_hf.evaluation.figure_style import (
    CHANCE,
    CONTINUOUS,
    INK,
    QUANTIZED,
    bare,
    bare_spines,
    color_of,
    heading,
    legend,
    new_figure,
    pretty,
    quiet,
)
from codebind_hf.evaluation.health import code_counts
from codebind_hf.evaluation.probes import one_thread
from codebind_hf.evaluation.reconstruction_figure import reconstruction_figure
from codebind_hf.evaluation.side_by_side import results_of
from codebind_hf.evaluation.suite import Evaluation


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_POINTS = 1400
_MOST_CLASSES_NAMED = 30
_PANELS_A_ROW = 4
_POINT: dict[str, Any] = {"s": 12, "alpha": 0.75, "linewidths": 0}
_TEXT_POINT: dict[str, Any] = {"s": 75, "marker": "*", "edgecolors": "white", "linewidths": 0.6}

Report = dict[str, Any]


def draw_figures(evaluation: Evaluation, report: Report, folder: str | os.PathLike) -> dict[str, Path]:
    """Draw every picture that the report has data for, as `<name>.png` in `folder`.

    A report's `checkpoint_sha256` is also in every file, as the text `Checkpoint`.

    Returns:
        The files by name: `zero_shot`, `retrieval`, `shared_space`, `similarity`, `reconstructions`, `probes`,
        `swaps`, `codebook_usage`.

    Raises:
        ImportError: matplotlib or scikit-learn is missing.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, draw in _FIGURES.items():
        figure = draw(evaluation, report)
        if figure is not None:
            files[name] = target / f"{name}.png"
            digest = report.get("checkpoint_sha256")
            figure.savefig(files[name], metadata={"Checkpoint": digest} if digest else None)
    return files


def zero_shot_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """Bars of zero-shot accuracy by modality, quantized and continuous, over the chance level."""
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
        bars = axes.bar(places + offset, values, width=0.38, color=color, label=label)
        axes.bar_label(bars, fmt="%.0f", fontsize=8, color=INK, padding=2)
    chance = 100 * next(iter(entries.values()))["chance"]
    axes.axhline(chance, color=CHANCE, linewidth=1.4, linestyle=(0, (4, 2)), label=f"chance {chance:.1f} %")
    axes.set_xticks(places, [pretty(name) for name in names])
    highest = 100 * max(max(entry["accuracy"], entry["accuracy_continuous"]) for entry in entries.values())
    axes.set_ylim(0, max(1.12 * highest, 1.5 * chance))
    axes.set_ylabel("accuracy, %", fontsize=9, color=INK)
    heading(axes, f"Zero-shot classification into {len(evaluation.classes)} classes")
    quiet(axes, grid="y")
    legend(axes, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)
    return figure


def retrieval_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """Map of recall@10, query modalities down and gallery modalities across; emergent pairs are framed."""
    entries, emergent = report.get("retrieval"), set(report.get("emergent_pairs", ()))
    if not entries:
        return None
    names = list(evaluation.embedded.modalities)
    size = max(4.4, 0.56 * len(names) + 1.7)
    figure = new_figure(size, size * 0.97)
    axes = figure.subplots()
    table = np.full((len(names), len(names)), np.nan)
    top = 100 * max(entry["recall_at_10"] for entry in entries.values())
    for row, query in enumerate(names):
        for column, gallery in enumerate(names):
            key = f"{query}_to_{gallery}"
            if key in entries:
                table[row, column] = 100 * entries[key]["recall_at_10"]
                _cell(axes, row, column, table[row, column], top, framed=key in emergent)
    axes.imshow(table, cmap="Blues", vmin=0, vmax=top)
    axes.set_xticks(range(len(names)), [pretty(name) for name in names], rotation=35, ha="right")
    axes.set_yticks(range(len(names)), [pretty(name) for name in names])
    axes.set_xlabel("gallery", fontsize=9, color=INK)
    axes.set_ylabel("query", fontsize=9, color=INK)
    chance = 100 * np.mean([entry["chance_at_10"] for entry in entries.values()])
    heading(axes, f"Recall@10 in %, chance {chance:.1f}\nframed: modalities never trained together", size=9.5)
    quiet(axes)
    bare_spines(axes)
    return figure


def shared_space_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """t-SNE of the quantized shared embeddings, coloured by category and by modality.

    The panel by category is drawn with the mean of every modality taken away: whether modalities agree on what is
    alike is one question, how far apart they lie as a whole (the panel by modality) another.
    """
    points, modalities, labels = _sampled(evaluation.embedded, evaluation.seed)
    if len(points) < 10:
        return None
    labelled = evaluation.class_embeds is not None
    figure = new_figure(10.0 if labelled else 5.0, 5.6)
    panels = figure.subplots(1, 2 if labelled else 1, squeeze=False)[0]
    drawn = [_centred(points, modalities), points] if labelled else [points]
    *centred, places = results_of(
        [partial(_flattened, each, evaluation.seed) for each in drawn], evaluation.num_workers
    )
    if labelled:
        _color_by_class(panels[0], centred[0], labels, evaluation.classes)
    for name in sorted(dict.fromkeys(modalities), key=lambda modality: modality == "text"):
        chosen = np.array([modality == name for modality in modalities])
        style = _TEXT_POINT if name == "text" else _POINT
        panels[-1].scatter(*places[chosen].T, color=color_of(name), label=pretty(name), **style)
    heading(panels[-1], "Shared space by modality")
    legend(panels[-1], loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=5, columnspacing=1.0, handletextpad=0.1)
    for axes in panels:
        bare(axes)
    return figure


def similarity_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """For each modality a class-ordered map: mean cosine of a class's items (rows) to every class text (columns)."""
    classes = evaluation.class_embeds
    if classes is None or not report.get("zero_shot"):
        return None
    names = list(report["zero_shot"])
    columns = min(_PANELS_A_ROW, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(2.35 * columns + 0.9, 2.5 * lines)
    panels = figure.subplots(lines, columns, squeeze=False)
    tables = {name: _class_similarity(evaluation, classes, name) for name in names}
    limit = max(np.nanmax(np.abs(table)) for table in tables.values())
    for axes in panels.flat:
        axes.set_visible(False)
    for axes, (name, table) in zip(panels.flat, tables.items(), strict=False):
        axes.set_visible(True)
        picture = axes.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit)
        bare(axes)
        heading(axes, f"{pretty(name)}, {100 * report['zero_shot'][name]['accuracy']:.0f} % right", size=9.5)
    figure.supylabel("class of the item", fontsize=9, color=INK)
    figure.supxlabel("class text", fontsize=9, color=INK)
    bar = figure.colorbar(picture, ax=panels, shrink=0.7, pad=0.02)
    bar.set_label("cosine minus its mean", fontsize=8.5, color=INK)
    bar.ax.tick_params(labelsize=8, length=0)
    return figure


def codebook_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """How often each code is picked, most used first: the shared book stacked by modality, then each specific book."""
    books = report.get("codebooks")
    if not books:
        return None
    lines = -(-(len(books) - ("shared" in books)) // _PANELS_A_ROW)
    figure = new_figure(9.0, 2.4 + 1.5 * lines)
    grid = figure.add_gridspec(1 + lines, _PANELS_A_ROW, height_ratios=[2.2] + [1.2] * lines)
    if "shared" in books:
        _shared_book(figure.add_subplot(grid[0, :]), evaluation, books["shared"])
    for position, name in enumerate(book for book in books if book != "shared"):
        row, column = divmod(position, _PANELS_A_ROW)
        _specific_book(figure.add_subplot(grid[1 + row, column]), evaluation, name, books[name])
    return figure


def _cell(axes: "Axes", row: int, column: int, value: float, top: float, framed: bool) -> None:
    color = "white" if value > 0.6 * top else INK
    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=color)
    if framed:
        corner = (column - 0.46, row - 0.46)
        from matplotlib.patches import Rectangle

        axes.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor="#f0a030", linewidth=1.3))


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


def _centred(points: np.ndarray, modalities: list[str]) -> np.ndarray:
    centred = points.copy()
    for name in dict.fromkeys(modalities):
        chosen = np.array([modality == name for modality in modalities])
        centred[chosen] -= points[chosen].mean(axis=0)
    return centred


def _flattened(points: np.ndarray, seed: int) -> np.ndarray:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            "the picture of the shared space needs scikit-learn; install it with `pip install codebind-hf[report]`."
        ) from error
    perplexity = min(30.0, (len(points) - 1) / 3)
    with one_thread():
        return TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=500).fit_transform(points)


def _color_by_class(axes: "Axes", places: np.ndarray, labels: list[str | None], classes: list[str]) -> None:
    for label, color in zip(classes, _class_colors(len(classes)), strict=True):
        chosen = np.array([entry == label for entry in labels])
        axes.scatter(*places[chosen].T, color=color, label=label, **_POINT)
    heading(axes, "Shared space by category, every modality centred")
    if len(classes) <= _MOST_CLASSES_NAMED:
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, columnspacing=1.0, handletextpad=0.1)


def _class_colors(number: int) -> np.ndarray:
    from matplotlib import colormaps

    if number <= 20:
        return colormaps["tab20" if number > 10 else "tab10"](range(number))
    return colormaps["hsv"](np.linspace(0, 1, number, endpoint=False)) * [0.86, 0.86, 0.86, 1]


def _class_similarity(evaluation: Evaluation, classes: ClassEmbeds, name: str) -> np.ndarray:
    modality = evaluation.embedded.modalities[name]
    table = np.full((len(evaluation.classes), len(evaluation.classes)), np.nan)
    labels = np.array([evaluation.embedded.labels[row] for row in modality.positions.tolist()], dtype=object)
    cosine = (modality.embeds @ classes.embeds.T).numpy()
    for position, label in enumerate(evaluation.classes):
        if (labels == label).any():
            table[position] = cosine[labels == label].mean(axis=0)
    return table - np.nanmean(table)


def _shared_book(axes: "Axes", evaluation: Evaluation, book: Report) -> None:
    """Every modality weighs the same, however many of its items there are: the question is who shares which code."""
    counts = {
        name: code_counts(modality.shared_codes, book["num_codes"])
        for name, modality in evaluation.training_set.modalities.items()
        if name in book["by_modality"] and modality.shared_codes is not None
    }
    shares = {name: 100 * values / values.sum() / len(counts) for name, values in counts.items()}
    order = np.argsort(-np.sum(list(shares.values()), axis=0), kind="stable")
    bottom = np.zeros(book["num_codes"])
    for name, values in shares.items():
        axes.bar(range(len(order)), values[order], width=1.0, bottom=bottom, color=color_of(name), label=pretty(name))
        bottom = bottom + values[order]
    axes.set_xlim(-0.5, len(order) - 0.5)
    axes.set_ylabel("picks, %, modalities equal", fontsize=9, color=INK)
    heading(axes, f"Shared codebook: {_health_line(book)}")
    quiet(axes)
    legend(axes, loc="upper right", ncols=5)


def _specific_book(axes: "Axes", evaluation: Evaluation, encoder: str, book: Report) -> None:
    config = evaluation.model.config
    chosen = {
        name: [
            ids.reshape(-1)
            for kind, ids in (("shared", part.shared_codes), ("specific", part.specific_codes))
            if ids is not None and config.book_of(kind, config.modalities[name].encoder) == encoder
        ]
        for name, part in evaluation.training_set.modalities.items()
        if name in book["by_modality"]
    }
    counts = code_counts(torch.cat([ids for each in chosen.values() for ids in each]), book["num_codes"])
    axes.bar(
        range(len(counts)), 100 * np.sort(counts)[::-1] / counts.sum(), width=1.0, color=color_of(next(iter(chosen)))
    )
    axes.set_xlim(-0.5, len(counts) - 0.5)
    heading(axes, f"{pretty(encoder)}: {100 * book['usage']:.0f} % used", size=9)
    quiet(axes)
    axes.set_xticks([])
    axes.tick_params(labelsize=7.5)


def _health_line(book: Report) -> str:
    return f"{100 * book['usage']:.0f} % of {book['num_codes']} codes used, perplexity {book['perplexity']:.0f}"


_FIGURES: dict[str, Callable[[Evaluation, Report], "Figure | None"]] = {
    "zero_shot": zero_shot_figure,
    "retrieval": retrieval_figure,
    "shared_space": shared_space_figure,
    "similarity": similarity_figure,
    "reconstructions": reconstruction_figure,
    "probes": probe_figure,
    "swaps": swap_figure,
    "codebook_usage": codebook_figure,
}
