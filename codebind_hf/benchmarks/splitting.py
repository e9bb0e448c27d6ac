"""Which rows are held out where a data set has no split for it? Whole groups, the same on every machine."""

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np


def held_out(groups: Sequence[str], share: float) -> np.ndarray:
    """Which rows are held out, booleans of shape `(rows,)`.

    Groups (videos, places, or single rows) are taken in an order that their names give and that has nothing to do with
    what they hold, until at least `share` of the rows are taken; one group is always left.

    Args:
        groups: the group of each row.
        share: of the rows, in (0, 1).
    """
    sizes, taken, count = Counter(groups), set[str](), 0
    order = sorted(sizes, key=lambda name: (zlib.crc32(name.encode()), name))
    for name in order[:-1]:
        if count >= share * len(groups):
            break
        taken.add(name)
        count += sizes[name]
    return np.array([name in taken for name in groups], dtype=bool)
