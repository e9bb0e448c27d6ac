"""Checkpoints of a run: written aside, listed file by file, and only then moved to where a resumed run looks."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
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


@contextmanager
def clear_write_errors(staged: Path, final: Path) -> Iterator[None]:
    """Take away what was half written to `staged`, and say what failed in words, whichever library wrote it.

    Raises:
        OSError: `final` cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        discard(staged)
        if staged.parent.is_dir() and not any(staged.parent.iterdir()):
            staged.parent.rmdir()
        raise OSError(
            f"{final}: could not be written ({error}). What was saved before is kept. Fix: free space on the disk, or "
            "allow writing there, and go on from the newest checkpoint (--resume)."
        ) from error


def publish(staged: Path, final: Path) -> None:
    """List the files of a checkpoint with their sizes and hashes in it, and move it to its place.

    Args:
        staged: the folder it was written to, in `STAGING_FOLDER`.
        final: the folder it becomes.
    """
    contents = staged / CONTENTS_FILE
    listed = {str(path.relative_to(staged)): [path.stat().st_size, _hash(path)] for path in _files(staged)}
    contents.write_text(json.dumps(listed, indent=1, sort_keys=True))
    place(staged, final)


def place(staged: Path, final: Path) -> None:
    """Move a folder that is all written to its place, as one step of the file system.

    Its files are on the disk before it gets its name. A folder that has the name is kept aside until then.
    """
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
    listed = _listed(folder / CONTENTS_FILE)
    for name in dict.fromkeys((*listed, *NEEDED_FILES)):
        path = folder / name
        if not path.is_file():
            raise OSError(f"{path}: missing; {_FIX}")
        if name in listed and path.stat().st_size != listed[name][0]:
            raise OSError(f"{path}: has {path.stat().st_size} bytes of {listed[name][0]}; {_FIX}")


def check_sound(folder: Path) -> None:
    """Refuse a checkpoint whose files are not the bytes that were written, which takes reading them all.

    Raises:
        OSError: names the first file that is missing or has changed.
    """
    check_complete(folder)
    for name, (_, written) in _listed(folder / CONTENTS_FILE).items():
        if written is not None and _hash(folder / name) != written:
            raise OSError(f"{folder / name}: has changed since it was written; {_FIX}")


def first_sound(checkpoints: Iterable[Path]) -> Path | None:
    """The first of these checkpoints whose files are as they were written; says which ones it skips."""
    for folder in checkpoints:
        try:
            check_sound(folder)
        except OSError as error:
            logger.warning("Skipped a checkpoint: %s", error)
        else:
            return folder
    return None


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
    """The complete checkpoint of the latest step in the folder of a run, or `None`."""
    found = complete_checkpoints(Path(run))
    return str(found[0]) if found else None


def complete_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints in the folder of a run, the latest step first; says which ones it skips."""
    numbered = {}
    for folder in run.iterdir() if run.is_dir() else ():
        if folder.is_dir() and (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", folder.name)):
            numbered[int(match[1])] = folder
    complete = []
    for _, folder in sorted(numbered.items(), reverse=True):
        try:
            check_complete(folder)
        except OSError as error:
            logger.warning("Skipped a checkpoint: %s", error)
        else:
            complete.append(folder)
    return complete


def _listed(contents: Path) -> dict[str, tuple[int, str | None]]:
    """Size and hash of every file; versions before 0.2 wrote down sizes alone."""
    if not contents.is_file():
        raise OSError(f"{contents}: missing; {_FIX}")
    try:
        listed = json.loads(contents.read_text()).items()
        return {name: (entry, None) if isinstance(entry, int) else (entry[0], entry[1]) for name, entry in listed}
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise OSError(f"{contents}: no JSON ({error}); {_FIX}") from error


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
