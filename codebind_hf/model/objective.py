"""The training objective: which modalities and pairs each loss term of `losses` is applied to.

`rows` maps a modality to the rows of the batch its samples belong to, so that any subset of modalities may be missing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .codebooks import Quantized, SharedSpecificCodebook
from .collectives import gather_with_gradient, num_processes, sum_over_processes
from .configuration_codebind import LOSS_TERMS, CodeBindConfig
from .losses import (
    chamfer_distance,
    code_contrast,
    code_matching,
    code_uniformity,
    commitment,
    decorrelation,
    info_nce,
    orthogonality,
    reconstruction,
    segment_info_nce,
    uniformity,
)
from .modalities import Modality


# What a term gives for its pairs, modalities or books, with weights; and for one modality, by part.
Weighted = Iterator[tuple[float, Tensor]]
ByPart = Iterator[tuple[str, Tensor]]


@dataclass
class ModalityState:
    """Everything the objective may need of one modality in one batch.

    Args:
        shared, specific: quantized pooled embeddings, `(batch, dim)`.
        shared_tokens, specific_tokens: quantized embeddings of all tokens, when a decoder needs them.
        reconstruction, target: what the decoder gave and should have given.
        is_points: whether the reconstruction is a point cloud.
        view: unit specific embeddings of a second view of the same samples, `(batch, specific_dim)`.
    """

    modality: Modality
    shared: Quantized
    specific: Quantized | None
    shared_tokens: Quantized | None = None
    specific_tokens: Quantized | None = None
    reconstruction: Tensor | None = None
    target: Tensor | None = None
    is_points: bool = False
    view: Tensor | None = None

    def quantized(self) -> Iterator[tuple[str, str, Quantized]]:
        """`(part, encoder, quantized)` of everything of this modality that went through a codebook."""
        pairs = (("shared", self.shared_tokens or self.shared), ("specific", self.specific_tokens or self.specific))
        for part, value in pairs:
            if value is not None and value.ids is not None:
                yield part, self.modality.encoder, value


@dataclass
class Pair:
    """Samples of two modalities that belong to the same rows, from all processes.

    Args:
        anchor, other: unit embeddings, quantized or not as `align_on` says.
        anchor_segments, other_segments: their unit segments before quantization.
    """

    anchor: Tensor
    other: Tensor
    anchor_segments: Tensor
    other_segments: Tensor
    weight: float


def aligned_pairs(config: CodeBindConfig) -> Iterator[tuple[str, str, float]]:
    """(vision, target), (text, target) and (image, text) with their weights, in an order that every process shares.

    Vision is the image of a row or, in rows without an image, its video.
    """
    names = list(config.modality_names)
    targets = [name for name in names if name not in ("text", "image")]
    for anchor, others, kind in (
        ("image", targets, "image"),
        ("video", [name for name in targets if name != "video"], "image"),
        ("text", targets, "text"),
        ("image", ["text"], "bridge"),
    ):
        weight = config.pair_weight(kind)
        if weight and anchor in names:
            yield from ((anchor, other, weight) for other in others)


class Objective:
    """Loss terms of one batch.

    With several processes every term has the value that one process would give the whole batch, and gradients that are
    the whole batch's after data parallelism has averaged them; also where a process has no sample of a modality.

    Args:
        config: weights, temperatures and what alignment runs on.
        codebooks: the model's codebooks.
        scale: multiplies the cosines of `align`.
        states: by modality name.
        rows: by modality name.
        trained: modalities whose encoders learn; terms that could teach nobody anything are left out.
    """

    def __init__(
        self,
        config: CodeBindConfig,
        codebooks: SharedSpecificCodebook,
        scale: Tensor,
        states: dict[str, ModalityState],
        rows: dict[str, Tensor],
        trained: frozenset[str],
    ) -> None:
        self.config, self.codebooks, self.scale, self.states, self.rows = config, codebooks, scale, states, rows
        self.trained = self._judging(trained)
        present = self._present()
        self.judged = [name for name in present if name in self.trained] or present
        self.own = [state for name, state in states.items() if name in self.judged]
        self.pairs = list(self._pairs())

    def terms(self) -> dict[str, Tensor]:
        """Every term whose weight is above 0, as a scalar with gradient.

        Raises:
            ValueError: no two modalities share a row, so nothing can be aligned.
        """
        if not self.pairs and self.config.loss_weight("align"):
            raise ValueError(
                f"return_loss: the batch has {', '.join(self.states)} and no two modalities to align; it needs text "
                "or image, and another modality, in the same rows."
            )
        terms = {}
        # Differences of cosines near 1 do not survive the few digits of half precision.
        with torch.autocast(self.scale.device.type, enabled=False):
            for name in LOSS_TERMS:
                if self.config.loss_weight(name):
                    values = list(getattr(self, f"_{name}")())
                    if sum(weight for weight, _ in values):
                        terms[name] = self._combined(name, values)
        return self._agreed(terms)

    def _judging(self, trained: frozenset[str]) -> frozenset[str]:
        """The modalities whose terms count: those that learn, or all where nothing does."""
        return trained if torch.is_grad_enabled() and trained else frozenset(self.config.modality_names)

    def _present(self) -> list[str]:
        """Modalities of which any process has a sample."""
        names = self.config.modality_names
        counts = sum_over_processes(torch.tensor([float(name in self.states) for name in names]).to(self.scale))
        return [name for name, count in zip(names, counts.tolist(), strict=True) if count]

    def _agreed(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same values on every process: the mean of what each has; gradients stay its own."""
        if num_processes() == 1 or not terms:
            return terms
        means = sum_over_processes(torch.stack([term.detach() for term in terms.values()])) / num_processes()
        return {name: term + (mean - term.detach()) for (name, term), mean in zip(terms.items(), means, strict=True)}

    def _combined(self, name: str, values: list[tuple[float, Tensor]]) -> Tensor:
        """One value for term `name` from what its pairs or modalities gave, with their weights."""
        return sum(weight * value for weight, value in values) / sum(weight for weight, _ in values)  # type: ignore[return-value]

    def _pairs(self) -> Iterator[Pair]:
        for anchor, other, weight in aligned_pairs(self.config):
            if self._learns(anchor, other):
                pair = self._pair(anchor, other, weight)
                if len(pair.anchor):
                    yield pair

    def _learns(self, anchor: str, other: str) -> bool:
        """Whether this pair may be in the batch of some process and teach something."""
        present = num_processes() > 1 or (anchor in self.states and other in self.states)
        return present and not self.trained.isdisjoint((anchor, other))

    def _pair(self, anchor: str, other: str, weight: float) -> Pair:
        picked = self._common(anchor, other)
        sides = [self._side(name, index) for name, index in zip((anchor, other), picked, strict=True)]
        embeds, segments = zip(*sides, strict=True)
        first, second = (self._gathered(x) for x in embeds)
        first_segments, second_segments = (self._gathered(x) for x in segments)
        return Pair(first, second, first_segments, second_segments, weight)

    def _gathered(self, x: Tensor) -> Tensor:
        """Rows of all processes, so that each is a negative of every other."""
        return gather_with_gradient(x)

    def _common(self, anchor: str, other: str) -> tuple[Tensor, Tensor]:
        """Positions, in each modality's own batch, of the rows that both have; a video gives way to an image."""
        if anchor not in self.states or other not in self.states:
            empty = torch.zeros(0, dtype=torch.long, device=self.scale.device)
            return empty, empty
        same = self.rows[anchor].unsqueeze(1) == self.rows[other].unsqueeze(0)
        if anchor == "video" and "image" in self.rows:
            same &= ~torch.isin(self.rows[anchor], self.rows["image"]).unsqueeze(1)
        first, second = same.nonzero(as_tuple=True)
        return first.to(self.scale.device), second.to(self.scale.device)

    def _side(self, name: str, index: Tensor) -> tuple[Tensor, Tensor]:
        if name not in self.states:
            empty = torch.zeros(0, self.config.shared_dim, device=self.scale.device)
            return empty, empty.unflatten(1, (-1, self.config.code_dim))
        state = self.states[name]
        return self._shared(state)[index], state.shared.segments[index]

    def _shared(self, state: ModalityState) -> Tensor:
        """The shared embedding that losses see, as `align_on` says."""
        return state.shared.continuous if self.config.align_on == "continuous" else state.shared.embedding

    def _specific(self, part: Quantized) -> Tensor:
        """The specific embedding that losses see, as `quantize_specific` says."""
        return part.embedding if self.config.quantize_specific else part.continuous

    def _parts(self, state: ModalityState, specific: Quantized) -> tuple[Tensor, Tensor]:
        """Both parts before quantization, whose gradient they would share; one of them as a given, if so set."""
        shared, own, learning = state.shared.continuous, specific.continuous, self.config.decorrelation_gradient
        return shared.detach() if learning == "specific" else shared, own.detach() if learning == "shared" else own

    def _means(self, values_of: Callable[[ModalityState], Iterator[tuple[str, Tensor]]]) -> Weighted:
        """Means over the samples of every modality that is judged, by modality and part.

        A process that has n of N samples weighs its own mean by n / N times the number of processes.
        """
        found = {(state.modality.name, part): value for state in self.own for part, value in values_of(state)}
        if num_processes() == 1:
            yield from ((1.0, value) for value in found.values())
            return
        slots = [(name, part) for name in self.config.modality_names for part in ("shared", "specific")]
        sizes = [float(len(self.states[slot[0]].shared.continuous)) if slot in found else 0.0 for slot in slots]
        totals = sum_over_processes(torch.tensor(sizes).to(self.scale)).tolist()
        for slot, size, total in zip(slots, sizes, totals, strict=True):
            if total:
                share = size * num_processes() / total
                yield 1.0, share * found[slot] if slot in found else self.scale.new_zeros(())

    def _align(self) -> Weighted:
        for pair in self.pairs:
            yield pair.weight, info_nce(pair.anchor, pair.other, self.scale)

    def _seg(self) -> Weighted:
        for pair in self.pairs:
            scale = 1 / float(self.config.segment_temperature)
            yield pair.weight, segment_info_nce(pair.anchor_segments, pair.other_segments, scale)

    def _cm(self) -> Weighted:
        """Nothing where a pair has two books: it compares how likely both sides are to pick one and the same code."""
        if self.codebooks.shared is not None and self.config.shared_codebook == "one":
            for pair in self.pairs:
                codes, temperature = self.codebooks.shared.codes, float(self.config.code_temperature)
                yield pair.weight, code_matching(pair.anchor_segments, pair.other_segments, codes, temperature)

    def _recon(self) -> Weighted:
        return self._means(self._recon_of)

    def _recon_of(self, state: ModalityState) -> ByPart:
        if state.reconstruction is not None and state.target is not None:
            distance = chamfer_distance if state.is_points else reconstruction
            yield "shared", distance(state.reconstruction, state.target)

    def _orth(self) -> Weighted:
        return self._means(self._orth_of)

    def _orth_of(self, state: ModalityState) -> ByPart:
        if state.specific is not None:
            yield "specific", orthogonality(self._shared(state), self._specific(state.specific))

    def _decorr(self) -> Weighted:
        for name in self.judged:
            dim = self.config.specific_dim_of(self.config.modality(name).encoder)
            if dim:
                state = self.states.get(name)
                empty = (self.scale.new_zeros(0, size) for size in (self.config.shared_dim, dim))
                parts = empty if state is None or state.specific is None else self._parts(state, state.specific)
                shared, own = (self._gathered(part) for part in parts)
                if len(own):
                    yield 1.0, decorrelation(shared, own)

    def _views(self) -> Weighted:
        """Two views of a sample against those of others, given what their shared parts already tell apart.

        So the specific part has to know what the shared part does not, and nothing is gained by repeating it
        (the conditional contrast of DisentangledSSL, uhlerlab/DisentangledSSL@cda29ec, on one modality). Nothing where
        no process has a second view of a modality.
        """
        for name in self.judged:
            dim = self.config.specific_dim_of(self.config.modality(name).encoder)
            if dim:
                state = self.states.get(name)
                one = other = self.scale.new_zeros(0, dim + self.config.shared_dim)
                if state is not None and state.specific is not None and state.view is not None:
                    known = state.shared.continuous.detach()
                    one = torch.cat([state.specific.continuous, known], dim=1)
                    other = torch.cat([state.view, known], dim=1)
                one, other = self._gathered(one), self._gathered(other)
                if len(one):
                    yield 1.0, info_nce(one, other, 1 / float(self.config.view_temperature))

    def _uni(self) -> Weighted:
        for name in self.judged:
            dim = self.config.specific_dim_of(self.config.modality(name).encoder)
            if dim:
                state = self.states.get(name)
                part = None if state is None else state.specific
                embeds = self.scale.new_zeros(0, dim) if part is None else self._specific(part)
                if len(embeds := self._gathered(embeds)):
                    yield 1.0, uniformity(embeds)

    def _commit(self) -> Weighted:
        return self._means(self._commit_of)

    def _commit_of(self, state: ModalityState) -> ByPart:
        parts = [value for _, _, value in state.quantized() if value.chosen is not None]
        if parts:
            yield "shared", torch.stack([commitment(x.segments, x.chosen) for x in parts]).sum()  # type: ignore[arg-type]

    def _cctr(self) -> Weighted:
        return self._means(self._cctr_of)

    def _cctr_of(self, state: ModalityState) -> ByPart:
        for part, value in (("shared", state.shared), ("specific", state.specific)):
            book = self.codebooks.book(part, state.modality.encoder)
            if value is not None and book is not None:
                yield part, code_contrast(value.segments, book.codes)

    def _cuni(self) -> Weighted:
        """Reported like the other terms; it moves the codes by a step of their own, not through this value."""
        books: list[nn.Module | None] = [self.codebooks.shared, *self.codebooks.specific.values()]
        for book in books:
            if book is not None:
                yield 1.0, code_uniformity(book.get_buffer("codes"))
