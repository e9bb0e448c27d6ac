"""Sensors that contradict each other: false alarms on fresh healthy rows, faults that are named, values by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codebind_hf.inference import SensorCheck, disagreement


NAMES = ("image", "depth", "audio", "thermal")
# How much of each sensor is noise: pairs differ in what is normal.
NOISE = {"image": 0.3, "depth": 0.4, "audio": 0.6, "thermal": 0.5}
SIZE = 24


def healthy(rows: int, seed: int, names: tuple[str, ...] = NAMES) -> dict[str, np.ndarray]:
    """One thing a row, as each sensor sees it in the shared space, with an offset of the modality's own."""
    draw = np.random.default_rng(seed)
    things = draw.normal(size=(rows, SIZE))
    offsets = {name: np.random.default_rng(place).normal(size=SIZE) for place, name in enumerate(NAMES)}
    return {name: things + NOISE[name] * draw.normal(size=(rows, SIZE)) + offsets[name] for name in names}


def ids_of(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Codes of segments of 3 numbers: the octant, without the modality's offset."""
    centred = {name: each - each.mean(0) for name, each in rows.items()}
    return {name: (each.reshape(len(each), -1, 3) > 0) @ [1, 2, 4] for name, each in centred.items()}


def naive_scores(check: SensorCheck, rows: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """From the definition, row by row."""
    found: dict[str, list[float]] = {name: [] for name in check.modalities}
    for row in range(len(rows["image"])):
        unit = {}
        for place, name in enumerate(check.modalities):
            vector = rows[name][row] / np.linalg.norm(rows[name][row]) - check.centers[place]
            unit[name] = vector / np.linalg.norm(vector)
        for place, name in enumerate(check.modalities):
            below = [
                (check.means[place, other] - unit[name] @ unit[second]) / check.deviations[place, other]
                for other, second in enumerate(check.modalities)
                if second != name
            ]
            found[name].append(float(np.mean(below)))
    return found


def test_disagreement_by_hand() -> None:
    rows = {"a": [[2.0, 0.0]], "b": [[1.0, 0.0]], "c": [[0.0, 3.0]]}
    # a and b agree wholly (1), c with neither (0).
    assert {name: each.tolist() for name, each in disagreement(rows).items()} == {"a": [0.5], "b": [0.5], "c": [1.0]}
    ids = {"a": [[1, 2, 3, 4]], "b": [[1, 2, 3, 0]], "c": [[1, 0, 0, 0]]}
    # Of four segments a and b have 3 equal, a and c 1, b and c 2.
    expected = {"a": [0.5], "b": [1 - 2.5 / 4], "c": [1 - 1.5 / 4]}
    assert {name: each.tolist() for name, each in disagreement(ids).items()} == expected


def test_scores_are_those_of_the_definition_in_any_order_and_as_tensors() -> None:
    check, rows = SensorCheck.fit(healthy(60, 0)), healthy(7, 1)
    for name, scores in naive_scores(check, rows).items():
        np.testing.assert_allclose(check.scores(rows)[name], scores, rtol=1e-9)
        shuffled = {other: torch.from_numpy(rows[other]) for other in reversed(NAMES)}
        np.testing.assert_array_equal(check.scores(shuffled)[name], check.scores(rows)[name])


def test_the_threshold_is_the_conformal_rank() -> None:
    check = SensorCheck.fit(healthy(40, 0))
    check.calibration = np.arange(1.0, 100)
    # Of 99 rows ceil(100 * 0.99) = 99 at 1 %, ceil(100 * 0.9) = 90 at 10 %, ceil(100 * 0.985) = 99 at 1.5 %.
    assert [check.threshold(rate) for rate in (0.01, 0.1, 0.015, 0.5)] == [99, 90, 99, 50]
    assert check.threshold(1.0) == -math.inf
    check.calibration = np.arange(1.0, 99)
    with pytest.raises(ValueError, match="false_alarms: got 0.01 with 98 calibration rows; .* 99 or more rows"):
        check.threshold(0.01)


@pytest.mark.parametrize("kind", [pytest.param(lambda x: x, id="embeddings"), pytest.param(ids_of, id="code ids")])
def test_fresh_healthy_rows_raise_no_more_false_alarms_than_asked_for(kind: Callable[[Any], Any]) -> None:
    """On average over 300 fits with 19 calibration rows; a threshold from rows that were learned from misses it."""
    rates = []
    for seed in range(300):
        rows = kind(healthy(38 + 50, seed, NAMES[:3]))
        check = SensorCheck.fit({name: each[:38] for name, each in rows.items()}, seed=seed)
        assert len(check.calibration) == 19
        rates.append(check.flags({name: each[38:] for name, each in rows.items()}, 0.1).flagged.mean())
    error = np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) < 0.1 + 2.5 * error
    # Scores of embeddings never tie, and then the rate is exact, 2 of 20.
    if kind is not ids_of:
        assert np.mean(rates) > 0.1 - 2.5 * error


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "swapped": lambda each: np.roll(each, 1, axis=0),
    "dead": lambda each: np.full_like(each, 1.0),
    "dead, with zeros": np.zeros_like,
    "drifted": lambda each: each + 4 * np.random.default_rng(5).normal(size=SIZE),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("modality", NAMES)
def test_a_fault_is_found_and_its_sensor_named(fault: str, modality: str) -> None:
    check, rows = SensorCheck.fit(healthy(600, 0)), healthy(300, 1)
    assert check.flags(rows).flagged.mean() < 0.03
    flags = check.flags({**rows, modality: FAULTS[fault](rows[modality])})
    assert flags.flagged.mean() > 0.9
    assert (flags.modality[flags.flagged] == modality).mean() > 0.95
    assert not flags.modality[~flags.flagged].any()
    np.testing.assert_array_equal(flags.flagged, flags.scores > flags.threshold)


def test_codes_find_a_swapped_sensor_too() -> None:
    check = SensorCheck.fit(ids_of(healthy(600, 0)))
    rows = ids_of(healthy(300, 1))
    flags = check.flags({**rows, "image": np.roll(rows["image"], 1, axis=0)})
    assert flags.flagged.mean() > 0.8
    assert (flags.modality[flags.flagged] == "image").mean() > 0.9


def test_of_two_sensors_none_is_named() -> None:
    pair = ("image", "depth")
    check, rows = SensorCheck.fit(healthy(400, 0, pair)), healthy(100, 1, pair)
    flags = check.flags({**rows, "image": np.roll(rows["image"], 1, axis=0)})
    assert flags.flagged.mean() > 0.9
    assert set(flags.modality) == {""}


def test_saved_and_loaded_it_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    for number, kind in enumerate((lambda x: x, ids_of)):
        check, rows = SensorCheck.fit(kind(healthy(250, 0))), kind(healthy(20, 1))
        file = check.save(tmp_path / f"{number}.json")
        again = SensorCheck.load(file)
        for name, scores in check.scores(rows).items():
            np.testing.assert_array_equal(again.scores(rows)[name], scores)
        assert again.threshold() == check.threshold()
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_seed_chooses_the_calibration_rows() -> None:
    rows = healthy(60, 0)
    one, same, other = (SensorCheck.fit(rows, seed=seed).calibration for seed in (1, 1, 2))
    assert one.tolist() == same.tolist() != other.tolist()
    assert len(SensorCheck.fit(rows, calibration_share=0.25).calibration) == 15


FIT, ROWS = healthy(40, 0), healthy(3, 1)
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "one sensor": (lambda: disagreement({"image": ROWS["image"]}), "rows: got image; .* two or more"),
    "no dictionary": (lambda: disagreement([1]), "rows: got list"),
    "another number of rows": (
        lambda: disagreement({**ROWS, "audio": ROWS["audio"][:2]}),
        r"rows\['audio'\]: got .*first",
    ),
    "both kinds": (lambda: disagreement({**ROWS, "audio": np.zeros((3, SIZE), int)}), r"rows\['audio'\]: got .*int64"),
    "one axis": (
        lambda: disagreement({"a": [1.0], "b": [1.0]}),
        r"rows\['a'\]: got .* embeddings \(rows, shared_dim\)",
    ),
    "NaN": (lambda: disagreement({**ROWS, "audio": ROWS["audio"] * np.nan}), r"rows\['audio'\]: got 72 NaN"),
    "few rows": (lambda: SensorCheck.fit({name: each[:10] for name, each in FIT.items()}), "healthy: got 10 rows"),
    "share": (lambda: SensorCheck.fit(FIT, calibration_share=0), "calibration_share: got 0"),
    "seed": (lambda: SensorCheck.fit(FIT, seed=-1), "seed: got -1"),
    "rate": (lambda: SensorCheck.fit(FIT).flags(ROWS, 0), "false_alarms: got 0"),
    "too few for the rate": (lambda: SensorCheck.fit(FIT).flags(ROWS, 0.01), "false_alarms: .* 20 calibration rows"),
    "other sensors": (
        lambda: SensorCheck.fit(FIT).scores(healthy(3, 1, NAMES[:3])),
        "rows: got image, depth, audio; ",
    ),
    "other size": (
        lambda: SensorCheck.fit(FIT).scores({name: each[:, :4] for name, each in ROWS.items()}),
        r"\(rows, 24\), as in",
    ),
    "ids for embeddings": (lambda: SensorCheck.fit(FIT).scores(ids_of(ROWS)), r"embeddings \(rows, 24\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "got .'other', 1.; expected"),
        ({"version": 2}, "expected .*SensorCheck', 1"),
        ({"means": [[1.0]]}, r"means has shape \(1, 1\), where \(4, 4\)"),
        ({"means": [[1.0], [1.0, 2.0]]}, "means has rows of unequal length"),
        ({"calibration": ["a"]}, "calibration is"),
        ({"centers": [[0.0]]}, "centers has shape"),
    ],
)
def test_a_damaged_file_is_told(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = SensorCheck.fit(FIT).save(tmp_path / "check.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        SensorCheck.load(file)


def test_no_file_and_no_json_are_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none.json"):
        SensorCheck.load(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        SensorCheck.load(tmp_path / "text.json")
