"""How do adapters that were trained apart, each of encoders of its own, become one adapter of one model?"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from peft import LoraConfig, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from codebind_hf.conversion.lora import ADAPTER, lora_state
from codebind_hf.model.modeling_codebind import CodeBindModel


# A folder of its own: beside the adapter, the library would take the configuration for that of a whole model.
ARCHITECTURE_FOLDER = "architecture"
_ROOMS = ("encoders", "decoders", "codebooks.specific")
# Of a codebook, what no embedding depends on.
_STATISTICS = (".cluster_size", ".code_sum", ".usage", ".num_updates")


def lora_ranks(state: Mapping[str, Tensor]) -> dict[str, int]:
    """The rank of every adapted module of an adapter's tensors, by the module's name."""
    parts = ((name.partition(".lora_A."), value) for name, value in state.items())
    return {module: len(value) for (module, found, _), value in parts if found}


def lora_encoders(state: Mapping[str, Tensor]) -> list[str]:
    """The encoders with an adapted module, each once."""
    return list(dict.fromkeys(module.split(".")[1] for module in lora_ranks(state)))


def join_adapter(
    model: CodeBindModel, state: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path
) -> None:
    """Add the adapter in `state` to the one that `model` has, in place.

    Args:
        state: LoRA and all that lies beside it, as `save_adapter` writes it.
        expected: tensors of `model` as `state` should hold them, of all encoders.
        file: that it was read from, for messages.

    Raises:
        ValueError: both adapt an encoder, the tensors are those of another architecture, or the adapters were not
            trained beside the same bridge; the model is then as it was.
    """
    held = lora_state(model)
    brought = {name: value for name, value in state.items() if ".lora_" in name}
    mine, new = lora_encoders(held), lora_encoders(brought)
    if twice := [name for name in new if name in mine]:
        raise ValueError(
            f"{file}: adapts {twice[0]!r}, of which the model has another adapter. Fix: `remove_lora(model)` or "
            "`merge_lora(model)` first."
        )
    rooms, theirs = (tuple(f"{room}.{name}." for room in _ROOMS for name in names) for names in (new, mine))
    own = dict(model.state_dict())
    beside = {name: value for name, value in state.items() if ".lora_" not in name}
    check_same(_of(expected, rooms), _of(beside, rooms), file)
    ranks = {**lora_ranks(held), **lora_ranks(brought)}
    _check_modules(model, lora_ranks(brought), file)
    moved = [
        name
        for name, value in beside.items()
        if not name.startswith((*rooms, *theirs, "logit_scale.")) and not name.endswith(_STATISTICS)
        if name in own and not torch.equal(value.to(own[name].device, own[name].dtype), own[name])
    ]
    if moved:
        raise ValueError(
            f"{file}: was trained beside another {moved[0]} than the model has ({len(moved)} tensors), so that the "
            "adapters were not bound to the same bridge. Fix: load each onto the checkpoint that it was trained on."
        )
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    take_out(model, merge=False)
    model.add_adapter(_joined_config(ranks), adapter_name=ADAPTER)
    with torch.no_grad():
        set_peft_model_state_dict(model, {**held, **brought, **_of(beside, rooms)}, adapter_name=ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning or ".lora_" in name)


def _of(state: Mapping[str, Tensor], rooms: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(rooms)}


def _joined_config(ranks: Mapping[str, int]) -> LoraConfig:
    """One adapter over all these modules, each with its rank and, as everywhere, without a scale."""
    first = next(iter(ranks.values()))
    # The library matches a key of a pattern at the end of a module's name.
    others = {re.escape(module): rank for module, rank in ranks.items() if rank != first}
    return LoraConfig(
        r=first,
        lora_alpha=first,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(ranks),
        rank_pattern=others,
        alpha_pattern=dict(others),
    )


def _check_modules(model: CodeBindModel, modules: Iterable[str], file: Path) -> None:
    known = dict(model.named_modules())
    if missing := [module for module in modules if module not in known]:
        raise ValueError(f"{file}: adapts {missing[0]}, which this model lacks. {_fix()}")


def take_out(model: CodeBindModel, merge: bool) -> None:
    """Remove the adapter, in place, with or without adding it to the weights."""
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            if merge:
                module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
    del model.peft_config
    model._hf_peft_config_loaded = False


def check_same(own: Mapping[str, Tensor], state: Mapping[str, Tensor], file: Path) -> None:
    """Refuse tensors of other names or shapes than the model's."""
    fix = _fix()
    if missing := [name for name in own if name not in state]:
        raise ValueError(f"{file}: lacks {missing[0]} and {len(missing) - 1} more tensors that this model has. {fix}")
    for name, value in state.items():
        if name not in own:
            raise ValueError(f"{file}: holds {name}, which this model has no place for. {fix}")
        if own[name].shape != value.shape:
            shapes = f"{tuple(value.shape)}, and this model {tuple(own[name].shape)}"
            raise ValueError(f"{file}: {name} has shape {shapes}. {fix}")


def _fix() -> str:
    return (
        f"Fix: load the base with `config=CodeBindConfig.from_pretrained(folder, subfolder={ARCHITECTURE_FOLDER!r})`."
    )
