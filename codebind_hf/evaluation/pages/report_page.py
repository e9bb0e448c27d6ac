"""The report as one HTML file: findings, pictures, items that are found and not found, numbers to unfold."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.pages.chapters import alternative, chapters, unreadable
from codebind_hf.evaluation.pages.findings import findings
from codebind_hf.evaluation.pages.matches import best_and_worst, relation_mark
from codebind_hf.evaluation.pages.media import file_uri
from codebind_hf.evaluation.pages.shell import page
from codebind_hf.evaluation.pages.tables import glance
from codebind_hf.evaluation.suite import Evaluation


Report = Mapping[str, Any]
# Pictures are drawn at 130 dots an inch, and a page has 96.
_DOTS = 96 / 130
SCOPE = (
    "Scores are percentages. *Quantized* is read after the codebook, *continuous* (cont.) before it. Ties count as "
    "their expected value. *Chance* is a random answer; *class-only* is a model that knows every item's class and "
    "nothing else about it."
)
NO_PICTURES = "No charts were drawn: `--figures FOLDER` asks for them, with the extra `report`."


class Picture(NamedTuple):
    """A drawing: its address, what it shows in words, its size on the page."""

    uri: str
    alt: str
    title: str
    width: int
    height: int


def html_report(
    report: Report,
    figures: Mapping[str, str | os.PathLike] | None = None,
    evaluation: Evaluation | None = None,
) -> str:
    """The report as one HTML page, which loads nothing.

    Args:
        figures: picture files by name, which are put into the page.
        evaluation: what the report is of; with it, items that are found best and worst are shown.

    Raises:
        OSError: a picture cannot be read, or an item, unless the evaluation skips such.
        ValueError: an item cannot be shown, unless the evaluation skips such.
    """
    drawn = {name: _picture(name, Path(file), report) for name, file in (figures or {}).items()}
    told = [
        (chapter, [drawn[name] for name in chapter.pictures if name in drawn], number)
        for number, chapter in enumerate(chapters(report))
    ]
    return page(
        "report.html",
        findings=findings(report),
        glance=glance(report),
        chapters=[each for each in told if each[0].words or each[0].tables or each[1]],
        matches=best_and_worst(evaluation) if evaluation is not None else [],
        mark=relation_mark,
        scope=SCOPE,
        no_pictures="" if drawn else NO_PICTURES,
        unreadable=unreadable(report),
        about=_about(report),
    )


def _picture(name: str, file: Path, report: Report) -> Picture:
    with Image.open(file) as picture:
        width, height = (round(side * _DOTS) for side in picture.size)
    return Picture(file_uri(file), alternative(name, report), pretty(name), width, height)


def _about(report: Report) -> str:
    rows, classes = report.get("rows", {}), report.get("class_names", ())
    said = [f"{rows['n']} rows"] if "n" in rows else []
    said += [f"{len(rows['modalities'])} modalities"] if rows.get("modalities") else []
    said += [f"{len(classes)} classes"] if classes else []
    said += [f"seed {report['seed']}"] if "seed" in report else []
    return ", ".join(said)
