"""LoRA through PEFT: adapters in the towers, and checkpoints that also hold what learns beside them."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftMixedModel, PeftModel, PeftType, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from codebind_hf.conversion.joined_adapters import (
    ARCHITECTURE_FOLDER,
    check_same,
    join_adapter,
    lora_encoders,
    lora_ranks,
    take_out,
)
from codebind_hf.conversion.lora import ADAPTER, LORA_PART, adapter_config, has_lora, lora_state
from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.pretrained_model import ordinary_permissions
from codebind_hf.model.pretrained_towers import PretrainedTower


_ATTENTION = r"self_attn\.(q_proj|k_proj|v_proj|out_proj)"
LORA_MODULES = {"all": rf"({_ATTENTION}|mlp\.(fc1|fc2))", "attention": _ATTENTION}
_TOWERS = "towers"
# Numbers of every tensor that its fingerprint holds.
_SAMPLES = 64
_PREFIX = "base_model.model."
_DECODERS = "decoders."
# Names of what an adapter puts into a model, and of what it took the place of.
_ADAPTED = re.compile(r"\.(lora_\w+|modules_to_save|original_module)\.")


logger = logging.getLogger(__name__)


def add_lora(
    model: CodeBindModel,
    encoders: Iterable[str],
    rank: int = 4,
    layers: Iterable[int] | None = None,
    modules: str = "all",
) -> None:
    """Put LoRA into the towers of `encoders`, in place; the model's output does not change until it learns.

    Source: paper section 4 and Visual-AI/CodeBind@bba682e models/lora.py: no scaling, no dropout, no bias. Deviation:
    query, key and value have a down matrix each; the reference has one for its fused projection.

    Everything but the adapter is frozen; `train_only` decides what learns.

    Args:
        encoders: names such as "audio" or "vision".
        rank: of the matrices; scaled by alpha / rank = 1.
        layers: blocks that get an adapter, counted from 0; `None` is the last half (the paper's 7-12 of 12, 4-6 of 6).
        modules: "all" (attention and MLP) or "attention".

    Raises:
        ValueError: an encoder or a block that the model lacks, an unknown `modules`, a rank below 1, or a model that
            has an adapter already.
    """
    if modules not in LORA_MODULES:
        raise ValueError(f"modules: got {modules!r}; allowed: {', '.join(map(repr, LORA_MODULES))}.")
    if rank < 1:
        raise ValueError(f"rank: got {rank}; it must be 1 or more.")
    if has_lora(model):
        raise ValueError("model: it has an adapter already. Fix: `merge_lora(model)` first.")
    names = list(dict.fromkeys(encoders))
    if not names:
        raise ValueError(f"encoders: got none; choose from {', '.join(model.encoders)}.")
    wanted = None if layers is None else sorted(set(layers))
    blocks = {name: _blocks(model, name, wanted) for name in names}
    others = [name for name in names if isinstance(model.encoders[name].tower, PretrainedTower)]
    towers = [rf"{re.escape(name)}\.tower\.layers\.({blocks[name]})" for name in names if name not in others]
    targets = [rf"encoders\.({'|'.join(towers)})\.{LORA_MODULES[modules]}"] if towers else []
    targets += [_in_network(model, name, blocks[name], modules) for name in others]
    model.add_adapter(adapter_config(rank, "|".join(targets)), ADAPTER)


def _in_network(model: CodeBindModel, encoder: str, blocks: str, modules: str) -> str:
    """Linear layers in the blocks of a network of transformers, whose names are its own."""
    tower = model.encoders[encoder].tower
    block = re.compile(rf"{re.escape(tower.place_of_layers)}\.({blocks})\.")
    linear = [name for name, each in tower.network.named_modules() if isinstance(each, torch.nn.Linear)]
    chosen = [name for name in linear if block.match(name) and (modules == "all" or "att" in name)]
    if not chosen:
        raise ValueError(f"modules: {encoder!r} has no linear layer for {modules!r} in its blocks {blocks}.")
    return rf"encoders\.{re.escape(encoder)}\.tower\.backbone\.({'|'.join(map(re.escape, chosen))})"


def _blocks(model: CodeBindModel, encoder: str, layers: list[int] | None) -> str:
    """The numbers of the adapted blocks of one tower, as an alternative of a regular expression."""
    if encoder not in model.encoders:
        raise ValueError(f"encoders: {encoder!r} is not in this model, which has {', '.join(model.encoders)}.")
    count = len(model.encoders[encoder].tower.layers)
    if layers is None:
        layers = list(range(count - max(1, count // 2), count))
    if not count or not layers or layers[0] < 0 or layers[-1] >= count:
        raise ValueError(
            f"layers (lora_layers of a recipe): got {layers}; the tower of {encoder!r} has {count} "
            "blocks, counted from 0."
        )
    return "|".join(map(str, layers))


def merge_lora(model: CodeBindModel) -> CodeBindModel:
    """Add the adapter to the weights and remove it, in place: a plain model, the same up to rounding.

    Raises:
        ValueError: the model has no adapter, or merging would give weights that are not finite.
    """
    _check_lora(model)
    for name, module in model.named_modules():
        # Before anything is merged: a model with half of its adapter could be neither used nor saved.
        if isinstance(module, LoraLayer) and not module.get_delta_weight(ADAPTER).isfinite().all():  # type: ignore[attr-defined]
            raise ValueError(f"model: the adapter of {name} holds numbers that are not finite; nothing was merged.")
    take_out(model, merge=True)
    return model


def remove_lora(model: CodeBindModel) -> CodeBindModel:
    """Take the adapter out without merging it, in place: the towers are then the base's, bit for bit.

    Heads, CLS tokens, decoders and codebooks that learned beside the adapter stay as they are. A merged adapter cannot
    be taken out: adding and subtracting it rounds.

    Raises:
        ValueError: the model has no adapter.
    """
    _check_lora(model)
    take_out(model, merge=False)
    return model


def _check_lora(model: CodeBindModel) -> None:
    if not has_lora(model):
        raise ValueError("model: it has no adapter. Fix: `add_lora(...)` or `load_adapter(...)` first.")
    configs = model.peft_config
    if set(configs) != {ADAPTER} or configs[ADAPTER].peft_type != PeftType.LORA:
        got = ", ".join(f"{name!r} of type {config.peft_type.value}" for name, config in configs.items())
        raise ValueError(
            f"model: got the adapters {got}; allowed: one of type LORA, named {ADAPTER!r}. Fix: "
            "`model.add_adapter(LoraConfig(...))`, without a name."
        )
    if any(isinstance(module, BaseTunerLayer) and module.merged for module in model.modules()):
        raise ValueError("model: its adapter is merged and still there. Fix: `unmerge_adapter()`, or `merge_lora`.")


def check_trainable(model: CodeBindModel) -> None:
    """Refuse a model with an adapter of which something learns that no file of an adapter holds.

    Raises:
        ValueError: several adapters, or one of another kind than LoRA or that is merged; or a weight of a tower that
            learns beside it.
    """
    if not has_lora(model):
        return
    _check_lora(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".tower." in name and LORA_PART not in name and not name.endswith("cls_token"):
            raise ValueError(
                f"model: {name} learns beside an adapter, whose files hold nothing of a tower but LoRA and CLS token. "
                "Fix: `train_only(model, ..., mode='lora')`, `bias='none'`, or no adapter."
            )


def model_in(model: Any) -> Any:
    """What is trained of `model`: of PEFT's `get_peft_model` the model within, which carries the adapter.

    Its codebooks then stay as they are, unless they are among `modules_to_save`: PEFT's own files hold no others.

    Raises:
        ValueError: an adapter that mixes kinds or is no LoRA, or codebooks that were never started.
    """
    if not isinstance(model, (PeftModel, PeftMixedModel)):
        return model
    inner: Any = model.get_base_model()
    if isinstance(model, PeftMixedModel) or not has_lora(inner):
        raise ValueError(
            f"model: got a {type(model).__name__} without LoRA alone. Fix: `get_peft_model(LoraConfig())`."
        )
    _check_lora(inner)
    saved = [module for module in inner.modules() if isinstance(module, ModulesToSaveWrapper)]
    kept = {each for module in saved for each in module.modules()}
    for name, book in inner.named_modules():
        if isinstance(book, Codebook) and book not in kept:
            if not book.num_updates:
                raise ValueError(
                    f"model: {name} was never started, and PEFT's files hold no codebooks. Fix: train the model "
                    "first, or `model.add_adapter(LoraConfig(...))` in place of `get_peft_model`."
                )
            book.frozen = True
    return inner


def adapter_state(
    model: CodeBindModel, state_dict: Mapping[str, Tensor] | None = None, decoders: bool = True
) -> dict[str, Tensor]:
    """The adapter, and all that a frozen tower does not hold: CLS tokens, heads, decoders, scale and every buffer.

    Args:
        model: with an adapter, or without for what belongs to no adapter.
        state_dict: of the whole model, where it had to be gathered; `None` takes the model's own.
        decoders: `False` leaves them out.
    """
    state = dict(model.state_dict() if state_dict is None else state_dict)
    buffers = {name for name, _ in model.named_buffers()}
    beside = {
        name: value
        for name, value in state.items()
        if not _ADAPTED.search(name)
        if name in buffers or ".tower." not in name or name.endswith(".tower.cls_token")
        if decoders or not name.startswith(_DECODERS)
    }
    return {**(lora_state(model, state) if has_lora(model) else {}), **beside}


def save_adapter(
    model: CodeBindModel,
    folder: str | os.PathLike,
    state_dict: Mapping[str, Tensor] | None = None,
    decoders: bool = True,
) -> None:
    """Write the adapter with all that learns beside it, in PEFT's format, which PEFT and transformers load whole.

    The towers' own weights are not in it: it is loaded onto the checkpoint that training started from. The folder
    `architecture` holds the model's configuration, for a base whose own is smaller.

    Args:
        state_dict: as in `adapter_state`.
        decoders: `False` leaves them out, nine tenths of the file. No embedding needs them; to go on training does.

    Raises:
        ValueError: the model has no adapter, several, one of another kind, or one that is merged and still there.
    """
    _check_lora(model)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        f"{_PREFIX}{name}": value.contiguous() for name, value in adapter_state(model, state_dict, decoders).items()
    }
    towers = json.dumps(_fingerprints(model.state_dict() if state_dict is None else state_dict))
    with ordinary_permissions(folder):
        save_file(state, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt", _TOWERS: towers})
    model.peft_config[ADAPTER].save_pretrained(str(folder))
    model.config.save_pretrained(folder / ARCHITECTURE_FOLDER)


def load_adapter(model: CodeBindModel, folder: str | os.PathLike) -> None:
    """Load what `save_adapter` wrote onto its base model, in place; an adapter that is there takes the new values.

    Adapters of several modalities that were bound apart load one after the other and become one: of each but the first
    the LoRA is taken, with the heads, decoders and codes of its own encoders; everything else stays. Modalities that
    `model` was loaded without are left out. From a file without decoders the model keeps its own, and a warning says
    so.

    Raises:
        OSError: the folder holds no adapter.
        ValueError: the adapter is of another architecture or base, holds nothing but LoRA, or was trained beside
            another bridge than one that is there; the model is then as it was.
    """
    file = Path(folder) / SAFETENSORS_WEIGHTS_NAME
    for needed in (file, file.with_name(CONFIG_NAME)):
        if not needed.is_file():
            fix = "Fix: give the folder `save_adapter` wrote."
            raise OSError(f"{needed}: missing; this folder holds no adapter. {fix}")
    ignored = re.compile("|".join(model._keys_to_ignore_on_load_unexpected or ["(?!)"]))
    try:
        saved = {name.removeprefix(_PREFIX): value for name, value in load_file(file).items()}
        config = PeftConfig.from_pretrained(str(folder))
    except (SafetensorError, TypeError, KeyError, UnicodeError, JSONDecodeError) as error:
        raise OSError(f"{folder}: a file of the adapter is damaged ({error}). Fix: copy it again.") from error
    state = {name: value for name, value in saved.items() if not ignored.match(name)}
    held = lora_state(model) if has_lora(model) else {}
    if held and not lora_ranks(state).keys() <= lora_ranks(held).keys():
        check_base(model, folder, lora_encoders(held))
        join_adapter(model, state, _expected(model, saved, file), file)
        return
    # Of a model that was loaded without the adapted modalities, only what lies beside the adapter is left.
    is_new = not has_lora(model) and any(LORA_PART in name for name in state)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if is_new:
        config.inference_mode = False
        model.add_adapter(config, adapter_name=ADAPTER)
    own = _expected(model, saved, file)
    try:
        check_same(own, state, file)
        check_base(model, folder)
    except ValueError:
        if is_new:
            take_out(model, merge=False)
            # Adding the adapter froze everything.
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in learning)
        raise
    if has_lora(model):
        with torch.no_grad():
            set_peft_model_state_dict(model, state, adapter_name=ADAPTER)
    else:
        model.load_state_dict(state, strict=False)


def _expected(model: CodeBindModel, saved: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """What a file should hold for this model; decoders are left out where it has none, and a warning says so."""
    own = adapter_state(model)
    if any(name.startswith(_DECODERS) for name in saved):
        return own
    if any(name.startswith(_DECODERS) for name in own):
        logger.warning("%s: holds no decoders; reconstructions are those of the base.", file)
    return {name: value for name, value in own.items() if not name.startswith(_DECODERS)}


def _fingerprints(state: Mapping[str, Tensor]) -> dict[str, str]:
    """A short text for the type and weights of every tower, from some numbers of each of its tensors."""
    texts: dict[str, Any] = {}
    for name in sorted(state):
        room, _, rest = name.partition(".")
        if room == "encoders" and ".tower." in name and LORA_PART not in name and not name.endswith("cls_token"):
            values = state[name].detach().flatten()
            some = values[:: max(1, len(values) // _SAMPLES)].cpu()
            text = texts.setdefault(rest.partition(".")[0], hashlib.sha256())
            text.update(f"{name.replace('.base_layer.', '.')} {some.dtype} {tuple(values.shape)}".encode())
            text.update(some.double().numpy().tobytes())
    return {encoder: text.hexdigest() for encoder, text in texts.items()}


def check_base(model: CodeBindModel, folder: str | os.PathLike, but: Collection[str] = ()) -> None:
    """Refuse a base with other weights than the adapter was trained on, such as one that it is merged into.

    Files that `save_adapter` did not write do not say what they were trained on, and are not refused.

    Args:
        folder: of the adapter.
        but: encoders whose towers do not matter.

    Raises:
        ValueError: names the encoders, the digests of their towers here and there, and the base.
    """
    file = Path(folder) / SAFETENSORS_WEIGHTS_NAME
    if not file.is_file():
        return
    with safe_open(file, "pt") as archive:
        saved = json.loads((archive.metadata() or {}).get(_TOWERS, "{}"))
    own = _fingerprints(model.state_dict())
    wrong = [name for name, text in own.items() if name not in but and saved.get(name, text) != text]
    if wrong:
        digests = "; ".join(f"{name} {saved[name][:12]}, here {own[name][:12]}" for name in wrong)
        raise ValueError(
            f"{file}: was trained on other weights, or weights of another type, of the tower of {', '.join(wrong)} "
            f"(SHA-256 {digests}). Fix: load it onto the checkpoint that its training started from, not onto a merged "
            "one."
        )
