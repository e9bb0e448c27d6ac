"""Are two sets of rows the same? A digest of what they are, without reading every file."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets.fingerprint import Hasher
from torch import Tensor

from codebind_hf.data.columns import EXTRA_COLUMNS
from codebind_hf.processing.items import Item
from codebind_hf.processing.sources import is_decoder, is_source, parts_of


def fingerprint(rows: Any) -> str:
    """Hexadecimal digest of rows; of files their paths' last parts, sizes and times of change count, not their bytes.

    Rows that know their own `fingerprint` are asked for it.
    """
    known = getattr(rows, "fingerprint", None)
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    for row in rows:
        digest.update(Hasher.hash({name: _weighed(name, value) for name, value in row.items()}).encode())
    return digest.hexdigest()


def processor_fingerprint(processor: Any) -> str:
    """Hexadecimal digest of all that a processor saves, but code."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        for file in sorted(Path(folder).iterdir()):
            if file.suffix != ".py":
                digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> bytes:
    """The numbers of a tensor of any type as they lie in memory."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def digest_of(value: Any) -> str:
    """Hexadecimal digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _weighed(name: str, value: Any) -> Any:
    if isinstance(value, Item):
        return [type(value).__name__, {**vars(value), "value": _weighed(name, value.value)}]
    if name in (*EXTRA_COLUMNS, "text") or not is_source(value) or is_decoder(value):
        return value
    path, content = parts_of(value)
    return [os.path.basename(path), *size_and_time(path)] if content is None else hashlib.sha256(content).hexdigest()


def size_and_time(path: str | os.PathLike) -> list[int]:
    """Of a file; nothing of one that is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
