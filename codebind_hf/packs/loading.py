"""Packs beside a bridge: what a pack brings gets its place in the model, and nothing else moves by a bit."""

import logging
import os
from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn

from codebind_hf.conversion.lora import LORA_PART, plain_state
from codebind_hf.model.bridges import is_foreign
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import ENCODERS, MODALITIES
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.packs.identity import differing_fields, differing_parts, is_same
from codebind_hf.packs.pack_files import HUB_OPTIONS, Pack, read_packs
from codebind_hf.packs.saving import decoder_shape, with_lora
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.processing_codebind import CodeBindProcessor


logger = logging.getLogger(__name__)

_Packs = Iterable[str | os.PathLike]
# Where a model keeps what belongs to one encoder.
_ROOMS = ("encoders", "decoders", "codebooks.specific")


def load_model(
    kind: type[CodeBindModel], bridge: Any, packs: _Packs, modalities: Iterable[str] | None, *args: Any, **kwargs: Any
) -> Any:
    """`kind.from_pretrained(bridge, packs=...)`: the bridge, and then the packs.

    Args:
        modalities: of bridge and packs; a pack none of whose modalities is named is left out.
        kwargs: of `from_pretrained`.

    Raises:
        ValueError: a pack that does not fit the bridge, a modality that two packs or pack and bridge hold, or a pack
            of a newer format.
        OSError: a pack that is not there, or damaged.
    """
    found = read_packs(packs, **_hub_options(kwargs))
    packed = {name: entry for pack in found for name, entry in pack.modalities.items()}
    wanted, is_whole = None if modalities is None else _listed(modalities), False
    if wanted is not None:
        # An encoder of which the pack holds only what changed needs the bridge's.
        own = [name for name in wanted if name not in packed or packed[name]["rest"]]
        if own:
            kwargs["modalities"] = own
        # What a bridge of others is, such as its temperature, is known only from its networks.
        elif kwargs.get("config") is None and is_foreign(bridge, **_hub_options(kwargs, "revision")):
            is_whole = True
        else:
            kwargs["config"] = _bare(kwargs.pop("config", None) or _config(kind, bridge, kwargs))
    loaded = kind.from_pretrained(bridge, *args, **kwargs)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    _add(model, found, wanted, str(bridge))
    if wanted is not None and is_whole:
        _leave_out(model, wanted)
    return loaded


def load_processor(kind: type[CodeBindProcessor], bridge: Any, packs: _Packs, *args: Any, **kwargs: Any) -> Any:
    """`kind.from_pretrained(bridge, packs=...)`: the bridge's processor, and then the packs'."""
    found = read_packs(packs, **_hub_options(kwargs))
    processor = kind.from_pretrained(bridge, *args, **kwargs)
    _add_to_processor(processor, found)
    return processor


def add_packs(model: CodeBindModel, packs: _Packs, **options: Any) -> None:
    """Load packs into a model that holds their bridge, in place.

    Args:
        options: of the Hub's client, as in `read_pack`.

    Raises:
        ValueError, OSError: as `load_model`; the model is then as it was, but for the packs before the wrong one.
    """
    _add(model, read_packs(packs, **options), None, str(model.config._name_or_path))


def add_packs_to_processor(processor: CodeBindProcessor, packs: _Packs, **options: Any) -> None:
    """Let a processor read the modalities of packs, in place.

    Raises:
        ValueError, OSError: as `load_model`.
    """
    _add_to_processor(processor, read_packs(packs, **options))


def _hub_options(kwargs: dict[str, Any], *also: str) -> dict[str, Any]:
    return {key: kwargs[key] for key in (*HUB_OPTIONS, *also) if key in kwargs}


def _listed(modalities: Iterable[str]) -> list[str]:
    if isinstance(modalities, str):
        raise ValueError(f"modalities: got the text {modalities!r}; give a list, such as [{modalities!r}].")
    return list(modalities)


def _config(kind: type[CodeBindModel], bridge: Any, kwargs: dict[str, Any]) -> CodeBindConfig:
    options = _hub_options(kwargs, "revision", "subfolder")
    return cast(CodeBindConfig, kind.config_class.from_pretrained(bridge, **options))  # type: ignore[union-attr]


def _bare(config: CodeBindConfig) -> CodeBindConfig:
    """A configuration without encoders: shared codes and temperature are left."""
    return type(config)(
        **{**config.to_dict(), **{f"{name}_config": None for name in ENCODERS}, "added_encoders": None}
    )


def _leave_out(model: CodeBindModel, wanted: list[str]) -> None:
    """Take away the encoders that none of the `wanted` modalities needs."""
    kept = {model.config.modality(name).encoder for name in wanted}
    for encoder in [name for name in model.config.encoder_configs if name not in kept]:
        for room in _ROOMS:
            modules = cast(nn.ModuleDict, model.get_submodule(room))
            if encoder in modules:
                del modules[encoder]
        setattr(model.config, f"{encoder}_config", None)
    model._ignore_what_is_not_held()


def _add(model: CodeBindModel, packs: list[Pack], wanted: list[str] | None, bridge: str) -> None:
    for pack in packs:
        chosen = [name for name in pack.modalities if wanted is None or name in wanted]
        if chosen:
            _check_fit(model, pack, bridge)
            tensors = pack.tensors()
            for name in chosen:
                _add_modality(model, pack, name, tensors)


def _check_fit(model: CodeBindModel, pack: Pack, bridge: str) -> None:
    """Refuse a pack that was bound to another bridge."""
    other = f"packs: {pack.name!r} was bound to another bridge than {bridge or 'this model'}"
    fix = f"Fix: load it beside {pack.bridge['name']!r}, or bind the modality to this bridge."
    if fields := differing_fields(pack.bridge, model.config):
        raise ValueError(f"{other}: {'; '.join(fields)}. {fix}")
    differing, compared = differing_parts(pack.bridge["parts"], model)
    if not compared:
        logger.warning("packs: %s: the model holds nothing of its bridge, so that it cannot be compared.", pack.name)
    if differing:
        names = " and ".join(part.replace("_", " ") for part in differing)
        raise ValueError(f"{other}: the weights of {names} differ. {fix}")


def _add_modality(model: CodeBindModel, pack: Pack, name: str, tensors: dict[str, Tensor]) -> None:
    entry = pack.modalities[name]
    encoder = entry["encoder"]
    _check_place(model, pack, name, entry)
    rest = _rest(model, pack, name, entry, tensors)
    rooms = {room: cast(nn.ModuleDict, model.get_submodule(room)) for room in _ROOMS}
    before = {room: modules[encoder] for room, modules in rooms.items() if encoder in modules}
    field = f"{encoder}_config" if encoder in ENCODERS else "added_encoders"
    kept = getattr(model.config, field)
    is_training = model.training
    try:
        for room in before:
            del rooms[room][encoder]
        _configure(model.config, pack, name, entry)
        model._build_encoder(encoder, model.config.encoder_configs[encoder])
        model.codebooks.add_encoder(encoder, model.config)
        own = _tensors_of(encoder, tensors, rest)
        for room, modules in rooms.items():
            place = f"{room}.{encoder}."
            mine = {key.removeprefix(place): value for key, value in own.items() if key.startswith(place)}
            if encoder in modules:
                modules[encoder].load_state_dict(mine)
                modules[encoder].to(model.device, model.dtype).train(is_training)
        model._ignore_what_is_not_held()
    except Exception as error:
        for room, modules in rooms.items():
            if encoder in modules:
                del modules[encoder]
            if room in before:
                modules[encoder] = before[room]
        setattr(model.config, field, kept)
        if isinstance(error, (RuntimeError, TypeError, KeyError)):
            raise OSError(f"packs: {pack.name!r} does not hold the {name} that it names ({_line(error)}).") from error
        raise


def _check_place(model: CodeBindModel, pack: Pack, name: str, entry: dict[str, Any]) -> None:
    has_it = entry["encoder"] in model.encoders
    if has_it and not entry["is_in_bridge"]:
        others = ", ".join(other for other in model.config.modalities if other != name)
        raise ValueError(
            f"packs: {pack.name!r} holds {name!r}, which the model has already. Fix: leave one of them out, the "
            f"model's by a checkpoint without it (`modalities=` of {others})."
        )
    if any(LORA_PART in key for key, _ in model.named_parameters() if key.startswith(f"encoders.{entry['encoder']}.")):
        raise ValueError(
            f"packs: {pack.name!r} holds {name!r}, of which the model carries an adapter. Fix: `merge_lora(model)` or "
            "`remove_lora(model)` first."
        )
    if not has_it and entry["rest"] is not None:
        raise ValueError(
            f"packs: {pack.name!r} holds what changed of the bridge's own {name!r}, which this model lacks. Fix: load "
            f"it beside the whole {pack.bridge['name']!r}."
        )


def _rest(
    model: CodeBindModel, pack: Pack, name: str, entry: dict[str, Any], tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of an encoder that the pack left in the bridge."""
    if entry["rest"] is None:
        return {}
    room = f"encoders.{entry['encoder']}."
    state = {key: value for key, value in plain_state(model).items() if key.startswith(room) and key not in tensors}
    if not is_same(entry["rest"], state):
        raise ValueError(
            f"packs: {pack.name!r} was trained on another {name!r} than this model's. Fix: load it beside "
            f"{pack.bridge['name']!r}, into which nothing is merged."
        )
    return {key: value.detach().clone() for key, value in state.items()}


def _tensors_of(encoder: str, tensors: dict[str, Tensor], rest: dict[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of an encoder, LoRA merged."""
    rooms = tuple(f"{room}.{encoder}." for room in _ROOMS)
    own = {**rest, **{key: value for key, value in tensors.items() if key.startswith(rooms)}}
    for key in [key for key in own if key.endswith(".lora_A.weight")]:
        module = key.removesuffix(".lora_A.weight")
        down, up = own.pop(key), own.pop(f"{module}.lora_B.weight")
        weight = own[f"{module}.weight"]
        own[f"{module}.weight"] = with_lora(weight, down.to(weight.device), up.to(weight.device))
    return own


def _configure(config: CodeBindConfig, pack: Pack, name: str, entry: dict[str, Any]) -> None:
    """Write the encoder into a configuration, without a decoder where the pack's would not fit."""
    encoder, fields = entry["encoder"], dict(entry["config"])
    fields["has_decoder"] = bool(fields.get("has_decoder")) and pack.decoders == decoder_shape(config)
    try:
        if encoder in ENCODERS:
            made = config.sub_configs_defaults[f"{encoder}_config"].config_class(**fields)
            made._attn_implementation = config._attn_implementation
            setattr(config, f"{encoder}_config", made)
        else:
            config.added_encoders = {**(config.added_encoders or {}), name: fields}
        config.validate()
    except Exception as error:
        fix = "Fix: `pip install --upgrade codebind-hf`, if a newer version wrote it."
        raise ValueError(
            f"packs: the encoder of {name!r} in {pack.name!r} cannot be built: {_line(error)} {fix}"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _add_to_processor(processor: CodeBindProcessor, packs: list[Pack]) -> None:
    for pack in packs:
        for name, entry in pack.modalities.items():
            has_it = name in processor.modalities or name in processor.added_modalities
            if has_it and not entry["is_in_bridge"]:
                raise ValueError(
                    f"packs: {pack.name!r} holds {name!r}, which the processor has already. Fix: leave one out."
                )
            fields = {key: value for key, value in entry["processor"].items() if key != "name"}
            if name in MODALITIES:
                _set_part(processor, name, fields)
            else:
                processor.added_modalities.pop(name, None)
                processor.add_modality(name, **fields)


def _set_part(processor: CodeBindProcessor, name: str, fields: dict[str, Any]) -> None:
    """Give a built-in modality the sub-processor that was saved."""
    part = processor.part(argument_of(name))
    (attribute,) = [each for each in processor.get_attributes() if getattr(processor, each) is part]
    kind = processor.get_possibly_dynamic_module(
        fields.get("image_processor_type") or fields["feature_extractor_type"]
    )
    setattr(processor, attribute, kind.from_dict(fields))
    processor.modalities = [each for each in MODALITIES if each in {*processor.modalities, name}]
