"""Configuration of CodeBind: encoders, embeddings, codebooks and losses in one place."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from transformers import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .bridges import bridge_fields
from .configuration_base import (
    CodeBindBaseConfig,
    check_choice,
    check_fields,
    check_least,
    check_rate,
    checked_config,
)
from .configuration_encoders import READOUTS, CodeBindEncoderConfig, added_encoders
from .configuration_modalities import (
    CodeBindAudioConfig,
    CodeBindDecoderConfig,
    CodeBindDepthConfig,
    CodeBindEegConfig,
    CodeBindImuConfig,
    CodeBindPointConfig,
    CodeBindTactileConfig,
    CodeBindTextConfig,
    CodeBindThermalConfig,
    CodeBindVisionConfig,
    decoder_config_for,
)
from .format_version import FORMAT_VERSION, check_version, of_this_version
from .modalities import ENCODERS, MODALITIES, Modality, added_modality, modality_named
from .presets import merge_fields, preset_fields


LOSS_TERMS = ("align", "seg", "recon", "orth", "decorr", "views", "uni", "commit", "cm", "cctr", "cuni")
PAIRS = ("image", "text", "bridge")
SHARED_CODEBOOKS = ("one", "per_encoder")


@checked_config
class CodeBindConfig(CodeBindBaseConfig):
    """CodeBind: encoders, shared and specific embedding, codebooks, losses.

    A `None` encoder is not in the checkpoint; `decoder_config=None` is a model without decoders.

    Args:
        shared_dim, specific_dim: sizes of the two embeddings; `specific_dim=0` is no decoupling.
        code_dim: numbers in one code; an embedding has `dim / code_dim` segments. `code_dim = dim` is conventional VQ.
        specific_code_dim: the same of specific codebooks alone; `None` takes `code_dim`.
        num_shared_codes, num_specific_codes: sizes of the codebooks; 0 is no codebook.
        shared_codebook: "one" (the paper) quantizes the shared part of every encoder; "per_encoder" leaves it to text
            alone, and the codebook of each other encoder quantizes both of its parts (paper table 7, "separate").
        codebook_decay: decay of the moving averages of the codebooks (paper eq. 9).
        restart_codes: move unused codes to features of the batch (paper eq. 10).
        even_segments: give every segment of a continuous embedding the same length, as codes have. Otherwise
            quantization also loses how long each segment was, which costs more than the codes themselves.
        align_on: "codes" (the paper: losses see the quantized shared embedding) or "continuous" (codes learn beside).
        quantize_specific: `False` leaves specific embeddings and the decoders' input continuous.
        specific_readout: what the specific head reads: "cls" (the paper), the token that the shared head reads too;
            "token", a second class token, which no other token sees; "pool", the mean of all tokens but CLS;
            "network", a small encoder of its own.
        reconstruction_gradient: which parts `recon` may change: "both" (the paper), or "specific", so that what only
            the decoder needs is not added to the shared part.
        decorrelation_gradient: which parts `decorr` may change: "both"; "shared", so that the shared part forgets
            what the specific part knows and the specific part stays as it is; or "specific", so that alignment alone
            decides what the shared part is.
        decoder_inputs: "codes" (the paper) or "codes+tokens" (what the released weights were trained with).
        normalize_codes: keep codes on the unit sphere; `False` for converted weights with norms of their own.
        parity_losses: every loss term as the released code computes it, without gradient where it has none there; for
            comparing numbers, not for training. `seg`, which the released code lacks, is unchanged.
        parity_codebooks: updates, restarts and k-means of the codebooks as in the released code, likewise; an update
            leaves codes of any length, whatever `normalize_codes` says.
        initializer_range: standard deviation of fresh weights.
        logit_scale_init_value: log of the initial scale of the cosine; `max_logit_scale` caps the scale itself.
        loss_weights: weight by term; a term that is not named is off, except `align`, whose weight is 1.
        pair_weights: weights of the pairs (image, target), (text, target) and the bridge (image, text) in `align`.
        segment_temperature: of the InfoNCE on single segments, `seg`; a segment is too short for a sharper one.
        view_temperature: of the InfoNCE between the specific parts of two views of one input, `views`.
        code_temperature: of the softmax over codes in `cm` (1 is the paper).
        codebook_spread_rate: step of the uniformity term `cuni` on the codes, per update; used when its weight is on.
        source_scales: scalars of a converted checkpoint that no embedding depends on, by their original key.
        added_encoders: encoders of modalities a user added, by name, as plain dictionaries.
        format_version: of the files of a checkpoint; a file that names none is of version 1.
    """

    model_type = "codebind"
    later_fields = (
        "format_version",
        "specific_code_dim",
        "specific_readout",
        "reconstruction_gradient",
        "decorrelation_gradient",
        "view_temperature",
        "even_segments",
        "shared_codebook",
    )
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
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "loss_terms",
        "last_hidden_state",
        "pooler_output",
        "codes",
        "reconstructions",
        "hidden_states",
        "attentions",
    ]

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
    specific_code_dim: int | None = None
    num_shared_codes: int = 1024
    num_specific_codes: int = 256
    shared_codebook: str = "one"
    codebook_decay: float | int = 0.99
    restart_codes: bool = True
    normalize_codes: bool = True
    even_segments: bool = False
    align_on: str = "codes"
    quantize_specific: bool = True
    specific_readout: str = "cls"
    reconstruction_gradient: str = "both"
    decorrelation_gradient: str = "both"
    decoder_inputs: str = "codes"
    parity_losses: bool = False
    parity_codebooks: bool = False

    initializer_range: float | int = 0.02
    logit_scale_init_value: float | int = 2.6592
    max_logit_scale: float | int = 100.0
    loss_weights: dict[str, float | int] | None = None
    pair_weights: dict[str, float | int] | None = None
    segment_temperature: float | int = 0.2
    view_temperature: float | int = 0.1
    code_temperature: float | int = 1.0
    codebook_spread_rate: float | int = 0.01
    source_scales: dict[str, float | int] | None = None
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "CodeBindConfig":
        """The configuration called `name`, with `overrides` merged in (nested dictionaries key by key).

        Raises:
            ValueError: unknown preset or key.
        """
        return cls(**merge_fields(preset_fields(name), overrides))

    @classmethod
    def from_bridge(cls, bridge: Any, revision: str | None = None, **overrides: Any) -> "CodeBindConfig":
        """A configuration whose text and image encoders are finished ones of others; arguments of `bridge_fields`.

        Their embedding is the shared one, without codes unless `overrides` name some (`num_shared_codes`).
        """
        return cls(**merge_fields(bridge_fields(bridge, revision), overrides))

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The library's, of files of any version so far, restricted to `modalities=`.

        `AutoModel.from_pretrained` hands `modalities` on to here; with `packs=` only the model knows what there is.

        Raises:
            ValueError: a modality that the checkpoint lacks, or files of a version that this package does not know.
        """
        config_dict = of_this_version(config_dict)
        modalities = kwargs.pop("modalities", None)
        if modalities is not None and kwargs.get("packs") is None:
            config_dict, modalities = cls(**config_dict).restricted_to(modalities).to_dict(), None
        found = super().from_dict(config_dict, **kwargs)
        if modalities is not None and isinstance(found, tuple):
            found[1]["modalities"] = modalities
        return found

    def __post_init__(self, **kwargs: Any) -> None:
        for name, spec in self.sub_configs_defaults.items():
            value = getattr(self, name)
            if isinstance(value, PreTrainedConfig):
                # By names, not classes: those of a checkpoint's own code are other classes of the same names.
                is_decoder = spec.config_class.model_type == "codebind_decoder"
                if not value.model_type.startswith("codebind_") or is_decoder != (
                    value.model_type == "codebind_decoder"
                ):
                    wanted = spec.config_class.__name__
                    raise ValueError(f"{name}: got {type(value).__name__}; expected {wanted} or its fields.")
            elif value is not None:
                check_fields(name, value)
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        check_version(self.format_version)
        check_choice("align_on", self.align_on, ("codes", "continuous"))
        check_choice("shared_codebook", self.shared_codebook, SHARED_CODEBOOKS)
        check_choice("decoder_inputs", self.decoder_inputs, ("codes", "codes+tokens"))
        check_choice("specific_readout", self.specific_readout, READOUTS)
        check_choice("reconstruction_gradient", self.reconstruction_gradient, ("both", "specific"))
        check_choice("decorrelation_gradient", self.decorrelation_gradient, ("both", "shared", "specific"))
        check_least(self, "shared_dim code_dim specific_code_dim")
        check_least(self, "specific_dim num_shared_codes num_specific_codes codebook_spread_rate initializer_range", 0)
        check_rate(self, "codebook_decay")
        for name in ("code_temperature", "segment_temperature", "view_temperature", "max_logit_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}; it must be greater than 0.")
        if self.align_on == "codes" and not self.num_shared_codes:
            raise ValueError(
                'align_on: "codes" needs num_shared_codes of 1 or more; use "continuous" without codebook.'
            )
        if self.shared_codebook == "per_encoder" and not self.num_shared_codes:
            raise ValueError(
                "num_shared_codes: got 0; shared_codebook='per_encoder' needs 1 or more, for text. Fix: "
                "shared_codebook='one' for a model without codes."
            )
        self._validate_weights("loss_weights", LOSS_TERMS)
        self._validate_weights("pair_weights", PAIRS)
        for name in self.added_encoders or {}:
            if name in {*MODALITIES, *ENCODERS}:
                raise ValueError(f"added_encoders: {name!r} is the name of a built-in modality; choose another name.")
        for name, encoder in self.encoder_configs.items():
            self._validate_encoder(name)
            is_fit = encoder.stem == "pretrained" or (name == "text") == (encoder.stem == "tokens")
            if not is_fit:
                raise ValueError(
                    f"stem: got {encoder.stem!r} for {name}; text has 'tokens' or 'pretrained', others no 'tokens'."
                )
            if self.decoder_config is not None:
                decoder_config_for(self.decoder_config, encoder)  # type: ignore[arg-type]

    def _validate_weights(self, name: str, allowed: tuple[str, ...]) -> None:
        for key, value in (getattr(self, name) or {}).items():
            check_choice(f"{name} key", key, allowed)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}[{key!r}]: got {value!r}; a weight is 0 or more, and finite.")

    def _validate_encoder(self, name: str) -> None:
        own, encoder = self.specific_dim_of(name), self.encoder_configs[name]
        if encoder.shared_head == "identity" and encoder.hidden_size != self.shared_dim:
            raise ValueError(
                f"shared_head: got 'identity' for {name}, whose tower gives {encoder.hidden_size} numbers for "
                f"shared_dim={self.shared_dim}. Fix: sizes that are equal, or 'linear'."
            )
        readouts = ("cls",) if encoder.backbone_pooling in ("projection", "pooler") else ("cls", "pool")
        if encoder.stem == "pretrained" and own and self.specific_readout_of(name) not in readouts:
            raise ValueError(
                f"specific_readout: got {self.specific_readout_of(name)!r} for {name}, a pretrained tower; allowed: "
                f"{', '.join(map(repr, readouts))}. Fix: set it of this encoder, or specific_dim 0."
            )
        if self.loss_weight("orth") and own not in (0, self.shared_dim):
            raise ValueError(
                f"loss_weights['orth']: needs specific_dim equal to shared_dim={self.shared_dim}, got {own} for "
                f"{name}; set its weight to 0 or the sizes equal."
            )
        for part in ("shared", "specific"):
            dim, width = self.dim_of(part, name), self.code_dim_of(part, name)
            if dim % width:
                field = "code_dim" if width == self.code_dim else "specific_code_dim"
                raise ValueError(f"{part}_dim: got {dim} for {name}, not a multiple of {field}={width}.")
        if self.shared_codebook == "per_encoder":
            self._validate_own_book(name)

    def _validate_own_book(self, name: str) -> None:
        """Refuse an encoder whose own codebook cannot quantize its shared part."""
        size, widths = (
            self.num_specific_codes_of(name),
            [self.code_dim_of(part, name) for part in ("shared", "specific")],
        )
        if name != "text" and (not size or widths[0] != widths[1]):
            raise ValueError(
                f"shared_codebook: 'per_encoder' has one codebook for both parts of {name}, which has "
                f"num_specific_codes={size} of {widths[1]} numbers for a shared part of code_dim={widths[0]}. Fix: 1 "
                "or more num_specific_codes, and specific_code_dim equal to code_dim (or None)."
            )

    @property
    def encoder_configs(self) -> dict[str, CodeBindEncoderConfig]:
        """Configurations of the encoders that this checkpoint has, by encoder name."""
        built_in = {name: getattr(self, f"{name}_config") for name in ENCODERS}
        configs = {name: config for name, config in built_in.items() if config is not None}
        added = added_encoders(self.added_encoders or {}, self.__dict__.setdefault("_built", {}))
        for config in added.values():
            config._attn_implementation = self._attn_implementation
        return {**configs, **added}

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modalities that this checkpoint can read, by name."""
        present = {name for name in ENCODERS if getattr(self, f"{name}_config") is not None}
        built_in = {name: modality for name, modality in MODALITIES.items() if modality.encoder in present}
        return {**built_in, **{name: added_modality(name) for name in self.added_encoders or {}}}

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(self.modalities)

    def modality(self, name: str) -> Modality:
        """The modality called `name`.

        Raises:
            ValueError: it does not exist or is not in this checkpoint.
        """
        known = self.modalities
        if not isinstance(name, str) or name not in known:
            modality_named(name, tuple(self.added_encoders or {}))
            raise ValueError(f"modality: {name!r} is not in this checkpoint, which has {', '.join(known)}.")
        return known[name]

    def restricted_to(self, modalities: Iterable[str]) -> "CodeBindConfig":
        """A copy without the encoders that these modalities do not need.

        Raises:
            ValueError: a modality that does not exist or is not in this checkpoint.
        """
        if isinstance(modalities, str):
            raise ValueError(f"modalities: got the text {modalities!r}; give a list, such as [{modalities!r}].")
        names = list(modalities)
        known = self.modalities
        if not names:
            raise ValueError(f"modalities: got an empty list; choose from {', '.join(known)}.")
        kept = {self.modality(name).encoder for name in names}
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

    def dim_of(self, part: str, encoder: str) -> int:
        """Size of the "shared" or "specific" embedding of an encoder."""
        return self.shared_dim if part == "shared" else self.specific_dim_of(encoder)

    def code_dim_of(self, part: str, encoder: str) -> int:
        """Numbers in one code of the shared codebook, or of the encoder's specific one."""
        own = None if part == "shared" else self.encoder_configs[encoder].specific_code_dim or self.specific_code_dim
        return own or self.code_dim

    def num_segments_of(self, part: str, encoder: str) -> int:
        """Codes in the shared or specific embedding of an encoder."""
        return self.dim_of(part, encoder) // self.code_dim_of(part, encoder)

    def num_specific_codes_of(self, encoder: str) -> int:
        own = self.encoder_configs[encoder].num_specific_codes
        return self.num_specific_codes if own is None else own

    def book_of(self, part: str, encoder: str) -> str:
        """The codebook that quantizes a part of an encoder: "shared", or the encoder whose own it is."""
        is_one = self.shared_codebook == "one" or encoder == "text"
        return "shared" if part == "shared" and is_one else encoder

    def has_own_codes(self, encoder: str) -> bool:
        """Whether the encoder has a codebook of its own."""
        wanted = self.specific_dim_of(encoder) or self.book_of("shared", encoder) == encoder
        return bool(wanted and self.num_specific_codes_of(encoder))

    def specific_readout_of(self, encoder: str) -> str:
        return self.encoder_configs[encoder].specific_readout or self.specific_readout

    def loss_weight(self, term: str) -> float:
        """Weight of a loss term; `align` is on by default, everything else only when named."""
        return float((self.loss_weights or {}).get(term, 1.0 if term == "align" else 0.0))

    def pair_weight(self, pair: str) -> float:
        return float((self.pair_weights or {}).get(pair, 1.0))


CodeBindConfig.register_for_auto_class()
