"""The loss terms as the released code of CodeBind computes them, for comparing numbers with it, not for training.

Where a term of `losses` has the same value and gradients, as `info_nce` and `uniformity` do, it is used.
Axes in this file: B batch, T tokens, S segments, N vectors, K codes, C dimensions of an embedding, D width of a code.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, mse_loss, normalize, softmax

from .codebooks import SEARCH_CHUNK
from .losses import uniformity
from .objective import Objective, Pair


# Terms that the released code sums over modalities; the others are means over modalities or pairs.
SUMMED_TERMS = ("recon", "commit", "cctr", "cuni")


def elementwise_commitment(segments_BSD: Tensor, chosen_BSD: Tensor, cost: float = 0.25) -> Tensor:
    """`cost` times the mean squared difference of single numbers; codes get no gradient."""
    return cost * mse_loss(segments_BSD.float(), chosen_BSD.detach().float())


def code_cosines(segments_NSD: Tensor, codes_KD: Tensor) -> Tensor:
    """Cosines of unit segments `(..., code_dim)` with every code, `(..., codes)`, without gradient."""
    return segments_NSD.detach().float() @ normalize(codes_KD.detach().float(), dim=-1).T


def cosine_code_matching(anchor_BSK: Tensor, other_BSK: Tensor) -> Tensor:
    """Cross-modal code matching on softmaxes of cosines, averaged over samples and segments.

    Only each row of the anchor chooses among the samples of the other modality, as in eq. 6 of the paper.

    Args:
        anchor_BSK, other_BSK (`Tensor` of shape `(batch, segments, codes)`): cosines of two modalities with the codes.
    """
    log_a, log_b = log_softmax(anchor_BSK, dim=-1), log_softmax(other_BSK, dim=-1)
    similarity_SBB = torch.einsum("isk,jsk->sij", log_a.exp(), log_b)
    similarity_SBB = similarity_SBB + torch.einsum("isk,jsk->sij", log_a, log_b.exp())
    return -log_softmax(similarity_SBB, dim=-1).diagonal(dim1=1, dim2=2).mean()


def softmax_code_contrast(cosines_NK: Tensor) -> Tensor:
    """Mean cosine with the closest 10 % of the codes against those with the furthest 50 %.

    A softmax is taken before the cross-entropy, which has its own: the value is near `log(1 + codes / 2)` always.

    Args:
        cosines_NK (`Tensor` of shape `(vectors, codes)`): of segments with one codebook.
    """
    num_close, num_far = max(1, cosines_NK.shape[1] // 10), max(1, cosines_NK.shape[1] // 2)
    closest_N1 = cosines_NK.topk(num_close).values.mean(-1, keepdim=True)
    furthest = cosines_NK.topk(num_far, largest=False).values
    probabilities = softmax(torch.cat([closest_N1, furthest], dim=1), dim=1)
    first_N = torch.zeros(len(cosines_NK), dtype=torch.long, device=cosines_NK.device)
    return cross_entropy(probabilities, first_N)


def unit_code_similarity(unit_codes_KD: Tensor) -> Tensor:
    """Mean of `(1 + cosine) / 2` over pairs of different codes; off in every released configuration."""
    num_codes = len(unit_codes_KD)
    # The cosines of codes with themselves are taken off as a number: they take part in the gradient, as there.
    others = (unit_codes_KD @ unit_codes_KD.T).sum() - num_codes
    return (1 + others / (num_codes * (num_codes - 1))) / 2


def token_orthogonality(shared_BTC: Tensor, specific_BTC: Tensor) -> Tensor:
    """Mean over samples of the Frobenius norm of the inner products of all shared with all specific tokens.

    Args:
        shared_BTC, specific_BTC (`Tensor` of shape `(batch, tokens, dim)`): unit vectors of the same size.
    """
    return torch.linalg.matrix_norm(shared_BTC.float() @ specific_BTC.float().mT).mean()


class ParityObjective(Objective):
    """The objective of the released code (Visual-AI/CodeBind@bba682e calculate_loss).

    `align` and `cm` are means over the pairs of vision, text and every other modality; a video is vision as an image
    is. `orth` and `uni` are means over modalities; `recon`, `commit`, `cctr` and `cuni` sums, of all tokens where all
    were quantized. Every modality counts, trained or not, and negatives come from the own process. `cm`, `cctr` and
    `cuni` have no gradient. In training mode with `parity_codebooks` these three see the codes after their move.

    The released weights in our names: `loss_vq_weight` is `commit`, `loss_vq_reg_weight` is `cctr` and `cuni`,
    `loss_cmcm_weight` `cm`, `loss_modal_decomp_weight` `orth`, `loss_uniform_weight` `uni`; `align` and `recon` are 1.
    """

    def _judging(self, trained: frozenset[str]) -> frozenset[str]:
        return frozenset(self.config.modality_names)

    def _combined(self, name: str, values: list[tuple[float, Tensor]]) -> Tensor:
        if name in SUMMED_TERMS:
            return torch.stack([value for _, value in values]).sum()
        return super()._combined(name, values)

    def _pairs(self) -> Iterator[Pair]:
        visions = [name for name in ("image", "video") if name in self.states]
        targets = [name for name in self.states if name not in ("text", "image", "video")]
        names: list[tuple[str, str, str]] = [(vision, target, "image") for vision in visions for target in targets]
        names += [("text", target, "text") for target in targets] + [(vision, "text", "bridge") for vision in visions]
        for anchor, other, kind in names:
            weight = self.config.pair_weight(kind)
            if weight and anchor in self.states and other in self.states:
                pair = self._pair(anchor, other, weight)
                if len(pair.anchor):
                    yield pair

    def _gathered(self, x: Tensor) -> Tensor:
        return x

    def _agreed(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        return terms

    def _cm(self) -> Iterator[tuple[float, Tensor]]:
        if self.codebooks.shared is not None and self.config.shared_codebook == "one":
            codes = self.codebooks.shared.codes
            for pair in self.pairs:
                sides = (code_cosines(x, codes) for x in (pair.anchor_segments, pair.other_segments))
                yield pair.weight, cosine_code_matching(*sides)

    def _orth(self) -> Iterator[tuple[float, Tensor]]:
        for state in self.own:
            shared, specific = state.shared_tokens or state.shared, state.specific_tokens or state.specific
            if specific is not None:
                yield 1.0, token_orthogonality(_tokens(shared.embedding), _tokens(specific.embedding))

    def _commit(self) -> Iterator[tuple[float, Tensor]]:
        for state in self.own:
            for _, _, value in state.quantized():
                yield 1.0, elementwise_commitment(value.segments, value.chosen)  # type: ignore[arg-type]

    def _cctr(self) -> Iterator[tuple[float, Tensor]]:
        for state in self.own:
            for part, encoder, value in state.quantized():
                codes = self.codebooks.book(part, encoder).codes  # type: ignore[union-attr]
                segments = value.segments.flatten(0, -2)
                parts = [len(x) * softmax_code_contrast(code_cosines(x, codes)) for x in segments.split(SEARCH_CHUNK)]
                yield 1.0, torch.stack(parts).sum() / len(segments)

    def _cuni(self) -> Iterator[tuple[float, Tensor]]:
        """Of every codebook that a modality uses, over pairs of different codes; the shared one counts for each."""
        for state in self.own:
            for part, encoder, _ in state.quantized():
                codes = self.codebooks.book(part, encoder).codes  # type: ignore[union-attr]
                yield 1.0, uniformity(normalize(codes, dim=-1))


def _tokens(embeds: Tensor) -> Tensor:
    """`(batch, tokens, dim)` of embeddings of all tokens, or of pooled ones, `(batch, dim)`."""
    return embeds if embeds.ndim == 3 else embeds.unsqueeze(1)
