"""How often is the match among the k nearest, never profiting from a tie? A module of `evaluate`."""

from collections.abc import Sequence
from typing import Any

import evaluate
from datasets import Features, List, Value

from codebind_hf.evaluation import retrieval_recall
from codebind_hf.evaluation.metric_modules.checked_metric import (
    CITATION,
    PAPER,
    CheckedMetric,
    number_rows,
    positions,
)


DESCRIPTION = """\
Recall at k of retrieval by cosine similarity: the share of queries whose match is among the k nearest gallery items.
Items that tie with the match count as their expected value when ties are broken at random, so equal embeddings (as
quantized ones often are) bring no profit.
"""

INPUTS = """
Args:
    predictions (rows of floats): embeddings of the queries.
    references: with the configuration "default" rows of floats, the embeddings of the gallery: row i is the match of
        query i. With the configuration "gallery" integers: the position of each query's match in `gallery`.
    k (int or list of int, passed to `compute`): the cut-offs, by default 1 and 10.
    gallery (rows of floats, passed to `compute`): the gallery of the configuration "gallery".

Returns:
    {"recall_at_<k>": share} for each k.
"""

CONFIGURATIONS = ("default", "gallery")


class RetrievalRecall(CheckedMetric):
    """`codebind_hf.evaluation.retrieval_recall` over rows that were added one by one or in batches."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in CONFIGURATIONS:
            raise ValueError(f"config_name: got {self.config_name!r}; it must be one of {', '.join(CONFIGURATIONS)}.")
        embeddings, match = List(Value("float64")), Value("int64")
        has_gallery = self.config_name == "gallery"
        self.required = ("gallery",) if has_gallery else ()
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=Features({"predictions": embeddings, "references": match if has_gallery else embeddings}),
            reference_urls=[PAPER],
        )

    def _compute(
        self, predictions: Any, references: Any, k: int | Sequence[int] = (1, 10), gallery: Any = None
    ) -> dict[str, float]:
        query, cuts = number_rows("predictions", predictions), [k] if isinstance(k, int) else k
        if self.config_name == "gallery":
            return retrieval_recall(query, gallery, cuts, positions("references", references))
        if gallery is not None:
            raise ValueError('gallery: only the configuration "gallery" takes it; here `references` are the gallery.')
        return retrieval_recall(query, number_rows("references", references), cuts)
