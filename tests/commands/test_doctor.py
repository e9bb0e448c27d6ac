"""`codebind doctor` says what works, and how to mend what does not."""

import builtins
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands_in_process import run_command

from codebind_hf.commands import readers, self_test
from codebind_hf.commands.doctor import extras
from codebind_hf.commands.readers import READERS, Outcome, try_readers
from codebind_hf.commands.self_test import SelfTest


@pytest.fixture(scope="module")
def healthy() -> dict[str, Any]:
    done = run_command("doctor", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_everything_works_in_the_environment_of_the_tests(healthy: dict[str, Any]) -> None:
    assert [each for each in healthy["readers"] if not each["works"]] == []
    assert len(healthy["readers"]) == len(READERS)
    assert healthy["self_test"]["works"]
    assert healthy["self_test"]["seconds"] < 20
    assert healthy["devices"][0]["name"] == "cpu"
    assert healthy["devices"][0]["memory_gib"] > 0
    assert {"codebind_hf", "python", "torch", "transformers", "peft", "typer"} <= healthy["versions"].keys()


def test_every_modality_that_has_files_is_tried() -> None:
    tried = {reader.modality for reader in READERS}
    assert {"image", "video", "audio", "depth", "thermal", "point_cloud", "eeg", "imu"} <= tried


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a library one that is not installed."""

    def hide(library: str) -> None:
        find, load = importlib.import_module, builtins.__import__

        def missing(name: str) -> None:
            if name.split(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {library!r}", name=library)

        def import_module(name: str, *others: Any) -> Any:
            missing(name)
            return find(name, *others)

        def imported(name: str, *others: Any, **more: Any) -> Any:
            missing(name)
            return load(name, *others, **more)

        monkeypatch.setattr("importlib.import_module", import_module)
        monkeypatch.setattr("builtins.__import__", imported)

    return hide


@pytest.mark.parametrize(
    ("library", "kinds", "extra"),
    [
        ("av", [".mp4", ".m4a"], {"video", "audio"}),
        ("laspy", [".las", ".laz"], {"points"}),
        ("lazrs", [".laz"], {"points"}),
        ("pi_heif", [".heic"], {"image"}),
        ("edfio", [".edf"], {"eeg"}),
    ],
)
def test_a_library_that_lacks_is_named_with_the_line_that_installs_it(
    without: Callable[[str], None], library: str, kinds: list[str], extra: set[str]
) -> None:
    without(library)
    broken = [outcome for outcome in try_readers() if not outcome.works]
    assert [each.suffix for each in broken] == kinds
    assert {each.reason for each in broken} == {f"{library} is not installed"}
    assert {each.fix for each in broken} == {f'pip install "codebind-hf[{name}]"' for name in extra}


def test_a_reader_that_is_there_and_reads_something_else_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(file: Path) -> None:
        file.write_text("1 2 3\n")

    monkeypatch.setattr(readers, "READERS", (READERS[0]._replace(suffix=".xyz", modality="point_cloud", write=half),))
    (found,) = try_readers()
    assert (found.works, found.reason) == (False, "read 3 values of 3072")


def test_a_self_test_that_fails_is_status_1_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        readers, "try_readers", lambda: [Outcome(".las", "point_cloud", False, "laspy lacks", "pip x")]
    )
    monkeypatch.setattr(self_test, "_go", lambda: "text: not embedded the same")
    done = run_command("doctor")
    assert done.returncode == 1
    assert "self-test: FAILED, text: not embedded the same (" in done.stdout
    assert "point_cloud .las: laspy lacks. Fix: pip x\n" in done.stdout
    done = run_command("doctor", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["self_test"]["reason"] == "text: not embedded the same"


def test_whatever_the_self_test_meets_is_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(self_test, "_go", broken)
    assert self_test.self_test() == SelfTest(False, 0.0, "RuntimeError: no such kernel")


def test_extras_that_lack_come_with_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codebind_hf.commands.doctor._version", lambda name: None if name == "gradio" else "1")
    lacking = [each for each in extras() if not each["works"]]
    assert lacking == [
        {"extra": "demo", "works": False, "lacks": ["gradio"], "fix": 'pip install "codebind-hf[demo]"'}
    ]
