"""The picture of which modality finds which, coloured by what it gains over class knowledge."""

from typing import TYPE_CHECKING, Any

import numpy as np

from codebind_hf.evaluation.figure_style import INK, bare_spines, heading, new_figure, pretty, quiet
from codebind_hf.evaluation.suite import Evaluation


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_FRAME = "#e08a00"

Report = dict[str, Any]


def retrieval_figure(evaluation: Evaluation, report: Report) -> "Figure | None":
    """Map of recall@10, query modalities down and gallery modalities across.

    Colours, and the small numbers, are points above a ranking that knows the class alone (where rows have no classes,
    above chance). Frames are around pairs that were not trained together, as the evaluation's `trained_pairs` say.
    """
    entries, emergent = report.get("retrieval"), set(report.get("emergent_pairs", ()))
    if not entries:
        return None
    names = list(evaluation.embedded.modalities)
    knows_class = all("class_only_at_10" in entry for entry in entries.values())
    base = "class_only_at_10" if knows_class else "chance_at_10"
    gains = {key: 100 * (entry["recall_at_10"] - entry[base]) for key, entry in entries.items()}
    limit = max(1.0, *(abs(gain) for gain in gains.values()))
    size = max(4.6, 0.66 * len(names) + 1.9)
    figure = new_figure(size + 0.9, size)
    axes = figure.subplots()
    table = np.full((len(names), len(names)), np.nan)
    for row, query in enumerate(names):
        for column, gallery in enumerate(names):
            key = f"{query}_to_{gallery}"
            if key in gains:
                table[row, column] = gains[key]
                recall = 100 * entries[key]["recall_at_10"]
                _cell(axes, (row, column), recall, gains[key], limit, framed=key in emergent)
    picture = axes.imshow(table, cmap="RdBu", vmin=-limit, vmax=limit)
    axes.set_xticks(range(len(names)), [pretty(name) for name in names], rotation=35, ha="right")
    axes.set_yticks(range(len(names)), [pretty(name) for name in names])
    axes.set_xlabel("gallery", fontsize=9, color=INK)
    axes.set_ylabel("query", fontsize=9, color=INK)
    level = 100 * np.mean([entry[base] for entry in entries.values()])
    known = "what class knowledge alone finds" if knows_class else "chance"
    frames = "\nframed: never trained together" if emergent else ""
    heading(axes, f"Recall@10 in %; colour and small: points above {known} ({level:.1f} %){frames}", size=9.5)
    quiet(axes)
    bare_spines(axes)
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, pad=0.02, aspect=28)
    bar.set_label(f"points above {known}", fontsize=8.5, color=INK)
    bar.ax.tick_params(labelsize=8, length=0)
    return figure


def _cell(axes: "Axes", place: tuple[int, int], recall: float, gain: float, limit: float, framed: bool) -> None:
    row, column = place
    color = "white" if abs(gain) > 0.62 * limit else INK
    axes.text(column, row - 0.1, f"{recall:.0f}", ha="center", va="center", fontsize=9.5, color=color)
    axes.text(column, row + 0.26, f"{gain:+.0f}", ha="center", va="center", fontsize=6.5, color=color)
    if framed:
        from matplotlib.patches import Rectangle

        corner = (column - 0.45, row - 0.45)
        axes.add_patch(Rectangle(corner, 0.9, 0.9, fill=False, edgecolor=_FRAME, linewidth=1.2))
