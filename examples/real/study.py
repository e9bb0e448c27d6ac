"""One cell of the study: a row of the table, a split and a sense, as numbers and as embeddings of what is held out.

A cell that is there is not computed again. Rows differ in their losses alone: split, first weights, batches and noise
are the same for all of one seed.
"""

import copy
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from binding import (
    ALONE,
    OURS,
    PAPER,
    Settings,
    Standard,
    add_sense,
    bind,
    bridge,
    digest_of,
    parts_of,
    vector_encoder,
)
from faults import drifted
from features import SPEECH, Features
from readings import closed_form, readings
from splits import OBJECTS, held_out

from codebind_hf import CodeBindModel
from codebind_hf.evaluation import retrieval_recall
from codebind_hf.evaluation.writing import write_text


ROWS: dict[str, Settings] = {"codebind": OURS, "infonce": ALONE, "paper": PAPER}
# All languages as one sense, so that which language it is becomes private to it.
ALL_SPEECH = "speech"
# Sense -> (collection, senses of its things that are put together).
PLAN: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("stamps", (name,)) for name in SPEECH},
    ALL_SPEECH: ("stamps", SPEECH),
    **{name: ("furniture", (name,)) for name in ("points", "depth", "video", "touch")},
    "eeg": ("eeg", ("eeg",)),
    "imu": ("imu", ("imu",)),
}
# What a row is trained on, where that is not all.
SENSES_OF = {"paper": (ALL_SPEECH,)}
# What is probed for private labels.
PROBED = (ALL_SPEECH, "points", "depth", "imu")
# Senses of one place, which check each other.
MESH_SENSES = ("points", "depth", "video", "touch")
# Of what a cell keeps.
VERSION = 2
_KS = (1, 10)


@dataclass
class Rows:
    """Vectors of one sense and what is known of each, over train and test things.

    Args:
        vectors: `(rows, width)`.
        things: number of each row's thing in its collection.
        variant: which sense of the thing, such as `speech_es`.
        test: whether each row is held out.
        rates: letters a second, of speech.
    """

    vectors: np.ndarray
    things: np.ndarray
    variant: np.ndarray
    test: np.ndarray
    rates: np.ndarray | None = None


class Study:
    """Cells over the features of a cache.

    Args:
        features: of everything that is there.
        folder: of the results.
        by: how names are grouped, as of `things.groups_of`.
        rows: settings by name.
        senses: of a row, where not all of them are trained.
        controlled: the row whose cells have what needs no training, too: closed forms, and what raw vectors know.
    """

    def __init__(
        self,
        features: Features,
        folder: Path,
        by: str = "name",
        rows: Mapping[str, Settings] | None = None,
        senses: Mapping[str, Sequence[str]] | None = None,
        controlled: str = "codebind",
    ) -> None:
        self.features, self.folder, self.by = features, folder, by
        self.controlled = controlled
        self.rows = ROWS if rows is None else rows
        self.senses_of = SENSES_OF if senses is None else senses

    @property
    def senses(self) -> list[str]:
        """Those whose packages are there."""
        there = self.features.things
        return [s for s, (c, parts) in PLAN.items() if c in there and set(parts) <= set(self.features.senses(c))]

    def cells(self, seeds: list[int]) -> list[tuple[str, int, str]]:
        """Row, seed and sense of every cell, a split at a time."""
        return [
            (row, seed, sense)
            for seed in seeds
            for row in self.rows
            for sense in ("bridge", *self.senses)
            if sense == "bridge" or sense in self.senses_of.get(row, self.senses)
        ]

    def file(self, row: str, seed: int, sense: str) -> Path:
        """Of a cell, by what was trained and not by its name, so that two tables share a row."""
        return self.folder / self.by / digest_of(self.rows[row], VERSION) / f"{seed}" / f"{sense}.json"

    def compute(self, row: str, seed: int, sense: str) -> dict[str, Any]:
        """The numbers of a cell, from its file where it is there."""
        file = self.file(row, seed, sense)
        if not file.is_file():
            found, arrays = self._bridge_cell(row, seed) if sense == "bridge" else self._cell(row, seed, sense)
            _write_arrays(file.with_suffix(".npz"), arrays)
            write_text(file, json.dumps(found, indent=1) + "\n")
        return json.loads(file.read_text(encoding="utf-8"))

    def arrays(self, row: str, seed: int, sense: str) -> dict[str, np.ndarray]:
        """What a cell kept of what is held out: embeddings by part, float32, and `things`, their numbers."""
        with np.load(self.file(row, seed, sense).with_suffix(".npz"), allow_pickle=False) as found:
            return {name: x.astype(np.float32) if x.dtype == np.float16 else x for name, x in found.items()}

    @cached_property
    def _texts(self) -> dict[str, np.ndarray]:
        return {name: self.features.vectors(name, "text") for name in self.features.things}

    @cached_property
    def _images(self) -> dict[str, np.ndarray]:
        return {name: self.features.vectors(name, "image") for name in OBJECTS if name in self.features.things}

    def _standards(self, test: dict[str, np.ndarray]) -> tuple[Standard, Standard]:
        """Of pictures and sentences of training things."""
        image = np.concatenate([vectors[~test[name]] for name, vectors in self._images.items()])
        text = np.concatenate([self._texts[name][~test[name]] for name in self._images])
        return Standard.of(image), Standard.of(text)

    def _bridge(self, row: str, seed: int, test: dict[str, np.ndarray]) -> CodeBindModel:
        """Trained once a row and seed, and kept."""
        file = self.file(row, seed, "bridge").with_suffix(".pt")
        image, text = self._standards(test)
        pairs = (
            image(np.concatenate([vectors[~test[name]] for name, vectors in self._images.items()])),
            text(np.concatenate([self._texts[name][~test[name]] for name in self._images])),
        )
        settings = self.rows[row]
        model = bridge(*pairs, settings, seed, train=not file.is_file())
        if file.is_file():
            model.load_state_dict(torch.load(file, weights_only=True))
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".draft")
            torch.save(model.state_dict(), draft)
            os.replace(draft, file)
        return model.eval()

    def rows_of(self, sense: str, test: dict[str, np.ndarray]) -> Rows:
        """Vectors of a sense of the plan."""
        collection, parts = PLAN[sense]
        numbers = [np.array(self.features.rows(collection, part)) for part in parts]
        things = np.concatenate(numbers)
        variant = np.repeat(parts, [len(each) for each in numbers])
        vectors = np.concatenate([self.features.vectors(collection, part) for part in parts])
        rates = np.concatenate([self.features.rates(part) for part in parts]) if sense == ALL_SPEECH else None
        return Rows(vectors, things, variant, test[collection][things], rates)

    def _galleries(
        self, model: CodeBindModel, collection: str, test: dict[str, np.ndarray]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Both read-outs of pictures and sentences of a collection's things that are held out."""
        image, text = self._standards(test)
        own = test[collection]
        return {
            "image": parts_of(model, "image", image(self._images[collection][own])),
            "text": parts_of(model, "text", text(self._texts[collection][own])),
        }

    def bridge_of(self, row: str, seed: int) -> tuple[CodeBindModel, np.ndarray]:
        """A row's bridge, and its shared embeddings of all pictures, then all texts, that it was trained on."""
        test = held_out(self.features.things, seed, self.by)
        model = self._bridge(row, seed, test)
        image, text = self._standards(test)
        known = [
            parts_of(model, sense, standard(vectors[name][~test[name]]))["shared"]
            for sense, standard, vectors in (("image", image, self._images), ("text", text, self._texts))
            for name in self._images
        ]
        return model, np.concatenate(known)

    def _bridge_cell(self, row: str, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        test = held_out(self.features.things, seed, self.by)
        model = self._bridge(row, seed, test)
        found: dict[str, Any] = {"test": {name: int(mask.sum()) for name, mask in test.items()}}
        arrays = {}
        for name in self._images:
            galleries = self._galleries(model, name, test)
            for one, other in (("image", "text"), ("text", "image")):
                found[f"{name} {one} to {other}"] = {
                    part: _recall(galleries[one][part], galleries[other][part]) for part in ("shared", "shared_codes")
                }
            arrays |= {f"{name}-{sense}-{part}": x for sense, v in galleries.items() for part, x in v.items()}
        return found, arrays

    def _cell(self, row: str, seed: int, sense: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        settings, collection = self.rows[row], PLAN[sense][0]
        test = held_out(self.features.things, seed, self.by)
        model = copy.deepcopy(self._bridge(row, seed, test))
        rows = self.rows_of(sense, test)
        train = ~rows.test
        image, text = self._standards(test)
        own = Standard.of(rows.vectors[train])
        others = {"text": text(self._texts[collection][rows.things[train]])}
        if collection in self._images:
            others["image"] = image(self._images[collection][rows.things[train]])
        name = f"{sense}_vectors"
        add_sense(model, name, {**vector_encoder(rows.vectors.shape[1], settings), "has_position": False})
        bind(model, name, own(rows.vectors[train]), others, settings, seed)
        parts = parts_of(model, name, own(rows.vectors))
        found: dict[str, Any] = {
            "rows": {"train": int(train.sum()), "test": int(rows.test.sum())},
            "parameters": sum(x.numel() for key, x in model.named_parameters() if f".{name}." in key),
        }
        if collection in self._images:
            galleries = self._galleries(model, collection, test)
            place = np.cumsum(test[collection]) - 1
            for other, gallery in galleries.items():
                found[f"to {other}"] = {
                    part: _recall(parts[part][rows.test], gallery[part], place[rows.things[rows.test]])
                    for part in ("shared", "shared_codes")
                }
            if row == self.controlled:
                bridged = {
                    "image": parts_of(model, "image", image(self._images[collection]))["shared"],
                    "text": parts_of(model, "text", text(self._texts[collection]))["shared"],
                }
                vectors = own(rows.vectors).numpy()
                found["closed form"] = closed_form(rows, vectors, bridged, test[collection], _KS)
        else:
            found["zero-shot"] = self._zero_shot(model, text, collection, parts, rows)
        if sense in PROBED:
            things, sentences = self.features.things[collection], self._texts[collection]
            raw = own(rows.vectors).numpy() if row == self.controlled else None
            judged = parts if settings.codes or settings.specific else {"shared": parts["shared"]}
            found["readings"] = readings(sense, things, rows, judged, sentences, raw, seed)
        kept = {part: x[rows.test] for part, x in parts.items()}
        if sense in MESH_SENSES:
            moved = parts_of(model, name, drifted(own(rows.vectors[rows.test]), seed))
            kept |= {f"drifted.{part}": moved[part] for part in ("shared", "shared_codes")}
        return found, {**{part: x.astype(np.float16) for part, x in kept.items()}, "things": rows.things[rows.test]}

    def _zero_shot(
        self, model: CodeBindModel, text: Standard, collection: str, parts: dict[str, np.ndarray], rows: Rows
    ) -> dict[str, Any]:
        """Accuracy by the words of the classes, within each kind of recording for EEG, which has several."""
        things = self.features.things[collection]
        sentences = [things[number].sentence for number in rows.things]
        kinds = [things[number].kind if collection == "eeg" else collection for number in rows.things]
        found = {}
        for kind in sorted(set(kinds)):
            own = np.array([each == kind for each in kinds])
            names = sorted({sentence for sentence, each in zip(sentences, own, strict=True) if each})
            place = {sentences[i]: rows.things[i] for i in np.flatnonzero(own)}
            words = text(self._texts[collection][[place[name] for name in names]])
            right = np.array([names.index(sentences[i]) for i in np.flatnonzero(own & rows.test)])
            classes = parts_of(model, "text", words)
            found[kind] = {
                part: float(((parts[part][own & rows.test] @ classes[part].T).argmax(1) == right).mean())
                for part in ("shared", "shared_codes")
            } | {"largest": float(np.bincount(right).max() / len(right)), "n": len(right)}
        return found


def _recall(query: np.ndarray, gallery: np.ndarray, targets: np.ndarray | None = None) -> dict[str, float]:
    return retrieval_recall(query, gallery, _KS, targets)


def _write_arrays(file: Path, arrays: dict[str, np.ndarray]) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_bytes(stream.getvalue())
    os.replace(draft, file)
