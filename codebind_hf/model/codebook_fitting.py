"""What a model does with its codebooks: ids to embeddings, and fitting by k-means before or after training."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .codebooks import SharedSpecificCodebook
from .evaluating import evaluating
from .inputs import IDS, check_storage
from .modalities import shown


@torch.no_grad()
def pooled_segments(model: Any, batches: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Tensor]]:
    """Unit segments `(vectors, width of a code)` of the pooled embeddings in `batches`, by `(part, encoder)`.

    The model is in evaluation mode meanwhile: no codebook moves.

    Raises:
        ValueError: there is no batch.
    """
    modalities = model.config.modalities
    segments: dict[tuple[str, str], list[Tensor]] = {}
    with evaluating(model):
        for batch in batches:
            output = model(**{key: value for key, value in batch.items() if key not in ("rows", "return_loss")})
            parts = {"shared": output.continuous_embeds, "specific": output.continuous_specific_embeds or {}}
            for part, embeds in parts.items():
                for name, values in embeds.items():
                    key = (part, modalities[name].encoder)
                    segments.setdefault(key, []).append(model.codebooks.segments(*key, values).flatten(0, 1))
    if not segments:
        raise ValueError("batches: got none; give at least one batch of model inputs.")
    return segments


class CodebookFitting:
    """Codebook methods of `CodeBindModel`."""

    config: Any
    codebooks: SharedSpecificCodebook
    device: torch.device

    def codes_to_embeds(self, ids: Tensor, modality: str, part: str = "shared") -> Tensor:
        """Unit embeddings `(batch, dim)` of code ids `(batch, segments)`: the exact inverse of quantization.

        Raises:
            ValueError: unknown modality or part, a wrong number of segments, an id out of range, or no codebook.
        """
        encoder = self.config.modality(modality).encoder
        check_storage("ids", ids)
        if not isinstance(part, str) or part not in ("shared", "specific"):
            raise ValueError(f"part: got {shown(part)}; allowed: 'shared', 'specific'.")
        segments = self.config.num_segments_of(part, encoder)
        if ids.ndim < 1 or ids.shape[-1] != segments or ids.dtype not in IDS:
            raise ValueError(
                f"ids: got {ids.dtype} of shape {tuple(ids.shape)}; expected integers with {segments} segments last."
            )
        return self.codebooks.embeds(part, encoder, ids.to(self.device).long())

    def init_codebooks(self, batches: Iterable[Mapping[str, Any]], seed: int = 0) -> None:
        """k-means start before training: shared from text segments, specific from each encoder's own (paper A.2).

        Args:
            batches: keyword arguments of `forward`, as `CodeBindCollator` gives them.
            seed: of the k-means starts.
        """
        segments = pooled_segments(self, batches)
        shared = segments.get(("shared", "text")) or [x for key, x in segments.items() if key[0] == "shared"][0]
        self._fit(shared, segments, seed)

    def fit_codebooks(self, batches: Iterable[Mapping[str, Any]], seed: int = 0) -> None:
        """Fit every codebook to a finished model: product quantization after the fact, on all modalities."""
        segments = pooled_segments(self, batches)
        shared = [x for key, parts in segments.items() if key[0] == "shared" for x in parts]
        self._fit(shared, segments, seed)

    def _fit(self, shared: list[Tensor], segments: dict[tuple[str, str], list[Tensor]], seed: int) -> None:
        """Fit the shared codebook to `shared`, and every specific one to its encoder's own segments."""
        fits = [(self.codebooks.shared, shared)]
        fits += [(self.codebooks.book(*key), parts) for key, parts in segments.items() if key[0] == "specific"]
        for book, parts in fits:
            if book is not None and parts:
                book.fit(torch.cat(parts), seed)
