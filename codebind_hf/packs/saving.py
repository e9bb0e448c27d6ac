"""What of a model goes into a pack: the encoders that were bound, without what the bridge has as well."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedConfig

from codebind_hf.conversion.lora import LORA_PART
from codebind_hf.evaluation.environment import package_version
from codebind_hf.evaluation.writing import write_text
from codebind_hf.model.configuration_base import CodeBindBaseConfig
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import BRIDGE_ENCODERS
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.pretrained_model import ordinary_permissions
from codebind_hf.packs.identity import SHARED_CODES, bridge_tensors, fingerprint, layout_of, readings_of
from codebind_hf.packs.pack_card import write_pack_card
from codebind_hf.packs.pack_files import PACK_FILE, WEIGHTS_FILE, Pack, as_json, hash_of, read_pack
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.processing_codebind import CodeBindProcessor


# What an encoder of the pack would otherwise take from its model's configuration, where it may be something else.
_INHERITED = ("specific_dim", "specific_code_dim", "num_specific_codes", "specific_readout")
# What the library writes beside the parameters of a processor, and how code of a checkpoint is found.
_NOT_PARAMETERS = ("auto_map", "processor_class")


def save_pack(
    model: CodeBindModel,
    folder: str | os.PathLike,
    modalities: Iterable[str],
    processor: CodeBindProcessor,
    bridge: str | os.PathLike | None = None,
    decoders: bool = False,
    license: str = "apache-2.0",
    name: str | None = None,
) -> Pack:
    """Write the encoders of `modalities`, their codes and their preprocessing, for whoever has the same bridge.

    The bridge is text, vision and the shared codes; none of them is in the pack. A pack loads beside any model that
    has the same ones, whatever else that model holds.

    Args:
        model: holds the bridge and the modalities. LoRA that is not merged stays LoRA where its tower is the
            bridge's own, and is merged in the file otherwise; `model` is left as it is.
        folder: for `pack.json`, `model.safetensors` and the card.
        processor: of the model.
        bridge: the checkpoint that was bound to, a folder or a name on the Hub. Tensors of the encoders that it holds
            too are left out of the pack, such as a tower that was frozen. `None` leaves out nothing.
        decoders: also write decoders, which no embedding needs.
        license: of the weights, for the card.
        name: of the pack, for the card; `None` is that of the folder.

    Raises:
        ValueError: no modality, one that the model lacks or that is the bridge, or a model whose bridge is not
            `bridge`.
        OSError: the folder cannot be written, or `bridge` cannot be read.
    """
    names = _checked(model, modalities)
    folder = Path(folder)
    stored = _stored_tensors(bridge)
    parts = bridge_tensors(model)
    _check_bridge(parts, stored, str(bridge))
    entries, tensors = {}, {}
    for modality in names:
        entries[modality], own = _packed(model, processor, modality, stored, decoders)
        tensors.update(own)
    config = model.config
    has_decoders = any(key.startswith("decoders.") for key in tensors)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{WEIGHTS_FILE}"
    with ordinary_permissions(folder):
        save_file(tensors, draft, metadata={"format": "pt"})
        os.replace(draft, folder / WEIGHTS_FILE)
    found = {
        "codebind_hf": package_version(),
        "bridge": {
            "name": bridge_name(bridge if bridge is not None else config._name_or_path),
            "layout": layout_of(config),
            "readings": readings_of(config),
            "parts": {part: fingerprint(own) for part, own in parts.items()},
        },
        "modalities": entries,
        "decoders": decoder_shape(config) if has_decoders else None,
        "sha256": hash_of(folder / WEIGHTS_FILE),
    }
    write_text(folder / PACK_FILE, as_json(found))
    pack = read_pack(folder)
    write_pack_card(pack, name, license)
    return pack


def bridge_name(bridge: str | os.PathLike) -> str:
    """What a bridge is called in a pack: its name on the Hub, or of the run or folder that it lies in."""
    if not os.path.isdir(bridge):
        return str(bridge)
    folder = Path(bridge).resolve()
    return folder.parent.name if folder.name == "checkpoint" else folder.name


def decoder_shape(config: CodeBindConfig) -> dict[str, Any] | None:
    """What decoders of this configuration fit; `None` without decoders."""
    if config.decoder_config is None:
        return None
    return {"decoder_config": own_fields(config.decoder_config), "decoder_inputs": config.decoder_inputs}


def own_fields(config: Any) -> dict[str, Any]:
    """All fields of a configuration that are not the library's, with their defaults, which a version may change."""
    library = {*PreTrainedConfig.__dataclass_fields__, *CodeBindBaseConfig.__annotations__}
    return {
        name: _plain(getattr(config, name))
        for name in sorted(type(config).__dataclass_fields__)
        if name not in library
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _checked(model: CodeBindModel, modalities: Iterable[str]) -> list[str]:
    names = [modalities] if isinstance(modalities, str) else list(dict.fromkeys(modalities))
    if not names:
        raise ValueError(f"modalities: got none; choose from {', '.join(model.config.modalities)}.")
    for name in names:
        if model.config.modality(name).encoder in BRIDGE_ENCODERS:
            raise ValueError(f"modalities: got {name!r}, which is the bridge; a pack holds what was bound to it.")
    return names


def _check_bridge(parts: dict[str, dict[str, Tensor]], stored: "_Stored", bridge: str) -> None:
    """Refuse a model in which the bridge has moved: its pack would be bound to a bridge that nobody has."""
    moved = [
        part
        for part, tensors in parts.items()
        for name, value in tensors.items()
        if stored.has(name) and not stored.is_same(name, value)
    ]
    if moved:
        what = " and ".join(part.replace("_", " ") for part in dict.fromkeys(moved))
        fix = "learning shared codes move everything" if moved[0] == SHARED_CODES else "freeze the bridge"
        raise ValueError(
            f"bridge: {what} of the model are not those of {bridge}, so nobody who has it could load the pack. Fix: "
            f"bind with a frozen bridge and frozen shared codes ({fix}), or save the whole model."
        )


def _packed(
    model: CodeBindModel, processor: CodeBindProcessor, name: str, stored: "_Stored", decoders: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The entry of a modality, and its tensors on the CPU."""
    encoder = model.config.modality(name).encoder
    own, rest = dict[str, Tensor](), dict[str, Tensor]()
    for key, value, lora in _encoder_tensors(model, encoder):
        if stored.has(key) and stored.is_same(key, value):
            rest[key] = value
            own.update(lora)
        else:
            own[key] = _merged(value, lora) if lora else value
    kept = [f"codebooks.specific.{encoder}."] + ([f"decoders.{encoder}."] if decoders else [])
    own.update((key, value) for key, value in model.state_dict().items() if key.startswith(tuple(kept)))
    config = model.config.encoder_configs[encoder]
    has_decoder = any(key.startswith("decoders.") for key in own)
    shape = model.config
    settled = {
        "specific_dim": shape.specific_dim_of(encoder),
        "specific_code_dim": shape.code_dim_of("specific", encoder),
        "num_specific_codes": shape.num_specific_codes_of(encoder),
        "specific_readout": shape.specific_readout_of(encoder),
        "has_decoder": has_decoder,
    }
    if config.stem == "pretrained":
        # Its weights are in the pack, not where the model found them.
        settled["backbone_weights"] = "saved"
    entry = {
        "encoder": encoder,
        "config": {**own_fields(config), **settled},
        "processor": _processor_fields(processor, name),
        "is_in_bridge": stored.has_any(f"encoders.{encoder}."),
        "rest": fingerprint(rest) if rest else None,
    }
    return entry, {key: value.detach().cpu().contiguous().clone() for key, value in own.items()}


def _encoder_tensors(model: CodeBindModel, encoder: str) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
    """Name, weight and, where there is an adapter, its `<module>.lora_A.weight` and `lora_B.weight`."""
    room = f"encoders.{encoder}."
    state = {key: value for key, value in model.state_dict().items() if key.startswith(room)}
    for key, value in state.items():
        if LORA_PART in key:
            continue
        plain = key.replace(".base_layer.", ".")
        module = plain.removesuffix(".weight")
        pair = {
            f"{module}.lora_{side}.weight": found
            for side in ("A", "B")
            for found in [x for name, x in state.items() if name.startswith(f"{module}.lora_{side}.")]
            if plain.endswith(".weight")
        }
        yield plain, value, pair


def with_lora(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """A weight with its LoRA merged, as PEFT does it; adapters of this package have no scale."""
    return (weight.float() + up.float() @ down.float()).to(weight.dtype)


def _merged(weight: Tensor, lora: dict[str, Tensor]) -> Tensor:
    down, up = (next(x for name, x in lora.items() if f".lora_{side}." in name) for side in ("A", "B"))
    return with_lora(weight, down, up)


def _processor_fields(processor: CodeBindProcessor, name: str) -> dict[str, Any]:
    """Parameters of a modality's preprocessing, with the class of a built-in one."""
    if name in processor.added_modalities:
        fields = processor.added_modalities[name]
    elif name in processor.modalities:
        fields = processor.part(argument_of(name)).to_dict()
    else:
        known = ", ".join([*processor.modalities, *processor.added_modalities])
        raise ValueError(f"processor: it does not read {name!r}, only {known}. Fix: give the processor of the model.")
    return {key: _plain(value) for key, value in fields.items() if key not in _NOT_PARAMETERS}


class _Stored:
    """Tensors of a checkpoint, each read when it is compared."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files: dict[str, Path] = {}
        for file in files:
            with safe_open(file, "pt") as archive:
                self._files.update(dict.fromkeys(archive.keys(), file))

    def has(self, name: str) -> bool:
        return name in self._files

    def has_any(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self._files)

    def is_same(self, name: str, value: Tensor) -> bool:
        """Whether it is `value`, in the type of `value`."""
        with safe_open(self._files[name], "pt") as archive:
            return torch.equal(archive.get_tensor(name).to(value.dtype), value.detach().cpu())


def _stored_tensors(bridge: str | os.PathLike | None) -> _Stored:
    if bridge is None:
        return _Stored([])
    folder = Path(bridge)
    if not folder.is_dir():
        folder = Path(snapshot_download(str(bridge), allow_patterns=["*.safetensors"]))
    return _Stored(sorted(folder.glob("*.safetensors")))
