"""LoRA of the official CodeBind: merged into the weights, or kept as a PEFT adapter, and back."""

import re
from collections.abc import Mapping

import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.typed_modules import modules_of


ADAPTER = "default"
# Part of the name of every parameter that an adapter adds.
LORA_PART = ".lora_"
_KEY = re.compile(
    r"blocks\.(?P<layer>\d+)\.(?P<module>attn|mlp)\.(?P<name>in_proj|out_proj|fc1|fc2)_lora_(?P<side>down|up)"
)
_FUSED = ("q_proj", "k_proj", "v_proj")


def has_lora(model: CodeBindModel) -> bool:
    """Whether `model` carries an adapter, put there by `add_lora`, `model.add_adapter` or PEFT's `get_peft_model`."""
    return any(isinstance(module, BaseTunerLayer) for module in modules_of(model))


def lora_state(model: CodeBindModel, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The adapter of a model that has one, with the names of PEFT's files, of `state` or of the model's own."""
    return get_peft_model_state_dict(model, None if state is None else dict(state), adapter_name=ADAPTER)


def adapter_config(rank: int, targets: str | list[str]) -> LoraConfig:
    """LoRA as in the reference: no dropout, no bias, and no scaling, which the library does by alpha / rank."""
    return LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=targets)


def lora_pairs(encoder: str, tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Down `(rank, inputs)` and up `(outputs, rank)` matrices by our module name.

    The reference adapts the fused query-key-value matrix: its down matrix serves all three, its up matrix is theirs
    stacked (Visual-AI/CodeBind@bba682e models/lora.py). There is no scaling factor.

    Raises:
        ValueError: a key that is no LoRA matrix of a block, or a matrix without its partner.
    """
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None:
            raise ValueError(
                f"imagebind-lora-{encoder}: unknown key {key}; expected blocks.<n>.attn.in_proj_lora_down."
            )
        room = "self_attn" if found["module"] == "attn" else "mlp"
        stem = f"encoders.{encoder}.tower.layers.{found['layer']}.{room}"
        sides.setdefault(f"{stem}.{found['name']}", {})[found["side"]] = tensor
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for module, side in sides.items():
        if set(side) != {"down", "up"}:
            raise ValueError(f"imagebind-lora-{encoder}: {module} has {', '.join(side)} only; down and up are needed.")
        stem, _, name = module.rpartition(".")
        names = _FUSED if name == "in_proj" else (name,)
        for part, up in zip(names, side["up"].chunk(len(names)), strict=True):
            pairs[f"{stem}.{part}"] = (side["down"], up)
    return pairs


def merge_released_lora(state: dict[str, Tensor], lora: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Add `up @ down` to the weights in `state`, whose tensors are replaced.

    Raises:
        ValueError: LoRA of an encoder or layer that the model lacks.
    """
    for encoder, tensors in lora.items():
        for module, (down, up) in lora_pairs(encoder, tensors).items():
            key = f"{module}.weight"
            if key not in state:
                raise ValueError(f"imagebind-lora-{encoder}: adapts {module}, which this architecture lacks.")
            state[key] = state[key] + (up @ down).to(state[key].dtype)


def add_released_lora(model: CodeBindModel, lora: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Give `model` a PEFT adapter with these matrices; its output is that of the merged weights up to rounding.

    Raises:
        ValueError: adapters of different rank, or of a layer that the model lacks.
    """
    pairs = {k: v for encoder, tensors in lora.items() for k, v in lora_pairs(encoder, tensors).items()}
    modules = dict(model.named_modules())
    if missing := [module for module in pairs if module not in modules]:
        raise ValueError(f"imagebind-lora: adapts {missing[0]}, which this architecture lacks.")
    ranks = {len(down) for down, _ in pairs.values()}
    if len(ranks) != 1:
        raise ValueError(f"imagebind-lora: got matrices of ranks {sorted(ranks)}; one adapter has one rank.")
    model.add_adapter(adapter_config(ranks.pop(), list(pairs)), adapter_name=ADAPTER)
    with torch.no_grad():
        for module, (down, up) in pairs.items():
            layer = model.get_submodule(module)
            layer.lora_A[ADAPTER].weight.copy_(down)  # type: ignore[index, union-attr]
            layer.lora_B[ADAPTER].weight.copy_(up)  # type: ignore[index, union-attr]
    model.eval()


def plain_state(model: CodeBindModel) -> dict[str, Tensor]:
    """The state dict as it was before an adapter was added."""
    state = model.state_dict().items()
    return {key.replace(".base_layer.", "."): value for key, value in state if LORA_PART not in key}


def released_lora(model: CodeBindModel) -> dict[str, dict[str, Tensor]]:
    """The adapter as the reference's files hold it, by encoder; empty without one.

    Raises:
        ValueError: query, key and value have down matrices of their own, which the reference cannot hold.
    """
    state = model.state_dict()
    lora: dict[str, dict[str, Tensor]] = {}
    for key, down in state.items():
        if f".lora_A.{ADAPTER}.weight" not in key:
            continue
        module = key.removesuffix(f".lora_A.{ADAPTER}.weight")
        _, encoder, _, _, layer, room, name = module.split(".")
        up = state[f"{module}.lora_B.{ADAPTER}.weight"]
        if name in _FUSED:
            stem = module.rpartition(".")[0]
            if not all(torch.equal(down, state[f"{stem}.{x}.lora_A.{ADAPTER}.weight"]) for x in _FUSED):
                raise ValueError(f"{stem}: query, key and value have different down matrices; the original has one.")
            up = torch.cat([state[f"{stem}.{x}.lora_B.{ADAPTER}.weight"] for x in _FUSED])
            name = "in_proj"
        source = f"blocks.{layer}.{'attn' if room == 'self_attn' else 'mlp'}.{name}_lora"
        lora.setdefault(encoder, {}).update({f"{source}_down": down, f"{source}_up": up})
    return lora
