"""All rows at a glance: the tables that the command line and the docs show, made of the registry."""

from collections.abc import Sequence

from codebind_hf.benchmarks.entry import Benchmark
from codebind_hf.benchmarks.figures import IB, VL
from codebind_hf.benchmarks.registry import get, names


def overview() -> str:
    """Markdown: what every row measures, on how much, what is published, and the licence."""
    head = ["name", "data", "sense", "metric", "classes", "test items", "ImageBind", IB, "ViT-Lens", VL, "licence"]
    return _markdown(head, [_overview_line(get(name)) for name in names()])


def differences() -> str:
    """Markdown: what "sound" does otherwise than "paper", and what else to know."""
    lines = [[one.name, f"{_capital(one.differences)}.", one.traps] for one in map(get, names())]
    return _markdown(["name", '`protocol="sound"`', "to know"], lines)


def sources() -> str:
    """Markdown: where every data set comes from, and what must lie where."""
    lines = []
    for one in map(get, names()):
        paths = dict.fromkeys(f"`{expected.path.replace(' | ', '` or `')}`" for expected in one.layout)
        lines.append([one.name, one.source, ", ".join(paths), f"`{one.hub}`" if one.hub else "-"])
    return _markdown(["name", "where to get it", "layout", "Hub"], lines)


def _overview_line(one: Benchmark) -> list[str]:
    figures = [_figure(one.figures.get(model)) for model in ("ImageBind", IB, "ViT-Lens", VL)]
    metric = "training only" if one.is_only_for_training else " / ".join(one.metric.names)
    sizes = ["-" if size is None else f"{size:,}" for size in (one.num_classes, one.published_items)]
    return [one.name, one.title, one.modality.replace("_", " "), metric, *sizes, *figures, one.licence]


def _figure(numbers: tuple[float | None, ...] | None) -> str:
    return " / ".join("-" if one is None else f"{one:.1f}" for one in numbers) if numbers else "-"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)
