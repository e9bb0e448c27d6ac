"""Items of any number and modality as batches of tensors, with never more than some batches of values in memory."""

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .arguments import argument_of, tensor_of
from .downloads import LocalItems
from .items import Item, item_named, item_of


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
    """

    modality: str
    positions: list[int]
    tensors: dict[str, Tensor]
    starts: list[float] | None = None
    seconds: float = 0.0
    is_last: bool = True


@dataclass(frozen=True)
class StreamOptions:
    """Arguments of `CodeBindProcessor.stream`, checked."""

    batch_size: int = 32
    clips: str | int = "uniform"
    each_clip: bool = False
    hop_seconds: float | None = None
    num_workers: int = 0
    allow_urls: bool = False

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("num_workers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}; it must be {least} or more.")
        is_count = isinstance(self.clips, int) and not isinstance(self.clips, bool) and self.clips > 0
        if not is_count and self.clips not in ("uniform", "sliding"):
            raise ValueError(f"clips: got {self.clips!r}; allowed: 'uniform', 'sliding', or a number of clips.")
        if self.hop_seconds is not None and (self.clips != "sliding" or not self.hop_seconds > 0):
            raise ValueError(f"hop_seconds: got {self.hop_seconds}; it is above 0, and only for clips='sliding'.")

    @property
    def in_windows(self) -> bool:
        """Whether the clips of a recording are samples by themselves, whatever their number."""
        return self.each_clip or self.clips == "sliding"


def labelled_items(
    items: Any, known: tuple[str, ...], modality: str | None, allow_urls: bool
) -> Iterator[tuple[str, Item]]:
    """Items with what messages call them; see `CodeBindProcessor.stream` for what they may be.

    Raises:
        ValueError: not iterable, or a modality that is not among `known`; while iterating, an item of no known kind.
    """
    if modality is None:
        if isinstance(items, (str, bytes, Mapping, Item)) or not isinstance(items, Iterable):
            raise ValueError(
                f"items: got {type(items).__name__}; expected a dictionary of lists by modality, or a list of mixed "
                "items."
            )
        labels = ((f"items[{position}]", value) for position, value in enumerate(items))
        return ((label, item_of(value, label, known, allow_urls)) for label, value in labels)
    if modality not in known:
        raise ValueError(f"items: {modality!r} is not in this checkpoint, which has {', '.join(known)}.")
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise ValueError(
            f"items[{modality!r}]: expected a list of one or more values, got {type(items).__name__}. Fix: give a "
            f"list, such as {{{modality!r}: [value]}}."
        )
    return ((f"items[{modality!r}][{place}]", item_named(modality, value)) for place, value in enumerate(items))


class _Task(NamedTuple):
    """A batch that is still to be made: `prepare` gives its tensors."""

    batch: Batch
    prepare: Callable[[], dict[str, Tensor]]


class Stream:
    """Batches of one stream of items.

    Args:
        processor: the `CodeBindProcessor`.
        known: modalities of the checkpoint.
    """

    def __init__(self, processor: Any, known: tuple[str, ...], options: StreamOptions) -> None:
        self._processor, self._known, self._options = processor, known, options

    def batches(self, items: Iterator[tuple[str, Item]]) -> Generator[Batch, None, None]:
        """Batches as they are filled, some of them prepared ahead in other threads."""
        with (
            LocalItems(items, self._options.allow_urls) as local,
            # Closed before its files are gone, also when the caller stops early.
            closing(self._prepared(self._tasks(iter(local)))) as prepared,
        ):
            for task, tensors in prepared:
                if task.batch.is_last:
                    for position in task.batch.positions:
                        local.release(position)
                yield task.batch._replace(tensors=tensors)

    def _prepared(self, tasks: Iterator[_Task]) -> Generator[tuple[_Task, dict[str, Tensor]], None, None]:
        if not self._options.num_workers:
            for task in tasks:
                yield task, task.prepare()
            return
        ahead: deque[tuple[_Task, Future]] = deque()
        with ThreadPoolExecutor(self._options.num_workers) as pool:
            try:
                for task in tasks:
                    ahead.append((task, pool.submit(task.prepare)))
                    if len(ahead) > self._options.num_workers:
                        first, future = ahead.popleft()
                        yield first, future.result()
                while ahead:
                    first, future = ahead.popleft()
                    yield first, future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _tasks(self, items: Iterator[tuple[str, Item]]) -> Iterator[_Task]:
        """Batches of items with the same modality and options, and the clips of recordings."""
        size = self._options.batch_size
        pending: dict[tuple[str, str], list[tuple[int, str, Item]]] = {}
        for position, (label, item) in enumerate(items):
            if item.name not in self._known:
                raise ValueError(f"{label}: {item.name!r} is not in this checkpoint; it has {', '.join(self._known)}.")
            if item.name in CLIPPED and self._options.in_windows:
                yield from self._clip_tasks(position, label, item)
            else:
                key = item.name, repr(sorted(item.options.items()))
                pending.setdefault(key, []).append((position, label, item))
                if len(pending[key]) == size:
                    yield self._item_task(pending.pop(key))
            if pending and position - next(iter(pending.values()))[0][0] >= _PATIENCE * size:
                yield self._item_task(pending.pop(next(iter(pending))))
        yield from map(self._item_task, pending.values())

    def _item_task(self, chosen: list[tuple[int, str, Item]]) -> _Task:
        positions, items = [position for position, _, _ in chosen], [item for *_, item in chosen]
        name = items[0].name
        argument = argument_of(name)
        options = dict(items[0].options)
        if name in CLIPPED and isinstance(self._options.clips, int):
            options["num_clips"] = self._options.clips
        given = {argument: [item.raw for item in items], **({f"{argument}_kwargs": options} if options else {})}

        def prepare() -> dict[str, Tensor]:
            with _labelled(argument, [label for _, label, _ in chosen]):
                return dict(self._processor(**given, return_tensors="pt"))

        return _Task(Batch(name, positions, {}), prepare)

    def _clip_tasks(self, position: int, label: str, item: Item) -> Iterator[_Task]:
        part = self._processor.part(argument_of(item.name)).with_parameters(**item.options)
        windows = part.windows(item.raw, label, self._options.clips, self._options.hop_seconds)
        size, count = self._options.batch_size, len(windows.starts)

        # A film is decoded once, in its order, whichever thread asks.
        one_at_a_time = Lock()

        def prepare(begin: int) -> dict[str, Tensor]:
            with one_at_a_time:
                # Every clip is a sample of its own.
                values = [windows.values(index) for index in range(begin, min(begin + size, count))]
            return {tensor_of(item.name): torch.from_numpy(np.stack(values))}

        for begin in range(0, count, size):
            starts = windows.starts[begin : begin + size]
            batch = Batch(item.name, [position], {}, starts, windows.seconds, begin + size >= count)
            yield _Task(batch, lambda begin=begin: prepare(begin))  # type: ignore[misc]


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
