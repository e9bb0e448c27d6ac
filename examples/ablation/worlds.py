"""A world of NineSenses for the ablation: pictures and texts as a frozen encoder says them, scarce senses as vectors.

Features of a picture are what a tower says that was trained once a world on plentiful pairs, which is mostly the
class, beside the principal components of its pixels, which know the instance as well. Every row of the table then
trains heads on these features, and an encoder of the scarce sense on the principal components of what it measured,
which few rows are enough to find.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from binding import Standard
from sklearn.decomposition import PCA
from torch import Tensor

from codebind_hf import CodeBindModel
from codebind_hf.data import CodeBindCollator, NineSenses, PreparedDataset
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.training import Recipe, build, train_only


TARGETS = ("depth", "tactile", "eeg")
# Counts up when the numbers of any world change.
VERSION = 4
# Numbers of a sense.
WIDTH = 128
_PAIRS, _ROWS, _STEPS, _BATCH, _RATE = 4000, 300, 500, 128, 2e-3
_CHECKED = {"validation": 400, "test": 800}
_BOTH = ("image", "text")


@dataclass
class World:
    """What a cell needs of one world, by names such as `bridge.image`, `depth.image`, `depth.values`, `test.depth`.

    Args:
        arrays: features `(rows, 64)`, of pictures 128 more, standardised vectors of senses `(rows, 128)`, labels and
            private attributes `(rows,)`, and `classes` `(classes, templates, 64)`, features of the classes' texts.
    """

    number: int
    arrays: dict[str, np.ndarray]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def attributes(self, target: str) -> list[str]:
        """Private ones of a sense."""
        prefix = f"{target}.attribute."
        return [name.removeprefix(prefix) for name in self.arrays if name.startswith(prefix)]


def world(number: int, cache: Path) -> World:
    """From its file where it is there; else rendered, and its encoder trained."""
    file = cache / f"world-{number}-{VERSION}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft.npz")
        np.savez(draft, **_arrays(number))
        os.replace(draft, file)
    with np.load(file) as stored:
        return World(number, dict(stored))


def _arrays(number: int) -> dict[str, np.ndarray]:
    senses = (*_BOTH, *TARGETS)
    rows = {
        "train": NineSenses("train", number, num_bridge=_PAIRS, num_target=_ROWS, modalities=senses),
        **{split: NineSenses(split, number, num_rows=size, modalities=senses) for split, size in _CHECKED.items()},
    }
    names, templates = rows["train"].class_names, rows["train"].templates
    texts = [[template.format(name) for template in templates] for name in names]
    model, processor = _embedder(rows["train"].modalities, [text for each in texts for text in each])
    items = {split: PreparedDataset(each, processor).items for split, each in rows.items()}
    train = items["train"]
    pairs = [item for item in train if not any(_tensor(sense) in item["tensors"] for sense in TARGETS)]
    _fit(model, pairs, processor, number)
    place = {name: i for i, name in enumerate(names)}
    pixels = PCA(WIDTH, svd_solver="randomized", random_state=number).fit(_values(pairs, "image"))

    def features(own: Sequence[dict[str, Any]], sense: str) -> np.ndarray:
        tokens = _tokens(model, own, processor, sense)
        if sense == "text":
            return tokens
        seen = pixels.transform(_values(own, "image"))
        return np.hstack([tokens, seen]).astype(np.float32)

    found: dict[str, np.ndarray] = {}
    for name, own in (("bridge", pairs), *items.items()):
        if name != "train":
            found |= {f"{name}.{sense}": features(own, sense) for sense in _BOTH}
    words = processor(text=[text for each in texts for text in each], return_tensors="pt")
    with torch.no_grad():
        tokens = model.get_pooled_tokens("text", words["input_ids"], words["attention_mask"])
    found["classes"] = tokens.reshape(len(names), len(templates), -1).numpy()
    for sense in TARGETS:
        own = [item for item in train if _tensor(sense) in item["tensors"]]
        found |= {f"{sense}.{other}": features(own, other) for other in _BOTH}
        values = _values(own, sense)
        pca = PCA(WIDTH, svd_solver="full").fit(values)
        standard = Standard.of(pca.transform(values))
        found[f"{sense}.values"] = standard(pca.transform(values)).numpy()
        found |= {
            f"{split}.{sense}": standard(pca.transform(_values(items[split], sense))).numpy() for split in _CHECKED
        }
        for attribute in rows["train"].private_attributes[sense]:
            for name, some in ((sense, own), *((split, items[split]) for split in _CHECKED)):
                key = f"{sense}.attribute.{attribute}" if name == sense else f"{name}.{sense}.attribute.{attribute}"
                found[key] = np.array([item["attributes"][f"{sense}.{attribute}"] for item in some])
    for split in _CHECKED:
        found[f"{split}.label"] = np.array([place[item["label"]] for item in items[split]])
    return found


def _embedder(modalities: Sequence[str], texts: Sequence[str]) -> tuple[CodeBindModel, Any]:
    """The towers of `tiny` without codes; one token for both parts, so that the decoder teaches it the instance."""
    fields: dict[str, Any] = {
        "num_shared_codes": 0,
        "num_specific_codes": 0,
        "specific_readout": "cls",
        "loss_weights": {"align": 1.0, "recon": 2.0, "decorr": 0.0, "views": 0.0, "uni": 0.0, "commit": 0.0},
    }
    return build(Recipe(preset="tiny", model=fields), modalities, texts)


def _fit(model: CodeBindModel, pairs: Sequence[dict[str, Any]], processor: Any, seed: int) -> None:
    collate = CodeBindCollator(processor)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    train_only(model, _BOTH)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=_RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS, pct_start=0.1)
    model.train()
    for _ in range(_STEPS):
        chosen = torch.randperm(len(pairs), generator=generator)[:_BATCH].tolist()
        model(**collate([pairs[i] for i in chosen])).loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


@torch.no_grad()
def _tokens(model: CodeBindModel, items: Sequence[dict[str, Any]], processor: Any, sense: str) -> np.ndarray:
    """What the tower of a picture or text gives its heads, `(items, 64)`."""
    collate, name = CodeBindCollator(processor), _tensor(sense)
    found = []
    for start in range(0, len(items), _BATCH):
        batch = collate(items[start : start + _BATCH])
        found.append(model.get_pooled_tokens(sense, batch[name], batch.get("attention_mask"))[:, 0])
    return torch.cat(found).numpy()


def _tensor(sense: str) -> str:
    return MODALITIES[sense].tensor


def _values(items: Sequence[dict[str, Any]], sense: str) -> np.ndarray:
    return torch.stack([item["tensors"][_tensor(sense)] for item in items]).flatten(1).numpy()
