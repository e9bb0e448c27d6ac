"""Configuration of CodeBind: one typed config per encoder, one for the decoders, one that holds them all."""

import difflib
import math
from collections.abc import Iterable
from functools import wraps
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .modalities import ENCODERS, MODALITIES, Modality, added_modality, modality_named
from .presets import merge_fields, preset_fields


# Keys that the library itself hands to a configuration beside its fields.
_LIBRARY_KEYS = frozenset(
    "model_type torch_dtype name_or_path _name_or_path _commit_hash output_attentions attn_implementation "
    "_attn_implementation _attn_implementation_internal experts_implementation _experts_implementation "
    "_experts_implementation_internal per_layer_config num_labels auto_map custom_pipelines use_cache "
    "quantization_config base_model_tp_plan base_model_pp_plan".split()
)
_STEMS = ("tokens", "patches", "points")
LOSS_TERMS = ("align", "seg", "recon", "orth", "uni", "commit", "cm", "cctr", "cuni")
PAIRS = ("image", "text", "bridge")


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(map(repr, allowed))}.")


def _positive(config: PreTrainedConfig, names: str, least: float = 1) -> None:
    for name in names.split():
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise ValueError(f"{name}: got {value!r}; it must be {least} or more.")


def _rate(config: PreTrainedConfig, names: str) -> None:
    for name in names.split():
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name}: got {getattr(config, name)!r}; it must be in [0, 1).")


def _checked(cls: type) -> type:
    """`strict`, with wrong values reported as the `ValueError` that callers of a constructor expect."""
    cls = strict(cls)
    strict_init = cls.__init__  # type: ignore[misc]

    @wraps(strict_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            strict_init(self, *args, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from error

    cls.__init__ = init  # type: ignore[misc]
    return cls


@_checked
class CodeBindBaseConfig(PreTrainedConfig):
    """What every CodeBind configuration shares: an unknown key is refused, with the nearest known one."""

    def __post_init__(self, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - _LIBRARY_KEYS)
        if unknown:
            known = sorted(type(self).__dataclass_fields__)
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known keys: {', '.join(known)}."
            raise ValueError(f"{type(self).__name__}: unknown key {', '.join(map(repr, unknown))}.{hint}")
        super().__post_init__(**kwargs)


@_checked
class CodeBindBlockConfig(CodeBindBaseConfig):
    """A stack of transformer blocks: what towers and decoders have in common.

    Args:
        hidden_size: width of the tokens.
        intermediate_size: width of the MLP; `None` is four times `hidden_size`.
        dropout: on the output of every attention and MLP, while training.
        drop_path_rate: chance to skip a block for a sample while training, growing linearly with depth.
        attention_bias: biases of the query, key and value projections.
        add_bias_kv: one learned key and value that every query may attend to (ImageBind's scarce towers).
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int | None = None
    hidden_act: str = "gelu"
    layer_norm_eps: float | int = 1e-6
    attention_dropout: float | int = 0.0
    dropout: float | int = 0.0
    drop_path_rate: float | int = 0.0
    is_causal: bool = False
    attention_bias: bool = True
    add_bias_kv: bool = False

    def validate_architecture(self) -> None:
        _positive(self, "hidden_size num_attention_heads intermediate_size")
        _positive(self, "num_hidden_layers", 0)
        _rate(self, "attention_dropout dropout drop_path_rate")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads: got {self.num_attention_heads}, which does not divide "
                f"hidden_size={self.hidden_size}; choose a divisor."
            )

    @property
    def mlp_size(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size


@_checked
class CodeBindEncoderConfig(CodeBindBlockConfig):
    """One encoder: stem (raw tensor -> tokens), optional lens, transformer, heads.

    Args:
        stem: "patches" (1-D, 2-D, or 3-D when `tubelet_size` > 1), "points" (grouped point cloud) or "tokens" (text).
        num_channels: channels of the raw tensor.
        input_size: its grid without channels: `[height, width]`, `[mel bins, frames]`, `[time]` or `[points]`.
        patch_size, patch_stride: one number per axis of `input_size`; `None` stride equals the size.
        tubelet_size: frames that one 3-D patch spans; an image is repeated to fill it.
        stem_dim: width of the stem's tokens before a lens; `None` equals `hidden_size`.
        stem_bias, stem_norm: bias of the patch projection; LayerNorm on its output.
        stem_position: a position table of the stem's own, added before the lens (ViT-Lens).
        has_position: the tower's own position table (with one entry for the CLS token).
        pre_norm: LayerNorm on the tokens before the first block.
        num_groups, group_size, point_widths: centres, neighbours and mini-PointNet widths of the points stem.
        lens_num_latents: tokens that a Perceiver lens resamples the stem's tokens to; 0 is no lens.
        vocab_size, max_position_embeddings, eos_token_id, pad_token_id, bos_token_id: of the tokens stem.
        specific_dim, num_specific_codes, decoder_hidden_size: this encoder's own value; `None` takes the model's.
    """

    model_type = "codebind_encoder"

    stem: str = "patches"
    num_channels: int = 3
    input_size: list[int] | tuple[int, ...] = (224, 224)
    patch_size: list[int] | tuple[int, ...] = (16, 16)
    patch_stride: list[int] | tuple[int, ...] | None = None
    tubelet_size: int = 1
    stem_dim: int | None = None
    stem_bias: bool = False
    stem_norm: bool = False
    stem_position: bool = False
    has_position: bool = True
    pre_norm: bool = False

    num_groups: int = 512
    group_size: int = 32
    point_widths: list[int] | tuple[int, ...] = (128, 256, 512, 256)

    lens_num_latents: int = 0
    lens_depth: int = 1
    lens_self_blocks: int = 1
    lens_num_heads: int = 16
    lens_head_dim: int = 64
    lens_cross_head_dim: int = 64

    vocab_size: int = 49408
    max_position_embeddings: int = 77
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    specific_dim: int | None = None
    num_specific_codes: int | None = None
    decoder_hidden_size: int | None = None

    def validate_architecture(self) -> None:
        super().validate_architecture()
        _choice("stem", self.stem, _STEMS)
        _positive(self, "num_channels tubelet_size num_groups group_size vocab_size max_position_embeddings")
        _positive(self, "lens_num_latents specific_dim num_specific_codes", 0)
        if not self.lens_num_latents and self.stem_dim not in (None, self.hidden_size):
            raise ValueError(f"stem_dim: got {self.stem_dim}; without a lens it must equal hidden_size or be None.")
        if self.stem == "patches":
            self._validate_patches()
        if self.stem == "points" and not max(self.num_groups, self.group_size) <= self.input_size[0]:
            raise ValueError(
                f"num_groups, group_size: got {self.num_groups} and {self.group_size}; neither may exceed the "
                f"{self.input_size[0]} points of input_size."
            )

    def _validate_patches(self) -> None:
        axes = len(self.input_size)
        if axes not in (1, 2):
            raise ValueError(f"input_size: got {list(self.input_size)}; allowed are one or two axes.")
        for name in ("patch_size", "patch_stride"):
            value = getattr(self, name)
            if value is not None and (len(value) != axes or min(value) < 1):
                raise ValueError(
                    f"{name}: got {list(value)}; it needs {axes} positive numbers, one per axis of input."
                )
        if any(patch > size for patch, size in zip(self.patch_size, self.input_size, strict=True)):
            raise ValueError(
                f"patch_size: got {list(self.patch_size)}, larger than input_size={list(self.input_size)}."
            )
        if self.tubelet_size > 1 and axes != 2:
            raise ValueError(f"tubelet_size: got {self.tubelet_size}; only a two-axis input can have frames.")

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(self.patch_stride or self.patch_size)

    @property
    def num_stem_tokens(self) -> int:
        """Tokens that the stem yields, without CLS."""
        if self.stem == "patches":
            return math.prod(self.grid_size)
        return self.num_groups if self.stem == "points" else self.max_position_embeddings

    @property
    def num_tokens(self) -> int:
        """Tokens in the transformer: the stem's or the lens's, and CLS for every stem but text."""
        return (self.lens_num_latents or self.num_stem_tokens) + (self.stem != "tokens")

    @property
    def grid_size(self) -> tuple[int, ...]:
        """Patches along each axis."""
        sizes = zip(self.input_size, self.patch_size, self.strides, strict=True)
        return tuple((size - patch) // stride + 1 for size, patch, stride in sizes)


@_checked
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
        if self.eos_token_id is None:
            raise ValueError("eos_token_id: got None; text is pooled at this token, so it must be the tokenizer's.")


@_checked
class CodeBindVisionConfig(CodeBindEncoderConfig):
    """The vision encoder, for images and video."""

    model_type = "codebind_vision"
    base_config_key = "vision_config"


@_checked
class CodeBindAudioConfig(CodeBindEncoderConfig):
    """The audio encoder, on log-mel spectrograms `(mel bins, frames)`."""

    model_type = "codebind_audio"
    base_config_key = "audio_config"
    num_channels: int = 1
    input_size: list[int] | tuple[int, ...] = (128, 204)
    patch_stride: list[int] | tuple[int, ...] | None = (10, 10)


@_checked
class CodeBindDepthConfig(CodeBindEncoderConfig):
    """The depth encoder."""

    model_type = "codebind_depth"
    base_config_key = "depth_config"
    num_channels: int = 1


@_checked
class CodeBindThermalConfig(CodeBindEncoderConfig):
    """The thermal encoder."""

    model_type = "codebind_thermal"
    base_config_key = "thermal_config"
    num_channels: int = 1


@_checked
class CodeBindTactileConfig(CodeBindEncoderConfig):
    """The tactile encoder, on the colour image of a gel sensor."""

    model_type = "codebind_tactile"
    base_config_key = "tactile_config"


@_checked
class CodeBindPointConfig(CodeBindEncoderConfig):
    """The point cloud encoder."""

    model_type = "codebind_point"
    base_config_key = "point_config"
    stem: str = "points"
    input_size: list[int] | tuple[int, ...] = (8192,)


@_checked
class CodeBindEegConfig(CodeBindEncoderConfig):
    """The EEG encoder, on `(electrodes, time)`."""

    model_type = "codebind_eeg"
    base_config_key = "eeg_config"
    num_channels: int = 128
    input_size: list[int] | tuple[int, ...] = (440,)
    patch_size: list[int] | tuple[int, ...] = (1,)


@_checked
class CodeBindImuConfig(CodeBindEncoderConfig):
    """The IMU encoder, on `(3 accelerometer + 3 gyroscope axes, time)`."""

    model_type = "codebind_imu"
    base_config_key = "imu_config"
    num_channels: int = 6
    input_size: list[int] | tuple[int, ...] = (2000,)
    patch_size: list[int] | tuple[int, ...] = (8,)


@_checked
class CodeBindDecoderConfig(CodeBindBlockConfig):
    """The decoders that reconstruct every sense but text while training (paper section 3.2; sizes of its code).

    Args:
        has_position: a learned position table on the decoder's tokens, which codes alone do not carry.
    """

    model_type = "codebind_decoder"
    base_config_key = "decoder_config"
    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    has_position: bool = True


@_checked
class CodeBindConfig(CodeBindBaseConfig):
    """CodeBind: encoders, shared and specific embedding, codebooks, losses.

    A `None` encoder is not in the checkpoint; `decoder_config=None` is a model without decoders.

    Args:
        shared_dim, specific_dim: sizes of the two embeddings; `specific_dim=0` is no decoupling.
        code_dim: numbers in one code; an embedding has `dim / code_dim` segments. `code_dim = dim` is conventional VQ.
        num_shared_codes, num_specific_codes: sizes of the codebooks; 0 is no codebook.
        codebook_decay: decay of the moving averages of the codebooks (paper eq. 9).
        restart_codes: move unused codes to features of the batch (paper eq. 10).
        align_on: "codes" (the paper: losses see the quantized shared embedding) or "continuous" (codes learn beside).
        quantize_specific: `False` leaves specific embeddings and the decoders' input continuous.
        decoder_inputs: "codes" (the paper) or "codes+tokens" (what the released weights were trained with).
        normalize_codes: keep codes on the unit sphere; `False` for converted weights with norms of their own.
        initializer_range: standard deviation of fresh weights.
        logit_scale_init_value: log of the initial scale of the cosine; `max_logit_scale` caps the scale itself.
        loss_weights: weight by term; a term that is not named is off, except `align`, whose weight is 1.
        pair_weights: weights of the pairs (image, target), (text, target) and the bridge (image, text) in `align`.
        code_temperature: of the softmax over codes in `cm` (1 is the paper).
        codebook_spread_rate: step of the uniformity term `cuni` on the codes, per update; used when its weight is on.
        added_encoders: encoders of senses a user added, by name, as plain dictionaries.
    """

    model_type = "codebind"
    sub_configs_defaults: ClassVar[dict] = {
        "text_config": SubConfigSpec(config_class=CodeBindTextConfig, optional=True),
        "vision_config": SubConfigSpec(config_class=CodeBindVisionConfig, optional=True),
        "audio_config": SubConfigSpec(config_class=CodeBindAudioConfig, optional=True),
        "depth_config": SubConfigSpec(config_class=CodeBindDepthConfig, optional=True),
        "thermal_config": SubConfigSpec(config_class=CodeBindThermalConfig, optional=True),
        "tactile_config": SubConfigSpec(config_class=CodeBindTactileConfig, optional=True),
        "point_config": SubConfigSpec(config_class=CodeBindPointConfig, optional=True),
        "eeg_config": SubConfigSpec(config_class=CodeBindEegConfig, optional=True),
        "imu_config": SubConfigSpec(config_class=CodeBindImuConfig, optional=True),
        "decoder_config": SubConfigSpec(config_class=CodeBindDecoderConfig, optional=True),
    }
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["loss_terms", "codes", "reconstructions", "hidden_states"]

    text_config: dict | PreTrainedConfig | None = None
    vision_config: dict | PreTrainedConfig | None = None
    audio_config: dict | PreTrainedConfig | None = None
    depth_config: dict | PreTrainedConfig | None = None
    thermal_config: dict | PreTrainedConfig | None = None
    tactile_config: dict | PreTrainedConfig | None = None
    point_config: dict | PreTrainedConfig | None = None
    eeg_config: dict | PreTrainedConfig | None = None
    imu_config: dict | PreTrainedConfig | None = None
    decoder_config: dict | PreTrainedConfig | None = None
    added_encoders: dict[str, dict] | None = None

    shared_dim: int = 1024
    specific_dim: int = 1024
    code_dim: int = 8
    num_shared_codes: int = 1024
    num_specific_codes: int = 256
    codebook_decay: float | int = 0.99
    restart_codes: bool = True
    normalize_codes: bool = True
    align_on: str = "codes"
    quantize_specific: bool = True
    decoder_inputs: str = "codes"

    initializer_range: float | int = 0.02
    logit_scale_init_value: float | int = 2.6592
    max_logit_scale: float | int = 100.0
    loss_weights: dict[str, float | int] | None = None
    pair_weights: dict[str, float | int] | None = None
    code_temperature: float | int = 1.0
    codebook_spread_rate: float | int = 0.01

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "CodeBindConfig":
        """The configuration called `name`, with `overrides` merged in (nested dictionaries key by key).

        Raises:
            ValueError: unknown preset or key.
        """
        return cls(**merge_fields(preset_fields(name), overrides))

    def validate_architecture(self) -> None:
        _choice("align_on", self.align_on, ("codes", "continuous"))
        _choice("decoder_inputs", self.decoder_inputs, ("codes", "codes+tokens"))
        _positive(self, "shared_dim code_dim")
        _positive(self, "specific_dim num_shared_codes num_specific_codes codebook_spread_rate", 0)
        _rate(self, "codebook_decay")
        if not self.code_temperature > 0 or not self.max_logit_scale > 0:
            raise ValueError("code_temperature, max_logit_scale: both must be greater than 0.")
        if self.align_on == "codes" and not self.num_shared_codes:
            raise ValueError(
                'align_on: "codes" needs num_shared_codes of 1 or more; use "continuous" without codebook.'
            )
        self._validate_weights("loss_weights", LOSS_TERMS)
        self._validate_weights("pair_weights", PAIRS)
        for name in self.encoder_configs:
            self._validate_encoder(name)

    def _validate_weights(self, name: str, allowed: tuple[str, ...]) -> None:
        for key, value in (getattr(self, name) or {}).items():
            _choice(f"{name} key", key, allowed)
            if not value >= 0:
                raise ValueError(f"{name}[{key!r}]: got {value!r}; a weight is 0 or more.")

    def _validate_encoder(self, name: str) -> None:
        own = self.specific_dim_of(name)
        if self.loss_weight("orth") and own not in (0, self.shared_dim):
            raise ValueError(
                f"loss_weights['orth']: needs specific_dim equal to shared_dim={self.shared_dim}, got {own} for {name}; "
                "set its weight to 0 or the sizes equal."
            )
        for part, dim in (("shared_dim", self.shared_dim), ("specific_dim", self.specific_dim_of(name))):
            if dim % self.code_dim:
                raise ValueError(f"{part}: got {dim} for {name}, not a multiple of code_dim={self.code_dim}.")
        if name in MODALITIES and name not in ENCODERS:
            raise ValueError(f"added_encoders: {name!r} is the name of a built-in modality; choose another name.")

    @property
    def encoder_configs(self) -> dict[str, CodeBindEncoderConfig]:
        """Configurations of the encoders that this checkpoint has, by encoder name."""
        built_in = {name: getattr(self, f"{name}_config") for name in ENCODERS}
        configs = {name: config for name, config in built_in.items() if config is not None}
        for name, fields in (self.added_encoders or {}).items():
            configs[name] = CodeBindEncoderConfig(**fields)
            configs[name]._attn_implementation = self._attn_implementation
        return configs

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modalities that this checkpoint can read, by name."""
        encoders = self.encoder_configs
        built_in = {name: modality for name, modality in MODALITIES.items() if modality.encoder in encoders}
        return {**built_in, **{name: added_modality(name) for name in self.added_encoders or {}}}

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(self.modalities)

    def restricted_to(self, modalities: Iterable[str]) -> "CodeBindConfig":
        """A copy without the encoders that these modalities do not need.

        Raises:
            ValueError: a modality that does not exist or is not in this checkpoint.
        """
        names = list(modalities)
        known = self.modalities
        for name in names:
            if name not in known:
                modality_named(name, tuple(self.added_encoders or {}))
                raise ValueError(f"modalities: {name!r} is not in this checkpoint, which has {', '.join(known)}.")
        if not names:
            raise ValueError(f"modalities: got an empty list; choose from {', '.join(known)}.")
        kept = {known[name].encoder for name in names}
        fields = self.to_dict()
        fields.update({f"{encoder}_config": None for encoder in ENCODERS if encoder not in kept})
        added = {name: config for name, config in (self.added_encoders or {}).items() if name in kept}
        return type(self)(**{**fields, "added_encoders": added or None})

    def specific_dim_of(self, encoder: str) -> int:
        """Size of the encoder's specific embedding; text has none."""
        if encoder == "text":
            return 0
        own = self.encoder_configs[encoder].specific_dim
        return self.specific_dim if own is None else own

    def num_specific_codes_of(self, encoder: str) -> int:
        own = self.encoder_configs[encoder].num_specific_codes
        return self.num_specific_codes if own is None else own

    def loss_weight(self, term: str) -> float:
        """Weight of a loss term; `align` is on by default, everything else only when named."""
        return float((self.loss_weights or {}).get(term, 1.0 if term == "align" else 0.0))

    def pair_weight(self, pair: str) -> float:
        return float((self.pair_weights or {}).get(pair, 1.0))
