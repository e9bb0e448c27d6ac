"""Reading other projects' checkpoint files without running their code."""

import codecs
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


# What torch raises for a file of another kind depends on its first bytes.
_UNREADABLE = (RuntimeError, EOFError, KeyError, ValueError, IndexError, SafetensorError)
# What training loops write beside tensors: numbers that were numpy's, such as a learning rate or the best accuracy.
# Building one runs no code of the file. numpy 1 and 2 have different names for the function that does it.
_NUMBERS: list[Any] = [
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")),
    (codecs.encode, "_codecs.encode"),
]


class HoldsCode(ValueError):
    """A checkpoint that would run code, or make objects, if it were read as a pickle; it was not."""


def read_file(file: str | os.PathLike[str], mapped: bool = False) -> Mapping[str, Any]:
    """What a `.pth`, `.pt` or `.safetensors` file holds, on the CPU: tensors, and numbers and texts beside them.

    Pickles are read with `weights_only=True`: nothing in them is executed.

    Args:
        mapped: leave the numbers in the file until they are used, where its format allows it; for looking at names and
            shapes. The file must then stay as it is.

    Raises:
        OSError: the file is missing or cannot be read.
        HoldsCode: it holds more than tensors, numbers and texts.
        ValueError: it holds something other than a dictionary.
    """
    path = Path(file)
    if not path.is_file():
        raise OSError(f"{path}: no such file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_NUMBERS):
            # Files of before PyTorch 1.6 are no zip archives, which alone can be mapped.
            mapped = mapped and zipfile.is_zipfile(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        if "unsupported global" in str(error).lower():
            raise HoldsCode(
                f"{path.name}: holds more than tensors, and files with code are never executed. {_last_line(error)}"
            ) from error
        raise OSError(f"{path}: cannot be read as a checkpoint ({type(error).__name__}).") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path.name}: holds {type(content).__name__}; expected a dictionary of tensors.")
    return content


def read_tensors(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file that holds nothing else, read like `read_file`.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it holds something other than a dictionary of tensors.
    """
    return only_tensors(read_file(file), Path(file).name)


def only_tensors(content: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """`content` as a dictionary of its own, refused if it holds anything but tensors.

    Args:
        name: of the file, for the message.
    """
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name}: {key!r} is {type(value).__name__}; expected tensors only.")
    return dict(content)


def read_merged(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> dict[str, Tensor]:
    """The tensors of one file, or of several where a later file wins."""
    several = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    merged: dict[str, Tensor] = {}
    for file in several:
        merged.update(read_tensors(file))
    return merged


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
