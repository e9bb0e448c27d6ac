"""Are codes that were trained better than quantizing afterwards? FAISS's quantizers at equal bytes.

    python examples/ablation/quantizers.py
    python examples/ablation/quantizers.py --bytes 16 --splits 0-4

Embeddings are those of pictures, texts and bound senses of the real study. Every quantizer is fitted to the training
pictures and texts of the bridge, as the shared codebook is, and to no bound sense. It stores what hard alignment gave,
and our embedding, which also has codes of its own. Written are `docs/quantizers.json`, and a section of
`docs/evidence.md` when that is next written; a table is printed. What is there is not done again.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from tqdm.auto import tqdm


sys.path.append(str(Path(__file__).resolve().parent.parent / "real"))

from equal_bytes import OWN, compared, table_of_sizes  # noqa: E402
from features import Features  # noqa: E402
from packages import default_cache  # noqa: E402
from rows import FULL  # noqa: E402
from splits import held_out, numbers_of  # noqa: E402
from storages import Storage, Stored, of_codes, storages  # noqa: E402
from study import PLAN, Study  # noqa: E402
from tables import CONTROL  # noqa: E402

from codebind_hf.evaluation import retrieval_recall  # noqa: E402
from codebind_hf.evaluation.environment import environment  # noqa: E402
from codebind_hf.evaluation.writing import write_text  # noqa: E402


SENSES = ("speech_es", "points")
K = 10
# By bytes, our row whose codes take as many.
ROWS = {32: "ours", 16: "ours, code width 8"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", default="0-9")
    parser.add_argument("--bytes", default=",".join(map(str, ROWS)), help=f"of {', '.join(map(str, ROWS))}")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of packages and features")
    parser.add_argument("--real_dir", type=Path, default=Path("runs/real/results"), help="of the real study")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/ablation/quantizers"))
    parser.add_argument("--output", type=Path, default=Path("docs/quantizers.json"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    arguments.bytes = numbers_of(arguments.bytes)
    if unknown := sorted(set(arguments.bytes) - set(ROWS)):
        parser.error(f"--bytes: got {', '.join(map(str, unknown))}; allowed: {', '.join(map(str, ROWS))}.")
    return arguments


def split_of(study: Study, row: str, seed: int, size: int) -> dict[str, dict[str, float]]:
    """By storage: `kept`, share of the ten nearest pictures by exact cosine that are found with both sides stored, and
    `R@10` of the picture of the same object, means over senses."""
    for cell in ("bridge", *SENSES):
        study.compute(row, seed, cell)
    model, train = study.bridge_of(row, seed)
    test, pictures = held_out(study.features.things, seed, study.by), study.arrays(row, seed, "bridge")
    exact: Storage = lambda train: lambda vectors: vectors  # noqa: E731
    ways = {"exact": exact, **storages(size)}
    if model.codebooks.shared is not None:
        ways[OWN] = of_codes(model.codebooks.shared.codes)
    found: dict[str, dict[str, float]] = {}
    for name, storage in ways.items():
        stored = storage(train)
        values: dict[str, list[float]] = {"kept": [], "R@10": []}
        for sense in SENSES:
            own = study.arrays(row, seed, sense)
            collection = PLAN[sense][0]
            gallery = pictures[f"{collection}-image-shared"]
            places = np.searchsorted(np.flatnonzero(test[collection]), own["things"])
            values["R@10"].append(recall(unit(stored(own["shared"])), unit(stored(gallery)), places))
            values["kept"].append(kept(own["shared"], gallery, stored))
        found[name] = {key: float(np.mean(each)) for key, each in values.items()}
    return found


def kept(query: np.ndarray, gallery: np.ndarray, stored: Stored) -> float:
    exact, rough = query @ gallery.T, unit(stored(query)) @ unit(stored(gallery)).T
    best = np.argpartition(-exact, K, axis=1)[:, :K]
    answers = np.argpartition(-rough, K, axis=1)[:, :K]
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(best.tolist(), answers.tolist(), strict=True)]))


def recall(query: np.ndarray, gallery: np.ndarray, places: np.ndarray) -> float:
    return retrieval_recall(query, gallery, (K,), places)["recall_at_10"]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


_STATE: dict[str, Study] = {}


def _begin(cache: Path, real_dir: Path) -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    rows = {name: FULL[name] for name in (CONTROL, *ROWS.values())}
    _STATE["study"] = Study(Features(cache), real_dir, rows=rows, senses={})


def _computed(job: tuple[int, int, str, Path]) -> tuple[int, int, str, Mapping[str, Any]]:
    size, seed, row, folder = job
    file = folder / f"{size}-{_STATE['study'].file(row, seed, 'bridge').parent.parent.name}-{seed}.json"
    if not file.is_file():
        write_text(file, json.dumps(split_of(_STATE["study"], row, seed, size), indent=1) + "\n")
    return size, seed, row, json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    arguments = parse_arguments()
    splits = numbers_of(arguments.splits)
    jobs = [
        (size, seed, row, arguments.output_dir)
        for size in arguments.bytes
        for seed in splits
        for row in (CONTROL, ROWS[size])
    ]
    found: dict[int, dict[str, dict[int, Any]]] = {size: {CONTROL: {}, ROWS[size]: {}} for size in arguments.bytes}
    with concurrent.futures.ProcessPoolExecutor(
        arguments.workers,
        multiprocessing.get_context("spawn"),
        _begin,
        (arguments.cache, arguments.real_dir),
    ) as pool:
        for size, seed, row, values in tqdm(pool.map(_computed, jobs), total=len(jobs), desc="embeddings stored"):
            found[size][row][seed] = values
    result = {
        "splits": splits,
        "senses": list(SENSES),
        "sizes": {str(size): compared(rows[CONTROL], rows[ROWS[size]]) for size, rows in found.items()},
        "environment": environment(),
    }
    write_text(arguments.output, json.dumps(result, indent=1) + "\n")
    print("\n".join(table_of_sizes(result)))


if __name__ == "__main__":
    main()
