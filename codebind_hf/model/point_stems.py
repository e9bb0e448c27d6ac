"""Point stems: a cloud of points to tokens, one for each local group.

Axes in this file: B batch, P points, C channels (x, y, z and what follows them), G groups, K points in a group.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .configuration_encoders import CodeBindEncoderConfig
from .typed_modules import dtype_of


# Centres whose distances to all points are held at once: bounds the memory of the search for neighbours.
CENTRES_AT_ONCE = 64
# Odd numbers without structure, for a hash of points.
_HASH_BASE = 0x5851F42D4C957F2D
_HASH_COLUMNS = (0x14057B7EF767814F, 0x2545F4914F6CDD1D, 0x369DEA0F31A53F85)


def farthest_points(points_BPC: Tensor, num_centres: int, random_start: bool = False) -> Tensor:
    """Indices `(B, num_centres)` of points that lie far apart (farthest point sampling, Eldar et al. 1997).

    Each next point is the one farthest from all chosen so far.

    Args:
        points_BPC: coordinates, in float32 or better.
        random_start: begin each cloud at a random point, as ViT-Lens does in training and in evaluation; otherwise at
            point 0.
    """
    # Channels first: one pass over contiguous memory a step, where this loop spends its time.
    points_CBP = points_BPC.permute(2, 0, 1).contiguous()
    batch, count = points_BPC.shape[:2]
    device = points_BPC.device
    last_B = (
        torch.randint(count, (batch,), device=device) if random_start else torch.zeros(batch, device=device).long()
    )
    nearest_BP = torch.full_like(points_CBP[0], torch.inf)
    chosen = [last_B]
    for _ in range(num_centres - 1):
        last_CB1 = points_CBP.gather(2, last_B.expand(len(points_CBP), batch).unsqueeze(2))
        nearest_BP = torch.minimum(nearest_BP, (points_CBP - last_CB1).square().sum(0))
        last_B = nearest_BP.argmax(1)
        chosen.append(last_B)
    return torch.stack(chosen, dim=1)


def gather_points(points_BPC: Tensor, ids_BX: Tensor) -> Tensor:
    """The points with these indices: `(B, ...)` indices give `(B, ..., C)`."""
    flat = ids_BX.flatten(1).unsqueeze(-1).expand(-1, -1, points_BPC.shape[-1])
    return points_BPC.gather(1, flat).unflatten(1, ids_BX.shape[1:])


def originals(points_BPC: Tensor) -> Tensor:
    """Which point each one repeats, `(B, P)`: itself, unless a small cloud was repeated in order to reach its size.

    The size of the cloud is the smallest shift under which it equals itself. All shifts are compared at once by a
    polynomial hash of the bits, modulo 2^64.
    """
    count = points_BPC.shape[1]
    order_P = torch.arange(count, device=points_BPC.device)
    bits_BPC = points_BPC.float().contiguous().view(torch.int32).long()
    columns = torch.tensor(_HASH_COLUMNS, device=points_BPC.device)[: points_BPC.shape[-1]]
    powers_P = torch.full_like(order_P, _HASH_BASE).cumprod(0)
    sums_BP = ((bits_BPC * columns).sum(-1) * powers_P).cumsum(1)
    # For a shift s: the hash of what is behind it, against that of as many points from the start, s powers further.
    behind_BP = sums_BP[:, -1:] - sums_BP[:, :-1]
    before_BP = sums_BP[:, :-1].flip(1) * powers_P[:-1]
    fits_BP = torch.cat([behind_BP == before_BP, torch.ones_like(sums_BP[:, :1], dtype=torch.bool)], dim=1)
    size_B1 = fits_BP.int().argmax(1, keepdim=True) + 1
    return order_P % size_B1


def nearest_points(centres_BGC: Tensor, points_BPC: Tensor, size: int) -> Tensor:
    """Indices `(B, G, size)` of the points nearest to each centre.

    Repetitions of a small cloud come after everything else, so that its groups are those of the cloud itself and not
    a few points many times over.
    """
    order_P = torch.arange(points_BPC.shape[1], device=points_BPC.device)
    repeated_B1P = (originals(points_BPC) < order_P).unsqueeze(1)

    def nearest(squared_BGP: Tensor) -> Tensor:
        beyond_BG1 = 2 * squared_BGP.amax(-1, keepdim=True)
        return (squared_BGP + beyond_BG1 * repeated_B1P).topk(size, largest=False).indices

    return _by_distance(centres_BGC, points_BPC, nearest)


def points_in_ball(centres_BGC: Tensor, points_BPC: Tensor, size: int, radius: float) -> Tensor:
    """Indices `(B, G, size)` of the first `size` points, in their own order, within `radius` of each centre.

    A ball with fewer points repeats its first one (ball query of PointNet++, Qi et al. 2017). Every centre must be one
    of the points, so that no ball is empty.
    """
    count = points_BPC.shape[1]
    order_P = torch.arange(count, device=points_BPC.device, dtype=torch.int32)

    def first_inside(squared_BGP: Tensor) -> Tensor:
        return torch.where(squared_BGP <= radius**2, order_P, count).topk(size, largest=False).values

    ids_BGK = _by_distance(centres_BGC, points_BPC, first_inside).long().sort().values
    return torch.where(ids_BGK < count, ids_BGK, ids_BGK[..., :1])


def _by_distance(centres_BGC: Tensor, points_BPC: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
    """What `choose` makes of squared distances `(B, some centres, P)`, for all centres."""
    # From differences: through a matrix product, distances of points that almost coincide are rounding errors.
    columns = [column_BP.unsqueeze(1) for column_BP in points_BPC.unbind(-1)]
    parts = []
    for part_BGC in centres_BGC.split(CENTRES_AT_ONCE, dim=1):
        pairs = zip(part_BGC.unbind(-1), columns, strict=True)
        squares = [(centre_BG.unsqueeze(2) - column_B1P).square() for centre_BG, column_B1P in pairs]
        parts.append(choose(sum(squares[1:], start=squares[0])))
    return torch.cat(parts, dim=1)


class PointStem(nn.Module):
    """What both point stems share: where centres are, and networks that see every point of a group alike."""

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        self.num_groups, self.group_size = config.num_groups, config.group_size
        self.random_start = config.fps_start == "random"

    def neighbours(self, centres_BGC: Tensor, points_BPC: Tensor) -> Tensor:
        """Indices `(B, G, K)` of the points of each group; both arguments are coordinates."""
        raise NotImplementedError

    @torch.no_grad()
    def groups(self, points_BPC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Centres `(B, G, 3)`, the points of each group relative to it `(B, G, K, 3)`, and their indices."""
        xyz_BPC = points_BPC[..., :3].float()
        centres_BGC = gather_points(xyz_BPC, farthest_points(xyz_BPC, self.num_groups, self.random_start))
        ids_BGK = self.neighbours(centres_BGC, xyz_BPC)
        return centres_BGC, gather_points(xyz_BPC, ids_BGK) - centres_BGC.unsqueeze(2), ids_BGK


class NearestPointStem(PointStem):
    """Groups of nearest points, each embedded by a small PointNet and placed by the position of its centre.

    Source: Point-BERT's tokenizer, as in ViT-Lens (TencentARC/ViT-Lens@2b4f2e0, "pointbert"): two shared MLPs with a
    maximum over the group after each.
    """

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__(config)
        first, second, third, fourth = config.point_widths
        width = config.stem_dim or config.hidden_size
        self.local = _shared_mlp(config.num_channels, first, second)
        self.merged = _shared_mlp(2 * second, third, fourth)
        self.projection = nn.Linear(fourth, width)
        self.position = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        # Few and small inputs (a coordinate in the unit sphere is about 1/3; GELU halves): with the model's small
        # initial weights a group's place would drown in its features.
        _start_by_inputs(self, {self.position[0]: 3.0, self.position[2]: 1.7})

    def neighbours(self, centres_BGC: Tensor, points_BPC: Tensor) -> Tensor:
        return nearest_points(centres_BGC, points_BPC, self.group_size)

    def features(self, points_BPC: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the groups without their place, `(B, G, width)`, and the places' own."""
        centres_BGC, local_BGKC, _ = self.groups(points_BPC)
        dtype = dtype_of(self.projection)
        x_BGKC = _over_points(self.local, local_BGKC.to(dtype))
        overall_BGKC = x_BGKC.amax(2, keepdim=True).expand_as(x_BGKC)
        x_BGC = _over_points(self.merged, torch.cat([overall_BGKC, x_BGKC], dim=-1)).amax(2)
        return self.projection(x_BGC), self.position(centres_BGC.to(dtype))

    def forward(self, points_BPC: Tensor) -> Tensor:
        tokens, places = self.features(points_BPC)
        return tokens + places


class BallPointStem(PointStem):
    """Groups of points within a ball, with their colours, embedded by set abstraction (PointNet++).

    Source: OpenShape's tokenizer, as in ViT-Lens (TencentARC/ViT-Lens@2b4f2e0, "pnsa"): relative coordinates and all
    channels of every point of a group through a shared MLP and a maximum; then the centre and the result through one
    layer and a norm. There is no other term for the position.
    """

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__(config)
        self.radius = float(config.ball_radius)
        widths = [3 + config.num_channels, *config.point_widths]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in config.point_widths)
        self.lift = nn.Linear(3 + widths[-1], config.stem_dim or config.hidden_size)
        # PyTorch's default epsilon, with which the weights that this stem loads were trained.
        self.norm = nn.LayerNorm(self.lift.out_features)
        _start_by_inputs(self, {})

    def neighbours(self, centres_BGC: Tensor, points_BPC: Tensor) -> Tensor:
        return points_in_ball(centres_BGC, points_BPC, self.group_size, self.radius)

    def forward(self, points_BPC: Tensor) -> Tensor:
        centres_BGC, local_BGKC, ids_BGK = self.groups(points_BPC)
        dtype = dtype_of(self.lift)
        x_BGKC = torch.cat([local_BGKC.to(dtype), gather_points(points_BPC.to(dtype), ids_BGK)], dim=-1)
        x_BGC = _over_points(self._abstraction, x_BGKC).amax(2)
        return self.norm(self.lift(torch.cat([centres_BGC.to(dtype), x_BGC], dim=-1)))

    def _abstraction(self, x_NC: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x_NC = norm(layer(x_NC)).relu()
        return x_NC


def _start_by_inputs(stem: nn.Module, gains: dict[nn.Module, float]) -> None:
    """Initial spread of every layer from the number of its inputs, times a gain of its own."""
    for layer in stem.modules():
        if isinstance(layer, nn.Linear):
            layer.init_std = gains.get(layer, 1.0) * layer.in_features**-0.5


def _shared_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two layers applied to every point alike; the statistics of the norm run over all points of the batch."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _over_points(mlp: Callable[[Tensor], Tensor], x_BGKC: Tensor) -> Tensor:
    return mlp(x_BGKC.flatten(0, 2)).unflatten(0, x_BGKC.shape[:3])


POINT_STEMS: dict[str, type[PointStem]] = {"nearest": NearestPointStem, "ball": BallPointStem}
