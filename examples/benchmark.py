"""The numbers of the paper's tables, from data sets in their owners' layouts: one row, one command.

    python examples/benchmark.py --list
    python examples/benchmark.py nyu-d --root DATA/nyu --check
    python examples/benchmark.py nyu-d --root DATA/nyu --checkpoint runs/sun/checkpoint --output results.json
    python examples/benchmark.py esc-50 clotho --root DATA --checkpoint CKPT --protocol sound --backbone vl

Nothing is downloaded: docs/benchmarks.md says where each data set comes from, under which licence, and what must lie
where. With several names, each has the folder of its name under `--root`, and `--check` says what all of them lack.
Written are the JSON with every item's prediction, the fingerprint of the data, the seed and the environment, and
beside it the table of the paper's numbers, ours and the difference.

`--protocol paper` repeats the choices of the authors, mistakes included, so that numbers compare; `sound` is what we
would defend. A few thousand pictures take minutes on a GPU and hours on two CPU cores: `--limit 500` gives a first
impression.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from codebind_hf.benchmarks.choices import BACKBONES, PROTOCOLS, SPLITS
from codebind_hf.training.flags import whole_number


if TYPE_CHECKING:
    from codebind_hf.benchmarks import Benchmark, Found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to evaluate, see --list")
    parser.add_argument("--list", action="store_true", help="every row: metric, size, published numbers, licence")
    parser.add_argument("--docs", action="store_true", help="with --list: all tables of docs/benchmarks.md")
    parser.add_argument("--root", type=Path, help="folder of the data set; with several names, of their folders")
    parser.add_argument("--check", action="store_true", help="only see whether the data set is there and whole")
    parser.add_argument("--checkpoint", help="a run, the folder of a checkpoint, or a name on the Hub")
    whose = "whose prompts and numbers: ImageBind's or ViT-Lens's"
    parser.add_argument("--backbone", choices=BACKBONES, default="ib", help=whose)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="paper", help="the authors' choices, or sound ones")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--partial", action="store_true", help="take an incomplete data set for what it is")
    parser.add_argument("--limit", type=whole_number(1), help="at most so many rows, evenly spread")
    parser.add_argument("--batch_size", type=whole_number(1), default=64)
    parser.add_argument("--draws", type=whole_number(1), default=1000, help="of the bootstrap")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--on_error", choices=("raise", "skip"), default="raise", help="what an unreadable file does")
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"), help="Markdown goes beside it")
    arguments = parser.parse_args()
    if not arguments.list and not (arguments.names and arguments.root):
        parser.error("give --list, or the NAME of a row and its --root.")
    if arguments.names and not arguments.check and not arguments.list and not arguments.checkpoint:
        parser.error("give --checkpoint to evaluate, or --check to look at the data only.")
    if arguments.docs and not arguments.list or arguments.check and arguments.checkpoint:
        parser.error("--docs goes with --list, and --check without --checkpoint.")
    if arguments.output.suffix != ".json":
        parser.error(f"--output: got {arguments.output}; give a file that ends in .json.")
    return arguments


def found_of(arguments: argparse.Namespace, row: "Benchmark", folder: Path) -> "Found":
    return row.check(folder, arguments.protocol, arguments.split, arguments.partial, arguments.backbone)


def check(arguments: argparse.Namespace) -> None:
    from codebind_hf.benchmarks.registry import for_all

    def tell(row: "Benchmark", folder: Path) -> None:
        found = found_of(arguments, row, folder)
        whole = "whole" if found.is_whole else f"a part: {len(found.missing)} files are missing"
        print(f"{row.title}: {len(found.rows)} rows of {arguments.split}, {whole}; data {found.fingerprint()[:12]}")

    for_all(arguments.names, arguments.root, tell)


def evaluate(arguments: argparse.Namespace) -> None:
    from codebind_hf import CodeBindModel, CodeBindProcessor, benchmarks
    from codebind_hf.benchmarks.registry import folder_of, for_all
    from codebind_hf.evaluation import checkpoint_digest, comparison_table, evaluate_benchmark, write_benchmarks
    from codebind_hf.evaluation.provenance import checkpoint_of

    checkpoint = checkpoint_of(arguments.checkpoint, "--checkpoint")
    # What lacks a file is known before the first of them is evaluated.
    for_all(arguments.names, arguments.root, lambda row, folder: found_of(arguments, row, folder))
    model = CodeBindModel.from_pretrained(checkpoint).to(arguments.device)
    processor = CodeBindProcessor.from_pretrained(checkpoint)
    names = ("protocol", "backbone", "split", "limit", "partial", "batch_size", "seed", "draws", "on_error")
    options = {name: getattr(arguments, name) for name in names}
    is_local = Path(checkpoint).is_dir()
    results = []
    for name in arguments.names:
        folder = folder_of(name, arguments.root, arguments.names)
        result = evaluate_benchmark(model, processor, benchmarks.get(name), folder, **options)
        result["checkpoint"] = Path(checkpoint).name
        result["checkpoint_sha256"] = checkpoint_digest(checkpoint) if is_local else None
        results.append(result)
        # After each, so that an interrupted evening keeps what is done.
        written = write_benchmarks(results, arguments.output)
    print(comparison_table(results))
    print("Wrote " + ", ".join(map(str, written)))


def main() -> None:
    arguments = parse_arguments()
    try:
        if arguments.list:
            from codebind_hf.benchmarks.tables import differences, overview, sources

            print("\n".join([overview(), differences(), sources()] if arguments.docs else [overview()]))
        elif arguments.check:
            check(arguments)
        else:
            evaluate(arguments)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
