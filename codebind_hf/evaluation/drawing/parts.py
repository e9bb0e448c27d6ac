"""Pictures of what the two parts know: probes of both, and shared parts that swap their specific parts."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codebind_hf.evaluation.decoupling import CLASS
from codebind_hf.evaluation.drawing.reconstructions import draw_picture, examples
from codebind_hf.evaluation.drawing.units import measured
from codebind_hf.evaluation.figure_style import (
    CHANCE,
    INK,
    QUANTIZED,
    bare,
    color_of,
    heading,
    new_figure,
    pretty,
    quiet,
)
from codebind_hf.evaluation.reconstruction import reconstructions
from codebind_hf.evaluation.suite import Evaluation
from codebind_hf.evaluation.summary import wilson_interval


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Label, colour, marker, and place above or below the line of an attribute.
_READERS = {
    "raw": ("raw input", "#8a8f98", "D", 0.0),
    "untrained": ("untrained network", "#b9a44c", "x", 0.0),
    "specific": ("specific codes", QUANTIZED, "o", 0.16),
    "shared": ("shared codes", "#d9730d", "s", -0.16),
}
_SWAPPED = ("image", "thermal", "tactile", "depth")
_OBJECTS = 4
_CELL = 0.62

Report = dict[str, Any]


def probe_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """What linear probes read of private attributes and of the class, with 95 % intervals of both parts' codes.

    The first should be in the specific part and not in the shared one, the class the other way round; raw input and
    an untrained network show what there is to be read, a line chance.
    """
    probes = report.get("probes", {})
    rows = [(modality, name, entry) for modality, entries in probes.items() for name, entry in entries.items()]
    rows = [row for row in rows if "specific" in row[2]]
    groups = {
        "Private attributes: specific should know them, shared should not": [row for row in rows if row[1] != CLASS],
        "The class: shared should know it": [row for row in rows if row[1] == CLASS],
    }
    shown = {title: group for title, group in groups.items() if group}
    if not shown:
        return None
    figure = new_figure(8.4, 0.3 * len(rows) + 0.75 * len(shown) + 0.9)
    panels = figure.subplots(
        len(shown), 1, squeeze=False, sharex=True, height_ratios=[len(group) + 0.6 for group in shown.values()]
    )[:, 0]
    for axes, (title, group) in zip(panels, shown.items(), strict=True):
        _probe_lines(axes, group)
        heading(axes, title)
    panels[-1].set_xlabel("accuracy of a linear probe, %", fontsize=9, color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def _probe_lines(axes: "Axes", rows: list[tuple[str, str, Report]]) -> None:
    heights = np.arange(len(rows))[::-1]
    chance = [100 * entry["chance"] for _, _, entry in rows]
    axes.scatter(chance, heights, marker="|", s=170, color=CHANCE, linewidths=1.6, label="chance", zorder=2)
    for key, (label, color, marker, offset) in _READERS.items():
        places = [
            (100 * entry[key], height, entry["n"])
            for (_, _, entry), height in zip(rows, heights, strict=True)
            if key in entry
        ]
        if not places:
            continue
        values, lines, counts = (np.array(column, dtype=float) for column in zip(*places, strict=True))
        options: dict[str, Any] = {"color": color, "label": label, "zorder": 3}
        if not offset:
            axes.scatter(values, lines, marker=marker, s=22, **options)
            continue
        ends = np.array([wilson_interval(value / 100, int(n)) for value, n in zip(values, counts, strict=True)]).T
        reach = np.abs(100 * ends - values)
        axes.errorbar(
            values, lines + offset, xerr=reach, fmt=marker, markersize=4.5, elinewidth=1.2, capsize=2, **options
        )
    axes.set_yticks(heights, [f"{pretty(modality)}: {pretty(name)}" for modality, name, _ in rows])
    axes.set_xlim(0, 102)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    quiet(axes, grid="x")
    axes.tick_params(labelsize=8.5)


def swap_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """Every cell is decoded from the shared codes of its row's object and the specific codes of its column's."""
    model, embedded = evaluation.model, evaluation.embedded
    names = [name for name in _SWAPPED if name in report.get("reconstruction", {}) and name in embedded.modalities]
    # Features of another network are no pictures.
    encoders, modalities = model.config.encoder_configs, model.config.modalities
    names = [name for name in names if encoders[modalities[name].encoder].stem == "patches"]
    if not names or model.config.decoder_inputs != "codes":
        return None
    figure = new_figure(_CELL * (_OBJECTS + 1.6) * len(names), _CELL * (_OBJECTS + 2))
    panels = figure.add_gridspec(1, len(names), wspace=0.08)
    for panel, name in enumerate(names):
        originals, decoded = _swapped(evaluation, name)
        count = len(originals)
        cells = panels[panel].subgridspec(count + 1, count + 1, hspace=0.03, wspace=0.03)
        items = [measured(evaluation.processor, name, item) for item in originals.numpy()]
        ends = np.quantile([item for item, _ in items], [0.005, 0.995])
        limits = (float(ends[0]), float(ends[1])) if items[0][1] else (0.0, 1.0)
        for row in range(count + 1):
            for column in range(count + 1):
                axes = figure.add_subplot(cells[row, column])
                bare(axes)
                if row and column:
                    mixed = measured(evaluation.processor, name, decoded[row - 1, column - 1].numpy())[0]
                    draw_picture(axes, mixed, limits, color_of(name))
                elif row or column:
                    draw_picture(axes, items[max(row, column) - 1][0], limits, color_of(name))
                else:
                    axes.text(0.5, 0.5, pretty(name), ha="center", va="center", fontsize=8.5, color=INK)
    figure.supylabel("shared codes of", fontsize=9, color=INK)
    figure.suptitle("specific codes of", fontsize=9, color=INK)
    return figure


def _swapped(evaluation: Evaluation, name: str) -> tuple[Tensor, Tensor]:
    """Some objects as decoders see them, `(objects, ...)`, and every two of them mixed, `(objects, objects, ...)`.

    Raises:
        ValueError: the model has no decoder of this modality.
    """
    model, part = evaluation.model, evaluation.embedded.modalities[name]
    chosen = examples(evaluation, name, _OBJECTS)
    places = [part.positions.tolist().index(row) for row in chosen]
    rows = [evaluation.rows[row] for row in chosen]
    answered = reconstructions(model, evaluation.processor, rows, model.config.modalities[name])
    if answered is None:
        raise ValueError(
            f"report: has reconstructions of {name!r}, of which this model has no decoder. Fix: give its own report."
        )
    count = len(places)
    shared = part.embeds[places].repeat_interleave(count, dim=0)
    specific = None if part.specific_embeds is None else part.specific_embeds[places].repeat(count, 1)
    with torch.inference_mode():
        decoded = model.decode(
            shared.to(model.device), None if specific is None else specific.to(model.device), modality=name
        )
    return answered[0], decoded.float().cpu().unflatten(0, (count, count))
