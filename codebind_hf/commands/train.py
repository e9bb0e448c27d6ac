"""`codebind train`: from nothing on rows of one's own or on the embedded NineSenses, or from a checkpoint."""

from typing import Annotated

from codebind_hf.commands import options as of
from codebind_hf.commands.running import check_run, given, run_from


EXAMPLE = "codebind train --manifest rows.jsonl --output_dir runs/mine"


def train(
    output_dir: of.OutputDir,
    config: of.Config = None,
    manifest: of.Manifest = None,
    dataset: of.Dataset = None,
    benchmark: of.BenchmarkRows = None,
    root: of.RowsRoot = None,
    protocol: of.RowsProtocol = None,
    columns: of.Columns = None,
    text_from_label: of.TextFromLabel = None,
    encoding: of.Encoding = None,
    test_manifest: of.TestManifest = None,
    test_dataset: of.TestDataset = None,
    template: of.Template = None,
    depth_unit: of.DepthUnit = None,
    on_error: of.OnError = "raise",
    streaming: of.Streaming = False,
    loading: of.Loading = None,
    preprocessing_num_workers: of.Workers = None,
    cache_bridge: of.CacheBridge = None,
    backbones: of.Backbones = None,
    base: of.Base = None,
    resume: of.Resume = False,
    overwrite: of.Overwrite = False,
    max_steps: of.MaxSteps = None,
    batch_size: of.TrainingBatchSize = None,
    seed: of.TrainingSeed = None,
    bind: Annotated[
        str | None, of.flag("bind", "bind this modality to a finished model, as `codebind bind` does", metavar="NAME")
    ] = None,
    bridge: of.Bridge = None,
    encoder: of.Encoder = None,
    shared_codes: of.SharedCodes = None,
    tolerance: of.Tolerance = None,
    check_manifest: of.CheckManifest = None,
) -> None:
    """Train on your own files, or on the embedded NineSenses.

    A manifest is JSONL, CSV or Parquet: per row, any subset of modalities (`text` itself, otherwise paths relative to
    the manifest), and an optional `label` and `attributes`. Written are the checkpoint, the whole log, and with test
    rows a report. A run saves every two minutes and when it is interrupted; --resume goes on to the same bits.

    Several processes: accelerate launch -m codebind_hf train, with the same flags.
    """
    flags = given(locals())
    check_run(flags)
    run_from(flags)
