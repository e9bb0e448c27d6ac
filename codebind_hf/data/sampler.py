"""Which rows share a batch? Only rows with the same modalities, so that each has negatives of its own kind."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import Sampler

from codebind_hf.data.collator import modality_names
from codebind_hf.data.items import Draw
from codebind_hf.renamed import renamed_keywords


class ModalityBatchSampler(Sampler[list[int]]):
    """Shuffled batches, each of rows with the same set of modalities, the sets spread evenly over the epoch.

    Args:
        rows: raw or prepared rows. Raw rows are looked at once, here; where they are costly, pass `modalities`, as
            `NineSenses.row_modalities`.
        batch_size: rows per batch.
        seed: of the shuffling; the same seed and epoch give the same batches.
        drop_last: leave out the batch of a set of modalities that is smaller than `batch_size`.
        modalities: the modalities of every row, instead of looking at the rows.
        num_processes: processes that take the batches in turn. That many batches in a row then have the same
            modalities and, up to one row, the same size: negatives from all processes are of the modality that is
            being bound, and sharded models, whose processes must run the same towers, cannot hang. A last round that
            is too small for every process repeats rows.

    Raises:
        ValueError: a batch size or number of processes below 1, or `modalities` of another length than `rows`.
    """

    @renamed_keywords(senses="modalities")
    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        batch_size: int,
        seed: int = 0,
        drop_last: bool = False,
        modalities: Sequence[tuple[str, ...]] | None = None,
        num_processes: int = 1,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("num_processes", num_processes)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: got {value!r}; allowed: a whole number of at least 1.")
        if modalities is not None and len(modalities) != len(rows):
            raise ValueError(
                f"modalities: got {len(modalities)} entries for {len(rows)} rows; allowed: one for every row."
            )
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.num_processes = num_processes
        self.epoch = 0
        self.groups = _grouped(rows, modalities)

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffling of epoch `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        size = self.batch_size * self.num_processes
        spare = 0 if self.drop_last else size - 1
        return self.num_processes * sum((len(group) + spare) // size for group in self.groups.values())

    def __iter__(self) -> Iterator[list[int]]:
        # A string seeds Python's generator with all of its bits, whatever the numbers are. Nothing here is a secret.
        rng = random.Random(f"{self.seed}/{self.epoch}")  # noqa: S311
        placed: list[tuple[float, int, list[int]]] = []
        for order, indices in enumerate(self.groups.values()):
            rounds = self._rounds(rng, indices)
            # Round r of n sits at (r + offset) / n of the epoch: round-robin in proportion to the sizes.
            offset = rng.random()
            placed += [((number + offset) / len(rounds), order, rows) for number, rows in enumerate(rounds)]
        in_order = sorted(placed, key=lambda entry: entry[:2])
        return iter([batch for _, _, rows in in_order for batch in self._shares(rows)])

    def _rounds(self, rng: random.Random, indices: Sequence[int]) -> list[list[int]]:
        """Rows that all processes together take at a time."""
        shuffled = list(indices)
        rng.shuffle(shuffled)
        size = self.batch_size * self.num_processes
        rounds = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
        return [rows for rows in rounds if len(rows) == size or not self.drop_last]

    def _shares(self, rows: list[int]) -> list[list[int]]:
        """The rows of one round, a batch for every process; each gets one row at least."""
        count = self.num_processes
        return [rows[process::count] or [rows[process % len(rows)]] for process in range(count)]


class UnevenBatches(Sampler[list[Any]]):
    """Batches without one size in common: processes then share them out whole, and lose none of the smaller ones.

    Args:
        draws: give rows as `Draw`, with their epoch, to a data set that draws something in each.
    """

    batch_size = None

    def __init__(self, batches: ModalityBatchSampler, draws: bool = False) -> None:
        self.batches, self.drop_last, self.draws = batches, batches.drop_last, draws

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffling of epoch `epoch`."""
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Any]]:
        if not self.draws:
            return iter(self.batches)
        batches, epoch = iter(self.batches), self.batches.epoch
        return ([Draw(position, epoch) for position in batch] for batch in batches)


def _grouped(
    rows: Sequence[Mapping[str, Any]], modalities: Sequence[tuple[str, ...]] | None
) -> dict[tuple[str, ...], list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for index in range(len(rows)):
        names = modality_names(rows[index]) if modalities is None else tuple(modalities[index])
        groups.setdefault(names, []).append(index)
    return groups
