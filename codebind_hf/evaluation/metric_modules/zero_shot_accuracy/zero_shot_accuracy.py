"""How often is an item's class among the most similar ones, never profiting from a tie? A module of `evaluate`."""

from typing import Any

import evaluate
from datasets import Features, List, Value

from codebind_hf.evaluation import zero_shot_accuracy
from codebind_hf.evaluation.metric_modules.checked_metric import (
    CITATION,
    PAPER,
    CheckedMetric,
    number_rows,
    positions,
)


DESCRIPTION = """\
Zero-shot accuracy: the share of items whose class is among the `top_k` classes with the most similar embeddings
(cosine), for example those of prompts like "a photo of a dog". Classes that tie with the right one count as their
expected value when ties are broken at random.
"""

INPUTS = """
Args:
    predictions (rows of floats): embeddings of the items.
    references (integers): position of each item's class in `class_embeds`.
    class_embeds (rows of floats, passed to `compute`): one embedding for each class.
    top_k (int, passed to `compute`): how many classes an item may name, by default 1.

Returns:
    {"zero_shot_accuracy": share}, whatever `top_k` is.
"""


class ZeroShotAccuracy(CheckedMetric):
    """`codebind_hf.evaluation.zero_shot_accuracy` over rows that were added one by one or in batches."""

    required = ("class_embeds",)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=Features({"predictions": List(Value("float64")), "references": Value("int64")}),
            reference_urls=[PAPER],
        )

    def _compute(self, predictions: Any, references: Any, class_embeds: Any, top_k: int = 1) -> dict[str, float]:
        embeds, labels = number_rows("predictions", predictions), positions("references", references)
        return {"zero_shot_accuracy": zero_shot_accuracy(embeds, class_embeds, labels, top_k)}
