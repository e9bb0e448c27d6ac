"""Decoders: quantized tokens back to the input, while training only.

Axes in this file: B batch, N tokens, H width.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, interpolate, pad

from .blocks import block_stack
from .configuration_encoders import CodeBindEncoderConfig
from .configuration_modalities import CodeBindDecoderConfig, decoder_config_for
from .typed_modules import dtype_of


class GridHead(nn.Module):
    """One transposed convolution from the patch grid to the input at half resolution, in 1-D, 2-D or 3-D.

    The latents of a lens have no place on the grid, so they are first spread over it by a learned matrix.
    """

    def __init__(self, width: int, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        self.grid_size = (1, *config.grid_size) if config.tubelet_size > 1 else config.grid_size
        latents = config.lens_num_latents
        self.spread = nn.Linear(latents, config.num_stem_tokens) if latents else nn.Identity()
        tube = [config.tubelet_size] if config.tubelet_size > 1 else []
        kernel = [*tube, *(max(1, size // 2) for size in config.patch_size)]
        stride = [*tube, *(max(1, size // 2) for size in config.strides)]
        convolution: Callable[..., nn.Module] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[
            len(kernel)
        ]
        self.deconv = convolution(width, config.num_channels, kernel, stride)

    def forward(self, tokens_BNH: Tensor) -> Tensor:
        return self.deconv(self.spread(tokens_BNH.transpose(1, 2)).unflatten(2, self.grid_size))


class PointHead(nn.Module):
    """Every token places an equal share of the points of a cloud of half as many points."""

    def __init__(self, width: int, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        tokens = config.lens_num_latents or config.num_groups
        self.num_channels = config.num_channels
        self.projection = nn.Linear(width, config.num_channels * math.ceil(config.input_size[0] / 2 / tokens))

    def forward(self, tokens_BNH: Tensor) -> Tensor:
        return self.projection(tokens_BNH).unflatten(-1, (-1, self.num_channels)).flatten(1, 2)


class FeatureHead(nn.Module):
    """Every token gives the numbers of one vector; the latents of a lens are spread over the tokens first."""

    def __init__(self, width: int, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        latents = config.lens_num_latents
        self.spread = nn.Linear(latents, config.num_stem_tokens) if latents else nn.Identity()
        self.projection = nn.Linear(width, config.num_channels)
        self.is_single = config.num_stem_tokens == 1

    def forward(self, tokens_BNH: Tensor) -> Tensor:
        values = self.projection(self.spread(tokens_BNH.transpose(1, 2)).transpose(1, 2))
        return values[:, 0] if self.is_single else values


_HEADS: dict[str, Callable[[int, CodeBindEncoderConfig], nn.Module]] = {
    "points": PointHead,
    "patches": GridHead,
    "features": FeatureHead,
}


class Decoder(nn.Module):
    """Transformer on the concatenated shared and specific parts of CLS and patch tokens, then a head for the modality.

    Source: paper section 3.2, eq. 2. `takes_tokens` is the input that the released weights were trained with: the
    encoder's own continuous tokens and its position table beside the codes, tokens and codes through the same norm
    (Visual-AI/CodeBind@bba682e models/decoder/vision_transformer.py).
    """

    def __init__(
        self, config: CodeBindDecoderConfig, encoder: CodeBindEncoderConfig, embedding_dim: int, takes_tokens: bool
    ) -> None:
        super().__init__()
        config = decoder_config_for(config, encoder)
        width = config.hidden_size
        self.config = config
        self.num_tokens = encoder.num_tokens
        self.input_projection = nn.Linear(embedding_dim, encoder.hidden_size)
        self.token_norm = nn.LayerNorm(encoder.hidden_size, eps=config.layer_norm_eps) if takes_tokens else None
        self.embed = nn.Linear(encoder.hidden_size, width)
        self.position = nn.Parameter(torch.zeros(encoder.num_tokens, width)) if config.has_position else None
        self.layers = block_stack(config)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.head = _HEADS[encoder.stem](width, encoder)

    def forward(
        self, embedding_BNC: Tensor, tokens_BNH: Tensor | None = None, position_NH: Tensor | None = None
    ) -> Tensor:
        """Reconstruction in the shape of the head.

        Args:
            embedding_BNC: embeddings of CLS and patches, `(batch, tokens, dim)`, or of CLS alone.
            tokens_BNH, position_NH: the encoder's last tokens and its position table; read only with `takes_tokens`.
        """
        x_BNH = self.input_projection(embedding_BNC.to(dtype_of(self.input_projection)))
        if self.token_norm is not None and tokens_BNH is not None:
            x_BNH = self.token_norm(x_BNH) + self.token_norm(tokens_BNH)
            if position_NH is not None:
                x_BNH = x_BNH + position_NH.to(x_BNH.dtype)
        if self.config.hide_patches == 1:
            x_BNH = x_BNH[:, :1]
        elif self.training and self.config.hide_patches:
            kept = torch.rand(len(x_BNH), 1, 1, device=x_BNH.device) >= self.config.hide_patches
            x_BNH = torch.cat([x_BNH[:, :1], x_BNH[:, 1:] * kept], dim=1)
        # Tokens that are not given are what `hide_patches` makes of hidden ones.
        x_BNH = self.embed(pad(x_BNH, (0, 0, 0, self.num_tokens - x_BNH.shape[1])))
        if self.position is not None:
            x_BNH = x_BNH + self.position.to(x_BNH.dtype)
        for layer in self.layers:
            x_BNH = layer(x_BNH)
        return self.head(self.norm(x_BNH)[:, 1:])


def reconstruction_target(values: Tensor, output: Tensor, is_points: bool, antialias: bool = True) -> Tensor:
    """The input at the size of a decoder's output; a cloud, and what has this size already, stay as they are.

    Args:
        values: the model's input with clips averaged, `(batch, channels, ...)`, `(batch, points, 3)`, or features.
        output: what the decoder gave, `(batch, channels, ...)` or `(batch, fewer points, 3)`.
        antialias: of the bilinear resize of pictures.
    """
    values = values.float()
    if is_points or values.shape == output.shape:
        return values
    if output.ndim == 3:
        return adaptive_avg_pool1d(values, output.shape[-1])
    if output.ndim == 4:
        return _resized(values, output, antialias)
    if values.ndim == 4:
        values = values.unsqueeze(2).expand(-1, -1, output.shape[2], -1, -1)
    frames = _resized(values.transpose(1, 2).flatten(0, 1), output, antialias)
    return frames.unflatten(0, (len(values), -1)).transpose(1, 2)


def _resized(pictures: Tensor, output: Tensor, antialias: bool) -> Tensor:
    return interpolate(pictures, output.shape[-2:], mode="bilinear", antialias=antialias)
