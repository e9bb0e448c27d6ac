"""Which tasks `transformers.pipeline` knows beside its own, once this package is imported."""

from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from codebind_hf.processing.pipelines_codebind import (
    PIPELINES,
    CrossModalRetrievalPipeline,
    MultimodalEmbeddingPipeline,
    SensorClassificationPipeline,
)


__all__ = [
    "CrossModalRetrievalPipeline",
    "MultimodalEmbeddingPipeline",
    "SensorClassificationPipeline",
    "register_pipelines",
]


def register_pipelines() -> None:
    """Let `pipeline("zero-shot-sensor-classification", ...)` and the other tasks of this package be found."""
    for task, pipeline_class in PIPELINES.items():
        if task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=AutoModel, type="multimodal"
            )
