"""Is it worth keeping code ids instead of floats? Bytes a vector and recall, against other ways of storing vectors.

    python examples/bench/codes.py --checkpoint runs/demo/checkpoint --output_dir runs/codes
    python examples/bench/codes.py --output_dir runs/codes          (trains tiny for a few minutes first)

The gallery is the test split of NineSenses, each modality by itself and all of them in one pool; queries are the
continuous embeddings of some of its objects. What is fitted (product quantizers, a codebook) is fitted to training
rows of all modalities, nothing is tuned. Recall@10 is the share of the ten answers whose exact cosine reaches the
tenth best. Needs the extra `index`. Written are `codes.json` and `codes.md`; with a checkpoint it takes two to five
minutes, and a second run differs in nothing but the date and the milliseconds.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from torch.nn.functional import normalize

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import NineSenses, PreparedDataset
from codebind_hf.evaluation import embed_dataset
from codebind_hf.evaluation.environment import environment
from codebind_hf.evaluation.provenance import checkpoint_of
from codebind_hf.inference import CodeIndex
from codebind_hf.model.codebooks import nearest_codes, sphere_points, spherical_kmeans, unit_segments
from codebind_hf.training import Recipe, build, train


K, SHORTLIST = 10, 40
Vectors = np.ndarray
# From queries (Q, dim) and a gallery (N, dim) to scores (Q, N); higher is nearer.
Storage = Callable[[Vectors, Vectors], np.ndarray]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a model that was trained on NineSenses; default: train tiny")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/codes"))
    parser.add_argument("--world", type=int, default=0, help="of NineSenses; that of the checkpoint")
    parser.add_argument("--objects", type=int, default=1000, help="test objects in the gallery")
    parser.add_argument("--queries", type=int, default=200, help="of every modality")
    parser.add_argument("--fit_objects", type=int, default=600, help="training objects of every pool to fit to")
    parser.add_argument("--steps", type=int, default=300, help="of every stage of training, without a checkpoint")
    parser.add_argument("--speed_items", type=int, default=50_000, help="random codes to time the backends with")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def trained(world: int, steps: int, seed: int, folder: Path) -> tuple[CodeBindModel, CodeBindProcessor]:
    rows = NineSenses("train", world)
    recipe = Recipe(preset="tiny", seed=seed, training={"max_steps": steps})
    texts = [template.format(name) for name in rows.class_names for template in rows.templates]
    model, processor = build(recipe, list(rows.modalities), texts)
    train(recipe, model, processor, PreparedDataset(rows, processor), folder)
    return model, processor


def code_scores(codes: torch.Tensor) -> Storage:
    """Nearest codes, kept in a `CodeIndex` and searched there."""

    def scores(queries: Vectors, gallery: Vectors) -> np.ndarray:
        segments = unit_segments(torch.from_numpy(gallery), codes.shape[1])
        ids = nearest_codes(segments.flatten(0, 1), codes).view(segments.shape[:2])
        index = CodeIndex(codes, segments.shape[1], "numpy")  # the whole ranking is wanted, and FAISS keeps heaps
        index.add(ids, "any")
        found = index.search(queries, top_k=len(gallery))
        table = np.empty(found.scores.shape, dtype=np.float32)
        np.put_along_axis(table, found.keys, found.scores, axis=1)
        return table

    return scores


def quantizer_scores(fit: Vectors, segments: int, rotated: bool) -> Storage:
    """Product quantization of 8 bits a segment by FAISS, after a learned rotation if `rotated` (OPQ)."""
    index = faiss.index_factory(fit.shape[1], f"{f'OPQ{segments},' if rotated else ''}PQ{segments}x8np")
    index.train(fit)

    def scores(queries: Vectors, gallery: Vectors) -> np.ndarray:
        stored = index.sa_decode(index.sa_encode(gallery))
        return queries @ normalize(torch.from_numpy(stored), dim=-1).numpy().T

    return scores


def sign_scores(directions: Vectors, rescore: str) -> Storage:
    """Signs along directions; the first 40 by Hamming distance are ranked again by `rescore`.

    "query": the float query against the same signs, which costs no byte; "int8": against a copy of one byte a number.
    """

    def scores(queries: Vectors, gallery: Vectors) -> np.ndarray:
        turned, signs = queries @ directions, np.where(gallery @ directions > 0, 1.0, -1.0).astype(np.float32)
        agreement = np.where(turned > 0, 1.0, -1.0).astype(np.float32) @ signs.T
        shortlist = np.argsort(-agreement, axis=1, kind="stable")[:, :SHORTLIST]
        scale = np.abs(gallery).max() / 127
        copy = np.round(gallery / scale) * scale
        again = turned @ signs.T if rescore == "query" else queries @ copy.T
        # Whatever is not on the shortlist stays behind it, in the order of the signs.
        table = agreement - 1e6
        np.put_along_axis(table, shortlist, np.take_along_axis(again, shortlist, 1), axis=1)
        return table

    return scores


def storages(model: CodeBindModel, fit: Vectors, seed: int) -> dict[str, tuple[str, Storage]]:
    """Name -> bytes a vector, and how it scores."""
    codes, dim = model.codebooks.shared.codes, fit.shape[1]
    segments = unit_segments(torch.from_numpy(fit), codes.shape[1]).flatten(0, 1)
    size = CodeIndex.from_model(model).bytes_per_vector
    spread = np.linalg.qr(np.random.default_rng(seed).standard_normal((8 * size, dim)))[0].T.astype(np.float32)
    eye = np.eye(dim, dtype=np.float32)
    return {
        "float32": (f"{4 * dim}", lambda queries, gallery: queries @ gallery.T),
        "codes of the model": (f"{size}", code_scores(codes)),
        "codes, book fitted afterwards": (f"{size}", code_scores(spherical_kmeans(segments, len(codes), seed=seed))),
        "PQ": (f"{size}", quantizer_scores(fit, size, rotated=False)),
        "OPQ": (f"{size}", quantizer_scores(fit, size, rotated=True)),
        "OPQ, half the bytes": (f"{size // 2}", quantizer_scores(fit, size // 2, rotated=True)),
        f"signs of {8 * size} directions, rescored by the query": (f"{size}", sign_scores(spread, "query")),
        "signs, rescored by the query": (f"{dim // 8}", sign_scores(eye, "query")),
        "signs, rescored by int8": (f"{dim // 8} + {dim}", sign_scores(eye, "int8")),
    }


def recall(scores: np.ndarray, exact: np.ndarray) -> float:
    """Share of the ten best by `scores` whose exact cosine reaches the tenth best."""
    found = torch.from_numpy(scores).topk(K, dim=1).indices.numpy()
    tenth = np.partition(exact, -K, axis=1)[:, [-K]]
    return float((np.take_along_axis(exact, found, 1) >= tenth - 1e-6).mean())


def finds_object(scores: np.ndarray) -> float:
    """Share of queries with the same object among the ten best, a tie counting as its expected value."""
    own = scores[np.arange(len(scores)), np.arange(len(scores))][:, None]
    better, tied = (scores > own + 1e-6).sum(1), (np.abs(scores - own) <= 1e-6).sum(1)
    return float(np.clip((K - better) / tied, 0, 1).mean())


def measured(storage: Storage, modalities: dict[str, Vectors], count: int) -> dict[str, dict[str, float]]:
    """For every query modality: recall in the galleries of the other modalities and in the pool, and objects found."""
    pool, result = np.concatenate(list(modalities.values())), {}
    for place, (name, vectors) in enumerate(modalities.items()):
        queries, others = vectors[:count], [other for key, other in modalities.items() if key != name]
        pairs = [(storage(queries, other), queries @ other.T) for other in others]
        mixed, exact = storage(queries, pool), queries @ pool.T
        for table in (mixed, exact):  # a query is no answer to itself
            table[np.arange(count), place * len(vectors) + np.arange(count)] = -np.inf
        result[name] = {
            "recall": float(np.mean([recall(*pair) for pair in pairs])),
            "recall_mixed": recall(mixed, exact),
            "object": float(np.mean([finds_object(scores) for scores, _ in pairs])),
        }
    return result


def speed(seed: int, items: int, segments: int = 128, num_codes: int = 1024) -> dict[str, dict[str, float]]:
    """Milliseconds a query, top 100 of random codes in the sizes of `ib-huge`, one query and 200 at a time."""
    rng, codes = np.random.default_rng(seed), sphere_points(num_codes, 8)
    ids, times = rng.integers(0, num_codes, (items, segments)), {}
    for backend in ("faiss", "numpy"):
        index = CodeIndex(codes, segments, backend)
        index.add(ids, "any")
        for count in (1, 200):
            queries = rng.standard_normal((count, 8 * segments))
            index.search(queries[:1])
            start = time.perf_counter()
            index.search(queries, top_k=100)
            times.setdefault(backend, {})[str(count)] = 1000 * (time.perf_counter() - start) / count
    return times


def table(results: dict[str, dict], key: str) -> str:
    modalities = list(next(iter(results.values()))["modalities"])
    lines = [
        f"| stored as | bytes | {' | '.join(modalities)} | mean |",
        f"| --- | ---: |{' ---: |' * (len(modalities) + 1)}",
    ]
    for name, entry in results.items():
        values = [100 * entry["modalities"][modality][key] for modality in modalities]
        lines.append(f"| {name} | {entry['bytes']} | {' | '.join(f'{x:.1f}' for x in [*values, np.mean(values)])} |")
    return "\n".join(lines)


def markdown(report: dict) -> str:
    titles = {
        "recall": "Recall@10 against exact float search, mean over the galleries of the other modalities",
        "recall_mixed": "Recall@10 against exact float search, one pool of all modalities",
        "object": "Same object among the ten best, mean over the galleries of the other modalities",
    }
    parts = [
        f"### {title}, by modality of the query\n\n{table(report['storages'], key)}" for key, title in titles.items()
    ]
    rows = [f"| {name} | {x['1']:.2f} | {x['200']:.2f} |" for name, x in report["speed_ms"].items()]
    head = "| backend | one query | 200 queries |\n| --- | ---: | ---: |\n"
    return "\n\n".join([*parts, f"### Milliseconds a query\n\n{head}" + "\n".join(rows)]) + "\n"


def main() -> None:
    arguments = parse_arguments()
    if arguments.checkpoint:
        checkpoint = checkpoint_of(arguments.checkpoint, "--checkpoint")
        model, processor = CodeBindModel.from_pretrained(checkpoint), CodeBindProcessor.from_pretrained(checkpoint)
    else:
        model, processor = trained(arguments.world, arguments.steps, arguments.seed, arguments.output_dir)
    count = arguments.fit_objects
    fit_rows = NineSenses("train", arguments.world, num_bridge=count, num_target=count)
    fit_modalities = embed_dataset(model, processor, fit_rows).modalities.values()
    fit = torch.cat([modality.continuous_embeds for modality in fit_modalities]).numpy()
    rows = NineSenses("test", arguments.world, num_rows=arguments.objects)
    embedded = embed_dataset(model, processor, rows).modalities
    # Where items tie, those that come first are taken, and queries are the first objects: their places must be random.
    order = np.random.default_rng(arguments.seed).permutation(len(rows))
    modalities = {name: modality.continuous_embeds.numpy()[order] for name, modality in embedded.items()}
    results = {}
    for name, (size, storage) in storages(model, fit, arguments.seed).items():
        results[name] = {"bytes": size, "modalities": measured(storage, modalities, min(arguments.queries, len(rows)))}
        print(f"{name}: done", flush=True)
    settings = {
        key: getattr(arguments, key) for key in ("world", "objects", "queries", "fit_objects", "speed_items", "seed")
    }
    settings["trained_here_for_steps"] = None if arguments.checkpoint else arguments.steps
    report = {"settings": settings, "environment": environment() | {"faiss": faiss.__version__}}
    report |= {"storages": results, "speed_ms": speed(arguments.seed, arguments.speed_items)}
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "codes.json").write_text(json.dumps(report, indent=1))
    (arguments.output_dir / "codes.md").write_text(markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
