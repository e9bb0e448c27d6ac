"""Files that are the old one or the new one, never half of either."""

import os
from pathlib import Path


def write_text(file: Path, text: str) -> Path:
    """Write a text file in one step of the file system, with its folder; returns the file.

    Raises:
        OSError: it cannot be written; what was there is left.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    return file
