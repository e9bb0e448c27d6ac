"""The report as files: JSON for programs, Markdown with pictures for people."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from codebind_hf.data.prepared import by_fix
from codebind_hf.evaluation.decoupling import CLASS, READABLE
from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.suite import as_json
from codebind_hf.evaluation.summary import accuracy_table
from codebind_hf.evaluation.writing import write_text


Report = Mapping[str, Any]

_READERS = {
    "raw": "raw input",
    "projection": "random proj.",
    "untrained": "untrained",
    "residual": "closed form",
    "specific": "specific",
    "specific_continuous": "specific cont.",
    "specific_mlp": "specific MLP",
    "shared": "shared",
    "shared_continuous": "shared cont.",
    "shared_mlp": "shared MLP",
    "chance": "chance",
}
_NUMBER = re.compile(r"-|[-+]?\d[\d.e+-]*( ± [\d.]+)?")
_RECALLS = ("recall_at_1", "recall_at_10", "recall_at_1_continuous", "recall_at_10_continuous")


def write_report(
    report: Report,
    folder: str | os.PathLike,
    figures: Mapping[str, str | os.PathLike] | None = None,
    name: str = "report",
) -> Path:
    """Write `<name>.json` and `<name>.md` into `folder`; a reader never sees a half-written file.

    Args:
        report: from `evaluate_model`; entries of your own are kept in the JSON.
        figures: picture files by name, as `draw_figures` returns them; the Markdown links them relatively.
        name: of the two files, without suffix.

    Returns:
        The JSON file.

    Raises:
        ValueError: a number in the report is not finite.
        OSError: the folder cannot be written.
    """
    target = Path(folder)
    text = json.dumps(as_json(report), indent=1, allow_nan=False) + "\n"
    write_text(target / f"{name}.md", markdown_report(report, figures, target))
    return write_text(target / f"{name}.json", text)


def markdown_report(
    report: Report, figures: Mapping[str, str | os.PathLike] | None = None, folder: str | os.PathLike = "."
) -> str:
    """The report as Markdown; a section that the report lacks is left out.

    Args:
        folder: where the Markdown will lie, so that the links to `figures` are relative to it.
    """
    pictures = {name: os.path.relpath(path, folder).replace(os.sep, "/") for name, path in (figures or {}).items()}
    parts = ["# Evaluation", _SCOPE]
    for title, write, wanted in _CHAPTERS:
        body = write(report)
        shown = [f"![{pretty(name)}]({pictures[name]})" for name in wanted if name in pictures]
        if body or shown:
            parts += [f"## {title}", *filter(None, [body]), *shown]
    return "\n\n".join(parts) + "\n"


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; columns of numbers are right-aligned."""
    cells = [[str(cell) for cell in row] for row in rows]
    rules = ["---:" if all(map(_NUMBER.fullmatch, column)) else "---" for column in zip(*cells, strict=True)]
    lines = [list(header), rules, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f}"


def zero_shot_table(report: Report) -> str:
    """Zero-shot accuracy of every modality, in percent; empty when the report has none."""
    entries = report.get("zero_shot", {})
    keys = ("accuracy", "accuracy_continuous", "chance")
    rows = [[pretty(name), *(percent(entry[key]) for key in keys), entry["n"]] for name, entry in entries.items()]
    return markdown_table(["modality", "quantized", "continuous", "chance", "n"], rows) if rows else ""


def prompts_of(report: Report, most: int | None = None) -> str:
    """The prompts that classes were shown as, in words; empty when nothing was classified.

    Args:
        most: prompts to name; the others are counted.
    """
    prompts = list(report.get("templates", ())) if report.get("zero_shot") else []
    named = [f"`{prompt}`" for prompt in prompts[:most]]
    rest = [f"{len(prompts) - len(named)} more"] if len(prompts) > len(named) else []
    return ", ".join([*named, *rest])


def retrieval_table(report: Report, names: Iterable[str] | None = None) -> str:
    """Recall of retrieval pairs, in percent; by default of all that the report has."""
    entries = report.get("retrieval", {})
    chosen = entries if names is None else [name for name in names if name in entries]
    keys = (*_RECALLS, "chance_at_10", "class_only_at_10")
    header = ["query to gallery", "R@1", "R@10", "R@1 cont.", "R@10 cont.", "chance R@10", "class-only R@10", "n"]
    rows = [
        [_pair(name, "_to_"), *(percent(entries[name].get(key)) for key in keys), entries[name]["n"]]
        for name in chosen
    ]
    return markdown_table(header, rows) if rows else ""


def codebook_table(report: Report) -> str:
    """Health of every codebook; empty when the report has none."""
    rows = [
        [name, percent(book["usage"]), f"{book['perplexity']:.1f}", book["num_codes"], book["dead"]]
        for name, book in report.get("codebooks", {}).items()
    ]
    return markdown_table(["codebook", "usage, %", "perplexity", "codes", "dead"], rows) if rows else ""


def _zero_shot_chapter(report: Report) -> str:
    prompts = prompts_of(report)
    return "\n\n".join(filter(None, [zero_shot_table(report), f"Prompts: {prompts}." if prompts else ""]))


def _trained_table(report: Report) -> str:
    emergent = set(report.get("emergent_pairs", ()))
    return retrieval_table(report, [name for name in report.get("retrieval", {}) if name not in emergent])


def _emergent_table(report: Report) -> str:
    return retrieval_table(report, report.get("emergent_pairs", ()))


def _pool_table(report: Report) -> str:
    keys = (*_RECALLS, "nearest_same_modality", "same_modality_chance")
    rows = [
        [pretty(name), *(percent(entry[key]) for key in keys), entry["pool"]]
        for name, entry in report.get("mixed_pool", {}).items()
    ]
    header = ["query", "R@1", "R@10", "R@1 cont.", "R@10 cont.", "nearest is own modality", "by chance", "pool"]
    return markdown_table(header, rows) if rows else ""


def _probe_table(report: Report) -> str:
    probes = [
        (f"{pretty(modality)}: {pretty(name)}", entry)
        for modality, attributes in report.get("probes", {}).items()
        for name, entry in attributes.items()
    ]
    if not probes:
        return ""
    readers = {key: label for key, label in _READERS.items() if any(key in entry for _, entry in probes)}
    rows = [
        [label, *(percent(entry.get(key)) for key in readers), _gain(entry), entry["n"]] for label, entry in probes
    ]
    header = ["attribute", *readers.values(), "lead", "n"]
    return "\n\n".join([markdown_table(header, rows), *_probe_counts(report)])


def _probe_counts(report: Report) -> list[str]:
    """What the matrix of probes comes to, in words."""
    summary, decoupling = (report.get("summary", {}).get(name, {}) for name in ("probes", "decoupling"))
    if not summary:
        return []
    counts = (
        f"The specific part beats the shared part on {summary['specific_beats_shared']} of {summary['attributes']} "
        f"attributes, by more than two standard errors on {summary['by_two_standard_errors']}; modalities with two or "
        f"more: {', '.join(map(pretty, summary['modalities_with_two_or_more'])) or 'none'}."
    )
    if not decoupling:
        return [counts]
    scores = (
        f"Readable are {decoupling['readable']} attributes, those that raw input or an untrained network knows at "
        f"{100 * READABLE:.0f} % or more. Of what these know above chance, the specific codes keep "
        f"{100 * decoupling['kept']:.0f} % and the continuous shared part still has "
        f"{100 * decoupling['leaked']:.0f} %. The specific codes know as much as the untrained specific part on "
        f"{decoupling['specific_knows_as_much_as_untrained']}; before quantization the specific part leads by 15 "
        f"points or more on {decoupling['specific_leads_by_15_points']}, and the shared part is "
        f"{100 * decoupling['shared_above_chance']:.1f} points above chance."
    )
    return [counts, scores]


def _decoupling_table(report: Report) -> str:
    keys = ("kept", "leaked", "specific_from_shared", "shared_from_specific")
    rows = [
        [pretty(name), *(percent(entry.get(key)) for key in keys)]
        for name, entry in report.get("decoupling", {}).items()
    ]
    header = ["modality", "kept", "leaked", "R2 of specific from shared", "R2 of shared from specific"]
    return markdown_table(header, rows) if rows else ""


def _fine_grained_table(report: Report) -> str:
    keys = ("shared", "specific", "both", "chance")
    rows = [
        [f"{pretty(modality)}: same class and {pretty(name)}", *(percent(entry[key]) for key in keys), entry["n"]]
        for modality, attributes in report.get("fine_grained", {}).items()
        for name, entry in attributes.items()
        if name != CLASS
    ]
    header = ["nearest item has", "shared", "specific", "both", "chance", "n"]
    return "\n\n".join(filter(None, [markdown_table(header, rows) if rows else "", _tens_table(report)]))


def _tens_table(report: Report) -> str:
    """Of ten neighbours; reports of older versions have none."""
    keys = ("shared_at_10", "specific_at_10", "both_at_10", "chance_at_10", "both_at_least_shared")
    rows = [
        [
            f"{pretty(modality)}: {'same class' if name == CLASS else f'same class and {pretty(name)}'}",
            *(percent(entry[key]) for key in keys),
            entry["n"],
        ]
        for modality, attributes in report.get("fine_grained", {}).items()
        for name, entry in attributes.items()
        if "both_at_10" in entry
    ]
    header = ["of the ten nearest have", "shared", "specific", "both", "chance", "queries with both >= shared", "n"]
    return markdown_table(header, rows) if rows else ""


def _intra_class_table(report: Report) -> str:
    keys = ["shared", "shared_between", "specific", "specific_between", "cross"]
    keys += [f"{key}_continuous" for key in ("shared", "specific", "cross")]
    rows = [
        [pretty(name), *("-" if key not in entry else f"{entry[key]:.2f}" for key in keys), entry["n"]]
        for name, entry in report.get("intra_class", {}).items()
    ]
    header = ["mean cosine", "shared", "over all", "specific", "over all", "shared with specific"]
    header += ["shared cont.", "specific cont.", "shared with specific cont.", "n"]
    return markdown_table(header, rows) if rows else ""


def _information_table(report: Report) -> str:
    keys = [
        f"{part}{suffix}" for part in ("shared", "specific") for suffix in ("", "_permuted", "_max", "_permuted_max")
    ]
    rows = [
        [
            f"{pretty(modality)}: {pretty(name)}",
            *("-" if key not in entry else f"{entry[key]:.3f}" for key in ("category", *keys)),
            entry["n"],
        ]
        for modality, attributes in report.get("information", {}).items()
        for name, entry in attributes.items()
    ]
    parts = [f"{part}{kind}" for part in ("shared", "specific") for kind in ("", " permuted", " max", " max permuted")]
    return markdown_table(["NMI with", "class", *parts, "n"], rows) if rows else ""


def _fusion_table(report: Report) -> str:
    fusion = report.get("fusion", {})
    if not fusion:
        return ""
    parts = list(next(iter(fusion["heads"].values())))
    heads = [
        [name, *(_between(by_part[part]) for part in parts), _signed(fusion.get("specific_gain", {}).get(name))]
        for name, by_part in fusion["heads"].items()
    ]
    alone = [
        [f"{pretty(name)} alone", *(percent(by_part[part]) for part in parts), "-"]
        for name, by_part in fusion["alone"].items()
    ]
    words = (
        f"{' and '.join(map(pretty, fusion['modalities']))} of {fusion['n']} items, a layer taught on "
        f"{fusion['n_train']}; chance {percent(fusion['chance'])} %. In brackets the 95 % interval over test items; "
        "the last column is both parts less the shared part on the same items."
    )
    return f"{markdown_table(['fusion', *parts, 'gain of the specific part'], [*heads, *alone])}\n\n{words}"


def _between(entry: Report) -> str:
    return f"{percent(entry['accuracy'])} ({percent(entry['low'])} to {percent(entry['high'])})"


def _signed(entry: Report | None) -> str:
    return "-" if entry is None else f"{100 * entry['gain']:+.1f} ± {100 * entry['standard_error']:.1f}"


def _gain(entry: Report) -> str:
    if "specific_minus_shared_continuous" not in entry:
        return "-"
    lead, error = entry["specific_minus_shared_continuous"], entry["standard_error_continuous"]
    return f"{100 * lead:+.1f} ± {100 * error:.1f}"


def _codebook_chapter(report: Report) -> str:
    table, rows = codebook_table(report), report.get("codebook_rows", {})
    counted = f"Counted over {rows['n']} {rows['source'].replace('_', ' ')}." if table and rows else ""
    agreement = [
        [_pair(name, "_and_"), percent(entry["agreement"]), percent(entry["chance"])]
        for name, entry in report.get("agreement", {}).items()
    ]
    shared = (
        markdown_table(["same code for the same object, %", "agreement", "chance"], agreement) if agreement else ""
    )
    return "\n\n".join(filter(None, [table, counted, shared]))


def _reconstruction_table(report: Report) -> str:
    rows = [
        [
            pretty(name),
            f"{entry['mse']:.4g}",
            f"{entry['mse_of_mean']:.4g}",
            f"{entry['relative_mse']:.3f}",
            entry["n"],
        ]
        for name, entry in report.get("reconstruction", {}).items()
    ]
    return markdown_table(["modality", "error", "error of the mean", "ratio", "n"], rows) if rows else ""


def summary_lines(report: Report) -> list[str]:
    """What a command says of a report: zero-shot accuracies, their prompts, and what was left out."""
    lines = accuracy_table(report)
    if prompts := prompts_of(report, most=3):
        lines.append(f"zero-shot prompts: {prompts}")
    failures = report["rows"]["failures"]
    reasons = ((f"skipped row {each['position']}, {each['modality']}", each["message"]) for each in failures)
    return [*lines, *by_fix(reasons)]


def _about(report: Report) -> str:
    rows = [["rows", report.get("rows", {}).get("n", "-")], ["seed", report.get("seed", "-")]]
    if digest := report.get("checkpoint_sha256"):
        rows.append(["checkpoint (SHA-256)", f"`{digest}`"])
    rows += [[f"pack {name} (SHA-256)", f"`{digest}`"] for name, digest in report.get("packs", {}).items()]
    rows += [[name.replace("_", " "), value] for name, value in report.get("environment", {}).items()]
    failures = report.get("rows", {}).get("failures", [])
    reasons = [(f"row {entry['position']}, {entry['modality']}", entry["message"]) for entry in failures]
    lines = [f"  - {line.strip()}" if line.startswith(" ") else f"- {line}" for line in by_fix(reasons)]
    listed = ["Items that could not be read:\n\n" + "\n".join(lines)] if lines else []
    return "\n\n".join([markdown_table(["", "value"], rows), *listed])


def _pair(name: str, link: str) -> str:
    one, _, other = name.partition(link)
    return f"{pretty(one)}{link.replace('_', ' ')}{pretty(other)}"


_SCOPE = (
    "Scores are percentages. *Quantized* is read after the codebook, *continuous* (cont.) before it. Ties count as "
    "their expected value. *Chance* is a random answer; *class-only* is a model that knows every item's class and "
    "nothing else about it."
)
_CHAPTERS: tuple[tuple[str, Callable[[Report], str], tuple[str, ...]], ...] = (
    ("Zero-shot classification", _zero_shot_chapter, ("zero_shot", "similarity")),
    ("Shared space", lambda report: "", ("shared_space",)),
    ("Retrieval of the same object", _trained_table, ("retrieval",)),
    ("Emergent pairs: modalities never trained together", _emergent_table, ()),
    ("Mixed pool: every modality of every object in one gallery", _pool_table, ()),
    ("What the parts know: probes", _probe_table, ("probes",)),
    ("How far the parts are apart", _decoupling_table, ("swaps",)),
    ("Retrieval by class and private attribute", _fine_grained_table, ()),
    ("Cosines within a class", _intra_class_table, ()),
    ("What single codes say: mutual information", _information_table, ()),
    ("Classes from several modalities together", _fusion_table, ()),
    ("Codebooks", _codebook_chapter, ("codebook_usage",)),
    ("Reconstruction", _reconstruction_table, ("reconstructions",)),
    ("Seed and environment", _about, ()),
)
