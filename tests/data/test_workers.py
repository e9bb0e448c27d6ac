"""Processes that read rows: not in the way of one that is asked to end."""

import ast
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from codebind_hf.data.workers import in_own_group


PACKAGE = Path(__file__).parents[2] / "codebind_hf"


class Groups(Dataset):
    """Who reads a row, and in which group of processes."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[int, int]:
        return os.getpid(), os.getpgid(0)


def test_a_worker_is_in_a_group_of_its_own() -> None:
    loader: DataLoader = DataLoader(Groups(), None, num_workers=1, worker_init_fn=in_own_group)
    assert {process == group for process, group in loader} == {True}
    assert {group == os.getpgid(0) for _, group in loader} == {False}


def test_a_worker_also_begins_as_it_would(tmp_path: Path) -> None:
    begin = partial(in_own_group, begin=lambda worker: (tmp_path / str(worker)).touch())
    assert len(list(DataLoader(Groups(), None, num_workers=2, worker_init_fn=begin))) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def loaders() -> list[Any]:
    """Every `DataLoader(...)` of the package that can have workers."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DataLoader":
                options = {keyword.arg: keyword.value for keyword in node.keywords}
                if "num_workers" in options:
                    found.append(pytest.param(options, id=f"{file.stem}-{node.lineno}"))
    return found


@pytest.mark.parametrize("options", loaders())
def test_workers_of_every_loader_are(options: dict[str, Any]) -> None:
    assert "worker_init_fn" in options
    assert "in_own_group" in ast.dump(options["worker_init_fn"])
