"""Are codes that were trained better than quantizing afterwards? FAISS's quantizers at equal bytes.

    python examples/ablation/quantizers.py --splits 0-9

Embeddings are those of pictures, texts and bound senses of the real study (after `make ablation`). Every quantizer is
fitted to the training pictures and texts of the bridge, as the shared codebook is, and to no bound sense. Two rows:
what hard alignment gave, quantized afterwards, and our embedding through its own codes. Written is
`docs/quantizers.json`, and a table is printed.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from tqdm.auto import tqdm


sys.path.append(str(Path(__file__).resolve().parent.parent / "real"))

from features import Features  # noqa: E402
from packages import default_cache  # noqa: E402
from rows import MAIN  # noqa: E402
from splits import held_out, numbers_of  # noqa: E402
from study import PLAN, Study  # noqa: E402
from tables import spread  # noqa: E402
from values import value  # noqa: E402

from codebind_hf.evaluation import retrieval_recall  # noqa: E402
from codebind_hf.evaluation.environment import environment  # noqa: E402
from codebind_hf.evaluation.report import markdown_table  # noqa: E402
from codebind_hf.evaluation.writing import write_text  # noqa: E402
from codebind_hf.model.codebooks import nearest_codes, spherical_kmeans, unit_segments  # noqa: E402


SENSES = ("speech_es", "points")
BYTES = 32
K = 10
# From training embeddings to what is left of others once they are stored.
Storage = Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", default="0-9")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of packages and features")
    parser.add_argument("--real_dir", type=Path, default=Path("runs/real/results"), help="of the real study")
    parser.add_argument("--output", type=Path, default=Path("docs/quantizers.json"))
    return parser.parse_args()


def of_faiss(factory: str) -> Storage:
    """A quantizer by its name there, such as `OPQ32,PQ32x8`."""

    def fitted(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        index = faiss.index_factory(train.shape[1], factory)
        index.train(train)
        if index.sa_code_size() > BYTES:
            raise ValueError(f"{factory}: takes {index.sa_code_size()} bytes; allowed: {BYTES}.")
        return lambda vectors: index.sa_decode(index.sa_encode(np.ascontiguousarray(vectors)))

    return fitted


def one_book(levels: int) -> Storage:
    """Segments that each are the sum of codes of one book for all segments: with one level what our codes are."""

    def fitted(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        width = train.shape[1] * levels // BYTES
        left = unit_segments(torch.from_numpy(train), width).flatten(0, 1)
        books = []
        for level in range(levels):
            # Only the first level's codes have one length; what a level leaves is smaller by as much for all.
            scale = float(left.norm(dim=1).mean())
            books.append((scale, spherical_kmeans(left / scale, 256, seed=level)))
            left = left - scale * books[-1][1][nearest_codes(left / scale, books[-1][1])]

        def stored(vectors: np.ndarray) -> np.ndarray:
            rest = unit_segments(torch.from_numpy(np.ascontiguousarray(vectors)), width).flatten(0, 1)
            kept = torch.zeros_like(rest)
            for scale, book in books:
                chosen = scale * book[nearest_codes(rest / scale, book)]
                kept, rest = kept + chosen, rest - chosen
            return kept.view(len(vectors), -1).numpy()

        return stored

    return fitted


STORAGES: dict[str, Storage] = {
    "residual": of_faiss(f"RQ{BYTES}x8"),
    "product of residuals": of_faiss(f"PRQ{BYTES // 4}x4x8"),
    "OPQ": of_faiss(f"OPQ{BYTES},PQ{BYTES}x8"),
    "PQ": of_faiss(f"PQ{BYTES}x8"),
    "RaBitQ": of_faiss("RaBitQ"),
    "one book": one_book(1),
    "one book, two codes a segment": one_book(2),
}


def of_codes(codes: torch.Tensor) -> Storage:
    """The codebook of a model, which is fitted already."""

    def stored(vectors: np.ndarray) -> np.ndarray:
        segments = unit_segments(torch.from_numpy(np.ascontiguousarray(vectors)), codes.shape[1])
        return codes[nearest_codes(segments.flatten(0, 1), codes)].view(len(vectors), -1).numpy()

    return lambda train: stored


def split_of(study: Study, row: str, seed: int) -> dict[str, dict[str, float]]:
    """By storage: `kept`, share of the ten nearest pictures by exact cosine that are found with both sides stored, and
    `R@10` of the picture of the same object, means over senses."""
    model, train = study.bridge_of(row, seed)
    test, pictures = held_out(study.features.things, seed, study.by), study.arrays(row, seed, "bridge")
    found: dict[str, dict[str, float]] = {}
    storages = (
        STORAGES if model.codebooks.shared is None else {"its own codes": of_codes(model.codebooks.shared.codes)}
    )
    for name, storage in {"exact": lambda train: lambda vectors: vectors, **storages}.items():
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


def kept(query: np.ndarray, gallery: np.ndarray, stored: Callable[[np.ndarray], np.ndarray]) -> float:
    exact, rough = query @ gallery.T, unit(stored(query)) @ unit(stored(gallery)).T
    best = np.argpartition(-exact, K, axis=1)[:, :K]
    answers = np.argpartition(-rough, K, axis=1)[:, :K]
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(best.tolist(), answers.tolist(), strict=True)]))


def recall(query: np.ndarray, gallery: np.ndarray, places: np.ndarray) -> float:
    return retrieval_recall(query, gallery, (K,), places)["recall_at_10"]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def main() -> None:
    arguments = parse_arguments()
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    features = Features(arguments.cache)
    study = Study(features, arguments.real_dir, rows={name: MAIN[name] for name in ("hard", "ours")}, senses={})
    splits = numbers_of(arguments.splits)
    found: dict[str, dict[int, dict[str, dict[str, float]]]] = {"hard": {}, "ours": {}}
    for seed in tqdm(splits, desc="splits"):
        for row in found:
            found[row][seed] = split_of(study, row, seed)
    entries = {
        f"{row}, {name}": {
            key: spread([each[name][key] for each in by.values()], splits=True) for key in ("kept", "R@10")
        }
        for row, by in found.items()
        for name in by[splits[0]]
    }
    write_text(
        arguments.output,
        json.dumps({"splits": splits, "bytes": BYTES, "entries": entries, "environment": environment()}, indent=1)
        + "\n",
    )
    table = [[name, value(entry["kept"]), value(entry["R@10"])] for name, entry in entries.items()]
    print(markdown_table([f"stored in {BYTES} bytes", "ten nearest found", "R@10"], table))


if __name__ == "__main__":
    main()
