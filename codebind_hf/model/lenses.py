"""Lens: resamples any number of stem tokens to the number a pretrained transformer expects (Perceiver; ViT-Lens).

Axes in this file: B batch, N stem tokens, L latents, H width.
"""

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from .blocks import attend
from .configuration_encoders import CodeBindEncoderConfig
from .typed_modules import Modules


class LensAttention(nn.Module):
    """Attention from latents to a context; only the output projection has a bias."""

    def __init__(self, config: CodeBindEncoderConfig, context_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.config = config
        self.num_heads = num_heads
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(context_dim, inner, bias=False)
        self.v_proj = nn.Linear(context_dim, inner, bias=False)
        self.out_proj = nn.Linear(inner, config.hidden_size)

    def forward(self, latents_BLH: Tensor, context_BNH: Tensor, mask: Tensor | None = None) -> Tensor:
        projected = self.q_proj(latents_BLH), self.k_proj(context_BNH), self.v_proj(context_BNH)
        query, key, value = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected)
        return self.out_proj(attend(self, query, key, value, mask, 0.0))


class GatedMLP(nn.Module):
    """Linear to 8 x width, one half gated by the GELU of the other, Linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 8 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_BLH: Tensor) -> Tensor:
        value, gate = self.fc1(x_BLH).chunk(2, dim=-1)
        return self.fc2(value * nn.functional.gelu(gate))


class LensBlock(GradientCheckpointingLayer):
    """Pre-norm attention and MLP; with `context_dim` it attends to a context, otherwise to the latents."""

    def __init__(self, config: CodeBindEncoderConfig, context_dim: int | None = None) -> None:
        super().__init__()
        width = config.hidden_size
        heads, head_dim = config.lens_num_heads, config.lens_head_dim
        if context_dim is not None:
            heads, head_dim = 1, config.lens_cross_head_dim
        # perceiver-pytorch, which trained the weights this lens loads, normalizes with PyTorch's default epsilon.
        self.norm1 = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(context_dim) if context_dim is not None else None
        self.attention = LensAttention(config, context_dim or width, heads, head_dim)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = GatedMLP(width)

    def forward(self, latents_BLH: Tensor, context_BNH: Tensor, mask: Tensor | None = None) -> Tensor:
        query = self.norm1(latents_BLH)
        context = query if self.context_norm is None else self.context_norm(context_BNH)
        latents_BLH = latents_BLH + self.attention(query, context, None if self.context_norm is None else mask)
        return latents_BLH + self.mlp(self.norm2(latents_BLH))


class Lens(nn.Module):
    """`lens_depth` stages of one cross-attention block and `lens_self_blocks` self-attention blocks, untied."""

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        context_dim = config.stem_dim or config.hidden_size
        self.config = config
        self.latents = nn.Parameter(torch.zeros(config.lens_num_latents, config.hidden_size))
        self.stages = Modules[Modules[LensBlock]](
            Modules[LensBlock](
                [LensBlock(config, context_dim), *(LensBlock(config) for _ in range(config.lens_self_blocks))]
            )
            for _ in range(config.lens_depth)
        )

    def forward(self, tokens_BNH: Tensor, seen_BN: Tensor | None = None) -> Tensor:
        """Latents that have seen the tokens, or those of them that `seen_BN` marks."""
        latents = self.latents.to(tokens_BNH.dtype).expand(tokens_BNH.shape[0], -1, -1)
        mask = None
        if seen_BN is not None:
            mask = create_bidirectional_mask(self.config, latents, seen_BN, encoder_hidden_states=tokens_BNH)
        for stage in self.stages:
            for block in stage:
                latents = block(latents, tokens_BNH, mask)
        return latents
