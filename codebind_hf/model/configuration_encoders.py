"""What every encoder is configured by: its stem, lens, transformer and heads."""

import copy
import math
from typing import Any

from transformers.activations import ACT2FN

from .backbone_files import PARTS, backbone_fields
from .configuration_base import (
    CodeBindBaseConfig,
    check_choice,
    check_fields,
    check_least,
    check_rate,
    checked_config,
)


_STEMS = ("tokens", "patches", "points", "features", "pretrained")
SHARED_HEADS = ("linear", "identity")
_POOLINGS = ("cls", "mean", "last", "pooler", "projection")
_GROUPINGS = ("nearest", "ball")
_FPS_STARTS = ("first", "random")
READOUTS = ("cls", "token", "pool", "network")


@checked_config
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
        check_least(self, "hidden_size num_attention_heads intermediate_size")
        check_least(self, "num_hidden_layers layer_norm_eps", 0)
        check_rate(self, "attention_dropout dropout drop_path_rate")
        check_choice("hidden_act", self.hidden_act, tuple(ACT2FN))
        if self.is_causal and self.add_bias_kv:
            raise ValueError(
                "add_bias_kv: got True with is_causal=True; the added key is no token, so it has no order."
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads: got {self.num_attention_heads}, which does not divide "
                f"hidden_size={self.hidden_size}; choose a divisor."
            )

    @property
    def mlp_size(self) -> int:
        return self.intermediate_size or 4 * self.hidden_size


@checked_config
class CodeBindEncoderConfig(CodeBindBlockConfig):
    """One encoder: stem (raw tensor -> tokens), optional lens, transformer, heads.

    Args:
        stem: "patches" (1-D, 2-D, or 3-D when `tubelet_size` > 1), "points" (grouped point cloud), "tokens" (text) or
            "features" (what another network made of the input: vectors, or sequences of them) or "pretrained" (a
            network of transformers in place of the whole tower; `from_backbone` finds out most of its fields).
        num_channels: channels of the raw tensor; numbers in a vector of features.
        input_size: its grid without channels: `[height, width]`, `[mel bins, frames]`, `[time]` or `[points]`; of
            features `[tokens]`, 1 for single vectors.
        patch_size, patch_stride: one number per axis of `input_size`; `None` stride equals the size.
        tubelet_size: frames that one 3-D patch spans; an image is repeated to fill it.
        stem_dim: width of the stem's tokens before a lens; `None` equals `hidden_size`.
        stem_widths: widths of convolutions with stride 2 before the patches, for small models trained from nothing;
            each halves the input, so patch sizes and strides must be multiples of 2 to that power.
        stem_bias, stem_norm: bias of the projection of patches or features; LayerNorm on projected patches, or on
            features before the projection, whose epsilon is `stem_norm_eps` (`None` takes `layer_norm_eps`).
        stem_position: a position table of the stem's own, added before the lens (ViT-Lens).
        has_position: the tower's own position table (with one entry for the CLS token).
        pre_norm: LayerNorm on the tokens before the first block.
        num_groups, group_size, point_widths: centres, neighbours and widths of the shared MLPs of the points stem.
        point_grouping: "nearest" (the `group_size` nearest points of each centre, on x, y, z; `point_widths` are four)
            or "ball" (the first `group_size` points within `ball_radius`, with further channels such as colours).
        fps_start: where farthest point sampling of the centres begins: "first" (point 0) or "random" (ViT-Lens, also
            in evaluation).
        lens_num_latents: tokens that a Perceiver lens resamples the stem's tokens to; 0 is no lens.
        lens_depth, lens_self_blocks: stages of the lens, each of one cross-attention (a single head of
            `lens_cross_head_dim`) and so many self-attention blocks (`lens_num_heads` of `lens_head_dim`).
        vocab_size, max_position_embeddings, eos_token_id, pad_token_id, bos_token_id: of the tokens stem.
        specific_dim, specific_code_dim, num_specific_codes, specific_readout, decoder_hidden_size: this encoder's own
            value; `None` takes the model's.
        specific_num_hidden_layers: blocks of the small encoder where `specific_readout` is "network".
        has_decoder: whether a model with decoders reconstructs this encoder's input; a pretrained network's never is.
        shared_head: "linear", or "identity", which passes the pooled token on as the shared embedding.
        backbone, backbone_revision: name or folder of the pretrained network, and its commit on the Hub.
        backbone_config: the network's own configuration, so that it is built without asking anybody.
        backbone_part: module of the network that runs, such as "text_model" or "encoder"; for "projection", which of
            its functions: "text", "image" or "audio".
        backbone_layer: hidden states that are pooled; -1 is the network's output.
        backbone_pooling: "cls" (the first token), "mean" (of all that are no padding), "last" (the last that is none),
            "pooler" (the network's own `pooler_output`), or "projection" (its `get_<part>_features`).
        backbone_dense: linear layers behind the pooling, of a sentence-transformers model.
        backbone_sha256: digest of the files of its weights (`weights_digest`).
        backbone_weights: "reference" leaves them where they are, and loading looks them up; "saved" keeps them with
            the checkpoint.
        normalize_clips: unit norm of every clip before the mean over clips (ImageBind, CodeBind); `False` takes the
            mean of the clips as they are (ViT-Lens).
    """

    model_type = "codebind_encoder"
    later_fields = (
        *("specific_code_dim", "specific_readout", "specific_num_hidden_layers", "shared_head"),
        *("backbone", "backbone_revision", "backbone_config", "backbone_part", "backbone_layer", "backbone_pooling"),
        *("backbone_dense", "backbone_sha256", "backbone_weights"),
    )

    stem: str = "patches"
    num_channels: int = 3
    input_size: list[int] | tuple[int, ...] = (224, 224)
    patch_size: list[int] | tuple[int, ...] = (16, 16)
    patch_stride: list[int] | tuple[int, ...] | None = None
    tubelet_size: int = 1
    stem_dim: int | None = None
    stem_widths: list[int] | tuple[int, ...] = ()
    stem_bias: bool = False
    stem_norm: bool = False
    stem_norm_eps: float | None = None
    stem_position: bool = False
    has_position: bool = True
    pre_norm: bool = False

    num_groups: int = 512
    group_size: int = 32
    point_widths: list[int] | tuple[int, ...] = (128, 256, 512, 256)
    point_grouping: str = "nearest"
    ball_radius: float | int = 0.2
    fps_start: str = "first"

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
    specific_code_dim: int | None = None
    num_specific_codes: int | None = None
    specific_readout: str | None = None
    specific_num_hidden_layers: int = 1
    decoder_hidden_size: int | None = None
    has_decoder: bool = True
    normalize_clips: bool = True

    shared_head: str = "linear"
    backbone: str | None = None
    backbone_revision: str | None = None
    backbone_config: dict | None = None
    backbone_part: str | None = None
    backbone_layer: int = -1
    backbone_pooling: str = "mean"
    backbone_dense: list[dict] | None = None
    backbone_sha256: str | None = None
    backbone_weights: str = "reference"

    @classmethod
    def from_backbone(cls, backbone: str, kind: str, **fields: Any) -> "CodeBindEncoderConfig":
        """An encoder that is a network of transformers, or the transformer of a sentence-transformers model.

        Args:
            backbone: name or folder.
            kind: "text", "image" or "audio", which says what of a network of several is meant.
            fields: of this class; they win over what is found out.

        Raises:
            ValueError: no network that could be such an encoder.
            OSError: nothing there.
        """
        return cls(**backbone_fields(backbone, kind, **fields))

    def validate_architecture(self) -> None:
        super().validate_architecture()
        check_choice("shared_head", self.shared_head, SHARED_HEADS)
        if self.stem == "pretrained":
            self._validate_pretrained()
        check_choice("stem", self.stem, _STEMS)
        if self.specific_readout is not None:
            check_choice("specific_readout", self.specific_readout, READOUTS)
        check_least(self, "num_channels tubelet_size num_groups group_size vocab_size max_position_embeddings")
        check_least(self, "lens_depth lens_num_heads lens_head_dim lens_cross_head_dim")
        check_least(self, "specific_code_dim decoder_hidden_size")
        check_least(self, "lens_num_latents lens_self_blocks stem_norm_eps", 0)
        check_least(self, "specific_dim num_specific_codes specific_num_hidden_layers", 0)
        if not self.lens_num_latents and self.stem_dim not in (None, self.hidden_size):
            raise ValueError(f"stem_dim: got {self.stem_dim}; without a lens it must equal hidden_size or be None.")
        if self.stem == "patches":
            self._validate_patches()
        if self.stem == "points":
            self._validate_points()
        if self.stem == "features":
            self._validate_features()

    def _validate_pretrained(self) -> None:
        check_choice("backbone_pooling", self.backbone_pooling, _POOLINGS)
        check_choice("backbone_weights", self.backbone_weights, ("reference", "saved"))
        if not (self.backbone_config or {}).get("model_type"):
            raise ValueError(
                "backbone_config: got none; a pretrained tower is built from it. Fix: "
                "`CodeBindEncoderConfig.from_backbone(name, kind)`."
            )
        if self.backbone_pooling == "projection":
            check_choice("backbone_part", self.backbone_part or "None", tuple(PARTS))
        if self.backbone_pooling in ("projection", "pooler") and self.backbone_layer != -1:
            raise ValueError(
                f"backbone_layer: got {self.backbone_layer}; {self.backbone_pooling!r} is of the last layer, -1."
            )
        if self.lens_num_latents:
            raise ValueError("lens_num_latents: got a lens for a pretrained tower. Fix: 0.")

    def _validate_features(self) -> None:
        if len(self.input_size) != 1 or self.input_size[0] < 1:
            raise ValueError(
                f"input_size: got {list(self.input_size)}; features have one axis, [tokens], which is [1] for vectors."
            )
        if self.tubelet_size > 1 or self.stem_widths:
            raise ValueError(
                f"tubelet_size, stem_widths: got {self.tubelet_size} and {list(self.stem_widths)}; features have "
                "neither frames nor a grid to convolve. Fix: 1 and []."
            )
        if self.add_bias_kv and self.input_size[0] > 1:
            raise ValueError(
                "add_bias_kv: got True for sequences of features; the added key is no token, so no mask knows it."
            )
        if self.specific_readout == "token" and not self.num_hidden_layers:
            raise ValueError(
                "specific_readout: got 'token' with num_hidden_layers=0; without a block, that token sees nothing. "
                "Fix: one block or more, or 'cls', 'pool' or 'network'."
            )

    def _validate_points(self) -> None:
        if len(self.input_size) != 1:
            raise ValueError(f"input_size: got {list(self.input_size)}; of a point cloud it is one number, [points].")
        check_choice("point_grouping", self.point_grouping, _GROUPINGS)
        check_choice("fps_start", self.fps_start, _FPS_STARTS)
        in_balls = self.point_grouping == "ball"
        if self.num_channels < 3 or self.num_channels > 3 and not in_balls:
            raise ValueError(
                f"num_channels: got {self.num_channels}; points have 3 coordinates, and further channels only with "
                "point_grouping='ball'."
            )
        if not self.point_widths or min(self.point_widths) < 1 or not in_balls and len(self.point_widths) != 4:
            count = "1 or more" if in_balls else "4"
            raise ValueError(f"point_widths: got {list(self.point_widths)}; it needs {count} positive numbers.")
        if not self.ball_radius > 0:
            raise ValueError(f"ball_radius: got {self.ball_radius}; it must be greater than 0.")
        if max(self.num_groups, self.group_size) > self.input_size[0]:
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
        if any(width < 1 for width in self.stem_widths):
            raise ValueError(f"stem_widths: got {list(self.stem_widths)}; every width is 1 or more.")
        shrink = 2 ** len(self.stem_widths)
        if any(size % shrink for size in (*self.input_size, *self.patch_size, *self.strides)):
            raise ValueError(
                f"stem_widths: got {list(self.stem_widths)}; input_size, patch_size and patch_stride must be "
                f"multiples of {shrink}."
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
        if self.stem == "features":
            return self.input_size[0]
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


def added_encoders(
    fields: dict[str, dict[str, Any]], built: dict[str, tuple[dict[str, Any], CodeBindEncoderConfig]]
) -> dict[str, CodeBindEncoderConfig]:
    """Configurations of encoders by name, from `built` where their fields are the same: a step asks for them often.

    Raises:
        ValueError: fields that no encoder has, with the encoder's name.
    """
    for name, own in fields.items():
        if name not in built or built[name][0] != own:
            check_fields(f"added_encoders[{name!r}]", own)
            try:
                built[name] = (copy.deepcopy(own), CodeBindEncoderConfig(**own))
            except ValueError as error:
                raise ValueError(f"added_encoders[{name!r}]: {error}") from error
    return {name: built[name][1] for name in fields}
