"""Pictures of what the two parts know: the matrix of probes, and shared parts that swap their specific parts."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codebind_hf.evaluation.decoupling import CLASS, CONTROLS
from codebind_hf.evaluation.figure_style import INK, bare, bare_spines, color_of, heading, new_figure, pretty, quiet
from codebind_hf.evaluation.reconstruction import reconstructions
from codebind_hf.evaluation.reconstruction_figure import draw_picture, examples
from codebind_hf.evaluation.suite import Evaluation


if TYPE_CHECKING:
    from matplotlib.figure import Figure


_COLUMNS = {
    "raw": "raw\ninput",
    "projection": "random\nprojection",
    "untrained": "untrained\nnetwork",
    "residual": "closed\nform",
    "specific_continuous": "specific",
    "specific": "specific,\ncodes",
    "shared_continuous": "shared",
    "shared": "shared,\ncodes",
}
_SWAPPED = ("image", "thermal", "tactile", "depth")
_OBJECTS = 4
_CELL = 0.62

Report = dict[str, Any]


def probe_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """Accuracy of probes: private attributes and classes down; controls, specific and shared part across."""
    probes = report.get("probes", {})
    rows = [(modality, name, entry) for modality, entries in probes.items() for name, entry in entries.items()]
    rows = sorted((row for row in rows if "specific" in row[2]), key=lambda row: row[1] == CLASS)
    if not rows:
        return None
    columns = {key: label for key, label in _COLUMNS.items() if key in rows[0][2]}
    figure = new_figure(2.6 + 0.72 * len(columns), 0.27 * len(rows) + 1.5)
    axes = figure.subplots()
    table = np.array([[100 * entry.get(key, np.nan) for key in columns] for _, _, entry in rows])
    chance = np.array([100 * entry["chance"] for _, _, entry in rows])
    # White is chance, whatever the number of values.
    above = np.clip((table - chance[:, None]) / (100 - chance[:, None]), 0, 1)
    axes.imshow(above, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        color = "white" if above[row, column] > 0.6 else INK
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(columns)), list(columns.values()))
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [f"{pretty(modality)}: {pretty(name)}" for modality, name, _ in rows])
    quiet(axes)
    axes.tick_params(labelsize=8.5)
    bare_spines(axes)
    breaks = [sum(key in CONTROLS for key in columns), sum(not key.startswith("shared") for key in columns)]
    for place in breaks:
        axes.axvline(place - 0.5, color="white", linewidth=5)
    private = sum(name != CLASS for _, name, _ in rows)
    axes.axhline(private - 0.5, color="white", linewidth=5)
    heading(axes, "What linear probes read, accuracy in %; white is chance")
    return figure


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
        limits = float(np.quantile(originals, 0.005)), float(np.quantile(originals, 0.995))
        for row in range(count + 1):
            for column in range(count + 1):
                axes = figure.add_subplot(cells[row, column])
                bare(axes)
                if row and column:
                    draw_picture(axes, decoded[row - 1, column - 1].numpy(), limits, color_of(name))
                elif row or column:
                    draw_picture(axes, originals[max(row, column) - 1].numpy(), limits, color_of(name))
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
