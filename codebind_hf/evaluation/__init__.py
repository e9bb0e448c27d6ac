"""Is the model any good: metrics, probes, codebook health, whole reports with pictures, model cards."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names


if TYPE_CHECKING:
    from codebind_hf.evaluation.abstention import calibrate_threshold as calibrate_threshold
    from codebind_hf.evaluation.abstention import save_thresholds as save_thresholds
    from codebind_hf.evaluation.attacks import attack as attack
    from codebind_hf.evaluation.attacks import given_away as given_away
    from codebind_hf.evaluation.benchmarking import comparison_table as comparison_table
    from codebind_hf.evaluation.benchmarking import evaluate_benchmark as evaluate_benchmark
    from codebind_hf.evaluation.benchmarking import write_benchmarks as write_benchmarks
    from codebind_hf.evaluation.class_structure import intra_class_cosine as intra_class_cosine
    from codebind_hf.evaluation.embedding import ClassEmbeds as ClassEmbeds
    from codebind_hf.evaluation.embedding import EmbeddedModality as EmbeddedModality
    from codebind_hf.evaluation.embedding import EmbeddedSet as EmbeddedSet
    from codebind_hf.evaluation.embedding import class_embeddings as class_embeddings
    from codebind_hf.evaluation.embedding import embed_dataset as embed_dataset
    from codebind_hf.evaluation.embedding import embed_texts as embed_texts
    from codebind_hf.evaluation.figures import draw_figures as draw_figures
    from codebind_hf.evaluation.fusion import FusionResult as FusionResult
    from codebind_hf.evaluation.fusion import fusion_accuracy as fusion_accuracy
    from codebind_hf.evaluation.health import code_agreement as code_agreement
    from codebind_hf.evaluation.health import codebook_health as codebook_health
    from codebind_hf.evaluation.health import modality_usage as modality_usage
    from codebind_hf.evaluation.loading_metrics import load_metric as load_metric
    from codebind_hf.evaluation.loading_metrics import metric_path as metric_path
    from codebind_hf.evaluation.metrics import hit_shares as hit_shares
    from codebind_hf.evaluation.metrics import match_places as match_places
    from codebind_hf.evaluation.metrics import mean_average_precision as mean_average_precision
    from codebind_hf.evaluation.metrics import median_rank as median_rank
    from codebind_hf.evaluation.metrics import owner_recall as owner_recall
    from codebind_hf.evaluation.metrics import pool_precision as pool_precision
    from codebind_hf.evaluation.metrics import pool_recall as pool_recall
    from codebind_hf.evaluation.metrics import retrieval_recall as retrieval_recall
    from codebind_hf.evaluation.metrics import zero_shot_accuracy as zero_shot_accuracy
    from codebind_hf.evaluation.model_card import write_model_card as write_model_card
    from codebind_hf.evaluation.pages.search_page import write_search_page as write_search_page
    from codebind_hf.evaluation.probes import ProbeResult as ProbeResult
    from codebind_hf.evaluation.probes import linear_probe as linear_probe
    from codebind_hf.evaluation.provenance import checkpoint_digest as checkpoint_digest
    from codebind_hf.evaluation.report import markdown_report as markdown_report
    from codebind_hf.evaluation.report import write_report as write_report
    from codebind_hf.evaluation.suite import Evaluation as Evaluation
    from codebind_hf.evaluation.suite import evaluate_model as evaluate_model

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.evaluation.abstention": "calibrate_threshold save_thresholds",
        "codebind_hf.evaluation.attacks": "attack given_away",
        "codebind_hf.evaluation.benchmarking": "comparison_table evaluate_benchmark write_benchmarks",
        "codebind_hf.evaluation.class_structure": "intra_class_cosine",
        "codebind_hf.evaluation.embedding": """ClassEmbeds EmbeddedModality EmbeddedSet class_embeddings embed_dataset
            embed_texts""",
        "codebind_hf.evaluation.figures": "draw_figures",
        "codebind_hf.evaluation.fusion": "FusionResult fusion_accuracy",
        "codebind_hf.evaluation.health": "code_agreement codebook_health modality_usage",
        "codebind_hf.evaluation.loading_metrics": "load_metric metric_path",
        "codebind_hf.evaluation.metrics": """hit_shares match_places mean_average_precision median_rank
            owner_recall pool_precision pool_recall retrieval_recall zero_shot_accuracy""",
        "codebind_hf.evaluation.model_card": "write_model_card",
        "codebind_hf.evaluation.pages.search_page": "write_search_page",
        "codebind_hf.evaluation.probes": "ProbeResult linear_probe",
        "codebind_hf.evaluation.provenance": "checkpoint_digest",
        "codebind_hf.evaluation.report": "markdown_report write_report",
        "codebind_hf.evaluation.suite": "Evaluation evaluate_model",
    },
    renamed={"EmbeddedSense": "EmbeddedModality"},
)
