"""From cells to figures: means over splits, intervals, paired differences, and pairs that never met in training."""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
from features import SPEECH
from splits import SHARE
from study import ALL_SPEECH, PLAN, PROBED, ROWS, Study
from things import groups_of

from codebind_hf.evaluation import retrieval_recall
from codebind_hf.evaluation.environment import environment


# Two-sided 95 % points of Student's t by degrees of freedom; between two of them the smaller is on the safe side.
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 14: 2.14, 19: 2.09, 29: 2.05}
_MESHES = ("points", "depth", "video", "touch")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean over splits, its standard error, and half the width of a 95 % interval.

    Splits share training rows, so that their spread over the square root of their number is too small; the variance
    is multiplied by 1 / splits + test share / training share instead (Nadeau and Bengio, 2003).
    """
    found = np.asarray(values, dtype=float)
    count = len(found)
    if count < 2:
        return {"mean": float(found.mean()), "se": math.nan, "half": math.nan, "splits": count}
    error = float(found.std(ddof=1) * math.sqrt(1 / count + SHARE / (1 - SHARE)))
    point = _T[max(freedom for freedom in _T if freedom <= count - 1)]
    return {"mean": float(found.mean()), "se": error, "half": point * error, "splits": count}


def summary(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that the page says, as JSON values."""
    cells = {cell: study.compute(*cell) for cell in study.cells(list(seeds))}
    senses = study.senses
    return {
        "seeds": list(seeds),
        "held out by": study.by,
        "test things": {
            name: spread([cells["codebind", s, "bridge"]["test"][name] for s in seeds])["mean"]
            for name in study.features.things
        },
        "settings": {name: _plain(settings) for name, settings in ROWS.items()},
        "bridge": _bridges(cells, seeds),
        "retrieval": {s: _retrieval(cells, s, seeds) for s in senses if PLAN[s][0] in ("stamps", "furniture")},
        "retrieval over all": _over_all(cells, senses, seeds),
        "zero-shot": {s: _zero_shot(cells, s, seeds) for s in senses if s in ("eeg", "imu")},
        "emergent": _emergent(study, seeds),
        "readings": {s: _readings(cells, s, seeds) for s in senses if s in PROBED},
        "leak": _leak(cells, seeds) if ALL_SPEECH in senses else {},
        "gone": dict(study.features.gone),
        "environment": environment(),
    }


def _plain(settings: Any) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(settings).items()}


def _bridges(cells: dict, seeds: Sequence[int]) -> dict[str, Any]:
    names = [name for name in cells["codebind", seeds[0], "bridge"] if " to " in name]
    return {
        name: {row: spread([cells[row, s, "bridge"][name]["shared"]["recall_at_10"] for s in seeds]) for row in ROWS}
        for name in names
    }


def _retrieval(cells: dict, sense: str, seeds: Sequence[int]) -> dict[str, Any]:
    """By bridge modality, R@10 of every row and control, and differences to InfoNCE alone on the same splits."""
    found: dict[str, Any] = {}
    for other in ("image", "text"):
        key = f"to {other}"
        values = {
            "ours": [cells["codebind", s, sense][key]["shared"]["recall_at_10"] for s in seeds],
            "our codes": [cells["codebind", s, sense][key]["shared_codes"]["recall_at_10"] for s in seeds],
            "infonce": [cells["infonce", s, sense][key]["shared"]["recall_at_10"] for s in seeds],
            "closed form": [cells["codebind", s, sense]["closed form"][key]["recall_at_10"] for s in seeds],
        }
        if sense == ALL_SPEECH:
            values["paper, codes"] = [cells["paper", s, sense][key]["shared_codes"]["recall_at_10"] for s in seeds]
        one = {name: spread(each) for name, each in values.items()}
        for name in ("ours", "our codes", "closed form"):
            one[f"{name} - infonce"] = spread(np.subtract(values[name], values["infonce"]))
        found[other] = one
    return found


def _over_all(cells: dict, senses: Sequence[str], seeds: Sequence[int]) -> dict[str, float]:
    """How far the mean R@10 of all pairs is from that of InfoNCE alone, on the same splits."""

    def recall(row: str, seed: int) -> float:
        found = [
            cells[row, seed, sense][f"to {other}"]["shared"]["recall_at_10"]
            for sense in senses
            if PLAN[sense][0] in ("stamps", "furniture")
            for other in ("image", "text")
        ]
        return float(np.mean(found))

    return spread([recall("codebind", seed) - recall("infonce", seed) for seed in seeds])


def _zero_shot(cells: dict, sense: str, seeds: Sequence[int]) -> dict[str, Any]:
    kinds = cells["codebind", seeds[0], sense]["zero-shot"]
    return {
        kind: {
            "ours": spread([cells["codebind", s, sense]["zero-shot"][kind]["shared"] for s in seeds]),
            "our codes": spread([cells["codebind", s, sense]["zero-shot"][kind]["shared_codes"] for s in seeds]),
            "infonce": spread([cells["infonce", s, sense]["zero-shot"][kind]["shared"] for s in seeds]),
            "largest class": spread([cells["codebind", s, sense]["zero-shot"][kind]["largest"] for s in seeds]),
        }
        for kind in kinds
    }


def _readings(cells: dict, sense: str, seeds: Sequence[int]) -> dict[str, Any]:
    found = {}
    for row in ROWS:
        if (row, seeds[0], sense) not in cells:
            continue
        parts = cells[row, seeds[0], sense]["readings"]
        for part, labels in parts.items():
            name = part if part in ("chance", "raw", "projection", "residual") else f"{row}: {part}"
            if part == "chance" and row != "codebind":
                continue
            found[name] = {
                label: spread([cells[row, s, sense]["readings"][part][label] for s in seeds]) for label in labels
            }
    return found


def _leak(cells: dict, seeds: Sequence[int]) -> dict[str, Any]:
    """How much more than InfoNCE alone the shared part gives the language away, on the same splits."""

    def read(row: str, part: str) -> list[float]:
        return [cells[row, seed, ALL_SPEECH]["readings"][part]["language"] for seed in seeds]

    alone = read("infonce", "shared")
    return {part: spread(np.subtract(read("codebind", part), alone)) for part in ("shared", "shared_codes")}


def _emergent(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """R@10 between senses that never met: languages, what is seen and felt of meshes, and speech and meshes."""
    pairs = [
        ("language to language", list(permutations([s for s in SPEECH if s in study.senses], 2))),
        *((f"{a} to {b}", [(a, b)]) for a, b in permutations([s for s in _MESHES if s in study.senses], 2)),
    ]
    found: dict[str, Any] = {}
    for label, some in pairs:
        if some:
            found[label] = {}
            for name, row, part in (
                ("ours", "codebind", "shared"),
                ("our codes", "codebind", "shared_codes"),
                ("infonce", "infonce", "shared"),
            ):
                found[label][name] = spread(
                    [float(np.mean([_pair(study, row, s, part, *pair) for pair in some])) for s in seeds]
                )
            found[label]["chance"] = spread([10 / _sizes(study, s, some[0][1]) for s in seeds])
    if "points" in study.senses and ALL_SPEECH in study.senses:
        found["speech to points, by noun"] = _by_noun(study, seeds)
    return found


def _sizes(study: Study, seed: int, sense: str) -> int:
    return len(study.arrays("codebind", seed, sense)["things"])


def _pair(study: Study, row: str, seed: int, part: str, one: str, other: str) -> float:
    first, second = (study.arrays(row, seed, sense) for sense in (one, other))
    both = np.isin(first["things"], second["things"])
    targets = np.searchsorted(second["things"], first["things"][both])
    query, gallery = first[part][both], second[part]
    return retrieval_recall(query, gallery, (10,), targets)["recall_at_10"]


def _by_noun(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """How often a mesh of the same noun is among ten, of spoken words whose noun some held-out mesh has."""
    stamps, meshes = (study.features.things[name] for name in ("stamps", "furniture"))
    nouns = np.array(groups_of([thing.name for thing in (*stamps, *meshes)], "noun"))
    values: dict[str, list[float]] = {"ours": [], "our codes": [], "infonce": [], "chance": []}
    counts = []
    for seed in seeds:
        for name, row, part in (
            ("ours", "codebind", "shared"),
            ("our codes", "codebind", "shared_codes"),
            ("infonce", "infonce", "shared"),
        ):
            said, seen = (study.arrays(row, seed, sense) for sense in (ALL_SPEECH, "points"))
            same = nouns[said["things"]][:, None] == nouns[len(stamps) + seen["things"]][None]
            asked = same.any(1)
            if not asked.any():
                continue
            scores = said[part][asked] @ seen[part].T
            best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
            values[name].append(float(np.take_along_axis(same[asked], best, axis=1).any(1).mean()))
            if name == "ours":
                counts.append(int(asked.sum()))
                left = (~same[asked]).sum(1)
                none = [math.comb(int(n), 10) / math.comb(same.shape[1], 10) for n in left]
                values["chance"].append(1 - float(np.mean(none)))
    return {**{name: spread(each) for name, each in values.items() if each}, "queries": sum(counts)}


def within_one_error(entry: dict[str, Any], name: str = "ours") -> bool:
    """Whether a row is no more than one standard error of the paired difference below InfoNCE alone."""
    difference = entry[f"{name} - infonce"]
    return bool(difference["mean"] >= -difference["se"])
