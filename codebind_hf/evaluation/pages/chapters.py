"""In which order is a report told, in which words, and what does each picture show to who cannot see it?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from codebind_hf.data.prepared import by_fix
from codebind_hf.evaluation.decoupling import READABLE
from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.pages import tables
from codebind_hf.evaluation.pages.table import Table, percent


Report = Mapping[str, Any]
# Longer tables go to the end.
SHORT = 12


@dataclass(frozen=True)
class Chapter:
    """A question and what the report answers.

    Args:
        title: heading.
        words: paragraphs.
        tables: short ones, and those that belong to the end.
        pictures: names of pictures that belong here.
    """

    title: str
    words: list[str]
    tables: list[Table]
    pictures: tuple[str, ...]

    @property
    def short(self) -> list[Table]:
        """Tables that are read where they stand."""
        return [table for table in self.tables if len(table.rows) <= SHORT]

    @property
    def long(self) -> list[Table]:
        """Tables to look something up in."""
        return [table for table in self.tables if len(table.rows) > SHORT]


def chapters(report: Report) -> list[Chapter]:
    """All that a report has something for, also those that may have nothing but a picture."""
    return [
        Chapter(title, say(report), [table for fill in fills for table in fill(report)], pictures)
        for title, say, fills, pictures in _CHAPTERS
    ]


def prompts_of(report: Report, most: int | None = None) -> str:
    """The prompts that classes were shown as, in words; empty when nothing was classified.

    Args:
        most: prompts to name; the others are counted.
    """
    prompts = list(report.get("templates", ())) if report.get("zero_shot") else []
    named = [f"`{prompt}`" for prompt in prompts[:most]]
    rest = [f"{len(prompts) - len(named)} more"] if len(prompts) > len(named) else []
    return ", ".join([*named, *rest])


def alternative(name: str, report: Report) -> str:
    """What a picture shows, in words, for who cannot see it."""
    say = _ALTERNATIVES.get(name)
    return say(report) if say else f"Picture: {pretty(name)}."


def unreadable(report: Report) -> list[str]:
    """Items that could not be read, by what mends them."""
    failures = report.get("rows", {}).get("failures", [])
    return by_fix((f"row {entry['position']}, {entry['modality']}", entry["message"]) for entry in failures)


def _no_words(report: Report) -> list[str]:
    return []


def _prompts(report: Report) -> list[str]:
    prompts = prompts_of(report)
    return [f"Prompts: {prompts}."] if prompts else []


def _abstention_words(report: Report) -> list[str]:
    entries = report.get("abstention", {})
    if not entries:
        return []
    share = next(iter(entries.values()))["coverage"]
    return [
        'Whose best label is less near than a threshold is answered "none of these". The threshold lets at least '
        f"{percent(share)} % of items of known classes through, on average over draws of the half of the rows that it "
        "is calibrated on; shown is what it does on the other half. Refused are, with half of the classes as labels, "
        "items of these (known) and of the others (unknown)."
    ]


def _retrieval_words(report: Report) -> list[str]:
    if not report.get("retrieval"):
        return []
    return [
        "An item asks for the same object in another modality. Colours show what that finds beyond a ranking that "
        "knows the class of every item and nothing else: of n items of the class it has one of k places for the right "
        "one, so its recall is the mean over queries of min(k / n, 1)."
    ]


def _probe_words(report: Report) -> list[str]:
    """What the matrix of probes comes to."""
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


def _space_words(report: Report) -> list[str]:
    if not report.get("modality_gap"):
        return []
    return [
        "In the map every modality is centred, so that it shows whether they agree on what is alike. The bars show "
        "what was taken away: how far the mean of a modality lies from the others."
    ]


def _fusion_words(report: Report) -> list[str]:
    fusion = report.get("fusion", {})
    if not fusion:
        return []
    return [
        f"{' and '.join(map(pretty, fusion['modalities']))} of {fusion['n']} items, a layer taught on "
        f"{fusion['n_train']}; chance {percent(fusion['chance'])} %. In brackets the 95 % interval over test items; "
        "the last column is both parts less the shared part on the same items."
    ]


def _codebook_words(report: Report) -> list[str]:
    rows = report.get("codebook_rows", {})
    return (
        [f"Counted over {rows['n']} {rows['source'].replace('_', ' ')}."] if report.get("codebooks") and rows else []
    )


def _reconstruction_words(report: Report) -> list[str]:
    if not report.get("reconstruction"):
        return []
    return [
        "A ratio is the error over that of always answering with the mean: 1 is no better than that, 0 is perfect."
    ]


_Fill = Callable[[Report], list[Table]]
_CHAPTERS: tuple[tuple[str, Callable[[Report], list[str]], tuple[_Fill, ...], tuple[str, ...]], ...] = (
    ("Zero-shot classification", _prompts, (tables.zero_shot,), ("zero_shot", "similarity")),
    ("None of these", _abstention_words, (tables.abstention,), ()),
    ("Which classes are told apart", _no_words, (tables.by_class,), ("confusion",)),
    ("Retrieval of the same object", _retrieval_words, (tables.mean_recall, tables.trained), ("retrieval",)),
    ("Emergent pairs: modalities never trained together", _no_words, (tables.emergent,), ()),
    ("Shared space", _space_words, (tables.gaps,), ("shared_space", "modality_gap")),
    ("Mixed pool: every modality of every object in one gallery", _no_words, (tables.pool,), ()),
    ("What the parts know: probes", _probe_words, (tables.probes,), ("probes",)),
    ("How far the parts are apart", _no_words, (tables.decoupling,), ("swaps",)),
    ("Retrieval by class and private attribute", _no_words, (tables.fine_grained,), ()),
    ("Cosines within a class", _no_words, (tables.intra_class,), ()),
    ("What single codes say: mutual information", _no_words, (tables.information,), ()),
    ("Classes from several modalities together", _fusion_words, (tables.fusion,), ()),
    ("Codebooks", _codebook_words, (tables.codebooks, tables.agreement), ("codebook_usage",)),
    ("Reconstruction", _reconstruction_words, (tables.reconstruction,), ("reconstructions",)),
    ("Seed and environment", _no_words, (tables.about,), ()),
)


def _listed(report: Report, section: str, key: str) -> str:
    return ", ".join(f"{pretty(name)} {percent(entry[key])} %" for name, entry in report.get(section, {}).items())


def _kept(report: Report) -> str:
    said = [
        f"{pretty(name)} keeps {percent(entry['kept'])} % and leaks {percent(entry['leaked'])} %"
        for name, entry in report.get("decoupling", {}).items()
        if "kept" in entry
    ]
    return f"Of readable private attributes {', '.join(said)}." if said else "Numbers are in the table."


_ALTERNATIVES: dict[str, Callable[[Report], str]] = {
    "zero_shot": lambda report: f"Bars of zero-shot accuracy: {_listed(report, 'zero_shot', 'accuracy')}.",
    "similarity": lambda report: (
        "A map a modality: mean cosine of the items of every class to the words of every class; a bright diagonal is "
        "classes that are told apart."
    ),
    "confusion": lambda report: (
        "A map a modality: which share of a class is taken for which. The tables name the classes that are confused."
    ),
    "retrieval": lambda report: (
        "Map of recall at 10 from every modality to every other, coloured by what it gains over a ranking that knows "
        "the class alone; all numbers are in the tables."
    ),
    "shared_space": lambda report: (
        "One map of the shared space twice: coloured by class, in which classes form islands as far as they are told "
        "apart, and by modality, in which modalities mix."
    ),
    "modality_gap": lambda report: (
        "Bars of the gap: "
        + ", ".join(f"{pretty(name)} {entry['gap']:.2f}" for name, entry in report.get("modality_gap", {}).items())
        + "."
    ),
    "probes": lambda report: (
        "What linear probes read of the specific and the shared codes, of every private attribute and of the class, "
        f"with 95 % intervals, beside the raw input and chance; all numbers are in the table. {_kept(report)}"
    ),
    "swaps": lambda report: (
        "Objects decoded from the shared codes of one and the specific codes of another: rows share what they are, "
        "columns how they look."
    ),
    "codebook_usage": lambda report: (
        f"How often codes are picked: {_listed(report, 'codebooks', 'usage')} are in use."
    ),
    "reconstructions": lambda report: (
        "Originals above what decoders rebuild; error over that of the mean: "
        + ", ".join(
            f"{pretty(name)} {entry['relative_mse']:.2f}" for name, entry in report.get("reconstruction", {}).items()
        )
        + "."
    ),
}
