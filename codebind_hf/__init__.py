"""CodeBind for Hugging Face Transformers: nine kinds of sensor data in one embedding space."""

from transformers import AutoConfig, AutoModel

from codebind_hf.model.configuration_codebind import CodeBindConfig, CodeBindEncoderConfig
from codebind_hf.model.modeling_codebind import CodeBindModel


__version__ = "0.1.0"

AutoConfig.register("codebind", CodeBindConfig)
AutoModel.register(CodeBindConfig, CodeBindModel)

__all__ = ["CodeBindConfig", "CodeBindEncoderConfig", "CodeBindModel"]
