"""One pure function for every loss term of the paper, and the segment loss that is ours.

Axes in this file: B batch, S segments, D width of a segment, K codes, C dimensions of an embedding.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, mse_loss, pdist


def info_nce(anchor_BC: Tensor, other_BC: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE: row i of each input is one sample, every other row a negative.

    Source: paper eq. 1. The two directions are summed, not averaged.

    Args:
        anchor_BC, other_BC (`Tensor` of shape `(batch, dim)`): unit vectors.
        scale (`Tensor` or `float`): multiplies the cosines; the inverse of the temperature.

    Returns:
        `Tensor` of shape `()`; 0 for an empty batch.
    """
    if not len(anchor_BC):
        return (anchor_BC.sum() + other_BC.sum()) * 0
    logits_BB = scale * anchor_BC.float() @ other_BC.float().T
    match_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return cross_entropy(logits_BB, match_B) + cross_entropy(logits_BB.T, match_B)


def segment_info_nce(anchor_BSD: Tensor, other_BSD: Tensor, scale: Tensor | float) -> Tensor:
    """`info_nce` on every segment by itself, averaged over segments.

    Ours: the compositional idea as a loss, without a codebook.

    Args:
        anchor_BSD, other_BSD (`Tensor` of shape `(batch, segments, code_dim)`): unit segments.
        scale (`Tensor` or `float`): multiplies the cosines.
    """
    if not len(anchor_BSD):
        return (anchor_BSD.sum() + other_BSD.sum()) * 0
    logits_SBB = scale * torch.einsum("isd,jsd->sij", anchor_BSD.float(), other_BSD.float())
    match_SB = torch.arange(len(anchor_BSD), device=logits_SBB.device).expand(len(logits_SBB), -1)
    forward = cross_entropy(logits_SBB.transpose(1, 2), match_SB)
    return forward + cross_entropy(logits_SBB, match_SB)


def reconstruction(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between a decoder's output and the input at the decoder's size (paper eq. 2)."""
    return mse_loss(output.float(), target.float())


def chamfer_distance(output_BPC: Tensor, target_BQC: Tensor, chunk: int = 1024) -> Tensor:
    """Mean squared distance of every point to the nearest point of the other cloud, both directions summed.

    The search for neighbours holds distances of `chunk` points of the output at a time and has no gradient; distances
    to the neighbours found are differences, so that value and gradient do not depend on `chunk`.

    Args:
        output_BPC, target_BQC (`Tensor` of shape `(batch, points, channels)`): the two clouds; sizes may differ. With
            colours behind x, y, z, points that are near in both are near.
        chunk (`int`): bounds the memory to `batch * chunk * points`.
    """
    output_BPC, target_BQC = output_BPC.float(), target_BQC.float()
    to_target_BP, to_output_BQ = _nearest_in_each(output_BPC.detach(), target_BQC.detach(), chunk)
    return _mean_squared(output_BPC, target_BQC, to_target_BP) + _mean_squared(target_BQC, output_BPC, to_output_BQ)


def _nearest_in_each(one_BPC: Tensor, other_BQC: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Index of the nearest point of the other cloud, for every point of each: `(batch, P)` and `(batch, Q)`."""
    forward, best_BQ = [], torch.full_like(other_BQC[..., 0], torch.inf)
    back_BQ = torch.zeros_like(best_BQ, dtype=torch.long)
    for start in range(0, one_BPC.shape[1], chunk):
        # Through a matrix product, distances of points that almost coincide would be rounding errors.
        part_BPC = one_BPC[:, start : start + chunk]
        distances_BPQ = torch.cdist(part_BPC, other_BQC, compute_mode="donot_use_mm_for_euclid_dist")
        forward.append(distances_BPQ.argmin(2))
        nearest_BQ, ids_BQ = distances_BPQ.min(1)
        back_BQ = torch.where(nearest_BQ < best_BQ, ids_BQ + start, back_BQ)
        best_BQ = torch.minimum(best_BQ, nearest_BQ)
    return torch.cat(forward, dim=1), back_BQ


def _mean_squared(points_BPC: Tensor, others_BQC: Tensor, ids_BP: Tensor) -> Tensor:
    neighbours_BPC = others_BQC.gather(1, ids_BP.unsqueeze(-1).expand(-1, -1, others_BQC.shape[-1]))
    return (points_BPC - neighbours_BPC).square().sum(-1).mean()


def orthogonality(shared_BC: Tensor, specific_BC: Tensor) -> Tensor:
    """Mean squared inner product of a sample's shared and specific embedding (paper eq. 3).

    Args:
        shared_BC, specific_BC (`Tensor` of shape `(batch, dim)`): unit vectors of the same size.
    """
    return (shared_BC.float() * specific_BC.float()).sum(-1).square().mean()


def decorrelation(shared_BC: Tensor, specific_BC: Tensor) -> Tensor:
    """Mean squared cross-correlation of shared and specific dimensions over a batch.

    It is 0 for fewer than three samples: any two numbers correlate with any two others.

    Ours: what a dimension of one part says, linearly, of a dimension of the other. `orthogonality` compares the two
    parts of one sample and removes no information.

    Args:
        shared_BC, specific_BC (`Tensor` of shape `(batch, dim)`): embeddings; the two sizes may differ.
    """
    if len(shared_BC) < 3:
        return (shared_BC.sum() + specific_BC.sum()) * 0
    shared_BC, specific_BC = (_standardized(part.float()) for part in (shared_BC, specific_BC))
    return (shared_BC.T @ specific_BC / len(shared_BC)).square().mean()


def _standardized(x_BC: Tensor) -> Tensor:
    centred_BC = x_BC - x_BC.mean(0)
    # The square root of 0 has no slope: a dimension that never varies stays 0.
    return centred_BC * (centred_BC.square().mean(0) + 1e-6).rsqrt()


def uniformity(embeds_BC: Tensor) -> Tensor:
    """`log mean exp(-||s_i - s_j||^2)` over the pairs i < j of a batch (paper eq. 4); 0 for fewer than two samples."""
    if len(embeds_BC) < 2:
        return embeds_BC.sum() * 0
    return _log_mean_exp(-pdist(embeds_BC.float()).square())


def commitment(segments_BSD: Tensor, chosen_BSD: Tensor, cost: float = 0.25) -> Tensor:
    """`cost` times the mean squared distance of a segment to the code it chose; codes get no gradient (paper eq. 5).

    Deviation: the mean runs over segments, not over single numbers, so the weight does not depend on `code_dim`;
    the reference's value is this one divided by `code_dim`.
    """
    return cost * (segments_BSD.float() - chosen_BSD.detach().float()).square().sum(-1).mean()


def code_log_probabilities(segments_BSD: Tensor, codes_KD: Tensor, temperature: float = 1.0) -> Tensor:
    """Log softmax over codes of minus the squared distance, `(batch, segments, codes)` (paper eq. 6)."""
    segments_BSD, codes_KD = segments_BSD.float(), codes_KD.float()
    # |z|^2 is the same for every code and drops out of the softmax.
    negative_BSK = 2 * segments_BSD @ codes_KD.T - codes_KD.square().sum(-1)
    return log_softmax(negative_BSK / temperature, dim=-1)


def code_matching(
    anchor_BSD: Tensor, other_BSD: Tensor, codes_KD: Tensor, temperature: float = 1.0, chunk: int = 16
) -> Tensor:
    """Cross-modal code matching: the two modalities of a sample should choose the same codes (paper eq. 6).

    The similarity of two samples at a segment is the symmetric cross-entropy of their code distributions; a softmax
    over the batch asks for the matching one. In the released code this term has no gradient.

    Args:
        anchor_BSD, other_BSD (`Tensor` of shape `(batch, segments, code_dim)`): unit segments of two modalities.
        codes_KD (`Tensor` of shape `(codes, code_dim)`): the shared codes; they get no gradient.
        temperature (`float`): of the softmax over codes; 1 is the paper.
        chunk (`int`): segments whose code distributions are held at once.
    """
    if not len(anchor_BSD):
        return (anchor_BSD.sum() + other_BSD.sum()) * 0
    codes_KD = codes_KD.detach().clone()
    parts = zip(anchor_BSD.split(chunk, dim=1), other_BSD.split(chunk, dim=1), strict=True)
    sums = [_code_matching_sum(a, b, codes_KD, temperature) for a, b in parts]
    return torch.stack(sums).sum() / (anchor_BSD.shape[0] * anchor_BSD.shape[1])


def _code_matching_sum(anchor_BSD: Tensor, other_BSD: Tensor, codes_KD: Tensor, temperature: float) -> Tensor:
    log_a = code_log_probabilities(anchor_BSD, codes_KD, temperature)
    log_b = code_log_probabilities(other_BSD, codes_KD, temperature)
    similarity_SBB = torch.einsum("isk,jsk->sij", log_a.exp(), log_b)
    similarity_SBB = similarity_SBB + torch.einsum("isk,jsk->sij", log_a, log_b.exp())
    return -log_softmax(similarity_SBB, dim=-1).diagonal(dim1=1, dim2=2).sum()


def code_contrast(segments_ND: Tensor, codes_KD: Tensor) -> Tensor:
    """Mean distance to the closest 10 % of the codes over mean distance to the furthest 50 % (paper eq. 7).

    Both means run over codes and then the ratio over segments; codes get no gradient. In the released code this
    term passes through two softmaxes and is constant.

    Args:
        segments_ND (`Tensor` of shape `(..., code_dim)`): unit segments.
        codes_KD (`Tensor` of shape `(codes, code_dim)`): one codebook.
    """
    codes_KD = codes_KD.detach().clone()
    segments_ND = segments_ND.float().flatten(0, -2)
    # A square root has an infinite slope at 0, where a segment lies on its code.
    squared_NK = segments_ND.square().sum(-1, keepdim=True) + codes_KD.square().sum(-1) - 2 * segments_ND @ codes_KD.T
    distances_NK = squared_NK.clamp(min=1e-8).sqrt()
    num_close, num_far = max(1, len(codes_KD) // 10), max(1, len(codes_KD) // 2)
    closest = distances_NK.topk(num_close, largest=False).values.mean(-1)
    furthest = distances_NK.topk(num_far).values.mean(-1)
    return (closest / furthest).mean()


def code_uniformity(codes_KD: Tensor) -> Tensor:
    """`log mean exp(-||e_m - e_n||^2)` over all pairs of codes of a book, itself included (paper eq. 8)."""
    squared_KK = (codes_KD.unsqueeze(1) - codes_KD.unsqueeze(0)).square().sum(-1)
    return _log_mean_exp(-squared_KK.flatten())


def _log_mean_exp(x: Tensor) -> Tensor:
    return x.logsumexp(0) - torch.log(torch.tensor(float(len(x)), device=x.device))
