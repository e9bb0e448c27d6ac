"""A run of training from the command line: in how many processes, what is said meanwhile, and how it ends."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from codebind_hf.commands.values import at_most_one, needs, refuse


if TYPE_CHECKING:
    from codebind_hf.training import RunSettings

# What a run that goes on may still be told.
_GOING_ON = ("resume", "overwrite", "output_dir")
_SOURCES = ("manifest", "dataset", "benchmark")
_DATA = (
    *(*_SOURCES, "columns", "text_from_label", "encoding", "loading", "preprocessing_num_workers"),
    *("test_manifest", "test_dataset", "root", "protocol", "streaming"),
)
# Rows that are evaluated on after training.
_TESTED = ("test_manifest", "test_dataset", "nine_senses")
_BINDING = ("bind", "bridge", "encoder", "shared_codes", "tolerance", "check_manifest", "base")


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flags as settings are: what was not given is `None`."""
    return {name: None if value is False or value in ([], ()) else value for name, value in values.items()}


def data_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """`RunSettings.data` as flags say it; `None` where they say nothing."""
    return {name: flags.get(name) for name in _DATA}


def check_run(flags: Mapping[str, Any]) -> None:
    """Refuse flags that say nothing, contradict each other, or would have no effect.

    Args:
        flags: of `given`; one that has its default counts as not given.

    Raises:
        typer.BadParameter: such a flag.
    """
    says_what = bool(flags["config"] or any(flags[name] for name in _SOURCES))
    at_most_one({name: flags[name] for name in _SOURCES})
    if not says_what and not flags["resume"]:
        refuse("give --manifest, --dataset or --benchmark, --config with a recipe, or --resume to go on.")
    tests = [name for name in ("manifest", "dataset") if flags.get(f"test_{name}")]
    for name in tests:
        if not flags[name]:
            refuse(f"--test_{name} needs --{name}; with --config, name both under `data`.")
    if flags.get("template") and not (flags["config"] or tests):
        refuse("--template is of an evaluation after training, which needs --test_manifest or --test_dataset.")
    usual = {"on_error": "raise"}
    told = [name for name, value in flags.items() if value != usual.get(name) and name not in _GOING_ON]
    if told and not says_what:
        refuse(
            f"{', '.join(f'--{name}' for name in told)}: a run that goes on keeps its settings. Fix: leave out all "
            "but --resume and --output_dir, or start a new run."
        )


def settings_of(flags: Mapping[str, Any]) -> "RunSettings | None":
    """What the command line says; `None` where it says only where to go on."""
    from codebind_hf.training.settings import read_binding, read_settings

    if not (flags["config"] or any(flags[name] for name in _SOURCES)):
        return None
    binding = {name: flags.get(name) for name in _BINDING}
    return read_settings(
        flags["config"],
        data_of(flags),
        templates=flags.get("template"),
        recipe={"seed": flags["seed"], "base": flags.get("base")},
        training={"per_device_train_batch_size": flags["batch_size"], "cache_bridge": flags["cache_bridge"]},
        max_steps=flags["max_steps"],
        processor={"depth": {"depth_unit": flags["depth_unit"]}} if flags["depth_unit"] else None,
        backbones=flags.get("backbones"),
        on_error=flags["on_error"],
        bind=read_binding(**binding, test_rows=flags.get("test_manifest") or flags.get("test_dataset")),
    )


def run_from(flags: Mapping[str, Any]) -> None:
    """Do what checked flags say, on every process that was launched; an interrupted run says how to go on.

    Raises:
        ValueError, OSError, FloatingPointError: as `codebind_hf.training.run`.
        typer.Exit: a signal ended the run.
    """
    # Must be set before torch loads. Threads that spin long while they wait starve each other where other work runs;
    # those that never spin lose half of their time to waking up.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from codebind_hf.training import RunInterrupted, run
    from codebind_hf.training.processes import launched_processes
    from codebind_hf.training.run_folder import way_to_go_on

    output_dir, stopped = Path(flags["output_dir"]), None
    with launched_processes() as state:
        if state.is_main_process:
            logging.basicConfig(format="%(message)s", stream=sys.stdout)
            logging.getLogger("codebind_hf").setLevel(logging.INFO)
        try:
            settings = settings_of(flags)
            if settings is not None and any(settings.data.get(name) is not None for name in _TESTED):
                # Known before hours of training, not after them.
                needs("sklearn", "report", "evaluation after training")
                needs("matplotlib", "report", "evaluation after training")
            run(settings, output_dir, bool(flags["resume"]), bool(flags["overwrite"]))
        except RunInterrupted as stop:
            stopped = stop
    if stopped is not None:
        if state.is_main_process:
            typer.echo(f"\n{stopped}\n{way_to_go_on(output_dir)}")
        raise typer.Exit(128 + stopped.signal_number)


def same_flags(names: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Flags of a command that has fewer, with `None` for the others."""
    return {**dict.fromkeys(names), **given(values)}
