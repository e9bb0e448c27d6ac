"""What the parts of an embedding are measured against: the raw input, and the same network before any training."""

import copy
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codebind_hf.evaluation.embedding import EmbeddedSet, Rows, embed_dataset, items_at, modality_inputs
from codebind_hf.evaluation.probes import random_projection
from codebind_hf.model.modalities import Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor


# Numbers of the raw input that a probe sees; a longer input is projected to so many.
RAW_NUMBERS = 1000


@dataclass
class Controls:
    """Features of one modality of a set of rows that owe nothing to training.

    Args:
        positions (`Tensor` of shape `(items,)`): the rows they are of.
        raw (`Tensor` of shape `(items, numbers)`): the input, flattened, or a sparse random projection of it to
            `RAW_NUMBERS` numbers where it has more.
        untrained (`Tensor` of shape `(items, specific_dim)`): the continuous specific part of a fresh network.
    """

    positions: Tensor
    raw: Tensor
    untrained: Tensor

    def of(self, positions: Tensor) -> "Controls":
        """Those of some of the rows, in the order of `positions`."""
        items = items_at(self.positions, positions)
        return Controls(positions, self.raw[items], self.untrained[items])


def controls_of(
    model: CodeBindModel,
    processor: CodeBindProcessor | None,
    rows: Rows,
    embedded: EmbeddedSet,
    modalities: Collection[str],
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Controls]:
    """`Controls` of those of `modalities` that `embedded` has, with a specific part.

    The fresh network has the configuration of `model` and is drawn with `seed`; for a while there are two models in
    memory.

    Args:
        rows: the rows that `embedded` was made from.
    """
    found = embedded.modalities.items()
    wanted = [name for name, part in found if name in modalities and part.continuous_specific_embeds is not None]
    if not wanted:
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(copy.deepcopy(model.config))
    fresh.to(model.device)  # type: ignore[arg-type]
    untrained = embed_dataset(fresh, processor, rows, batch_size, wanted, on_error="skip", progress=False)
    controls = {}
    for name in wanted:
        positions = embedded.modalities[name].positions
        raw = _raw(processor, rows, positions, model.config.modalities[name], seed, batch_size)
        own = untrained.modalities[name].continuous_specific_embeds
        controls[name] = Controls(positions, raw, own)  # type: ignore[arg-type]
    return controls


def _raw(
    processor: CodeBindProcessor | None, rows: Rows, positions: Tensor, modality: Modality, seed: int, batch_size: int
) -> Tensor:
    """Inputs of the model, flattened, `(items, numbers)`; a batch at a time, as they may be large."""
    parts: list[np.ndarray] = []
    for batch in positions.split(batch_size):
        values = modality_inputs(processor, modality, [rows[row] for row in batch.tolist()])[modality.tensor]
        parts.append(random_projection(values.float().flatten(1).numpy(), RAW_NUMBERS, seed))
    return torch.from_numpy(np.concatenate(parts))
