"""The README is short, its code runs as it stands there, and what it says is there or was measured."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from site_pages import blocks_of, check_command, commands_of, make_world

from codebind_hf.model.presets import PRESETS


ROOT = Path(__file__).parents[1]
PAGE = "../README.md"
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path)
    for kind in ("audio", "depth"):
        shutil.copytree(world / kind, world / "runs" / "demo" / "files" / kind)
    monkeypatch.chdir(world)
    (block,) = blocks_of(PAGE, "python")
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(block.text, "README", "exec"), names)
    assert np.shape(names["cosine"]) == (1, 2)


def test_its_commands_exist_with_their_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [words for block in blocks_of(PAGE, "bash") for words in commands_of(block)]
    assert len(lines) >= 6
    for words in lines:
        check_command(words, monkeypatch)


def test_its_rows_can_be_read() -> None:
    (block,) = blocks_of(PAGE, "json")
    assert {"text", "image", "audio", "label"} == set(json.loads(block.text))


def test_its_links_lead_somewhere() -> None:
    places = re.findall(r"\]\(([^)#]+)", TEXT)
    assert len(places) > 15
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_it_names_every_preset() -> None:
    assert set(re.findall(r"`((?:codebind-)?(?:tiny|ib|vl)[\w-]*)`", TEXT)) == set(PRESETS)


def test_its_table_is_of_the_run_that_the_card_is_of() -> None:
    figures = json.loads((ROOT / "model_cards" / "results" / "codebind-tiny.json").read_text())["zero_shot"]
    rows = {line.split(" | ")[0][2:]: line.split(" | ")[1:3] for line in TEXT.splitlines() if line.startswith("| ")}
    for name, entry in figures.items():
        said = rows[{"eeg": "EEG"}.get(name, name.replace("_", " "))]
        assert said == [f"{100 * entry[key]:.1f} %" for key in ("accuracy", "accuracy_continuous")], name


def test_the_picture_on_top_is_small_enough_to_load() -> None:
    assert os.path.getsize(ROOT / "docs" / "images" / "overview.png") < 300_000
