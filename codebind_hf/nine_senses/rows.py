"""NineSenses, the embedded data set: which objects are in which split, and with which of their modalities?"""

import operator
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset

from codebind_hf.nine_senses.arrow import build_dataset
from codebind_hf.nine_senses.export import export_rows
from codebind_hf.nine_senses.rendering import (
    NINE_MODALITIES,
    NUM_VALUES,
    PRIVATE_ATTRIBUTES,
    TEMPLATES,
    render_modalities,
)
from codebind_hf.nine_senses.world import CLASS_NAMES, DIFFICULTIES, FACTORS, SceneObject, draw_object, draw_world
from codebind_hf.renamed import renamed_attribute, renamed_keywords


SPLITS = ("train", "validation", "test")
BRIDGE_MODALITIES = ("text", "image")
TARGET_MODALITIES = tuple(modality for modality in NINE_MODALITIES if modality not in BRIDGE_MODALITIES)
# Each pool of objects has a range of numbers of its own, so that no object is in two pools.
_POOL_SIZE = 1_000_000
_POOLS = ("bridge", *TARGET_MODALITIES, "validation", "test")
_NUM_ROWS = {"validation": 400, "test": 800}


class NineSenses(Sequence):
    """Objects that nine modalities perceive; rendered when asked for, the same bits for the same arguments.

    Every object has a category (`label`, the only thing that its text tells), five instance factors that every
    modality but text perceives, and private attributes that one modality alone knows (`attributes`). The training
    split has plentiful bridge rows (text and image) and, for each of the seven targets, scarce rows of its own (text,
    image and that target): two targets never meet in a row. Rows of validation and test have all nine modalities. No
    object is in two splits.

    Args:
        split: "train", "validation" or "test".
        world: number of the draw of class geometry and sensors, 0 or more; compare methods in pairs over worlds.
        difficulty: "easy", "default" or "hard": overlap of the classes, scale of the private part, noise.
        num_bridge: bridge rows of the training split.
        num_target: rows per target of the training split.
        num_rows: rows of validation (default 400) or test (default 800).
        modalities: modalities to keep, default all nine; in the training split, targets not named are left out.

    Raises:
        ValueError: an unknown split, difficulty or modality, a negative or too large number, or a size of another
            split.
    """

    senses = renamed_attribute("senses", "modalities")

    @renamed_keywords(senses="modalities")
    def __init__(
        self,
        split: str = "train",
        world: int = 0,
        difficulty: str = "default",
        num_bridge: int | None = None,
        num_target: int | None = None,
        num_rows: int | None = None,
        modalities: Sequence[str] | None = None,
    ) -> None:
        _check_choice("split", split, SPLITS)
        _check_choice("difficulty", difficulty, tuple(DIFFICULTIES))
        self.split = split
        self.difficulty = difficulty
        self.modalities = _checked_modalities(modalities)
        self._world = draw_world(_checked_number("world", world, 2**32))
        self._groups = self._grouped(num_bridge, num_target, num_rows)
        self._ends = np.cumsum([count for _, count, _ in self._groups])

    @property
    def world(self) -> int:
        """Number of the world."""
        return self._world.seed

    @property
    def class_names(self) -> list[str]:
        """All categories; the class of label `i` in text is `class_names[i]`."""
        return list(CLASS_NAMES)

    @property
    def templates(self) -> list[str]:
        """The sentences that name a category; zero-shot prompts are `template.format(class_name)`."""
        return list(TEMPLATES)

    @property
    def private_attributes(self) -> dict[str, dict[str, int]]:
        """Modality -> attribute -> number of its values; a row's `attributes` are keyed `"<modality>.<attribute>"`."""
        return {modality: dict.fromkeys(names, NUM_VALUES) for modality, names in PRIVATE_ATTRIBUTES.items()}

    @property
    def factor_names(self) -> list[str]:
        """Names of the instance factors, in the order of `instance_factors`."""
        return list(FACTORS)

    @property
    def row_modalities(self) -> list[tuple[str, ...]]:
        """Modalities of every row, without rendering any."""
        return [modalities for _, count, modalities in self._groups for _ in range(count)]

    @cached_property
    def dataset(self) -> Dataset:
        """All rows as a `datasets.Dataset` in memory, rendered once, with a progress bar; absent values are `None`."""
        return build_dataset(self, self.modalities, description=f"NineSenses {self.split}")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: Any) -> Any:
        """Row `index`: its modalities, `id`, `label` (name of the class) and `attributes`; a slice gives a list."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        number, modalities = self._find(index)
        thing = self._object(number)
        values, attributes = render_modalities(self._world, number, thing, modalities)
        extras = {"id": self._id(number), "label": CLASS_NAMES[thing.label], "attributes": attributes}
        return {**extras, **values}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def instance_factors(self, index: int) -> np.ndarray:
        """The five instance factors of row `index`, each in [-1, 1], in the order of `factor_names`."""
        return self._object(self._find(index)[0]).factors

    def export(self, folder: str | os.PathLike, depth_format: str = "npy", point_format: str = "ply") -> str:
        """Write every row as ordinary files and `manifest.jsonl`; returns the path of the manifest.

        Image, tactile, thermal: PNG. Video: a folder of PNG frames. Audio: 16-bit WAV. Depth: `.npy` in metres or,
        with `depth_format="png"`, 16-bit PNG in millimetres. EEG: `.npy`. Points: `.ply` or, with
        `point_format="npy"`, `.npy`.

        Raises:
            ValueError: an unknown format.
            OSError: a file cannot be written.
        """
        return export_rows(self, folder, depth_format, point_format, description=f"Exporting {self.split}")

    def _grouped(
        self, num_bridge: int | None, num_target: int | None, num_rows: int | None
    ) -> list[tuple[str, int, tuple[str, ...]]]:
        """Pool, number of rows and modalities of each run of rows."""
        if self.split != "train":
            _refuse_sizes(self.split, num_bridge=num_bridge, num_target=num_target)
            count = _NUM_ROWS[self.split] if num_rows is None else num_rows
            return [(self.split, _checked_number("num_rows", count, _POOL_SIZE), self.modalities)]
        _refuse_sizes(self.split, num_rows=num_rows)
        bridges = tuple(modality for modality in BRIDGE_MODALITIES if modality in self.modalities)
        groups = [
            ("bridge", _checked_number("num_bridge", 4000 if num_bridge is None else num_bridge, _POOL_SIZE), bridges)
        ]
        scarce = _checked_number("num_target", 600 if num_target is None else num_target, _POOL_SIZE)
        groups += [
            (modality, scarce, (*bridges, modality)) for modality in TARGET_MODALITIES if modality in self.modalities
        ]
        return [group for group in groups if group[2]]

    def _find(self, index: Any) -> tuple[int, tuple[str, ...]]:
        """Object number and modalities of row `index`."""
        position = operator.index(index)
        position += len(self) if position < 0 else 0
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} of NineSenses({self.split!r}) with {len(self)} rows.")
        group = int(np.searchsorted(self._ends, position, side="right"))
        pool, count, modalities = self._groups[group]
        within = position - (int(self._ends[group]) - count)
        return _POOL_SIZE * (1 + _POOLS.index(pool)) + within, modalities

    def _object(self, number: int) -> SceneObject:
        return draw_object(self._world, number % len(CLASS_NAMES), number, DIFFICULTIES[self.difficulty])

    def _id(self, number: int) -> str:
        pool, within = divmod(number, _POOL_SIZE)
        return f"world{self.world}-{self.difficulty}-{_POOLS[pool - 1]}-{within:05d}"


def _check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(allowed)}.")


def _checked_number(name: str, value: Any, limit: int) -> int:
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or not 0 <= value < limit:
        raise ValueError(f"{name}: got {value!r}; allowed: a whole number from 0 to {limit - 1}.")
    return int(value)


def _checked_modalities(modalities: Sequence[str] | None) -> tuple[str, ...]:
    if modalities is None:
        return NINE_MODALITIES
    if isinstance(modalities, str) or not modalities:
        raise ValueError(f"modalities: got {modalities!r}; allowed: a list of some of {', '.join(NINE_MODALITIES)}.")
    for modality in modalities:
        _check_choice("modalities", modality, NINE_MODALITIES)
    return tuple(modality for modality in NINE_MODALITIES if modality in modalities)


def _refuse_sizes(split: str, **sizes: int | None) -> None:
    for name, value in sizes.items():
        if value is not None:
            allowed = "num_bridge and num_target" if split == "train" else "num_rows"
            raise ValueError(f"{name}: got {value!r}, which is not a size of split {split!r}; allowed: {allowed}.")
