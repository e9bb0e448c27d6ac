"""What does a report find, in five lines?"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.pages.table import between, percent
from codebind_hf.evaluation.summary import wilson_interval


Report = Mapping[str, Any]
_QUANTILE = 1.959964


class Finding(NamedTuple):
    """A sentence that says it, and one with the numbers."""

    lead: str
    text: str


def findings(report: Report) -> list[Finding]:
    """Up to five findings of a report, and a sixth where items could not be read: what lacks its section is left out.

    In brackets are 95 % intervals over the items that were judged; of another draw of the training, they say nothing.
    """
    found = (find(report) for find in (_zero_shot, _codes, _retrieval, _specific, _codebooks, _failures))
    return [finding for finding in found if finding is not None]


def _zero_shot(report: Report) -> Finding | None:
    entries = report.get("zero_shot")
    if not entries:
        return None
    ranked = sorted(entries, key=lambda name: -entries[name]["accuracy"])
    # Of items with several labels, what is right is no single class, but a share of items all the same.
    shown = list(dict.fromkeys((ranked[0], ranked[-1])))
    # Rows may lack a modality, and what a random answer gets is of the rows that have it.
    items, chances = (_equal([entries[name][key] for name in shown]) for key in ("n", "chance"))
    said = [
        f"{pretty(name)} {between(entries[name]['accuracy'], _interval(entries[name]))} %"
        + ("" if items else f" of {entries[name]['n']} items")
        for name in shown
    ]
    classes = len(report.get("class_names", ()))
    together = f", of {entries[shown[0]]['n']} items" if items else ""
    chance = " and ".join(percent(entries[name]["chance"]) for name in (shown[:1] if chances else shown))
    lost = [pretty(name) for name in ranked if _interval(entries[name])[0] <= entries[name]["chance"]]
    lead = f"{_capital(pretty(ranked[0]))} is recognised best" + (
        f", {pretty(ranked[-1])} worst." if len(ranked) > 1 else "."
    )
    warned = f" Not above chance: {', '.join(lost)}." if lost else ""
    text = (
        f"Right from the words for {classes} classes alone: {', '.join(said)}{together}; chance is {chance} %.{warned}"
    )
    return Finding(lead, text)


def _codes(report: Report) -> Finding | None:
    entries = report.get("by_class")
    if not entries:
        return None
    gains = {name: 100 * entry["codes_gain"] for name, entry in entries.items()}
    errors = [100 * entry["standard_error"] for entry in entries.values()]
    # Modalities show the same objects, so their errors may go together.
    mean, reach = float(np.mean(list(gains.values()))), _QUANTILE * float(np.mean(errors))
    most = min(gains, key=lambda name: gains[name])
    if mean + reach < 0:
        lead = f"Codes cost {-mean:.1f} points of accuracy."
    elif mean - reach > 0:
        lead = f"Codes add {mean:.1f} points of accuracy."
    else:
        lead = "Codes cost no measurable accuracy."
    text = (
        f"Read through its codes, accuracy changes by {mean:+.1f} points ({mean - reach:+.1f} to {mean + reach:+.1f}) "
        f"on average over {len(gains)} {_plural('modality', len(gains))}; {pretty(most)} changes by "
        f"{gains[most]:+.1f}{_recall_change(report)}."
    )
    return Finding(lead, text)


def _recall_change(report: Report) -> str:
    entries = [each for each in report.get("retrieval", {}).values() if "recall_at_10_continuous" in each]
    if not entries:
        return ""
    change = np.mean([each["recall_at_10"] - each["recall_at_10_continuous"] for each in entries])
    return f", and R@10 of {len(entries)} pairs by {100 * float(change):+.1f}"


def _retrieval(report: Report) -> Finding | None:
    entries = report.get("retrieval")
    if not entries:
        return None
    emergent = [name for name in report.get("emergent_pairs", ()) if name in entries]
    chosen = {name: entries[name] for name in emergent or entries}
    who = "modalities that were never trained together" if emergent else "modalities"
    mean = np.mean([entry["recall_at_10"] for entry in chosen.values()])
    has_class = all("class_only_at_10" in entry for entry in chosen.values())
    # Nothing finds more than all.
    is_full = has_class and min(entry["class_only_at_10"] for entry in chosen.values()) > 1 - 1e-9
    knows_class = has_class and not is_full
    key = "class_only_at_10" if knows_class else "chance_at_10"
    base = {name: entry[key] for name, entry in chosen.items()}
    above = [
        name
        for name, entry in chosen.items()
        if wilson_interval(_share(entry["recall_at_10"]), entry["n"])[0] > base[name]
    ]
    known = "a ranking that knows the class alone" if knows_class else "a random ranking"
    beats = "class knowledge" if knows_class else "chance"
    lead = f"{len(above)} of {len(chosen)} pairs of {who} find more than {beats}."
    chance = percent(np.mean([entry["chance_at_10"] for entry in chosen.values()]))
    text = (
        f"The same object is among the first ten in {percent(mean)} % on average; {known} has "
        f"{percent(np.mean(list(base.values())))} %{f', chance {chance} %' if knows_class else ''}. Counted are pairs "
        "whose 95 % interval lies above it."
    )
    if is_full:
        text += " Classes have at most ten items here, so whether more than the class was found cannot be told."
    return Finding(lead, text)


def _specific(report: Report) -> Finding | None:
    probes, apart = (report.get("summary", {}).get(name) for name in ("probes", "decoupling"))
    if not probes:
        return None
    beats = (
        f"The specific codes know {probes['specific_beats_shared']} of {probes['attributes']} private attributes "
        f"better than the shared codes, {probes['by_two_standard_errors']} of them by more than two standard errors"
    )
    if not apart:
        return Finding("What one modality alone shows is in its specific part, or not:", f"{beats}.")
    spread = _spread(report)
    kept, leaked = (f"{100 * apart[key]:.0f} %" for key in ("kept", "leaked"))
    lead = f"The specific part keeps {kept} of what is private, the shared part {leaked}."
    text = (
        f"That is of what the raw input or an untrained network knows above chance of {apart['readable']} readable "
        f"attributes{spread}. {beats}."
    )
    return Finding(lead, text)


def _spread(report: Report) -> str:
    by_modality = {name: entry for name, entry in report.get("decoupling", {}).items() if "kept" in entry}
    if len(by_modality) < 2:
        return ""
    kept = {name: entry["kept"] for name, entry in by_modality.items()}
    least, most = min(kept, key=lambda name: kept[name]), max(kept, key=lambda name: kept[name])
    ends = [f"{100 * kept[name]:.0f} % in {pretty(name)}" for name in (least, most)]
    return f" (kept by modality: {' to '.join(ends)})"


def _codebooks(report: Report) -> Finding | None:
    books = report.get("codebooks")
    if not books:
        return None
    dead = {name: book for name, book in books.items() if book["dead"]}
    count = f"{len(books)} {_plural('codebook', len(books))}"
    lead = f"Codes are unused in {len(dead)} of {count}." if dead else f"All codes of {count} are in use."
    worst = min(books, key=lambda name: books[name]["perplexity"] / books[name]["num_codes"])
    said = [_book(name, books[name]) for name in dict.fromkeys(("shared", worst)) if name in books]
    rest = [
        f"unused in {pretty(name)}: {book['dead']}"
        for name, book in list(dead.items())[:4]
        if name not in ("shared", worst)
    ]
    return Finding(lead, f"{_capital('; '.join([*said, *rest]))}.")


def _book(name: str, book: Report) -> str:
    named = "the shared codebook" if name == "shared" else f"the codebook of {pretty(name)}"
    used = book["num_codes"] - book["dead"]
    return (
        f"{named} uses {used} of {book['num_codes']} codes, as evenly as {book['perplexity']:.0f} equal ones would be"
    )


def _failures(report: Report) -> Finding | None:
    failures = report.get("rows", {}).get("failures")
    if not failures:
        return None
    first = failures[0]
    return Finding(
        f"{len(failures)} {_plural('item', len(failures))} could not be read.",
        f"The first is {pretty(first['modality'])} of row {first['position']}; all are at the end.",
    )


def _equal(values: list[float]) -> bool:
    return len(set(values)) == 1


def _interval(entry: Report) -> tuple[float, float]:
    return wilson_interval(_share(entry["accuracy"]), entry["n"])


def _share(value: float) -> float:
    """Sums of shares of ties may round to a little more than all."""
    return min(max(value, 0.0), 1.0)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
