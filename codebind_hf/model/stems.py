"""Stems: raw tensors to tokens.

Axes in this file: B batch, C channels, N tokens, H width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .configuration_encoders import CodeBindEncoderConfig
from .point_stems import POINT_STEMS
from .typed_modules import dtype_of


class TokenStem(nn.Module):
    """Token ids to embeddings."""

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)

    def forward(self, ids_BN: Tensor) -> Tensor:
        return self.embedding(ids_BN)


_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _halvings(config: CodeBindEncoderConfig, axes: int) -> nn.Sequential:
    """Convolutions with stride 2 over space or time, never over the frames of a tubelet."""
    over_frames = axes > len(config.patch_size)
    kernel, stride, padding = (
        (one,) * over_frames + (n,) * len(config.patch_size) for one, n in ((1, 3), (1, 2), (0, 1))
    )
    layers: list[nn.Module] = []
    channels = config.num_channels
    for width in config.stem_widths:
        layers += [_CONVOLUTIONS[axes](channels, width, kernel, stride, padding), nn.GroupNorm(1, width), nn.GELU()]
        channels = width
    return nn.Sequential(*layers)


class PatchStem(nn.Module):
    """Patches of a signal (1-D), a picture (2-D) or a short clip (3-D), each projected to one token.

    Tokens come in row-major order of the patch grid. An input without frames is repeated to fill one tubelet.
    With `stem_widths`, small convolutions come first (Xiao et al. 2021, arXiv 2106.14881).
    """

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        tube = (config.tubelet_size,) if config.tubelet_size > 1 else ()
        shrink = 2 ** len(config.stem_widths)
        kernel = (*tube, *(size // shrink for size in config.patch_size))
        stride = (*tube, *(size // shrink for size in config.strides))
        width = config.stem_dim or config.hidden_size
        channels = (config.num_channels, *config.stem_widths)[-1]
        self.tubelet_size = config.tubelet_size
        self.convolutions = _halvings(config, len(kernel))
        self.projection = _CONVOLUTIONS[len(kernel)](channels, width, kernel, stride, bias=config.stem_bias)
        eps = config.layer_norm_eps if config.stem_norm_eps is None else config.stem_norm_eps
        self.norm = nn.LayerNorm(width, eps=eps) if config.stem_norm else nn.Identity()
        self.position = nn.Parameter(torch.zeros(config.num_stem_tokens, width)) if config.stem_position else None

    def forward(self, values: Tensor) -> Tensor:
        is_still = self.tubelet_size > 1 and values.ndim == 4
        weight = self.projection.get_parameter("weight")
        values = self.convolutions((values.unsqueeze(2) if is_still else values).to(weight.dtype))
        if is_still:
            # After the convolutions, which look at every frame by itself: a still picture passes them once.
            values = values.expand(-1, -1, self.tubelet_size, -1, -1)
        tokens = self.norm(self.projection(values).flatten(2).transpose(1, 2))
        return tokens if self.position is None else tokens + self.position.to(tokens.dtype)


class FeatureStem(nn.Module):
    """Vectors that another network gave to tokens: an optional norm and one projection for all of them."""

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        width = config.stem_dim or config.hidden_size
        eps = config.layer_norm_eps if config.stem_norm_eps is None else config.stem_norm_eps
        self.norm = nn.LayerNorm(config.num_channels, eps=eps) if config.stem_norm else nn.Identity()
        self.projection = nn.Linear(config.num_channels, width, bias=config.stem_bias)
        self.position = nn.Parameter(torch.zeros(config.num_stem_tokens, width)) if config.stem_position else None

    def forward(self, values: Tensor) -> Tensor:
        features_BNC = values.to(dtype_of(self.projection))
        tokens = self.projection(self.norm(features_BNC.unsqueeze(1) if values.ndim == 2 else features_BNC))
        return tokens if self.position is None else tokens + self.position.to(tokens.dtype)


def build_stem(config: CodeBindEncoderConfig) -> nn.Module:
    if config.stem == "points":
        return POINT_STEMS[config.point_grouping](config)
    return {"tokens": TokenStem, "patches": PatchStem, "features": FeatureStem}[config.stem](config)
