"""Take from a run of `make demo` the figures that the card of `codebind-tiny` shows.

    python model_cards/take_figures.py --run runs/demo    # writes results/codebind-tiny.json
    python model_cards/fill.py                            # writes the cards with them

The file is a small part of the run's `report.json`, with the data of its recipe and the standard errors of its scores.
"""

import argparse
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from codebind_hf import CodeBindConfig
from codebind_hf.evaluation.decoupling import CLASS


CARDS = Path(__file__).parent
FIGURES = CARDS / "results" / "codebind-tiny.json"
RECIPE = CARDS.parent / "examples" / "recipes" / "demo.yaml"
# What a report says of its environment and a card keeps: nothing that tells one machine from another of its kind.
ENVIRONMENT = ("date", "codebind_hf", "python", "torch", "transformers", "processor", "cpu_count", "threads")
RECALLS = ("recall_at_10", "recall_at_10_continuous")
ACCURACIES = ("accuracy", "accuracy_continuous")
DECOUPLING = ("readable", "kept", "leaked")
PROBES = ("attributes", "specific_beats_shared", "by_two_standard_errors")
BOOK = ("usage", "perplexity", "num_codes", "dead")


def figures_of(run: Path) -> dict[str, Any]:
    """The figures of a run.

    Raises:
        OSError: the run is not complete.
        ValueError: the run trained another architecture than tiny's.
    """
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    config = CodeBindConfig.from_pretrained(run / "checkpoint")
    modalities = list(config.modality_names)
    check_architecture(config, run)
    pairs = [pair for name in modalities for pair in (f"{name}_to_image", f"text_to_{name}")]
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    return {
        "source": "report.json of `make demo`",
        "seed": report["seed"],
        "data": {"name": "NineSenses", **recipe["data"]["nine_senses"]},
        "num_objects": report["rows"]["n"],
        "modalities": modalities,
        "environment": {key: report["environment"][key] for key in ENVIRONMENT},
        "zero_shot": {name: scores(entry, ACCURACIES, ("chance", "n")) for name, entry in report["zero_shot"].items()},
        "retrieval": {
            pair: scores(report["retrieval"][pair], RECALLS, ("chance_at_10", "class_only_at_10", "n"))
            for pair in pairs
            if pair in report["retrieval"]
        },
        "probes": {
            **{key: report["summary"]["probes"][key] for key in PROBES},
            "continuous_specific_beats_shared": continuous_wins(report),
        },
        "decoupling": {key: report["summary"]["decoupling"][key] for key in DECOUPLING},
        "codebooks": {name: {key: entry[key] for key in BOOK} for name, entry in report["codebooks"].items()},
        "codebook_rows": report["codebook_rows"],
    }


def continuous_wins(report: Mapping[str, Any]) -> int:
    """Of how many attributes the specific part knows more than the shared part, both before quantization."""
    attributes = [named for by_modality in report["probes"].values() for named in by_modality.items()]
    entries = [entry for name, entry in attributes if name != CLASS]
    parts = [(entry.get("specific_continuous"), entry["shared_continuous"]) for entry in entries]
    return sum(specific is not None and specific > shared for specific, shared in parts)


def check_architecture(config: CodeBindConfig, run: Path) -> None:
    """Refuse figures of another model than the card counts."""
    expected = CodeBindConfig.from_preset("tiny").restricted_to(config.modality_names)
    sizes = ("shared_dim", "specific_dim", "code_dim", "specific_code_dim", "num_shared_codes", "num_specific_codes")
    for size in sizes:
        found, wanted = getattr(config, size), getattr(expected, size)
        if found != wanted:
            raise ValueError(
                f"--run: {run} has {size}={found}, preset tiny has {wanted}. Fix: give a run of `make demo`."
            )


def scores(entry: Mapping[str, Any], names: Iterable[str], others: Iterable[str]) -> dict[str, Any]:
    """Scores and their standard errors over objects: of recalls an upper bound, as ties count in parts."""
    errors = {name: math.sqrt(entry[name] * (1 - entry[name]) / entry["n"]) for name in names}
    return {**{name: entry[name] for name in (*names, *others)}, "standard_error": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="a finished run of `make demo`")
    arguments = parser.parse_args()
    try:
        figures = json.dumps(figures_of(arguments.run), indent=1, allow_nan=False)
        FIGURES.write_text(figures + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
