"""Which tasks does `transformers.pipeline` know beside its own, once this package is imported?"""

from transformers import pipelines

from codebind_hf.processing import pipelines_codebind
from codebind_hf.processing.pipelines_codebind import (
    CrossModalRetrievalPipeline,
    MultimodalEmbeddingPipeline,
    SensorClassificationPipeline,
)
from codebind_hf.registration import register_pipelines as _register


__all__ = [
    "CrossModalRetrievalPipeline",
    "MultimodalEmbeddingPipeline",
    "SensorClassificationPipeline",
    "register_pipelines",
]


def register_pipelines() -> None:
    """Let `pipeline("zero-shot-sensor-classification", ...)` and the other tasks of this package be found."""
    _register(pipelines, pipelines_codebind)
