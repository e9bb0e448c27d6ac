"""Evaluate a checkpoint on labelled rows of your own: a manifest of files, or what `datasets` reads.

    python examples/evaluate.py --checkpoint runs/mine --manifest test.jsonl \\
        --template "the digit {}" --output report.json --figures figures
    python examples/evaluate.py --checkpoint runs/mine --dataset pictures:test --text_from_label "a photo of a {}"
    python examples/evaluate.py --checkpoint runs/sun --manifest test.jsonl --recipe examples/recipes/vl-sun.yaml

`--checkpoint` is a run of `examples/train.py`, a folder with model and processor, or a name on the Hub. A manifest is
JSONL, CSV or Parquet: paths of files by modality (image, audio, depth, ...), and per row an optional `label` and
`attributes`; the flags of rows are those of `examples/train.py`. Written are `report.json` and, beside it, `report.md`
with the same numbers as tables: zero-shot accuracy into the labels, retrieval between all modalities, codebook usage,
probes, reconstruction. Of a run they go to its folder `evaluation`, of any other checkpoint to the working folder, if
`--output` does not say where. A few hundred rows of a tiny checkpoint take well under a minute on two CPU cores.

Classes are shown as `--template` says; without it as the recipe, as `--text_from_label`, or as "a photo of a {}".

Rows are read several times, as probes and reconstructions need them again: `--loading memory` keeps their tensors,
`--loading disk` in a folder beside the report, `report.rows`, for the next evaluation of the same rows too.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codebind_hf.training.flags import add_loading_flags, add_reading_flags, add_row_flags, data_of, whole_number


if TYPE_CHECKING:
    from codebind_hf.evaluation import Evaluation


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="a run, the folder of a checkpoint, or a name on the Hub")
    add_row_flags(parser)
    add_loading_flags(parser, ("memory", "disk", "lazy"), "lazy, without it: nowhere, files are read when needed")
    add_reading_flags(parser)
    place = "without it RUN/evaluation/report.json of a run, report.json of any other checkpoint"
    parser.add_argument("--output", type=Path, help=f"JSON file, Markdown goes beside it; {place}")
    prompts = "text with {} for the class name, repeatable; without it --text_from_label, else 'a photo of a {}'"
    parser.add_argument("--template", action="append", help=prompts)
    parser.add_argument("--recipe", type=Path, help="YAML whose `templates` are taken where there is no --template")
    parser.add_argument("--figures", type=Path, help="folder for pictures; none are drawn without it")
    parser.add_argument("--training_manifest", help="count codebook usage over these rows instead")
    parser.add_argument("--training_dataset", help="likewise")
    parser.add_argument("--batch_size", type=whole_number(1), default=64)
    parser.add_argument("--seed", type=whole_number(0), default=0)
    arguments = parser.parse_args()
    arguments.loading = arguments.loading or "lazy"
    if arguments.output and arguments.output.suffix != ".json":
        parser.error(f"--output: got {arguments.output}; give a file that ends in .json.")
    if arguments.on_error == "skip" and arguments.loading != "lazy":
        parser.error(
            f"--on_error: got skip with --loading {arguments.loading}, where a row with one bad file would be left "
            "out whole. Fix: leave --loading out."
        )
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


def build_evaluation(arguments: argparse.Namespace, checkpoint: str) -> "Evaluation":
    from codebind_hf.data import load_items
    from codebind_hf.evaluation import Evaluation
    from codebind_hf.training.run_rows import load_beside, load_rows

    templates, data, training = templates_of(arguments), data_of(arguments), None
    model, processor, named = load_beside(checkpoint, data, arguments.depth_unit, on_error=arguments.on_error)
    rows = named.training
    if arguments.training_manifest or arguments.training_dataset:
        places = {"manifest": arguments.training_manifest, "dataset": arguments.training_dataset}
        training = load_rows({**data, **places}, model.config.modality_names, arguments.on_error).training
    if arguments.loading != "lazy":
        workers, folder = arguments.preprocessing_num_workers or 0, arguments.output.with_suffix(".rows")
        rows = load_items(rows, processor, arguments.loading, folder=folder, num_workers=workers)
    options: dict[str, Any] = {name: getattr(arguments, name) for name in ("seed", "batch_size", "on_error")}
    return Evaluation(
        model, processor, rows, templates=templates or named.templates, training_rows=training, **options
    )


def print_summary(report: dict) -> None:
    from codebind_hf.data.prepared import by_fix
    from codebind_hf.evaluation.report import prompts_of

    for modality, entry in report.get("zero_shot", {}).items():
        shares = [f"{100 * entry[key]:5.1f} %" for key in ("accuracy", "accuracy_continuous", "chance")]
        print(f"{modality:12} zero-shot {shares[0]}  continuous {shares[1]}  chance {shares[2]}  n {entry['n']}")
    if prompts := prompts_of(report, most=3):
        print(f"zero-shot prompts: {prompts}")
    failures = report["rows"]["failures"]
    for line in by_fix((f"skipped row {each['position']}, {each['modality']}", each["message"]) for each in failures):
        print(line)


def name_of(checkpoint: str) -> str:
    """Of a checkpoint in a run, the run's."""
    folder = Path(checkpoint).resolve()
    return folder.parent.name if folder.name == "checkpoint" else folder.name


def main() -> None:
    arguments = parse_arguments()
    from codebind_hf.evaluation import checkpoint_digest, draw_figures, write_report
    from codebind_hf.evaluation.provenance import checkpoint_of, run_folder_of
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
        figures = draw_figures(evaluation, report, arguments.figures) if arguments.figures else None
        file = write_report(report, arguments.output.parent, figures, name=arguments.output.stem)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print_summary(report)
    print(f"Wrote {file} and {file.with_suffix('.md')}.")


if __name__ == "__main__":
    main()
