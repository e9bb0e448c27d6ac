"""CodeBind: encoders, shared and specific embeddings, codebooks and losses in one model."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .backbone_loading import BackboneLoading, loaded_network
from .codebook_fitting import CodebookFitting
from .codebooks import Quantized, SharedSpecificCodebook
from .configuration_codebind import CodeBindConfig
from .configuration_encoders import CodeBindEncoderConfig
from .decoders import Decoder
from .decoding import Decoding
from .heads import Encoded, Encoder
from .inputs import ModalityInput, check_pooled, model_inputs, paired_rows, with_views
from .modalities import ENCODERS, MODALITIES
from .modality_features import ModalityFeatures
from .objective import ModalityState, Objective
from .outputs import ByModality, CodeBindOutput, CodeIds
from .parity_codebooks import ParityCodebooks
from .parity_losses import ParityObjective
from .pretrained_model import CodeBindPreTrainedModel, LogitScale
from .pretrained_towers import PretrainedTower, deferring_backbones, trimmed
from .raw_data_encoding import RawDataEncoding
from .typed_modules import ModulesByName, modules_of


class CodeBindModel(
    BackboneLoading, ModalityFeatures, RawDataEncoding, Decoding, CodebookFitting, CodeBindPreTrainedModel
):
    """Nine kinds of sensor data (and IMU) in one embedding space.

    Every input becomes a shared embedding, comparable across modalities and quantized with one codebook for all, and
    (text apart) a specific embedding, quantized with a codebook of its encoder's own.
    """

    # Takes the place of `_quantized` in `forward`: `(model, value, decode, all_tokens)`. Training in chunks sets it.
    modality_runner: Callable[..., tuple[ModalityState, tuple[Tensor, ...]]] | None = None

    def __init__(self, config: CodeBindConfig) -> None:
        super().__init__(config)
        self._inherit_attention()
        self.encoders = ModulesByName[Encoder]()
        self.decoders = ModulesByName[Decoder]()
        for name, encoder in config.encoder_configs.items():
            self._build_encoder(name, encoder)
        self.codebooks = ParityCodebooks(config) if config.parity_codebooks else SharedSpecificCodebook(config)
        self.logit_scale = LogitScale(config)
        self._ignore_what_is_not_held()
        self.post_init()

    def _ignore_what_is_not_held(self) -> None:
        """Have files loaded that also hold modalities and decoders which this model lacks."""
        parts: dict[str, Iterable[str]] = {
            "encoders": self.encoders,
            "decoders": self.decoders,
            "codebooks.specific": self.codebooks.specific,
        }
        ignored = [rf"^{part}\.(?!({'|'.join(held)})\.)" for part, held in parts.items()]
        self._keys_to_ignore_on_load_unexpected = ignored

    def _build_encoder(self, name: str, encoder: CodeBindEncoderConfig) -> None:
        config = self.config
        specific_dim = config.specific_dim_of(name)
        self.encoders[name] = Encoder(encoder, config.shared_dim, specific_dim, config.specific_readout_of(name))
        if config.decoder_config is not None and encoder.has_decoder and encoder.stem not in ("tokens", "pretrained"):
            self.decoders[name] = Decoder(
                config.decoder_config,
                encoder,
                embedding_dim=config.shared_dim + specific_dim,
                takes_tokens=config.decoder_inputs == "codes+tokens",
            )

    def _inherit_attention(self) -> None:
        """Sub-configurations that name no attention implementation of their own take the model's."""
        for name in self.config.sub_configs:
            part = getattr(self.config, name)
            if part is not None and part._attn_implementation is None:
                part._attn_implementation_internal = self.config._attn_implementation

    def set_attn_implementation(self, attn_implementation: str | dict, allow_all_kernels: bool = False) -> None:
        """Like the library's, for all encoders: they are plain modules, which the library does not look into.

        A dictionary changes the parts that it names, "" being the model and the modalities that were added to it.
        """
        wanted = attn_implementation if isinstance(attn_implementation, dict) else {"": attn_implementation}
        super().set_attn_implementation({"": wanted.get("", self.config._attn_implementation)}, allow_all_kernels)
        for name in self.config.sub_configs:
            is_meant = name in wanted or not isinstance(attn_implementation, dict)
            if is_meant and (part := getattr(self.config, name)) is not None:
                part._attn_implementation = wanted.get(name, self.config._attn_implementation)
        for name in self.config.added_encoders or {}:
            self.encoders[name].config._attn_implementation = self.config._attn_implementation
        for encoder in self.encoders.values():
            encoder.follow_attention()
            if isinstance(encoder.tower, PretrainedTower) and encoder.tower.backbone is not None:
                encoder.tower.backbone.set_attn_implementation(encoder.config._attn_implementation)
        for decoder in self.decoders.values():
            decoder.config._attn_implementation = self.config.decoder_config._attn_implementation

    def train(self, mode: bool = True) -> "CodeBindModel":
        """Training mode, except for what is frozen, see `Encoder.resting`."""
        resting = {module for encoder in self.encoders.values() for module in encoder.resting()} if mode else set()
        # The Trainer asks for it before every step, and to tell every module takes much longer than to look.
        if any(module.training != (mode and module not in resting) for module in modules_of(self)):
            super().train(mode)
            for module in resting:
                module.training = False
        return self

    def trained_modalities(self) -> frozenset[str]:
        """The modalities whose encoders learn."""
        return frozenset(name for name, each in self.config.modalities.items() if self.encoders[each.encoder].learns())

    def _is_reconstructed(self, encoder: str) -> bool:
        """Whether training decodes it: not where it is frozen, or where its shared head learns alone."""
        return self.encoders[encoder].learns() and self.encoders[encoder].specific_learns()

    @property
    def _decodes_patches(self) -> bool:
        """Whether decoders are ever given more than the pooled token."""
        return self.config.decoder_config is None or self.config.decoder_config.hide_patches < 1

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_values_videos: Tensor | None = None,
        input_features: Tensor | None = None,
        depth_values: Tensor | None = None,
        thermal_values: Tensor | None = None,
        tactile_values: Tensor | None = None,
        point_values: Tensor | None = None,
        eeg_values: Tensor | None = None,
        imu_values: Tensor | None = None,
        rows: dict[str, Tensor] | None = None,
        views: dict[str, Tensor] | None = None,
        pooled_tokens: dict[str, Tensor] | None = None,
        quantize: bool = True,
        return_loss: bool | None = None,
        output_reconstructions: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **added: Any,
    ) -> CodeBindOutput | tuple:
        """Embed any subset of modalities.

        Args:
            input_ids, attention_mask (`torch.LongTensor` of shape `(batch, tokens)`): text, with an end token.
            pixel_values (`torch.Tensor` of shape `(batch, 3, height, width)`): images.
            pixel_values_videos (`torch.Tensor` of shape `(batch, clips, frames, 3, height, width)`): video.
            input_features (`torch.Tensor` of shape `(batch, clips, mel, frames)`): log-mel spectrograms of audio.
            depth_values, thermal_values (`torch.Tensor` of shape `(batch, 1, height, width)`): maps.
            tactile_values (`torch.Tensor` of shape `(batch, 3, height, width)`): colour images of a gel sensor.
            point_values (`torch.Tensor` of shape `(batch, points, 3)`, or 6 with colours): point clouds.
            eeg_values, imu_values (`torch.Tensor` of shape `(batch, channels, time)`): recordings (IMU: 6 channels).
            rows (`dict[str, torch.LongTensor]`, *optional*): with `return_loss`, which row of the batch each sample of
                a modality belongs to, when some rows lack some modalities.
            views (`dict[str, torch.Tensor]`, *optional*): second views of the samples, such as noisy copies, with the
                names and shapes of the inputs above; the loss term `views` compares their specific parts.
            pooled_tokens (`dict[str, torch.Tensor]`, *optional*): by modality, instead of its input, what
                `get_pooled_tokens` gave of it, `(batch, clips, hidden_size)`: its tower does not run. Without hidden
                states, reconstruction and a specific part that has a read-out of its own.
            quantize (`bool`): `False` gives continuous shared and specific embeddings.
            return_loss (`bool`, *optional*): also compute the loss; in training mode this moves the codebooks. With
                gradients, specific parts that are frozen beside others that learn are left out.
            output_reconstructions (`bool`): also run the decoders.
            added: `<name>_values` of modalities that `add_modality` added.

        Raises:
            ValueError: no input, a modality that this checkpoint lacks, a wrong shape or dtype, NaN (`check_inputs`),
                or pooled tokens where a tower learns or all tokens are needed.
        """
        tensors = {
            "input_ids": input_ids,
            "pixel_values": pixel_values,
            "pixel_values_videos": pixel_values_videos,
            "input_features": input_features,
            "depth_values": depth_values,
            "thermal_values": thermal_values,
            "tactile_values": tactile_values,
            "point_values": point_values,
            "eeg_values": eeg_values,
            "imu_values": imu_values,
            **added,
        }
        checks = self.input_checks()
        inputs = model_inputs(self.config, tensors, attention_mask, checks, pooled_tokens)
        inputs = with_views(self.config, inputs, views, checks)
        if rows is not None or return_loss:
            sizes = {name: len(value.values) // value.clips for name, value in inputs.items()}
            rows = paired_rows(sizes, rows, self.device)
        learns = bool(return_loss) and self.config.loss_weight("recon") > 0
        if return_loss and torch.is_grad_enabled() and not self.config.parity_losses:
            inputs = self._without_what_stays(inputs)
        all_tokens = bool(return_loss) and self.config.parity_losses
        states, hidden = {}, {}
        for name, value in inputs.items():
            decode = output_reconstructions or (learns and self._is_reconstructed(value.modality.encoder))
            decode = decode and value.modality.encoder in self.decoders
            tower = self.encoders[value.modality.encoder].tower
            check_pooled(value, tower, decode or all_tokens, bool(return_loss) and self.training)
            run = self.modality_runner or type(self)._quantized
            states[name], hidden[name] = run(self, value, decode, all_tokens or (decode and self._decodes_patches))
        loss, terms = self._loss(states, rows or {}) if return_loss else (None, None)
        output = self._output(states, hidden, quantize, loss, terms)
        if output_reconstructions:
            made = {name: (state.reconstruction, state.target) for name, state in states.items()}
            output.reconstructions = {name: found for name, (found, _) in made.items() if found is not None}
            output.reconstruction_targets = {name: target for name, (_, target) in made.items() if target is not None}
        if self.config.output_hidden_states if output_hidden_states is None else output_hidden_states:
            output.hidden_states = hidden
        if self.config.output_attentions if output_attentions is None else output_attentions:
            output.attentions = {
                name: self.encoders[x.modality.encoder].tower.attentions(x.values, x.attention_mask, hidden[name])
                for name, x in inputs.items()
            }
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()

    def _without_what_stays(self, inputs: dict[str, ModalityInput]) -> dict[str, ModalityInput]:
        """`inputs` of a step of training; specific parts that do not learn are left out, unless nothing learns."""
        learning = {encoder for encoder in self.encoders if self._is_reconstructed(encoder)}
        if not learning:
            return inputs
        return {name: value._replace(specific=value.modality.encoder in learning) for name, value in inputs.items()}

    def _encode(self, value: ModalityInput, all_tokens: bool, specific: bool = True) -> Encoded:
        encoder = self.encoders[value.modality.encoder]
        if value.is_pooled:
            return encoder.of_tokens(value.values, value.clips, specific)
        return encoder(value.values, value.attention_mask, value.clips, all_tokens, specific)

    def _quantized(
        self, value: ModalityInput, decode: bool, all_tokens: bool
    ) -> tuple[ModalityState, tuple[Tensor, ...]]:
        """Encode, quantize and, when asked, decode one modality."""
        modality, encoder = value.modality, value.modality.encoder
        encoded = self._encode(value, all_tokens, value.specific)
        shared = self.codebooks.quantize("shared", encoder, encoded.shared)
        specific = None
        if encoded.specific is not None and value.specific:
            specific = self.codebooks.quantize("specific", encoder, encoded.specific)
        state = ModalityState(modality, _pooled(shared), None if specific is None else _pooled(specific))
        if all_tokens or decode:
            state.shared_tokens, state.specific_tokens = shared, specific
        if value.view is not None:
            own = self.encoders[encoder].specific_of(value.view, value.clips)
            state.view = self.codebooks.continuous("specific", encoder, own)
        if decode:
            state.is_points = self.encoders[encoder].config.stem == "points"
            self._decode(state, value, encoded.hidden_states[-1])
        return state, encoded.hidden_states

    def _output(
        self,
        states: dict[str, ModalityState],
        hidden: dict[str, tuple[Tensor, ...]],
        quantize: bool,
        loss: Tensor | None,
        terms: dict[str, Tensor] | None,
    ) -> CodeBindOutput:
        only = next(iter(states)) if len(states) == 1 else None
        own = {name: state.specific for name, state in states.items() if state.specific is not None}
        keep = quantize and self.config.quantize_specific
        embeds = {name: _read(state.shared, quantize) for name, state in states.items()}
        # The order of assignment is the order of the tuple, and callers of a tuple expect the loss first.
        output = CodeBindOutput(
            loss=loss,
            loss_terms=terms,
            last_hidden_state=hidden[only][-1] if only is not None and hidden[only] else None,
            pooler_output=None if only is None else embeds[only],
            embeds=ByModality(embeds),
            continuous_embeds=ByModality({name: state.shared.continuous for name, state in states.items()}),
            specific_embeds=ByModality({name: _read(part, keep) for name, part in own.items()}) or None,
            continuous_specific_embeds=ByModality({name: part.continuous for name, part in own.items()}) or None,
            codes=ByModality(
                {
                    name: CodeIds(state.shared.ids, None if state.specific is None else state.specific.ids)
                    for name, state in states.items()
                }
            ),
        )
        if "text" in embeds and len(embeds) > 1:
            scaled = self.logit_scale() * embeds["text"]
            output.logits = ByModality({name: x @ scaled.T for name, x in embeds.items() if name != "text"})
            for name, logits in output.logits.items():
                if name in MODALITIES:
                    output[f"logits_per_{name}"] = logits
        return output

    def _loss(self, states: dict[str, ModalityState], rows: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        objective = ParityObjective if self.config.parity_losses else Objective
        trained = self.trained_modalities()
        terms = objective(self.config, self.codebooks, self.logit_scale(), states, rows, trained).terms()
        if self.training:
            self.codebooks.update(chosen for state in states.values() for chosen in state.quantized())
        return torch.stack([self.config.loss_weight(name) * term for name, term in terms.items()]).sum(), terms

    def add_modality(self, name: str, config: CodeBindEncoderConfig | Mapping[str, Any]) -> None:
        """Add a modality with its own encoder, specific codebook and decoder; the rest of the model is untouched.

        Args:
            name: a new name, such as `radar`; `forward` then takes `radar_values`.
            config: of its encoder.

        Raises:
            ValueError: the name is taken or no identifier, or the encoder does not fit this model.
        """
        taken = {*MODALITIES, *ENCODERS, *(self.config.added_encoders or {})}
        if name in taken or not name.isidentifier():
            raise ValueError(f"name: got {name!r}; it must be an identifier other than {', '.join(sorted(taken))}.")
        fields = dict(config) if isinstance(config, Mapping) else config.plain_fields()
        before = self.config.added_encoders
        self.config.added_encoders = {**(before or {}), name: fields}
        try:
            self.config.validate()
        except Exception as error:
            self.config.added_encoders = before
            raise ValueError(f"config: {error}") from error
        encoder, network = self.config.encoder_configs[name], None
        if encoder.stem == "pretrained":
            try:
                network = loaded_network(encoder, name, str(encoder.backbone), self.dtype, {})
            except Exception:
                self.config.added_encoders = before
                raise
        with deferring_backbones():
            self._build_encoder(name, encoder)
        self.codebooks.add_encoder(name, self.config)
        for part in (self.encoders, self.decoders, self.codebooks.specific):
            if name in part:
                part[name].apply(self._init_weights).to(self.device, self.dtype).train(self.training)
        self._ignore_what_is_not_held()
        if network is not None:
            self._attach(name, trimmed(network, encoder), str(encoder.backbone))


# `save_pretrained` then writes this code beside the weights: `trust_remote_code=True` loads them without the package.
CodeBindModel.register_for_auto_class()


def _pooled(tokens: Quantized) -> Quantized:
    """Token 0 of quantized tokens."""
    return Quantized._make(None if x is None else x[:, 0] for x in tokens)


def _read(part: Quantized, quantize: bool) -> Tensor:
    return part.embedding if quantize else part.continuous
