"""The training objective: which senses and pairs each loss term of `losses` is applied to.

`rows` maps a modality to the rows of the batch its samples belong to, so that any subset of senses may be missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .codebooks import Quantized, SharedSpecificCodebook
from .collectives import gather_with_gradient, num_processes
from .configuration_codebind import LOSS_TERMS, CodeBindConfig
from .losses import (
    chamfer_distance,
    code_contrast,
    code_matching,
    code_uniformity,
    commitment,
    info_nce,
    orthogonality,
    reconstruction,
    segment_info_nce,
    uniformity,
)
from .modalities import Modality


@dataclass
class SenseState:
    """Everything the objective may need of one modality in one batch.

    Args:
        shared, specific: quantized pooled embeddings, `(batch, dim)`.
        shared_tokens, specific_tokens: quantized embeddings of all tokens, when a decoder needs them.
        reconstruction, target: what the decoder gave and should have given.
        is_points: whether the reconstruction is a point cloud.
    """

    modality: Modality
    shared: Quantized
    specific: Quantized | None
    shared_tokens: Quantized | None = None
    specific_tokens: Quantized | None = None
    reconstruction: Tensor | None = None
    target: Tensor | None = None
    is_points: bool = False

    def quantized(self) -> Iterator[tuple[str, str, Quantized]]:
        """`(part, encoder, quantized)` of everything of this modality that went through a codebook."""
        pairs = (("shared", self.shared_tokens or self.shared), ("specific", self.specific_tokens or self.specific))
        for part, value in pairs:
            if value is not None and value.ids is not None:
                yield part, self.modality.encoder, value


@dataclass
class Pair:
    """Samples of two senses that belong to the same rows, from all processes.

    Args:
        anchor, other: unit embeddings, quantized or not as `align_on` says.
        anchor_segments, other_segments: their unit segments before quantization.
    """

    anchor: Tensor
    other: Tensor
    anchor_segments: Tensor
    other_segments: Tensor
    weight: float


class Objective:
    """Loss terms of one batch.

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
        states: dict[str, SenseState],
        rows: dict[str, Tensor],
        trained: frozenset[str],
    ) -> None:
        self.config, self.codebooks, self.scale, self.states, self.rows = config, codebooks, scale, states, rows
        self.trained = trained if torch.is_grad_enabled() and trained else frozenset(config.modality_names)
        learning = [state for name, state in states.items() if name in self.trained]
        self.own = learning or list(states.values())
        self.pairs = list(self._pairs())

    def terms(self) -> dict[str, Tensor]:
        """Every term whose weight is above 0, as a scalar with gradient.

        Raises:
            ValueError: no two senses share a row, so nothing can be aligned.
        """
        if not self.pairs and self.config.loss_weight("align"):
            raise ValueError(
                f"return_loss: the batch has {', '.join(self.states)} and no two senses to align; a batch needs text "
                "or image, and another sense, in the same rows."
            )
        terms = {}
        # Differences of cosines near 1 do not survive the few digits of half precision.
        with torch.autocast(self.scale.device.type, enabled=False):
            for name in LOSS_TERMS:
                if self.config.loss_weight(name):
                    values = list(getattr(self, f"_{name}")())
                    if sum(weight for weight, _ in values):
                        terms[name] = self._combined(name, values)
        return terms

    def _combined(self, name: str, values: list[tuple[float, Tensor]]) -> Tensor:
        """One value for term `name` from what its pairs or senses gave, with their weights."""
        return sum(weight * value for weight, value in values) / sum(weight for weight, _ in values)  # type: ignore[return-value]

    def _pairs(self) -> Iterator[Pair]:
        """(vision, target), (text, target) and (image, text), in an order that every process shares.

        Vision is the image of a row or, in rows without an image, its video.
        """
        names = list(self.config.modality_names)
        targets = [name for name in names if name not in ("text", "image")]
        for anchor, others, kind in (
            ("image", targets, "image"),
            ("video", [name for name in targets if name != "video"], "image"),
            ("text", targets, "text"),
            ("image", ["text"], "bridge"),
        ):
            for other in others:
                weight = self.config.pair_weight(kind)
                if anchor in names and weight and self._learns(anchor, other):
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
        """Positions, in each sense's own batch, of the rows that both have; a video gives way to an image."""
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

    def _shared(self, state: SenseState) -> Tensor:
        """The shared embedding that losses see, as `align_on` says."""
        return state.shared.continuous if self.config.align_on == "continuous" else state.shared.embedding

    def _specific(self) -> Iterator[tuple[SenseState, Tensor]]:
        """Senses with a specific embedding and the one that losses see, as `quantize_specific` says."""
        for state in self.own:
            if state.specific is not None:
                yield state, state.specific.embedding if self.config.quantize_specific else state.specific.continuous

    def _align(self) -> Iterator[tuple[float, Tensor]]:
        for pair in self.pairs:
            yield pair.weight, info_nce(pair.anchor, pair.other, self.scale)

    def _seg(self) -> Iterator[tuple[float, Tensor]]:
        for pair in self.pairs:
            scale = 1 / float(self.config.segment_temperature)
            yield pair.weight, segment_info_nce(pair.anchor_segments, pair.other_segments, scale)

    def _cm(self) -> Iterator[tuple[float, Tensor]]:
        if self.codebooks.shared is not None:
            for pair in self.pairs:
                codes, temperature = self.codebooks.shared.codes, float(self.config.code_temperature)
                yield pair.weight, code_matching(pair.anchor_segments, pair.other_segments, codes, temperature)

    def _recon(self) -> Iterator[tuple[float, Tensor]]:
        for state in self.own:
            if state.reconstruction is not None and state.target is not None:
                distance = chamfer_distance if state.is_points else reconstruction
                yield 1.0, distance(state.reconstruction, state.target)

    def _orth(self) -> Iterator[tuple[float, Tensor]]:
        for state, specific in self._specific():
            yield 1.0, orthogonality(self._shared(state), specific)

    def _uni(self) -> Iterator[tuple[float, Tensor]]:
        for _, specific in self._specific():
            yield 1.0, uniformity(specific)

    def _commit(self) -> Iterator[tuple[float, Tensor]]:
        for state in self.own:
            parts = [value for _, _, value in state.quantized() if value.chosen is not None]
            if parts:
                yield 1.0, torch.stack([commitment(x.segments, x.chosen) for x in parts]).sum()  # type: ignore[arg-type]

    def _cctr(self) -> Iterator[tuple[float, Tensor]]:
        for state in self.own:
            for part, value in (("shared", state.shared), ("specific", state.specific)):
                book = self.codebooks.book(part, state.modality.encoder)
                if value is not None and book is not None:
                    yield 1.0, code_contrast(value.segments, book.codes)

    def _cuni(self) -> Iterator[tuple[float, Tensor]]:
        """Reported like the other terms; it moves the codes by a step of their own, not through this value."""
        books: list[nn.Module | None] = [self.codebooks.shared, *self.codebooks.specific.values()]
        for book in books:
            if book is not None:
                yield 1.0, code_uniformity(book.get_buffer("codes"))
