"""An experiment of the official CodeBind to a `CodeBindModel`, and back."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codebind_hf.conversion.architectures import reference_fields
from codebind_hf.conversion.checkpoint_files import read_merged
from codebind_hf.conversion.codebind_files import Experiment, file_of, read_experiment
from codebind_hf.conversion.imagebind import empty_model, filled
from codebind_hf.conversion.imagebind_keys import CODEBIND_ENCODERS, CODEBIND_KEYS
from codebind_hf.conversion.key_map import MissingKeys
from codebind_hf.conversion.lora import add_released_lora, merge_released_lora, plain_state, released_lora
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modeling_codebind import CodeBindModel


logger = logging.getLogger(__name__)

LORA = ("merge", "adapter")
# The released decoders always have 8 heads, whatever their width.
_DECODER_HEADS = 8
_SCALE = "logit_scale.log_scale"


def convert_codebind(
    experiment: str | os.PathLike[str],
    base: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    architecture: Mapping[str, Any] | None = None,
    which: str = "best",
    lora_which: str | None = None,
    lora: str = "merge",
    parity: bool = False,
) -> CodeBindModel:
    """An experiment directory of Visual-AI/CodeBind@bba682e and its base as one model.

    Args:
        experiment: the directory that the official training wrote: `checkpoints/imagebind-<module>-<modality>_*.pth`.
        base: `imagebind_huge.pth`, or several files merged in order (the official code saves the EEG trunk nowhere).
        architecture: keyword arguments of the reference's constructor, `eeg_data_len` and `eeg_patch_size`; default:
            the Huge sizes. Sizes of heads, codebooks and decoders follow from their tensors.
        which: "best" or "last" files.
        lora_which: the same for LoRA; default: as `which`. The official loader reads "last" whatever it was told.
        lora: "merge" adds LoRA to the weights; "adapter" keeps it as a PEFT adapter named "default".
        parity: turn on the released behaviour of losses and codebook updates, with the experiment's own weights.

    Returns:
        The model with the experiment's encoders, in evaluation mode. Its codes keep their own norms, its decoders see
        tokens beside codes, and `logit_scale` is the inverse of the temperature that the experiment trained with.

    Raises:
        OSError: a folder or file is missing or unreadable.
        ValueError: an unknown or missing key or file, a wrong shape, or a wrong argument; all are named.
    """
    if lora not in LORA:
        raise ValueError(f"lora: got {lora!r}; allowed: {', '.join(map(repr, LORA))}.")
    read = read_experiment(Path(experiment), which, which if lora_which is None else lora_which)
    config = experiment_config(read, architecture, parity)
    source = _with_base(read, base)
    model = empty_model(config)
    wanted = {key: value for key, value in model.state_dict().items() if key != _SCALE}
    tensors, scales = _converted(source, wanted)
    tensors[_SCALE] = torch.tensor([_log_scale(read, scales)])
    if lora == "merge":
        merge_released_lora(tensors, read.lora)
    filled(model, tensors, scales)
    if lora == "adapter" and read.lora:
        add_released_lora(model, read.lora)
    return model


def revert_codebind(model: CodeBindModel) -> dict[str, dict[str, Tensor]]:
    """The tensors of a converted model as the official files hold them, bit for bit: by file, then by key.

    Trunks are under `imagebind-trunks-<modality>` and LoRA, if the model keeps it as an adapter, under
    `imagebind-lora-<modality>`. Tensors that the official code never uses are gone.

    Raises:
        ValueError: the model has tensors that the official layout has no place for.
    """
    state = {key: value for key, value in plain_state(model).items() if key != _SCALE}
    files: dict[str, dict[str, Tensor]] = {}
    for key, value in CODEBIND_KEYS.revert(state, model.config.source_scales).items():
        file, name = file_of(key)
        files.setdefault(file, {})[name] = value
    for encoder, tensors in released_lora(model).items():
        files[f"imagebind-lora-{encoder}"] = tensors
    return files


def released_loss_weights(options: Mapping[str, Any]) -> dict[str, float] | None:
    """Loss weights of the released configuration by our names of the terms; `None` when it names none."""
    terms = {
        "commit": "loss_vq_weight",
        "cm": "loss_cmcm_weight",
        "cctr": "loss_vq_reg_weight",
        "cuni": "loss_vq_reg_weight",
        "orth": "loss_modal_decomp_weight",
        "uni": "loss_uniform_weight",
    }
    weights = {term: float(options[key]) for term, key in terms.items() if key in options}
    return {"recon": 1.0, **weights} if weights else None


def _converted(source: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    try:
        return CODEBIND_KEYS.convert(source, wanted)
    except MissingKeys as error:
        if "modality_trunks." not in str(error):
            raise
        fix = "Fix: a trunk that the experiment did not save, as that of EEG, is a further file of `base`."
        raise MissingKeys(f"{error} {fix}") from error


def _with_base(read: Experiment, base: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> dict[str, Tensor]:
    """Tensors of the base that belong to the experiment's encoders, under those of the experiment."""
    source = read_merged(base)
    for key in list(source):
        module, _, rest = key.partition(".")
        name = rest.partition(".")[0]
        if module.startswith("modality_") and name in CODEBIND_ENCODERS and name not in read.encoders:
            del source[key]
    source.update(read.tensors)
    return source


def _log_scale(read: Experiment, scales: Mapping[str, float]) -> float:
    if "temperature" in read.options:
        return -math.log(float(read.options["temperature"]))
    return scales.get("modality_postprocessors_new.text.log_logit_scale", math.log(1 / 0.07))


def experiment_config(
    read: Experiment, architecture: Mapping[str, Any] | None = None, parity: bool = False
) -> CodeBindConfig:
    """The configuration that the experiment's tensors and options imply."""
    fields = reference_fields("codebind-ib-huge", architecture, read.encoders)
    books = read.shapes("vector_quantise.mvq_dict.")
    fields["num_shared_codes"], fields["code_dim"] = books["common.embedding.weight"]
    for name in read.encoders:
        if name != "text":
            fields[f"{name}_config"].update(_encoder_sizes(read, name, books, fields["code_dim"]))
    for field in ("specific_dim", "num_specific_codes"):
        fields[field] = fields["vision_config"][field]
    fields["decoder_config"] = _decoder_fields(read, fields["decoder_config"])
    weights = released_loss_weights(read.options)
    if weights and not parity and "commit" in weights:
        weights["commit"] = _commit_of_segments(weights["commit"], fields)
    own_norms = {"normalize_codes": False, "parity_losses": parity, "parity_codebooks": parity}
    return CodeBindConfig(**{**fields, **own_norms, "loss_weights": weights})


def _commit_of_segments(weight: float, fields: Mapping[str, Any]) -> float:
    """The released weight of `commit`, a mean over single numbers, as that of our mean over segments."""
    width = fields["code_dim"]
    others = [name for name, value in fields.items() if isinstance(value, dict) and value.get("specific_code_dim")]
    if others:
        logger.warning(
            "loss_weights: 'commit' is the released weight for codes of %d numbers; %s has specific codes of another "
            "width, which it weighs otherwise than the released code. Fix: parity=True, to compare losses with it.",
            width,
            ", ".join(name.removesuffix("_config") for name in others),
        )
    return weight / width


def _encoder_sizes(read: Experiment, name: str, books: Mapping[str, tuple[int, ...]], code_dim: int) -> dict[str, Any]:
    (projection,) = [shape for shape in read.shapes(f"modality_heads_mvq.{name}.").values() if len(shape) == 2]
    decoder = read.shapes(f"decoder_trunk.{name}.")
    num_codes, width = books[f"{name}.embedding.weight"]
    return {
        "specific_dim": projection[0],
        "specific_code_dim": None if width == code_dim else width,
        "num_specific_codes": num_codes,
        "has_decoder": bool(decoder),
        "decoder_hidden_size": decoder["decoder_embed.weight"][0] if decoder else None,
    }


def _decoder_fields(read: Experiment, preset: dict[str, Any]) -> dict[str, Any] | None:
    """Depth and MLP width of the decoders, which all share; `None` without any."""
    for name in read.encoders:
        decoder = read.shapes(f"decoder_trunk.{name}.")
        if decoder:
            depth = len({key.split(".")[1] for key in decoder if key.startswith("decoder_blocks.")})
            width = decoder["decoder_embed.weight"][0]
            sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": _DECODER_HEADS}
            return {**preset, **sizes}
    return None
