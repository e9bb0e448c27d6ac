"""Hand strange values and damaged files to every door, and count what is not clear: `make fuzz`.

    python tests/scripts/fuzz.py --output runs/fuzz.json
    python tests/scripts/fuzz.py --cases 1000000 --seed 1 --output runs/fuzz.json

A call may give a result or be refused in our own words; anything else is unclear: an error of another library, a call
of more than ten seconds, or one that takes more memory than it may. Exits with 1 if there is any. The cases are the
same for a seed.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil


sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from common import tiny_inputs, tiny_model
from fuzzing.doors import (
    configuration_calls,
    embedding_calls,
    forward_calls,
    index_calls,
    processor_calls,
    row_calls,
)
from fuzzing.files import damaged, read_all, whole_files, write_with_extras
from fuzzing.outcomes import REFUSED, TAKEN, UNCLEAR, Outcomes
from fuzzing.settings import recipe_calls

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.inference import CodeIndex
from codebind_hf.training.adapters import add_lora, load_adapter, save_adapter
from codebind_hf.training.tokenization import build_tokenizer


# Of a thousand cases, how many each kind of door gets; one that loads a model takes a second.
SHARES = {
    **{"processor": 230, "forward": 100, "embeddings": 100, "index": 110, "rows": 90, "configurations": 100},
    **{"recipes": 120, "media": 130, "index files": 12, "checkpoints": 5, "adapters": 3},
}
LIMIT_SECONDS, LIMIT_MEGABYTES = 10.0, 2048


def damaged_folders(whole: Path, work: Path, chance: np.random.Generator, cases: int) -> Iterator[tuple[str, Path]]:
    """Copies of a folder in which one file is damaged or missing: what was done, and the folder."""
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for case in range(cases):
        target = work / f"case-{case}"
        shutil.copytree(whole, target)
        name = names[chance.integers(len(names))]
        data = (target / name).read_bytes()
        if chance.random() < 0.1 or not data:
            (target / name).unlink()
        else:
            (target / name).write_bytes(damaged(data, chance))
        yield str(name), target
        shutil.rmtree(target)


class Doors:
    """Every door, with what it needs.

    Args:
        folder: for files.
        seed: of what is tried.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.chance = folder, seed, np.random.default_rng(seed)
        self.outcomes = Outcomes(LIMIT_SECONDS, LIMIT_MEGABYTES, stop=False)
        self.model = tiny_model().eval()
        tokenizer = build_tokenizer(["a red ball"] * 3, 600, 12)
        self.processor = CodeBindProcessor.from_model_config(self.model.config, tokenizer)

    def run(self, name: str, cases: int) -> None:
        """Try one kind of door."""
        calls = {
            "processor": lambda: processor_calls(self.processor),
            "forward": lambda: forward_calls(self.model),
            "embeddings": lambda: embedding_calls(self.model, self.processor),
            "index": index_calls,
            "rows": lambda: row_calls(self.processor, self.folder),
            "configurations": configuration_calls,
            "recipes": lambda: recipe_calls(self.folder),
        }
        if name in calls:
            self.outcomes.try_all(calls[name](), cases, self.seed)
        else:
            {"media": self.media, "index files": self.index_files}.get(name, lambda n: self.weights(name, n))(cases)

    def media(self, cases: int) -> None:
        """Damaged files of every format."""
        whole = self.folder / "media"
        whole.mkdir()
        files = {**whole_files(whole), **write_with_extras(whole)}
        for name, modality in files.items():
            # Whole files are read; and what libraries import when they are first used is no hang.
            read_all(modality, whole / name)
        for case in range(cases):
            name, modality = list(files.items())[case % len(files)]
            file = self.folder / name
            file.write_bytes(damaged((whole / name).read_bytes(), self.chance))
            self.outcomes.of(f"file {file.suffix}", lambda file=file, modality=modality: read_all(modality, file))

    def index_files(self, cases: int) -> None:
        """Damaged folders of an index, searched once."""
        whole = self.folder / "index"
        index, config = CodeIndex.from_model(self.model), self.model.config
        ids, own = (
            torch.zeros(9, config.num_segments_of(part, "vision"), dtype=torch.long) for part in ("shared", "specific")
        )
        index.add(ids, "image", list("abcdefghi"), own)
        index.save(whole)
        query = [np.ones((1, config.dim_of(part, "vision")), np.float32) for part in ("shared", "specific")]

        def search(folder: Path) -> Any:
            return CodeIndex.load(folder).search(query, top_k=3, by="both")

        for _, folder in damaged_folders(whole, self.folder, self.chance, cases):
            self.outcomes.of("index files", lambda folder=folder: search(folder), folder=folder)

    def weights(self, name: str, cases: int) -> None:
        """Damaged folders of a checkpoint or an adapter, loaded and used."""
        whole, inputs = self.folder / name, tiny_inputs(self.model.config)
        base = self.folder / "base"
        self.model.save_pretrained(base)
        if name == "checkpoints":
            shutil.copytree(base, whole)
            self.processor.save_pretrained(whole)
        else:
            adapted = CodeBindModel.from_pretrained(base)
            add_lora(adapted, ["vision"])
            save_adapter(adapted, whole)

        def use(folder: Path) -> Any:
            if name == "checkpoints":
                CodeBindProcessor.from_pretrained(folder)
                return CodeBindModel.from_pretrained(folder)(**inputs)
            model = CodeBindModel.from_pretrained(base)
            load_adapter(model, folder)
            return model(**inputs)

        for file, folder in damaged_folders(whole, self.folder, self.chance, cases):
            self.outcomes.of(f"{name}: {Path(file).suffix}", lambda folder=folder: use(folder), folder=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help=f"one of {', '.join(SHARES)}")
    parser.add_argument("--output", type=Path, help="JSON file for the counts")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    shares = {name: share for name, share in SHARES.items() if arguments.only in (None, name)}
    doors: dict[str, dict[str, int]] = {}
    unclear: list[str] = []
    begin = time.monotonic()
    for name, share in shares.items():
        with tempfile.TemporaryDirectory() as folder:
            tried = Doors(Path(folder), arguments.seed)
            tried.run(name, max(1, arguments.cases * share // sum(shares.values())))
        counts = tried.outcomes.counts
        doors[name] = {
            kind: sum(counts[key] for key in counts if key[1] == kind) for kind in (TAKEN, REFUSED, UNCLEAR)
        }
        unclear += tried.outcomes.unclear
        memory = psutil.Process().memory_info().rss / 1e6
        shown = ", ".join(f"{number} {kind}" for kind, number in doors[name].items())
        print(f"{name}: {shown} ({time.monotonic() - begin:.0f} s, {memory:.0f} MB)", flush=True)
    for line in sorted(set(unclear)):
        print(f"UNCLEAR {line}")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"seed": arguments.seed, "doors": doors}, indent=1))
    if unclear:
        raise SystemExit(f"error: {len(unclear)} outcomes were not clear; see above.")


if __name__ == "__main__":
    main()
