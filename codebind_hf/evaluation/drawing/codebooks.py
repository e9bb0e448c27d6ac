"""The picture of how often every code is picked, and by whom."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codebind_hf.evaluation.figure_style import (
    INK,
    color_of,
    heading,
    legend,
    new_figure,
    pretty,
    quiet,
)
from codebind_hf.evaluation.health import code_counts
from codebind_hf.evaluation.suite import Evaluation


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PANELS_A_ROW = 4

Report = dict[str, Any]


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
        axes = figure.add_subplot(grid[1 + row, column])
        _specific_book(axes, evaluation, name, books[name])
        if not column:
            axes.set_ylabel("picks, %", fontsize=8.5, color=INK)
    figure.supxlabel("codes, those picked most first", fontsize=9, color=INK)
    return figure


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
