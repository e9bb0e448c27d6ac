"""One cell of the table on NineSenses: a row, a world, a scarce sense and a seed, as numbers and as embeddings.

First weights, batches and noise are the same for all rows of one world and seed; a cell that is there is not computed
again.
"""

import copy
import io
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from binding import Settings, Standard, add_sense, bind, bridge, digest_of, parts_of, vector_encoder
from faults import drifted
from torch import Tensor
from worlds import TARGETS, VERSION, WIDTH, World, world

from codebind_hf import CodeBindModel
from codebind_hf.evaluation import linear_probe, retrieval_recall
from codebind_hf.evaluation.writing import write_text


_KS = (1, 10)
_AT_ONCE = 200


class Cells:
    """Cells over worlds.

    Args:
        cache: of worlds.
        folder: of the results.
        rows: settings by name.
        split: "validation" for choosing, "test" for reporting.
    """

    def __init__(self, cache: Path, folder: Path, rows: Mapping[str, Settings], split: str = "test") -> None:
        self.cache, self.folder, self.rows, self.split = cache, folder, rows, split
        self.world = lru_cache(maxsize=2)(lambda number: world(number, cache))

    def file(self, row: str, number: int, target: str, seed: int) -> Path:
        """Of a cell; other settings have files of their own."""
        return (
            self.folder / digest_of(self.rows[row], VERSION) / self.split / f"world{number}-seed{seed}-{target}.json"
        )

    def compute(self, row: str, number: int, target: str, seed: int) -> dict[str, Any]:
        """The numbers of a cell, from its file where it is there."""
        file = self.file(row, number, target, seed)
        if not file.is_file():
            found, arrays = self._cell(row, self.world(number), target, seed)
            stream = io.BytesIO()
            np.savez_compressed(stream, **arrays)
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".draft")
            draft.write_bytes(stream.getvalue())
            os.replace(draft, file.with_suffix(".npz"))
            write_text(file, json.dumps(found, indent=1) + "\n")
        return json.loads(file.read_text(encoding="utf-8"))

    def done(self, row: str, number: int, seed: int) -> bool:
        """Whether all senses of a row, world and seed are there."""
        return all(self.file(row, number, target, seed).is_file() for target in TARGETS)

    def arrays(self, row: str, number: int, target: str, seed: int) -> dict[str, np.ndarray]:
        """Embeddings of what is checked, by part, float32."""
        with np.load(self.file(row, number, target, seed).with_suffix(".npz"), allow_pickle=False) as found:
            return {part: values.astype(np.float32) for part, values in found.items()}

    def _bridge(self, row: str, known: World, seed: int) -> CodeBindModel:
        """Heads of pictures and texts, trained once a row, world and seed, and kept."""
        file = self.file(row, known.number, "bridge", seed).with_suffix(".pt")
        model = bridge(
            *(_standard(known, name)(known.arrays[f"bridge.{name}"]) for name in ("image", "text")),
            self.rows[row],
            seed,
            train=not file.is_file(),
        )
        if file.is_file():
            model.load_state_dict(torch.load(file, weights_only=True))
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(f".draft{os.getpid()}")
            torch.save(model.state_dict(), draft)
            os.replace(draft, file)
        return model.eval()

    def _cell(self, row: str, known: World, target: str, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        settings = self.rows[row]
        model = copy.deepcopy(self._bridge(row, known, seed))
        name = f"{target}_sense"
        others = {other: _standard(known, other)(known.arrays[f"{target}.{other}"]) for other in ("image", "text")}
        add_sense(model, name, {**vector_encoder(WIDTH, settings), "has_position": False})
        bind(model, name, known.tensor(f"{target}.values"), others, settings, seed)
        parts = _parts(model, name, known.tensor(f"{self.split}.{target}"))
        image = parts_of(model, "image", _standard(known, "image")(known.arrays[f"{self.split}.image"]))
        found: dict[str, Any] = {}
        for part in ("shared", "shared_codes"):
            words = _class_embeddings(model, known, part)
            right = known.arrays[f"{self.split}.label"]
            found[f"zero-shot {part}"] = float(((parts[part] @ words.T).argmax(1) == right).mean())
            found[f"image zero-shot {part}"] = float(((image[part] @ words.T).argmax(1) == right).mean())
            for label, query, gallery in (
                ("to image", parts[part], image[part]),
                ("from image", image[part], parts[part]),
            ):
                found[f"{label} {part}"] = retrieval_recall(query, gallery, _KS)
        train = _parts(model, name, known.tensor(f"{target}.values"))
        for attribute in known.attributes(target):
            labels = known.arrays[f"{target}.attribute.{attribute}"]
            checked = known.arrays[f"{self.split}.{target}.attribute.{attribute}"]
            found[f"knows {attribute}"] = {
                part: linear_probe(train[part], labels, parts[part], checked, seed).accuracy for part in parts
            }
        kept = dict(parts)
        # What a sensor says whose readings have moved, and one that has stopped.
        moved = drifted(known.tensor(f"{self.split}.{target}"), known.number)
        for state, values in (("drifted", moved), ("dead", torch.zeros(1, WIDTH))):
            said = _parts(model, name, values)
            kept |= {f"{state}.{part}": said[part] for part in ("shared", "shared_codes")}
        kept |= {f"image.{part}": image[part] for part in ("shared", "shared_codes")}
        return found, {part: values.astype(np.float16) for part, values in kept.items()}


def _standard(known: World, name: str) -> Standard:
    return Standard.of(known.arrays[f"bridge.{name}"])


def _parts(model: CodeBindModel, name: str, values: Tensor) -> dict[str, np.ndarray]:
    """Some at a time."""
    found = [parts_of(model, name, some) for some in values.split(_AT_ONCE)]
    return {part: np.concatenate([each[part] for each in found]) for part in found[0]}


def _class_embeddings(model: CodeBindModel, known: World, part: str) -> np.ndarray:
    """Of every class, the mean over its templates."""
    classes = known.arrays["classes"]
    flat = parts_of(model, "text", _standard(known, "text")(classes.reshape(-1, classes.shape[-1])))[part]
    means = flat.reshape(*classes.shape[:2], -1).mean(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)
