"""The library's names for the shared embedding of one modality."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .codebooks import SharedSpecificCodebook
from .heads import Encoded, Encoder
from .inputs import Checks, model_input
from .typed_modules import ModulesByName


class ModalityFeatures:
    """`get_<modality>_features` for every built-in modality; each is `get_features` of that modality.

    They return `last_hidden_state` of the tower and `pooler_output`, `(batch, shared_dim)`: the unit shared embedding,
    quantized unless `quantize=False`. Further keyword arguments and errors are those of `get_features`.
    """

    config: Any
    encoders: ModulesByName[Encoder]
    input_checks: Callable[[], Checks]
    codebooks: SharedSpecificCodebook
    _encode: Callable[..., Encoded]

    def get_features(
        self,
        modality: str,
        values: Tensor,
        attention_mask: Tensor | None = None,
        quantize: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """Shared embedding of one modality, built-in or added; nothing else is computed.

        Returns:
            `last_hidden_state` of the tower, `(batch * clips, tokens, hidden_size)`, and `pooler_output`,
            `(batch, shared_dim)`: the unit shared embedding, quantized unless `quantize=False`; with
            `return_dict=False` a tuple of them.
        """
        chosen = self.config.modality(modality)
        config = self.encoders[chosen.encoder].config
        value = model_input(chosen, config, values, attention_mask, self.input_checks())
        encoded = self._encode(value, all_tokens=False, specific=False)
        shared = ("shared", chosen.encoder, encoded.shared[:, 0])
        pooled = self.codebooks.quantize(*shared).embedding if quantize else self.codebooks.continuous(*shared)
        wants_hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        wants_weights = self.config.output_attentions if output_attentions is None else output_attentions
        tower = self.encoders[chosen.encoder].tower
        read = (value.values, value.attention_mask, encoded.hidden_states)
        output = BaseModelOutputWithPooling(
            last_hidden_state=encoded.hidden_states[-1],
            pooler_output=pooled,
            hidden_states=encoded.hidden_states if wants_hidden else None,
            attentions=tower.attentions(*read) if wants_weights else None,
        )
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()  # type: ignore[return-value]

    def get_pooled_tokens(self, modality: str, values: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """What the tower of a modality gives and its heads read, for `forward(pooled_tokens={modality: ...})`.

        Args:
            values: the input of the modality, as `forward` takes it.

        Returns:
            `(batch, clips, hidden_size)`: the token that stands for each clip; texts and images are one clip.

        Raises:
            ValueError: as `forward`.
        """
        chosen = self.config.modality(modality)
        encoder = self.encoders[chosen.encoder]
        value = model_input(chosen, encoder.config, values, attention_mask, self.input_checks())
        tokens = encoder.tower(value.values, value.attention_mask)[-1]
        return encoder.tower.pooled(value.values, tokens).unflatten(0, (-1, value.clips))

    def get_text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """`get_features` of text, `(batch, tokens)`."""
        kwargs.pop("token_type_ids", None)
        return self.get_features("text", input_ids, attention_mask, **kwargs)

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of images, `(batch, 3, height, width)`."""
        return self.get_features("image", pixel_values, **kwargs)

    def get_video_features(self, pixel_values_videos: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of video, `(batch, clips, frames, 3, height, width)`."""
        return self.get_features("video", pixel_values_videos, **kwargs)

    def get_audio_features(self, input_features: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of audio, `(batch, clips, mel, frames)`."""
        return self.get_features("audio", input_features, **kwargs)

    def get_depth_features(self, depth_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of depth, `(batch, 1, height, width)`."""
        return self.get_features("depth", depth_values, **kwargs)

    def get_thermal_features(self, thermal_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of thermal images, `(batch, 1, height, width)`."""
        return self.get_features("thermal", thermal_values, **kwargs)

    def get_tactile_features(self, tactile_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of tactile images, `(batch, 3, height, width)`."""
        return self.get_features("tactile", tactile_values, **kwargs)

    def get_point_cloud_features(self, point_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of point clouds, `(batch, points, 3)`, or 6 with colours where the encoder sees them."""
        return self.get_features("point_cloud", point_values, **kwargs)

    def get_eeg_features(self, eeg_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of EEG, `(batch, channels, time)`."""
        return self.get_features("eeg", eeg_values, **kwargs)

    def get_imu_features(self, imu_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """`get_features` of IMU, `(batch, 6, time)`."""
        return self.get_features("imu", imu_values, **kwargs)
