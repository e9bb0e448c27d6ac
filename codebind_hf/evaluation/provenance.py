"""Which checkpoint is this? A digest that reports, cards and pictures carry, and that publishing compares."""

import hashlib
import os
import re
from pathlib import Path

from transformers.utils import CONFIG_NAME, cached_file

from codebind_hf.processing.pipeline_inputs import THRESHOLDS_FILE
from codebind_hf.started import command_line


# Written about a checkpoint after it is done, or beside it by those who train on.
_NOT_THE_MODEL = ("README.md", "LICENSE", ".gitattributes", THRESHOLDS_FILE)
_OF_THE_MODEL = (".safetensors", ".json", ".jinja", ".txt", ".model")
SHOWN_DIGITS = 12
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def checkpoint_of(given: str | os.PathLike, flag: str) -> str:
    """The folder of a checkpoint, or a model's name on the Hub, where a run of training or either of these is given.

    Args:
        flag: that gave it, for messages.

    Raises:
        OSError: there is none.
    """
    text = os.fspath(given)
    checkpoint = final_checkpoint(text)
    fix = "Fix: give a run of `codebind train`, the folder of a checkpoint, or a model's name on the Hub."
    if os.path.isdir(checkpoint):
        if not os.path.isfile(os.path.join(checkpoint, CONFIG_NAME)):
            is_run = os.path.isfile(os.path.join(text, "run.json"))
            fix = f"Fix: finish this run ({command_line('train')} --resume --output_dir {text})." if is_run else fix
            raise OSError(f"{flag}: {checkpoint} has no {CONFIG_NAME}, so it is no checkpoint. {fix}")
        return checkpoint
    if not _HUB_NAME.fullmatch(text) or os.path.exists(text):
        raise OSError(f"{flag}: no folder {text}. {fix}")
    try:
        cached_file(text, CONFIG_NAME)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(f"{flag}: no folder {text}, and no such model on the Hub ({reason}). {fix}") from error
    return text


def final_checkpoint(given: str) -> str:
    """The checkpoint in the folder of a run; anything else as it is."""
    inner = os.path.join(given, "checkpoint")
    return inner if os.path.isdir(inner) else given


def run_folder_of(given: str | os.PathLike) -> Path | None:
    """The folder of the run that `given`, a run or its checkpoint, belongs to; `None` for any other checkpoint."""
    folder = Path(given).resolve()
    runs = (folder, folder.parent) if folder.name == "checkpoint" else (folder,)
    return next((run for run in runs if (run / "run.json").is_file()), None)


def name_of(checkpoint: str) -> str:
    """What a checkpoint is called: in a run, as the run."""
    folder = Path(checkpoint).resolve()
    return folder.parent.name if folder.name == "checkpoint" else folder.name


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
