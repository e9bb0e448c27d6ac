"""The folder of a run: whose it is, how far the run came, and a checkpoint that is whole or not there."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from codebind_hf.conversion.lora import has_lora
from codebind_hf.evaluation.environment import environment
from codebind_hf.evaluation.provenance import checkpoint_digest
from codebind_hf.evaluation.writing import write_text
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.monitoring.trackers import LOGS
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.values import shown
from codebind_hf.started import command_line
from codebind_hf.training.adapters import merge_lora, save_adapter
from codebind_hf.training.bridge_cache import CACHE_FOLDER
from codebind_hf.training.checkpoints import (
    STAGING_FOLDER,
    clear_write_errors,
    complete_checkpoints,
    discard,
    place,
)
from codebind_hf.training.running import LOG_FILE, save
from codebind_hf.training.settings import RunSettings


logger = logging.getLogger(__name__)

RECORD_FILE = "run.json"
LOCK_FILE = "run.lock"
CHECKPOINT, ADAPTER, PACK, FIGURES, FILES, ROWS = "checkpoint", "adapter", "pack", "figures", "files", "rows"
# Where `codebind evaluate` writes about the run.
EVALUATION = "evaluation"
# What a run writes, beside the folders of its stages.
_OWN = (
    *(CHECKPOINT, ADAPTER, PACK, FIGURES, FILES, ROWS, STAGING_FOLDER, RECORD_FILE, LOG_FILE),
    *("report.json", "report.md", "report.html", "binding.json", EVALUATION, CACHE_FOLDER, LOGS),
)
_STAGES = ("bridge", "bind", "bind-*", "joint")
# Processes of a run that was killed need a moment to end.
_PATIENCE_SECONDS = 10
STATUSES = ("training", "trained", "finished")


@dataclass
class RunRecord:
    """What `run.json` says.

    Args:
        settings: of `RunSettings.as_json`.
        settings_digest, data_digest: SHA-256 of the settings, and of what the rows are.
        environment: versions and machine that the run began on.
        status: "training"; "trained", with a checkpoint; or "finished", with everything.
        checkpoint: digest of the final checkpoint, once there is one.
        bridge: what a frozen bridge made of the rows before anything was bound to it, as `BridgeLook.as_json` has it.
    """

    settings: dict[str, Any]
    settings_digest: str
    data_digest: str
    environment: dict[str, Any]
    status: str = "training"
    checkpoint: str | None = None
    bridge: dict[str, Any] | None = None


class RunFolder:
    """One folder that one run writes to; all methods are for the main process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Path:
        """Where the final checkpoint lies."""
        return self.path / CHECKPOINT

    @property
    def rows(self) -> Path:
        """Where tensors of rows lie, of a run that keeps them on disk."""
        return self.path / ROWS

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from using the folder meanwhile; they would write between each other's files.

        Raises:
            ValueError: another process uses it.
            OSError: the folder cannot be made or written to.
        """
        was_there = self.path.is_dir()
        if self.path.exists() and not was_there:
            raise OSError(f"--output_dir: {self.path} is a file. Fix: name a folder.")
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK_FILE)
        try:
            lock.acquire(timeout=_PATIENCE_SECONDS)
        except Timeout as error:
            raise ValueError(
                f"--output_dir: another process trains in {self.path}. Fix: wait until it ends, or name a new folder."
            ) from error
        except NotImplementedError:
            logger.warning("%s: this file system has no locks; only one process may use the folder.", self.path)
        try:
            yield
        finally:
            # Gone before it is released: whoever waits for it then finds none to mistake for a new one.
            (self.path / LOCK_FILE).unlink(missing_ok=True)
            lock.release()
            if not was_there and not any(self.path.iterdir()):
                self.path.rmdir()

    def record(self) -> RunRecord | None:
        """What the folder says of its run; `None` without one.

        Raises:
            OSError: the record cannot be read.
        """
        file = self.path / RECORD_FILE
        if not file.is_file():
            return None
        try:
            record = RunRecord(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise OSError(f"{file}: is no record of a run ({error}). Fix: name a new folder.") from error
        if record.status not in STATUSES:
            raise OSError(f"{file}: status is {shown(record.status)}; known: {', '.join(STATUSES)}.")
        return record

    def open(self, settings: RunSettings | None, resume: bool, overwrite: bool) -> RunSettings:
        """The settings to run with, if the folder may be used so.

        Args:
            settings: that were given; `None` takes those of the run that is there.
            resume: go on with the run that is there. Without one, start.
            overwrite: what a run left here may go.

        Raises:
            ValueError: the folder holds a run or something else, other settings than its run's, or nothing to resume.
            OSError: its record cannot be read.
        """
        record = self.record()
        if record is None and (found := self._foreign()):
            is_older = (self.path / LOG_FILE).is_file()
            fix = ", or pass --overwrite to replace the run that an earlier version left here" if is_older else ""
            if not (overwrite and is_older):
                raise ValueError(
                    f"--output_dir: {self.path} holds {found}, and no record of a run. Fix: name a new folder{fix}."
                )
        if record is None or overwrite or not self.has_results():
            if settings is not None:
                return settings
            if record is None:
                raise ValueError(f"--resume: {self.path} holds no run. Fix: name its folder, or say what to train.")
            return RunSettings(**record.settings)
        if not resume:
            state = "a finished run" if record.status == "finished" else "a run that is not finished"
            fix = "" if record.status == "finished" else "--resume to go on with it, "
            raise ValueError(
                f"--output_dir: {self.path} holds {state}. Fix: {fix}--overwrite to start anew, or a new folder."
            )
        if settings is not None and (changed := _differences(settings.as_json(), record.settings)):
            raise ValueError(
                f"--resume: {self.path} was started with other settings: {'; '.join(changed[:3])}. Fix: give the "
                "same, or none at all."
            )
        return RunSettings(**record.settings)

    def begin(self, settings: RunSettings, data_digest: str, overwrite: bool = False) -> RunRecord:
        """Write down whose run this is; one that goes on keeps its record.

        Raises:
            ValueError: the run that is to go on had other rows.
        """
        record = self.record()
        if record is None or overwrite or not self.has_results():
            # What a run embedded before its first checkpoint is known by what it is of, and may still be used.
            self.clear(() if overwrite else (CACHE_FOLDER,))
            record = RunRecord(settings.as_json(), _digest(settings.as_json()), data_digest, environment())
            self.write(record)
        elif record.data_digest != data_digest:
            raise ValueError(
                f"--resume: the rows changed since {self.path} was started (names, number, labels or sizes of files). "
                "Fix: bring them back, or start anew in a new folder."
            )
        elif record.status == "training" and record.checkpoint and self.checkpoint.is_dir():
            # Stopped between moving the checkpoint to its place and saying so.
            record.status = "trained"
            self.write(record)
        return record

    def has_results(self) -> bool:
        """Whether a run left anything here to go on with."""
        record = self.record()
        has_checkpoints = self.checkpoint.is_dir() or any(map(complete_checkpoints, self._stages()))
        return record is not None and (record.status != "training" or has_checkpoints)

    def _stages(self) -> list[Path]:
        return [folder for pattern in _STAGES for folder in self.path.glob(pattern) if folder.is_dir()]

    def write(self, record: RunRecord) -> None:
        """Write the record, whole or not at all."""
        write_text(self.path / RECORD_FILE, json.dumps(asdict(record), indent=1))

    def clear(self, but: Sequence[str] = ()) -> None:
        """Remove what runs write, and nothing else; also not those of these names."""
        for folder in (*self._stages(), *(self.path / name for name in _OWN if name not in but)):
            discard(folder)

    def publish(
        self,
        model: CodeBindModel,
        processor: CodeBindProcessor,
        record: RunRecord,
        write_pack: Callable[[Path], Any] | None = None,
    ) -> None:
        """Write the final checkpoint aside, note its digest, and move it to its place; an adapter is merged into it.

        Args:
            write_pack: writes a pack of the model into a folder, while the adapter is not merged yet.

        Raises:
            OSError: it cannot be written; what was saved before is kept.
        """
        staging = self.path / STAGING_FOLDER
        discard(staging)
        with clear_write_errors(staging, self.checkpoint):
            if write_pack is not None:
                write_pack(staging / PACK)
            if has_lora(model):
                save_adapter(model, staging / ADAPTER)
                merge_lora(model)
            save(model, processor, staging / CHECKPOINT)
            record.checkpoint = checkpoint_digest(staging / CHECKPOINT)
            self.write(record)
            for name in (PACK, ADAPTER):
                if (staging / name).is_dir():
                    place(staging / name, self.path / name)
            place(staging / CHECKPOINT, self.checkpoint)
        record.status = "trained"
        self.write(record)

    def finish(self, record: RunRecord) -> None:
        """The run is done: tensors that it kept go, which can be made again, and its last checkpoints unless its
        settings asked for them.
        """
        record.status = "finished"
        self.write(record)
        for kept in (self.path / CACHE_FOLDER, self.rows):
            discard(kept)
        recipe = record.settings["recipe"]
        options = [recipe.get("training") or {}, *(recipe.get("stages") or {}).values()]
        if all(each.get("save_strategy", "no") == "no" for each in options):
            for folder in self._stages():
                discard(folder)

    def _foreign(self) -> str:
        names = sorted({path.name for path in self.path.iterdir()} - {LOCK_FILE}) if self.path.is_dir() else []
        return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")


def way_to_go_on(output_dir: Path) -> str:
    """How to go on with a run that this process began, as it can be typed here."""
    if not (output_dir / RECORD_FILE).is_file():
        return "Nothing was begun there; start it again."
    return f"Go on with: {command_line('train')} --resume --output_dir {output_dir}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _differences(given: Any, kept: Any, name: str = "") -> list[str]:
    """Where two settings differ, in words."""
    if isinstance(given, dict) and isinstance(kept, dict):
        keys = dict.fromkeys((*kept, *given))
        return [
            line
            for key in keys
            for line in _differences(given.get(key), kept.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if given == kept else [f"{name} is {given!r} and was {kept!r}"]
