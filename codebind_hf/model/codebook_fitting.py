"""What codebooks are fitted to by k-means, before or after training."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .codebooks import unit_segments
from .encoding import evaluating


@torch.no_grad()
def pooled_segments(model: Any, batches: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Tensor]]:
    """Unit segments `(vectors, code_dim)` of the pooled embeddings in `batches`, by `(part, encoder)`.

    The model is in evaluation mode meanwhile: no codebook moves.

    Raises:
        ValueError: there is no batch.
    """
    modalities, width = model.config.modalities, model.config.code_dim
    segments: dict[tuple[str, str], list[Tensor]] = {}
    with evaluating(model):
        for batch in batches:
            output = model(**{key: value for key, value in batch.items() if key not in ("rows", "return_loss")})
            parts = {"shared": output.continuous_embeds, "specific": output.continuous_specific_embeds}
            for part, embeds in parts.items():
                for name, values in embeds.items():
                    vectors = unit_segments(values, width).flatten(0, 1)
                    segments.setdefault((part, modalities[name].encoder), []).append(vectors)
    if not segments:
        raise ValueError("batches: got none; give at least one batch of model inputs.")
    return segments
