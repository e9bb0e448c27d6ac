"""The report as files: JSON for programs, Markdown and one HTML page with pictures for people."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebind_hf.data.prepared import by_fix
from codebind_hf.evaluation.pages import tables
from codebind_hf.evaluation.pages.chapters import alternative, chapters, unreadable
from codebind_hf.evaluation.pages.chapters import prompts_of as prompts_of
from codebind_hf.evaluation.pages.findings import findings
from codebind_hf.evaluation.pages.report_page import NO_PICTURES, SCOPE, html_report
from codebind_hf.evaluation.pages.table import Table
from codebind_hf.evaluation.pages.table import markdown_table as markdown_table
from codebind_hf.evaluation.pages.table import percent as percent
from codebind_hf.evaluation.suite import as_json
from codebind_hf.evaluation.summary import accuracy_table
from codebind_hf.evaluation.writing import write_text


if TYPE_CHECKING:
    from codebind_hf.evaluation.suite import Evaluation


Report = Mapping[str, Any]


def write_report(
    report: Report,
    folder: str | os.PathLike,
    figures: Mapping[str, str | os.PathLike] | None = None,
    name: str = "report",
    evaluation: "Evaluation | None" = None,
) -> Path:
    """Write `<name>.json`, `<name>.md` and `<name>.html` into `folder`; a reader never sees a half-written file.

    Args:
        report: from `evaluate_model`; entries of your own are kept in the JSON.
        figures: picture files by name, as `draw_figures` returns them; the Markdown links them relatively, the HTML
            holds them.
        name: of the files, without suffix.
        evaluation: what the report is of; with it, the HTML shows items that are found best and worst. They are of its
            rows, so the page is for who may see those.

    Returns:
        The JSON file.

    Raises:
        ValueError: a number in the report is not finite, or an item to show cannot be, unless the evaluation skips
            such.
        OSError: the folder cannot be written, or a picture or an item cannot be read.
    """
    target = Path(folder)
    text = json.dumps(as_json(report), indent=1, allow_nan=False) + "\n"
    page = html_report(report, figures, evaluation)
    write_text(target / f"{name}.html", page)
    write_text(target / f"{name}.md", markdown_report(report, figures, target))
    return write_text(target / f"{name}.json", text)


def markdown_report(
    report: Report, figures: Mapping[str, str | os.PathLike] | None = None, folder: str | os.PathLike = "."
) -> str:
    """The report as Markdown: findings, pictures and short tables, then the long ones; what it lacks is left out.

    Args:
        folder: where the Markdown will lie, so that the links to `figures` are relative to it.
    """
    pictures = {name: os.path.relpath(path, folder).replace(os.sep, "/") for name, path in (figures or {}).items()}
    parts = ["# Evaluation", *_findings(report), *([] if pictures else [NO_PICTURES])]
    if glance := tables.glance(report):
        parts += ["## At a glance", *_markdown(glance)]
    *told, last = chapters(report)
    for chapter in told:
        shown = [f"![{alternative(name, report)}]({pictures[name]})" for name in chapter.pictures if name in pictures]
        if body := [*chapter.words, *shown, *_markdown(chapter.short)]:
            parts += [f"## {chapter.title}", *body]
    if listed := [chapter for chapter in told if chapter.long]:
        parts.append("## All numbers")
        for chapter in listed:
            parts += [f"### {chapter.title}", *_markdown(chapter.long)]
    parts += [f"## {last.title}", *_markdown(last.tables)]
    lines = [f"  - {line.strip()}" if line.startswith(" ") else f"- {line}" for line in unreadable(report)]
    parts += ["Items that could not be read:\n\n" + "\n".join(lines)] if lines else []
    return "\n\n".join(parts) + "\n"


def zero_shot_table(report: Report) -> str:
    """Zero-shot accuracy of every modality, in percent; empty when the report has none."""
    return _joined(tables.zero_shot(report))


def retrieval_table(report: Report, names: Iterable[str] | None = None) -> str:
    """Recall of retrieval pairs, in percent; by default of all that the report has."""
    return _joined(tables.retrieval(report, names))


def codebook_table(report: Report) -> str:
    """Health of every codebook; empty when the report has none."""
    return _joined(tables.codebooks(report))


def summary_lines(report: Report) -> list[str]:
    """What a command says of a report: zero-shot accuracies, their prompts, and what was left out."""
    lines = accuracy_table(report)
    if prompts := prompts_of(report, most=3):
        lines.append(f"zero-shot prompts: {prompts}")
    if not lines:
        lines.append("Nothing is classified: rows have fewer than two labels, or the checkpoint reads no text.")
    failures = report["rows"]["failures"]
    reasons = ((f"skipped row {each['position']}, {each['modality']}", each["message"]) for each in failures)
    return [*lines, *by_fix(reasons)]


def _findings(report: Report) -> list[str]:
    lines = [f"{number}. **{one.lead}** {one.text}" for number, one in enumerate(findings(report), start=1)]
    if not lines:
        return [SCOPE]
    return ["\n".join(lines), f"In brackets are 95 % intervals over the items that were judged. {SCOPE}"]


def _markdown(shown: Iterable[Table]) -> list[str]:
    return [part for table in shown for part in ([f"{table.caption}:"] if table.caption else []) + [table.markdown()]]


def _joined(shown: Iterable[Table]) -> str:
    return "\n\n".join(table.markdown() for table in shown)
