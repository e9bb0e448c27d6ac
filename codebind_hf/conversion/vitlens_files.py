"""ViT-Lens's and OpenCLIP's files: four layouts of the same tensors, written as the merged file has them, and back."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codebind_hf.conversion.checkpoint_files import only_tensors, read_file
from codebind_hf.conversion.vitlens_keys import VITLENS_ENCODERS


# "merged": vitlensL.pt, every tower under `vitlens.<modality>.`. "single": one modality's tower under `visual.`, its
# image tower under `image.` and text at the root; without `image.`, OpenCLIP's own layout, whose `visual.` is the
# image tower. "backbone": the point tower alone, as OpenShape trained it for bigG.
LAYOUTS = ("merged", "single", "backbone")
SCALE = "logit_scale"
_MERGED = "vitlens."
_TEXT = f"{_MERGED}text."


def read_vitlens(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> dict[str, Tensor]:
    """The tensors of one file or several, by the keys of the merged layout.

    Several files may repeat a tower, as every file of a single modality repeats the bridge, if it is the same. Their
    temperature is that of the first file that has one.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file of another layout, or files whose towers differ.
    """
    several = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    if not several:
        raise ValueError("checkpoint: got an empty list; give a file, or a list of files.")
    merged: dict[str, Tensor] = {}
    for file in several:
        for key, tensor in merged_tensors(read_file(file), Path(file).name).items():
            if key != SCALE and key in merged and not torch.equal(merged[key], tensor):
                kinds = "" if merged[key].dtype == tensor.dtype else f", of {tensor.dtype} and {merged[key].dtype}"
                raise ValueError(
                    f"checkpoint: {Path(file).name} has another {key} than the files before it{kinds}. Fix: give "
                    "files of one bridge and type, and one file for every other modality."
                )
            merged.setdefault(key, tensor)
    return merged


def merged_tensors(content: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The tensors of one file by the keys of the merged layout; what a training loop wrote beside them is left out.

    Args:
        content: what `read_file` gave.
        name: of the file, for messages.

    Raises:
        ValueError: a file of another layout.
    """
    nested = content.get("state_dict", content)
    if not isinstance(nested, Mapping) or not nested:
        raise ValueError(f"{name}: its state_dict is {type(nested).__name__}; expected tensors by name.")
    tensors = only_tensors(nested, name)
    tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    prefixes = {key.partition(".")[0] for key in tensors}
    if "vitlens" in prefixes:
        return tensors
    if "backbone" in prefixes:
        return _from_backbone(tensors, content, name)
    if "visual" in prefixes or "token_embedding" in prefixes:
        return _from_single(tensors, name)
    known = "vitlens., visual. or backbone."
    raise ValueError(f"{name}: has keys such as {min(tensors)}; those of ViT-Lens and OpenCLIP begin with {known}")


def _from_single(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    tower = [key.removeprefix("visual.") for key in tensors if key.startswith("visual.")]
    has_image = any(key.startswith("image.") for key in tensors)
    rooms = {"image.": f"{_MERGED}image."}
    if tower:
        rooms["visual."] = f"{_MERGED}{modality_of(tower, has_image, name)}."
    renamed = {}
    for key, tensor in tensors.items():
        room = next((room for room in rooms if key.startswith(room)), "")
        renamed[key if key == SCALE else rooms.get(room, _TEXT) + key.removeprefix(room)] = tensor
    return renamed


def modality_of(tower: Iterable[str], has_image: bool, name: str) -> str:
    """Which modality's tower has these keys, by its tokenizer.

    Args:
        has_image: the file has an image tower beside it; a tower that is like one is then that of tactile.
        name: of the file, for the message.
    """
    keys = set(tower)
    has_lens = any(key.startswith("perceiver.") for key in keys)
    signs = {
        "visual_adapter.encoder.first_conv.0.weight": "pc",
        "visual_adapter.sa.mlp_convs.0.weight": "pc",
        "visual_adapter.proj.weight": "eeg",
        "visual_adapter.conv1.weight": "audio" if has_lens else "depth",
        "conv1.weight": "tactile" if has_image else "image",
    }
    found = [modality for key, modality in signs.items() if key in keys]
    if len(found) != 1:
        raise ValueError(
            f"{name}: its tower has no tokenizer that is known: {', '.join(signs)}. Fix: give the file as it was "
            "published."
        )
    return found[0]


def _from_backbone(tensors: Mapping[str, Tensor], content: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    if strange := [key for key in tensors if not key.startswith("backbone.")]:
        raise ValueError(f"{name}: has {strange[0]} beside its backbone; no rule says where it goes.")
    for part in ("text_proj", "image_proj"):
        if isinstance(content.get(part), Mapping) and content[part]:
            raise ValueError(
                f"{name}: has {part}, a projection of the features it was trained with; only files whose tower ends "
                "in CLIP's space can be converted."
            )
    point = f"{_MERGED}pc."
    renamed = {point + key.removeprefix("backbone."): tensor for key, tensor in tensors.items()}
    scale = content.get(SCALE)
    if isinstance(scale, Mapping):
        scale = next(iter(scale.values()), None)
    return renamed if scale is None else {**renamed, SCALE: torch.as_tensor(scale, dtype=torch.float32)}


def in_layout(tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Tensors with merged keys under the keys of another layout, the inverse of reading it.

    Raises:
        ValueError: an unknown layout, or one that has no room for these towers.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: got {layout!r}; allowed: {', '.join(map(repr, LAYOUTS))}.")
    towers = {key.split(".")[1] for key in tensors if key != SCALE}
    if layout == "merged":
        return {key: tensor for key, tensor in tensors.items() if key != SCALE}
    if layout == "backbone":
        _check_room(layout, towers, towers == {"pc"}, "a point tower and nothing else")
        rooms = {f"{_MERGED}pc.": "backbone."}
        return {_moved(key, rooms): tensor for key, tensor in tensors.items() if key != SCALE}
    targets = towers - {"text", "image"}
    _check_room(layout, towers, len(targets) < 2, "one modality beside text and image")
    rooms = {_TEXT: "", f"{_MERGED}image.": "image." if targets else "visual."}
    rooms |= {f"{_MERGED}{name}.": "visual." for name in targets}
    return {_moved(key, rooms): tensor for key, tensor in tensors.items()}


def _moved(key: str, rooms: Mapping[str, str]) -> str:
    return next((new + key.removeprefix(old) for old, new in rooms.items() if key.startswith(old)), key)


def _check_room(layout: str, towers: set[str], fits: bool, wanted: str) -> None:
    if not fits:
        held = ", ".join(name for name in VITLENS_ENCODERS if name in towers)
        raise ValueError(f"layout: got {layout!r} for towers of {held}; it holds {wanted}. Fix: 'merged' holds all.")
