"""The README's Python runs as it stands there."""

import re
from pathlib import Path

import pytest


README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_every_block_compiles() -> None:
    assert len(BLOCKS) >= 3
    for number, block in enumerate(BLOCKS):
        compile(block, f"README block {number}", "exec")


@pytest.mark.parametrize("wanted", ["from_preset", "CodeBindTrainer("])
def test_a_block_that_needs_no_files_runs(wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in BLOCKS if wanted in block]
    exec(compile(block, f"README: {wanted}", "exec"), {"__name__": "readme"})


def test_the_make_targets_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (README.parent / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README.read_text())) <= targets | {"them"}
