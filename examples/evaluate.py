"""Evaluate a checkpoint on labelled rows of your own: a manifest of files, or what `datasets` reads.

    python examples/evaluate.py --checkpoint runs/mine --manifest test.jsonl \\
        --template "the digit {}" --output report.json --figures figures
    python examples/evaluate.py --checkpoint runs/mine --dataset pictures:test --text_from_label "a photo of a {}"
    python examples/evaluate.py --checkpoint runs/sun --manifest test.jsonl --recipe examples/recipes/vl-sun.yaml

`--checkpoint` is a run of `examples/train.py`, a folder with model and processor, or a name on the Hub, and `--packs`
what was bound to it. A manifest is JSONL, CSV or Parquet: paths of files by modality (image, audio, depth, ...), and
per row an optional `label` and `attributes`; the flags of rows are those of `examples/train.py`. Written are
`report.json` and, beside it, `report.md` with the same numbers as tables: zero-shot accuracy into the labels,
retrieval between all modalities, codebook usage, probes, reconstruction. A few hundred rows of a tiny checkpoint take
well under a minute on two CPU cores.

Classes are shown as `--template` says; without it as the recipe, as `--text_from_label`, or as "a photo of a {}".

Probes and reconstructions read rows again: `--loading memory` keeps their tensors, `--loading disk` in a folder beside
the report, `report.rows`, for the next evaluation of the same rows too.
"""

import argparse
from pathlib import Path
from typing import Any

from codebind_hf.training import flags


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_model_flags(parser)
    flags.add_row_flags(parser)
    flags.add_loading_flags(
        parser, ("memory", "disk", "lazy"), "lazy, without it: nowhere, files are read when needed"
    )
    flags.add_reading_flags(parser)
    place = "without it RUN/evaluation/report.json of a run, report.json of any other checkpoint"
    parser.add_argument("--output", type=Path, help=f"JSON file, Markdown goes beside it; {place}")
    prompts = "text with {} for the class name, repeatable; without it --text_from_label, else 'a photo of a {}'"
    parser.add_argument("--template", action="append", help=prompts)
    parser.add_argument("--recipe", type=Path, help="YAML whose `templates` are taken where there is no --template")
    parser.add_argument("--figures", type=Path, help="folder for pictures; none are drawn without it")
    parser.add_argument("--training_manifest", help="count codebook usage over these rows instead")
    parser.add_argument("--training_dataset", help="likewise")
    parser.add_argument("--batch_size", type=flags.whole_number(1), default=64)
    parser.add_argument("--seed", type=flags.whole_number(0), default=0)
    arguments = parser.parse_args()
    arguments.loading = arguments.loading or "lazy"
    if arguments.output and arguments.output.suffix != ".json":
        parser.error(f"--output: got {arguments.output}; give a file that ends in .json.")
    if arguments.on_error == "skip" and arguments.loading != "lazy":
        got = f"got skip with --loading {arguments.loading}, where a row with one bad file would be left out whole"
        parser.error(f"--on_error: {got}. Fix: leave --loading out.")
    if arguments.training_manifest and arguments.training_dataset:
        parser.error("--training_manifest and --training_dataset: got both; give one.")
    return arguments


def templates_of(arguments: argparse.Namespace) -> list[str] | None:
    """Prompts of the command line or of the recipe; `None` takes those that suit the rows."""
    from codebind_hf.training import read_settings

    if arguments.template or not arguments.recipe:
        return arguments.template
    templates = read_settings(arguments.recipe, flag="--recipe").templates
    if not templates:
        raise ValueError(f"--recipe: {arguments.recipe} has no `templates`. Fix: give --template.")
    return templates


def build_evaluation(arguments: argparse.Namespace, checkpoint: str) -> Any:
    """An `Evaluation` of the checkpoint, packs and rows of the command line."""
    from codebind_hf.data import load_items
    from codebind_hf.evaluation import Evaluation
    from codebind_hf.training.run_rows import load_beside, load_rows

    templates, data, training = templates_of(arguments), flags.data_of(arguments), None
    options = {"on_error": arguments.on_error, "packs": arguments.packs}
    model, processor, named = load_beside(checkpoint, data, arguments.depth_unit, **options)
    rows = named.training
    if arguments.training_manifest or arguments.training_dataset:
        places = {"manifest": arguments.training_manifest, "dataset": arguments.training_dataset}
        training = load_rows({**data, **places}, model.config.modality_names, arguments.on_error).training
    if arguments.loading != "lazy":
        workers, folder = arguments.preprocessing_num_workers or 0, arguments.output.with_suffix(".rows")
        rows = load_items(rows, processor, arguments.loading, folder=folder, num_workers=workers)
    settings: dict[str, Any] = {name: getattr(arguments, name) for name in ("seed", "batch_size", "on_error")}
    settings |= {"templates": templates or named.templates, "training_rows": training}
    return Evaluation(model, processor, rows, **settings)


def main() -> None:
    arguments = parse_arguments()
    from codebind_hf.evaluation import checkpoint_digest, draw_figures, write_report
    from codebind_hf.evaluation.provenance import checkpoint_of, name_of, run_folder_of
    from codebind_hf.evaluation.report import summary_lines
    from codebind_hf.packs import read_pack
    from codebind_hf.training.run_folder import EVALUATION

    try:
        checkpoint, run = checkpoint_of(arguments.checkpoint, "--checkpoint"), run_folder_of(arguments.checkpoint)
        arguments.output = arguments.output or (run / EVALUATION if run else Path()) / "report.json"
        evaluation = build_evaluation(arguments, checkpoint)
        report = evaluation.report()
        source = "manifest" if arguments.manifest else "dataset"
        report[source], report["checkpoint"] = Path(getattr(arguments, source)).name, name_of(checkpoint)
        if Path(checkpoint).is_dir():
            report["checkpoint_sha256"] = checkpoint_digest(checkpoint)
        if arguments.packs:
            packs = [read_pack(name) for name in arguments.packs]
            report["packs"] = {", ".join(pack.modalities): pack.sha256 for pack in packs}
        figures = draw_figures(evaluation, report, arguments.figures) if arguments.figures else None
        file = write_report(report, arguments.output.parent, figures, arguments.output.stem, evaluation)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(*summary_lines(report), f"Wrote {file} and {file.with_suffix('.md')}.", sep="\n")


if __name__ == "__main__":
    main()
