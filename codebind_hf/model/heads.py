"""Heads and encoders: tokens of a tower to one shared and one specific embedding.

Axes in this file: B batch, N tokens, H width of the tower.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from transformers.masking_utils import create_bidirectional_mask

from .configuration_encoders import CodeBindEncoderConfig
from .towers import Tower, mean_of_seen


class Head(nn.Module):
    """LayerNorm and a projection without bias, on every token (the shape of ImageBind's and OpenCLIP's heads)."""

    def __init__(self, config: CodeBindEncoderConfig, output_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.hidden_size, output_dim, bias=False)

    def forward(self, tokens_BNH: Tensor) -> Tensor:
        return self.projection(self.norm(tokens_BNH))


class PooledReadout(nn.Module):
    """The mean of all tokens but CLS, and these tokens."""

    def forward(self, values: Tensor, tower: Tower, states_BNH: tuple[Tensor, ...]) -> Tensor:
        """What the specific head sees, `(B, N, H)`; token 0 stands for the sample.

        Args:
            values: the input of the tower.
            states_BNH: the tower's hidden states, those before its first block first.
        """
        others_BNH, seen_BN = states_BNH[-1][:, 1:], tower.seen(values)
        mean_B1H = mean_of_seen(others_BNH, None if seen_BN is None else seen_BN[:, 1:])
        return torch.cat([mean_B1H, others_BNH], dim=1)


class TokenReadout(nn.Module):
    """A second learned class token that runs through the tower's blocks and that no other token sees.

    It attends, at every depth, to what the other tokens are there. They and the shared part are the same bits with and
    without it, so a frozen tower can have one, and who wants the shared part alone does not pay for it.
    """

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, values: Tensor, tower: Tower, states_BNH: tuple[Tensor, ...]) -> Tensor:
        """As `PooledReadout`."""
        own_B1H = self.token.to(states_BNH[0].dtype).expand(states_BNH[0].shape[0], 1, -1)
        mask, seen_BN = None, tower.seen(values)
        if seen_BN is not None:
            keys = (pad(seen_BN, (0, 1), value=True), pad(states_BNH[0], (0, 0, 0, 1)))
            mask = create_bidirectional_mask(tower.config, own_B1H, *keys)
        for layer, others_BNH in zip(tower.layers, states_BNH[:-1], strict=True):
            own_B1H = layer(own_B1H, mask, others_BNH)
        return torch.cat([own_B1H, states_BNH[-1][:, 1:]], dim=1)


class NetworkReadout(nn.Module):
    """A small encoder of the specific part's own on the same input, with `specific_num_hidden_layers` blocks.

    What aligns the shared part then changes nothing of the specific one, and the other way round.
    """

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        own = type(config)(**{**config.to_dict(), "num_hidden_layers": config.specific_num_hidden_layers})
        own._attn_implementation = config._attn_implementation
        self.network = Tower(own)

    def forward(self, values: Tensor, tower: Tower, states_BNH: tuple[Tensor, ...]) -> Tensor:
        """As `PooledReadout`."""
        return self.network(values)[-1]


READOUT_CLASSES: dict[str, Callable[[CodeBindEncoderConfig], nn.Module | None]] = {
    "cls": lambda config: None,
    "pool": lambda config: PooledReadout(),
    "token": TokenReadout,
    "network": NetworkReadout,
}


class Encoded(NamedTuple):
    """What an encoder says of a batch, before quantization.

    Args:
        shared: `(batch, tokens, shared_dim)`; token 0 is the pooled one.
        specific: `(batch, tokens, specific_dim)`, or `None`; token 0 is the one that `specific_readout` names.
        hidden_states: the tower's, `(batch * clips, tokens, hidden_size)` each.
    """

    shared: Tensor
    specific: Tensor | None
    hidden_states: tuple[Tensor, ...]


class Encoder(nn.Module):
    """Tower, shared head and specific head of one encoder."""

    def __init__(
        self, config: CodeBindEncoderConfig, shared_dim: int, specific_dim: int, specific_readout: str = "cls"
    ) -> None:
        super().__init__()
        self.config = config
        self.tower = Tower(config)
        self.shared_head = Head(config, shared_dim)
        self.specific_head = Head(config, specific_dim) if specific_dim else None
        self.specific_readout = READOUT_CLASSES[specific_readout](config) if specific_dim else None

    def forward(
        self,
        values: Tensor,
        attention_mask: Tensor | None = None,
        clips: int = 1,
        all_tokens: bool = False,
        specific: bool = True,
    ) -> Encoded:
        """Encode `(batch * clips, ...)` values.

        Heads see only the pooled token unless `all_tokens`. Shared and specific are L2-normalized per clip and
        averaged over clips, or averaged as they are where `normalize_clips` is off. Read from the same token, the two
        are normalized jointly (Visual-AI/CodeBind@bba682e codebind_model.py); with a read-out of its own, the specific
        part changes nothing of the shared one. `specific=False` skips the specific part where it cannot matter.
        """
        states = self.tower(values, attention_mask)
        is_pooled = not all_tokens or self.config.stem == "tokens"
        tokens = self.tower.pooled(values, states[-1]).unsqueeze(1) if is_pooled else states[-1]
        encoded = self.of_tokens(tokens, clips, specific)
        own = encoded.specific
        if specific and self.specific_head is not None and self.specific_readout is not None:
            seen = self.specific_readout(values, self.tower, states)
            own = self._mean_over_clips(self.specific_head(seen if all_tokens else seen[:, :1]), clips)
        return Encoded(encoded.shared, own, states)

    def of_tokens(self, tokens: Tensor, clips: int = 1, specific: bool = True) -> Encoded:
        """As `forward`, of what the tower gave, `(batch * clips, tokens, hidden_size)`; without hidden states.

        The specific part is left out where it has a read-out of its own, which reads more than these tokens.
        """
        shared = self.shared_head(tokens)
        is_joint = clips > 1 and self.config.normalize_clips
        if self.specific_head is None or self.specific_readout is not None or not (specific or is_joint):
            return Encoded(self._mean_over_clips(shared, clips), None, ())
        joint = self._mean_over_clips(torch.cat([shared, self.specific_head(tokens)], dim=-1), clips)
        shared, own = joint.split([shared.shape[-1], joint.shape[-1] - shared.shape[-1]], dim=-1)
        return Encoded(shared, own, ())

    def specific_of(self, values: Tensor, clips: int = 1) -> Tensor:
        """The pooled specific embedding `(batch, specific_dim)` alone; a network of its own needs no tower for it."""
        if isinstance(self.specific_readout, NetworkReadout) and self.specific_head is not None:
            seen = self.specific_readout(values, self.tower, ())
            return self._mean_over_clips(self.specific_head(seen[:, 0]), clips)
        encoded = self(values, clips=clips)
        if encoded.specific is None:
            raise ValueError("specific_of: this encoder has no specific part.")
        return encoded.specific[:, 0]

    def learns(self) -> bool:
        """Whether anything of it learns; heads are looked at first, as they do wherever a tower does."""
        return any(x.requires_grad for part in (self.shared_head, self) for x in part.parameters())

    def specific_learns(self) -> bool:
        """Whether the specific part learns; where there is none, whatever else does is trained for it."""
        return self.specific_head is None or any(x.requires_grad for x in self.specific_head.parameters())

    def follow_attention(self) -> None:
        """Let a network of the specific part's own attend as the tower does."""
        if isinstance(self.specific_readout, NetworkReadout):
            self.specific_readout.network.config._attn_implementation = self.config._attn_implementation

    def _mean_over_clips(self, x: Tensor, clips: int) -> Tensor:
        x = normalize(x.float(), dim=-1) if self.config.normalize_clips else x.float()
        return x if clips == 1 else x.unflatten(0, (-1, clips)).mean(1)
