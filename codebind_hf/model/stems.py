"""Stems: raw tensors to tokens.

Axes in this file: B batch, C channels, N tokens, H width, P points, G groups, K points in a group.
"""

import torch
from torch import Tensor, nn

from .configuration_codebind import CodeBindEncoderConfig


class TokenStem(nn.Module):
    """Token ids to embeddings."""

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)

    def forward(self, ids_BN: Tensor) -> Tensor:
        return self.embedding(ids_BN)


class PatchStem(nn.Module):
    """Patches of a signal (1-D), a picture (2-D) or a short clip (3-D), each projected to one token.

    Tokens come in row-major order of the patch grid. An input without frames is repeated to fill one tubelet.
    """

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        tube = [config.tubelet_size] if config.tubelet_size > 1 else []
        kernel, stride = (*tube, *config.patch_size), (*tube, *config.strides)
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(kernel)]
        width = config.stem_dim or config.hidden_size
        self.tubelet_size = config.tubelet_size
        self.projection = convolution(config.num_channels, width, kernel, stride, bias=config.stem_bias)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if config.stem_norm else nn.Identity()
        self.position = nn.Parameter(torch.zeros(config.num_stem_tokens, width)) if config.stem_position else None

    def forward(self, values: Tensor) -> Tensor:
        if self.tubelet_size > 1 and values.ndim == 4:
            values = values.unsqueeze(2).expand(-1, -1, self.tubelet_size, -1, -1)
        tokens = self.norm(self.projection(values.to(self.projection.weight.dtype)).flatten(2).transpose(1, 2))
        return tokens if self.position is None else tokens + self.position.to(tokens.dtype)


def farthest_points(points_BPC: Tensor, num_centres: int) -> Tensor:
    """Indices `(B, num_centres)` of points that lie far apart, starting at point 0.

    Each next point is the one farthest from all chosen so far (farthest point sampling, Eldar et al. 1997).
    """
    batch = torch.arange(len(points_BPC), device=points_BPC.device)
    chosen = torch.zeros(len(points_BPC), num_centres, dtype=torch.long, device=points_BPC.device)
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
        self.local = nn.Sequential(
            nn.Conv1d(config.num_channels, first, 1), nn.BatchNorm1d(first), nn.ReLU(), nn.Conv1d(first, second, 1)
        )
        self.merged = nn.Sequential(
            nn.Conv1d(2 * second, third, 1), nn.BatchNorm1d(third), nn.ReLU(), nn.Conv1d(third, fourth, 1)
        )
        self.projection = nn.Linear(fourth, width)
        self.position = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))

    def groups(self, points_BPC: Tensor) -> tuple[Tensor, Tensor]:
        """Centres `(B, G, 3)` and the points around each, relative to it, `(B, G, K, C)`."""
        centres_BGC = gather_points(points_BPC, farthest_points(points_BPC, self.num_groups))
        distances_BGP = (centres_BGC.unsqueeze(2) - points_BPC.unsqueeze(1)).square().sum(-1)
        ids_BGK = distances_BGP.topk(self.group_size, largest=False).indices
        return centres_BGC, gather_points(points_BPC, ids_BGK) - centres_BGC.unsqueeze(2)

    def forward(self, points_BPC: Tensor) -> Tensor:
        with torch.no_grad():
            centres_BGC, local_BGKC = self.groups(points_BPC.float())
        dtype = self.projection.weight.dtype
        groups = local_BGKC.flatten(0, 1).transpose(1, 2).to(dtype)
        features = self.local(groups)
        overall = features.amax(-1, keepdim=True).expand_as(features)
        features = self.merged(torch.cat([overall, features], dim=1)).amax(-1)
        tokens_BGH = self.projection(features.unflatten(0, local_BGKC.shape[:2]))
        return tokens_BGH + self.position(centres_BGC.to(dtype))


def build_stem(config: CodeBindEncoderConfig) -> nn.Module:
    return {"tokens": TokenStem, "patches": PatchStem, "points": PointStem}[config.stem](config)
