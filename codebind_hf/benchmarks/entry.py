"""What is known of a benchmark before a file of it is opened? One frozen entry, with everything as data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from codebind_hf.benchmarks.choices import BACKBONES, PROTOCOLS, SPLITS
from codebind_hf.benchmarks.layout import Expected, Found, check_files, check_layout, needed_of
from codebind_hf.benchmarks.prompts import CLIP
from codebind_hf.benchmarks.rows import Entry, Finish, Rows
from codebind_hf.benchmarks.splitting import held_out
from codebind_hf.processing.values import check_choice


# Of the training rows, in whole groups, that "sound" holds out where a data set has no validation split.
_HELD_OUT = 0.05

Reader = Callable[[Path, str, str, str], Iterable[Entry]]
Names = tuple[str, ...] | Callable[[Path], list[str]]


@dataclass(frozen=True)
class Metric:
    """What is reported.

    Args:
        kind: "accuracy" (share of items whose class is among the nearest), "average_precision" (mean over classes) or
            "recall" (share of texts whose clip is among the nearest clips).
        at: how many of the nearest count; one number each.
        folds: the mean over the folds that rows name in `attributes`, instead of that over all items.
    """

    kind: Literal["accuracy", "average_precision", "recall"] = "accuracy"
    at: tuple[int, ...] = (1,)
    folds: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """As the paper's tables call them."""
        if self.kind == "average_precision":
            return ("mAP",)
        return tuple(f"{'R@' if self.kind == 'recall' else 'top-'}{cut}" for cut in self.at)


@dataclass(frozen=True)
class Benchmark:
    """One row of the paper's tables.

    Args:
        name, title: for the command line and for tables.
        modality: that is measured.
        metric: what is reported.
        licence, source: of the data, and where its owners give it away; nothing is downloaded.
        layout: files and folders that must be there, relative to the root.
        read: `(root, split, protocol, backbone)` -> entries of rows; "validation" only where `has_validation`.
        classes: names of the classes, or how to read them from the data set's own files; none for retrieval.
        num_classes: as published (table 1).
        num_items: of the test split by protocol, which a whole copy has; `None` where it is not known.
        published_items: of the test split, as table 1 of the paper says.
        hub: a common form on the Hub, if there is one.
        finish: makes a row of an entry, see `Rows`.
        templates: of class prototypes, by backbone.
        training_templates: of training texts, by backbone; `None` for those of the prototypes.
        aliases: class -> names that it is shown under; its prototype is their mean; by protocol.
        merged: class -> what it counts as, by backbone.
        figures: model -> published numbers in percent, in the order of the metric (tables 2 and 3 of the paper).
        processing: options of the processor, by argument, by backbone, under the paper's protocol.
        only_present: backbones whose prototypes are those of the classes that the rows have, and of no others.
        is_only_for_training: whether nothing is tested on it.
        has_validation: whether `read` knows a validation split of the data set's own.
        differences: what "sound" does otherwise, in words.
        traps: what else to know.
    """

    name: str
    title: str
    modality: str
    licence: str
    source: str
    layout: tuple[Expected, ...]
    read: Reader
    metric: Metric = Metric()
    classes: Names = ()
    num_classes: int | None = None
    num_items: Mapping[str, int | None] = field(default_factory=dict)
    published_items: int | None = None
    hub: str | None = None
    finish: Finish | None = None
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"ib": CLIP, "vl": CLIP})
    training_templates: Mapping[str, tuple[str, ...]] | None = None
    aliases: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    merged: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    figures: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    processing: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    only_present: tuple[str, ...] = ()
    is_only_for_training: bool = False
    has_validation: bool = False
    differences: str = ""
    traps: str = ""

    def check(
        self,
        root: str | Path,
        protocol: str = "paper",
        split: str = "test",
        partial: bool = False,
        backbone: str = "ib",
    ) -> Found:
        """Is the data set there, whole, in its owners' layout?

        Args:
            partial: accept fewer rows than published, and rows whose files are missing.

        Raises:
            OSError: no such folder; or files are missing, all of them named (beyond 20: counted).
            ValueError: a file says something else than it should, or the number of rows is not the published one.
        """
        folder = self._checked(root, protocol, split, backbone)
        read_split = self._split_read(split, protocol)
        needed = needed_of(self.layout, read_split, protocol)
        check_layout(folder, self.title, needed, read_split)
        rows = self._rows(folder, split, protocol, backbone)
        wanted = self.num_items.get(protocol) if read_split == "test" else None
        return check_files(folder, self.title, rows, needed, read_split, wanted, partial)

    def rows(self, root: str | Path, split: str = "test", protocol: str = "paper", backbone: str = "ib") -> Rows:
        """Rows of a split; a small table is read, and no other file before a row is asked for.

        Under "paper", "validation" is the test split: the authors choose their model on it. Under "sound" it is the
        data set's own, or a twentieth of the training rows in whole groups (videos, places), which "train" then lacks.

        Raises:
            OSError: a file that says what the rows are is missing.
            ValueError: no such split, protocol or backbone, a split that the data set lacks, or a file that says
                something else than it should.
        """
        folder = self._checked(root, protocol, split, backbone)
        read_split = self._split_read(split, protocol)
        check_layout(folder, self.title, needed_of(self.layout, read_split, protocol), read_split)
        return self._rows(folder, split, protocol, backbone)

    def class_names(self, root: str | Path | None = None) -> list[str]:
        """Names of the classes, in the data set's order; empty for retrieval.

        Raises:
            ValueError: they are in files of the data set, and no `root` was given.
            OSError: the file is missing.
        """
        if not callable(self.classes):
            return list(self.classes)
        if root is None:
            raise ValueError(f"root: got None; allowed: the folder of {self.title}, whose files hold its class names.")
        return self.classes(Path(root))

    def prompts(self, backbone: str = "ib", training: bool = False) -> tuple[str, ...]:
        """Templates of the class prototypes, or of training texts; none where rows have captions."""
        check_choice("backbone", backbone, BACKBONES)
        if self.metric.kind == "recall":
            return ()
        chosen = self.training_templates if training and self.training_templates is not None else self.templates
        return chosen.get(backbone, ())

    def _rows(self, folder: Path, split: str, protocol: str, backbone: str) -> Rows:
        read_split = self._split_read(split, protocol)
        entries = self.read(folder, read_split, protocol, backbone)
        templates = self.prompts(backbone, training=True) if split == "train" else ()
        rows = Rows(folder, entries, self.finish, templates, self.aliases.get(protocol))
        if protocol == "sound" and not self.has_validation and read_split == "train":
            groups = [group or name for group, name in zip(rows.column("group"), rows.column("id"), strict=True)]
            is_held_out = held_out(groups, _HELD_OUT)
            rows = rows.take(np.flatnonzero(is_held_out == (split == "validation")))
        if not len(rows):
            raise ValueError(f"{self.title}: the split {split!r} under {folder} has no rows.")
        return rows

    def _split_read(self, split: str, protocol: str) -> str:
        """The split of the data set that "validation" is taken from."""
        if split != "validation":
            return split
        return "test" if protocol == "paper" else "validation" if self.has_validation else "train"

    def _checked(self, root: str | Path, protocol: str, split: str, backbone: str) -> Path:
        check_choice("protocol", protocol, PROTOCOLS)
        check_choice("split", split, SPLITS)
        check_choice("backbone", backbone, BACKBONES)
        return Path(root)
