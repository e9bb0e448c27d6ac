"""What did somebody drop? A file of the page as bytes with a name, of which nothing is left on the disk."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.processing.media import FEATURES, SUFFIXES
from codebind_hf.processing.sources import kind_of


@dataclass(frozen=True)
class Upload:
    """A file in memory."""

    name: str
    content: bytes

    @property
    def source(self) -> dict[str, Any]:
        """As processors take it."""
        return {"bytes": self.content, "path": self.name}


def taken(path: str) -> Upload:
    """The file that the page stored at `path`, which is removed with the folder that it was given.

    Raises:
        OSError: it is not there any more.
    """
    file = Path(path)
    try:
        return Upload(file.name, file.read_bytes())
    finally:
        file.unlink(missing_ok=True)
        # Another upload of the same content shares the folder.
        with suppress(OSError):
            file.parent.rmdir()


def modalities_of_upload(upload: Upload, known: tuple[str, ...], features: tuple[str, ...] = ()) -> list[str]:
    """The modalities among `known` that a file may be of, the likeliest first.

    A photograph is the likeliest where it is among them. Of arrays nobody can tell.

    Args:
        features: modalities that are vectors of another network.

    Raises:
        ValueError: none, or several of which none is likelier.
    """
    possible = [name for name in known if _may_be(upload, name, name in features)]
    # What is no file of its suffix is refused by whoever reads it, who knows why.
    possible = possible or [name for name in known if _is_called(upload, name, name in features)]
    if len(possible) == 1 or "image" in possible:
        return sorted(possible, key=lambda name: name != "image")
    if possible:
        names = ", ".join(map(pretty, possible))
        raise ValueError(f'{upload.name}: may be {names}. Fix: say which under "What it is"; it is then read at once.')
    reads = ", ".join(pretty(name) for name in known if name != "text")
    others = [pretty(name) for name in MODALITIES if _may_be(upload, name, False)]
    kind = f"is {' or '.join(others)}, which this checkpoint does not read" if others else "is no file that is read"
    raise ValueError(f"{upload.name}: {kind}; it reads {reads}. Fix: another file; docs/files.md lists the kinds.")


def _may_be(upload: Upload, modality: str, is_features: bool) -> bool:
    suffixes = _suffixes(modality, is_features)
    return modality != "text" and kind_of(upload.source, suffixes) in suffixes


def _is_called(upload: Upload, modality: str, is_features: bool) -> bool:
    return modality != "text" and Path(upload.name).suffix.lower() in _suffixes(modality, is_features)


def _suffixes(modality: str, is_features: bool) -> tuple[str, ...]:
    return SUFFIXES[FEATURES] if is_features else SUFFIXES.get(modality, (".npy",))
