"""A stand-in for processor and model whose answers are known: what a modality shows is a rotation of a known latent.

The first `SHARED` numbers of the latent are the shared part (a class direction plus a little of the instance), the
rest is private to the modality. The stand-in model rotates back, so its embeddings are right by construction.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codebind_hf.model.modalities import MODALITIES
from codebind_hf.processing.arguments import argument_of


# Several test processes share few cores; more threads than cores make these small problems many times slower.
torch.set_num_threads(1)

SHARED, SPECIFIC, CODE, CODES = 16, 8, 4, 32
CLASSES = ("ball", "cube", "cone", "ring", "star")
SHAPES = {
    "image": (3, 8, 8),
    "video": (1, 2, 3, 8, 8),
    "audio": (1, 16, 8),
    "thermal": (1, 8, 8),
    "point_cloud": (16, 3),
    "eeg": (4, 16),
}


def rotation(name: str, size: int) -> Tensor:
    """`size x latent` matrix with orthonormal columns, the same in every call."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    return torch.linalg.qr(torch.randn(size, SHARED + SPECIFIC, generator=generator))[0]


def class_directions() -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.linalg.qr(torch.randn(SHARED, len(CLASSES), generator=generator))[0].T


class FakeProcessor:
    """Turns latents into tensors of the right names and shapes; refuses the latent "broken"."""

    def __call__(self, return_tensors: str, **modalities: Sequence[Any]) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = {}
        for modality in MODALITIES.values():
            items = modalities.get(argument_of(modality.name))
            if items is not None and modality.name == "text":
                tokens = [[next(i for i, name in enumerate(CLASSES) if name in text), 1] for text in items]
                batch |= {"input_ids": torch.tensor(tokens), "attention_mask": torch.ones(len(tokens), 2).long()}
            elif items is not None:
                batch[modality.tensor] = torch.stack([self._tensor(modality.name, item) for item in items])
        return batch

    def _tensor(self, name: str, latent: Any) -> Tensor:
        if isinstance(latent, str):
            raise ValueError(f"{name}: got {latent!r}; an array was expected.")
        shape = SHAPES[name]
        return (rotation(name, int(np.prod(shape))) @ torch.as_tensor(latent, dtype=torch.float32)).reshape(shape)


class FakeModel(nn.Module):
    """Rotates back, splits, quantizes segments to the nearest of `CODES` fixed codes."""

    device = torch.device("cpu")

    def __init__(
        self, modalities: Sequence[str] | SimpleNamespace = ("text", *SHAPES), has_decoders: bool = False
    ) -> None:
        super().__init__()
        if isinstance(modalities, SimpleNamespace):
            modalities, has_decoders = modalities.modality_names, modalities.decoder_config is not None
        self.dropout = nn.Dropout(0.5)
        generator = torch.Generator().manual_seed(3)
        self.codes = nn.functional.normalize(torch.randn(CODES, CODE, generator=generator), dim=-1)
        self.config = SimpleNamespace(
            modalities={name: MODALITIES[name] for name in modalities},
            modality_names=tuple(modalities),
            encoder_configs={
                MODALITIES[name].encoder: SimpleNamespace(stem="points" if name == "point_cloud" else "patches")
                for name in modalities
            },
            pair_weight=lambda pair: 1.0,
            num_shared_codes=CODES,
            num_specific_codes_of=lambda encoder: CODES,
            book_of=lambda part, encoder: "shared" if part == "shared" else encoder,
            decoder_config={} if has_decoders else None,
            decoder_inputs="codes",
            shared_dim=SHARED,
            specific_dim=SPECIFIC,
        )

    def quantize(self, part: Tensor) -> tuple[Tensor, Tensor]:
        segments = nn.functional.normalize(part.reshape(len(part), -1, CODE), dim=-1)
        ids = (segments @ self.codes.T).argmax(-1)
        return nn.functional.normalize(self.codes[ids].flatten(1), dim=-1), ids

    def forward(self, output_reconstructions: bool = False, **inputs: Tensor) -> SimpleNamespace:
        output = SimpleNamespace(
            embeds={}, continuous_embeds={}, specific_embeds={}, continuous_specific_embeds={}, codes={}
        )
        for name, modality in self.config.modalities.items():
            if modality.tensor in inputs:
                self._add(output, name, inputs[modality.tensor])
        output.reconstructions = dict(output.decoded) if output_reconstructions else None
        output.reconstruction_targets = {
            name: folded(name, inputs[MODALITIES[name].tensor]) for name in output.decoded
        }
        return output

    def decode(self, shared: Tensor, specific: Tensor, *, modality: str) -> Tensor:
        matrix = rotation(modality, int(np.prod(SHAPES[modality])))
        values = (torch.cat([shared, specific], dim=1) @ matrix.T).reshape(len(shared), *SHAPES[modality])
        return folded(modality, values)

    def _add(self, output: SimpleNamespace, name: str, values: Tensor) -> None:
        output.decoded = {}
        if name == "text":
            latent = torch.cat([class_directions()[values[:, 0]], torch.zeros(len(values), SPECIFIC)], dim=1)
        else:
            latent = self.dropout(values.flatten(1) @ rotation(name, values[0].numel()))
            decoded = (latent @ rotation(name, values[0].numel()).T).reshape(values.shape)
            output.decoded = {name: folded(name, decoded)}
        shared, specific = nn.functional.normalize(latent[:, :SHARED], dim=-1), latent[:, SHARED:]
        output.embeds[name], shared_ids = self.quantize(shared)
        output.continuous_embeds[name] = shared
        specific_ids = None
        if name != "text":
            output.specific_embeds[name], specific_ids = self.quantize(specific)
            output.continuous_specific_embeds[name] = nn.functional.normalize(specific, dim=-1)
        output.codes[name] = SimpleNamespace(shared=shared_ids, specific=specific_ids)


def folded(name: str, values: Tensor) -> Tensor:
    """As the model's decoders see it: a video without its clips, channels before frames."""
    return values.mean(1).transpose(1, 2) if name == "video" else values


def make_rows(number: int, modalities: Sequence[str] = ("text", *SHAPES), seed: int = 0) -> list[dict[str, Any]]:
    """Rows of latents: class and instance shared by the modalities, one four-valued attribute private to each."""
    rng = np.random.default_rng(seed)
    directions = class_directions().numpy()
    rows = []
    for position in range(number):
        label = position % len(CLASSES)
        shared = directions[label] + 0.15 * rng.standard_normal(SHARED)
        row: dict[str, Any] = {"id": f"row-{position}", "label": CLASSES[label], "attributes": {}}
        for name in modalities:
            private = int(rng.integers(4))
            latent = np.concatenate([shared, 0.2 * rng.standard_normal(SPECIFIC)])
            latent[:SHARED] += 0.05 * rng.standard_normal(SHARED)
            latent[SHARED + private] += 1.0
            row[name] = f"a photo of a {CLASSES[label]}" if name == "text" else latent
            if name != "text":
                row["attributes"] |= {f"{name}.mark": private, f"{name}.coin": int(rng.integers(2))}
        rows.append(row)
    return rows


@pytest.fixture
def fake() -> SimpleNamespace:
    """`model`, `processor` and `rows(number, modalities, seed)` that fit together."""
    return SimpleNamespace(
        model=FakeModel(), processor=FakeProcessor(), rows=make_rows, FakeModel=FakeModel, classes=CLASSES
    )
