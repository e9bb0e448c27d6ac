"""Evaluate a checkpoint on a labelled manifest of your own files.

    python examples/evaluate.py --checkpoint runs/mine/checkpoint --manifest test.jsonl \\
        --template "the digit {}" --output report.json --figures figures
    python examples/evaluate.py --checkpoint runs/sun/checkpoint --manifest test.jsonl \\
        --recipe examples/recipes/vl-sun.yaml

The manifest is JSONL, CSV or Parquet: paths of files by modality (image, audio, depth, ...), and per row an optional
`label` and `attributes`. Written are `report.json` and, beside it, `report.md` with the same numbers as tables:
zero-shot accuracy into the labels, retrieval between all modalities, codebook usage, probes, reconstruction. A few
hundred rows of a tiny checkpoint take well under a minute on two CPU cores.
"""

import argparse
from pathlib import Path

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.evaluation import Evaluation, checkpoint_digest, draw_figures, write_report
from codebind_hf.training import read_settings


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder or Hub repository with model and processor")
    parser.add_argument("--manifest", required=True, help="rows to evaluate on")
    parser.add_argument("--output", type=Path, default=Path("report.json"), help="JSON file; Markdown goes beside it")
    parser.add_argument("--template", action="append", help="text with {} for the class name; repeat for several")
    parser.add_argument("--recipe", type=Path, help="YAML whose `templates` are taken where there is no --template")
    parser.add_argument("--figures", type=Path, help="folder for pictures; none are drawn without it")
    parser.add_argument("--training_manifest", help="count codebook usage over these rows instead")
    parser.add_argument("--depth_unit", choices=("m", "cm", "mm"), help="unit of integer depth files")
    parser.add_argument("--on_error", choices=("raise", "skip"), default="raise", help="what an unreadable file does")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if len(Path(arguments.checkpoint).parts) > 2 and not Path(arguments.checkpoint).is_dir():
        parser.error(f"--checkpoint: no folder {arguments.checkpoint}.")
    if arguments.output.suffix != ".json":
        parser.error(f"--output: got {arguments.output}; give a file that ends in .json.")
    return arguments


def templates_of(arguments: argparse.Namespace) -> list[str]:
    if arguments.template or not arguments.recipe:
        return arguments.template or ["a photo of a {}"]
    templates = read_settings(arguments.recipe).templates
    if not templates:
        raise ValueError(f"--recipe: {arguments.recipe} has no `templates`. Fix: give --template.")
    return templates


def build_evaluation(arguments: argparse.Namespace) -> Evaluation:
    model = CodeBindModel.from_pretrained(arguments.checkpoint)
    # A modality of one's own is a column like any other.
    known = list(model.config.modalities)
    rows = Manifest(arguments.manifest, modalities=known).validate()
    training = arguments.training_manifest
    training_rows = Manifest(training, modalities=known).validate() if training else None
    processor = CodeBindProcessor.from_pretrained(arguments.checkpoint)
    if arguments.depth_unit:
        processor.depth_image_processor.depth_unit = arguments.depth_unit
    return Evaluation(
        model,
        processor,
        rows,
        templates=templates_of(arguments),
        training_rows=training_rows,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        on_error=arguments.on_error,
    )


def print_summary(report: dict) -> None:
    for modality, entry in report.get("zero_shot", {}).items():
        shares = [f"{100 * entry[key]:5.1f} %" for key in ("accuracy", "accuracy_continuous", "chance")]
        print(f"{modality:12} zero-shot {shares[0]}  continuous {shares[1]}  chance {shares[2]}  n {entry['n']}")
    for failure in report["rows"]["failures"]:
        print(f"skipped row {failure['position']}, {failure['modality']}: {failure['message']}")


def main() -> None:
    arguments = parse_arguments()
    try:
        evaluation = build_evaluation(arguments)
        report = evaluation.report()
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    report["manifest"], report["checkpoint"] = Path(arguments.manifest).name, Path(arguments.checkpoint).name
    if Path(arguments.checkpoint).is_dir():
        report["checkpoint_sha256"] = checkpoint_digest(arguments.checkpoint)
    figures = draw_figures(evaluation, report, arguments.figures) if arguments.figures else None
    file = write_report(report, arguments.output.parent, figures, name=arguments.output.stem)
    print_summary(report)
    print(f"Wrote {file} and {file.with_suffix('.md')}.")


if __name__ == "__main__":
    main()
