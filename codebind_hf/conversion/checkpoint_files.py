"""Reading other projects' checkpoint files without running their code."""

import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


# What torch raises for a file of another kind depends on its first bytes.
_UNREADABLE = (RuntimeError, EOFError, KeyError, ValueError, IndexError, SafetensorError)


def read_tensors(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file, on the CPU.

    Pickles are read with `weights_only=True`: nothing in them is executed.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it holds something other than a dictionary of tensors.
    """
    path = Path(file)
    if not path.is_file():
        raise OSError(f"{path}: no such file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        if "unsupported global" in str(error).lower():
            raise ValueError(
                f"{path.name}: holds more than tensors, and files with code are never executed. {_last_line(error)}"
            ) from error
        raise OSError(f"{path}: cannot be read as a checkpoint ({type(error).__name__}).") from error
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{path.name}: holds {type(tensors).__name__}; expected a dictionary of tensors.")
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{path.name}: {key!r} is {type(value).__name__}; expected tensors only.")
    return dict(tensors)


def read_merged(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> dict[str, Tensor]:
    """The tensors of one file, or of several where a later file wins."""
    several = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    merged: dict[str, Tensor] = {}
    for file in several:
        merged.update(read_tensors(file))
    return merged


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
