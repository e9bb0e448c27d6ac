"""What a model does with its codebooks: ids to embeddings, and fitting by k-means before or after training."""

import hashlib
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


def codes_digest(codes: Tensor) -> str:
    """SHA-256 of the numbers of a codebook `(num_codes, code_dim)`, as float32, as hex."""
    return hashlib.sha256(codes.detach().float().cpu().contiguous().numpy().data).hexdigest()


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

        A codebook that quantizes both parts of an encoder starts from both.

        Args:
            batches: keyword arguments of `forward`, as `CodeBindCollator` gives them.
            seed: of the k-means starts.
        """
        segments = pooled_segments(self, batches)
        common = [key for key in segments if self.codebooks.book_name(*key) == "shared"]
        first = ("shared", "text") if ("shared", "text") in common else common[0] if common else None
        self._fit({key: parts for key, parts in segments.items() if key == first or key not in common}, seed)

    def fit_codebooks(self, batches: Iterable[Mapping[str, Any]], seed: int = 0) -> None:
        """Fit every codebook to a finished model: product quantization after the fact, on all that it quantizes."""
        self._fit(pooled_segments(self, batches), seed)

    def _fit(self, segments: dict[tuple[str, str], list[Tensor]], seed: int) -> None:
        """Fit every codebook to the segments of the parts that it quantizes."""
        by_book: dict[str, list[tuple[str, str]]] = {}
        for key in segments:
            by_book.setdefault(self.codebooks.book_name(*key), []).append(key)
        for keys in by_book.values():
            if (book := self.codebooks.book(*keys[0])) is not None:
                book.fit(torch.cat([x for key in keys for x in segments[key]]), seed)
