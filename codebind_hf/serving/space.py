"""How does the app become a Hugging Face Space? A folder with what a Space needs, to be pushed as it is."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

from codebind_hf.data.manifest import Manifest
from codebind_hf.data.units import UNITS
from codebind_hf.evaluation.writing import write_text
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.items import Item
from codebind_hf.processing.sources import parts_of
from codebind_hf.processing.values import check_types


# Rows of a gallery that go along: a Space is for a look.
MOST_ROWS = 200
_GALLERY = "gallery/manifest.jsonl"
_APP = '''"""The CodeBind demo app as a Space."""

from pathlib import Path

from codebind_hf.serving import build, serve


HERE = Path(__file__).parent
demo = build({arguments})

if __name__ == "__main__":
    serve(demo, host="0.0.0.0")
'''
_README = """---
title: {title}
emoji: \N{LINK SYMBOL}
colorFrom: blue
colorTo: green
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
models:
- {checkpoint}
---

Search, codes, reconstructions, swaps and a map of [{checkpoint}](https://huggingface.co/{checkpoint}), shown by
`codebind_hf`. The same page on your own machine:

    pip install "codebind-hf[demo]"
    codebind demo {checkpoint}
"""


def write_space(folder: str | os.PathLike, checkpoint_repo_id: str, gallery: str | None = None) -> Path:
    """Write the folder of a Space that shows a checkpoint: `app.py`, `README.md`, `requirements.txt`.

    Args:
        folder: to be made, or empty.
        checkpoint_repo_id: the checkpoint's name on the Hub, `user/model`; a folder is taken for a look on this
            machine, and means nothing on the Hub.
        gallery: a manifest whose first `MOST_ROWS` rows go along with their files. Without one the Space compares
            what is dropped with words alone.

    Returns:
        The folder.

    Raises:
        ValueError: a name that no repository can have.
        OSError: a folder with something in it, or a gallery that is not there.
    """
    from codebind_hf.serving.gradio_library import gr

    check_types({"checkpoint_repo_id": checkpoint_repo_id}, {"checkpoint_repo_id": str})
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OSError(f"folder: {target} is there already and not empty. Fix: another folder, or remove this one.")
    if not os.path.isdir(checkpoint_repo_id):
        try:
            validate_repo_id(checkpoint_repo_id)
        except HFValidationError as error:
            raise ValueError(f"checkpoint_repo_id: got {checkpoint_repo_id!r}; {error}") from error
    added = _added(checkpoint_repo_id)
    rows = None if gallery is None else Manifest(gallery, modalities=added).validate()
    target.mkdir(parents=True, exist_ok=True)
    arguments = json.dumps(checkpoint_repo_id)
    if rows is not None:
        _copy_rows(rows, target / _GALLERY)
        arguments += f", gallery=str(HERE / {json.dumps(_GALLERY)})"
    title = f"CodeBind: {checkpoint_repo_id.rpartition('/')[2]}"
    write_text(target / "app.py", _APP.format(arguments=arguments))
    write_text(
        target / "README.md",
        _README.format(title=json.dumps(title), gradio=gr.__version__, checkpoint=checkpoint_repo_id),
    )
    write_text(target / "requirements.txt", f"codebind-hf[demo]=={version('codebind-hf')}\n")
    return target


def _added(checkpoint: str) -> list[str]:
    """Modalities that were added to a checkpoint on this machine; columns of a manifest may be called so."""
    if not os.path.isdir(checkpoint):
        return []
    return list(CodeBindConfig.from_pretrained(checkpoint).added_encoders or {})


def _copy_rows(rows: Manifest, target: Path) -> None:
    """The first rows with copies of their files, below the folder of the new manifest."""
    lines = [
        json.dumps(_copied(place, row, rows.modalities, target.parent)) for place, row in enumerate(rows[:MOST_ROWS])
    ]
    write_text(target, "\n".join(lines) + "\n")


def _copied(place: int, row: dict[str, Any], modalities: Any, folder: Path) -> dict[str, Any]:
    line = dict(row)
    for modality in (name for name in modalities if name != "text" and row.get(name) is not None):
        value = row[modality]
        if isinstance(value, Item):
            told = {name: getattr(value, field) for name, (of, field, _) in UNITS.items() if of == modality}
            line |= {name: unit for name, unit in told.items() if unit is not None}
            value = value.value
        name, content = parts_of(value)
        # Not by its id, which may be anything.
        file = folder / modality / f"{place:05d}{Path(name).suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            file.write_bytes(content)
        elif os.path.isdir(name):
            shutil.copytree(name, file)
        else:
            shutil.copyfile(name, file)
        line[modality] = file.relative_to(folder).as_posix()
    return line
