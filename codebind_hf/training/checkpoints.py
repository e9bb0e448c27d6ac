"""Checkpoints of a run: written aside, listed file by file, and only then moved to where a resumed run looks."""

import json
import logging
import os
import re
import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


logger = logging.getLogger(__name__)

# The library's search for checkpoints does not match this name, and its upload leaves out what starts so.
STAGING_FOLDER = "_saving"
CONTENTS_FILE = "contents.json"
BALANCER_FILE = "loss_balancer.json"
# Without these a run cannot go on as if it had not stopped.
NEEDED_FILES = ("trainer_state.json", "scheduler.pt", BALANCER_FILE)
_REPLACED = "replaced-"
_FIX = "this checkpoint is incomplete. Resume from an earlier one."


def publish(staged: Path, final: Path) -> None:
    """Move a checkpoint that is all written to its place, as one step of the file system.

    Its files are on the disk, and listed with their sizes in it, before it gets its name. A folder that has the name
    is kept aside until then.

    Args:
        staged: the folder it was written to, in `STAGING_FOLDER`.
        final: the folder it becomes.
    """
    contents = staged / CONTENTS_FILE
    sizes = {str(path.relative_to(staged)): path.stat().st_size for path in _files(staged)}
    contents.write_text(json.dumps(sizes, indent=1, sort_keys=True))
    for path in (*_files(staged), *(path for path in staged.rglob("*") if path.is_dir()), staged):
        _flush(path)
    replaced = staged.with_name(_REPLACED + final.name)
    if final.exists():
        final.rename(replaced)
    staged.rename(final)
    _flush(final.parent)
    discard(replaced)
    if not any(staged.parent.iterdir()):
        staged.parent.rmdir()


def discard(folder: Path) -> None:
    """Remove a folder, or a stray file in its place, if it is there."""
    if folder.is_dir():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def settle(run: Path) -> None:
    """Clear up after a run that stopped while it saved; what it had finished writing gets its place."""
    staging = run / STAGING_FOLDER
    for folder in sorted(staging.iterdir()) if staging.is_dir() else ():
        final = run / folder.name
        if _is_complete(folder) and not folder.name.startswith(_REPLACED) and not final.exists():
            logger.warning("%s: a run stopped just before this checkpoint got its place; moved to %s.", folder, final)
            folder.rename(final)
        else:
            logger.warning("%s: left by a run that stopped while saving; removed.", folder)
            discard(folder)
    if staging.is_dir():
        staging.rmdir()


def check_complete(folder: Path) -> None:
    """Refuse a checkpoint that is not all there.

    Raises:
        OSError: names the first file that is missing or has another size than was written.
    """
    if not folder.is_dir():
        raise OSError(f"{folder}: no such folder; a checkpoint to resume from is a folder that the trainer wrote.")
    sizes = _sizes(folder / CONTENTS_FILE)
    for name in dict.fromkeys((*sizes, *NEEDED_FILES)):
        path = folder / name
        if not path.is_file():
            raise OSError(f"{path}: missing; {_FIX}")
        if name in sizes and path.stat().st_size != sizes[name]:
            raise OSError(f"{path}: has {path.stat().st_size} bytes of {sizes[name]}; {_FIX}")


def compare_processes(folder: Path, num_processes: int) -> None:
    """Say so when a checkpoint was saved by another number of processes, whose random numbers it holds."""
    saved = len(list(folder.glob("rng_state*.pth")))
    if saved != num_processes:
        logger.warning(
            "%s: saved by %d processes, resumed by %d; batches and random numbers are not those of a run that never "
            "stopped.",
            folder,
            saved,
            num_processes,
        )


def newest_checkpoint(run: str | os.PathLike) -> str | None:
    """The complete checkpoint of the latest step in the folder of a run, or `None`; says which ones it skips."""
    numbered = {}
    for folder in Path(run).iterdir() if Path(run).is_dir() else ():
        if folder.is_dir() and (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", folder.name)):
            numbered[int(match[1])] = folder
    for _, folder in sorted(numbered.items(), reverse=True):
        try:
            check_complete(folder)
        except OSError as error:
            logger.warning("Skipped a checkpoint: %s", error)
        else:
            return str(folder)
    return None


def _sizes(contents: Path) -> dict[str, int]:
    if not contents.is_file():
        raise OSError(f"{contents}: missing; {_FIX}")
    try:
        return json.loads(contents.read_text())
    except ValueError as error:
        raise OSError(f"{contents}: no JSON ({error}); {_FIX}") from error


def _is_complete(folder: Path) -> bool:
    try:
        check_complete(folder)
    except OSError:
        return False
    return True


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
