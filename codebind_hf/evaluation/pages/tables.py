"""Every table of a report, from its numbers: a function a section, which gives nothing where the report has none."""

from collections.abc import Iterable, Mapping
from typing import Any

from codebind_hf.evaluation.decoupling import CLASS
from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.pages.table import Table, between, percent, table_of
from codebind_hf.evaluation.summary import wilson_interval


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
_RECALLS = ("recall_at_1", "recall_at_10", "recall_at_1_continuous", "recall_at_10_continuous")


def glance(report: Report) -> list[Table]:
    """One line a modality: how often it is recognised and found, and what of its own it keeps."""
    zero_shot, gaps = report.get("zero_shot", {}), report.get("modality_gap", {})
    retrieval, apart = report.get("retrieval", {}), report.get("decoupling", {})
    rows = []
    for name, entry in zero_shot.items():
        own = report.get("by_class", {}).get(name, {})
        found = retrieval.get(f"{name}_to_image", {})
        interval = wilson_interval(min(max(entry["accuracy"], 0.0), 1.0), entry["n"])
        rows.append(
            [
                pretty(name),
                between(entry["accuracy"], interval),
                percent(entry["accuracy_continuous"]),
                percent(entry["chance"]),
                percent(own.get("majority")),
                percent(found.get("recall_at_10")),
                percent(apart.get(name, {}).get("kept")),
                percent(apart.get(name, {}).get("leaked")),
                f"{gaps[name]['gap']:.2f}" if name in gaps else "-",
            ]
        )
    header = ["modality", "right, %", "before codes", "chance", "largest class", "finds its image, R@10"]
    return table_of([*header, "private kept", "private leaked", "gap"], rows)


def zero_shot(report: Report) -> list[Table]:
    """Zero-shot accuracy of every modality."""
    keys = ("accuracy", "accuracy_continuous", "chance")
    rows = [
        [pretty(name), *(percent(entry[key]) for key in keys), entry["n"]]
        for name, entry in report.get("zero_shot", {}).items()
    ]
    return table_of(["modality", "quantized", "continuous", "chance", "n"], rows)


def by_class(report: Report) -> list[Table]:
    """Accuracy of every class in every modality, and what is taken for what."""
    entries = report.get("by_class", {})
    classes = list(dict.fromkeys(name for entry in entries.values() for name in entry["accuracy_of"]))
    rows = [
        [name, *(percent(entry["accuracy_of"].get(name, {}).get("accuracy")) for entry in entries.values())]
        for name in classes
    ]
    confused = [
        [pretty(name), one, other, percent(share), n]
        for name, entry in entries.items()
        for one, other, share, n in entry["confused"][:3]
    ]
    return [
        *table_of(["class", *map(pretty, entries)], rows, "Right by class, in %"),
        *table_of(["modality", "class", "is taken for", "of the class, %", "n"], confused, "Most confused"),
    ]


def abstention(report: Report) -> list[Table]:
    """What "none of these" does at the calibrated threshold, read through the codes."""
    keys = ("answered", "accuracy_of_answered", "refused_known", "refused_unknown")
    rows = [
        [pretty(name), f"{entry['threshold']:+.2f}", *(percent(entry.get(key)) for key in keys), entry["n"]]
        for name, entry in report.get("abstention", {}).items()
    ]
    header = ["modality", "cosine from", "answered, %", "right of these, %", "known refused, %", "unknown refused, %"]
    return table_of([*header, "n"], rows)


def retrieval(report: Report, names: Iterable[str] | None = None) -> list[Table]:
    """Recall of retrieval pairs; by default of all that the report has."""
    entries = report.get("retrieval", {})
    chosen = entries if names is None else [name for name in names if name in entries]
    keys = (*_RECALLS, "chance_at_10", "class_only_at_10")
    header = ["query to gallery", "R@1", "R@10", "R@1 cont.", "R@10 cont.", "chance R@10", "class-only R@10", "n"]
    rows = [
        [pair(name, "_to_"), *(percent(entries[name].get(key)) for key in keys), entries[name]["n"]] for name in chosen
    ]
    return table_of(header, rows)


def trained(report: Report) -> list[Table]:
    """Recall of pairs that were trained together."""
    emergent = set(report.get("emergent_pairs", ()))
    return retrieval(report, [name for name in report.get("retrieval", {}) if name not in emergent])


def emergent(report: Report) -> list[Table]:
    """Recall of pairs that never were."""
    return retrieval(report, report.get("emergent_pairs", ()))


def mean_recall(report: Report) -> list[Table]:
    """Recall of every modality as query and as gallery, on average over the others."""
    entries = report.get("retrieval", {})
    names = list(dict.fromkeys(name.partition("_to_")[0] for name in entries))
    rows = []
    for name in names:
        asks = [entry for key, entry in entries.items() if key.startswith(f"{name}_to_")]
        answers = [entry for key, entry in entries.items() if key.endswith(f"_to_{name}")]
        known = all("class_only_at_10" in entry for entry in asks)
        means = [_mean(each, "recall_at_10") for each in (asks, answers)]
        rows.append([pretty(name), *map(percent, means), percent(_mean(asks, "class_only_at_10") if known else None)])
    header = ["modality", "finds the others, R@10", "is found by the others, R@10", "class-only R@10"]
    return table_of(header, rows)


def pool(report: Report) -> list[Table]:
    """Retrieval from one pool of all modalities."""
    keys = (*_RECALLS, "nearest_same_modality", "same_modality_chance")
    rows = [
        [pretty(name), *(percent(entry[key]) for key in keys), entry["pool"]]
        for name, entry in report.get("mixed_pool", {}).items()
    ]
    header = ["query", "R@1", "R@10", "R@1 cont.", "R@10 cont.", "nearest is own modality", "by chance", "pool"]
    return table_of(header, rows)


def gaps(report: Report) -> list[Table]:
    """How far modalities lie apart as a whole."""
    rows = [
        [pretty(name), f"{entry['gap']:.3f}", f"{entry['gap_continuous']:.3f}", entry["n"]]
        for name, entry in report.get("modality_gap", {}).items()
    ]
    return table_of(["modality", "gap", "gap cont.", "n"], rows)


def probes(report: Report) -> list[Table]:
    """What linear probes read of both parts and of their controls."""
    entries = [
        (f"{pretty(modality)}: {pretty(name)}", entry)
        for modality, attributes in report.get("probes", {}).items()
        for name, entry in attributes.items()
    ]
    readers = {key: label for key, label in _READERS.items() if any(key in entry for _, entry in entries)}
    rows = [
        [label, *(percent(entry.get(key)) for key in readers), _lead(entry), entry["n"]] for label, entry in entries
    ]
    return table_of(["attribute", *readers.values(), "lead", "n"], rows)


def decoupling(report: Report) -> list[Table]:
    """What both parts keep and leak of what is private."""
    keys = ("kept", "leaked", "specific_from_shared", "shared_from_specific")
    rows = [
        [pretty(name), *(percent(entry.get(key)) for key in keys)]
        for name, entry in report.get("decoupling", {}).items()
    ]
    return table_of(["modality", "kept", "leaked", "R2 of specific from shared", "R2 of shared from specific"], rows)


def fine_grained(report: Report) -> list[Table]:
    """Nearest items of a modality by class and private attribute; of ten, in reports that have them."""
    entries = [
        (pretty(modality), name, entry)
        for modality, attributes in report.get("fine_grained", {}).items()
        for name, entry in attributes.items()
    ]
    keys: tuple[str, ...] = ("shared", "specific", "both", "chance")
    nearest = [
        [f"{modality}: same class and {pretty(name)}", *(percent(entry[key]) for key in keys), entry["n"]]
        for modality, name, entry in entries
        if name != CLASS
    ]
    keys = ("shared_at_10", "specific_at_10", "both_at_10", "chance_at_10", "both_at_least_shared")
    tens = [
        [
            f"{modality}: {'same class' if name == CLASS else f'same class and {pretty(name)}'}",
            *(percent(entry[key]) for key in keys),
            entry["n"],
        ]
        for modality, name, entry in entries
        if "both_at_10" in entry
    ]
    header = ["shared", "specific", "both", "chance"]
    return [
        *table_of(["nearest item has", *header, "n"], nearest),
        *table_of(["of the ten nearest have", *header, "queries with both >= shared", "n"], tens),
    ]


def intra_class(report: Report) -> list[Table]:
    """Mean cosines within and over classes."""
    keys = ["shared", "shared_between", "specific", "specific_between", "cross"]
    keys += [f"{key}_continuous" for key in ("shared", "specific", "cross")]
    rows = [
        [pretty(name), *("-" if key not in entry else f"{entry[key]:.2f}" for key in keys), entry["n"]]
        for name, entry in report.get("intra_class", {}).items()
    ]
    header = ["mean cosine", "shared", "over all", "specific", "over all", "shared with specific"]
    return table_of([*header, "shared cont.", "specific cont.", "shared with specific cont.", "n"], rows)


def information(report: Report) -> list[Table]:
    """What single codes say of labels."""
    parts = [
        f"{part}{suffix}" for part in ("shared", "specific") for suffix in ("", "_permuted", "_max", "_permuted_max")
    ]
    rows = [
        [
            f"{pretty(modality)}: {pretty(name)}",
            *("-" if key not in entry else f"{entry[key]:.3f}" for key in ("category", *parts)),
            entry["n"],
        ]
        for modality, attributes in report.get("information", {}).items()
        for name, entry in attributes.items()
    ]
    kinds = [f"{part}{kind}" for part in ("shared", "specific") for kind in ("", " permuted", " max", " max permuted")]
    return table_of(["NMI with", "class", *kinds, "n"], rows)


def fusion(report: Report) -> list[Table]:
    """Classes from several modalities together."""
    found = report.get("fusion", {})
    if not found:
        return []
    parts = list(next(iter(found["heads"].values())))
    heads = [
        [name, *(_fused(by_part[part]) for part in parts), _signed(found.get("specific_gain", {}).get(name))]
        for name, by_part in found["heads"].items()
    ]
    alone = [
        [f"{pretty(name)} alone", *(percent(by_part[part]) for part in parts), "-"]
        for name, by_part in found["alone"].items()
    ]
    return table_of(["fusion", *parts, "gain of the specific part"], [*heads, *alone])


def codebooks(report: Report) -> list[Table]:
    """Health of every codebook."""
    rows = [
        [name, percent(book["usage"]), f"{book['perplexity']:.1f}", book["num_codes"], book["dead"]]
        for name, book in report.get("codebooks", {}).items()
    ]
    return table_of(["codebook", "usage, %", "perplexity", "codes", "dead"], rows)


def agreement(report: Report) -> list[Table]:
    """How often two modalities of an object pick the same code."""
    rows = [
        [pair(name, "_and_"), percent(entry["agreement"]), percent(entry["chance"])]
        for name, entry in report.get("agreement", {}).items()
    ]
    return table_of(["same code for the same object, %", "agreement", "chance"], rows)


def reconstruction(report: Report) -> list[Table]:
    """Error of the decoders beside that of a constant answer."""
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
    return table_of(["modality", "error", "error of the mean", "ratio", "n"], rows)


def about(report: Report) -> list[Table]:
    """What was evaluated, and where."""
    rows = [["rows", report.get("rows", {}).get("n", "-")], ["seed", report.get("seed", "-")]]
    if digest := report.get("checkpoint_sha256"):
        rows.append(["checkpoint (SHA-256)", f"`{digest}`"])
    rows += [[f"pack {name} (SHA-256)", f"`{digest}`"] for name, digest in report.get("packs", {}).items()]
    rows += [[name.replace("_", " "), value] for name, value in report.get("environment", {}).items()]
    return table_of(["", "value"], rows)


def pair(name: str, link: str) -> str:
    """A pair of modalities as a reader writes it."""
    one, _, other = name.partition(link)
    return f"{pretty(one)}{link.replace('_', ' ')}{pretty(other)}"


def _fused(entry: Report) -> str:
    return between(entry["accuracy"], (entry["low"], entry["high"]))


def _signed(entry: Report | None) -> str:
    return "-" if entry is None else f"{100 * entry['gain']:+.1f} ± {100 * entry['standard_error']:.1f}"


def _lead(entry: Report) -> str:
    if "specific_minus_shared_continuous" not in entry:
        return "-"
    lead, error = entry["specific_minus_shared_continuous"], entry["standard_error_continuous"]
    return f"{100 * lead:+.1f} ± {100 * error:.1f}"


def _mean(entries: list[Report], key: str) -> float | None:
    return sum(entry[key] for entry in entries) / len(entries) if entries else None
