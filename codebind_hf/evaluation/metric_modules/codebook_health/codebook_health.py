"""How much of a codebook is in use, and how evenly? A module of `evaluate`."""

from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value

from codebind_hf.evaluation import codebook_health
from codebind_hf.evaluation.metric_modules.checked_metric import CITATION, PAPER, CheckedMetric, id_rows


DESCRIPTION = """\
How much of a codebook a set of code ids uses: the share of codes that were picked at all, and the perplexity of the
picks, which is the number of codes that would do if all were picked equally often.
"""

INPUTS = """
Args:
    predictions (rows of integers): the code ids of each embedding. Rows may differ in length or be single ids; arrays
        of more axes are read row by row.
    num_codes (int, passed to `compute`): size of the codebook.

Returns:
    {"usage": share of codes picked at least once, "perplexity": value, "num_codes": size, "dead": codes never picked}.
"""


class CodebookHealth(CheckedMetric):
    """`codebind_hf.evaluation.codebook_health` over ids that were added one by one or in batches."""

    required = ("num_codes",)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=Features({"predictions": List(Value("int64"))}),
            reference_urls=[PAPER],
        )

    def _compute(self, predictions: Any, num_codes: int) -> dict[str, float | int]:
        none: np.ndarray = np.empty(0, dtype=np.int64)
        return codebook_health(np.concatenate([none, *id_rows("predictions", predictions)]), num_codes)
