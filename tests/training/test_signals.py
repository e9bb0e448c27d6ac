"""SIGINT and SIGTERM: a run saves what it can, says where it stopped, and goes on to the same bits."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from small_runs import STEPS, at_step, same_results, settings_for

from codebind_hf.training import CodeBindTrainer, RunInterrupted, run, runs
from codebind_hf.training.checkpoints import complete_checkpoints
from codebind_hf.training.interruption import ended_by_signals
from codebind_hf.training.run_folder import RunFolder, way_to_go_on


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("number", "stage", "step"),
    [
        pytest.param(signal.SIGTERM, "bind", 3, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "bridge", STEPS, id="at-the-last-step-of-a-stage"),
        pytest.param(signal.SIGTERM, "bind", STEPS, id="at-the-last-step-of-all", marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_says_where_and_leaves_the_handlers_as_they_were(
    straight: Path,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    stage: str,
    step: int,
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        at_step(patch, stage, step, lambda model: os.kill(os.getpid(), number))
        with pytest.raises(RunInterrupted, match=rf"{number.name} at step {step} of {STEPS}; saved") as stop:
            run(settings_for(manifest, save_minutes=1000.0), tmp_path / "run")
    assert stop.value.signal_number == number
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert [path.name for path in complete_checkpoints(tmp_path / "run" / stage)] == [f"checkpoint-{step}"]
    run(None, tmp_path / "run", resume=True)
    same_results(tmp_path / "run", straight)


def test_a_second_signal_ends_the_run_at_once(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(model: Any) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    at_step(monkeypatch, "bridge", 2, twice)
    with pytest.raises(RunInterrupted, match="SIGINT ended the run; what it had saved is kept") as stop:
        run(settings_for(manifest, save_minutes=1000.0), tmp_path / "run")
    assert stop.value.step is None
    assert complete_checkpoints(tmp_path / "run" / "bridge") == []


def asked_to_end(*args: Any, **kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("room", "moment", "begun", "kept"),
    [
        pytest.param(runs, "load_rows", False, [], id="rows-are-found"),
        pytest.param(runs, "load_items", True, [], id="rows-are-prepared", marks=pytest.mark.slow),
        pytest.param(runs, "build", True, [], id="the-model-is-built", marks=pytest.mark.slow),
        pytest.param(CodeBindTrainer, "_start_codebooks", True, [], id="codebooks-start", marks=pytest.mark.slow),
        pytest.param(RunFolder, "publish", True, ["bridge"], id="the-model-is-written", marks=pytest.mark.slow),
    ],
)
def test_a_signal_outside_of_training_ends_the_run_with_words(
    straight: Path,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: Any,
    moment: str,
    begun: bool,
    kept: list[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(room, moment, asked_to_end)
        with pytest.raises(RunInterrupted, match="SIGTERM ended the run; what it had saved is kept") as stop:
            run(settings_for(manifest, save_minutes=1000.0), tmp_path / "run")
    assert (stop.value.signal_number, stop.value.step) == (signal.SIGTERM, None)
    # A bridge that is done is kept however short it was.
    assert [name for name in ("bridge", "bind") if complete_checkpoints(tmp_path / "run" / name)] == kept
    assert (tmp_path / "run" / "run.json").is_file() == begun
    run(settings_for(manifest, save_minutes=1000.0), tmp_path / "run", resume=True)
    same_results(tmp_path / "run", straight)


def test_a_signal_while_the_second_stage_starts_leaves_the_first(
    straight: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = CodeBindTrainer._start_codebooks

    def start(self: CodeBindTrainer, model: Any) -> None:
        original(self, model)
        if Path(str(self.args.output_dir)).name == "bind":
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(CodeBindTrainer, "_start_codebooks", start)
        with pytest.raises(RunInterrupted, match="SIGINT ended the run"):
            run(settings_for(manifest, save_minutes=1000.0), tmp_path / "run")
    with caplog.at_level("INFO"):
        run(None, tmp_path / "run", resume=True)
    assert f"bridge: is done, checkpoint-{STEPS}." in caplog.messages
    same_results(tmp_path / "run", straight)


@pytest.mark.parametrize("stage", ["bridge", pytest.param("bind", marks=pytest.mark.slow)])
def test_a_signal_after_the_last_step_of_a_stage_saves_it(
    straight: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    original, sent = CodeBindTrainer._maybe_log_save_evaluate, list[int]()

    def late(self: CodeBindTrainer, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.state.global_step == STEPS and Path(str(self.args.output_dir)).name == stage and not sent:
            sent.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(CodeBindTrainer, "_maybe_log_save_evaluate", late)
        with pytest.raises(RunInterrupted, match=f"SIGINT at step {STEPS} of {STEPS}; saved"):
            run(settings_for(manifest, save_minutes=1000.0), tmp_path / "run")
    assert [path.name for path in complete_checkpoints(tmp_path / "run" / stage)] == [f"checkpoint-{STEPS}"]
    assert not (tmp_path / "run" / "checkpoint").exists()
    run(None, tmp_path / "run", resume=True)
    same_results(tmp_path / "run", straight)


def test_signals_do_afterwards_what_they_did_before() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(RunInterrupted), ended_by_signals():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with ended_by_signals():
            pass
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] * 2


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ended_by_signals():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone() -> None:
    before, during = signal.getsignal(signal.SIGINT), []

    def look() -> None:
        with ended_by_signals():
            during.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert during == [before]


def test_the_way_to_go_on_can_be_typed_where_nothing_is_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "environment" / "bin"
    own.mkdir(parents=True)
    (own / "codebind").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", str(own / "python"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    folder = Path("runs/mine")
    assert way_to_go_on(folder) == "Nothing was begun there; start it again."
    folder.mkdir(parents=True)
    (folder / "run.json").touch()
    assert way_to_go_on(folder) == "Go on with: environment/bin/codebind train --resume --output_dir runs/mine"


@pytest.mark.slow
def test_a_group_of_processes_that_is_asked_to_end_saves(manifest: Path, tmp_path: Path) -> None:
    """As schedulers ask, workers included."""
    settings = settings_for(manifest, save_minutes=1000.0, max_steps=100_000, dataloader_num_workers=2).as_json()
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"data": {**settings["data"], "loading": "lazy"}, "recipe": settings["recipe"]}))
    command = [sys.executable, str(ROOT / "examples" / "train.py"), "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--output_dir", str(tmp_path / "run")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while "'loss/align'" not in (line := process.stdout.readline()):
        assert line, "ended before it trained"
    os.killpg(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert re.search(r"SIGTERM at step \d+ of 100000; saved\.\nGo on with: \S*python \S*train\.py --resume", said)
    assert complete_checkpoints(tmp_path / "run" / "bridge")
