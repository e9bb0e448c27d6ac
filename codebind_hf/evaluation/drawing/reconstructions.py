"""The picture of originals beside what the decoders rebuild from the codes, drawn as each modality is looked at."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from codebind_hf.evaluation.drawing.units import measured
from codebind_hf.evaluation.figure_style import INK, bare, color_of, new_figure, pretty
from codebind_hf.evaluation.reconstruction import error_of, reconstructions
from codebind_hf.evaluation.suite import Evaluation


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_Limits = tuple[float, float]
_Draw = Callable[["Axes", "Axes", np.ndarray, np.ndarray, str, _Limits], Any]
_EXAMPLES = 4
_CELL = 1.02
# Blocks beside each other.
_BLOCKS = 2


class _Block(NamedTuple):
    """What is drawn of a modality: values `(items, ...)`, how, in which unit, and errors over that of the mean."""

    originals: np.ndarray
    answers: np.ndarray
    draw: _Draw
    unit: str
    errors: list[float]


def reconstruction_figure(evaluation: Evaluation, report: dict[str, Any]) -> "Figure | None":
    """A grid: two lines a modality, originals above reconstructions, for a few objects of different classes.

    Below each reconstruction is its error over that of always answering with the mean; maps have their scale.
    """
    if not report.get("reconstruction"):
        return None
    modalities = evaluation.model.config.modalities
    blocks: dict[str, _Block] = {}
    for name, entry in report["reconstruction"].items():
        rows = [evaluation.rows[position] for position in examples(evaluation, name, _EXAMPLES)]
        answered = reconstructions(evaluation.model, evaluation.processor, rows, modalities[name])
        if answered is None:
            continue
        encoder = evaluation.model.config.encoder_configs[modalities[name].encoder]
        is_vector = encoder.stem == "features"
        draw = _draw_vectors if is_vector else _DRAW.get(name, _draw_any)
        errors = [
            error_of(modalities[name], original, answer) / max(entry["mse_of_mean"], 1e-12)
            for original, answer in zip(*answered, strict=True)
        ]
        both = [_measured(evaluation.processor, name, is_vector, part.numpy()) for part in answered]
        blocks[name] = _Block(both[0][0], both[1][0], draw, both[0][1], errors)
    return _grid(blocks) if blocks else None


def _measured(processor: Any, name: str, is_vector: bool, values: np.ndarray) -> tuple[np.ndarray, str]:
    if is_vector:
        return values, "normalized"
    items = [measured(processor, name, item) for item in values]
    return np.stack([item for item, _ in items]), items[0][1]


def examples(evaluation: Evaluation, name: str, count: int) -> list[int]:
    """Rows with this modality, of classes far apart in the order of the rows: neighbours there are often alike."""
    embedded = evaluation.embedded
    positions = embedded.modalities[name].positions.tolist()
    first_of_class = sorted({embedded.labels[row]: row for row in reversed(positions)}.values())
    spread = first_of_class[:: max(1, len(first_of_class) // count)]
    return list(dict.fromkeys([*spread, *positions]))[:count]


def _grid(blocks: dict[str, _Block]) -> "Figure":
    """Two blocks of modalities side by side, so that nine modalities stay readable at the width of a page."""
    columns = _BLOCKS if len(blocks) > 3 else 1
    lines = -(-len(blocks) // columns)
    figure = new_figure(_CELL * (_EXAMPLES + 1.05) * columns + 0.3, _CELL * 2.45 * lines)
    outer = figure.add_gridspec(lines, columns, hspace=0.1, wspace=0.05)
    for position, (name, block) in enumerate(blocks.items()):
        widths = [*[1.0] * _EXAMPLES, 0.08]
        place = outer[position % lines, position // lines]
        inner = place.subgridspec(2, _EXAMPLES + 1, hspace=0.03, wspace=0.04, width_ratios=widths)
        # One scale for all of a modality: the bar beside them is of each.
        ends = np.quantile(block.originals, [0.005, 0.995])
        limits = (float(ends[0]), float(ends[1])) if block.unit else (0.0, 1.0)
        drawn = None
        for column in range(min(_EXAMPLES, len(block.originals))):
            top, low = figure.add_subplot(inner[0, column]), figure.add_subplot(inner[1, column])
            pair = block.originals[column], block.answers[column]
            drawn = block.draw(top, low, *pair, color_of(name), limits)
            for axes in (top, low):
                bare(axes)
            low.set_xlabel(f"{block.errors[column]:.2f}", fontsize=7.5, color=INK, labelpad=1)
            if column == 0:
                top.set_ylabel(pretty(name), fontsize=9, color=INK)
                low.set_ylabel("rebuilt", fontsize=8, color="#707070")
        if drawn is not None and block.unit:
            bar = figure.colorbar(drawn, cax=figure.add_subplot(inner[:, -1]))
            bar.set_label(block.unit, fontsize=7.5, color=INK)
            bar.ax.tick_params(labelsize=7, length=0)
            bar.outline.set_visible(False)
    figure.suptitle(
        "Originals and what is rebuilt of their codes; below, the error over that of always answering with the mean",
        fontsize=9.5,
        color=INK,
        x=0.01,
        ha="left",
    )
    return figure


def _draw_picture(
    top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str, limits: _Limits
) -> Any:
    """Colours, or one channel in a colour map; what is drawn, where it has a scale."""
    drawn = [draw_picture(axes, picture, limits, color) for axes, picture in ((top, original), (low, answer))]
    return drawn[0] if len(original) != 3 else None


def draw_picture(axes: "Axes", picture: np.ndarray, limits: _Limits, color: str) -> Any:
    """One picture, `(channels, height, width)` or with frames behind the channels; black and white are `limits`."""
    frame = _middle_frame(picture)
    if len(frame) == 3:
        shown = np.clip((frame - limits[0]) / max(limits[1] - limits[0], 1e-6), 0, 1).transpose(1, 2, 0)
        return axes.imshow(shown, interpolation=_SMOOTH)
    options: dict[str, Any] = {"cmap": _MAPS.get(color, "gray"), "vmin": limits[0], "vmax": limits[1]}
    return axes.imshow(frame[0], interpolation=_SMOOTH, **options)


def _draw_spectrogram(
    top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str, limits: _Limits
) -> Any:
    options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "cmap": "magma"}
    options |= {"vmin": limits[0], "vmax": limits[1]}
    spectra = [values.reshape(-1, *values.shape[-2:])[0] for values in (original, answer)]
    return [axes.imshow(values, **options) for axes, values in zip((top, low), spectra, strict=True)][0]


def _draw_lines(
    top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str, limits: _Limits
) -> None:
    """The first few channels, each on its own height."""
    step = 1.2 * max(float(np.ptp(original[:4])), 1e-6) / 2
    for axes, values in ((top, original), (low, answer)):
        for channel, line in enumerate(values[:4]):
            axes.plot(np.linspace(0, 1, len(line)), line - channel * step, color=color, linewidth=0.8)
        axes.set_ylim(original[:4].min() - 3.4 * step, original[:4].max() + 0.4 * step)


def _draw_vectors(
    top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str, limits: _Limits
) -> None:
    """Features of another network: one line a vector."""
    _draw_lines(top, low, np.atleast_2d(original), np.atleast_2d(answer), color, limits)


def _draw_points(
    top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str, limits: _Limits
) -> None:
    """The cloud seen at a slant, near points darker."""
    turn = np.array([[0.82, 0.0, -0.57], [-0.24, 0.91, -0.34], [0.52, 0.42, 0.75]])
    # Colours may come behind x, y, z.
    original, answer = original[:, :3], answer[:, :3]
    reach = 1.1 * np.abs(original @ turn.T).max()
    for axes, points in ((top, original), (low, answer)):
        across, up, toward = (points @ turn.T).T
        axes.scatter(across, up, c=toward, cmap="Greens", vmin=-1.6 * reach, vmax=reach, s=3, linewidths=0)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")


def _draw_any(top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str, limits: _Limits) -> Any:
    draw: _Draw = _draw_picture if original.ndim >= 3 else _draw_lines
    return draw(top, low, original, answer, color, limits)


def _middle_frame(values: np.ndarray) -> np.ndarray:
    """Channels, height and width of what may have frames after its channels."""
    return values[:, values.shape[1] // 2] if values.ndim == 4 else values


# Decoders rebuild few pixels: drawn as squares, they look broken.
_SMOOTH = "bicubic"
_MAPS = {color_of("depth"): "viridis", color_of("thermal"): "inferno"}
_DRAW: dict[str, _Draw] = {
    "image": _draw_picture,
    "video": _draw_picture,
    "depth": _draw_picture,
    "thermal": _draw_picture,
    "tactile": _draw_picture,
    "audio": _draw_spectrogram,
    "eeg": _draw_lines,
    "imu": _draw_lines,
    "point_cloud": _draw_points,
}
