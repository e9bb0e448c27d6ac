"""ImageBind's published checkpoint to a `CodeBindModel`, and back."""

import os
from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from codebind_hf.conversion.architectures import reference_fields
from codebind_hf.conversion.checkpoint_files import read_tensors
from codebind_hf.conversion.imagebind_keys import IMAGEBIND_ENCODERS, IMAGEBIND_KEYS
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modeling_codebind import CodeBindModel


def convert_imagebind(
    checkpoint: str | os.PathLike[str], architecture: Mapping[str, Any] | None = None
) -> CodeBindModel:
    """`imagebind_huge.pth` as a model without specific part and codebook, whose embeddings are ImageBind's.

    Args:
        checkpoint: a state dict of facebookresearch/ImageBind@53680b0, `.pth` or `.safetensors`.
        architecture: keyword arguments of the reference's `ImageBindModel`; default: ImageBind-Huge.

    Returns:
        The model in evaluation mode. ImageBind's constant scales per modality, which no unit embedding depends on, are
        in `config.source_scales`; the learned one of text is `logit_scale`.

    Raises:
        OSError: the file is missing or unreadable.
        ValueError: an unknown or missing key, a wrong shape (all named), or an unknown architecture argument.
    """
    config = CodeBindConfig(**reference_fields("ib-huge", architecture, IMAGEBIND_ENCODERS))
    source = read_tensors(checkpoint)
    model = empty_model(config)
    tensors, scales = IMAGEBIND_KEYS.convert(source, model.state_dict())
    return filled(model, tensors, scales)


def revert_imagebind(model: CodeBindModel) -> dict[str, Tensor]:
    """ImageBind's state dict from a model that `convert_imagebind` made, bit for bit.

    Only the causal mask of text is left out; it is a constant.
    """
    return IMAGEBIND_KEYS.revert(model.state_dict(), model.config.source_scales)


def empty_model(config: CodeBindConfig) -> CodeBindModel:
    """A model on the meta device: shapes without memory."""
    with torch.device("meta"):
        return CodeBindModel(config)


def filled(model: CodeBindModel, tensors: Mapping[str, Tensor], scales: Mapping[str, float]) -> CodeBindModel:
    """`model` with these tensors for its own, in evaluation mode.

    They are not copied, unless their types differ: codebooks become float32 always, and weights of several types the
    widest of them, which changes no value. Weights that the original shared become copies of their own.
    """
    kept = {name for name, _ in model.named_parameters()}
    widest = reduce(torch.promote_types, {x.dtype for name, x in tensors.items() if name.startswith("encoders.")})
    typed = {
        name: x.to(widest) if name in kept else x.float() if x.is_floating_point() else x
        for name, x in tensors.items()
    }
    taken: set[int] = set()
    for name, x in typed.items():
        if (place := x.untyped_storage().data_ptr()) in taken:
            typed[name] = x.clone()
        taken.add(place)
    model.load_state_dict(typed, assign=True)
    model.config.source_scales = dict(scales) or None
    return model.eval()
