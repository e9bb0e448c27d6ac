"""What codes and two parts are for, on real senses: from the embeddings of held-out things that the study kept.

Whoever is given a part reads what is private from it (`attack`); a search asks for the kind of thing or for this very
unit (`join_parts`); co-located senses are checked against each other (`SensorCheck`); a match is told in codes
(`explain_match`). Embeddings of InfoNCE alone are the control wherever it has an answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from faults import derangement
from splits import held_out
from study import ALL_SPEECH, MESH_SENSES, PLAN, Study
from summary import spread

from codebind_hf.evaluation import attack
from codebind_hf.inference import CodeIndex, SensorCheck, explain_match, join_parts
from codebind_hf.model.codebooks import nearest_codes, unit_segments


_FALSE_ALARMS = 0.01
_NEAREST = 3
Arrays = Mapping[str, np.ndarray]


def uses(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that the page says of uses, as JSON values; of senses that are there."""
    found: dict[str, Any] = {}
    if ALL_SPEECH in study.senses:
        found["attack"] = _over(seeds, lambda seed: _attacked(study, seed))
        found["search"] = _over(seeds, lambda seed: _searched(study, seed))
    if set(MESH_SENSES) <= set(study.senses):
        found["check"] = _checked(study, seeds)
        found["match"] = _matched(study, seeds)
    return found


def _over(seeds: Sequence[int], measure: Any) -> dict[str, Any]:
    by_seed = [measure(seed) for seed in seeds]
    return {name: spread([each[name] for each in by_seed]) for name in by_seed[0]}


def _voices(study: Study, seed: int) -> np.ndarray:
    """Language of every held-out recording, which is its voice as well."""
    rows = study.rows_of(ALL_SPEECH, held_out(study.features.things, seed, study.by))
    return rows.variant[rows.test]


def _attacked(study: Study, seed: int) -> dict[str, float]:
    """How often an attacker who has recordings of half of the objects reads the language of the others."""
    ours, alone = (study.arrays(row, seed, ALL_SPEECH) for row in ("codebind", "infonce"))
    given = {
        "shared": ours["shared"],
        "shared, quantized": ours["shared_codes"],
        "shared and specific": np.hstack([ours["shared"], ours["specific"]]),
        "InfoNCE alone": alone["shared"],
    }
    names = np.unique(ours["things"])
    theirs = np.isin(ours["things"], np.random.default_rng(seed).permutation(names)[: len(names) // 2])
    languages = _voices(study, seed)
    read = attack(
        {name: x[theirs] for name, x in given.items()},
        languages[theirs],
        {name: x[~theirs] for name, x in given.items()},
        languages[~theirs],
        seed,
    )
    found = {name: result.accuracy for name, result in read.items()}
    found["chance"] = next(iter(read.values())).chance
    for name in ("shared", "shared, quantized"):
        found[f"{name} - InfoNCE alone"] = found[name] - found["InfoNCE alone"]
    return found


def _searched(study: Study, seed: int) -> dict[str, float]:
    """Of the three nearest recordings to each, how many say the same object, and how many are of the same voice."""
    own = study.arrays("codebind", seed, ALL_SPEECH)
    by = {
        "what": own["shared"],
        "which": own["specific"],
        "both": join_parts(own["shared"], own["specific"]),
    }
    alone = study.arrays("infonce", seed, ALL_SPEECH)["shared"]
    languages, found = _voices(study, seed), {}
    for name, vectors in {**by, "InfoNCE alone": alone}.items():
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -np.inf)
        nearest = np.argsort(-scores, axis=1, kind="stable")[:, :_NEAREST]
        found[f"{name}: same object"] = float((own["things"][nearest] == own["things"][:, None]).mean())
        found[f"{name}: same voice"] = float((languages[nearest] == languages[:, None]).mean())
    return found


def _senses(study: Study, row: str, seed: int, part: str) -> dict[str, np.ndarray]:
    """One part of all senses of the same held-out meshes, and of their pictures."""
    found = {sense: study.arrays(row, seed, sense)[part] for sense in MESH_SENSES}
    return {**found, "image": study.arrays(row, seed, "bridge")[f"furniture-image-{part}"]}


def _checked(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """How often a drifted, swapped or dead sensor is flagged, and named, where 1 in 100 healthy rows is.

    What is normal is learned from half of a split's things. The threshold is from the other half of all other splits,
    as one split has too few things for it; alarms and faults are of the other half of this one.
    """
    found = {}
    for name, row, part in (
        ("ours", "codebind", "shared"),
        ("our codes", "codebind", "shared_codes"),
        ("InfoNCE alone", "infonce", "shared"),
    ):
        scores = {}
        for seed in seeds:
            moved = {sense: study.arrays(row, seed, sense)[f"drifted.{part}"] for sense in MESH_SENSES}
            scores[seed] = _scores(_senses(study, row, seed, part), moved, seed)
        figures: dict[str, list[float]] = {}
        for seed in seeds:
            others = np.sort(np.concatenate([scores[other]["healthy"].max(1) for other in seeds if other != seed]))
            rank = int(np.ceil((len(others) + 1) * (1 - _FALSE_ALARMS)))
            threshold = others[min(rank, len(others)) - 1]
            for state, each in scores[seed].items():
                flagged = each.reshape(-1, each.shape[-1]).max(1) > threshold
                figures.setdefault(state, []).append(float(flagged.mean()))
                if state != "healthy":
                    # The first axis is the sensor at fault; pictures come last, and do not drift.
                    right = each.argmax(2) == np.arange(len(each))[:, None]
                    figures.setdefault(f"{state}, named", []).append(float((right.ravel() & flagged).mean()))
        found[name] = {state: spread(values) for state, values in figures.items()}
    return found


def _scores(senses: dict[str, np.ndarray], moved: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Scores `(rows, senses)` of healthy rows, and `(sense at fault, rows, senses)` of each kind of fault.

    Args:
        moved: of the same things as `senses`, what a sensor that has drifted says.
    """
    rng = np.random.default_rng(seed)
    count = len(senses["image"])
    order = rng.permutation(count)
    normal, others = order[: count // 2], order[count // 2 :]
    check = SensorCheck.fit({name: x[normal] for name, x in senses.items()}, calibration_share=0.1, seed=seed)
    healthy = {name: x[others] for name, x in senses.items()}
    found: dict[str, list[np.ndarray]] = {"drifted": [], "swapped": [], "dead": []}
    for name, x in healthy.items():
        # A sensor that has stopped goes on to say what it said last.
        last = rng.integers(len(x))
        faults = {"swapped": x[derangement(len(x), rng)], "dead": np.repeat(x[[last]], len(x), axis=0)}
        if name in moved:
            faults["drifted"] = moved[name][others]
        for state, values in faults.items():
            found[state].append(_stacked(check, {**healthy, name: values}))
    return {"healthy": _stacked(check, healthy), **{state: np.stack(each) for state, each in found.items()}}


def _stacked(check: SensorCheck, rows: dict[str, np.ndarray]) -> np.ndarray:
    scores = check.scores(rows)
    return np.stack([scores[name] for name in check.modalities], axis=1)


def _matched(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """Equal ids of a felt mesh and its picture against those of others, and the match that shares most, in words."""
    same, other, told = [], [], ""
    for seed in seeds:
        codes = study.bridge_of("codebind", seed)[0].codebooks.shared.codes
        touch, pictures = (
            _ids(_senses(study, "codebind", seed, "shared_codes")[sense], codes) for sense in ("touch", "image")
        )
        equal = (touch[:, None] == pictures[None]).sum(2)
        right = np.eye(len(equal), dtype=bool)
        same.append(float(equal[right].mean()))
        other.append(float(equal[~right].mean()))
        if not told:
            told = _told(study, seed, codes, touch, pictures, int(equal.diagonal().argmax()))
    return {"same": spread(same), "other": spread(other), "segments": int(touch.shape[1]), "example": told}


def _told(study: Study, seed: int, codes: torch.Tensor, touch: np.ndarray, pictures: np.ndarray, place: int) -> str:
    collection = PLAN["touch"][0]
    test = held_out(study.features.things, seed, study.by)[collection]
    names = [f"{n}, {study.features.things[collection][n].name}" for n in np.flatnonzero(test)]
    index = CodeIndex(codes, touch.shape[1], "numpy")
    for modality, ids in (("touch", touch), ("image", pictures)):
        index.add(ids, modality, keys=names)
    match = explain_match(index, ("touch", names[place]), ("image", names[place]), examples=2)
    return "\n".join(str(match).splitlines()[:6])


def _ids(embeddings: np.ndarray, codes: torch.Tensor) -> np.ndarray:
    """Of quantized embeddings, which kept 16 bits: the nearest code is the one that was picked."""
    segments = unit_segments(torch.from_numpy(embeddings), codes.shape[1])
    return nearest_codes(segments.flatten(0, 1), codes).view(len(embeddings), -1).numpy()
