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

What it does, in Python:

    from codebind_hf import CodeBindModel, CodeBindProcessor
    from codebind_hf import benchmarks
    from codebind_hf.evaluation import comparison_table, evaluate_benchmark

    model = CodeBindModel.from_pretrained("runs/mine/checkpoint")
    processor = CodeBindProcessor.from_pretrained("runs/mine/checkpoint")
    result = evaluate_benchmark(model, processor, benchmarks.get("nyu-d"), "DATA/nyu")
    print(comparison_table([result]))
"""

from codebind_hf.commands import app


def main() -> None:
    app.main("benchmark")


if __name__ == "__main__":
    main()
