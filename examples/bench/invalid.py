"""How often does an item with holes find its own clean copy first, with each policy for what is no measurement?

    OMP_NUM_THREADS=1 python examples/bench/invalid.py

Depth maps and clouds of NineSenses, an untrained `tiny` of several seeds, continuous embeddings. Expected on a laptop
core: half a minute, and the table of docs/files.md. `--checkpoint FOLDER` asks a trained model instead.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.data import NineSenses
from codebind_hf.inference import Depth, PointCloud
from codebind_hf.training.tokenization import build_tokenizer


def spoiled_maps(share: float, value: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """`value` in place of a share of the pixels."""
    return lambda depth, chance: np.where(chance.random(depth.shape) < share, np.float32(value), depth)


def spoiled_clouds(share: float, distance: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """A share of points at 0 0 0, and with a `distance` one point that far away."""

    def spoiled(points: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        points = np.where(chance.random((len(points), 1)) < share, np.float32(0), points)
        return np.concatenate([points, [[distance, 0, 0]]]).astype(np.float32) if distance else points

    return spoiled


CASES: dict[str, tuple[str, Any]] = {
    **{f"depth, {100 * s:g} % at 0": ("depth", spoiled_maps(s, 0.0)) for s in (0.01, 0.05, 0.1)},
    "depth, 5 % at 1e10": ("depth", spoiled_maps(0.05, 1e10)),
    **{f"points, {100 * s:g} % at 0 0 0": ("point_cloud", spoiled_clouds(s, 0.0)) for s in (0.05, 0.2)},
    "points, one stray": ("point_cloud", spoiled_clouds(0.0, 100.0)),
}
POLICIES: dict[str, tuple[Any, str]] = {"depth": (Depth, "fill"), "point_cloud": (PointCloud, "drop")}


def found_first(model: Any, processor: Any, clean: np.ndarray, items: list[Any]) -> float:
    """Share of items whose nearest of the clean ones is their own, in percent."""
    embeds = model.encode(items, processor, quantize=False)
    return 100.0 * float(np.mean((embeds @ clean.T).argmax(1) == np.arange(len(clean))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="of a trained model; without one, untrained models are asked")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = NineSenses("test", num_rows=options.items, modalities=list(POLICIES))
    values = {name: [np.asarray(row[name]) for row in rows] for name in POLICIES}
    shares: dict[tuple[str, str | None], list[float]] = {}
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        if options.checkpoint:
            model = CodeBindModel.from_pretrained(options.checkpoint).eval()
            processor = CodeBindProcessor.from_pretrained(options.checkpoint)
        else:
            config = CodeBindConfig.from_preset("tiny")
            model = CodeBindModel(config).eval()
            processor = CodeBindProcessor.from_model_config(config, build_tokenizer(["a red ball"] * 3))
        for name, (item, policy) in POLICIES.items():
            clean = model.encode([item(value) for value in values[name]], processor, quantize=False)
            for case in [case for case, (modality, _) in CASES.items() if modality == name]:
                chance = np.random.default_rng(seed)
                spoiled = [CASES[case][1](value, chance) for value in values[name]]
                for chosen in (None, policy):
                    items = [item(value, invalid=chosen) for value in spoiled]
                    shares.setdefault((case, chosen), []).append(found_first(model, processor, clean, items))
    for (case, chosen), found in shares.items():
        said = f"invalid={chosen!r}" if chosen else "as measured"
        print(f"{case:24s} {said:15s} {np.mean(found):5.1f} % ({min(found):.1f} to {max(found):.1f})")


if __name__ == "__main__":
    main()
