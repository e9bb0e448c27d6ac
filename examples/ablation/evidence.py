"""The page `docs/evidence.md` and its numbers `docs/evidence.json`, from what the ablation found."""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cells import Cells
from drift import drift
from drift import section as drift_section
from equal_bytes import section as bytes_section
from rows import WORDS
from study import Study
from tables import CONTROL, MEASURES, TESTED, ahead, behind, of_splits, of_worlds, table_of
from values import value

from codebind_hf.evaluation.environment import environment
from codebind_hf.evaluation.report import markdown_table
from codebind_hf.evaluation.writing import write_text


WANTED = {"worlds": 6, "seeds": 2, "splits": 10}
KINDS = {"worlds": "NineSenses", "splits": "real senses"}
_SHOWN = {
    "zero-shot": "zero-shot",
    "zero-shot of codes": "of codes",
    "R@10": "R@10",
    "R@10 of codes": "of codes",
    "R@10, never met": "R@10, never met",
    "shared knows": "shared knows",
    "specific knows": "specific knows",
}


def write_page(file: Path, cells: Cells, study: Study, arguments: argparse.Namespace) -> None:
    """Write the page and, beside it, its numbers; both as a whole or not at all."""
    found = evidence(cells, study, arguments)
    confirmed = file.with_name(f"{file.stem}-confirmed.json")
    if confirmed.is_file():
        found["confirmed"] = json.loads(confirmed.read_text(encoding="utf-8"))
    stored = file.with_name("quantizers.json")
    lines = [
        *_lines(found),
        *(bytes_section(json.loads(stored.read_text(encoding="utf-8"))) if stored.is_file() else ()),
    ]
    write_text(file.with_suffix(".json"), json.dumps(found, indent=1) + "\n")
    write_text(file, "\n".join(lines).rstrip() + "\n")


def evidence(cells: Cells, study: Study, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that the page says, as JSON values."""
    found: dict[str, Any] = {
        "worlds": list(arguments.worlds),
        "seeds": list(arguments.seeds),
        "splits": list(arguments.splits),
        "senses": list(arguments.senses),
        "settings": {"worlds": _plain(cells.rows), "splits": _plain(study.rows)},
        "tables": {},
        "environment": environment(),
    }
    if arguments.worlds:
        units = of_worlds(cells, arguments.rows, arguments.worlds, arguments.seeds)
        found["tables"]["worlds"] = table_of(units, splits=False)
        found["drift"] = drift(cells, arguments.worlds, arguments.seeds)
    if arguments.splits:
        units = of_splits(study, arguments.rows, arguments.senses, arguments.splits)
        found["tables"]["splits"] = table_of(units, splits=True)
    return found


def _plain(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(settings) for name, settings in rows.items()}


def _lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield "# Evidence"
    yield ""
    yield verdict(found)
    yield ""
    if missing := _missing(found):
        yield f"**Not the whole study**: {missing}; intervals are wide or missing."
        yield ""
    if "confirmed" in found:
        yield from _confirmed(found["confirmed"])
    yield "## What was compared"
    yield ""
    place = found["environment"]
    yield (
        "This page is the output of `make ablation` (`examples/ablation/`); its numbers and all settings are in "
        "`evidence.json` beside it. Every row binds the same scarce senses to the same frozen features of pictures "
        "and texts, with equal encoders, steps, batches, noise and first weights; rows differ in losses, codes and "
        "parts. What all rows share was tuned for hard alignment, on worlds and splits from 100 on; on worlds by the "
        "sum of zero-shot accuracy and R@10 on validation rows. The same sum then chose the weight of `decorr` and "
        f"whether segments have one length for `ours` on worlds{_ours(found, 'worlds')}; on real senses they are "
        f"those of [real.md](real.md){_ours(found, 'splits')}."
    )
    yield ""
    table = [[f"`{row}`", WORDS.get(row, "")] for row in next(iter(found["tables"].values()))]
    yield markdown_table(["row", "what it is"], table)
    yield ""
    yield (
        f"*NineSenses*: worlds {_numbers(found['worlds'])}, seeds {_numbers(found['seeds'])}; depth, touch and EEG "
        "with 300 rows each, 800 test objects; means over senses and seeds, and a world is one unit. *Real senses*: "
        f"splits {_numbers(found['splits'])} of [real.md](real.md), {', '.join(found['senses']) or 'none'}; a split "
        "is one unit, with the correction of standard errors for shared training rows. Intervals are 95 %, "
        "differences are in pairs on the same unit; p is corrected after Holm for all rows and both measures of a "
        f"table. `codebind_hf` {place['codebind_hf']}, torch {place['torch']}, Python {place['python']}, "
        f"{place['processor']}, {place['cpu_count']} cores; {str(place['date'])[:10]}."
    )
    yield ""
    for kind, rows in found["tables"].items():
        yield f"## {KINDS[kind][0].upper()}{KINDS[kind][1:]}"
        yield ""
        yield from _tables(rows)
    if "drift" in found:
        yield from drift_section(found["drift"])


def _ours(found: Mapping[str, Any], kind: str) -> str:
    """What the text says was chosen for our row, where it is there."""
    row = found["settings"][kind].get("ours")
    return f" ({row['weights']['decorr']:g} and {'yes' if row['even_segments'] else 'no'})" if row else ""


def _missing(found: Mapping[str, Any]) -> str:
    """What there is less of than a table needs."""
    counts = {name: (len(found[name]), wanted) for name, wanted in WANTED.items()}
    return ", ".join(f"{count} of {wanted} {name}" for name, (count, wanted) in counts.items() if count < wanted)


def verdict(found: Mapping[str, Any]) -> str:
    """The first paragraph: what is ahead of tuned hard alignment, and what the paper's row costs or brings."""
    both = [
        row
        for row in WORDS
        if row != CONTROL
        and all(row in rows and all(ahead(rows[row].get(name, {})) for name in TESTED) for rows in _all(found))
    ]
    start = (
        f"**{' and '.join(f'`{row}`' for row in both)} {'is' if len(both) == 1 else 'are'} ahead of tuned hard "
        "alignment in zero-shot accuracy and in retrieval, on both kinds of data, by more than two standard errors.**"
        if both
        else "**No row is ahead of tuned hard alignment in both zero-shot accuracy and retrieval on both kinds of "
        "data.**"
    )
    told = [f"{_said(rows, kind, row)}" for row in ("paper", "ours") for kind, rows in _named(found) if row in rows]
    return " ".join([start, *told])


def _all(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(found["tables"].values())


def _named(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(KINDS[kind], rows) for kind, rows in found["tables"].items()]


def _said(rows: Mapping[str, Any], kind: str, row: str) -> str:
    """One sentence on a row and one kind of data."""
    own = rows[row]
    parts = [
        f"{value(own[name]['difference'], True)} {words}{_strength(own[name])}"
        for name, words in (("zero-shot", "zero-shot"), ("R@10", "R@10"), ("R@10 of codes", "R@10 of its codes"))
        if "difference" in own.get(name, {})
    ]
    return f"Against hard alignment on {kind}, `{row}` has {', '.join(parts)} points."


def _strength(entry: Mapping[str, Any]) -> str:
    return " (ahead)" if ahead(entry) else " (behind)" if behind(entry) else ""


def _tables(rows: Mapping[str, Any]) -> Iterable[str]:
    names = [name for name in MEASURES if any(name in own for own in rows.values())]
    heads = [_SHOWN[name] for name in names]
    levels = [
        [f"`{row}`", *(value(own[name]["level"]) if name in own else "" for name in names)]
        for row, own in rows.items()
    ]
    yield "Levels, per cent:"
    yield ""
    yield markdown_table(["row", *heads], levels)
    yield ""
    yield f"Differences to `{CONTROL}`, points; in brackets units won, and p where it was tested:"
    yield ""
    differences = [
        [f"`{row}`", *(_difference(own.get(name, {})) for name in names)]
        for row, own in rows.items()
        if row not in (CONTROL, "untrained")
    ]
    yield markdown_table(["row", *heads], differences)
    yield ""


def _difference(entry: Mapping[str, Any]) -> str:
    if "difference" not in entry:
        return ""
    won, count = entry["won"]
    p = entry["difference"].get("holm")
    tested = "" if p is None or p != p else f", p {p:.3f}" if p >= 0.001 else ", p < .001"
    return f"{value(entry['difference'], True)} ({won}/{count}{tested})"


def _confirmed(found: Mapping[str, Any]) -> Iterable[str]:
    """What came of the one run on worlds and splits that nothing was chosen on or reported from."""
    yield "## Confirmed once"
    yield ""
    yield (
        f"After everything above was fixed, once, on worlds {_numbers(found['worlds'])} (seeds "
        f"{_numbers(found['seeds'])}) and splits {_numbers(found['splits'])}, "
        f"{str(found['environment']['date'])[:10]}:"
    )
    yield ""
    for kind, rows in found["tables"].items():
        for row in rows:
            if row not in (CONTROL, "untrained"):
                yield f"- {_said(rows, KINDS[kind], row)}"
    yield ""


def _numbers(values: list[int]) -> str:
    if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values)) or "none"
