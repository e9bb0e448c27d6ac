"""The one tower: stem, optional lens, CLS token, positions, pre-norm transformer.

Axes in this file: B batch, N tokens, H width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from .blocks import block_stack
from .configuration_encoders import CodeBindEncoderConfig
from .lenses import Lens
from .stems import build_stem


def mean_of_seen(tokens_BNH: Tensor, seen_BN: Tensor | None) -> Tensor:
    """The mean of all tokens, or of those that `seen_BN` marks, `(B, 1, H)`."""
    if seen_BN is None:
        return tokens_BNH.mean(1, keepdim=True)
    weights_BN1 = (seen_BN / seen_BN.sum(1, keepdim=True)).to(tokens_BNH.dtype).unsqueeze(-1)
    return (tokens_BNH * weights_BN1).sum(1, keepdim=True)


class Tower(nn.Module):
    """Raw tensor to tokens; serves ImageBind, OpenCLIP and ViT-Lens shapes through its configuration."""

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        self.config = config
        has_cls = config.stem != "tokens"
        self.stem = build_stem(config)
        self.lens = Lens(config) if config.lens_num_latents else None
        self.cls_token = nn.Parameter(torch.zeros(config.hidden_size)) if has_cls else None
        self.position = (
            nn.Parameter(torch.zeros(config.num_tokens, config.hidden_size)) if config.has_position else None
        )
        self.pre_norm = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.pre_norm else nn.Identity()
        )
        self.layers = block_stack(config)

    def embed(self, values: Tensor) -> Tensor:
        """Tokens before the first block, `(B, N, H)`."""
        tokens, seen = self.stem(values), self._seen_features(values)
        if self.lens is not None:
            tokens, seen = self.lens(tokens, seen), None
        if self.cls_token is not None:
            first = self.cls_token.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
            if self.config.stem == "features":
                # What another network gave needs no block to be pooled.
                first = first + mean_of_seen(tokens, seen)
            tokens = torch.cat([first, tokens], dim=1)
        if self.position is not None:
            tokens = tokens + self.position[: tokens.shape[1]].to(tokens.dtype)
        return self.pre_norm(tokens)

    def forward(self, values: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """All hidden states: the tokens before the first block and after every block, each `(B, N, H)`."""
        tokens = self.embed(values)
        mask = None
        if self.config.is_causal:
            # By place: what the fourth argument is called depends on the version of transformers.
            mask = create_causal_mask(self.config, tokens, attention_mask, None)
        elif (seen := self.seen(values)) is not None:
            mask = create_bidirectional_mask(self.config, tokens, seen)
        states = [tokens]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return tuple(states)

    def attentions(
        self, values: Tensor, attention_mask: Tensor | None, states: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Attention weights of every block, `(B, heads, N, N)` each, of what `forward` gave."""
        keys = attention_mask if self.config.is_causal else self.seen(values)
        seen = None if keys is None else keys.bool()[:, None, None]
        if self.config.is_causal and states:
            before = torch.ones(states[0].shape[1], states[0].shape[1], dtype=torch.bool, device=values.device).tril()
            seen = before if seen is None else seen & before
        # The last state goes into no block.
        layers: Any = self.layers
        pairs = zip(layers, states[:-1], strict=False)
        return tuple(layer.self_attn.weights(layer.layer_norm1(x), seen) for layer, x in pairs)

    def seen(self, values: Tensor) -> Tensor | None:
        """Which tokens others attend to, `(B, N)`: of features all but vectors of zeros; `None` is all."""
        seen = None if self.lens is not None else self._seen_features(values)
        return None if seen is None else pad(seen, (1, 0), value=True)

    def _seen_features(self, values: Tensor) -> Tensor | None:
        """Which vectors of a sequence of features are more than padding, `(B, N)`; the first always is."""
        if self.config.stem != "features" or self.config.num_stem_tokens == 1:
            return None
        return pad(values[:, 1:].ne(0).any(-1), (1, 0), value=True)

    def pooled(self, values: Tensor, tokens: Tensor) -> Tensor:
        """Of the last tokens those that stand for the samples, `(B, H)`."""
        return tokens[torch.arange(tokens.shape[0], device=tokens.device), self.pooled_index(values)]

    def pooled_index(self, values: Tensor) -> Tensor:
        """Which token stands for the sample, `(B,)`: the first end-of-text token, or CLS at 0."""
        if self.config.stem == "tokens" and self.config.eos_token_id is not None:
            return values.eq(self.config.eos_token_id).int().argmax(-1)
        return torch.zeros(values.shape[0], dtype=torch.long, device=values.device)
