"""What every picture has in common: one colour a modality, one figure factory, quiet axes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MODALITY_COLORS = {
    "text": "#1a1a1a",
    "image": "#1f77b4",
    "video": "#17a2b8",
    "audio": "#ff7f0e",
    "depth": "#6f4fb3",
    "thermal": "#d62728",
    "tactile": "#8c6d31",
    "point_cloud": "#2ca02c",
    "eeg": "#e377c2",
    "imu": "#7f7f7f",
}
QUANTIZED, CONTINUOUS, CHANCE, INK, GRID = "#1f5fa8", "#9cc3e6", "#c44e52", "#333333", "#e3e3e3"
_OTHER_COLORS = ("#bcbd22", "#3b3b98", "#a0522d", "#20b2aa")
_DPI = 130
_MISSING = "pictures need matplotlib; install it with `pip install codebind-hf[report]`."


def color_of(modality: str) -> str:
    """The colour of a modality; one that a user added gets a fixed colour by its name."""
    return MODALITY_COLORS.get(modality, _OTHER_COLORS[sum(map(ord, modality)) % len(_OTHER_COLORS)])


def pretty(name: str) -> str:
    """A modality or attribute name as a reader writes it."""
    return {"eeg": "EEG", "imu": "IMU"}.get(name, name.replace("_", " "))


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure in inches that draws without a screen and leaves pyplot's state alone.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")


@contextmanager
def literal_text() -> Iterator[None]:
    """Draw and save pictures in which a dollar is a dollar: labels are words of a user, not formulas.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise ImportError(_MISSING) from error
    with rc_context({"text.parse_math": False}):
        yield


def quiet(axes: "Axes", grid: Literal["x", "y"] | None = None) -> None:
    """Thin axes: no frame above and right, small ink-coloured labels, an optional grid behind the data."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b0b0b0")
    axes.tick_params(colors=INK, labelsize=9, length=0)
    if grid is not None:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)


def bare(axes: "Axes") -> None:
    """No axes at all: for pictures and maps."""
    axes.set_xticks([])
    axes.set_yticks([])
    bare_spines(axes)


def bare_spines(axes: "Axes") -> None:
    """No frame."""
    for spine in axes.spines.values():
        spine.set_visible(False)


def heading(axes: "Axes", text: str, size: float = 10.5) -> None:
    """A left-aligned title."""
    axes.set_title(text, loc="left", fontsize=size, color=INK)


def legend(axes: "Axes", **options: Any) -> None:
    """A legend without a frame."""
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, **options)
