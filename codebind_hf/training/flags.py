"""Flags of a command line that say where rows come from, the same for every command that reads rows."""

import argparse
from typing import Any

from codebind_hf.data.loading import LOADINGS


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `data_of` reads."""
    parser.add_argument("--manifest", help="rows of your own: JSONL, CSV or Parquet")
    parser.add_argument("--test_manifest", help="labelled rows to evaluate on after training")
    parser.add_argument("--dataset", help="instead: FOLDER[:SPLIT] that `datasets` reads, or a name on the Hub")
    parser.add_argument("--test_dataset", help="rows to evaluate on after training, likewise")
    parser.add_argument("--benchmark", action="append", help="instead: a data set of the paper's; repeatable")
    parser.add_argument("--root", help="folder of the benchmark, or of a folder for each of several")
    parser.add_argument("--protocol", choices=("paper", "sound"), help="of the benchmark; paper without it")
    parser.add_argument("--columns", type=renames, help="columns to rename, such as img=image,caption=text")
    parser.add_argument("--text_from_label", action="append", help="text with {} for the label; repeatable")
    parser.add_argument("--encoding", help="of a CSV manifest that is not UTF-8")
    parser.add_argument("--loading", choices=LOADINGS, help="where tensors live; auto: in memory, if they fit")
    parser.add_argument("--preprocessing_num_workers", type=int, help="processes that make tensors which are kept")
    parser.add_argument(
        "--cache_bridge",
        nargs="?",
        const=True,
        type=lambda text: text.split(","),
        metavar="MODALITIES",
        help="run towers that do not learn, all or such as text,image, once a row, and keep what they give",
    )
    parser.add_argument("--streaming", action="store_true", default=None, help="read --dataset from front to back")


def data_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """`RunSettings.data` as the flags say it; `None` where they say nothing."""
    names = (
        *("manifest", "test_manifest", "dataset", "test_dataset", "benchmark", "root", "protocol", "columns"),
        *("text_from_label", "encoding", "loading", "preprocessing_num_workers", "streaming"),
    )
    return {name: getattr(arguments, name) for name in names}


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
