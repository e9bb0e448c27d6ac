"""Codebooks that learn as in the released code of CodeBind, for comparing numbers with it, not for training.

Axes in this file: N vectors, K codes, D width of a segment.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .codebooks import Codebook, Quantized, SharedSpecificCodebook, counts_and_sums, nearest_codes


SMOOTHING = 1e-5


def ordered_kmeans(vectors_ND: Tensor, num_codes: int, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """Unit centres of unit vectors by k-means on the cosine, and how many vectors the last search gave to each.

    Starts from the first `num_codes` vectors, from the first one again when there are fewer; an empty cluster keeps
    its centre. The counts belong to the centres before the last step, as in the released code.

    Returns:
        `Tensor` of shape `(num_codes, code_dim)` and `Tensor` of shape `(num_codes,)`.
    """
    vectors_ND = normalize(vectors_ND.float(), dim=-1)
    centres_KD = vectors_ND[torch.arange(num_codes, device=vectors_ND.device) % len(vectors_ND)]
    counts_K = vectors_ND.new_zeros(num_codes)
    for _ in range(iterations):
        counts_K, sums_KD = counts_and_sums(vectors_ND, nearest_codes(vectors_ND, centres_KD), num_codes)
        centres_KD = torch.where(counts_K.unsqueeze(1) > 0, normalize(sums_KD, dim=-1), centres_KD)
    return centres_KD, counts_K


def drawn_anchors(vectors_ND: Tensor, num_codes: int) -> Tensor:
    """Where unused codes restart, `(K, D)`: random vectors, drawn with repeats by the global random generator.

    With fewer vectors than codes each is taken once, in order, and the codes that are left get noise in
    `(-1 / num_codes, 1 / num_codes)`.
    """
    if len(vectors_ND) > num_codes:
        return vectors_ND[torch.randint(len(vectors_ND), (num_codes,), device=vectors_ND.device)]
    noise = torch.rand(num_codes - len(vectors_ND), vectors_ND.shape[1], device=vectors_ND.device)
    return torch.cat([vectors_ND, (2 * noise - 1) / num_codes])


class ParityCodebook(Codebook):
    """A codebook whose codes are means by smoothed counts, of any length, and whose restarts last for one step.

    A restart moves the codes but not the averages behind them, from which the next update makes them again. A fresh
    book has counts of 0, so that after its first update the codes that nothing chose are very long.
    """

    def initial_state(self) -> dict[str, Tensor]:
        state = super().initial_state()
        return {**state, "cluster_size": torch.zeros_like(state["cluster_size"])}

    @torch.no_grad()
    def fit(self, vectors_ND: Tensor, seed: int = 0) -> None:
        """Replace the codes by `ordered_kmeans` centres of unit vectors; there is nothing that `seed` would change."""
        centres_KD, counts_K = ordered_kmeans(vectors_ND, self.num_codes)
        self.reset(centres_KD)
        self.cluster_size.copy_(counts_K)
        self.code_sum.copy_(centres_KD * counts_K.unsqueeze(1))

    def _move(self, anchors_KD: Tensor) -> None:
        total = self.cluster_size.sum()
        smoothed_K = (self.cluster_size + SMOOTHING) / (total + self.num_codes * SMOOTHING) * total
        self.codes.copy_(self.code_sum / smoothed_K.unsqueeze(1))
        if self.restarts:
            self.codes.lerp_(anchors_KD, self.restart_shares().unsqueeze(1))


class ParityCodebooks(SharedSpecificCodebook):
    """Codebooks that move as soon as they have quantized one modality, in training mode, whether there is a loss or
    not.

    The next modality searches codes that have moved already. Each process moves its own codebooks, without the others.
    """

    book_class: type[Codebook] = ParityCodebook

    def quantize(self, part: str, encoder: str, embedding: Tensor) -> Quantized:
        quantized = super().quantize(part, encoder, embedding)
        book = self.book(part, encoder)
        if self.training and book is not None and not book.frozen and len(embedding):
            vectors_ND = quantized.segments.detach().flatten(0, -2)
            counts_K, sums_KD = counts_and_sums(vectors_ND, quantized.ids.flatten(), book.num_codes)  # type: ignore[union-attr]
            book.update(counts_K, sums_KD, drawn_anchors(vectors_ND, book.num_codes))
        return quantized

    def update(self, chosen: object) -> None:
        """Nothing: `quantize` has moved the codebooks already."""
