"""The part of the page that says what codes and two parts are for."""

from collections.abc import Iterable, Mapping
from typing import Any

from faults import DRIFT
from values import value

from codebind_hf.evaluation.report import markdown_table


def lines(found: Mapping[str, Any]) -> Iterable[str]:
    """Of what `uses.uses` found."""
    if not found:
        return
    yield "## What codes and two parts are for"
    yield ""
    if "attack" in found:
        yield from _attack(found["attack"])
        yield from _search(found["search"])
    if "check" in found:
        yield from _check(found["check"])
        yield from _match(found["match"])


def _attack(found: Mapping[str, Any]) -> Iterable[str]:
    yield "### Keep the specific part back"
    yield ""
    yield (
        "Who gets embeddings of speech reads which language it is, which is the voice as well. The attacker, the best "
        "of tuned logistic regressions and small networks, has labelled recordings of half of the held-out objects "
        "and reads those of the other half. Per cent read right:"
    )
    yield ""
    names = [name for name in found if " - " not in name]
    yield markdown_table(["what is given away", "read right"], [[name, value(found[name])] for name in names])
    yield ""
    told = [
        f"{name.partition(' - ')[0]}: {value(entry, signed=True)}" for name, entry in found.items() if " - " in name
    ]
    yield f"Differences to InfoNCE alone on the same recordings, points: {'; '.join(told)}."
    yield ""


def _search(found: Mapping[str, Any]) -> Iterable[str]:
    yield '### Search by "what" and by "which"'
    yield ""
    yield (
        "Of the three nearest recordings to each held-out one, per cent that say the same object (in other languages) "
        "and per cent of the same voice; `what` compares shared parts, `which` specific ones, `both` the two together:"
    )
    yield ""
    rows = list(dict.fromkeys(name.partition(":")[0] for name in found))
    table = [[row, value(found[f"{row}: same object"]), value(found[f"{row}: same voice"])] for row in rows]
    yield markdown_table(["search by", "same object", "same voice"], table)
    yield ""


def _check(found: Mapping[str, Any]) -> Iterable[str]:
    yield "### Sensors checked against each other"
    yield ""
    yield (
        "Points, depth, turntable, touch and picture of one mesh, bound apart. One of them is swapped for that of "
        "another mesh, goes on saying what it said last, or has drifted (not the picture): every number of its "
        f"readings is off by its own share of {DRIFT:g} deviation. Per cent of rows that `SensorCheck` flags where 1 "
        "in 100 healthy rows may be, and per cent where it names the sensor at fault, too; means over which one it "
        "is:"
    )
    yield ""
    states = list(next(iter(found.values())))
    table = [[row, *(value(by[state]) for state in states)] for row, by in found.items()]
    yield markdown_table(["embeddings", *states], table)
    yield ""


def _match(found: Mapping[str, Any]) -> Iterable[str]:
    yield "### A match in words"
    yield ""
    yield (
        f"Of {found['segments']} code ids, a felt mesh has {value(found['same'], times=1)} in common with its own "
        f"picture and {value(found['other'], times=1)} with that of another. `explain_match` says which, how rare "
        "that is, and what else has them; of the first split the pair that has most in common:"
    )
    yield ""
    yield "```text"
    yield found["example"]
    yield "```"
    yield ""
