"""Stems: raw tensors to tokens.

Axes in this file: B batch, C channels, N tokens, H width, P points, G groups, K points in a group.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .configuration_encoders import CodeBindEncoderConfig


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
        if self.tubelet_size > 1 and values.ndim == 4:
            values = values.unsqueeze(2).expand(-1, -1, self.tubelet_size, -1, -1)
        weight = self.projection.get_parameter("weight")
        values = self.convolutions(values.to(weight.dtype))
        tokens = self.norm(self.projection(values).flatten(2).transpose(1, 2))
        return tokens if self.position is None else tokens + self.position.to(tokens.dtype)


def farthest_points(points_BPC: Tensor, num_centres: int) -> Tensor:
    """Indices `(B, num_centres)` of points that lie far apart, starting at point 0.

    Each next point is the one farthest from all chosen so far (farthest point sampling, Eldar et al. 1997).
    """
    batch = torch.arange(points_BPC.shape[0], device=points_BPC.device)
    chosen = torch.zeros(points_BPC.shape[0], num_centres, dtype=torch.long, device=points_BPC.device)
    nearest_BP = torch.full(points_BPC.shape[:2], torch.inf, dtype=points_BPC.dtype, device=points_BPC.device)
    for i in range(1, num_centres):
        last_B1C = points_BPC[batch, chosen[:, i - 1]].unsqueeze(1)
        nearest_BP = torch.minimum(nearest_BP, (points_BPC - last_B1C).square().sum(-1))
        chosen[:, i] = nearest_BP.argmax(-1)
    return chosen


def gather_points(points_BPC: Tensor, ids_BX: Tensor) -> Tensor:
    """The points with these indices: `(B, ...)` indices give `(B, ..., C)`."""
    flat = ids_BX.flatten(1).unsqueeze(-1).expand(-1, -1, points_BPC.shape[-1])
    return points_BPC.gather(1, flat).unflatten(1, ids_BX.shape[1:])


class PointStem(nn.Module):
    """Local groups of a point cloud, each embedded by a small PointNet.

    Centres by farthest point sampling, the nearest points of each relative to it, two shared MLPs with a maximum
    over the group after each, and a projection of the centre as position (Point-BERT; facts of ViT-Lens section 3.1).
    """

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        first, second, third, fourth = config.point_widths
        width = config.stem_dim or config.hidden_size
        self.num_groups, self.group_size = config.num_groups, config.group_size
        self.local = _shared_mlp(config.num_channels, first, second)
        self.merged = _shared_mlp(2 * second, third, fourth)
        self.projection = nn.Linear(fourth, width)
        self.position = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        # Few and small inputs (a coordinate in the unit sphere is about 1/3; GELU halves): with the model's small
        # initial weights a group's place would drown in its features.
        gains = {self.position[0]: 3.0, self.position[2]: 1.7}
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.init_std = gains.get(layer, 1.0) * layer.in_features**-0.5  # type: ignore[assignment]

    def groups(self, points_BPC: Tensor) -> tuple[Tensor, Tensor]:
        """Centres `(B, G, 3)` and the points around each, relative to it, `(B, G, K, C)`."""
        centres_BGC = gather_points(points_BPC, farthest_points(points_BPC, self.num_groups))
        distances_BGP = torch.cdist(centres_BGC, points_BPC)
        ids_BGK = distances_BGP.topk(self.group_size, largest=False).indices
        return centres_BGC, gather_points(points_BPC, ids_BGK) - centres_BGC.unsqueeze(2)

    def forward(self, points_BPC: Tensor) -> Tensor:
        with torch.no_grad():
            centres_BGC, local_BGKC = self.groups(points_BPC.float())
        dtype = self.projection.weight.dtype
        features = self._over_points(self.local, local_BGKC.to(dtype))
        overall = features.amax(2, keepdim=True).expand_as(features)
        features = self._over_points(self.merged, torch.cat([overall, features], dim=-1)).amax(2)
        return self.projection(features) + self.position(centres_BGC.to(dtype))

    @staticmethod
    def _over_points(mlp: nn.Sequential, x_BGKC: Tensor) -> Tensor:
        return mlp(x_BGKC.flatten(0, 2)).unflatten(0, x_BGKC.shape[:3])


def _shared_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers applied to every point alike; the statistics of the norm run over all points of the batch."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def build_stem(config: CodeBindEncoderConfig) -> nn.Module:
    return {"tokens": TokenStem, "patches": PatchStem, "points": PointStem}[config.stem](config)
