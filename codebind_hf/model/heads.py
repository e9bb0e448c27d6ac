"""Heads and encoders: tokens of a tower to one shared and one specific embedding.

Axes in this file: B batch, N tokens, H width of the tower.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .configuration_encoders import CodeBindEncoderConfig
from .towers import Tower


class Head(nn.Module):
    """LayerNorm and a projection without bias, on every token (the shape of ImageBind's and OpenCLIP's heads)."""

    def __init__(self, config: CodeBindEncoderConfig, output_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.hidden_size, output_dim, bias=False)

    def forward(self, tokens_BNH: Tensor) -> Tensor:
        return self.projection(self.norm(tokens_BNH))


class Encoded(NamedTuple):
    """What an encoder says of a batch, before quantization.

    Args:
        shared: `(batch, tokens, shared_dim)`; token 0 is the pooled one.
        specific: `(batch, tokens, specific_dim)`, or `None`.
        hidden_states: the tower's, `(batch * clips, tokens, hidden_size)` each.
    """

    shared: Tensor
    specific: Tensor | None
    hidden_states: tuple[Tensor, ...]


class Encoder(nn.Module):
    """Tower, shared head and specific head of one encoder."""

    def __init__(self, config: CodeBindEncoderConfig, shared_dim: int, specific_dim: int) -> None:
        super().__init__()
        self.config = config
        self.tower = Tower(config)
        self.shared_head = Head(config, shared_dim)
        self.specific_head = Head(config, specific_dim) if specific_dim else None

    def forward(
        self,
        values: Tensor,
        attention_mask: Tensor | None = None,
        clips: int = 1,
        all_tokens: bool = False,
        specific: bool = True,
    ) -> Encoded:
        """Encode `(batch * clips, ...)` values.

        Heads see only the pooled token unless `all_tokens`. Shared and specific are L2-normalized jointly per clip and
        averaged over clips (Visual-AI/CodeBind@bba682e codebind_model.py), or averaged as they are where
        `normalize_clips` is off. `specific=False` skips the specific head where it cannot matter: its only effect on
        the shared part is a scale of every clip.
        """
        states = self.tower(values, attention_mask)
        tokens = states[-1]
        if not all_tokens or self.config.stem == "tokens":
            rows = torch.arange(tokens.shape[0], device=tokens.device)
            tokens = tokens[rows, self.tower.pooled_index(values)].unsqueeze(1)
        shared = self.shared_head(tokens)
        if self.specific_head is None or not (specific or clips > 1 and self.config.normalize_clips):
            return Encoded(self._mean_over_clips(shared, clips), None, states)
        joint = self._mean_over_clips(torch.cat([shared, self.specific_head(tokens)], dim=-1), clips)
        shared, own = joint.split([shared.shape[-1], joint.shape[-1] - shared.shape[-1]], dim=-1)
        return Encoded(shared, own, states)

    def _mean_over_clips(self, x: Tensor, clips: int) -> Tensor:
        x = normalize(x.float(), dim=-1) if self.config.normalize_clips else x.float()
        return x if clips == 1 else x.unflatten(0, (-1, clips)).mean(1)
