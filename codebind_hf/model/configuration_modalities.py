"""Configurations of the parts: one typed class per built-in encoder, and one for the decoders."""

from .configuration_base import checked_config
from .configuration_encoders import CodeBindBlockConfig, CodeBindEncoderConfig


@checked_config
class CodeBindTextConfig(CodeBindEncoderConfig):
    """The text encoder: causal, pooled at the first end-of-text token."""

    model_type = "codebind_text"
    base_config_key = "text_config"
    stem: str = "tokens"
    is_causal: bool = True
    bos_token_id: int | None = 0
    eos_token_id: int | None = 1
    pad_token_id: int | None = 2

    def validate_architecture(self) -> None:
        super().validate_architecture()
        if not self.is_causal:
            raise ValueError("is_causal: got False; text is causal, so that its end token does not see the padding.")
        if self.eos_token_id is None:
            raise ValueError("eos_token_id: got None; text is pooled at this token, so it must be the tokenizer's.")
        if not 0 <= self.eos_token_id < self.vocab_size:
            raise ValueError(f"eos_token_id: got {self.eos_token_id}; vocab_size={self.vocab_size} has no such token.")


@checked_config
class CodeBindVisionConfig(CodeBindEncoderConfig):
    """The vision encoder, for images and video."""

    model_type = "codebind_vision"
    base_config_key = "vision_config"


@checked_config
class CodeBindAudioConfig(CodeBindEncoderConfig):
    """The audio encoder, on log-mel spectrograms `(mel bins, frames)`."""

    model_type = "codebind_audio"
    base_config_key = "audio_config"
    num_channels: int = 1
    input_size: list[int] | tuple[int, ...] = (128, 204)
    patch_stride: list[int] | tuple[int, ...] | None = (10, 10)


@checked_config
class CodeBindDepthConfig(CodeBindEncoderConfig):
    """The depth encoder."""

    model_type = "codebind_depth"
    base_config_key = "depth_config"
    num_channels: int = 1


@checked_config
class CodeBindThermalConfig(CodeBindEncoderConfig):
    """The thermal encoder."""

    model_type = "codebind_thermal"
    base_config_key = "thermal_config"
    num_channels: int = 1


@checked_config
class CodeBindTactileConfig(CodeBindEncoderConfig):
    """The tactile encoder, on the colour image of a gel sensor."""

    model_type = "codebind_tactile"
    base_config_key = "tactile_config"


@checked_config
class CodeBindPointConfig(CodeBindEncoderConfig):
    """The point cloud encoder."""

    model_type = "codebind_point"
    base_config_key = "point_config"
    stem: str = "points"
    input_size: list[int] | tuple[int, ...] = (8192,)


@checked_config
class CodeBindEegConfig(CodeBindEncoderConfig):
    """The EEG encoder, on `(electrodes, time)`."""

    model_type = "codebind_eeg"
    base_config_key = "eeg_config"
    num_channels: int = 128
    input_size: list[int] | tuple[int, ...] = (440,)
    patch_size: list[int] | tuple[int, ...] = (1,)


@checked_config
class CodeBindImuConfig(CodeBindEncoderConfig):
    """The IMU encoder, on `(3 accelerometer + 3 gyroscope axes, time)`."""

    model_type = "codebind_imu"
    base_config_key = "imu_config"
    num_channels: int = 6
    input_size: list[int] | tuple[int, ...] = (2000,)
    patch_size: list[int] | tuple[int, ...] = (8,)


@checked_config
class CodeBindDecoderConfig(CodeBindBlockConfig):
    """The decoders that reconstruct every modality but text while training (paper section 3.2; sizes of its code).

    Args:
        has_position: a learned position table on the decoder's tokens, which codes alone do not carry.
        hide_patches: share of samples whose decoder sees only the CLS token, while training: what it needs must then
            be in the embedding itself, not in patch tokens that nobody keeps. With 1 it never sees another, and no
            other is quantized: codebooks then follow the embeddings alone, and a step is cheaper.
    """

    model_type = "codebind_decoder"
    base_config_key = "decoder_config"
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    has_position: bool = True
    hide_patches: float | int = 0.0

    def validate_architecture(self) -> None:
        super().validate_architecture()
        if not 0 <= self.hide_patches <= 1:
            raise ValueError(f"hide_patches: got {self.hide_patches!r}; it must be in [0, 1].")


def decoder_config_for(config: CodeBindDecoderConfig, encoder: CodeBindEncoderConfig) -> CodeBindDecoderConfig:
    """The configuration of one encoder's decoder: the model's, or a copy of the encoder's own width."""
    if encoder.decoder_hidden_size is None:
        return config
    own = type(config)(**{**config.to_dict(), "hidden_size": encoder.decoder_hidden_size})
    own._attn_implementation = config._attn_implementation
    return own
