"""One run a folder: a second one is refused, and what a killed launcher leaves ends by itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from codebind_hf.training import RunSettings, run, run_folder
from codebind_hf.training.run_folder import LOCK_FILE, RunFolder


def test_a_folder_that_is_in_use_is_refused_and_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "_PATIENCE_SECONDS", 0.1)
    other = tmp_path / "run"
    other.mkdir()
    with FileLock(other / LOCK_FILE):
        with pytest.raises(ValueError, match="--output_dir: another process trains in .*run. Fix: wait until it ends"):
            run(RunSettings({"manifest": "rows.jsonl"}), other)
        assert [path.name for path in other.iterdir()] == [LOCK_FILE]


def test_the_lock_goes_with_the_run_and_a_new_folder_with_an_error(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "a" / "b").held():
        assert (tmp_path / "a" / "b" / LOCK_FILE).is_file()
        (tmp_path / "a" / "b" / "result").write_text("")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["result"]
    with pytest.raises(ValueError, match="--resume: .* holds no run"):
        run(None, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_lock_that_a_killed_run_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("")
    with RunFolder(tmp_path).held():
        assert RunFolder(tmp_path).record() is None
        assert RunFolder(tmp_path).open(RunSettings({"manifest": "rows.jsonl"}), False, False).data
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(RunSettings({"manifest": "rows.jsonl"}), tmp_path / "file" / "run")


WORKER = """
import time
from codebind_hf.training.processes import end_with_launcher
end_with_launcher()
print("ready", flush=True)
time.sleep(60)
"""
LAUNCHER = """
import subprocess, sys
options = {"start_new_session": True, "stdout": subprocess.PIPE, "text": True}
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]], **options)
print(worker.pid, worker.stdout.readline().strip(), flush=True)
worker.wait()
"""


@pytest.mark.skipif(os.name == "nt", reason="a process there has no parent that could change")
@pytest.mark.parametrize("is_elastic", [True, False])
def test_a_process_ends_with_its_elastic_launcher(is_elastic: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"}
    environment |= {"TORCHELASTIC_RUN_ID": "none"} if is_elastic else {}
    command = [sys.executable, "-c", LAUNCHER, WORKER]
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    pid, said = launcher.stdout.readline().split()  # type: ignore[union-attr]
    assert said == "ready"
    worker = psutil.Process(int(pid))
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    end = time.monotonic() + (20 if is_elastic else 1.5)
    while is_alive(worker) and time.monotonic() < end:
        time.sleep(0.1)
    survived = is_alive(worker)
    if survived:
        worker.kill()
    assert survived is not is_elastic


def is_alive(process: psutil.Process) -> bool:
    # One that ended stays a zombie where nobody waits for orphans.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
