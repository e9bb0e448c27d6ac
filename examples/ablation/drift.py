"""Sensors of one place checked against each other, on worlds: how often one that drifted, stopped or was swapped is
flagged where 1 in 100 healthy rows is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from cells import Cells
from faults import DRIFT
from tables import CONTROL, ahead, behind, spread
from values import value
from worlds import TARGETS

from codebind_hf.evaluation.report import markdown_table
from codebind_hf.inference import SensorCheck


FALSE_ALARMS = 0.01
FAULTS = ("drifted", "dead", "swapped")
# Row and part, as the table names them; the first is the control.
JUDGED = {
    CONTROL: (CONTROL, "shared"),
    "ours": ("ours", "shared"),
    "ours, codes": ("ours", "shared_codes"),
    "paper, codes": ("paper", "shared_codes"),
}


def drift(cells: Cells, worlds: Sequence[int], seeds: Sequence[int]) -> dict[str, Any]:
    """By line and state `level`, and `difference` to the control on the same worlds."""
    lines = {name: (row, part) for name, (row, part) in JUDGED.items() if row in cells.rows}
    by_world = {
        name: [_mean([flagged(cells, row, part, world, seed) for seed in seeds]) for world in worlds]
        for name, (row, part) in lines.items()
    }
    found: dict[str, Any] = {}
    for name, each in by_world.items():
        found[name] = {}
        for state in each[0]:
            entry: dict[str, Any] = {"level": spread([world[state] for world in each], splits=False)}
            if name != CONTROL and CONTROL in by_world:
                pairs = [own[state] - other[state] for own, other in zip(each, by_world[CONTROL], strict=True)]
                entry["difference"] = spread(pairs, splits=False)
            found[name][state] = entry
    return found


def flagged(cells: Cells, row: str, part: str, world: int, seed: int) -> dict[str, float]:
    """Shares of rows, over all sensors that may be at fault; `..., named`: flagged, and this sensor named.

    What is normal, and the threshold, come from half of the rows, alarms and faults from the other half.
    """
    arrays = {target: cells.arrays(row, world, target, seed) for target in TARGETS}
    senses = {target: own[part] for target, own in arrays.items()} | {"image": arrays[TARGETS[0]][f"image.{part}"]}
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(senses["image"]))
    normal, others = order[: len(order) // 2], order[len(order) // 2 :]
    check = SensorCheck.fit({name: x[normal] for name, x in senses.items()}, seed=seed)
    healthy = {name: x[others] for name, x in senses.items()}
    found = {"healthy": [float(check.flags(healthy, FALSE_ALARMS).flagged.mean())]}
    for target, own in arrays.items():
        faults = {
            "drifted": own[f"drifted.{part}"][others],
            "dead": np.repeat(own[f"dead.{part}"], len(others), axis=0),
            # Everyone has the next one's.
            "swapped": np.roll(healthy[target], 1, axis=0),
        }
        for state, values in faults.items():
            rows = {**healthy, target: values}
            flags = check.flags(rows, FALSE_ALARMS)
            found.setdefault(state, []).append(float(flags.flagged.mean()))
            found.setdefault(f"{state}, named", []).append(float((flags.modality == target).mean()))
    return {state: float(np.mean(shares)) for state, shares in found.items()}


def _mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {state: float(np.mean([one[state] for one in each])) for state in each[0]}


def section(found: Mapping[str, Any]) -> Iterable[str]:
    """Of the page."""
    yield "## Sensors checked against each other, NineSenses"
    yield ""
    told = [
        f"`{name}` {value(entry[state]['difference'], True)} points of {state}{_strength(entry[state])}"
        for name, entry in found.items()
        for state in FAULTS[:1]
        if "difference" in entry[state]
    ]
    yield (
        "`SensorCheck` on depth, touch, EEG and picture of the same objects. Readings that *drifted* are off by "
        f"{DRIFT:g} deviation, by another share of it for every number; a sensor that is *dead* says one thing, one "
        "that is *swapped* is about another object. In brackets: flagged and named. Healthy rows should be flagged in "
        f"{100 * FALSE_ALARMS:.0f} %. Against `{CONTROL}`: {', '.join(told)}."
    )
    yield ""
    table = [
        [
            f"`{name}`",
            value(entry["healthy"]["level"]),
            *(f"{value(entry[state]['level'])} ({value(entry[f'{state}, named']['level'])})" for state in FAULTS),
        ]
        for name, entry in found.items()
    ]
    yield markdown_table(["row", "healthy", *FAULTS], table)
    yield ""


def _strength(entry: Mapping[str, Any]) -> str:
    return " (more)" if ahead(entry) else " (fewer)" if behind(entry) else ""
