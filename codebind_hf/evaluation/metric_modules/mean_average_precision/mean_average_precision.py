"""Do the relevant items come first, whatever the order of ties? A module of `evaluate`."""

from typing import Any

import evaluate
from datasets import Features, List, Value

from codebind_hf.evaluation import mean_average_precision
from codebind_hf.evaluation.metric_modules.checked_metric import CheckedMetric, flag_rows, number_rows
from codebind_hf.evaluation.metrics import TIE_TOLERANCE


DESCRIPTION = """\
Mean of the average precision (the sum over thresholds of precision times the gain in recall) over rows of scores, or
over their columns. Items whose scores tie share one threshold, so their order does not matter.
"""

INPUTS = """
Args:
    predictions (rows of floats): the scores of all items for one query, or of all classes for one item; higher is
        better.
    references (rows of booleans, or of zeros and ones): which of them are relevant.
    average (str, passed to `compute`): "samples" (default) is the mean over the rows that were added, "macro" the mean
        over the columns, as for classes when every row is an item. Rows or columns without anything relevant are left
        out.
    tolerance (float, passed to `compute`): scores closer than this to their neighbour tie; by default as in
        `codebind_hf.evaluation.mean_average_precision`.

Returns:
    {"mean_average_precision": value}.
"""

AVERAGES = ("samples", "macro")
SCIKIT_LEARN = "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html"


class MeanAveragePrecision(CheckedMetric):
    """`codebind_hf.evaluation.mean_average_precision` over rows that were added one by one or in batches."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=Features({"predictions": List(Value("float64")), "references": List(Value("bool"))}),
            reference_urls=[SCIKIT_LEARN],
        )

    def _compute(
        self, predictions: Any, references: Any, average: str = "samples", tolerance: float = TIE_TOLERANCE
    ) -> dict[str, float]:
        if average not in AVERAGES:
            raise ValueError(f"average: got {average!r}; it must be one of {', '.join(AVERAGES)}.")
        scores, relevant = number_rows("predictions", predictions), flag_rows("references", references)
        if average == "macro":
            scores, relevant = scores.T, relevant.T
        return {"mean_average_precision": mean_average_precision(scores, relevant, tolerance)}
