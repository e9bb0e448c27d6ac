"""What if data can only be read from front to back? Rows of a stream, shared out over processes and workers."""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from datasets import IterableDataset as Stream
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset

from codebind_hf.data.augmentation import Augmentation
from codebind_hf.data.cells import row_of_cells, undecoded
from codebind_hf.data.choices import ON_ERROR
from codebind_hf.data.columns import ATTRIBUTE, EXTRA_COLUMNS, known_columns, modality_columns, renamed_columns
from codebind_hf.data.items import Draw, drawn
from codebind_hf.data.row_tensors import NO_LABELS, check_templates, flattened, prepare_row, with_text
from codebind_hf.data.units import units_of
from codebind_hf.processing.values import check_choice


logger = logging.getLogger(__name__)

# Rows that wait to be shuffled, in every worker.
SHUFFLE_BUFFER = 1000
# Rows whose texts a tokenizer is trained on.
TEXT_SAMPLE = 20_000


class Place(NamedTuple):
    """Where a row of an epoch came by: which worker read it, and as its how manieth."""

    worker: int
    number: int


class Passed(NamedTuple):
    """A row that came by: its modalities, and its item unless it is only counted or cannot be read."""

    place: Place
    modalities: tuple[str, ...]
    item: dict[str, Any] | None


@dataclass(frozen=True)
class Past:
    """What an earlier run of an epoch had read: rows up to these numbers by worker, some of which still wait."""

    read: Mapping[int, int] = field(default_factory=dict)
    waiting: frozenset[Place] = frozenset()

    def has(self, place: Place) -> bool:
        """Whether the row is done with."""
        return place.number < self.read.get(place.worker, 0) and place not in self.waiting


class StreamedDataset(IterableDataset):
    """Rows of a `datasets.IterableDataset` as tensors, each read once an epoch by one worker of one process.

    Args:
        stream: columns are named after modalities, or renamed by `columns`; others are ignored.
        processor (`CodeBindProcessor`, *optional*): turns values into tensors; `with_processor` gives one later.
        columns: columns to rename, for example `{"jpg": "image", "txt": "text"}`.
        modalities: names of added modalities that may be columns.
        on_error: "raise", or "skip": a row that cannot be read is named in the log and left out.
        seed: of the shuffling and of captions that are drawn.
        shuffle_buffer: rows that wait to be shuffled, in every worker; shards are shuffled too. 0 keeps the order.
        text_from_label: templates with `{}` for the label, of rows without text.

    Raises:
        ValueError: no stream, a column renamed to what no row has, no column that is a modality, or templates for
            labels that are not there.
    """

    def __init__(
        self,
        stream: Stream,
        processor: Any = None,
        columns: Mapping[str, str] | None = None,
        modalities: Sequence[str] = (),
        on_error: str = "raise",
        seed: int = 0,
        shuffle_buffer: int = SHUFFLE_BUFFER,
        text_from_label: Sequence[str] = (),
    ) -> None:
        if not isinstance(stream, Stream):
            raise ValueError(f"stream: got {type(stream).__name__}; allowed: a datasets.IterableDataset.")
        names = modality_columns(modalities)
        # A stream of shards knows its columns when it has seen a row.
        stream = stream if stream.features is not None else stream._resolve_features()
        found = renamed_columns(list(stream.features), columns, "the stream")
        self.keys = known_columns(found, names, "the stream")
        self.stream, self.features = undecoded(stream.select_columns(list(self.keys))), stream.features
        check_choice("on_error", on_error, ON_ERROR)
        self.processor, self.on_error, self.seed, self.shuffle_buffer = processor, on_error, seed, shuffle_buffer
        self.templates = check_templates(text_from_label)
        if self.templates and "label" not in self.keys.values():
            raise ValueError(NO_LABELS)
        present = {*self.keys.values(), *(["text"] if self.templates and "label" in self.keys.values() else [])}
        self.modalities = tuple(name for name in names if name in present)
        self.required: frozenset[str] = frozenset(self.modalities)
        self.bridges: frozenset[str] = frozenset()
        self.epoch, self.process, self.num_processes = 0, 0, 1
        self.past, self.counts_only = Past(), False
        self.augmentation: Augmentation | None = None

    def with_processor(
        self, processor: Any, on_error: str = "raise", seed: int = 0, augment: bool = False
    ) -> "StreamedDataset":
        """The same rows, for a processor that was not there yet; its augmentation is applied with `augment`."""
        check_choice("on_error", on_error, ON_ERROR)
        augmentation = Augmentation(processor) if augment and processor.augmentation else None
        return self._with(processor=processor, on_error=on_error, seed=seed, augmentation=augmentation)

    @property
    def texts(self) -> list[str]:
        """Texts and captions of the first `TEXT_SAMPLE` rows."""
        keys = {name: key for name, key in self.keys.items() if key in ("text", "label")}
        rows = self.stream.select_columns(list(keys)).take(TEXT_SAMPLE) if keys else ()
        cells = (with_text(row_of_cells(row, keys, self.features), self.templates) for row in rows)
        return flattened(row.get("text") for row in cells)

    def restricted(
        self, modalities: Sequence[str], required: Sequence[str], bridges: Sequence[str]
    ) -> "StreamedDataset":
        """The rows with one of `required`, one of `bridges` and two modalities at all; with only these modalities."""
        return self._with(
            modalities=tuple(name for name in self.modalities if name in modalities),
            required=frozenset(required),
            bridges=frozenset(bridges),
        )

    def part(
        self, epoch: int, process: int = 0, num_processes: int = 1, past: Past | None = None, counts_only: bool = False
    ) -> "StreamedDataset":
        """What one process reads in an epoch.

        Args:
            past: rows to pass by.
            counts_only: make no tensors.
        """
        return self._with(
            epoch=epoch, process=process, num_processes=num_processes, past=past or Past(), counts_only=counts_only
        )

    def _with(self, **changes: Any) -> "StreamedDataset":
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other

    def __iter__(self) -> Iterator[Passed]:
        worker = getattr(torch.utils.data.get_worker_info(), "id", 0)
        stream = self.stream
        if self.shuffle_buffer:
            stream = stream.shuffle(self.seed, buffer_size=self.shuffle_buffer)
            stream.set_epoch(self.epoch)
        if self.num_processes > 1:
            stream = split_dataset_by_node(stream, self.process, self.num_processes)
        number = 0
        for cells in stream:
            present = self._present(cells)
            kept = tuple(name for name in self.modalities if name in present)
            if not self._is_usable(kept):
                continue
            place = Place(worker, number)
            number += 1
            if self.past.has(place) and not self.counts_only:
                yield Passed(place, kept, None)
            else:
                yield Passed(place, kept, None if self.counts_only else self._item(cells, kept, place))

    def _present(self, cells: Mapping[str, Any]) -> set[str]:
        present = {key for name, key in self.keys.items() if cells.get(name) is not None}
        return present | {"text"} if self.templates and "label" in present else present

    def _is_usable(self, modalities: tuple[str, ...]) -> bool:
        has_bridge = not self.bridges or not self.bridges.isdisjoint(modalities)
        return len(modalities) > bool(self.bridges) and not self.required.isdisjoint(modalities) and has_bridge

    def _item(self, cells: Mapping[str, Any], modalities: tuple[str, ...], place: Place) -> dict[str, Any] | None:
        kept = (*modalities, *EXTRA_COLUMNS, *units_of(modalities))
        keys = {name: key for name, key in self.keys.items() if key in kept or key.startswith(ATTRIBUTE)}
        name = f"row {place.number} of worker {place.worker}"
        try:
            row = with_text(row_of_cells(cells, keys, self.features), self.templates)
            name = str(row.get("id") or name)
            # Rows have no number of their own here, and one of a worker would change with the number of workers.
            identity = zlib.crc32(name.encode())
            captions = row.get("text")
            if isinstance(captions, (list, tuple)) and captions:
                draw = Draw(identity, self.epoch)
                row = {**row, "text": captions[drawn(len(captions), self.seed, draw)]}
            if self.augmentation is not None:
                return self.augmentation.prepare(row, (self.seed, self.epoch, identity), name, modalities)
            return prepare_row(row, self.processor, name, modalities)
        except (ValueError, OSError) as error:
            if self.on_error == "skip":
                logger.warning("%s is skipped: %s", name, error)
                return None
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(f"{name}: {error} Fix it, or skip such rows: on_error='skip' (--on_error skip).") from error
