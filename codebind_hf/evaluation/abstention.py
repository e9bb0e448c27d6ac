"""When should zero-shot classification answer "none of these"? Where no label is as near as labels of known items are.

An item is answered with its nearest label if their cosine is at least a threshold, which is calibrated on items whose
class is among the labels. Both rules are conformal: what they promise holds for any model and any distribution, over
calibration and test items that are exchangeable; it is said of the average over draws of both, not of each item.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn.functional import normalize

from codebind_hf.evaluation.decoupling import halves
from codebind_hf.evaluation.embedding import ClassEmbeds, EmbeddedModality, EmbeddedSet
from codebind_hf.evaluation.metrics import TIE_TOLERANCE
from codebind_hf.evaluation.sections import READ_OUTS
from codebind_hf.evaluation.writing import write_text
from codebind_hf.processing.pipeline_inputs import THRESHOLDS_FILE


# Share of items of known classes that are answered.
COVERAGE = 0.9


def calibrate_threshold(
    similarities: ArrayLike,
    labels: ArrayLike | None = None,
    coverage: float | None = None,
    risk: float | None = None,
) -> float:
    """The largest threshold that answers enough, or the smallest that errs rarely enough; one of both.

    With `coverage`, an item of a known class is answered with a probability of at least that: the threshold is the
    k-th smallest of the n largest similarities, k = floor((1 - coverage) (n + 1)) (split conformal prediction, Vovk et
    al. 2005). Ties are answered. With `risk`, an item is answered wrongly with at most that probability: the threshold
    is the smallest at which (wrong answers + 1) / (n + 1) is at most `risk` (conformal risk control, Angelopoulos et
    al. 2024, whose loss falls as the threshold grows).

    Args:
        similarities (array of shape `(items, classes)`): cosines of calibration items and labels.
        labels (integers of shape `(items,)`, *optional*): the class of each item; `risk` needs them.
        coverage: the default, of `COVERAGE`.
        risk: instead.

    Raises:
        ValueError: both or wrong shares, shapes that do not fit, numbers that are not finite, or too few items for
            the promise.
    """
    scores_QC = np.asarray(similarities, dtype=np.float64)
    if scores_QC.ndim != 2 or not scores_QC.size or not np.isfinite(scores_QC).all():
        raise ValueError(f"similarities: got shape {scores_QC.shape}; it must be (items, classes) of finite numbers.")
    if coverage is not None and risk is not None:
        raise ValueError(f"coverage, risk: got {coverage} and {risk}; give one.")
    name, share = ("risk", risk) if risk is not None else ("coverage", COVERAGE if coverage is None else coverage)
    if not 0 < share < 1:
        raise ValueError(f"{name}: got {share}; it must be between 0 and 1.")
    best_Q = scores_QC.max(axis=1)
    if risk is None:
        place = _floor((1 - share) * (len(best_Q) + 1))
        if place < 1:
            _refuse_few("coverage", share, len(best_Q), _ceil(1 / (1 - share)) - 1)
        return float(np.sort(best_Q)[place - 1])
    labels_Q = np.asarray([] if labels is None else labels)
    if labels_Q.shape != best_Q.shape:
        raise ValueError(f"labels: got shape {labels_Q.shape}; risk needs one label for each of {len(best_Q)} items.")
    allowed = _floor(share * (len(best_Q) + 1)) - 1
    if allowed < 0:
        _refuse_few("risk", share, len(best_Q), _ceil(1 / share) - 1)
    wrong = np.sort(best_Q[scores_QC.argmax(axis=1) != labels_Q])[::-1]
    # Just above the best wrong answer that is one too many; without one, everything may be answered.
    return float(np.nextafter(wrong[allowed], np.inf)) if len(wrong) > allowed else -1.0


def abstention_section(
    embedded: EmbeddedSet, classes: ClassEmbeds, class_names: Sequence[str], seed: int = 0, coverage: float = COVERAGE
) -> dict[str, dict[str, Any]]:
    """By modality, thresholds calibrated on a seeded half of the labelled rows, and what they do on the other half.

    Each read-out has `threshold`, `answered` (share of rows), `accuracy_of_answered`, and what tells known from
    unknown: with a seeded half of the classes as labels and a threshold of its own, `refused_known` and
    `refused_unknown` are the shares of rows of these and of the other classes that get "none". Sets whose rows have
    several labels are left out, and modalities with too few rows.
    """
    if embedded.label_sets:
        return {}
    index = {name: place for place, name in enumerate(class_names)}
    order = np.random.default_rng(seed).permutation(len(class_names))
    known = np.sort(order[: len(order) // 2])
    section = {}
    one, other = halves(embedded, seed)
    for name in embedded.modalities:
        parts = [_labelled(half, name, index) for half in (one, other)]
        if name == "text" or min(len(labels) for _, labels in parts) < _ceil(1 / (1 - coverage)) - 1:
            continue
        entry: dict[str, Any] = {"coverage": coverage, "calibrated_on": len(parts[0][1]), "n": len(parts[1][1])}
        for suffix, part in READ_OUTS:
            prototypes = normalize(getattr(classes, part).double(), dim=-1)
            scores = [
                (normalize(getattr(items, part).double(), dim=-1).cpu() @ prototypes.cpu().T).numpy()
                for items, _ in parts
            ]
            found = _judged(scores, [labels for _, labels in parts], known, coverage)
            entry |= {f"{key}{suffix}": value for key, value in found.items()}
        section[name] = entry
    return section


def save_thresholds(report: Mapping[str, Any], checkpoint: str | os.PathLike) -> Path | None:
    """Write the thresholds of a report beside a checkpoint, where pipelines find them; `None` if it has none."""
    section = report.get("abstention")
    if not section:
        return None
    keys = ("threshold", "threshold_continuous", "coverage", "calibrated_on")
    kept = {name: {key: entry[key] for key in keys} for name, entry in section.items()}
    content = {"templates": list(report.get("templates", ())), "modalities": kept}
    return write_text(Path(checkpoint) / THRESHOLDS_FILE, json.dumps(content, indent=1) + "\n")


def _labelled(half: EmbeddedSet, name: str, index: Mapping[str, int]) -> tuple[EmbeddedModality, np.ndarray]:
    modality = half.modalities.get(name)
    if modality is None:
        return EmbeddedModality(*(torch.empty(0),) * 3), np.empty(0, dtype=int)
    rows = modality.positions.tolist()
    has_label = torch.tensor([half.labels[row] is not None for row in rows])
    labels = [index[str(half.labels[row])] for row in rows if half.labels[row] is not None]
    return modality.take(has_label), np.array(labels, dtype=int)


def _judged(
    scores: Sequence[np.ndarray], labels: Sequence[np.ndarray], known: np.ndarray, coverage: float
) -> dict[str, float]:
    """One read-out: calibrated on the first of both, judged on the second."""
    # Codes make many items equal, and round-off must not tell them from the threshold that one of them gave.
    threshold = calibrate_threshold(scores[0], coverage=coverage) - TIE_TOLERANCE
    answered = scores[1].max(axis=1) >= threshold
    right = scores[1].argmax(axis=1) == labels[1]
    found = {"threshold": threshold, "answered": float(answered.mean())}
    if answered.any():
        found["accuracy_of_answered"] = float(right[answered].mean())
    is_known = [np.isin(each, known) for each in labels]
    enough = is_known[0].sum() >= _ceil(1 / (1 - coverage)) - 1
    if enough and is_known[1].any() and not is_known[1].all() and len(known):
        own = calibrate_threshold(scores[0][is_known[0]][:, known], coverage=coverage) - TIE_TOLERANCE
        refused = scores[1][:, known].max(axis=1) < own
        found |= {
            "refused_known": float(refused[is_known[1]].mean()),
            "refused_unknown": float(refused[~is_known[1]].mean()),
        }
    return found


def _refuse_few(name: str, share: float, got: int, least: int) -> None:
    raise ValueError(f"{name}: {share} cannot be promised from {got} calibration items. Fix: {least} or more.")


def _floor(value: float) -> int:
    # 0.1 * 10 may come as a little less than 1.
    return int(np.floor(value + 1e-9))


def _ceil(value: float) -> int:
    return int(np.ceil(value - 1e-9))
