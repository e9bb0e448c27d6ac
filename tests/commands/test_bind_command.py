"""`codebind bind` is `codebind train --bind`, with the flags that binding has."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from commands_in_process import flags_of, run_command

from codebind_hf.commands import bind, train
from codebind_hf.commands.running import settings_of


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Flags that runs were started with."""
    found: list[dict[str, Any]] = []
    for module in (bind, train):
        monkeypatch.setattr(module, "run_from", found.append)
    return found


def test_both_start_the_same_run(started: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    common = ("--bridge", "me/bridge", "--manifest", rows, "--output_dir", tmp_path / "run", "--seed", 3)
    common += ("--tolerance", 0.1, "--shared_codes", "learning", "--max_steps", 5, "--columns", "a=eeg")
    assert run_command("bind", "eeg", *common).returncode == 0
    assert run_command("train", "--bind", "eeg", *common).returncode == 0
    one, other = started
    assert one == other
    settings = settings_of(one)
    assert settings is not None
    assert settings.bind is not None
    assert (settings.bind.modality, settings.bind.bridge, settings.bind.tolerance) == ("eeg", "me/bridge", 0.1)
    assert settings.recipe["seed"] == 3


def test_a_run_that_goes_on_needs_only_its_folder(started: list[dict[str, Any]]) -> None:
    assert run_command("bind", "--resume", "--output_dir", "run").returncode == 0
    (flags,) = started
    assert settings_of(flags) is None
    assert flags["resume"]


def test_what_binding_does_not_do_is_no_flag_of_it() -> None:
    assert flags_of("train") - flags_of("bind") == {
        *("--bind", "--test_manifest", "--test_dataset", "--template", "--base", "--backbones", "--streaming"),
    }
    assert set(inspect.signature(bind.bind).parameters) - {"modality"} <= set(
        inspect.signature(train.train).parameters
    )
    refused = run_command("bind", "--output_dir", "x", "--test_manifest", "y")
    assert refused.returncode == 2
    assert "--test_manifest: no such option" in refused.stderr
