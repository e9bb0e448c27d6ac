"""`codebind benchmark`: the numbers of the paper's tables, from data sets in their owners' layouts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codebind_hf.benchmarks.choices import SPLITS
from codebind_hf.commands import options as of
from codebind_hf.commands.values import refuse


if TYPE_CHECKING:
    from codebind_hf.benchmarks import Benchmark, Found

EXAMPLE = "codebind benchmark nyu-d --root DATA/nyu --checkpoint runs/sun --output results.json"
# What a row is looked for with.
Look = Callable[["Benchmark", Path], "Found"]


def benchmark(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="rows to evaluate, see --list")] = None,
    list_all: Annotated[bool, of.flag("list", "every row: metric, size, published numbers, licence")] = False,
    docs: Annotated[bool, of.flag("docs", "with --list: all tables of docs/benchmarks.md")] = False,
    root: Annotated[
        Path | None,
        of.flag("root", "folder of the data set; with several names, of their folders", metavar="FOLDER"),
    ] = None,
    check: Annotated[bool, of.flag("check", "only see whether the data set is there and whole")] = False,
    checkpoint: Annotated[
        str | None, of.flag("checkpoint", "a run, the folder of a checkpoint, or a name on the Hub", metavar="MODEL")
    ] = None,
    backbone: of.Backbone = "ib",
    protocol: of.Protocol = "paper",
    split: Annotated[str, of.choice("split", "rows of the data set", SPLITS)] = "test",
    partial: Annotated[bool, of.flag("partial", "take an incomplete data set for what it is")] = False,
    limit: Annotated[int | None, of.count("limit", "at most so many rows, evenly spread")] = None,
    batch_size: of.BatchSize = 64,
    draws: Annotated[int, of.count("draws", "of the bootstrap")] = 1000,
    seed: of.Seed = 0,
    on_error: of.OnError = "raise",
    device: Annotated[str, of.flag("device", "such as cuda", metavar="NAME")] = "cpu",
    output: Annotated[Path, of.flag("output", "Markdown goes beside it", metavar="FILE")] = Path("benchmark.json"),
    as_json: of.AsJson = False,
) -> None:
    """Repeat rows of the paper's tables, and compare numbers.

    Nothing is downloaded: docs/benchmarks.md says where each data set comes from and what must lie where. --protocol
    paper repeats the choices of the authors, mistakes included; sound is what we would defend. A few thousand
    pictures take minutes on a GPU and hours on two CPU cores: --limit 500 gives a first impression.
    """
    names = list(names or [])
    if not list_all and not (names and root):
        refuse("give --list, or the NAME of a row and its --root.")
    if names and not check and not list_all and not checkpoint:
        refuse("give --checkpoint to evaluate, or --check to look at the data only.")
    if docs and not list_all or check and checkpoint:
        refuse("--docs goes with --list, and --check without --checkpoint.")
    if output.suffix != ".json":
        refuse(f"--output: got {output}; give a file that ends in .json.")

    def found_of(row: "Benchmark", folder: Path) -> "Found":
        return row.check(folder, protocol, split, partial, backbone)

    if list_all:
        _list(docs, as_json)
    elif check:
        _check(names, Path(str(root)), found_of, split, as_json)
    else:
        options = {"protocol": protocol, "backbone": backbone, "split": split, "limit": limit, "partial": partial}
        options |= {"batch_size": batch_size, "seed": seed, "draws": draws, "on_error": on_error}
        _evaluate(names, Path(str(root)), found_of, str(checkpoint), device, output, options, as_json)


def _list(docs: bool, as_json: bool) -> None:
    from codebind_hf.benchmarks.registry import get
    from codebind_hf.benchmarks.registry import names as all_names
    from codebind_hf.benchmarks.tables import differences, overview, sources

    if as_json:
        rows = [get(name) for name in all_names()]
        shown = ("name", "title", "modality", "num_classes", "published_items", "figures", "licence", "source")
        typer.echo(json.dumps([{key: getattr(row, key) for key in shown} for row in rows], indent=1))
        return
    typer.echo("\n".join([overview(), differences(), sources()] if docs else [overview()]))


def _check(names: Sequence[str], root: Path, look: Look, split: str, as_json: bool) -> None:
    from codebind_hf.benchmarks.registry import for_all

    told = []

    def tell(row: "Benchmark", folder: Path) -> None:
        found = look(row, folder)
        part, size = (
            ("whole" if found.is_whole else f"a part: {len(found.missing)} files are missing"),
            len(found.rows),
        )
        said = f"{row.title}: {size} rows of {split}, {part}; data {found.fingerprint()[:12]}"
        typer.echo(said, err=as_json)
        told.append(
            {"benchmark": row.name, "rows": size, "is_whole": found.is_whole, "fingerprint": found.fingerprint()}
        )

    for_all(names, root, tell)
    if as_json:
        typer.echo(json.dumps(told, indent=1))


def _evaluate(
    names: Sequence[str],
    root: Path,
    look: Look,
    given: str,
    device: str,
    output: Path,
    options: dict[str, Any],
    as_json: bool,
) -> None:
    from codebind_hf.benchmarks.registry import folder_of, for_all, get
    from codebind_hf.evaluation import checkpoint_digest, comparison_table, evaluate_benchmark, write_benchmarks
    from codebind_hf.evaluation.provenance import checkpoint_of
    from codebind_hf.model.modeling_codebind import CodeBindModel
    from codebind_hf.processing.processing_codebind import CodeBindProcessor

    checkpoint = checkpoint_of(given, "--checkpoint")
    # What lacks a file is known before the first of them is evaluated.
    for_all(names, root, look)
    model = CodeBindModel.from_pretrained(checkpoint).to(device)
    processor = CodeBindProcessor.from_pretrained(checkpoint)
    is_local = Path(checkpoint).is_dir()
    results = []
    for name in names:
        result = evaluate_benchmark(model, processor, get(name), folder_of(name, root, names), **options)
        result["checkpoint"] = Path(checkpoint).name
        result["checkpoint_sha256"] = checkpoint_digest(checkpoint) if is_local else None
        results.append(result)
        # After each, so that an interrupted evening keeps what is done.
        written = write_benchmarks(results, output)
    if as_json:
        typer.echo(output.read_text(encoding="utf-8").rstrip())
    typer.echo(f"{comparison_table(results)}\nWrote {', '.join(map(str, written))}", err=as_json)
