"""Do codes and two parts beat tuned hard alignment? Rows in pairs, on worlds of NineSenses and on real senses.

    python examples/ablation/run.py
    python examples/ablation/run.py --quick
    python examples/ablation/run.py --full --page ""

Eight rows, from an untrained encoder to our defaults, on worlds of NineSenses and on splits of the real senses of
`examples/real` (fetched and prepared once; left out with one line where a package is gone). Written are
`docs/evidence.json` and `docs/evidence.md`. What is there is not done again, so a run that was stopped goes on.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm


# Both studies share how a sense is bound and how real senses are read.
sys.path.append(str(Path(__file__).resolve().parent.parent / "real"))

from cells import Cells  # noqa: E402
from evidence import write_page  # noqa: E402
from features import Features  # noqa: E402
from packages import Gone, default_cache  # noqa: E402
from rows import FULL, MAIN, on_worlds  # noqa: E402
from splits import OBJECTS, numbers_of  # noqa: E402
from study import PLAN, Study  # noqa: E402
from worlds import TARGETS, world  # noqa: E402


REAL = ("speech_es", "points", "imu")
# Worlds and splits that no setting was chosen on; those from 100 on are for choosing, from 60 and 20 for confirming.
WORLDS, SPLITS, SEEDS = range(50, 56), range(10), range(2)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two worlds, one seed, and two splits of two real senses")
    parser.add_argument("--full", action="store_true", help="every choice by itself: hours")
    parser.add_argument("--worlds", default=f"{WORLDS[0]}-{WORLDS[-1]}", help="as 50-55 or 50,52; empty for none")
    parser.add_argument("--splits", default=f"{SPLITS[0]}-{SPLITS[-1]}", help="of the real senses; empty for none")
    parser.add_argument("--seeds", default=f"{SEEDS[0]}-{SEEDS[-1]}", help="of every world")
    parser.add_argument("--senses", default=",".join(REAL), help=f"real ones, of {', '.join(PLAN)}")
    parser.add_argument("--rows", help="names of rows, with commas; by default the eight of the table")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="of worlds")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of packages and features")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--real_dir", type=Path, default=Path("runs/real/results"), help="of the real senses")
    parser.add_argument("--page", default="docs/evidence.md", help="where to write; an empty text writes none")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.worlds, arguments.seeds, arguments.splits = "50-51", "0", "0-1"
        arguments.senses, arguments.page = "points,imu", arguments.page and str(arguments.output_dir / "quick.md")
    arguments.worlds, arguments.splits, arguments.seeds = map(
        numbers_of, (arguments.worlds, arguments.splits, arguments.seeds)
    )
    arguments.senses = arguments.senses.split(",")
    arguments.rows = arguments.rows.split(",") if arguments.rows else list(FULL if arguments.full else MAIN)
    if unknown := [row for row in arguments.rows if row not in FULL]:
        parser.error(f"--rows: got {', '.join(unknown)}; allowed: {', '.join(FULL)}.")
    return arguments


def studies(arguments: argparse.Namespace, gone: dict[str, str]) -> tuple[Cells, Study]:
    """Of worlds, and of real senses."""
    rows = {name: FULL[name] for name in arguments.rows}
    features = Features(arguments.cache)
    features.gone = gone
    cells = Cells(arguments.output_dir / "worlds", arguments.output_dir / "cells", on_worlds(rows), arguments.split)
    # Where `make real` looks, too: what both train is trained once.
    return cells, Study(features, arguments.real_dir, rows=rows, senses={}, controlled="ours")


def main() -> None:
    arguments = parse_arguments()
    gone = _real_senses(arguments)
    cells, study = studies(arguments, gone)
    with concurrent.futures.ProcessPoolExecutor(
        arguments.workers, multiprocessing.get_context("spawn"), _begin, (arguments, gone)
    ) as pool:
        needed = {PLAN[sense][0] for sense in arguments.senses} | set(OBJECTS) if arguments.splits else set()
        made = [(c, s) for c in needed for s in study.features.senses(c) if s in ("text", "image", *arguments.senses)]
        _all(pool, _vectors, made, "features")
        _all(pool, _world, arguments.worlds, "worlds")
        # One process has all senses of a bridge, which is trained once.
        todo = [
            (row, number, seed) for number in arguments.worlds for seed in arguments.seeds for row in arguments.rows
        ]
        _all(pool, _bound, [job for job in todo if not cells.done(*job)], "rows of worlds")
        real = [(r, s, x) for s in arguments.splits for r in arguments.rows for x in ("bridge", *arguments.senses)]
        left = [cell for cell in real if not study.file(*cell).is_file()]
        _all(pool, _heard, [cell for cell in left if cell[2] == "bridge"], "bridges of splits")
        _all(pool, _heard, [cell for cell in left if cell[2] != "bridge"], "cells of splits")
    if arguments.page:
        write_page(Path(arguments.page), cells, study, arguments)
        print(f"written: {arguments.page}")


def _real_senses(arguments: argparse.Namespace) -> dict[str, str]:
    """What is gone; where pictures, sentences or all objects are, no real sense is asked for any more."""
    if not arguments.splits:
        return {}
    features = Features(arguments.cache)
    try:
        features.fetch_all()
        if missing := [features.gone[name] for name in OBJECTS if name in features.gone]:
            raise Gone(missing[0])
    except Gone as error:
        print(f"real senses skipped: {error}")
        arguments.splits = []
        return {}
    there = [s for s in arguments.senses if PLAN[s][0] not in features.gone and s.split("_")[0] not in features.gone]
    for sense in set(arguments.senses) - set(there):
        print(f"left out: {sense}, as its package is gone")
    arguments.senses = there
    return features.gone


def _all(pool: concurrent.futures.Executor, call: Callable[[Any], None], jobs: Sequence[Any], label: str) -> None:
    futures = [pool.submit(call, job) for job in jobs]
    for future in tqdm(concurrent.futures.as_completed(futures), desc=label, total=len(jobs), disable=not jobs):
        future.result()


_STATE: dict[str, Any] = {}


def _begin(arguments: argparse.Namespace, gone: dict[str, str]) -> None:
    import torch

    torch.set_num_threads(1)
    _STATE["cells"], _STATE["study"] = studies(arguments, gone)


def _vectors(job: tuple[str, str]) -> None:
    _STATE["study"].features.vectors(*job)


def _world(number: int) -> None:
    world(number, _STATE["cells"].cache)


def _bound(job: tuple[str, int, int]) -> None:
    row, number, seed = job
    for target in TARGETS:
        _STATE["cells"].compute(row, number, target, seed)


def _heard(cell: tuple[str, int, str]) -> None:
    _STATE["study"].compute(*cell)


if __name__ == "__main__":
    main()
