"""What codes keep beside quantizers of as many bytes: paired figures, and the section of the page that shows them."""

from collections.abc import Iterable, Mapping
from typing import Any

from tables import CONTROL, ahead, behind, spread
from values import value

from codebind_hf.evaluation.report import markdown_table


# The storage that came with the embedding.
OWN = "its own codes"
# What a storage is judged by, and how it is headed.
_SHOWN = {"kept": "ten nearest kept", "R@10": "R@10"}


def compared(
    control: Mapping[int, Mapping[str, Any]], ours: Mapping[int, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Levels of every embedding and storage, and as `difference` what our codes have more, on the same splits.

    Args:
        control, ours: by split and storage the figures of `quantizers.split_of`.
    """
    found: dict[str, dict[str, Any]] = {}
    for row, splits in ((CONTROL, control), ("ours", ours)):
        for storage in next(iter(splits.values())):
            entry: dict[str, Any] = {}
            for key in _SHOWN:
                entry[key] = {"level": spread([each[storage][key] for each in splits.values()], splits=True)}
                # Neighbours that are kept are those of one embedding; of another they are others.
                if (row, storage) != ("ours", OWN) and (key == "R@10" or row == "ours"):
                    more = [ours[seed][OWN][key] - each[storage][key] for seed, each in splits.items()]
                    entry[key]["difference"] = spread(more, splits=True)
            found[f"{row}, {storage}"] = entry
    return found


def section(found: Mapping[str, Any]) -> Iterable[str]:
    """Of the page, from what `quantizers.py` wrote."""
    yield "## Codes and quantizers at equal bytes"
    yield ""
    yield verdict(found)
    yield ""
    splits, place = found["splits"], found["environment"]
    yield (
        "Output of `python examples/ablation/quantizers.py`; numbers are in `quantizers.json`. FAISS's quantizers are "
        "fitted to the bridge's training pictures and texts, as our codebook is, and store pictures and bound senses "
        f"({' and '.join(found['senses'])}) of {len(splits)} real splits ({splits[0]} to {splits[-1]}), both sides. "
        "*Kept* is the share of ten nearest pictures by exact cosine of the same embedding that are found; R@10 is "
        "that of the object's own picture. *More* is what our codes have more than a line, in pairs; 95 % intervals. "
        f"{str(place['date'])[:10]}."
    )
    yield ""
    yield from table_of_sizes(found)


def table_of_sizes(found: Mapping[str, Any]) -> Iterable[str]:
    """A table for every number of bytes."""
    for size, entries in found["sizes"].items():
        heads = [f"stored in {size} bytes", *(head for name in _SHOWN.values() for head in (name, "more"))]
        table = [
            [
                name,
                *(
                    text
                    for key in _SHOWN
                    for text in (value(entry[key]["level"]), _more(entry[key].get("difference")))
                ),
            ]
            for name, entry in entries.items()
        ]
        yield markdown_table(heads, table)
        yield ""


def _more(difference: Mapping[str, float] | None) -> str:
    return "" if difference is None else value(difference, signed=True)


def verdict(found: Mapping[str, Any]) -> str:
    """Whether our codes pass OPQ, and the best other quantizer, by more than two standard errors."""
    told = []
    for size, entries in found["sizes"].items():
        for key, words in (("kept", "of the ten nearest kept"), ("R@10", "R@10 of the object")):
            rivals = {name: entry[key] for name, entry in entries.items() if _is_rival(name, entry[key])}
            level = value(entries[f"ours, {OWN}"][key]["level"])
            groups = {
                "more than": [name for name, rival in rivals.items() if ahead(rival)],
                "less than": [name for name, rival in rivals.items() if behind(rival)],
                "not told apart from": [n for n, rival in rivals.items() if not ahead(rival) and not behind(rival)],
            }
            parts = [f"{phrase} {', '.join(names)}" for phrase, names in groups.items() if names]
            told.append(f"In {size} bytes, our own codes have {level} % {words}: {'; '.join(parts)}.")
    return " ".join(told)


def _is_rival(name: str, entry: Mapping[str, Any]) -> bool:
    return "difference" in entry and not name.endswith(", exact")
