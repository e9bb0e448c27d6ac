"""Train CodeBind: from nothing on a manifest of your own files or on the embedded NineSenses, or from a checkpoint.

    accelerate launch examples/train.py --manifest rows.jsonl --output_dir runs/mine
    accelerate launch examples/train.py --config examples/recipes/demo.yaml --output_dir runs/demo
    accelerate launch examples/train.py --config examples/recipes/sun.yaml --base imagebind --output_dir runs/sun
    accelerate launch examples/train.py --bind eeg --bridge runs/demo --manifest rows.jsonl --output_dir runs/eeg
    accelerate launch examples/train.py --resume --output_dir runs/demo

`accelerate launch` finds GPUs by itself. A few hundred rows take two to five minutes on two CPU cores, the demo seven.

A manifest is JSONL, CSV or Parquet: per row, any subset of modalities (`text` itself, otherwise paths relative to the
manifest), and an optional `label` and `attributes`. `--dataset` takes what `datasets` reads instead: saved data sets,
folders of classes, shards. Written are `checkpoint/` (model and processor), `training.json` (the whole log, with how
many numbers learned in which parts), `run.json` (what the run was started with) and, when there are test rows,
`report.json`, `report.md`, pictures and the model card. A run with LoRA also writes `adapter/`, and merges it into
`checkpoint/`.

A run saves every two minutes, and when it is interrupted (Ctrl-C, SIGTERM). `--resume` finds its settings and goes
on, to the same bits as if nothing had happened; with the settings beside it, it starts a run that is not there yet.

`--bind` trains one modality on a finished model whose bridges, other modalities and (unless `--shared_codes
learning`) shared codes stay as they are; `pack/` then loads beside that model. `binding.json` says how far the
embeddings of the other modalities moved; beyond `--tolerance`, nothing is saved and the exit status is 1. A modality
of your own needs `--encoder`, the fields of its encoder as YAML or JSON, and a column of the manifest.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codebind_hf.training.flags import SHARED_CODES, add_data_flags, check_flags, data_of, says_what, whole_number


if TYPE_CHECKING:
    from codebind_hf.training import RunSettings

# Must be set before torch loads. Threads that spin long while they wait starve each other where other work runs; those
# that never spin lose half of their time to waking up.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="YAML with `data`, `recipe` and `templates`")
    add_data_flags(parser)
    parser.add_argument("--template", action="append", help="zero-shot prompt with {} for the class; repeatable")
    parser.add_argument("--base", help="run or checkpoint to start from, instead of the recipe's")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output_dir")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --output_dir")
    parser.add_argument("--max_steps", type=whole_number(1), help="steps of every stage, instead of the recipe's")
    parser.add_argument("--batch_size", type=whole_number(1), help="rows in a batch, instead of the recipe's")
    parser.add_argument("--seed", type=whole_number(0), help="instead of the recipe's")
    parser.add_argument("--bind", metavar="MODALITY", help="bind this modality to a finished model, see above")
    parser.add_argument("--bridge", help="the finished model: a run or a checkpoint")
    parser.add_argument("--encoder", type=Path, help="YAML or JSON: the encoder of a modality that the model lacks")
    parser.add_argument("--shared_codes", choices=SHARED_CODES, help="while binding; frozen without it")
    parser.add_argument("--tolerance", type=float, help="how far other embeddings may move; 0, without it: not a bit")
    parser.add_argument("--check_manifest", help="rows of other modalities to measure, instead of the training rows")
    arguments = parser.parse_args()
    if not (says_what(arguments) or arguments.resume):
        parser.error("give --manifest, --dataset or --benchmark, --config with a recipe, or --resume to go on.")
    check_flags(parser, arguments, alone=("resume", "overwrite", "output_dir"))
    return arguments


def settings_of(arguments: argparse.Namespace) -> "RunSettings | None":
    """What the command line says; `None` where it says only where to go on."""
    from codebind_hf.training.settings import read_binding, read_settings

    if not says_what(arguments):
        return None
    binding = ("bind", "bridge", "encoder", "shared_codes", "tolerance", "check_manifest", "base")
    return read_settings(
        arguments.config,
        data_of(arguments),
        templates=arguments.template,
        recipe={"seed": arguments.seed, "base": arguments.base},
        training={"per_device_train_batch_size": arguments.batch_size, "cache_bridge": arguments.cache_bridge},
        max_steps=arguments.max_steps,
        processor={"depth": {"depth_unit": arguments.depth_unit}} if arguments.depth_unit else None,
        backbones=arguments.backbones,
        on_error=arguments.on_error,
        bind=read_binding(
            **{name: getattr(arguments, name) for name in binding},
            test_rows=arguments.test_manifest or arguments.test_dataset,
        ),
    )


def main() -> None:
    arguments, stopped = parse_arguments(), None
    from codebind_hf.training import RunInterrupted, run
    from codebind_hf.training.processes import launched_processes
    from codebind_hf.training.run_folder import way_to_go_on

    with launched_processes() as state:
        if state.is_main_process:
            logging.basicConfig(format="%(message)s", stream=sys.stdout)
            logging.getLogger("codebind_hf").setLevel(logging.INFO)
        try:
            run(settings_of(arguments), arguments.output_dir, arguments.resume, arguments.overwrite)
        except (ValueError, OSError, FloatingPointError) as error:
            raise SystemExit(f"error: {error}") from error
        except RunInterrupted as stop:
            stopped = stop
    if stopped is not None:
        if state.is_main_process:
            print(f"\n{stopped}\n{way_to_go_on(sys.argv[0], arguments.output_dir)}")
        raise SystemExit(128 + stopped.signal_number)


if __name__ == "__main__":
    main()
