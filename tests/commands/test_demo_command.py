"""`codebind demo` starts the app of a model that is there, and says what it lacks."""

import importlib.machinery
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commands_in_process import run_command


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the app was started with; gradio counts as installed."""
    found: list[tuple[Any, ...]] = []
    app, gradio = ModuleType("codebind_hf.serving.demo_app"), ModuleType("gradio")

    def launch(checkpoint: str, gallery: str | None, host: str, port: int, share: bool, open_browser: bool) -> None:
        found.append((checkpoint, gallery, host, port, share, open_browser))

    app.launch = launch  # type: ignore[attr-defined]
    gradio.__spec__ = importlib.machinery.ModuleSpec("gradio", None)
    monkeypatch.setitem(sys.modules, "codebind_hf.serving", ModuleType("codebind_hf.serving"))
    monkeypatch.setitem(sys.modules, "codebind_hf.serving.demo_app", app)
    space = ModuleType("codebind_hf.serving.space")

    def write_space(folder: Path, checkpoint: str, gallery: str | None) -> Path:
        found.append((folder, checkpoint, gallery))
        return folder

    space.write_space = write_space  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codebind_hf.serving.space", space)
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint" / "config.json").write_text("{}")
    return tmp_path / "run"


def test_the_app_gets_what_the_flags_say(calls: list[tuple[Any, ...]], run: Path) -> None:
    assert run_command("demo", run).returncode == 0
    given = ("--gallery", "a.jsonl", "--host", "0.0.0.0", "--port", 7999, "--share", "--no_browser")  # noqa: S104
    assert run_command("demo", run, *given).returncode == 0
    usual = (str(run), None, "127.0.0.1", 7860, False, True)
    assert calls == [usual, (str(run), "a.jsonl", "0.0.0.0", 7999, True, False)]  # noqa: S104


def test_a_space_is_written_instead_and_how_to_put_it_online_is_said(
    calls: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    # A model that is on the Hub alone.
    done = run_command("demo", "me/model", "--space", tmp_path / "space", "--gallery", "a.jsonl")
    assert done.returncode == 0, done.stderr
    assert calls == [(tmp_path / "space", "me/model", "a.jsonl")]
    assert f"hf upload --repo-type space USER/NAME {tmp_path / 'space'}" in done.stdout


def test_a_port_that_is_taken_is_named(calls: list[tuple[Any, ...]], run: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run_command("demo", run, "--port", port)
    assert done.returncode == 1
    assert f"error: --port: {port} at 127.0.0.1 cannot be had (" in done.stderr
    assert "Fix: another --port." in done.stderr
    assert calls == []


def test_no_app_is_started_for_what_is_no_model(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    done = run_command("demo", tmp_path / "gone")
    assert done.returncode == 1
    assert f"error: MODEL: no folder {tmp_path / 'gone'}. Fix: give a run of `codebind train`" in done.stderr
    assert calls == []


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    monkeypatch.setattr("codebind_hf.commands.values.find_spec", lambda name: None)
    done = run_command("demo", run)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        'error: the demo needs gradio, which is not installed. Fix: pip install "codebind-hf[demo]".\n'
    )


def test_a_port_that_no_machine_has_is_refused(calls: list[tuple[Any, ...]], run: Path) -> None:
    done = run_command("demo", run, "--port", 65536)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: --port: got 65536; allowed: a whole number from 1 to 65535." in done.stderr
    assert run_command("demo", run, "--port", 65535).returncode == 0
    assert [call[3] for call in calls] == [65535]
