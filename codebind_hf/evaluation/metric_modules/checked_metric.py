"""What do all metric modules check before `evaluate` stores their inputs?

`evaluate` converts inputs to the declared type without a word: of the label 1.7 it would keep 1. Here every batch is
checked when it is added, so an error names the batch that caused it and leaves what was added before in place.
Numbers are declared as float64: every float16, bfloat16, float32 and float64 is one of these, and the functions of
`codebind_hf.evaluation` compute in float64, so storing changes no bit of a result.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import evaluate
import numpy as np
from datasets import List, Value
from torch import Tensor


PAPER = "https://arxiv.org/abs/2605.18257"
CITATION = """\
@inproceedings{codebind2026,
  title = {CodeBind: Decoupled Representation Learning for Multimodal Alignment with Unified Compositional Codebook},
  author = {Chen, Zeyu and Li, Jie and Han, Kai},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2026},
  year = {2026},
}
"""


# Abstract also because `evaluate.load` takes the first class of a script that is a metric and not abstract.
class CheckedMetric(evaluate.Metric, ABC):
    """A metric whose inputs are checked by what `_info` declares; a subclass writes `_info` and `_compute`."""

    required: tuple[str, ...] = ()  # keywords that `compute` cannot do without

    @abstractmethod
    def _info(self) -> evaluate.MetricInfo:
        """What the metric is and which inputs it stores."""

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Add one prediction and what belongs to it.

        Raises:
            ValueError: an input is missing, has the wrong shape or type, or is none of this metric's.
        """
        single = {"predictions": prediction, "references": reference}
        batch = self._checked({name: None if row is None else [row] for name, row in single.items()})
        super().add(**{name.removesuffix("s"): rows[0] for name, rows in batch.items()}, **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add predictions and what belongs to them, row by row; a batch may be empty.

        Raises:
            ValueError: an input is missing, has the wrong shape or type, is none of this metric's, or the numbers of
                rows differ.
        """
        super().add_batch(**self._checked({"predictions": predictions, "references": references}), **kwargs)

    def compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> dict[str, Any] | None:
        """The value over all that was added, and over the rows given here if there are any; then all is forgotten.

        A required keyword that is missing is noticed before anything is forgotten; other errors cost the rows.

        Raises:
            ValueError: a required keyword is missing, or what the functions of `codebind_hf.evaluation` refuse.
        """
        missing = [name for name in self.required if kwargs.get(name) is None]
        if missing and self.process_id == 0:
            raise ValueError(f"{missing[0]}: missing; {self.name} needs it: compute({missing[0]}=...).")
        return super().compute(predictions=predictions, references=references, **kwargs)

    def _checked(self, given: dict[str, Any]) -> dict[str, list[Any]]:
        batch = {}
        for name, feature in self.features.items():
            if given[name] is None:
                raise ValueError(f"{name}: missing; {self.name} takes {' and '.join(self.features)}.")
            (check,) = [check for declared, check in _CHECKS if declared == feature]
            batch[name] = [row.tolist() for row in check(name, given[name])]
        if len({len(rows) for rows in batch.values()}) > 1:
            numbers = " and ".join(str(len(rows)) for rows in batch.values())
            raise ValueError(f"{', '.join(batch)}: got {numbers} rows; row i of all belongs together.")
        return batch


def number_rows(name: str, values: Any) -> np.ndarray:
    """`values` as float64 of shape `(rows, dim)`; ValueError when they are no such thing."""
    return _table(name, values, np.float64)


def flag_rows(name: str, values: Any) -> np.ndarray:
    """`values` as booleans of shape `(rows, items)`; ValueError when they are no such thing."""
    return _table(name, values, None).astype(bool)


def positions(name: str, values: Any) -> np.ndarray:
    """`values` as int64 of shape `(rows,)`; ValueError when they are no such thing."""
    found = np.asarray(_plain(values))
    if found.shape == (0,):
        return np.empty(0, dtype=np.int64)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"{name}: got {found.dtype} of shape {found.shape}; it must be a list of integers.")
    return found.astype(np.int64)


def id_rows(name: str, values: Any) -> list[np.ndarray]:
    """Each entry of `values` as a flat int64 array, be it one id or an array of ids; ValueError when it is neither."""
    plain = _plain(values)
    if not hasattr(plain, "__len__") or getattr(plain, "ndim", 1) == 0:
        raise ValueError(f"{name}: got {plain!r}; give one entry for each row: an id, or an array of ids.")
    rows = [np.asarray(_plain(row)).reshape(-1) for row in plain]
    for row in rows:
        if row.size and not np.issubdtype(row.dtype, np.integer):
            raise ValueError(f"{name}: got {row.dtype}; code ids are integers.")
    return [row.astype(np.int64) for row in rows]


_CHECKS: list[tuple[Any, Callable[[str, Any], Any]]] = [
    (List(Value("float64")), number_rows),
    (List(Value("bool")), flag_rows),
    (List(Value("int64")), id_rows),
    (Value("int64"), positions),
]


def _table(name: str, values: Any, dtype: Any) -> np.ndarray:
    try:
        rows = np.asarray(_plain(values), dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: got no rows of numbers of one length ({error}).") from error
    if rows.shape[:1] == (0,):
        return rows.reshape(0, 0)
    if rows.ndim != 2:
        raise ValueError(f"{name}: got shape {rows.shape}; it must be one row of numbers for each entry.")
    return rows


def _plain(values: Any) -> Any:
    """Tensors, also those in a list, as arrays; their floats as float64, since numpy has no bfloat16."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()
    if isinstance(values, (list, tuple)):
        return [_plain(value) if isinstance(value, Tensor) else value for value in values]
    return values
