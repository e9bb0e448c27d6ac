"""CodeBind for Hugging Face Transformers: nine kinds of sensor data in one embedding space."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.outputs import CodeBindOutput
from codebind_hf.model.processing_codebind import CodeBindProcessor
from codebind_hf.training.arguments import CodeBindTrainingArguments
from codebind_hf.training.balancing import LossBalancer
from codebind_hf.training.trainer import CodeBindTrainer


__version__ = "0.1.0"

AutoConfig.register("codebind", CodeBindConfig)
AutoModel.register(CodeBindConfig, CodeBindModel)
AutoProcessor.register(CodeBindConfig, CodeBindProcessor)

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
