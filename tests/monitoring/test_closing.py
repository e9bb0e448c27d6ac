"""What a run says when it is done: what lies there, and commands with the paths of this run."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import validate_repo_id

from codebind_hf.monitoring.closing import closing_lines
from codebind_hf.started import command_line


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * 2_500_000)
    return folder


def test_what_is_there_is_named_with_its_size(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", "checkpoint/model.safetensors", "checkpoint/config.json", "report.html")
    lines = closing_lines(folder, {"manifest": "rows.jsonl"})
    assert lines[:4] == [
        "Made:",
        f"  {folder}/checkpoint   model and processor, 5.0 MB",
        f"  {folder}/report.html  the evaluation, with pictures and players",
        "Next:",
    ]


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        ({"manifest": "a b.jsonl"}, "--manifest LABELLED_ROWS"),
        ({"manifest": "a.jsonl", "test_manifest": "my test.jsonl"}, "--manifest 'my test.jsonl'"),
        ({"dataset": "d", "test_dataset": "d:test"}, "--dataset d:test"),
        ({"dataset": "d"}, "--dataset LABELLED_ROWS"),
    ],
)
def test_commands_have_the_rows_of_this_run(tmp_path: Path, data: dict[str, Any], flags: str) -> None:
    folder = filled(tmp_path / "run", "checkpoint/model.safetensors")
    lines = closing_lines(folder, data, templates=["this is a {}"])
    assert f"  {command_line('evaluate')} --checkpoint {folder} {flags} --template 'this is a {{}}'" in lines
    assert f"  {command_line('demo')} {folder}" in lines
    assert f"  {command_line('publish')} --checkpoint {folder} --repo_id YOU/run" in lines
    searches = [line for line in lines if " search " in line]
    assert len(searches) == ("manifest" in data)
    assert all(line.endswith("'a b.jsonl'") or line.endswith("'my test.jsonl'") for line in searches)


def test_files_that_the_run_exported_are_searched(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", "checkpoint/model.safetensors", "files/manifest.jsonl")
    lines = closing_lines(folder, {"nine_senses": {}})
    assert (
        f"  {command_line('search')} --checkpoint {folder} --text WORDS --gallery {folder}/files/manifest.jsonl"
        in lines
    )
    assert f"  {command_line('evaluate')} --checkpoint {folder} --manifest {folder}/files/manifest.jsonl" in lines


def test_what_was_bound_is_used_beside_its_bridge(tmp_path: Path) -> None:
    folder = filled(tmp_path / "eeg", "checkpoint/model.safetensors", "pack/pack.safetensors")
    lines = closing_lines(folder, {"manifest": "rows.jsonl"}, bound="eeg", bridge="runs/demo")
    evaluate = f"  {command_line('evaluate')} --checkpoint runs/demo --packs {folder} --manifest LABELLED_ROWS"
    assert evaluate in lines
    assert f"  {command_line('publish')} --pack {folder} --bridge runs/demo --repo_id YOU/eeg" in lines


def test_without_text_a_file_is_searched_by(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", "checkpoint/model.safetensors")
    lines = closing_lines(folder, {"manifest": "rows.jsonl"}, has_text=False)
    assert f"  {command_line('search')} --checkpoint {folder} --query FILE --gallery rows.jsonl" in lines
    assert "--text" not in " ".join(lines)


def test_rows_are_read_as_the_run_read_them(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", "checkpoint/model.safetensors")
    data = {
        **{"manifest": "a.csv", "test_manifest": "b.csv", "columns": {"img": "image", "kind": "label"}},
        **{"text_from_label": ["a {}", "the {}"], "encoding": "latin-1"},
    }
    lines = closing_lines(folder, data)
    flags = "--columns img=image,kind=label --text_from_label 'a {}' --text_from_label 'the {}' --encoding latin-1"
    assert f"  {command_line('evaluate')} --checkpoint {folder} --manifest b.csv {flags}" in lines
    assert f"  {command_line('search')} --checkpoint {folder} --text WORDS --gallery b.csv {flags}" in lines


@pytest.mark.parametrize(
    ("name", "called"),
    [("my run", "my-run"), ("v1.2_a-b", "v1.2_a-b"), ("..a--b..", "a-b"), ("\N{GREEK SMALL LETTER ALPHA}", "model")],
)
def test_the_proposed_name_is_one_that_the_hub_takes(tmp_path: Path, name: str, called: str) -> None:
    folder = filled(tmp_path / name, "checkpoint/model.safetensors")
    validate_repo_id(f"YOU/{called}")
    assert closing_lines(folder, {"manifest": "a.jsonl"})[-1].endswith(f" --repo_id YOU/{called}")
