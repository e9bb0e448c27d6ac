"""Lines to go on with work for how a process was started: by name, as a module, as a script, through a launcher."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from codebind_hf.started import command_line, launcher, typed_flags


@pytest.fixture(autouse=True)
def activated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an environment's programs, which are found without a path."""
    own = tmp_path / "environment" / "bin"
    own.mkdir(parents=True)
    for name in ("python", "accelerate", "codebind"):
        (own / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", str(own / "python"))
    monkeypatch.setattr("shutil.which", lambda name: str(own / name))
    monkeypatch.setattr("sys.argv", [str(own / "codebind")])
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    return own


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process runs a script that has others beside it."""
    (tmp_path / "examples").mkdir()
    for name in ("train", "search"):
        (tmp_path / "examples" / f"{name}.py").touch()
    monkeypatch.setattr("sys.argv", [os.path.join("examples", "train.py")])


def test_a_command_is_called_by_its_name() -> None:
    assert command_line("train") == "codebind train"


def test_a_script_names_the_one_beside_it(script: None) -> None:
    assert command_line("train") == f"python {os.path.join('examples', 'train.py')}"
    assert command_line("search") == f"python {os.path.join('examples', 'search.py')}"
    assert command_line("demo") == "codebind demo", "which no script does"


def test_a_module_is_called_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    main = SimpleNamespace(__spec__=SimpleNamespace(name="codebind_hf.__main__"))
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert command_line("search") == "python -m codebind_hf search"


def test_training_is_launched_as_it_was(script: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert command_line("train") == f"accelerate launch {os.path.join('examples', 'train.py')}"
    assert command_line("search").startswith("python "), "which needs one process"
    main = SimpleNamespace(__spec__=SimpleNamespace(name="codebind_hf.__main__"))
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert command_line("train") == "accelerate launch -m codebind_hf train"


@pytest.mark.parametrize("found", [None, "/usr/bin/codebind"])
def test_an_environment_that_is_not_activated_is_named(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    monkeypatch.setattr("shutil.which", lambda name: found)
    assert command_line("train") == f"{os.path.join('environment', 'bin', 'codebind')} train"
    assert launcher("nothing") == "nothing"


def test_flags_are_typed_as_commands_read_them() -> None:
    values = {"manifest": "a b.jsonl", "dataset": None, "template": ["a {}", "{}"], "columns": {"x": "y", "u": "v"}}
    assert typed_flags({**values, "packs": [], "encoding": ""}) == [
        *("--manifest", "a b.jsonl", "--template", "a {}", "--template", "{}", "--columns", "x=y,u=v"),
    ]
