"""CodeBind for Hugging Face Transformers: nine kinds of sensor data in one embedding space."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names
from codebind_hf.registration import register_when_used
from codebind_hf.renamed import find_moved_modules


if TYPE_CHECKING:
    from codebind_hf.model.configuration_codebind import CodeBindConfig as CodeBindConfig
    from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig as CodeBindEncoderConfig
    from codebind_hf.model.modeling_codebind import CodeBindModel as CodeBindModel
    from codebind_hf.model.outputs import CodeBindOutput as CodeBindOutput
    from codebind_hf.processing.processing_codebind import CodeBindProcessor as CodeBindProcessor
    from codebind_hf.training.arguments import CodeBindTrainingArguments as CodeBindTrainingArguments
    from codebind_hf.training.balancing import LossBalancer as LossBalancer
    from codebind_hf.training.trainer import CodeBindTrainer as CodeBindTrainer

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.model.configuration_codebind": "CodeBindConfig",
        "codebind_hf.model.configuration_encoders": "CodeBindEncoderConfig",
        "codebind_hf.model.modeling_codebind": "CodeBindModel",
        "codebind_hf.model.outputs": "CodeBindOutput",
        "codebind_hf.processing.processing_codebind": "CodeBindProcessor",
        "codebind_hf.training.arguments": "CodeBindTrainingArguments",
        "codebind_hf.training.balancing": "LossBalancer",
        "codebind_hf.training.trainer": "CodeBindTrainer",
    },
)

register_when_used()
find_moved_modules()
