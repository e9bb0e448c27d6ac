"""Bind senses to frozen picture and sentence features, with the heads, codebooks and parts of `codebind_hf`.

Everything that an encoder could say is a vector already, so that a training is seconds of small matrices. A bridge is
trained first: a head on picture features and one on sentence features. Then it is frozen with the shared codebook, and
every sense gets an encoder on its own vectors (`stem: "features"`), with a specific part and codes of its own.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codebind_hf import CodeBindConfig, CodeBindEncoderConfig, CodeBindModel
from codebind_hf.model.codebook_fitting import pooled_segments
from codebind_hf.model.losses import info_nce
from codebind_hf.training import LossBalancer, train_only


@dataclass(frozen=True)
class Settings:
    """How bridge and senses are trained; chosen on the splits of seeds from 100 on.

    Args:
        hidden_size, blocks: of every tower for vectors.
        epochs, least_steps, batch, rate, decay: of AdamW; the rate rises for a tenth of the steps, and falls as a
            cosine.
        temperature: of the alignment, which does not learn.
        noise: deviation of what is added to standardised input vectors, for training and for second views.
        weights: of the loss terms beside `align`; none of them is InfoNCE alone.
        warmup: of terms whose weight grows, from which share of the steps to which it grows from nothing to all.
        image_weight: of the pairs with pictures, where those with sentences weigh 1.
        specific: whether there is a specific part.
        codes: whether there are codebooks.
        align_on, even_segments, code_dim, num_shared_codes, num_specific_codes, quantize_specific, specific_readout,
            reconstruction_gradient, decorrelation_gradient, shared_codebook, decoder_inputs: as of `CodeBindConfig`.
        balance: weigh the terms as the paper does, by `LossBalancer`; `weights` then name them.
        consistency: weight, while a bridge learns, of InfoNCE between two noisy views of a picture. Where texts say
            the class alone, nothing else keeps what tells one picture of a class from another.
        dim: of both parts.
        train: whether anything learns; an untrained row has its first weights.
    """

    hidden_size: int = 512
    blocks: int = 0
    dropout: float = 0.3
    epochs: int = 26
    least_steps: int = 80
    batch: int = 256
    rate: float = 5e-3
    decay: float = 0.5
    noise: float = 1.0
    temperature: float = 0.1
    weights: Mapping[str, float] | None = None
    warmup: Mapping[str, tuple[float, float]] | None = None
    image_weight: float = 1.0
    specific: bool = True
    codes: bool = True
    align_on: str = "continuous"
    even_segments: bool = True
    code_dim: int = 4
    num_shared_codes: int = 256
    num_specific_codes: int = 128
    quantize_specific: bool = True
    specific_readout: str = "network"
    reconstruction_gradient: str = "specific"
    decorrelation_gradient: str = "both"
    shared_codebook: str = "one"
    decoder_inputs: str = "codes"
    balance: bool = False
    consistency: float = 0.0
    dim: int = 128
    train: bool = True


def digest_of(settings: Settings, version: int) -> str:
    """Of what a training follows from: settings that are not the defaults, so that a new one keeps what there is."""
    plain = asdict(Settings())
    told = {name: value for name, value in asdict(settings).items() if value != plain[name]}
    return hashlib.blake2b(f"{version} {json.dumps(told, sort_keys=True)}".encode(), digest_size=6).hexdigest()


OURS = Settings(weights={"recon": 1.0, "decorr": 40.0, "views": 3.0, "uni": 0.05, "commit": 0.5})
ALONE = Settings(weights={}, specific=False, codes=False)
# The paper's layout: one trunk, two heads, per-sample orthogonality, weak reconstruction, alignment through codes.
PAPER = replace(
    OURS,
    weights={"recon": 0.3, "orth": 0.1, "uni": 0.1, "commit": 0.25},
    align_on="codes",
    specific_readout="cls",
    reconstruction_gradient="both",
)


@dataclass
class Standard:
    """Means and deviations of training vectors."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Standard":
        return cls(vectors.mean(0), np.maximum(vectors.std(0), 1e-6))

    def __call__(self, vectors: np.ndarray) -> Tensor:
        return torch.from_numpy(((vectors - self.mean) / self.deviation).astype(np.float32))


def bridge(image: Tensor, text: Tensor, settings: Settings, seed: int, train: bool = True) -> CodeBindModel:
    """A model of two modalities, trained on pairs unless it gets its weights elsewhere.

    The text tower has no block and never runs: what it would pool is what the sentence encoder gave.

    Args:
        image, text: standardised features `(pairs, width)`.
    """
    tower: dict[str, Any] = {"specific_dim": 0, "has_position": False}
    model = CodeBindModel(
        CodeBindConfig(
            shared_dim=settings.dim,
            specific_dim=settings.dim if settings.specific else 0,
            code_dim=settings.code_dim,
            num_shared_codes=settings.num_shared_codes if settings.codes else 0,
            num_specific_codes=settings.num_specific_codes if settings.codes and settings.specific else 0,
            align_on=settings.align_on if settings.codes else "continuous",
            even_segments=settings.even_segments,
            quantize_specific=settings.quantize_specific,
            specific_readout=settings.specific_readout,
            reconstruction_gradient=settings.reconstruction_gradient,
            decorrelation_gradient=settings.decorrelation_gradient,
            shared_codebook=settings.shared_codebook,
            decoder_inputs=settings.decoder_inputs,
            initializer_range=0.05,
            logit_scale_init_value=math.log(1 / settings.temperature),
            loss_weights={"align": 1.0, **(settings.weights or {})},
            pair_weights={"image": settings.image_weight},
            decoder_config={
                "hidden_size": 128,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "intermediate_size": 256,
                "hide_patches": 1.0,
            }
            if settings.specific
            else None,
            text_config={
                **tower,
                "hidden_size": text.shape[1],
                "num_hidden_layers": 0,
                "num_attention_heads": 1,
                "vocab_size": 4,
            },
            vision_config={**tower, **vector_encoder(image.shape[1], settings)},
        )
    )
    _first_weights(model, ["image", "text"], seed)
    train_only(model, ["image", "text"])
    for parameter in model.encoders["text"].tower.parameters():
        parameter.requires_grad_(False)
    rows = {"image": (torch.arange(len(image)), image), "text": (torch.arange(len(text)), text)}
    if train:
        _fit(model, rows, len(image), settings, seed)
    return model


def vector_encoder(width: int, settings: Settings) -> dict[str, Any]:
    """Fields of an encoder for vectors of this width."""
    return {
        "stem": "features",
        "num_channels": width,
        "input_size": [1],
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.blocks,
        "num_attention_heads": 4,
        "intermediate_size": 2 * settings.hidden_size,
        "stem_bias": True,
        "dropout": settings.dropout if settings.blocks else 0.0,
    }


def add_sense(model: CodeBindModel, name: str, fields: Mapping[str, Any]) -> None:
    """An encoder with these fields, and an empty specific network where it has one of its own."""
    model.add_modality(name, CodeBindEncoderConfig(**{"specific_num_hidden_layers": 0, **fields}))


def bind(
    model: CodeBindModel,
    name: str,
    sense: Tensor,
    others: Mapping[str, Tensor],
    settings: Settings,
    seed: int,
) -> None:
    """Train the encoder of one sense on its rows; nothing else of the model learns.

    Args:
        sense: standardised vectors `(rows, width)`, or what else its encoder takes.
        others: of "image" and "text", or "text" alone, the features of the same rows.
    """
    _first_weights(model, [name], seed)
    train_only(model, [name])
    if model.codebooks.shared is not None:
        model.codebooks.shared.frozen = True
    index = torch.arange(len(sense))
    rows = {name: (index, sense), **{other: (index, values) for other, values in others.items()}}
    _fit(model, rows, len(sense), settings, seed)


def _first_weights(model: CodeBindModel, names: Sequence[str], seed: int) -> None:
    """Of what will learn, by a seed for each module: modules that two rows both have start as equals."""
    for name in names:
        encoder = model.config.modality(name).encoder
        for path, module in model.encoders[encoder].named_modules():
            torch.manual_seed(
                int.from_bytes(hashlib.blake2b(f"{seed} {name} {path}".encode(), digest_size=7).digest())
            )
            model._init_weights(module)
    torch.manual_seed(seed)


def inputs_of(model: CodeBindModel, rows: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keywords of `forward` for vectors by modality."""
    found: dict[str, Any] = {model.config.modality(n).tensor: x for n, x in rows.items() if n != "text"}
    if "text" in rows:
        found["pooled_tokens"] = {"text": rows["text"].unsqueeze(1)}
    return found


def _fit(
    model: CodeBindModel,
    rows: Mapping[str, tuple[Tensor, Tensor]],
    count: int,
    settings: Settings,
    seed: int,
) -> None:
    steps = max(settings.least_steps, round(settings.epochs * count / settings.batch)) if settings.train else 0
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.logit_scale.parameters():
        parameter.requires_grad_(False)
    balancer = LossBalancer(max_steps=steps) if settings.balance else None
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=settings.rate, weight_decay=settings.decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=steps or 1, pct_start=0.1)
    own = [n for n in rows if model.encoders[model.config.modality(n).encoder].learns()]
    _start_codes(model, {n: x for n, (_, x) in rows.items()}, seed)
    model.train()
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < min(settings.batch, count):
            order = torch.randperm(count, generator=generator)
        picked, order = order[: settings.batch], order[settings.batch :]
        batch = {n: x[picked] for n, (_, x) in rows.items()}
        # The same noise for every row of an experiment: a row is told from another by its losses alone.
        noisy, views = ({n: _noisy(batch[n], settings.noise, generator) for n in own} for _ in range(2))
        inputs = inputs_of(model, {**batch, **noisy})
        second = {model.config.modality(n).tensor: x for n, x in views.items() if _has_own(model, n)}
        if second and model.config.loss_weight("views"):
            inputs["views"] = second
        output = model(**inputs, return_loss=True)
        grown = {
            term: min(max((step / steps - first) / (last - first), 0.0), 1.0)
            for term, (first, last) in (settings.warmup or {}).items()
        }
        if balancer:
            loss = balancer.weighted(output.loss_terms, factors=grown)
        else:
            weights = {term: grown.get(term, 1.0) * model.config.loss_weight(term) for term in output.loss_terms}
            loss = sum(weights[term] * value for term, value in output.loss_terms.items())
        if settings.consistency and "image" in own:
            other = model(**inputs_of(model, {"image": views["image"]}), quantize=False).embeds["image"]
            scale = 1 / settings.temperature
            loss = loss + settings.consistency * info_nce(output.continuous_embeds["image"], other, scale)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def _start_codes(model: CodeBindModel, rows: Mapping[str, Tensor], seed: int) -> None:
    """k-means of the codebooks that learn; a shared one that is frozen stays as the bridge left it."""
    shared = model.codebooks.shared
    if shared is not None and not shared.frozen:
        model.init_codebooks([inputs_of(model, rows)], seed=seed)
        return
    for (part, encoder), segments in pooled_segments(model, [inputs_of(model, rows)]).items():
        book = model.codebooks.book(part, encoder)
        if book is not None and book is not shared and not book.frozen:
            book.fit(torch.cat(segments), seed)


def _has_own(model: CodeBindModel, name: str) -> bool:
    return name != "text" and bool(model.config.specific_dim_of(model.config.modality(name).encoder))


def _noisy(values: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    return values + noise * torch.randn(values.shape, generator=generator)


@torch.no_grad()
def parts_of(model: CodeBindModel, name: str, values: Tensor) -> dict[str, np.ndarray]:
    """Both parts of vectors of one modality, before (`shared`, `specific`) and after quantization (`..._codes`)."""
    output = model(**inputs_of(model, {name: values}))
    found = {"shared": output.continuous_embeds[name], "shared_codes": output.embeds[name]}
    if output.continuous_specific_embeds:
        found["specific"] = output.continuous_specific_embeds[name]
        found["specific_codes"] = output.specific_embeds[name]
    return {part: x.float().numpy() for part, x in found.items()}
