"""All pictures of an evaluation, as files."""

import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebind_hf.evaluation.drawing.classes import confusion_figure, similarity_figure, zero_shot_figure
from codebind_hf.evaluation.drawing.codebooks import codebook_figure
from codebind_hf.evaluation.drawing.parts import probe_figure, swap_figure
from codebind_hf.evaluation.drawing.reconstructions import reconstruction_figure
from codebind_hf.evaluation.drawing.retrieval import retrieval_figure
from codebind_hf.evaluation.drawing.shared_space import gap_figure, shared_space_figure
from codebind_hf.evaluation.figure_style import literal_text
from codebind_hf.evaluation.suite import Evaluation


if TYPE_CHECKING:
    from matplotlib.figure import Figure


logger = logging.getLogger(__name__)

Report = dict[str, Any]


def draw_figures(evaluation: Evaluation, report: Report, folder: str | os.PathLike) -> dict[str, Path]:
    """Draw every picture that the report has data for, as `<name>.png` in `folder`.

    A report's `checkpoint_sha256` is also in every file, as the text `Checkpoint`.

    Returns:
        The files by name: `zero_shot`, `similarity`, `confusion`, `retrieval`, `shared_space`, `modality_gap`,
        `reconstructions`, `probes`, `swaps`, `codebook_usage`.

    Raises:
        ImportError: matplotlib or scikit-learn is missing.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    with literal_text():
        for name, draw in _FIGURES.items():
            figure = draw(evaluation, report)
            if figure is not None:
                files[name] = target / f"{name}.png"
                digest = report.get("checkpoint_sha256")
                figure.savefig(files[name], metadata={"Checkpoint": digest} if digest else None)
    return files


def draw_if_installed(evaluation: Evaluation, report: Report, folder: str | os.PathLike) -> dict[str, Path]:
    """As `draw_figures`; nothing, and a line in the log, where the extra `report` is not installed."""
    missing = [name for name in ("matplotlib", "sklearn") if importlib.util.find_spec(name) is None]
    if not missing:
        return draw_figures(evaluation, report, folder)
    logger.warning(
        "No pictures are drawn: %s is missing. Fix: pip install codebind-hf[report].", " and ".join(missing)
    )
    return {}


_FIGURES: dict[str, Callable[[Evaluation, Report], "Figure | None"]] = {
    "zero_shot": zero_shot_figure,
    "similarity": similarity_figure,
    "confusion": confusion_figure,
    "retrieval": retrieval_figure,
    "shared_space": shared_space_figure,
    "modality_gap": gap_figure,
    "reconstructions": reconstruction_figure,
    "probes": probe_figure,
    "swaps": swap_figure,
    "codebook_usage": codebook_figure,
}
