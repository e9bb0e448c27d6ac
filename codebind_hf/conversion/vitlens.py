"""ViT-Lens's and OpenCLIP's checkpoints to a `CodeBindModel`, and back."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from codebind_hf.conversion.imagebind import empty_model, filled
from codebind_hf.conversion.vitlens_architectures import vitlens_fields
from codebind_hf.conversion.vitlens_files import SCALE, in_layout, read_vitlens
from codebind_hf.conversion.vitlens_keys import VITLENS_KEYS
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modeling_codebind import CodeBindModel


_OUR_SCALE = "logit_scale.log_scale"


def convert_vitlens(
    checkpoint: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    architecture: Mapping[str, Any] | None = None,
) -> CodeBindModel:
    """`vitlensL.pt`, files of single modalities, bigG files and OpenCLIP: a model without specific part and codebook.

    Its embeddings are those of TencentARC/ViT-Lens@2b4f2e0, except that farthest point sampling starts at point 0.
    (The original draws a random start, also in evaluation: `{"tokenizer": {"pc": {"fps_start_index": "random"}}}`.)

    Args:
        checkpoint: a file, or several that share a bridge: `["bigG14_sk16_openshape_all.pt", "open_clip.bin"]`.
            Numbers that a training loop saved beside the tensors are read and left out.
        architecture: what shapes do not tell, for models other than the published ones: `backbone`, `text`, `lens` and
            `tokenizer`, each a dictionary, such as `{"backbone": {"heads": 4}}` or `{"tokenizer": {"pc": {"npoints":
            2048, "num_group": 64, "group_size": 16}}}`. What it says of shapes must be true.

    Returns:
        The model in evaluation mode, with the modalities that the files have. `logit_scale` is that of the
        checkpoint, of `architecture`, or (the merged file has none) the log of 100.

    Raises:
        OSError: a file is missing or unreadable.
        ValueError: an unknown or missing key, a wrong shape, files that do not belong together, a lens that may be
            tied or not, or an architecture that is unknown, incomplete or untrue; the message names it.
    """
    source = read_vitlens(checkpoint)
    model = empty_model(CodeBindConfig(**vitlens_fields(source, architecture)))
    source.setdefault(SCALE, torch.tensor(float(model.config.logit_scale_init_value)))
    tensors, _ = VITLENS_KEYS.convert(source, model.state_dict())
    return filled(model, tensors, {})


def revert_vitlens(model: CodeBindModel, layout: str = "merged") -> dict[str, Tensor]:
    """The original's tensors from a model that `convert_vitlens` made, bit for bit.

    Args:
        layout: of the keys: "merged" (vitlensL.pt, which has no temperature), "single" (one modality beside text and
            image; without one, OpenCLIP's own), or "backbone" (bigG, the point tower).

    Raises:
        ValueError: an unknown layout or one without room for the model's modalities, or tensors that the original has
            not.
    """
    state = model.state_dict()
    return in_layout(VITLENS_KEYS.revert(state, None), layout)
