"""How far do the two parts of an embedding come apart, and what does each choice of `tiny` do for it?

    python examples/study_decoupling.py --worlds 20-25 --output_dir runs/decoupling
    python examples/study_decoupling.py --worlds 20-22 --rows tiny,cls,no-decorr --output_dir runs/decoupling

Trains a preset on every world of NineSenses, once as it is (`tiny`) and once for every named row with one choice
switched off, and evaluates it on the world's test objects. Written are `<row>-<world>.json` for each, and
`decoupling.md`: means over worlds, and differences to `tiny` in pairs with their standard errors; then the first row
by modality, with differences to the row `before` where there is one, and by attribute. What is there is not
trained again, so a run that stopped goes on. A cell takes about eight minutes on two CPU cores.
"""

import argparse
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm.auto import tqdm

from codebind_hf.data import NineSenses, PreparedDataset
from codebind_hf.evaluation import Evaluation
from codebind_hf.evaluation.report import markdown_table
from codebind_hf.model.presets import merge_fields
from codebind_hf.training import Recipe, build, train


DEMO = Path(__file__).parent / "recipes" / "demo.yaml"
# One choice switched off a row, as fields of a recipe.
ROWS: dict[str, dict[str, Any]] = {
    "tiny": {},
    # As in the paper, and as tiny was at first: one token for both parts, and little asked of the embedding.
    "before": {
        "model": {
            "specific_readout": "cls",
            "even_segments": False,
            "loss_weights": {"recon": 2.0, "orth": 0.1, "decorr": 0.0, "views": 0.0, "commit": 0.25},
            "pair_weights": {"image": 1.5},
            "decoder_config": {"hide_patches": 0.5},
        },
        "stages": {"bind": {"max_steps": 1800, "train_bridge_heads": False, "freeze_shared_codes": True}},
    },
    "cls": {"model": {"specific_readout": "cls"}},
    "token": {"model": {"specific_readout": "token"}},
    "pool": {"model": {"specific_readout": "pool"}},
    "recon-to-specific": {"model": {"reconstruction_gradient": "specific"}},
    "no-decorr": {"model": {"loss_weights": {"decorr": 0.0}}},
    "uneven-segments": {"model": {"even_segments": False}},
    "no-views": {"model": {"loss_weights": {"views": 0.0}}},
    "decorr-at-once": {"training": {"loss_warmup": None}},
    "decorr-to-shared": {"model": {"decorrelation_gradient": "shared"}},
    "orth": {"model": {"loss_weights": {"decorr": 0.0, "orth": 0.1}}},
    "patches": {"model": {"decoder_config": {"hide_patches": 0.9}}},
    "weak-recon": {"model": {"loss_weights": {"recon": 2.0}, "decoder_config": {"hide_patches": 0.5}}},
    "light-image": {"model": {"pair_weights": {"image": 1.5}}},
    # Table 7 of the paper: as many codes as the shared book, for both parts of an encoder.
    "separate-books": {"model": {"shared_codebook": "per_encoder", "num_specific_codes": 256}},
    "frozen-bridge": {"stages": {"bind": {"train_bridge_heads": False, "freeze_shared_codes": True}}},
}
MEASURES = {
    "zero-shot": "mean_accuracy_continuous",
    "codes": "mean_accuracy",
    "R@10 to image": "recall_continuous",
    "of codes": "recall",
    "kept": "kept",
    "leaked": "leaked",
    "shared over chance": "shared_above_chance",
    "codes >= untrained": "share_as_much_as_untrained",
    "lead >= 15": "share_leading",
    "R2 of image": "image_r2",
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", default="20-25", help="such as 20-25 or 3,7")
    parser.add_argument("--rows", default="tiny", help=f"some of {', '.join(ROWS)}, or all")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max_steps", type=int, help="of every stage, for a quick look")
    parser.add_argument("--num_rows", type=int, default=800, help="objects to evaluate on")
    parser.add_argument("--num_bridge", type=int, default=4000)
    parser.add_argument("--num_target", type=int, default=600)
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.rows = list(ROWS) if arguments.rows == "all" else arguments.rows.split(",")
    if unknown := [row for row in arguments.rows if row not in ROWS]:
        parser.error(f"--rows: got {', '.join(unknown)}; allowed: {', '.join(ROWS)}, or all.")
    try:
        first, _, last = arguments.worlds.partition("-")
        listed = arguments.worlds.split(",")
        arguments.worlds = list(range(int(first), int(last) + 1)) if last else [int(world) for world in listed]
    except ValueError:
        parser.error(f"--worlds: got {arguments.worlds!r}; give numbers such as 20-25 or 3,7.")
    return arguments


def recipe_of(row: str, arguments: argparse.Namespace) -> Recipe:
    demo = yaml.safe_load(DEMO.read_text())["recipe"]
    fields: dict[str, Any] = {**demo, "preset": arguments.preset, "seed": arguments.seed}
    fields = merge_fields(merge_fields(fields, {"training": {"disable_tqdm": True}}), ROWS[row])
    if arguments.max_steps is not None:
        short = dict.fromkeys(("bridge", "bind"), {"max_steps": arguments.max_steps})
        fields = merge_fields(fields, {"stages": short})
    return Recipe(**fields)


def evaluated(row: str, world: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one cell; its report."""
    sizes = {"num_bridge": arguments.num_bridge, "num_target": arguments.num_target}
    rows = NineSenses("train", world, **sizes)
    recipe = recipe_of(row, arguments)
    texts = [template.format(name) for name in rows.class_names for template in rows.templates]
    model, processor = build(recipe, rows.modalities, texts)
    folder = arguments.output_dir / "training" / f"{row}-{world}"
    train(recipe, model, processor, PreparedDataset(rows, processor), folder, resume=True)
    shutil.rmtree(folder)
    test = PreparedDataset(NineSenses(arguments.split, world, num_rows=arguments.num_rows), processor)
    return Evaluation(model, processor, test, rows.class_names, rows.templates, seed=arguments.seed).report()


def measures_of(report: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a table, from a report."""
    decoupling = report["summary"]["decoupling"]
    pairs = [entry for name, entry in report["retrieval"].items() if name.endswith("_to_image") and "text" not in name]
    return {
        **report["summary"]["zero_shot"],
        **decoupling,
        "recall_continuous": float(np.mean([entry["recall_at_10_continuous"] for entry in pairs])),
        "recall": float(np.mean([entry["recall_at_10"] for entry in pairs])),
        "share_as_much_as_untrained": decoupling["specific_knows_as_much_as_untrained"] / decoupling["readable"],
        "share_leading": decoupling["specific_leads_by_15_points"] / decoupling["readable"],
        "image_r2": 1 - report["reconstruction"]["image"]["relative_mse"],
    }


def by_modality(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Accuracy, recall to the image and R2 from codes of every modality, from a report."""
    found = {}
    for name, accuracy in report["zero_shot"].items():
        recall = report["retrieval"].get(f"{name}_to_image", {})
        error = report["reconstruction"].get(name, {}).get("relative_mse")
        found[name] = {
            "zero-shot": accuracy["accuracy_continuous"],
            "codes": accuracy["accuracy"],
            "R@10 to image": recall.get("recall_at_10_continuous", math.nan),
            "of codes": recall.get("recall_at_10", math.nan),
            "R2": math.nan if error is None else 1 - error,
        }
    return found


def by_attribute(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """What is read of every private attribute, from a report."""
    keys = ("raw", "untrained", "residual", "specific_continuous", "specific", "shared_continuous", "shared", "chance")
    return {
        f"{modality}.{name}": {key: entry[key] for key in keys}
        for modality, entries in report["probes"].items()
        for name, entry in entries.items()
        if entry.get("readable")
    }


def details(
    reports: Mapping[int, Mapping[str, Any]], before: Mapping[int, Mapping[str, Any]], part: Callable[..., Any]
) -> str:
    """Means over worlds of what `part` gives of a report, with paired differences to `before` where there are any."""
    found, others = ({world: part(report) for world, report in each.items()} for each in (reports, before))
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    keys = list(next(iter(next(iter(found.values())).values())))
    lines = []
    for name in names:
        line = [f"{name} ({sum(name in values for values in found.values())})"]
        for key in keys:
            values = {world: values[name][key] for world, values in found.items() if name in values}
            cell = mean_and_error(list(values.values()))
            pairs = [value - others[w][name][key] for w, value in values.items() if name in others.get(w, {})]
            line.append("-" if "nan" in cell else cell + (f" ({mean_and_error(pairs, signed=True)})" if pairs else ""))
        lines.append(line)
    return markdown_table(["(worlds)", *keys], lines)


def mean_and_error(values: Sequence[float], signed: bool = False) -> str:
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    shown = f"{100 * np.mean(values):{'+' if signed else ''}.1f}"
    return shown if math.isnan(error) else f"{shown} ± {100 * error:.1f}"


def table(found: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """Means over worlds of `tiny`, or of the first row, and paired differences of the others to it."""
    base = "tiny" if "tiny" in found else next(iter(found))
    lines = [
        [base, *(mean_and_error([found[base][world][key] for world in found[base]]) for key in MEASURES.values())]
    ]
    for row in (row for row in found if row != base):
        worlds = [world for world in found[row] if world in found[base]]
        pairs = {
            key: [found[row][world][key] - found[base][world][key] for world in worlds] for key in MEASURES.values()
        }
        lines.append(
            [f"{row} ({len(worlds)})", *(mean_and_error(pairs[key], signed=True) for key in MEASURES.values())]
        )
    return markdown_table(["row (worlds)", *MEASURES], lines)


def main() -> None:
    arguments = parse_arguments()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    reports: dict[str, dict[int, dict[str, Any]]] = {}
    cells = [(row, world) for world in arguments.worlds for row in arguments.rows]
    for row, world in tqdm(cells, desc="Cells", unit="cell"):
        file = arguments.output_dir / f"{row}-{world}.json"
        if not file.is_file():
            draft = file.with_suffix(".draft")
            draft.write_text(json.dumps(evaluated(row, world, arguments), indent=1))
            os.replace(draft, file)
        reports.setdefault(row, {})[world] = json.loads(file.read_text())
    found = {row: {world: measures_of(report) for world, report in each.items()} for row, each in reports.items()}
    base = "tiny" if "tiny" in found else next(iter(found))
    others = {} if base == "before" else reports.get("before", {})
    text = "\n\n".join(
        [
            table(found),
            "In percent, mean ± standard error over worlds; rows below the first are differences.",
            *(details(reports[base], others, part) for part in (by_modality, by_attribute)),
            f"Of the row {base}, by modality and by attribute{'; in brackets less `before`' if others else ''}.\n",
        ]
    )
    (arguments.output_dir / "decoupling.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
