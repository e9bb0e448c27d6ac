"""Train CodeBind: from nothing on a manifest of your own files or on the embedded NineSenses, or from a checkpoint.

    accelerate launch examples/train.py --manifest rows.jsonl --output_dir runs/mine
    accelerate launch examples/train.py --config examples/recipes/demo.yaml --output_dir runs/demo
    accelerate launch examples/train.py --config examples/recipes/sun.yaml --base imagebind --output_dir runs/sun
    accelerate launch examples/train.py --bind eeg --from runs/demo --manifest rows.jsonl --output_dir runs/eeg

One GPU or several need no other flags: `accelerate launch` finds them. A few hundred rows of three modalities take
two to five minutes on two CPU cores; the demo about eight.

A manifest is JSONL, CSV or Parquet: per row, any subset of modalities (`text` itself, otherwise paths relative to the
manifest), and an optional `label` and `attributes`. Written are `checkpoint/` (model and processor), `training.json`
(the whole log, with how many numbers learned in which parts) and, when there are test rows, `report.json`,
`report.md`, pictures and the model card. A run with LoRA also writes `adapter/`, and merges it into `checkpoint/`.

`--bind` trains one modality on a finished model whose bridges, other modalities and (unless `--shared_codes
learning`) shared codes stay as they are. `binding.json` says how far the embeddings of the other modalities moved;
beyond `--tolerance`, nothing is saved and the exit status is 1. A modality of your own needs `--encoder`, the fields
of its encoder as YAML or JSON, and a column of the manifest.
"""

import argparse
import difflib
import inspect
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


# Must be set before torch loads. Threads that spin long while they wait starve each other where other work runs; those
# that never spin lose half of their time to waking up.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch
import yaml
from accelerate import PartialState
from huggingface_hub import ModelCard

from codebind_hf.conversion.lora import has_lora
from codebind_hf.data import Manifest, NineSenses, PreparedDataset
from codebind_hf.evaluation import Evaluation, draw_figures, write_model_card, write_report
from codebind_hf.training import Recipe, build, modalities_of, save, train
from codebind_hf.training.adapters import merge_lora, save_adapter
from codebind_hf.training.binding import SHARED_CODES, bind, binding_recipe
from codebind_hf.training.building import recipe_config


FILES_TO_SEARCH = 60
DATA_KEYS = ("manifest", "test_manifest", "nine_senses")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="YAML with `data`, `recipe` and `templates`")
    parser.add_argument("--manifest", help="training rows of your own")
    parser.add_argument("--test_manifest", help="labelled rows to evaluate on after training")
    parser.add_argument("--template", action="append", help="zero-shot prompt with {} for the class; repeatable")
    parser.add_argument("--base", help="checkpoint to start from, instead of the recipe's")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--depth_unit", choices=("m", "cm", "mm"), help="unit of integer depth files")
    parser.add_argument("--max_steps", type=int, help="steps of every stage, instead of the recipe's")
    parser.add_argument("--batch_size", type=int, help="rows in a batch, instead of the recipe's")
    parser.add_argument("--on_error", choices=("raise", "skip"), default="raise", help="what an unreadable file does")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--bind", metavar="MODALITY", help="bind this modality to a finished model, see above")
    parser.add_argument("--from", dest="finished", type=Path, help="the finished model: a run or a checkpoint")
    parser.add_argument(
        "--encoder", type=Path, help="YAML or JSON file: the encoder of a modality that the model lacks"
    )
    parser.add_argument("--shared_codes", choices=SHARED_CODES, default="frozen", help="while binding")
    parser.add_argument("--tolerance", type=float, default=0.0, help="how far other embeddings may move; 0: not a bit")
    parser.add_argument(
        "--check_manifest", help="rows of the other modalities to measure, instead of the training rows"
    )
    arguments = parser.parse_args()
    check_binding(parser, arguments)
    if not (arguments.config or arguments.manifest):
        parser.error("give --manifest with your own rows, or --config with a recipe (examples/recipes/demo.yaml).")
    if arguments.test_manifest and not arguments.manifest:
        parser.error("--test_manifest needs --manifest; with --config, name both under `data`.")
    return arguments


def check_binding(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if bool(arguments.bind) != bool(arguments.finished):
        parser.error("--bind MODALITY and --from RUN belong together.")
    if arguments.bind and (arguments.base or arguments.test_manifest):
        parser.error(
            "--bind starts --from a model and does not evaluate (examples/evaluate.py does): leave out --base "
            "and --test_manifest."
        )
    if not arguments.bind:
        given = {"--encoder": arguments.encoder, "--check_manifest": arguments.check_manifest}
        given |= {"--tolerance": arguments.tolerance, "--shared_codes": arguments.shared_codes != "frozen"}
        for name in (name for name, value in given.items() if value):
            parser.error(f"{name} needs --bind.")


def read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The YAML file with the command line on top."""
    settings = (yaml.safe_load(arguments.config.read_text()) if arguments.config else None) or {}
    allowed = ("data", "recipe", "templates")
    if not isinstance(settings, dict) or set(settings) - set(allowed):
        found = sorted(set(settings) - set(allowed)) if isinstance(settings, dict) else settings
        raise ValueError(f"--config: unknown keys {found}; allowed: {', '.join(allowed)}.")
    recipe = settings["recipe"] = settings.get("recipe") or {}
    if arguments.seed is not None:
        recipe["seed"] = arguments.seed
    if arguments.base is not None:
        recipe["base"] = arguments.base
    if arguments.batch_size is not None:
        recipe.setdefault("training", {})["per_device_train_batch_size"] = arguments.batch_size
    if arguments.max_steps is not None:
        for name in ("bridge", "bind", "joint"):
            recipe.setdefault("stages", {}).setdefault(name, {})["max_steps"] = arguments.max_steps
    if arguments.depth_unit:
        recipe.setdefault("processor", {}).setdefault("depth", {})["depth_unit"] = arguments.depth_unit
    if arguments.manifest:
        settings["data"] = {"manifest": arguments.manifest, "test_manifest": arguments.test_manifest}
    if arguments.template:
        settings["templates"] = arguments.template
    for template in settings.get("templates") or []:
        if "{}" not in str(template):
            raise ValueError(f"templates: {template!r} has no {{}} for the name of the class.")
    return settings


def made(kind: Any, where: str, *args: Any, **options: Any) -> Any:
    """`kind(*args, **options)`, where an option that it does not have is a readable error."""
    known = inspect.signature(kind).parameters
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            raise ValueError(f"--config, {where}: unknown key {name!r}. {hint}")
    try:
        return kind(*args, **options)
    except TypeError as error:
        raise ValueError(f"--config, {where}: {error}") from error


def load_data(
    data: dict[str, Any], added: Sequence[str] = ()
) -> tuple[Any, Any, list[str], list[str], list[str] | None]:
    """Training rows, test rows or `None`, modalities, texts to train the tokenizer on, and class names if known."""
    if unknown := sorted(set(data) - set(DATA_KEYS)):
        raise ValueError(f"--config: unknown keys {unknown} under `data`; allowed: {', '.join(DATA_KEYS)}.")
    if "manifest" in data:
        rows = Manifest(data["manifest"], modalities=added).validate()
        test = Manifest(data["test_manifest"]).validate() if data.get("test_manifest") else None
        texts = [row["text"] for row in rows if row.get("text")]
        return rows, test, modalities_of(rows), texts, None
    if "nine_senses" not in data:
        raise ValueError("--config: `data` needs `manifest` or `nine_senses`.")
    options = dict(data["nine_senses"] or {})
    num_test = options.pop("num_test", None)
    rows = made(NineSenses, "nine_senses", "train", **options)
    test = NineSenses("test", rows.world, rows.difficulty, num_rows=num_test, modalities=rows.modalities)
    texts = [template.format(name) for name in rows.class_names for template in rows.templates]
    return rows, test, list(rows.modalities), texts, list(rows.class_names)


def license_of(base: str | None) -> str:
    """The licence of trained weights: that of the weights they come from, or ours for weights from nothing."""
    if base is None:
        return "apache-2.0"
    card = Path(base) / "README.md"
    return (ModelCard.load(card).data.license if card.is_file() else None) or "unknown"


def write_card(model: Any, recipe: Recipe, folder: Path, report: Any = None, dataset: str = "") -> None:
    """The checkpoint's card, with the base that it comes from and its licence."""
    base = Path(recipe.base or "")
    name = base.parent.name if base.name == "checkpoint" else base.name
    training = f"Trained from the weights of `{name}`." if name else ""
    options = {"dataset": dataset, "training": training, "license": license_of(recipe.base), "name": folder.name}
    write_model_card(folder / "checkpoint", report, model.config, **options)


def evaluate(evaluation: Evaluation, recipe: Recipe, dataset: str, folder: Path) -> None:
    report = evaluation.report()
    write_report(report, folder, draw_figures(evaluation, report, folder / "figures"))
    write_card(evaluation.model, recipe, folder, report, dataset)


def run(arguments: argparse.Namespace) -> None:
    settings, folder = read_settings(arguments), arguments.output_dir
    recipe, data = made(Recipe, "recipe", **settings["recipe"]), settings.get("data") or {}
    rows, test, modalities, texts, names = load_data(data)
    model, processor = build(recipe, modalities, texts)
    items = PreparedDataset(rows, processor, on_error=arguments.on_error)
    logs = train(recipe, model, processor, items, folder)
    if not PartialState().is_main_process:
        return
    save_run(model, processor, logs, folder)
    write_card(model, recipe, folder)
    if test is None:
        print("Nothing is evaluated without test rows: --test_manifest, or test_manifest in the recipe's data.")
    else:
        model.to(PartialState().device)
        templates = settings.get("templates") or getattr(test, "templates", ["a photo of a {}"])
        prepared = PreparedDataset(test, processor, on_error=arguments.on_error)
        dataset = "NineSenses" if "nine_senses" in data else Path(data["test_manifest"]).name
        options = {"training_rows": items, "seed": recipe.seed}
        evaluation = Evaluation(model, processor, prepared, names, templates, **options)
        evaluate(evaluation, recipe, dataset, folder)
        print(f"Wrote {folder}/report.json.")
    if isinstance(test, NineSenses):
        NineSenses("test", test.world, test.difficulty, num_rows=FILES_TO_SEARCH, modalities=test.modalities).export(
            folder / "files"
        )


def save_run(model: Any, processor: Any, logs: list[dict[str, Any]], folder: Path) -> None:
    if has_lora(model):
        save_adapter(model, folder / "adapter")
        merge_lora(model)
    save(model, processor, folder / "checkpoint")
    (folder / "training.json").write_text(json.dumps(logs, indent=1))
    print(f"Wrote {folder}/checkpoint.")


def run_binding(arguments: argparse.Namespace) -> None:
    settings, folder = read_settings(arguments), arguments.output_dir
    if (folder / "checkpoint").exists():
        raise ValueError(f"--output_dir: {folder}/checkpoint exists and is not written over. Fix: name a new folder.")
    finished, modality = arguments.finished, arguments.bind
    base = finished / "checkpoint" if (finished / "checkpoint").is_dir() else finished
    encoder = yaml.safe_load(arguments.encoder.read_text()) if arguments.encoder else None
    if arguments.encoder and not isinstance(encoder, dict):
        raise ValueError(f"--encoder: {arguments.encoder} holds no fields, such as `num_channels: 1`.")
    recipe = made(Recipe, "recipe", **{**settings["recipe"], "base": str(base)})
    recipe = binding_recipe(recipe, modality, encoder)
    modalities = list(recipe_config(recipe).modalities)
    rows, *_ = load_data(settings.get("data") or {}, modalities)
    check = Manifest(arguments.check_manifest, modalities=modalities).validate() if arguments.check_manifest else None
    model, processor = build(recipe, modalities, [])
    codes = {"shared_codes": arguments.shared_codes, "tolerance": arguments.tolerance}
    result = bind(
        model, processor, rows, modality, recipe, folder, **codes, check_rows=check, on_error=arguments.on_error
    )
    if PartialState().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "binding.json").write_text(json.dumps(result.report(), indent=1))
        print(f"Bound {modality}: {result.summary()}.")
    if not result.is_within_tolerance:
        raise ValueError(f"--tolerance: other modalities moved too far, nothing is saved; {result.summary()}.")
    if PartialState().is_main_process:
        save_run(model, processor, result.logs, folder)
        write_card(model, recipe, folder)


def share_cores() -> None:
    """`accelerate launch` leaves a CPU process one thread; give every process its share of the cores instead."""
    state = PartialState()
    if state.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // state.num_processes))


def show_progress() -> None:
    """Let one process say what the package logs, such as how many numbers learn."""
    if PartialState().is_main_process:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("codebind_hf").setLevel(logging.INFO)


def main() -> None:
    arguments = parse_arguments()
    share_cores()
    show_progress()
    try:
        (run_binding if arguments.bind else run)(arguments)
    except (ValueError, OSError, yaml.YAMLError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
