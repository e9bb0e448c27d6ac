"""The Python in the docstrings of scripts runs as it stands there, and does what the command does."""

import ast
import json
import re
import shutil
import textwrap
from pathlib import Path

import pytest
from commands_in_process import run_command
from examples_in_process import EXAMPLES
from test_command_flags import cache, made, pictures, table


__all__ = ["cache", "made", "pictures", "table"]


def snippet_of(name: str) -> str:
    documented = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()), clean=False)
    assert documented is not None
    return textwrap.dedent(documented.partition("What it does, in Python:\n")[2])


@pytest.mark.parametrize("name", ["train", "evaluate", "search", "convert", "publish", "benchmark"])
def test_a_snippet_imports_what_it_uses(name: str) -> None:
    tree = ast.parse(snippet_of(name))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"print"}
    assert used == imported | stored
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            exec(compile(ast.Module([node], []), name, "exec"), {})


def test_searching_in_python_answers_as_the_command(
    made: Path, table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(table.parent)
    shutil.copytree(made / "checkpoint", "runs/mine/checkpoint")
    exec(compile(snippet_of("search"), "search", "exec"), {})
    printed = capsys.readouterr().out
    command = run_command("search", "--checkpoint", "runs/mine", "--gallery", "rows.jsonl", "--text", "a glass ring")
    assert printed == command.stdout


def test_evaluating_in_python_writes_what_the_command_writes(
    made: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    shutil.copytree(made / "checkpoint", "runs/mine/checkpoint")
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    Path("test.jsonl").write_text(
        "".join(json.dumps({**row, "label": "ab"[place % 2]}) + "\n" for place, row in enumerate(rows))
    )
    exec(compile(snippet_of("evaluate"), "evaluate", "exec"), {})
    command = ("evaluate", "--checkpoint", "runs/mine", "--manifest", "test.jsonl", "--template", "the digit {}")
    assert run_command(*command, "--output", "command.json").returncode == 0
    one, other = (json.loads(Path(file).read_text()) for file in ("reports/report.json", "command.json"))
    for name in ("zero_shot", "retrieval", "codebooks", "templates"):
        assert one[name] == other[name]
    assert re.search(r"the digit \{\}", Path("reports/report.md").read_text())
