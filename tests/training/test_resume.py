"""A run that is killed loses no good checkpoint, and goes on bit for bit as if nothing had happened."""

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.trainer_utils import IntervalStrategy

from codebind_hf.data import CodeBindCollator
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, LossBalancer, checkpointed
from codebind_hf.training.checkpoints import (
    CONTENTS_FILE,
    STAGING_FOLDER,
    check_complete,
    compare_processes,
    complete_checkpoints,
    first_sound,
    newest_checkpoint,
    settle,
)


ROOT = Path(__file__).parents[2]
MakeTrainer = Callable[..., CodeBindTrainer]
FIELDS = {
    "max_steps": 8,
    "balance": "adaptive",
    "input_noise": 0.1,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 1,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.05,
}
# Trains like the tests below, and dies while it saves the state of the generators for the second time.
CHILD = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from conftest import make_items, make_model
from codebind_hf.data import CodeBindCollator
from codebind_hf.training import CodeBindTrainer, CodeBindTrainingArguments, LossBalancer

class Dies(CodeBindTrainer):
    def _save_rng_state(self, output_dir):
        if self.state.global_step == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._save_rng_state(output_dir)

settled = {"per_device_train_batch_size": 4, "learning_rate": 3e-3, "logging_steps": 1, "report_to": "none",
           "disable_tqdm": True, "remove_unused_columns": False, "dataloader_pin_memory": False, "use_cpu": True,
           "seed": 5}
arguments = CodeBindTrainingArguments(output_dir=sys.argv[2], **settled, **json.loads(sys.argv[3]))
Dies(model=make_model(), args=arguments, train_dataset=make_items(), data_collator=CodeBindCollator(),
     balancer=LossBalancer(min_interval=2, max_interval=2)).train()
"""


class Killed(BaseException):
    """What the process sees of its end: nothing can catch it."""


def kill(*args: Any, **kwargs: Any) -> None:
    raise Killed


@pytest.fixture
def trainer_for(tiny: SimpleNamespace, trainer_of: MakeTrainer) -> Callable[..., CodeBindTrainer]:
    """A trainer on a fresh model whose run has everything that a resume could lose."""

    def make(folder: Path, **fields: Any) -> CodeBindTrainer:
        balancer = LossBalancer(min_interval=2, max_interval=2)
        return trainer_of(tiny.model(), tiny.items(), balancer, **{**FIELDS, **fields}, output_dir=str(folder))

    return make


def outcome(trainer: CodeBindTrainer) -> dict[str, Any]:
    """All that a run leaves behind."""
    optimizer = {
        f"{key}.{name}": value
        for key, state in trainer.optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    return {
        "weights": {name: value.detach().clone() for name, value in trainer.model.state_dict().items()},
        "optimizer": optimizer,
        "scheduler": trainer.lr_scheduler.state_dict(),
        "balancer": trainer.balancer.state_dict(),
        "random": torch.get_rng_state(),
    }


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    return first == second


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The whole of it, in processes


@pytest.mark.slow
def test_a_run_killed_at_a_random_step_ends_like_one_that_never_stopped() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, ROOT / "examples" / "resume_check.py", "--seed", "2"]
    command += ["--gradient_accumulation_steps", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"killed after step \d+ of 12, resumed from checkpoint-\d+\n", done.stdout)
    for part in ("model", "optimizer", "scheduler", "balancer", "random"):
        assert f"{part}: max |difference| = 0\n" in done.stdout
    assert done.stdout.endswith("max |difference| = 0\n")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_killed_while_it_saves_goes_on_from_the_checkpoint_before(
    trainer_for: MakeTrainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
    }
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", CHILD, ROOT / "tests" / "training", folder, json.dumps(FIELDS)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert checkpoints(folder) == [STAGING_FOLDER, "checkpoint-2"]
    assert (folder / STAGING_FOLDER / "checkpoint-4" / "optimizer.pt").is_file()
    resumed = trainer_for(folder)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=True)
    assert "checkpoint-4: left by a run that stopped while saving; removed." in caplog.text
    assert checkpoints(folder) == ["checkpoint-8"]
    after = outcome(resumed)
    straight = trainer_for(tmp_path / "straight")
    straight.train()
    assert same(outcome(straight), after)


# Every place where it can stop


@pytest.mark.parametrize("accumulation", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("owner", "name", "left", "newest"),
    [
        pytest.param(CodeBindTrainer, "save_model", ["checkpoint-2"], 2, id="before", marks=pytest.mark.slow),
        pytest.param(
            CodeBindTrainer,
            "_save_scaler",
            ["_saving", "checkpoint-2"],
            2,
            id="optimizer-written",
            marks=pytest.mark.slow,
        ),
        pytest.param(checkpointed, "publish", ["_saving", "checkpoint-2"], 2, id="all-written"),
        pytest.param(checkpointed, "rotate_checkpoints", ["checkpoint-2", "checkpoint-4"], 4, id="in-its-place"),
    ],
)
def test_wherever_a_save_stops_the_last_good_checkpoint_stays(
    trainer_for: MakeTrainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accumulation: int,
    owner: Any,
    name: str,
    left: list[str],
    newest: int,
) -> None:
    original, fields = getattr(owner, name), {"gradient_accumulation_steps": accumulation}
    calls: list[int] = []

    def on_the_second_call(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return kill() if len(calls) == 2 else original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, on_the_second_call)
        with pytest.raises(Killed):
            trainer_for(tmp_path / "killed", **fields).train()
    assert checkpoints(tmp_path / "killed") == left
    assert newest_checkpoint(tmp_path / "killed") == str(tmp_path / "killed" / f"checkpoint-{newest}")
    resumed = trainer_for(tmp_path / "killed", **fields)
    resumed.train(resume_from_checkpoint=True)
    after = outcome(resumed)
    straight = trainer_for(tmp_path / "straight", **fields)
    straight.train()
    assert same(outcome(straight), after)


def test_a_checkpoint_of_the_same_step_is_there_until_the_new_one_is(
    trainer_for: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    trainer_for(folder, max_steps=2).train()
    (folder / "checkpoint-2" / "mark").touch()
    rename = Path.rename

    def stops_between(path: Path, target: Path) -> Path:
        return kill() if path.parent.name == STAGING_FOLDER else rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stops_between)
        with pytest.raises(Killed):
            trainer_for(folder, max_steps=2).train()
    assert newest_checkpoint(folder) is None
    with caplog.at_level(logging.WARNING):
        trainer_for(folder, max_steps=4).train(resume_from_checkpoint=True)
    assert "a run stopped just before this checkpoint got its place" in caplog.text
    assert checkpoints(folder) == ["checkpoint-4"]


def test_old_checkpoints_go_only_when_the_new_one_is_in_its_place(
    trainer_for: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    publish, folder = checkpointed.publish, tmp_path / "run"

    def watched(staged: Path, final: Path) -> None:
        seen.append(checkpoints(folder))
        publish(staged, final)
        seen.append(checkpoints(folder))

    monkeypatch.setattr(checkpointed, "publish", watched)
    trainer_for(folder, max_steps=4).train()
    both = ["checkpoint-2", "checkpoint-4"]
    assert seen == [["_saving"], ["checkpoint-2"], ["_saving", "checkpoint-2"], both]
    assert checkpoints(folder) == ["checkpoint-4"]


def test_the_best_checkpoint_is_known_by_its_own_place(
    tiny: SimpleNamespace, trainer_for: MakeTrainer, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    trainer = trainer_for(folder, max_steps=4, save_total_limit=2, eval_steps=2, metric_for_best_model="eval_loss")
    trainer.args.eval_strategy, trainer.eval_dataset = IntervalStrategy.STEPS, tiny.items()
    trainer.train()
    best = folder / f"checkpoint-{trainer.state.best_global_step}"
    assert trainer.state.best_model_checkpoint == str(best)
    assert json.loads((best / "trainer_state.json").read_text())["best_model_checkpoint"] == str(best)


# What is refused


@pytest.fixture(scope="module")
def finished(tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps with two checkpoints, for copies."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    settled = {"per_device_train_batch_size": 4, "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    settled |= {**FIELDS, "max_steps": 4, "save_total_limit": 2, "seed": 5}
    arguments = CodeBindTrainingArguments(str(folder), remove_unused_columns=False, **settled)
    balancer = LossBalancer(min_interval=2, max_interval=2)
    options = {"data_collator": CodeBindCollator(), "balancer": balancer}
    CodeBindTrainer(model=tiny.model(), args=arguments, train_dataset=tiny.items(), **options).train()
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "loss_balancer.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_a_damaged_checkpoint_is_refused_by_name_and_skipped_by_true(
    trainer_for: MakeTrainer,
    finished: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: str,
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    file = folder / "checkpoint-4" / name
    size = file.stat().st_size
    expected = f"{file}: missing"
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
        expected = f"{file}: has {size - 1} bytes of {size}"
    else:
        content = bytearray(file.read_bytes())
        content[size // 2] ^= 1
        file.write_bytes(content)
        expected = f"{file}: has changed since it was written"
    trainer = trainer_for(folder, max_steps=4)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    with pytest.raises(OSError, match=re.escape(f"{expected}; this checkpoint is incomplete")):
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-4"))
    assert same(before, trainer.model.state_dict())
    with caplog.at_level(logging.WARNING):
        found = first_sound(complete_checkpoints(folder))
    assert found == folder / "checkpoint-2"
    assert f"Skipped a checkpoint: {expected}" in caplog.text


class Hostile:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_code_in_a_checkpoint_is_never_run(
    trainer_for: MakeTrainer, finished: Path, tmp_path: Path, name: str
) -> None:
    folder, trace = tmp_path / "run", tmp_path / "trace"
    shutil.copytree(finished / "checkpoint-2", folder / "checkpoint-2")
    file = folder / "checkpoint-2" / name
    torch.save(Hostile(trace), file)
    contents = folder / "checkpoint-2" / CONTENTS_FILE
    listed = json.loads(contents.read_text())
    listed[name] = [file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()]
    contents.write_text(json.dumps(listed))
    # Nothing reads training_args.bin.
    refused = (
        nullcontext()
        if name == "training_args.bin"
        else pytest.raises(OSError, match="holds more than tensors and is not read")
    )
    with refused:
        trainer_for(folder, max_steps=4).train(resume_from_checkpoint=True)
    assert not trace.exists()


def test_a_folder_that_no_trainer_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such folder"):
        check_complete(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2").mkdir()
    with pytest.raises(OSError, match=f"{CONTENTS_FILE}: missing"):
        check_complete(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / CONTENTS_FILE).write_text('{"model.safe')
    with pytest.raises(OSError, match=f"{CONTENTS_FILE}: no JSON"):
        check_complete(tmp_path / "checkpoint-2")


def test_weights_alone_are_no_checkpoint_to_resume_from(trainer_for: MakeTrainer, tmp_path: Path) -> None:
    trainer_for(tmp_path / "run", max_steps=2, save_only_model=True).train()
    with pytest.raises(OSError, match=r"scheduler.pt: missing"):
        trainer_for(tmp_path / "run").train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


def test_another_number_of_processes_is_said(
    trainer_for: MakeTrainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer_for(tmp_path / "run", max_steps=2).train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    with caplog.at_level(logging.WARNING):
        compare_processes(checkpoint, 1)
        assert caplog.text == ""
        compare_processes(checkpoint, 2)
    assert "checkpoint-2: saved by 1 processes, resumed by 2; batches and random numbers are not" in caplog.text


def test_true_needs_a_complete_checkpoint(trainer_for: MakeTrainer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"resume_from_checkpoint: got True, and .* holds no complete checkpoint"):
        trainer_for(tmp_path / "run").train(resume_from_checkpoint=True)


def test_names_that_only_look_like_checkpoints_are_not_taken(trainer_for: MakeTrainer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer_for(folder, max_steps=2).train()
    (folder / "checkpoint-2").rename(folder / "checkpoint-2-kept")
    assert newest_checkpoint(folder) is None


def test_a_stray_file_among_unfinished_checkpoints_is_removed(tmp_path: Path) -> None:
    (tmp_path / STAGING_FOLDER).mkdir()
    (tmp_path / STAGING_FOLDER / ".DS_Store").write_text("x")
    settle(tmp_path)
    assert not (tmp_path / STAGING_FOLDER).exists()


@pytest.mark.skipif(os.name == "nt", reason="the system has no permissions of this kind")
@pytest.mark.parametrize("mask", [0o022, 0o077], ids=oct)
def test_every_file_of_a_checkpoint_has_the_permissions_of_a_new_file(
    tiny: Any, trainer_of: MakeTrainer, mask: int, tmp_path: Path
) -> None:
    before = os.umask(mask)
    try:
        trainer_of(tiny.model(), tiny.items(), max_steps=1, save_strategy="steps", save_steps=1).train()
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "run" / "checkpoint-1").rglob("*") if file.is_file()]
    assert {"model.safetensors", "optimizer.pt", CONTENTS_FILE} <= {file.name for file in files}
    assert {
        file.name: oct(file.stat().st_mode & 0o777) for file in files if file.stat().st_mode & 0o777 != 0o666 & ~mask
    } == {}
