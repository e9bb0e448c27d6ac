"""`examples/evaluate.py` and `examples/search.py` with `--packs`: as the model that has the modality itself."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from examples_in_process import run_example


WORDS = ("a bell", "b")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve radar recordings with a text and a label."""
    folder = tmp_path_factory.mktemp("rows")
    draw, lines = np.random.default_rng(0), []
    for row in range(12):
        np.save(folder / f"{row}.npy", draw.normal(size=(2, 30)).astype("float32"))
        lines.append({"id": f"r{row}", "label": WORDS[row % 2], "text": WORDS[row % 2], "radar": f"{row}.npy"})
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def at_home(labs: Callable[[str], SimpleNamespace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the lab, bridge and radar in one."""
    folder, lab = tmp_path_factory.mktemp("home") / "radar-lab", labs("radar")
    lab.model.save_pretrained(folder)
    lab.processor.save_pretrained(folder)
    return folder


def done(*arguments: object) -> str:
    found = run_example(*arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_both_commands_read_the_modality_of_a_pack(
    bridge: Path, labs: Callable[[str], SimpleNamespace], at_home: Path, rows: Path, tmp_path: Path
) -> None:
    pack = labs("radar").folder
    with_pack, alone = ("--checkpoint", bridge, "--packs", pack), ("--checkpoint", at_home)
    query = ("--query", rows.with_name("3.npy"), "--modality", "radar", "--gallery", rows, "--top_k", 3)
    for by in ("what", "which", "both"):
        found = [done("search", *which, *query, "--by", by) for which in (with_pack, alone)]
        assert found[0] == found[1]
        assert ("\nradar\n  1. +1.000  3.npy" in found[0]) == (by != "what")
        assert ("\ntext\n" in found[0]) == (by == "what")
    reports = []
    for number, which in enumerate((with_pack, alone)):
        file = tmp_path / f"{number}.json"
        done("evaluate", *which, "--manifest", rows, "--output", file)
        reports.append(json.loads(file.read_text()))
    assert reports[0]["packs"] == {"radar": labs("radar").pack.sha256}
    assert "packs" not in reports[1]
    assert re.search(rf"pack radar \(SHA-256\) +\| `{labs('radar').pack.sha256}`", (tmp_path / "0.md").read_text())
    assert reports[0]["zero_shot"]["radar"]["n"] == 12
    for section in ("zero_shot", "retrieval"):
        assert reports[0][section] == reports[1][section]


def test_what_cannot_be_is_refused_in_one_line(
    bridge: Path, labs: Callable[[str], SimpleNamespace], rows: Path
) -> None:
    pack = ("--checkpoint", bridge, "--packs", labs("radar").folder)
    query = ("--query", rows.with_name("3.npy"), "--modality", "radar")
    for arguments, message in (
        (("--checkpoint", bridge, "--packs", bridge, *query), "bridge has no pack.json, so it is no pack"),
        ((*pack, "--text", "b", "--by", "which"), "--by: got which, and text has no specific part"),
        ((*pack, *query, "--by", "both", "--modalities", "text"), "--modalities: got text; by both, a query of radar"),
        (
            (*pack, "--query", rows.with_name("3.npy"), "--modality", "depth", "--by", "which"),
            "--by: got which, and no",
        ),
    ):
        found = run_example("search", *arguments, "--gallery", rows)
        assert found.returncode == 1
        assert re.search(f"^error: .*{message}", found.stderr, re.MULTILINE), found.stderr
