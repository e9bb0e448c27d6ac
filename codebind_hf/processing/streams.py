"""Items of any number and modality as batches of tensors, with never more than some batches of values in memory."""

import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import get_annotations
from threading import Lock
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from .arguments import argument_of, tensor_of
from .downloads import LocalItems
from .items import Item, item_named, item_of
from .modality_processing import naming
from .values import LIMITS, check_choice, check_number, check_types, refuse, shown


logger = logging.get_logger(__name__)

ON_ERROR = ("raise", "skip", "null")
CLIPPED = ("audio", "video")
# Batches between an item and the last one read, so that a modality that is rare in a long stream is not waited for.
_PATIENCE = 8


class Batch(NamedTuple):
    """Items of one modality, or some clips of one recording, as tensors of the model.

    Args:
        modality: its name.
        positions: of the items in the stream.
        tensors: keywords of `CodeBindModel.forward`; `(items, ...)`, or `(clips, ...)`, every clip a sample.
        starts: seconds at which the clips of the recording begin; `None` for whole items.
        seconds: length of a clip; 0 for whole items.
        is_last: no further clips of the recording follow.
        failure: why the items have no tensors, unless errors are raised.
    """

    modality: str
    positions: list[int]
    tensors: dict[str, Tensor]
    starts: list[float] | None = None
    seconds: float = 0.0
    is_last: bool = True
    failure: str | None = None


@dataclass(frozen=True)
class StreamOptions:
    """Arguments of `CodeBindProcessor.stream`, checked."""

    batch_size: int = 32
    clips: str | int = "uniform"
    each_clip: bool = False
    hop_seconds: float | None = None
    num_workers: int = 0
    allow_urls: bool = False
    on_error: str = "raise"

    def __post_init__(self) -> None:
        check_types(vars(self), get_annotations(type(self)))
        check_number("batch_size", self.batch_size, 1, whole=True)
        check_number("num_workers", self.num_workers, 0, whole=True, most=LIMITS.workers)
        check_choice("on_error", self.on_error, ON_ERROR)
        is_count = not isinstance(self.clips, str) and 1 <= self.clips <= LIMITS.clips
        if not is_count and self.clips not in ("uniform", "sliding"):
            refuse(
                "clips", f"got {shown(self.clips)}", f"'uniform', 'sliding', or a number of clips up to {LIMITS.clips}"
            )
        if self.hop_seconds is not None and (self.clips != "sliding" or not self.hop_seconds > 0):
            raise ValueError(
                f"hop_seconds: got {shown(self.hop_seconds)}; it is above 0, and only for clips='sliding'."
            )

    @property
    def in_windows(self) -> bool:
        """Whether the clips of a recording are samples by themselves, whatever their number."""
        return self.each_clip or self.clips == "sliding"


def labelled_items(
    items: Any, known: tuple[str, ...], modality: str | None, allow_urls: bool
) -> Iterator[tuple[str, Callable[[], Item]]]:
    """What messages call every item, and what gives it; see `CodeBindProcessor.stream` for what items may be.

    Raises:
        ValueError: not iterable, or a modality that is not among `known`; when an item is asked for, one of no known
            kind.
    """
    if modality is None:
        if isinstance(items, Item) or not is_listing(items):
            raise ValueError(
                f"items: got {type(items).__name__}; expected a dictionary of lists by modality, or a list of mixed "
                "items."
            )
        labels = ((f"items[{position}]", value) for position, value in enumerate(items))
        return ((label, partial(item_of, value, label, known, allow_urls)) for label, value in labels)
    if modality not in known:
        raise ValueError(f"items: {shown(modality)} is not in this checkpoint, which has {', '.join(known)}.")
    if not is_listing(items):
        raise ValueError(
            f"items[{modality!r}]: expected a list of one or more values, got {type(items).__name__}. Fix: give a "
            f"list, such as {{{modality!r}: [value]}}."
        )
    labels = ((f"items[{modality!r}][{place}]", value) for place, value in enumerate(items))
    return ((label, partial(item_named, modality, value)) for label, value in labels)


def is_listing(items: Any) -> bool:
    """Whether `items` gives item after item: no text, no dictionary, no array without axes."""
    if isinstance(items, (str, bytes, Mapping)):
        return False
    try:
        iter(items)
    except (TypeError, RuntimeError):
        return False
    return True


class _Task(NamedTuple):
    """A batch that is still to be made: `prepare` gives its tensors, and `parts` are tasks of its single items."""

    batch: Batch
    prepare: Callable[[], dict[str, Tensor]]
    parts: Callable[[], list["_Task"]] | None = None


class Stream:
    """Batches of one stream of items.

    Args:
        processor: the `CodeBindProcessor`.
        known: modalities of the checkpoint.
    """

    def __init__(self, processor: Any, known: tuple[str, ...], options: StreamOptions) -> None:
        self._processor, self._known, self._options = processor, known, options

    def batches(self, items: Iterator[tuple[str, Callable[[], Item]]]) -> Generator[Batch, None, None]:
        """Batches as they are filled, some of them prepared ahead in other threads."""
        lost = -1
        with (
            LocalItems(self._options.allow_urls) as local,
            # Closed before its files are gone, also when the caller stops early.
            closing(self._prepared(self._tasks(items, local))) as prepared,
        ):
            for batch in prepared:
                if batch.is_last:
                    for position in batch.positions:
                        local.release(position)
                # Of a recording that cannot be read to its end nothing more is of use.
                if batch.positions == [lost]:
                    continue
                if batch.failure is not None:
                    instead = "left out" if self._options.on_error == "skip" else "there is nothing in its place"
                    logger.warning("%s (on_error=%r: %s)", batch.failure, self._options.on_error, instead)
                    lost = batch.positions[0]
                yield batch

    def _prepared(self, tasks: Iterator[_Task]) -> Generator[Batch, None, None]:
        if not self._options.num_workers:
            for task in tasks:
                yield from self._made(task)
            return
        ahead: deque[Future[list[Batch]]] = deque()
        with ThreadPoolExecutor(self._options.num_workers) as pool:
            try:
                for task in tasks:
                    ahead.append(pool.submit(self._made, task))
                    if len(ahead) > self._options.num_workers:
                        yield from ahead.popleft().result()
                while ahead:
                    yield from ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _made(self, task: _Task) -> list[Batch]:
        """The batch of a task; with an item that cannot be used, and unless that is raised, one for each item."""
        try:
            return [task.batch._replace(tensors=task.prepare())]
        except (ValueError, OSError) as error:
            if self._options.on_error == "raise":
                raise
            if task.parts is not None and len(task.batch.positions) > 1:
                return [batch for part in task.parts() for batch in self._made(part)]
            return [task.batch._replace(failure=str(error))]

    def _tasks(self, items: Iterator[tuple[str, Callable[[], Item]]], local: LocalItems) -> Iterator[_Task]:
        """Batches of items with the same modality and options, and the clips of recordings."""
        size = self._options.batch_size
        pending: dict[tuple[str, str], list[tuple[int, str, Item]]] = {}
        for position, (label, ask) in enumerate(items):
            try:
                item = self._known_item(label, ask)
                item = local.of(item, position, label)
                clip_tasks = self._clip_tasks(position, label, item)
            except (ValueError, OSError) as error:
                if self._options.on_error == "raise":
                    raise
                yield _Task(Batch("", [position], {}), partial(_raising, error))
                continue
            if clip_tasks is not None:
                yield from clip_tasks
            else:
                key = item.name, repr(sorted(item.options.items()))
                pending.setdefault(key, []).append((position, label, item))
                if len(pending[key]) == size:
                    yield self._item_task(pending.pop(key))
            if pending and position - next(iter(pending.values()))[0][0] >= _PATIENCE * size:
                yield self._item_task(pending.pop(next(iter(pending))))
        yield from map(self._item_task, pending.values())

    def _known_item(self, label: str, ask: Callable[[], Item]) -> Item:
        with naming(label):
            item = ask()
        if item.name not in self._known:
            raise ValueError(
                f"{label}: {shown(item.name)} is not in this checkpoint; it has {', '.join(self._known)}."
            )
        return item

    def _item_task(self, chosen: list[tuple[int, str, Item]]) -> _Task:
        positions, items = [position for position, _, _ in chosen], [item for *_, item in chosen]
        name = items[0].name
        argument = argument_of(name)
        options = dict(items[0].options)
        if self._has_clips(name) and isinstance(self._options.clips, int):
            options["num_clips"] = self._options.clips
        given = {argument: [item.raw for item in items], **({f"{argument}_kwargs": options} if options else {})}

        def prepare() -> dict[str, Tensor]:
            with _labelled(argument, [label for _, label, _ in chosen]):
                return dict(self._processor(**given, return_tensors="pt"))

        return _Task(Batch(name, positions, {}), prepare, lambda: [self._item_task([one]) for one in chosen])

    def _has_clips(self, name: str) -> bool:
        """Whether items are recordings; what another network made of them is read whole."""
        return name in CLIPPED and hasattr(self._processor.part(argument_of(name)), "windows")

    def _clip_tasks(self, position: int, label: str, item: Item) -> Iterator[_Task] | None:
        """The clips of a recording, if they are samples by themselves."""
        if not self._options.in_windows or not self._has_clips(item.name):
            return None
        part = self._processor.part(argument_of(item.name)).with_parameters(**item.options)
        windows = part.windows(item.raw, label, self._options.clips, self._options.hop_seconds)
        size, count = self._options.batch_size, len(windows.starts)

        # A film is decoded once, in its order, whichever thread asks.
        one_at_a_time = Lock()

        def prepare(begin: int) -> dict[str, Tensor]:
            with one_at_a_time, naming(label):
                # Every clip is a sample of its own.
                values = [windows.values(index) for index in range(begin, min(begin + size, count))]
            return {tensor_of(item.name): torch.from_numpy(np.stack(values))}

        def batch(begin: int) -> Batch:
            starts = windows.starts[begin : begin + size]
            return Batch(item.name, [position], {}, starts, windows.seconds, begin + size >= count)

        return (_Task(batch(begin), partial(prepare, begin)) for begin in range(0, count, size))


def _raising(error: Exception) -> NoReturn:
    raise error


@contextmanager
def _labelled(argument: str, labels: Sequence[str]) -> Iterator[None]:
    """Name items as the caller knows them in what the processor says of one in its batch."""
    try:
        yield
    except (ValueError, OSError) as error:
        named = re.match(rf"{argument}\[(\d+)\]", str(error))
        if named is None:
            raise
        kind = ValueError if isinstance(error, ValueError) else OSError
        raise kind(labels[int(named[1])] + str(error)[named.end() :]) from error
