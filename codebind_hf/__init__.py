"""CodeBind for Hugging Face Transformers: nine kinds of sensor data in one embedding space."""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

from codebind_hf.inference.pipelines import register_pipelines
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.outputs import CodeBindOutput
from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.image_processing_codebind import CodeBindImageProcessor
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.arguments import CodeBindTrainingArguments
from codebind_hf.training.balancing import LossBalancer
from codebind_hf.training.trainer import CodeBindTrainer


__version__ = "0.1.0"

AutoConfig.register("codebind", CodeBindConfig)
AutoModel.register(CodeBindConfig, CodeBindModel)
AutoProcessor.register(CodeBindConfig, CodeBindProcessor)
# The library's own pipelines load the parts of a processor one by one.
AutoModelForZeroShotImageClassification.register(CodeBindConfig, CodeBindModel)
AutoImageProcessor.register(CodeBindConfig, image_processor_classes={"pil": CodeBindImageProcessor})
AutoFeatureExtractor.register(CodeBindConfig, CodeBindAudioFeatureExtractor)
register_pipelines()

__all__ = [
    "CodeBindConfig",
    "CodeBindEncoderConfig",
    "CodeBindModel",
    "CodeBindOutput",
    "CodeBindProcessor",
    "CodeBindTrainer",
    "CodeBindTrainingArguments",
    "LossBalancer",
]
