"""Naive transcriptions of the paper's equations, one loop per index, written from the paper and not from the package.

Source: the CodeBind paper, equations 1 to 10 and, where the paper leaves a choice open, Visual-AI/CodeBind@bba682e.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def squared_distance(a: Sequence[float], b: Sequence[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def unit_vector(a: Sequence[float]) -> list[float]:
    length = math.sqrt(dot(a, a))
    return [x / length for x in a]


def info_nce(anchor: Tensor, other: Tensor, scale: float) -> float:
    """Eq. 1 in both directions, summed; negatives are the other rows of the batch."""
    a, b = anchor.double().tolist(), other.double().tolist()
    total = 0.0
    for first, second in ((a, b), (b, a)):
        for i in range(len(first)):
            denominator = sum(math.exp(scale * dot(first[i], second[j])) for j in range(len(second)))
            total -= math.log(math.exp(scale * dot(first[i], second[i])) / denominator) / len(first)
    return total


def segment_info_nce(anchor: Tensor, other: Tensor, scale: float) -> float:
    """Eq. 1 on every segment by itself."""
    return mean([info_nce(anchor[:, s], other[:, s], scale) for s in range(anchor.shape[1])])


def reconstruction(output: Tensor, target: Tensor) -> float:
    """Eq. 2, as a mean over numbers."""
    pairs = zip(output.double().flatten().tolist(), target.double().flatten().tolist(), strict=True)
    return mean([(x - y) ** 2 for x, y in pairs])


def chamfer_distance(output: Tensor, target: Tensor) -> float:
    forward, backward = [], []
    for first, second in zip(output.double().tolist(), target.double().tolist(), strict=True):
        forward += [min(squared_distance(p, q) for q in second) for p in first]
        backward += [min(squared_distance(p, q) for q in first) for p in second]
    return mean(forward) + mean(backward)


def orthogonality(shared: Tensor, specific: Tensor) -> float:
    """Eq. 3."""
    rows = zip(shared.double().tolist(), specific.double().tolist(), strict=True)
    return mean([dot(a, b) ** 2 for a, b in rows])


def decorrelation(shared: Tensor, specific: Tensor) -> float:
    """Mean square of Pearson's correlation of every dimension of one with every dimension of the other."""
    if len(shared) < 3:
        return 0.0
    values = []
    for one in shared.double().T.tolist():
        for other in specific.double().T.tolist():
            a, b = ([value - mean(row) for value in row] for row in (one, other))
            values.append(dot(a, b) ** 2 / max(dot(a, a) * dot(b, b), 1e-30))
    return mean(values)


def uniformity(embeds: Tensor) -> float:
    """Eq. 4 over the pairs i < j."""
    rows = embeds.double().tolist()
    values = [math.exp(-squared_distance(rows[i], rows[j])) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    return math.log(mean(values))


def commitment(segments: Tensor, codes: Tensor, beta: float = 0.25) -> float:
    """Eq. 5 with the code's beta: `beta * ||z - sg[z_hat]||^2`, averaged over segments."""
    z, c = segments.double().flatten(0, -2).tolist(), codes.double().flatten(0, -2).tolist()
    return mean([beta * squared_distance(a, b) for a, b in zip(z, c, strict=True)])


def code_probabilities(segment: Sequence[float], codes: list[list[float]], temperature: float) -> list[float]:
    """Eq. 6, first line."""
    weights = [math.exp(-squared_distance(segment, code) / temperature) for code in codes]
    return [weight / sum(weights) for weight in weights]


def code_matching(anchor: Tensor, other: Tensor, codes: Tensor, temperature: float = 1.0) -> float:
    """Eq. 6, averaged over samples and segments."""
    book = codes.double().tolist()
    total, count = 0.0, 0
    for h in range(anchor.shape[1]):
        a = [code_probabilities(z, book, temperature) for z in anchor[:, h].double().tolist()]
        b = [code_probabilities(z, book, temperature) for z in other[:, h].double().tolist()]

        def similarity(p: list[float], q: list[float]) -> float:
            return sum(x * math.log(y) + y * math.log(x) for x, y in zip(p, q, strict=True))

        for i in range(len(a)):
            denominator = sum(math.exp(similarity(a[i], b[j])) for j in range(len(b)))
            total -= math.log(math.exp(similarity(a[i], b[i])) / denominator)
            count += 1
    return total / count


def code_contrast(segments: Tensor, codes: Tensor) -> float:
    """Eq. 7: mean distance to the closest tenth of the codes over mean distance to the furthest half."""
    ratios = []
    for z in segments.double().flatten(0, -2).tolist():
        distances = sorted(math.sqrt(squared_distance(z, code)) for code in codes.double().tolist())
        close, far = max(1, len(distances) // 10), max(1, len(distances) // 2)
        ratios.append(mean(distances[:close]) / mean(distances[-far:]))
    return mean(ratios)


def code_uniformity(codes: Tensor) -> float:
    """Eq. 8 over all ordered pairs."""
    book = codes.double().tolist()
    return math.log(mean([math.exp(-squared_distance(a, b)) for a in book for b in book]))


def nearest_code(segment: Tensor, codes: Tensor) -> int:
    """Position of the code with the largest cosine."""
    cosines = [dot(unit_vector(segment.tolist()), unit_vector(code)) for code in codes.tolist()]
    return cosines.index(max(cosines))


def ema_step(
    size: Tensor, total: Tensor, segments: Tensor, ids: Tensor, decay: float
) -> tuple[list[float], list[list[float]], list[list[float]]]:
    """Eq. 9: new moving counts, new moving sums, and their unit means (codes stay on the sphere)."""
    counts, sums, codes = [], [], []
    for k in range(len(size)):
        chosen = [z for z, i in zip(segments.double().tolist(), ids.tolist(), strict=True) if i == k]
        counts.append(decay * float(size[k]) + (1 - decay) * len(chosen))
        batch_sum = [sum(z[d] for z in chosen) for d in range(segments.shape[1])]
        sums.append([decay * float(old) + (1 - decay) * new for old, new in zip(total[k], batch_sum, strict=True)])
        codes.append(unit_vector([x / counts[-1] for x in sums[-1]]))
    return counts, sums, codes


def restart_alpha(usage: float, num_codes: int, decay: float = 0.99) -> float:
    """Eq. 10 with the released code's decay: how far a code moves to its anchor."""
    return math.exp(-10 * num_codes * usage / (1 - decay) - 1e-3)


def farthest_points(points: Tensor, num_centres: int) -> list[int]:
    """Farthest point sampling from point 0."""
    rows = points.double().tolist()
    chosen = [0]
    while len(chosen) < num_centres:
        nearest = [min(squared_distance(row, rows[i]) for i in chosen) for row in rows]
        chosen.append(nearest.index(max(nearest)))
    return chosen


def nearest_points(points: Tensor, centre: Tensor, size: int) -> list[int]:
    """The nearest points, nearest first."""
    distances = [squared_distance(row, centre.tolist()) for row in points.tolist()]
    return sorted(range(len(distances)), key=distances.__getitem__)[:size]


def points_in_ball(points: Tensor, centre: Tensor, size: int, radius: float) -> list[int]:
    """The first points within the radius, and the first of them again where there are too few."""
    inside = [i for i, row in enumerate(points.tolist()) if squared_distance(row, centre.tolist()) <= radius**2]
    return (inside + [inside[0]] * size)[:size]


def set_abstraction(state: dict[str, Tensor], cloud: Tensor, groups: int, size: int, radius: float) -> Tensor:
    """OpenShape's tokens of one coloured cloud: facts of ViT-Lens, section 3.2."""
    tokens = []
    for centre in farthest_points(cloud[:, :3], groups):
        place = cloud[centre, :3]
        features = []
        for i in points_in_ball(cloud[:, :3], place, size, radius):
            x = torch.cat([cloud[i, :3] - place, cloud[i]])
            for layer in range(3):
                x = state[f"layers.{layer}.weight"] @ x + state[f"layers.{layer}.bias"]
                mean, variance = state[f"norms.{layer}.running_mean"], state[f"norms.{layer}.running_var"]
                x = (x - mean) / (variance + 1e-5).sqrt()
                x = (x * state[f"norms.{layer}.weight"] + state[f"norms.{layer}.bias"]).clamp(min=0)
            features.append(x)
        strongest = torch.stack(features).max(0).values
        x = state["lift.weight"] @ torch.cat([place, strongest]) + state["lift.bias"]
        x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
        tokens.append(x * state["norm.weight"] + state["norm.bias"])
    return torch.stack(tokens)
