"""What did this checkpoint make of these rows? Embeddings kept in a file that names both."""

import json
import logging
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from codebind_hf.evaluation.embedding import EmbeddedModality, EmbeddedSet, Failure


logger = logging.getLogger(__name__)

_CAPTIONS = "captions"
_PARTS = [entry.name for entry in fields(EmbeddedModality)]


def write_embeddings(file: Path, embedded: EmbeddedSet, key: str) -> bool:
    """Write an embedded set in one step of the file system; `False`, with a note in the log, where it cannot be.

    Args:
        key: of what it was made from.
    """
    parts = {**embedded.modalities, **({_CAPTIONS: embedded.captions} if embedded.captions is not None else {})}
    tensors = {
        f"{name}.{part}": getattr(values, part).contiguous()
        for name, values in parts.items()
        for part in _PARTS
        if getattr(values, part) is not None
    }
    of_rows = {name: getattr(embedded, name) for name in ("ids", "labels", "attributes", "label_sets")}
    rest = json.dumps({**of_rows, "failures": [asdict(each) for each in embedded.failures]})
    draft = file.with_name(f".{file.name}.draft")
    try:
        save_file(tensors, draft, metadata={"key": key, "rows": rest})
        # A file of its own library is readable by its owner alone.
        draft.chmod(0o666 & ~_umask())
        os.replace(draft, file)
    except (OSError, SafetensorError) as error:
        logger.warning("%s: embeddings are not kept (%s); they are made again at the next start.", file, error)
        draft.unlink(missing_ok=True)
        return False
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_embeddings(file: Path, key: str) -> EmbeddedSet | None:
    """An embedded set that was written with this key; `None` where there is none, or it cannot be read."""
    try:
        with safe_open(file, "pt") as stored:
            kept = stored.metadata() or {}
            if kept.get("key") != key:
                return None
            tensors = {name: stored.get_tensor(name) for name in list(stored.keys())}
        rest = json.loads(kept["rows"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        if file.exists():
            logger.warning("%s: cannot be read (%s); the rows are embedded again.", file, error)
        return None
    names = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    found: dict[str, Any] = {
        name: EmbeddedModality(**{part: tensors.get(f"{name}.{part}") for part in _PARTS})  # type: ignore[arg-type]
        for name in names
    }
    failures = [Failure(**each) for each in rest.pop("failures")]
    rest["label_sets"] = [tuple(each) for each in rest["label_sets"]]
    return EmbeddedSet(captions=found.pop(_CAPTIONS, None), modalities=found, failures=failures, **rest)
