"""docs/bridges.md: its Python runs, block after block, in one place."""

import re
from pathlib import Path

import pytest
from foreign_models import foreign


PAGE = (Path(__file__).parents[2] / "docs" / "bridges.md").read_text()


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    foreign("clip", tmp_path / "clip")
    names: dict = {"embedder": str(tmp_path / "clip")}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/bridges.md, block {number}", "exec"), names)
    assert len(blocks) > 1
