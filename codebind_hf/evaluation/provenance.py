"""Which checkpoint is this? A digest that reports, cards and pictures carry, and that publishing compares."""

import hashlib
import os
from pathlib import Path


# Written about a checkpoint after it is done, or beside it by those who train on.
_NOT_THE_MODEL = ("README.md", "LICENSE", ".gitattributes")
_OF_THE_MODEL = (".safetensors", ".json", ".jinja", ".txt", ".model")
SHOWN_DIGITS = 12


def checkpoint_digest(folder: str | os.PathLike) -> str:
    """SHA-256 over names and contents of the weights, configuration, processor and tokenizer in `folder`, as hex.

    Files of other kinds, those in folders below, and the card do not count.

    Raises:
        OSError: no such folder, or it holds no weights.
    """
    files = sorted(
        path
        for path in Path(folder).iterdir()
        if path.is_file() and path.suffix in _OF_THE_MODEL and path.name not in _NOT_THE_MODEL
    )
    if not any(path.suffix == ".safetensors" for path in files):
        raise OSError(f"{folder}: holds no weights (*.safetensors). Fix: give the folder of a checkpoint.")
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            whole.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
