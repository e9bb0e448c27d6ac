"""What can be read from a part of an embedding: labels by a tuned linear probe, and which object it is by a ridge.

Both are fitted on the training rows and tuned on a part of them; what is held out is only ever predicted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from things import Thing

from codebind_hf.evaluation import linear_probe, retrieval_recall
from codebind_hf.evaluation.probes import random_projection, residual


_RIDGES = (3.0, 30.0, 300.0, 3000.0)
_RAW_NUMBERS = 1000
_CLASSES = 4


def attributes_of(sense: str, things: Sequence[Thing], rows: Any) -> dict[str, np.ndarray]:
    """Private labels of every row, by name.

    Of speech the language, which is also the voice, and the rate, in quarters of letters a second within a language;
    of meshes the size, in quarters of the logarithm of the longest side in centimetres; of a wrist the side.
    Quarters are of the training rows.
    """
    own = [things[number] for number in rows.things]
    if sense == "speech":
        language = np.array([variant.removeprefix("speech_") for variant in rows.variant])
        quarters = np.zeros(len(language), dtype=int)
        for name in np.unique(language):
            same = language == name
            quarters[same] = _quarters(rows.rates[same], ~rows.test[same])
        return {"language": language, "rate": quarters}
    if sense in ("points", "depth", "video", "touch"):
        size = np.log([max(thing.attributes["size_cm"]) for thing in own])
        return {"size": _quarters(size, ~rows.test)}
    # People who are held out are of no training row, so that their name cannot be predicted.
    return {"side": np.array([thing.attributes["side"] for thing in own])} if sense == "imu" else {}


def _quarters(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    marks = np.nanquantile(values[train], np.arange(1, _CLASSES) / _CLASSES)
    return np.searchsorted(marks, np.nan_to_num(values, nan=float(np.nanmedian(values[train]))))


def shared_labels(sense: str, things: Sequence[Thing], rows: Any) -> dict[str, np.ndarray]:
    """What is not private, where rows of one kind are on both sides of the split."""
    kinds = np.array([things[number].kind for number in rows.things])
    return {"category": kinds} if sense in ("points", "depth") else {"exercise": kinds} if sense == "imu" else {}


def readings(
    sense: str,
    things: Sequence[Thing],
    rows: Any,
    parts: Mapping[str, np.ndarray],
    sentences: np.ndarray,
    raw: np.ndarray | None,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """`{part: {attribute: accuracy, "object": R@10}}`, and `{"chance": {...}}`.

    Args:
        rows: of the study, of one sense.
        parts: embeddings of all rows.
        sentences: text features of the things, which a ridge predicts for "object".
        raw: the standardised vectors, for the controls `raw`, `projection` and `residual`; `None` leaves them out.
    """
    train, test = ~rows.test, rows.test
    seen = dict(parts)
    if raw is not None:
        wide = random_projection(raw, _RAW_NUMBERS, seed)
        size = parts["specific"].shape[1]
        left = residual(wide[train], parts["shared"][train], wide[test], parts["shared"][test], size)
        whole = np.empty((len(raw), left[0].shape[1]))
        whole[train], whole[test] = left
        seen |= {"raw": wide, "projection": random_projection(raw, size, seed), "residual": whole}
    labels = {**attributes_of(sense, things, rows), **shared_labels(sense, things, rows)}
    found: dict[str, dict[str, Any]] = {"chance": {}}
    for part, values in seen.items():
        found[part] = {}
        for name, label in labels.items():
            probe = linear_probe(values[train], label[train], values[test], label[test], seed)
            found[part][name], found["chance"][name] = probe.accuracy, probe.chance
        if sense != "imu":
            found[part]["object"] = object_recall(values, rows, sentences)
            found["chance"]["object"] = 10 / len(np.unique(rows.things[test]))
    return found


def object_recall(values: np.ndarray, rows: Any, sentences: np.ndarray) -> float:
    """R@10 of the sentence that a ridge predicts, among those of the objects that are held out."""
    train, test = ~rows.test, rows.test
    middle = sentences[np.unique(rows.things[train])].mean(0)
    answer = ridge(values[train], sentences[rows.things[train]] - middle, values[test], rows.things[train])
    gallery, place = np.unique(rows.things[test], return_inverse=True)
    return retrieval_recall(answer, sentences[gallery] - middle, (10,), place)["recall_at_10"]


def closed_form(
    rows: Any, vectors: np.ndarray, bridged: Mapping[str, np.ndarray], held: np.ndarray, ks: Sequence[int]
) -> dict[str, Any]:
    """Retrieval by a ridge from the vectors to the bridge's embeddings: what binding has to beat, without training.

    Args:
        vectors: standardised, of all rows.
        bridged: by bridge modality, embeddings of all things.
        held: which things are held out; they are the gallery.
    """
    train, test = ~rows.test, rows.test
    place = np.cumsum(held) - 1
    found = {}
    for other, embeds in bridged.items():
        middle = embeds[rows.things[train]].mean(0)
        answer = ridge(vectors[train], embeds[rows.things[train]] - middle, vectors[test], rows.things[train])
        found[f"to {other}"] = retrieval_recall(answer, embeds[held] - middle, ks, place[rows.things[test]])
    return found


def ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Answers to `new`; the strength is chosen by squared error on a quarter of the groups of rows."""
    x, y, new = (np.asarray(each, dtype=np.float64) for each in (x, y, new))
    mean, deviation = x.mean(0), np.maximum(x.std(0), 1e-8)
    x, new = (x - mean) / deviation, (new - mean) / deviation
    held = np.isin(groups, np.unique(groups)[::4])
    errors = [((_solved(x[~held], y[~held], x[held], s) - y[held]) ** 2).mean() for s in _RIDGES]
    return _solved(x, y, new, _RIDGES[int(np.argmin(errors))])


def _solved(x: np.ndarray, y: np.ndarray, new: np.ndarray, strength: float) -> np.ndarray:
    """Through the smaller of the two Gram matrices."""
    if x.shape[1] <= len(x):
        return new @ np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
    return new @ (x.T @ np.linalg.solve(x @ x.T + strength * np.eye(len(x)), y))
