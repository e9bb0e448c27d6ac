"""Which rows share a batch? Only rows with the same senses, so that every sense has negatives of its own kind."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import Sampler

from codebind_hf.data.collator import sense_names


class SenseBatchSampler(Sampler[list[int]]):
    """Shuffled batches, each of rows with the same set of senses, the sets spread evenly over the epoch.

    Args:
        rows: raw or prepared rows. Raw rows are looked at once, here; where they are costly, pass `senses`, as
            `NineSenses.row_senses`.
        batch_size: rows per batch.
        seed: of the shuffling; the same seed and epoch give the same batches.
        drop_last: leave out the batch of a set of senses that is smaller than `batch_size`.
        senses: the senses of every row, instead of looking at the rows.

    Raises:
        ValueError: a batch size below 1, or `senses` of another length than `rows`.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        batch_size: int,
        seed: int = 0,
        drop_last: bool = False,
        senses: Sequence[tuple[str, ...]] | None = None,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size!r}; allowed: a whole number of at least 1.")
        if senses is not None and len(senses) != len(rows):
            raise ValueError(f"senses: got {len(senses)} entries for {len(rows)} rows; allowed: one for every row.")
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0
        self.groups = _grouped(rows, senses)

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffling of epoch `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        spare = 0 if self.drop_last else self.batch_size - 1
        return sum((len(group) + spare) // self.batch_size for group in self.groups.values())

    def __iter__(self) -> Iterator[list[int]]:
        # A string seeds Python's generator with all of its bits, whatever the numbers are.
        rng = random.Random(f"{self.seed}/{self.epoch}")
        placed: list[tuple[float, int, list[int]]] = []
        for order, indices in enumerate(self.groups.values()):
            batches = self._batches(rng, indices)
            # Batch b of n sits at (b + offset) / n of the epoch: round-robin in proportion to the sizes.
            offset = rng.random()
            placed += [((number + offset) / len(batches), order, batch) for number, batch in enumerate(batches)]
        return iter([batch for _, _, batch in sorted(placed, key=lambda entry: entry[:2])])

    def _batches(self, rng: random.Random, indices: Sequence[int]) -> list[list[int]]:
        shuffled = list(indices)
        rng.shuffle(shuffled)
        size = self.batch_size
        batches = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
        return [batch for batch in batches if len(batch) == size or not self.drop_last]


def _grouped(
    rows: Sequence[Mapping[str, Any]], senses: Sequence[tuple[str, ...]] | None
) -> dict[tuple[str, ...], list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for index in range(len(rows)):
        names = sense_names(rows[index]) if senses is None else tuple(senses[index])
        groups.setdefault(names, []).append(index)
    return groups
