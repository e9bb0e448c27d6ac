"""`codebind bind`: one more modality beside a finished model whose other vectors stay as they are."""

from inspect import signature
from typing import Annotated

import typer

from codebind_hf.commands import options as of
from codebind_hf.commands.running import check_run, run_from, same_flags
from codebind_hf.commands.train import train
from codebind_hf.commands.values import refuse


EXAMPLE = "codebind bind eeg --bridge runs/demo --manifest rows.jsonl --output_dir runs/eeg"


def bind(
    output_dir: of.OutputDir,
    modality: Annotated[
        str | None, typer.Argument(metavar="MODALITY", help="the one to bind, a column of the rows")
    ] = None,
    bridge: of.Bridge = None,
    config: of.Config = None,
    manifest: of.Manifest = None,
    dataset: of.Dataset = None,
    benchmark: of.BenchmarkRows = None,
    root: of.RowsRoot = None,
    protocol: of.RowsProtocol = None,
    columns: of.Columns = None,
    text_from_label: of.TextFromLabel = None,
    encoding: of.Encoding = None,
    depth_unit: of.DepthUnit = None,
    on_error: of.OnError = "raise",
    loading: of.Loading = None,
    preprocessing_num_workers: of.Workers = None,
    cache_bridge: of.CacheBridge = None,
    encoder: of.Encoder = None,
    shared_codes: of.SharedCodes = None,
    tolerance: of.Tolerance = None,
    check_manifest: of.CheckManifest = None,
    resume: of.Resume = False,
    overwrite: of.Overwrite = False,
    max_steps: of.MaxSteps = None,
    batch_size: of.TrainingBatchSize = None,
    seed: of.TrainingSeed = None,
) -> None:
    """Bind one more modality to a finished model.

    Its bridges, other modalities and shared codes stay as they are, and what is written loads beside that model
    (`--packs`). `binding.json` says how far the embeddings of the other modalities moved; beyond --tolerance,
    nothing is saved and the exit status is 1. A modality of your own needs --encoder, the fields of its encoder.
    """
    flags = same_flags(list(signature(train).parameters), locals())
    flags["bind"] = flags.pop("modality")
    check_run(flags)
    if not flags["resume"] and not (flags["bind"] and flags["bridge"]):
        refuse("MODALITY and --bridge MODEL: give both, or --resume to go on.")
    run_from(flags)
