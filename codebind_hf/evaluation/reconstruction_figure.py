"""The picture of originals beside what the decoders rebuild from the codes, drawn as each modality is looked at."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from codebind_hf.evaluation.figure_style import INK, bare, color_of, new_figure, pretty
from codebind_hf.evaluation.reconstruction import reconstructions
from codebind_hf.evaluation.suite import Evaluation


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_Draw = Callable[["Axes", "Axes", np.ndarray, np.ndarray, str], None]
_EXAMPLES = 4
_CELL = 1.05


def reconstruction_figure(evaluation: Evaluation, report: dict[str, Any]) -> "Figure | None":
    """A grid: two lines a modality, originals above reconstructions, for a few objects of different classes."""
    if not report.get("reconstruction"):
        return None
    modalities = evaluation.model.config.modalities
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name in report["reconstruction"]:
        rows = [evaluation.rows[position] for position in examples(evaluation, name, _EXAMPLES)]
        answered = reconstructions(evaluation.model, evaluation.processor, rows, modalities[name])
        if answered is not None:
            pairs[name] = answered
    encoders = {name: evaluation.model.config.encoder_configs[modalities[name].encoder] for name in pairs}
    draws = {
        name: _draw_vectors if encoder.stem == "features" else _DRAW.get(name, _draw_any)
        for name, encoder in encoders.items()
    }
    return _grid(pairs, draws) if pairs else None


def examples(evaluation: Evaluation, name: str, count: int) -> list[int]:
    """Rows with this modality, of classes far apart in the order of the rows: neighbours there are often alike."""
    embedded = evaluation.embedded
    positions = embedded.modalities[name].positions.tolist()
    first_of_class = sorted({embedded.labels[row]: row for row in reversed(positions)}.values())
    spread = first_of_class[:: max(1, len(first_of_class) // count)]
    return list(dict.fromkeys([*spread, *positions]))[:count]


def _grid(pairs: dict[str, tuple[Tensor, Tensor]], draws: dict[str, _Draw]) -> "Figure":
    """Two blocks of modalities side by side, so that nine modalities stay readable at the width of a page."""
    blocks = 2 if len(pairs) > 3 else 1
    lines = -(-len(pairs) // blocks)
    width = _EXAMPLES + 0.45
    figure = new_figure(_CELL * (width * blocks) + 0.6, _CELL * 2.12 * lines)
    outer = figure.add_gridspec(lines, blocks, hspace=0.08, wspace=0.06)
    for position, (name, (originals, answers)) in enumerate(pairs.items()):
        inner = outer[position % lines, position // lines].subgridspec(2, _EXAMPLES, hspace=0.02, wspace=0.02)
        for column in range(min(_EXAMPLES, len(originals))):
            top, low = figure.add_subplot(inner[0, column]), figure.add_subplot(inner[1, column])
            draws[name](top, low, originals[column].numpy(), answers[column].numpy(), color_of(name))
            for axes in (top, low):
                bare(axes)
            if column == 0:
                top.set_ylabel(pretty(name), fontsize=9, color=INK)
                low.set_ylabel("rebuilt", fontsize=8, color="#808080")
    return figure


def _draw_picture(top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str) -> None:
    """Colour pictures (channels first; the middle frame of a tubelet) or one channel in a colour map."""
    low_end, high_end = np.quantile(_middle_frame(original), [0.005, 0.995])
    for axes, picture in zip((top, low), (original, answer), strict=True):
        draw_picture(axes, picture, (float(low_end), float(high_end)), color)


def draw_picture(axes: "Axes", picture: np.ndarray, limits: tuple[float, float], color: str) -> None:
    """One picture, `(channels, height, width)` or with frames behind the channels; black and white are `limits`."""
    shown = np.clip((_middle_frame(picture) - limits[0]) / max(limits[1] - limits[0], 1e-6), 0, 1)
    axes.imshow(
        shown.transpose(1, 2, 0) if len(shown) == 3 else shown[0], cmap=_MAPS.get(color, "gray"), vmin=0, vmax=1
    )


def _draw_spectrogram(top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str) -> None:
    spectra = [values.reshape(-1, *values.shape[-2:])[0] for values in (original, answer)]
    for axes, values in zip((top, low), spectra, strict=True):
        axes.imshow(values, origin="lower", aspect="auto", cmap="magma", vmin=spectra[0].min(), vmax=spectra[0].max())


def _draw_lines(top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str) -> None:
    """The first few channels, each on its own height."""
    step = 1.2 * max(float(np.ptp(original[:4])), 1e-6) / 2
    for axes, values in ((top, original), (low, answer)):
        for channel, line in enumerate(values[:4]):
            axes.plot(np.linspace(0, 1, len(line)), line - channel * step, color=color, linewidth=0.8)
        axes.set_ylim(original[:4].min() - 3.4 * step, original[:4].max() + 0.4 * step)


def _draw_vectors(top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str) -> None:
    """Features of another network: one line a vector."""
    _draw_lines(top, low, np.atleast_2d(original), np.atleast_2d(answer), color)


def _draw_points(top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str) -> None:
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


def _draw_any(top: "Axes", low: "Axes", original: np.ndarray, answer: np.ndarray, color: str) -> None:
    draw = _draw_picture if original.ndim >= 3 else _draw_lines
    draw(top, low, original, answer, color)


def _middle_frame(values: np.ndarray) -> np.ndarray:
    """Channels, height and width of what may have frames after its channels."""
    return values[:, values.shape[1] // 2] if values.ndim == 4 else values


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
