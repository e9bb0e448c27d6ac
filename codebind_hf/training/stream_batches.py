"""How do batches of a stream come about? Rows with the same modalities wait for each other, on all processes alike."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer

from codebind_hf.data.streamed import Passed, Past, StreamedDataset
from codebind_hf.data.workers import in_own_group
from codebind_hf.training.processes import joined_processes
from codebind_hf.training.stages import TEXT_FIX


class StreamBatches(IterableDataset):
    """Endless batches of a stream, epoch after epoch, each of rows with the same modalities on every process.

    What a process has read waits by its set of modalities until every process has a batch of that set. At the end of
    an epoch the rows that are left anywhere are shared out; a round too small for every process repeats rows.

    Args:
        dataset: the rows.
        batch_size: rows of a batch on one process.
        drop_last: leave out, at the end of an epoch, sets with less than a batch for every process.
        num_workers: of the loader that reads rows.
        first: batches that were trained on before; their rows are counted, not read.
        shares: whether processes share the rows; else this one reads all of them, once.
        prefetch_factor: rows that each worker reads ahead; `None` is the library's.
    """

    def __init__(
        self,
        dataset: StreamedDataset,
        batch_size: int,
        drop_last: bool = False,
        num_workers: int = 0,
        first: int = 0,
        shares: bool = True,
        prefetch_factor: int | None = None,
    ) -> None:
        self.prefetch_factor = prefetch_factor
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self.num_workers, self.first, self.shares = num_workers, first, shares

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        epoch, past = self._where_it_stopped()
        while True:
            count = 0
            for batch in self._reader(epoch, past).batches():
                count += 1
                yield batch
            if not count and not past.read:
                raise ValueError(
                    "rows: the stream has no batch of rows that can be aligned; each needs text, an image or a video "
                    f"beside another modality that is trained. Fix: other columns, smaller batches, or {TEXT_FIX}."
                )
            if not self.shares:
                return
            epoch, past = epoch + 1, Past()

    def _where_it_stopped(self) -> tuple[int, Past]:
        """The epoch of the first batch that is new, and what was read of it."""
        epoch, left = 0, self.first
        while left:
            # What cannot be read and is skipped has to be tried again to know it.
            reader = self._reader(epoch, Past(), counts_only=self.dataset.on_error == "raise")
            done = sum(1 for _ in islice(reader.batches(), left))
            if done == left:
                return epoch, reader.past()
            epoch, left = epoch + 1, left - done
        return epoch, Past()

    def _reader(self, epoch: int, past: Past, counts_only: bool = False) -> "_Reader":
        state = joined_processes()
        process, processes = (state.process_index, state.num_processes) if self.shares else (0, 1)
        part = self.dataset.part(epoch, process, processes, past, counts_only)
        return _Reader(part, self.batch_size, self.drop_last, self.num_workers, self.prefetch_factor)


def stream_loader(trainer: Trainer, first: int = 0, shares: bool = True) -> DataLoader:
    """Collated batches of the stream that a trainer trains on; see `StreamBatches`."""
    args: Any = trainer.args
    batches = StreamBatches(
        *(trainer.train_dataset, args.train_batch_size, args.dataloader_drop_last, args.dataloader_num_workers),  # type: ignore[arg-type]
        first=first,
        shares=shares,
        prefetch_factor=args.dataloader_prefetch_factor,
    )
    # A loader begins with a random number. Where a run goes on, the numbers that were saved come after it.
    generator = torch.Generator() if first else None
    return DataLoader(batches, batch_size=None, collate_fn=trainer.data_collator, generator=generator)


class _Reader:
    """One epoch of one process."""

    def __init__(
        self, part: StreamedDataset, batch_size: int, drop_last: bool, num_workers: int, prefetch_factor: int | None
    ) -> None:
        self.part, self.batch_size, self.drop_last = part, batch_size, drop_last
        # With a generator of its own: what workers are seeded with must not move the random numbers of the model.
        loader: Any = DataLoader(
            part,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            collate_fn=_as_it_is,
            worker_init_fn=in_own_group,
            generator=torch.Generator(),
        )
        self._rows = iter(loader)
        self._waiting: dict[tuple[str, ...], deque[Passed]] = defaultdict(deque)
        self._read: Counter[int] = Counter()
        self._has_more = True

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """Batches until the stream ends on every process; then what is left, shared out."""
        # First all that an earlier run had read, so that what waits from then waits in the same order.
        self._read_more(sum(self.part.past.read.values()))
        while True:
            full = self._common_set()
            if full is not None:
                yield _items_of([self._waiting[full].popleft() for _ in range(self.batch_size)])
            elif not any(self._of_all(self._read_more(self.batch_size))):
                break
        yield from self._rest()

    def past(self) -> Past:
        """What was read so far."""
        waiting = frozenset(passed.place for rows in self._waiting.values() for passed in rows)
        return Past(dict(self._read), waiting)

    def _common_set(self) -> tuple[str, ...] | None:
        """The set of modalities, the first by name, of which every process has a batch."""
        own = {names for names, rows in self._waiting.items() if len(rows) >= self.batch_size}
        common = set.intersection(*self._of_all(own))
        return min(common) if common else None

    def _read_more(self, most: int) -> bool:
        """Read rows; whether there were any."""
        count = 0
        while self._has_more and count < most:
            passed = next(self._rows, None)
            if passed is None:
                self._has_more = False
                break
            count += 1
            self._read[passed.place.worker] += 1
            # A row that an earlier run trained on, or that cannot be read, waits for nothing.
            if passed.item is not None or self.part.counts_only:
                self._waiting[passed.modalities].append(passed)
        return count > 0

    def _rest(self) -> Iterator[list[dict[str, Any]]]:
        everywhere: dict[tuple[str, ...], list[Passed]] = defaultdict(list)
        for part in self._of_all([passed for rows in self._waiting.values() for passed in rows]):
            for passed in part:
                everywhere[passed.modalities].append(passed)
        self._waiting.clear()
        process, count = self.part.process, self.part.num_processes
        size = self.batch_size * count
        for names in sorted(everywhere):
            rows = everywhere[names]
            for start in range(0, len(rows), size):
                together = rows[start : start + size]
                if len(together) == size or not self.drop_last:
                    yield _items_of(together[process::count] or [together[process % len(together)]])

    def _of_all(self, value: Any) -> list[Any]:
        """`value` of every process, in their order; every process must ask."""
        return [value] if self.part.num_processes == 1 else gather_object([value])


def _items_of(rows: list[Passed]) -> list[dict[str, Any]]:
    return [passed.item or {} for passed in rows]


def _as_it_is(passed: Any) -> Any:
    return passed
