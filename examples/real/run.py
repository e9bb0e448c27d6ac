"""Bind real senses to frozen picture and sentence features, and measure what comes of it.

    python examples/real/run.py
    python examples/real/run.py --seeds 0-2 --page ""

Fetches packages into a cache that git ignores, computes features once, trains and judges every cell of the study, and
writes `docs/real.json` and `docs/real.md`. What is there is not done again, so a run that was stopped goes on. Where a
package is gone, one line says so and the run ends well; a sense alone that is gone is left out, and the page says so.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from features import SENSES, Features
from packages import Gone, default_cache
from page import write_page
from splits import OBJECTS, numbers_of
from study import Study
from summary import summary
from tqdm.auto import tqdm
from uses import uses


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of packages and features")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/real/results"))
    parser.add_argument("--page", default="docs/real.md", help="where to write the results; an empty text writes none")
    parser.add_argument("--seeds", default="0-9", help="splits, as 0-9 or 0,3,5; from 100 on for choosing settings")
    parser.add_argument("--hold_out", choices=("name", "noun", "exact"), default="name", help="what stays together")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=int, help="of things a collection, for trying out")
    parser.add_argument("--seconds", type=float, help="stop after so long; the next run goes on")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    end = time.monotonic() + (arguments.seconds or float("inf"))
    features = Features(arguments.cache, limit=arguments.limit)
    try:
        features.fetch_all()
    except Gone as error:
        print(f"skipped: {error}")
        return
    if set(OBJECTS) <= set(features.gone):
        print(f"skipped: {features.gone[OBJECTS[0]]}")
        return
    for need, reason in features.gone.items():
        print(f"left out: {need}, as {reason}")
    jobs = [
        (collection, sense)
        for collection in SENSES
        if collection not in features.gone
        for sense in features.senses(collection)
    ]
    study = Study(features, arguments.output_dir, arguments.hold_out)
    seeds = numbers_of(arguments.seeds)
    with concurrent.futures.ProcessPoolExecutor(
        arguments.workers, multiprocessing.get_context("spawn"), _begin, (features.gone, arguments)
    ) as pool:
        done = _all(pool, _vectors, jobs, "features", end)
        # The bridge of a row and seed comes before what is bound to it.
        cells = [cell for cell in study.cells(seeds) if not study.file(*cell).is_file()]
        for some, label in (([c for c in cells if c[2] == "bridge"], "bridges"), (cells, "senses")):
            done = done and _all(pool, _cell, [cell for cell in some if not study.file(*cell).is_file()], label, end)
    if not done:
        print("stopped after --seconds; the same command goes on")
    elif arguments.page:
        write_page(Path(arguments.page), {**summary(study, seeds), "uses": uses(study, seeds)}, features)
        print(f"written: {arguments.page}")


def _all(
    pool: concurrent.futures.Executor, call: Callable[[Any, float], bool], jobs: list[Any], label: str, end: float
) -> bool:
    """Whether every job was done in time; what has begun is finished."""
    futures = [pool.submit(call, job, end) for job in jobs]
    finished = tqdm(concurrent.futures.as_completed(futures), desc=label, total=len(jobs), disable=not jobs)
    results = [future.result() for future in finished]
    return all(results)


_STATE: dict[str, Study] = {}


def _begin(gone: dict[str, str], arguments: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(1)
    features = Features(arguments.cache, limit=arguments.limit)
    features.gone = gone
    _STATE["study"] = Study(features, arguments.output_dir, arguments.hold_out)


def _vectors(job: tuple[str, str], end: float) -> bool:
    if time.monotonic() < end:
        _STATE["study"].features.vectors(*job)
        return True
    return False


def _cell(cell: tuple[str, int, str], end: float) -> bool:
    if time.monotonic() < end:
        _STATE["study"].compute(*cell)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
