"""Is this the bridge that a pack was bound to? Fingerprints of what its shared space follows from.

They are of numbers, not of files: however a tower was made, saved, split into shards or widened to another type, the
same numbers have the same fingerprint. Numbers that were rounded to 16 bits are compared up to that rounding.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from codebind_hf.conversion.lora import LORA_PART, plain_state
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import BRIDGE_ENCODERS
from codebind_hf.model.modeling_codebind import CodeBindModel


# What a vector of the shared space is and how it is cut into codes; fields of `CodeBindConfig`.
LAYOUT = (
    *("shared_dim", "code_dim", "num_shared_codes", "shared_codebook"),
    *("even_segments", "quantize_specific"),
)
# What the same weights of a bridge encoder compute also follows from these, where its configuration has them.
READING = (
    *("stem", "hidden_act", "layer_norm_eps", "is_causal", "pre_norm", "add_bias_kv", "normalize_clips"),
    *("backbone_part", "backbone_layer", "backbone_pooling", "shared_head"),
)
SHARED_CODES = "shared_codes"
# Numbers that a fingerprint holds, for models in fewer bits.
_SAMPLES = 32
_SMALLEST = 1e-6


def layout_of(config: CodeBindConfig) -> dict[str, Any]:
    """The fields of a configuration that a pack and its bridge share."""
    return {name: getattr(config, name) for name in LAYOUT}


def readings_of(config: CodeBindConfig) -> dict[str, dict[str, Any]]:
    """By bridge encoder, how its weights are used; `config` may lack one."""
    found = {name: encoder for name, encoder in config.encoder_configs.items() if name in BRIDGE_ENCODERS}
    return {
        name: {field: getattr(encoder, field) for field in READING if getattr(encoder, field, None) is not None}
        for name, encoder in found.items()
    }


def bridge_tensors(model: CodeBindModel) -> dict[str, dict[str, Tensor]]:
    """By part, the tensors that the shared embeddings of text and vision follow from, and the shared codes.

    Parts that the model was loaded without are not there.

    Raises:
        ValueError: a bridge encoder carries an adapter, so that its weights do not say what it computes.
    """
    state = plain_state(model)
    parts = {}
    for encoder in BRIDGE_ENCODERS:
        room = f"encoders.{encoder}."
        if any(name.startswith(room) and LORA_PART in name for name, _ in model.named_parameters()):
            raise ValueError(f"model: {encoder!r} carries an adapter. Fix: `merge_lora(model)` first.")
        found = {name: value for name, value in state.items() if name.startswith(room)}
        # What is private to pictures is no part of the shared space.
        parts[encoder] = {name: x for name, x in found.items() if not name.startswith(f"{room}specific_")}
    if "codebooks.shared.codes" in state:
        parts[SHARED_CODES] = {"codebooks.shared.codes": state["codebooks.shared.codes"]}
    return {part: tensors for part, tensors in parts.items() if tensors}


def fingerprint(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """SHA-256 of names, shapes and numbers of tensors, some of the numbers, and the type with the fewest bits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        # Wider types hold the same numbers.
        value = value.float() if value.is_floating_point() else value.long()
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().flatten().numpy().data)
    return {"sha256": digest.hexdigest(), "sample": _sample(tensors), "dtype": _coarsest(tensors)}


def is_same(saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether a saved fingerprint is of these tensors; if one of the two was rounded to 16 bits, of such once rounded.

    Args:
        saved: of `fingerprint`.
    """
    own = fingerprint(tensors)
    if own["sha256"] == saved["sha256"]:
        return True
    rounding = max(torch.finfo(getattr(torch, each["dtype"])).eps for each in (saved, own))
    if rounding <= torch.finfo(torch.float32).eps or len(own["sample"]) != len(saved["sample"]):
        return False
    pairs = zip(saved["sample"], own["sample"], strict=True)
    return all(abs(one - other) <= rounding * abs(one) + _SMALLEST for one, other in pairs)


def _coarsest(tensors: Mapping[str, Tensor]) -> str:
    types = {value.dtype for value in tensors.values() if value.is_floating_point()} or {torch.float32}
    return str(max(types, key=lambda dtype: torch.finfo(dtype).eps)).removeprefix("torch.")


def _sample(tensors: Mapping[str, Tensor]) -> list[float]:
    """Numbers at even steps through all tensors in the order of their names."""
    ordered = [tensors[name].detach().flatten() for name in sorted(tensors)]
    total = sum(map(len, ordered))
    places = iter(sorted({place * total // _SAMPLES for place in range(_SAMPLES)}) if total else [])
    found, start = list[float](), 0
    place = next(places, None)
    for values in ordered:
        while place is not None and place < start + len(values):
            found.append(float(values[place - start]))
            place = next(places, None)
        start += len(values)
    return found


def differing_parts(saved: Mapping[str, Any], model: CodeBindModel) -> tuple[list[str], list[str]]:
    """The parts of a bridge that a pack knows and that are others in `model`, and those that could be compared.

    Args:
        saved: fingerprint by part.
    """
    own = bridge_tensors(model)
    compared = [part for part in saved if part in own]
    return [part for part in compared if not is_same(saved[part], own[part])], compared


def differing_fields(bridge: Mapping[str, Any], config: CodeBindConfig) -> list[str]:
    """In words, the fields that a pack's bridge and a configuration do not share.

    Args:
        bridge: with `layout` and `readings`, as a pack names them.
    """
    pairs = [(name, bridge["layout"][name], own) for name, own in layout_of(config).items()]
    for encoder, own in readings_of(config).items():
        saved = bridge["readings"].get(encoder, {})
        pairs += [(f"{field} of {encoder}", saved[field], own.get(field)) for field in saved]
    return [f"{name} is {there!r} there and {here!r} here" for name, there, here in pairs if there != here]
