"""Which parameters learn: bridges first, then targets against frozen bridges."""

from collections.abc import Iterable

from codebind_hf.conversion.lora import LORA_PART
from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training.arguments import MODES


NEW_MODULES = (".specific_", "decoders.")
# The specific head and, where it has parameters, the specific read-out.
_HEADS = (".shared_head.", ".specific_")
_HEAD_PARTS = (*_HEADS, ".tower.cls_token")
# What learns of an encoder, by mode; an empty text is part of every name. Mode "lens" depends on the encoder.
_PARTS = {"full": ("",), "heads": _HEAD_PARTS, "lora": (*_HEAD_PARTS, LORA_PART)}
_BRIDGE_PARTS = {"heads": _HEAD_PARTS, "shared_heads": (".shared_head.",)}
# Blocks that take the place of a lens where a tower has none (TencentARC/ViT-Lens@2b4f2e0, depth and tactile).
LENS_BLOCKS = 4
# The first part that a parameter's name contains is the one it counts for.
_COUNTED = {
    "lora": LORA_PART,
    "cls_tokens": ".tower.cls_token",
    "towers": ".tower.",
    "shared_heads": ".shared_head.",
    "specific_heads": ".specific_",
    "decoders": "decoders.",
    "temperature": "logit_scale.",
}


def train_only(
    model: CodeBindModel,
    modalities: Iterable[str],
    mode: str = "full",
    bridges: Iterable[str] = (),
    bridge_mode: str = "heads",
    frozen_towers: Iterable[str] = (),
) -> list[str]:
    """Let only the encoders of `modalities`, their decoders, and the temperature learn; returns the encoders.

    Args:
        model: changed in place; frozen encoders stay in evaluation mode, also under `model.train()`.
        modalities: names such as "audio"; "image" and "video" are one encoder.
        mode: "full", "heads" for both heads and the CLS token of each encoder, "lora" for these and the adapter that
            `add_lora` put there, or "lens" for these, the stem and the lens, as ViT-Lens trains; of a tower without
            a lens its first blocks, and the position table if the stem has none.
        bridges: modalities whose heads, CLS token and decoder learn beside, whatever the mode (the paper's rows).
        bridge_mode: "heads", or "shared_heads" for the shared heads of `bridges` alone.
        frozen_towers: modalities whose heads alone learn, without the CLS token, if anything of them does.

    Raises:
        ValueError: a modality that the model does not have, no modality, an unknown mode, or "lora" without adapter,
            or "lens" of a network of others.
    """
    if mode not in MODES:
        raise ValueError(f"mode: got {mode!r}; allowed: {', '.join(map(repr, MODES))}.")
    encoders = _encoders_of(model, modalities)
    if not encoders:
        raise ValueError(f"modalities: got none; choose from {', '.join(model.config.modalities)}.")
    if mode == "lora":
        _check_adapters(model, encoders)
    beside = set(_encoders_of(model, bridges)) - set(encoders)
    parts: dict[str, tuple[str, ...]] = dict.fromkeys(beside, _BRIDGE_PARTS[bridge_mode])
    parts |= {name: _lens_parts(model, name) if mode == "lens" else _PARTS[mode] for name in encoders}
    parts |= {name: _HEADS for name in _encoders_of(model, frozen_towers) if name in encoders}
    # Where shared heads alone learn, the specific part and what is decoded from it stay as they are.
    whole = set(parts) if bridge_mode == "heads" else set(encoders)
    for name, parameter in model.named_parameters():
        room, _, rest = name.partition(".")
        encoder = rest.partition(".")[0]
        learns = room == "logit_scale" or encoder in parts and (encoder in whole or room == "encoders")
        if room == "encoders":
            learns = learns and any(part in name for part in parts[encoder])
        parameter.requires_grad_(learns)
    for encoder, book in model.codebooks.specific.items():
        if isinstance(book, Codebook):
            book.frozen = encoder not in whole
    return encoders


def _lens_parts(model: CodeBindModel, encoder: str) -> tuple[str, ...]:
    config = model.config.encoder_configs[encoder]
    if config.stem == "pretrained":
        raise ValueError(
            f"mode: got 'lens' for {encoder!r}, which is a network of others. Fix: 'heads', 'lora' or 'full'."
        )
    if config.lens_num_latents:
        return (*_HEAD_PARTS, ".tower.stem.", ".tower.lens.")
    blocks = (f".tower.layers.{block}." for block in range(LENS_BLOCKS))
    place = () if config.stem_position else (".tower.position", ".tower.pre_norm.")
    return (*_HEAD_PARTS, ".tower.stem.", *place, *blocks)


def _encoders_of(model: CodeBindModel, modalities: Iterable[str]) -> list[str]:
    known = model.config.modalities
    names = list(modalities)
    for name in names:
        if name not in known:
            raise ValueError(f"modalities: {name!r} is not in this model, which has {', '.join(known)}.")
    return list(dict.fromkeys(known[name].encoder for name in names))


def _check_adapters(model: CodeBindModel, encoders: list[str]) -> None:
    for encoder in encoders:
        if not any(LORA_PART in name for name, _ in model.encoders[encoder].named_parameters()):
            raise ValueError(f"mode: got 'lora', but the encoder {encoder!r} has no adapter. Fix: `add_lora` first.")


def trainable_parameters(model: CodeBindModel) -> int:
    """How many numbers learn."""
    return sum(trainable_parts(model).values())


def trainable_parts(model: CodeBindModel) -> dict[str, int]:
    """How many numbers learn in each kind of part: `lora`, `cls_tokens`, `towers`, `shared_heads`, `specific_heads`,
    `decoders` and `temperature`."""
    counts = dict.fromkeys(_COUNTED, 0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            counts[next(kind for kind, part in _COUNTED.items() if part in name)] += parameter.numel()
    return counts
