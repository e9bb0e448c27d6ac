"""The page `docs/real.md` and its numbers `docs/real.json`, from what the study found."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uses_page
from features import Features
from packages import PACKAGES
from study import ALL_SPEECH
from summary import within_one_error
from values import value

from codebind_hf.evaluation.report import markdown_table
from codebind_hf.evaluation.writing import write_text


# What `by_command.py` found, beside the page.
COMMANDS = "real-commands.json"
_ROWS = ("ours", "our codes", "infonce", "closed form", "paper, codes")
# What is asked for: language in the specific part, object in it, and splits.
_LANGUAGE, _OBJECT, _SPLITS = 0.95, 0.22, 10


def write_page(file: Path, found: Mapping[str, Any], features: Features) -> None:
    """Write the page and, beside it, its numbers; both as a whole or not at all."""
    write_text(file.with_suffix(".json"), json.dumps(found, indent=1) + "\n")
    commands = file.with_name(COMMANDS)
    ran = json.loads(commands.read_text(encoding="utf-8")) if commands.is_file() else None
    write_text(file, "\n".join([*_lines(found, features), *(_by_command(ran) if ran else ())]) + "\n")


def _lines(found: Mapping[str, Any], features: Features) -> Iterable[str]:
    seeds, place = found["seeds"], found["environment"]
    yield "# Real senses on frozen encoders"
    yield ""
    yield (
        "This page is the output of `make real` (`examples/real/`); its numbers are in `real.json` beside it. Every "
        "sense is bound to frozen EfficientNet-lite0 features of pictures and MiniLM features of sentences with "
        "CodeBind's heads, shared codebook and specific parts, and judged on objects with names never trained on."
    )
    yield ""
    yield from _verdict(found)
    yield "## What was measured"
    yield ""
    sizes = ", ".join(
        f"{count['mean'] if isinstance(count, dict) else count:.0f} of {name}"
        for name, count in found["test things"].items()
    )
    yield (
        f"Splits of the seeds {', '.join(map(str, seeds))}; held out are a fifth of the objects by "
        f"{found['held out by']}, near-namesakes together: on average {sizes} items. Of IMU two people are held out, "
        "of EEG the package's test part. "
        f"Settings were chosen on the splits of seeds from 100 on. `codebind_hf` {place['codebind_hf']}, torch "
        f"{place['torch']}, transformers {place['transformers']}, Python {place['python']}, {place['processor']}, "
        f"{place['cpu_count']} cores; {str(place['date'])[:10]}."
    )
    yield ""
    yield (
        "`ours` and `our codes` are the shared embedding before and after quantization; `infonce` is the same "
        "encoder, steps, batches and noise with InfoNCE alone, without codebook, decoder or specific part; "
        "`closed form` is a "
        "ridge regression from the same vectors to the bridge's embeddings, without training; `paper, codes` is one "
        "trunk with two heads, per-sample orthogonality, weak reconstruction and alignment through the codes. "
        "Intervals are 95 %, over splits, with the correction for shared training rows; a difference is of pairs on "
        "the same split."
    )
    yield ""
    yield from _retrieval(found)
    yield from _zero_shot(found)
    yield from _emergent(found)
    yield from _readings(found)
    yield from uses_page.lines(found.get("uses", {}))
    yield from _sources(found, features)


def _verdict(found: Mapping[str, Any]) -> Iterable[str]:
    """What was asked for, and whether it holds."""
    rows = []
    speech = found["readings"].get(ALL_SPEECH)
    if speech:
        own, shared = speech["codebind: specific"], speech["codebind: shared"]
        rows.append(
            ("language in the specific part >= 95 %", value(own["language"]), own["language"]["mean"] >= _LANGUAGE)
        )
        rows.append(("object in the specific part <= 22 %", value(own["object"]), own["object"]["mean"] <= _OBJECT))
    wins = {
        f"{sense} to {other}": within_one_error(entry)
        for sense, by in found["retrieval"].items()
        for other, entry in by.items()
    }
    behind = [name for name, holds in wins.items() if not holds]
    told = "all" if not behind else f"{len(wins) - len(behind)} of {len(wins)}; behind: {', '.join(behind)}"
    if len(found["seeds"]) > 1:
        rows.append(("retrieval within one standard error of InfoNCE alone", told, not behind))
    if len(found["seeds"]) < _SPLITS:
        yield f"**Not the whole study**: {len(found['seeds'])} of {_SPLITS} splits; intervals are wide or missing."
        yield ""
    yield markdown_table(["accepted at", "found", "holds"], [[a, b, "yes" if c else "no"] for a, b, c in rows])
    yield ""
    if len(found["seeds"]) > 1:
        yield (
            f"Over all {len(wins)} pairs, ours is {value(found['retrieval over all'], signed=True)} from InfoNCE. "
            "Of pairs that do not differ, about one in six is more than one standard error behind."
        )
        yield ""
    if speech:
        yield (
            f"**What leaks.** From the shared part, which should not know it, a tuned linear probe reads the language "
            f"(and so the voice) of speech at {value(shared['language'])} "
            f"(chance {value(speech['chance']['language'])}), "
            f"its codes at {value(speech['codebind: shared_codes']['language'])}, and InfoNCE alone leaks "
            f"{value(speech['infonce: shared']['language'])} (ours less that, on the same splits: "
            f"{value(found['leak']['shared'], signed=True)}, our codes "
            f"{value(found['leak']['shared_codes'], signed=True)}). "
            "Who gives away shared embeddings gives that away."
        )
        yield ""


def _retrieval(found: Mapping[str, Any]) -> Iterable[str]:
    yield "## Retrieval: R@10 in per cent"
    yield ""
    bridge = [[name, *(value(by[row]) for row in by)] for name, by in found["bridge"].items()]
    yield "The bridge, pictures and sentences of held-out objects:"
    yield ""
    yield markdown_table(["pair", *next(iter(found["bridge"].values()))], bridge)
    yield ""
    for other in ("image", "text"):
        table = []
        for sense, by in found["retrieval"].items():
            entry = by[other]
            cells = [value(entry[row]) if row in entry else "" for row in _ROWS]
            table.append(
                [sense, *cells, value(entry["ours - infonce"], True), value(entry["our codes - infonce"], True)]
            )
        yield f"From a sense to the {other} of its object, among those that are held out of its collection:"
        yield ""
        yield markdown_table(["sense", *_ROWS, "ours - infonce", "codes - infonce"], table)
        yield ""


def _zero_shot(found: Mapping[str, Any]) -> Iterable[str]:
    if found["zero-shot"]:
        yield "## Zero-shot: recordings by the words of their class, per cent"
        yield ""
        table = [
            [f"{sense}, {kind}", *(value(entry[row]) for row in ("ours", "our codes", "infonce", "largest class"))]
            for sense, by in found["zero-shot"].items()
            for kind, entry in by.items()
        ]
        yield markdown_table(["recordings", "ours", "our codes", "infonce", "largest class"], table)
        yield ""


def _emergent(found: Mapping[str, Any]) -> Iterable[str]:
    if found["emergent"]:
        yield "## Pairs that never met in training: R@10 in per cent"
        yield ""
        columns = ("ours", "our codes", "infonce", "chance")
        table = [[n, *(value(e[c]) if c in e else "" for c in columns)] for n, e in found["emergent"].items()]
        yield markdown_table(["pair", *columns], table)
        yield ""
        if "speech to points, by noun" in found["emergent"]:
            count = found["emergent"]["speech to points, by noun"]["queries"]
            yield (
                "Speech and meshes are of different collections: right is a mesh whose name ends in the noun of what "
                f"was said, and only the {count} recordings (over all splits) that have such a mesh ask."
            )
            yield ""


def _readings(found: Mapping[str, Any]) -> Iterable[str]:
    if found["readings"]:
        yield "## What each part knows, per cent"
        yield ""
        yield (
            "Labels by a logistic regression on standardised values, tuned on a part of the training rows; "
            "`object` by a ridge from the part to the sentence, R@10 among held-out objects. `raw` is the "
            "encoder's input (a random projection to 1000 numbers where it is longer), `projection` a random one to "
            "the size of the specific part, `residual` the closed form of a specific part: principal components "
            "of what a "
            "ridge from the shared part does not predict of the input."
        )
        yield ""
        for sense, parts in found["readings"].items():
            labels = list(parts["chance"])
            table = [
                [part, *(value(by[label]) if label in by else "" for label in labels)] for part, by in parts.items()
            ]
            yield f"### {sense}"
            yield ""
            yield markdown_table(["part", *labels], table)
            yield ""


def _by_command(ran: Mapping[str, Any]) -> Iterable[str]:
    splits, place = list(ran["splits"].values()), ran["environment"]
    senses = [name for name in splits[0] if name != "bridge"]
    yield ""
    yield "## By command"
    yield ""
    yield (
        "What `examples/real/by_command.py` does with `examples/train.py` alone: a bridge of MiniLM itself and of "
        "vectors of pictures (`real-bridge.yaml`), and a sense bound to it (`real-bind.yaml`), with objects held out "
        "by their exact names; of sentences that say the same, any is the right one. `plain` is the study's InfoNCE "
        "alone, with a bridge of its own, on the same splits. "
        f"Splits {', '.join(ran['splits'])}; R@10 in per cent among "
        f"{_over(splits, senses[0], 'gallery')} and {_over(splits, senses[-1], 'gallery')} objects, mean and range; "
        f"seconds from start to exit on {place['cpu_count']} cores ({place['processor']}, {str(place['date'])[:10]}), "
        f"with vectors in files; the bridge takes {_over(splits, 'bridge', 'seconds')}."
    )
    yield ""
    names = [name for name in splits[0][senses[0]] if name.startswith("to ")]
    table = [
        [
            sense,
            *(_over(splits, sense, name, 100, 1) for name in names),
            _over(splits, sense, "seconds"),
            _over(splits, sense, "pack_megabytes", digits=1),
            "not a bit" if all(split[sense]["unmoved"] for split in splits) else "they do",
        ]
        for sense in senses
    ]
    yield markdown_table(["sense", *names, "seconds", "pack, MB", "text and image move"], table)


def _over(splits: Sequence[Mapping[str, Any]], sense: str, name: str, times: float = 1, digits: int = 0) -> str:
    """Mean of a number over splits and, of more than one value, its range."""
    values = [times * split[sense][name] for split in splits]
    least, most = (f"{each:.{digits}f}" for each in (min(values), max(values)))
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if least == most else f"{mean} ({least} to {most})"


def _sources(found: Mapping[str, Any], features: Features) -> Iterable[str]:
    yield "## Where it comes from"
    yield ""
    yield (
        "Nothing of these packages is in this repository; they are fetched by digest into a cache outside git. "
        "Whether the two parts of an EEG set share a person is not said for all of them, and in most they "
        "do. One named voice "
        "speaks most languages, so language and voice are one label here."
    )
    yield ""
    table = [[p.name, p.version, p.kind, p.licence, p.holds, f"`{p.sha256[:16]}`"] for p in PACKAGES.values()]
    yield markdown_table(["package", "version", "from", "licence", "what is taken", "sha256"], table)
    for need, reason in found["gone"].items():
        yield ""
        yield f"Left out in this run: {need}, as {reason}."
