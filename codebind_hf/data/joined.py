"""Several sources of rows as one."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from codebind_hf.data.fingerprints import digest_of, fingerprint
from codebind_hf.data.items import row_modalities
from codebind_hf.data.row_tensors import class_names_of


class JoinedRows(Sequence[dict[str, Any]]):
    """The rows of every part, one part after another; none is opened before it is asked for.

    Args:
        parts: one or more.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(map(len, self.parts)))
        self.row_modalities = [names for part in self.parts for names in row_modalities(part)]

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)} rows.")
        position = int(index) % len(self)
        part = bisect_right(self.ends, position)
        return self.parts[part][position - (self.ends[part - 1] if part else 0)]

    @property
    def class_names(self) -> list[str]:
        """Labels of all parts, in the order of their first appearance."""
        return class_names_of(name for part in self.parts for name in part.class_names)

    @property
    def fingerprint(self) -> str:
        """Digest of all parts."""
        return digest_of([fingerprint(part) for part in self.parts])
