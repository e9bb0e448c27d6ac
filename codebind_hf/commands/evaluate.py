"""`codebind evaluate`: how good is a checkpoint on labelled rows of one's own?"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from codebind_hf.commands import options as of
from codebind_hf.commands.running import data_of, given
from codebind_hf.commands.values import at_most_one, exactly_one, needs, refuse


EXAMPLE = "codebind evaluate --checkpoint runs/mine --manifest test.jsonl --template 'the digit {}'"
# Which rows, and what else a search needs to read them.
_AS_SEARCH_READS = ("manifest", "dataset", "columns", "text_from_label", "encoding", "packs", "depth_unit")


def evaluate(
    checkpoint: of.Checkpoint,
    manifest: of.Manifest = None,
    dataset: of.Dataset = None,
    columns: of.Columns = None,
    text_from_label: of.TextFromLabel = None,
    encoding: of.Encoding = None,
    packs: of.Packs = None,
    template: of.Template = None,
    recipe: Annotated[
        Path | None,
        of.flag("recipe", "YAML whose `templates` are taken where there is no --template", metavar="FILE"),
    ] = None,
    output: Annotated[
        Path | None,
        of.flag(
            "output",
            "JSON file, Markdown goes beside it; without it RUN/evaluation/report.json of a run, report.json of any "
            "other checkpoint",
            metavar="FILE",
        ),
    ] = None,
    figures: Annotated[
        Path | None, of.flag("figures", "folder for pictures; none are drawn without it", metavar="FOLDER")
    ] = None,
    training_manifest: Annotated[
        str | None, of.flag("training_manifest", "count codebook usage over these rows instead", metavar="FILE")
    ] = None,
    training_dataset: Annotated[str | None, of.flag("training_dataset", "likewise", metavar="NAME")] = None,
    depth_unit: of.DepthUnit = None,
    on_error: of.OnError = "raise",
    loading: of.KeptRows = "lazy",
    preprocessing_num_workers: of.Workers = None,
    batch_size: of.BatchSize = 64,
    seed: of.Seed = 0,
    as_json: of.AsJson = False,
) -> None:
    """Evaluate a checkpoint on labelled rows.

    The report says accuracy, retrieval, probes, codes and reconstruction. Rows are as in `codebind train`.
    Classes are shown as --template says; without it as the recipe, as --text_from_label, as when the run was
    evaluated after training, or as "a photo of a {}".
    Probes and reconstructions read rows again: --loading memory keeps their tensors, --loading disk in a folder
    beside the report, for the next evaluation of the same rows too.
    """
    flags = given(locals())
    exactly_one({"manifest": manifest, "dataset": dataset})
    if output and output.suffix != ".json":
        refuse(f"--output: got {output}; give a file that ends in .json.")
    if on_error == "skip" and loading != "lazy":
        got = f"got skip with --loading {loading}, where a row with one bad file would be left out whole"
        refuse(f"--on_error: {got}. Fix: leave --loading out.")
    at_most_one({"training_manifest": training_manifest, "training_dataset": training_dataset})
    needs("sklearn", "report", "evaluation")
    if figures:
        needs("matplotlib", "report", "--figures")
    from codebind_hf.evaluation.provenance import checkpoint_of, run_folder_of
    from codebind_hf.evaluation.report import summary_lines
    from codebind_hf.started import command_line, typed_flags
    from codebind_hf.training.run_folder import EVALUATION

    place, run = checkpoint_of(checkpoint, "--checkpoint"), run_folder_of(checkpoint)
    flags["output"] = output or (run / EVALUATION if run else Path()) / "report.json"
    report, file = write_evaluation(place, flags)
    if as_json:
        typer.echo(file.read_text(encoding="utf-8").rstrip())
    said = [
        *summary_lines(report),
        f"Wrote {file}, {file.with_suffix('.md')} and {file.with_suffix('.html')} to look at.",
    ]
    if report.get("zero_shot"):
        words = report["templates"][0].format(report["class_names"][0])
        rows = {name: flags[name] for name in _AS_SEARCH_READS}
        rows["on_error"] = None if on_error == "raise" else on_error
        named = typed_flags({"checkpoint": checkpoint, **rows, "text": words})
        said.append(f"Search these rows: {command_line('search')} {shlex.join(named)}")
    typer.echo("\n".join(said), err=as_json)


def write_evaluation(checkpoint: str, flags: Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """The report of a checkpoint, with what was evaluated, and the JSON file that it was written to.

    Raises:
        ValueError, OSError: checkpoint, packs, prompts or rows that cannot be used.
    """
    from codebind_hf.evaluation import checkpoint_digest, draw_figures, write_report
    from codebind_hf.evaluation.provenance import name_of
    from codebind_hf.packs import read_pack

    evaluation, output = build_evaluation(checkpoint, flags), flags["output"]
    report = evaluation.report()
    source = "manifest" if flags["manifest"] else "dataset"
    report[source], report["checkpoint"] = Path(flags[source]).name, name_of(checkpoint)
    if Path(checkpoint).is_dir():
        report["checkpoint_sha256"] = checkpoint_digest(checkpoint)
    if flags["packs"]:
        packs = [read_pack(name) for name in flags["packs"]]
        report["packs"] = {", ".join(pack.modalities): pack.sha256 for pack in packs}
    figures = draw_figures(evaluation, report, flags["figures"]) if flags["figures"] else None
    return report, write_report(report, output.parent, figures, output.stem, evaluation)


def build_evaluation(checkpoint: str, flags: Mapping[str, Any]) -> Any:
    """An `Evaluation` of the checkpoint, packs and rows that flags name."""
    from codebind_hf.data import load_items
    from codebind_hf.evaluation import Evaluation
    from codebind_hf.training.run_rows import load_beside, load_rows

    templates, data, training = templates_of(flags["template"], flags["recipe"]), data_of(flags), None
    if not templates and not flags["text_from_label"]:
        templates = templates_of_run(checkpoint)
    kept, workers = flags["loading"], flags["preprocessing_num_workers"] or 0
    options: dict[str, Any] = {"on_error": flags["on_error"], "packs": flags["packs"] or []}
    model, processor, named = load_beside(checkpoint, data, flags["depth_unit"], **options)
    rows = named.training
    if flags["training_manifest"] or flags["training_dataset"]:
        places = {"manifest": flags["training_manifest"], "dataset": flags["training_dataset"]}
        training = load_rows({**data, **places}, model.config.modality_names, flags["on_error"]).training
    if kept != "lazy":
        rows = load_items(rows, processor, kept, folder=flags["output"].with_suffix(".rows"), num_workers=workers)
    settings: dict[str, Any] = {name: flags[name] for name in ("seed", "batch_size", "on_error")}
    settings |= {"templates": templates or named.templates, "training_rows": training}
    return Evaluation(model, processor, rows, **settings)


def templates_of_run(checkpoint: str) -> list[str] | None:
    """What classes were shown as when the run of a checkpoint was itself evaluated; `None` if it was not."""
    from codebind_hf.evaluation.provenance import run_folder_of

    run = run_folder_of(checkpoint)
    if run is None or not (run / "report.json").is_file():
        return None
    return json.loads((run / "report.json").read_text(encoding="utf-8")).get("templates")


def templates_of(template: list[str] | None, recipe: Path | None) -> list[str] | None:
    """Prompts of the command line or of the recipe; `None` takes those that suit the rows.

    Raises:
        ValueError: the recipe has none.
        OSError: the recipe cannot be read.
    """
    from codebind_hf.training import read_settings

    if template or not recipe:
        return template
    templates = read_settings(recipe, flag="--recipe").templates
    if not templates:
        raise ValueError(f"--recipe: {recipe} has no `templates`. Fix: give --template.")
    return templates
