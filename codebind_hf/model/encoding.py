"""Embedding raw data of any amount, in batches: what `CodeBindModel.encode` does."""

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers.utils import logging

from .downloads import LocalItems
from .inputs import model_input
from .items import Item, item_named, item_of


OUTPUTS = ("numpy", "torch", "codes")
POOLS = ("mean", "none")
CLIPPED = ("audio", "video")
# Batches between an item and the last one read, so that a sense that is rare in a long stream is not waited for.
_PATIENCE = 8


class ClipEmbeds(NamedTuple):
    """Embeddings of the clips of one item.

    Args:
        embeds: `(clips, shared_dim)`, or code ids `(clips, segments)`.
        starts: seconds at which the clips begin.
        seconds: length of a clip; 0 for an item that is no recording.
    """

    embeds: Any
    starts: list[float]
    seconds: float


@dataclass(frozen=True)
class EncodeOptions:
    """Arguments of one call of `CodeBindModel.encode`, checked."""

    batch_size: int = 32
    quantize: bool = True
    output: str = "numpy"
    clips: str | int = "uniform"
    pool: str = "mean"
    hop_seconds: float | None = None
    num_workers: int = 0
    progress: bool = False
    allow_urls: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("output", OUTPUTS), ("pool", POOLS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: got {getattr(self, name)!r}; allowed: {', '.join(map(repr, allowed))}.")
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
        """Whether the clips of a recording are embedded by themselves, whatever their number."""
        return self.pool == "none" or self.clips == "sliding"


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode meanwhile, and afterwards the mode from before, whatever happens."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def encode_items(model: Any, items: Any, processor: Any, options: EncodeOptions) -> Any:
    """See `CodeBindModel.encode`."""
    encoder = _Encoder(model, processor, options)
    if isinstance(items, Mapping):
        return {
            name: encoder.joined(_of_modality(values, name, encoder.known), f"items[{name!r}]")
            for name, values in items.items()
        }
    if isinstance(items, (str, bytes, Item)) or not isinstance(items, Iterable):
        raise ValueError(
            f"items: got {type(items).__name__}; expected a dictionary of lists by modality, or a list of mixed items."
        )
    return encoder.joined(encoder.mixed(items), "items")


def encode_stream(model: Any, items: Iterable[Any], processor: Any, options: EncodeOptions) -> Iterator[Any]:
    """See `CodeBindModel.encode_stream`."""
    encoder = _Encoder(model, processor, options)
    for row in encoder.in_order(encoder.mixed(items)):
        yield encoder.converted(row)


def _of_modality(values: Any, name: str, known: tuple[str, ...]) -> Iterator[tuple[str, Item]]:
    if name not in known:
        raise ValueError(f"items: {name!r} is not in this checkpoint, which has {', '.join(known)}.")
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ValueError(
            f"items[{name!r}]: expected a list of one or more values, got {type(values).__name__}. Fix: give a list, "
            f"such as {{{name!r}: [value]}}."
        )
    for position, value in enumerate(values):
        yield f"items[{name!r}][{position}]", item_named(name, value)


class _Task(NamedTuple):
    """Work for the processor: items of one sense, or some clips of one recording.

    Args:
        positions: of the items in the stream.
        prepare: gives the tensors of the model.
        starts: seconds at which the clips of the recording begin; `None` for whole items.
        is_last: no further clips of the recording follow.
    """

    name: str
    positions: list[int]
    prepare: Callable[[], dict[str, Tensor]]
    starts: list[float] | None = None
    seconds: float = 0.0
    is_last: bool = True


class _Encoder:
    """One call of `encode`: items in, rows out, with never more than some batches of raw values in memory."""

    def __init__(self, model: Any, processor: Any, options: EncodeOptions) -> None:
        if options.output == "codes" and model.codebooks.shared is None:
            raise ValueError('output: got "codes", but this model has no shared codebook; choose "numpy" or "torch".')
        self.model, self.processor, self.options = model, processor, options
        self.known = tuple(model.config.modalities)

    def mixed(self, items: Iterable[Any]) -> Iterator[tuple[str, Item]]:
        """Items of a mixed list, each with its label."""
        for position, value in enumerate(items):
            label = f"items[{position}]"
            yield label, item_of(value, label, self.known, self.options.allow_urls)

    def joined(self, items: Iterator[tuple[str, Item]], where: str) -> Any:
        """All rows as one array, or as a list of `ClipEmbeds`."""
        rows = list(self.in_order(items))
        if not rows:
            raise ValueError(f"{where}: got nothing; expected one value or more.")
        if isinstance(rows[0], ClipEmbeds):
            return [self.converted(row) for row in rows]
        return self.converted(torch.stack(rows))

    def converted(self, row: Any) -> Any:
        """A row in the type asked for."""
        if isinstance(row, ClipEmbeds):
            return row._replace(embeds=self.converted(row.embeds))
        # A copy is an ordinary tensor, of which gradients may be asked for; rows come from inference mode.
        return row.numpy() if self.options.output == "numpy" else row.clone()

    def in_order(self, items: Iterator[tuple[str, Item]]) -> Iterator[Any]:
        """Rows in the order of their items."""
        waiting: dict[int, Any] = {}
        following = 0
        bar = logging.tqdm(desc="Encoding", unit="item", disable=not self.options.progress)
        with evaluating(self.model), bar, ExitStack() as stack:
            local = stack.enter_context(LocalItems(items, self.options.allow_urls))
            # Closed before its files are gone, also when the caller stops early.
            for position, row in stack.enter_context(closing(self._rows(iter(local)))):
                waiting[position] = row
                local.release(position)
                while following in waiting:
                    bar.update()
                    yield waiting.pop(following)
                    following += 1

    def _rows(self, items: Iterator[tuple[str, Item]]) -> Generator[tuple[int, Any], None, None]:
        clips: list[Tensor] = []
        starts: list[float] = []
        for task, tensors in self._prepared(self._tasks(items)):
            shared = self._shared(task, tensors)
            encoder = self.model.config.modality(task.name).encoder
            if task.starts is None:
                rows: Any = self._read(encoder, shared)
                if self.options.pool == "none":
                    rows = [ClipEmbeds(row[None], [0.0], 0.0) for row in rows]
                yield from zip(task.positions, rows, strict=True)
                continue
            # Of a long recording nothing is kept but one vector a clip, or their sum.
            mean = self.options.pool == "mean"
            clips.append(shared.sum(0, keepdim=True) if mean else self._read(encoder, shared))
            starts += task.starts
            if task.is_last:
                joint = torch.cat(clips)
                if mean:
                    yield task.positions[0], self._read(encoder, joint.sum(0, keepdim=True) / len(starts))[0]
                else:
                    yield task.positions[0], ClipEmbeds(joint, starts, task.seconds)
                clips, starts = [], []

    @torch.inference_mode()
    def _shared(self, task: _Task, tensors: dict[str, Tensor]) -> Tensor:
        """Shared parts before their norm, `(items, shared_dim)`; of clips as they enter the mean over clips."""
        modality = self.model.config.modality(task.name)
        config = self.model.encoders[modality.encoder].config
        values = model_input(modality, config, tensors[modality.tensor], tensors.get("attention_mask"))
        # The specific head matters to a single clip by its share of the clip's norm.
        specific = task.starts is not None and config.normalize_clips
        return self.model._encode(values, all_tokens=False, specific=specific).shared[:, 0].float()

    @torch.inference_mode()
    def _read(self, encoder: str, shared: Tensor) -> Tensor:
        """Unit embeddings or code ids on the CPU."""
        quantized = self.model.codebooks.quantize("shared", encoder, shared)
        if self.options.output == "codes":
            return quantized.ids.cpu()
        return (quantized.embedding if self.options.quantize else normalize(shared, dim=-1)).cpu()

    def _prepared(self, tasks: Iterator[_Task]) -> Iterator[tuple[_Task, dict[str, Tensor]]]:
        """Tasks with the tensors of the processor, some of them prepared ahead in other threads."""
        device = self.model.device
        if not self.options.num_workers:
            for task in tasks:
                yield task, {name: value.to(device) for name, value in task.prepare().items()}
            return
        ahead: deque[tuple[_Task, Future]] = deque()
        with ThreadPoolExecutor(self.options.num_workers) as pool:
            try:
                for task in tasks:
                    ahead.append((task, pool.submit(task.prepare)))
                    if len(ahead) > self.options.num_workers:
                        first, future = ahead.popleft()
                        yield first, {name: value.to(device) for name, value in future.result().items()}
                while ahead:
                    first, future = ahead.popleft()
                    yield first, {name: value.to(device) for name, value in future.result().items()}
            finally:
                pool.shutdown(cancel_futures=True)

    def _tasks(self, items: Iterator[tuple[str, Item]]) -> Iterator[_Task]:
        """Batches of items with the same sense and options, and the clips of recordings."""
        size = self.options.batch_size
        pending: dict[tuple[str, str], list[tuple[int, str, Item]]] = {}
        for position, (label, item) in enumerate(items):
            if item.name not in self.known:
                raise ValueError(f"{label}: {item.name!r} is not in this checkpoint; it has {', '.join(self.known)}.")
            if item.name in CLIPPED and self.options.in_windows:
                yield from self._clip_tasks(position, label, item)
            else:
                key = item.name, repr(sorted(item.options.items()))
                pending.setdefault(key, []).append((position, label, item))
                if len(pending[key]) == size:
                    yield self._batch(pending.pop(key))
            if pending and position - next(iter(pending.values()))[0][0] >= _PATIENCE * size:
                yield self._batch(pending.pop(next(iter(pending))))
        yield from map(self._batch, pending.values())

    def _batch(self, chosen: list[tuple[int, str, Item]]) -> _Task:
        positions, items = [position for position, _, _ in chosen], [item for *_, item in chosen]
        name = items[0].name
        argument = self.model.config.modalities[name].argument
        options = dict(items[0].options)
        if name in CLIPPED and isinstance(self.options.clips, int):
            options["num_clips"] = self.options.clips
        given = {argument: [item.raw for item in items], **({f"{argument}_kwargs": options} if options else {})}

        def prepare() -> dict[str, Tensor]:
            with _labelled(argument, [label for _, label, _ in chosen]):
                return dict(self.processor(**given, return_tensors="pt"))

        return _Task(name, positions, prepare)

    def _clip_tasks(self, position: int, label: str, item: Item) -> Iterator[_Task]:
        argument = self.model.config.modalities[item.name].argument
        part = self.processor.part(argument).with_parameters(**item.options)
        windows = part.windows(item.raw, label, self.options.clips, self.options.hop_seconds)
        tensor = self.model.config.modalities[item.name].tensor
        size, count = self.options.batch_size, len(windows.starts)

        # A film is decoded once, in its order, whichever thread asks.
        one_at_a_time = Lock()

        def prepare(begin: int) -> dict[str, Tensor]:
            with one_at_a_time:
                # Every clip is a sample of its own.
                values = [windows.values(index) for index in range(begin, min(begin + size, count))]
            return {tensor: torch.from_numpy(np.stack(values))}

        for begin in range(0, count, size):
            starts = windows.starts[begin : begin + size]
            work = lambda begin=begin: prepare(begin)  # noqa: E731
            yield _Task(item.name, [position], work, starts, windows.seconds, begin + size >= count)


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
