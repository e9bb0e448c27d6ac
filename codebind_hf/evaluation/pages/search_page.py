"""What a search found, as a page to look at and listen to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.pages.items import item_html, shown_item
from codebind_hf.evaluation.pages.shell import page
from codebind_hf.evaluation.writing import write_text


def write_search_page(
    file: Path, query: Mapping[str, Any], results: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Path:
    """Write what was asked and what was found into one HTML file, which loads nothing.

    Args:
        file: of the page.
        query: `modality` and `value`, with `name` if it has one.
        results: by modality, best first: `name`, `cosine` and `value`, with `modality` if it is not that of the list.
            Values are what the processor accepts: paths, words, arrays, wrappers.

    Returns:
        The file.

    Raises:
        ValueError: the query is none of its modality.
        OSError: the query cannot be read, or the page cannot be written. A result that cannot be read is shown as the
            reason.
    """
    asked = str(query.get("name") or (query["value"] if isinstance(query["value"], (str, Path)) else ""))
    found = {
        name: [
            {
                "name": str(each["name"]),
                "cosine": float(each["cosine"]),
                "item": shown_item(str(each.get("modality", name)), each["value"], str(each["name"]), "skip"),
            }
            for each in answers
        ]
        for name, answers in results.items()
    }
    text = page(
        "search.html",
        modality=pretty(str(query["modality"])),
        asked=asked,
        query=item_html(str(query["modality"]), query["value"], asked),
        results=found,
    )
    return write_text(Path(file), text)
