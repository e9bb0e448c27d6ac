"""docs/packs.md: its Python runs, and its tables are the format and the errors of the code."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands_in_process import flags_of

from codebind_hf.packs import pack_files
from codebind_hf.packs.identity import LAYOUT


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "packs.md").read_text()


def test_the_blocks_run(
    bridge: Path, labs: Callable[[str], SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place, target in (
        ("me/codebind-demo", bridge),
        ("bridge", bridge),
        ("runs/radar/pack", labs("radar").folder),
        ("me/thermal", labs("lidar").folder),
    ):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).symlink_to(target)
    names: dict = {}
    loading, saving = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(loading, "docs/packs.md", "exec"), names)
    assert {"radar", "lidar"} < set(names["model"].config.modality_names)
    assert names["some"].config.modality_names == ("text", "radar")
    exec(compile(saving, "docs/packs.md", "exec"), names)
    assert (tmp_path / "radar" / "pack.json").is_file()


def test_its_tables_are_the_fields(labs: Callable[[str], SimpleNamespace]) -> None:
    written = json.loads((labs("radar").folder / "pack.json").read_text())
    table = PAGE.partition("## The format")[2].partition("## What is refused")[0]
    top, _, entry = table.partition("| of a modality |")
    rows = r"^\| `(\w+)` \|"
    assert set(re.findall(rows, top, re.MULTILINE)) == set(written)
    assert set(re.findall(rows, entry, re.MULTILINE)) == set(written["modalities"]["radar"])
    for name in (
        "name",
        "layout",
        "readings",
        "parts",
        *written["bridge"]["parts"],
        *LAYOUT,
        *pack_files._FINGERPRINT,
    ):
        assert f"`{name}`" in PAGE, name
    assert f"Format {pack_files.FORMAT_VERSION}," in PAGE
    assert all(f"`{path.name}`" in table for path in labs("radar").folder.iterdir())


def test_the_flags_it_names_are_those_of_the_examples() -> None:
    known = flags_of("train") | flags_of("publish") | flags_of("evaluate") | flags_of("search")
    flags = set(re.findall(r"(--[a-z_]+)", PAGE))
    assert len(flags) >= 8
    assert flags - known == set()
