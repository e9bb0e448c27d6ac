"""Is the model any good: metrics, probes, codebook health, whole reports with pictures, model cards."""

from codebind_hf.evaluation.embedding import (
    ClassEmbeds,
    EmbeddedSense,
    EmbeddedSet,
    class_embeddings,
    embed_dataset,
    embed_texts,
)
from codebind_hf.evaluation.figures import draw_figures
from codebind_hf.evaluation.health import code_agreement, codebook_health, modality_usage
from codebind_hf.evaluation.loading_metrics import load_metric, metric_path
from codebind_hf.evaluation.metrics import (
    mean_average_precision,
    median_rank,
    pool_recall,
    retrieval_recall,
    zero_shot_accuracy,
)
from codebind_hf.evaluation.model_card import write_model_card
from codebind_hf.evaluation.probes import ProbeResult, linear_probe
from codebind_hf.evaluation.report import markdown_report, write_report
from codebind_hf.evaluation.suite import Evaluation, evaluate_model


__all__ = [
    "ClassEmbeds",
    "EmbeddedSense",
    "EmbeddedSet",
    "Evaluation",
    "ProbeResult",
    "class_embeddings",
    "code_agreement",
    "codebook_health",
    "draw_figures",
    "embed_dataset",
    "embed_texts",
    "evaluate_model",
    "linear_probe",
    "load_metric",
    "markdown_report",
    "mean_average_precision",
    "median_rank",
    "metric_path",
    "modality_usage",
    "pool_recall",
    "retrieval_recall",
    "write_model_card",
    "write_report",
    "zero_shot_accuracy",
]
