"""Flags that say where rows come from and how they are read, the same for every command; `--help` imports no torch."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from codebind_hf.benchmarks.choices import PROTOCOLS
from codebind_hf.data.choices import LOADINGS, ON_ERROR


SHARED_CODES = ("frozen", "learning")
_OF_ROWS = ("manifest", "dataset", "columns", "text_from_label", "encoding")
_OF_LOADING = ("loading", "preprocessing_num_workers")
_OF_TRAINING = ("test_manifest", "test_dataset", "benchmark", "root", "protocol", "streaming")


def add_row_flags(
    parser: argparse.ArgumentParser, also: Sequence[str] = (), required: bool = True
) -> argparse._MutuallyExclusiveGroup:
    """Add the flags that name rows and say what their columns are; returns the group of those that name them.

    Args:
        also: other names of `--manifest`.
        required: whether rows must be named.
    """
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument("--manifest", *also, help="rows of your own: JSONL, CSV or Parquet")
    source.add_argument("--dataset", help="instead: FOLDER[:SPLIT] that `datasets` reads, or a name on the Hub")
    parser.add_argument("--columns", type=renames, help="columns to rename, such as img=image,caption=text")
    parser.add_argument("--text_from_label", action="append", help="text with {} for the label; repeatable")
    parser.add_argument("--encoding", help="of a CSV manifest that is not UTF-8")
    return source


def add_loading_flags(parser: argparse.ArgumentParser, loadings: Sequence[str], about: str) -> None:
    """Add the flags that say where tensors of rows live, and who makes them.

    Args:
        about: help for `--loading`.
    """
    parser.add_argument("--loading", choices=loadings, help=f"where tensors live; {about}")
    workers = "processes that make tensors which are kept"
    parser.add_argument("--preprocessing_num_workers", type=whole_number(0), help=workers)


def add_reading_flags(parser: argparse.ArgumentParser) -> None:
    """Add what is said of files that rows name."""
    parser.add_argument(
        "--depth_unit", choices=("m", "cm", "mm"), help="unit of depth files; floats are metres without it"
    )
    parser.add_argument("--on_error", choices=ON_ERROR, default=ON_ERROR[0], help="what an unreadable file does")


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add all flags of training rows, of rows to evaluate on after training, and of networks that read them."""
    source = add_row_flags(parser, required=False)
    parser.add_argument("--test_manifest", help="labelled rows to evaluate on after training")
    parser.add_argument("--test_dataset", help="rows to evaluate on after training, likewise")
    source.add_argument("--benchmark", action="append", help="instead: a data set of the paper's; repeatable")
    parser.add_argument("--root", help="folder of the benchmark, or of a folder for each of several")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="of the benchmark; paper without it")
    add_loading_flags(parser, LOADINGS, "auto: in memory, if they fit")
    parser.add_argument(
        "--cache_bridge",
        nargs="?",
        const=True,
        type=lambda text: text.split(","),
        metavar="MODALITIES",
        help="run towers that do not learn, all or such as text,image, once a row, and keep what they give",
    )
    parser.add_argument("--backbones", type=renames, help="finished networks as towers: text=FOLDER,image=NAME")
    parser.add_argument("--streaming", action="store_true", default=None, help="read --dataset from front to back")
    add_reading_flags(parser)


def data_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """`RunSettings.data` as the flags say it; `None` where they say nothing."""
    return {name: getattr(arguments, name, None) for name in (*_OF_ROWS, *_OF_LOADING, *_OF_TRAINING)}


def says_what(arguments: argparse.Namespace) -> bool:
    """Whether a command line names rows, or a recipe that does."""
    return bool(arguments.config or arguments.manifest or arguments.dataset or arguments.benchmark)


def check_flags(parser: argparse.ArgumentParser, arguments: argparse.Namespace, alone: Sequence[str]) -> None:
    """End with an error where a flag would have no effect.

    Args:
        alone: names of those that say something where no rows are named, and a run goes on with the settings it has.
    """
    for name in ("manifest", "dataset"):
        if getattr(arguments, f"test_{name}") and not getattr(arguments, name):
            parser.error(f"--test_{name} needs --{name}; with --config, name both under `data`.")
    if arguments.template and not (arguments.config or arguments.test_manifest or arguments.test_dataset):
        parser.error("--template is of an evaluation after training, which needs --test_manifest or --test_dataset.")
    given = [name for name, value in vars(arguments).items() if value != parser.get_default(name)]
    idle = [] if says_what(arguments) else [name for name in given if name not in alone]
    if idle:
        flags = ", ".join(f"--{name}" for name in idle)
        parser.error(
            f"{flags}: a run that goes on keeps its settings. Fix: leave out all but --resume and --output_dir, or "
            "start a new run."
        )


def whole_number(least: int) -> Callable[[str], int]:
    """What reads a flag that is a whole number from `least`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"got {text}; allowed: a whole number of {least} or more.")
        return value

    return read


def renames(text: str) -> dict[str, str]:
    """`img=image,caption=text` as a dictionary.

    Raises:
        argparse.ArgumentTypeError: a part without `=`, or a column named twice.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    found = {old.strip(): new.strip() for old, _, new in pairs}
    if len(found) < len(pairs) or not all(old.strip() and new.strip() for old, _, new in pairs):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: column=name pairs, such as img=image,caption=text.")
    return found
