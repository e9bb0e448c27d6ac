"""Transformer blocks that towers and decoders stack.

Axes in this file: B batch, N tokens, H width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_encoders import CodeBindBlockConfig


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Attention written out, in the signature of transformers' attention interface."""
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """Attention over `(B, heads, N, head_dim)` with the implementation that `module.config` names; `(B, N, H)`."""
    interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
        module.config._attn_implementation,  # type: ignore[union-attr, arg-type]
        eager_attention_forward,
    )
    output, _ = interface(
        module, query, key, value, mask, scaling=query.shape[-1] ** -0.5, dropout=dropout if module.training else 0.0
    )
    return output.flatten(2)


class Attention(nn.Module):
    """Multi-head self-attention with separate projections, so that adapters can target each."""

    def __init__(self, config: CodeBindBlockConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.num_heads = config.num_attention_heads
        self.is_causal = config.is_causal
        self.q_proj = nn.Linear(width, width, bias=config.attention_bias)
        self.k_proj = nn.Linear(width, width, bias=config.attention_bias)
        self.v_proj = nn.Linear(width, width, bias=config.attention_bias)
        self.out_proj = nn.Linear(width, width)
        self.bias_k = nn.Parameter(torch.zeros(1, 1, width)) if config.add_bias_kv else None
        self.bias_v = nn.Parameter(torch.zeros(1, 1, width)) if config.add_bias_kv else None

    def _projected(self, x_BNH: Tensor, seen_BMH: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value, `(B, heads, N, head_dim)` each; keys and values of M tokens and of the bias."""
        query, key, value = self.q_proj(x_BNH), self.k_proj(seen_BMH), self.v_proj(seen_BMH)
        if self.bias_k is not None and self.bias_v is not None:
            key = torch.cat([key, self.bias_k.to(key.dtype).expand(key.shape[0], -1, -1)], dim=1)
            value = torch.cat([value, self.bias_v.to(value.dtype).expand(value.shape[0], -1, -1)], dim=1)
        return tuple(x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value))

    def weights(self, x_BNH: Tensor, seen: Tensor | None) -> Tensor:
        """What `forward` takes of every token, `(B, heads, N, N)`, with a last column for the bias where it has one.

        Computed apart, so that every attention implementation gives them; without dropout.

        Args:
            seen: which tokens each may attend to, bool, broadcast to `(B, heads, N, N)`; `None` is all.
        """
        query, key, _ = self._projected(x_BNH, x_BNH)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if seen is not None:
            seen = nn.functional.pad(seen, (0, key.shape[2] - x_BNH.shape[1]), value=True)
            scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        return scores.softmax(-1, dtype=torch.float32).to(query.dtype)

    def forward(
        self, x_BNH: Tensor, attention_mask: Tensor | None = None, context_BMH: Tensor | None = None
    ) -> Tensor:
        """Tokens attend to each other, or to `context_BMH` where it is given."""
        query, key, value = self._projected(x_BNH, x_BNH if context_BMH is None else context_BMH)
        return self.out_proj(attend(self, query, key, value, attention_mask, self.config.attention_dropout))


class MLP(nn.Module):
    """Linear, activation, Linear."""

    def __init__(self, config: CodeBindBlockConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.mlp_size)
        self.fc2 = nn.Linear(config.mlp_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, x_BNH: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x_BNH)))


class DropPath(nn.Module):
    """Skips the residual branch of whole samples while training (stochastic depth, arXiv 1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


class Block(GradientCheckpointingLayer):
    """Pre-norm transformer block: attention, then MLP, each with a residual.

    With `others_BMH`, tokens attend to these and to each other, and the others to nothing.
    """

    def __init__(self, config: CodeBindBlockConfig, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x_BNH: Tensor, attention_mask: Tensor | None = None, others_BMH: Tensor | None = None) -> Tensor:
        query, context = self.layer_norm1(x_BNH), None
        if others_BMH is not None:
            context = torch.cat([self.layer_norm1(others_BMH), query], dim=1)
        x_BNH = x_BNH + self.drop_path(self.dropout(self.self_attn(query, attention_mask, context)))
        return x_BNH + self.drop_path(self.dropout(self.mlp(self.layer_norm2(x_BNH))))


def block_stack(config: CodeBindBlockConfig) -> nn.ModuleList:
    """`num_hidden_layers` blocks whose drop path rate grows linearly from 0 to `drop_path_rate`."""
    last = max(config.num_hidden_layers - 1, 1)
    return nn.ModuleList(Block(config, config.drop_path_rate * i / last) for i in range(config.num_hidden_layers))
