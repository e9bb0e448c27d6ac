"""`examples/study_decoupling.py`: its table by hand, and two cells in miniature."""

import json
from pathlib import Path
from typing import Any

import pytest
from examples_in_process import example, run_example

from codebind_hf.training.building import recipe_config


def test_other_rows_are_differences_in_pairs() -> None:
    study = example("study_decoupling")
    keys = study.MEASURES.values()
    found = {
        "tiny": {world: dict.fromkeys(keys, 0.5 + 0.1 * world) for world in (0, 1)},
        # World 7 has no pair.
        "cls": {0: dict.fromkeys(keys, 0.4), 1: dict.fromkeys(keys, 0.54), 7: dict.fromkeys(keys, 0.0)},
    }
    lines = study.table(found).splitlines()
    # 50 and 60: mean 55, deviation 7.07, over the square root of two. Differences -10 and -6.
    assert lines[2].startswith("| tiny | 55.0 ± 5.0 |")
    assert lines[3].startswith("| cls (2) | -8.0 ± 2.0 |")
    assert study.mean_and_error([0.25], signed=True) == "+25.0"


def test_details_are_means_with_differences_to_what_was_before() -> None:
    study = example("study_decoupling")

    def report(accuracy: float, recall: float | None) -> dict[str, Any]:
        retrieval = {"recall_at_10": recall, "recall_at_10_continuous": recall}
        return {
            "zero_shot": {"audio": {"accuracy": accuracy, "accuracy_continuous": accuracy}},
            "retrieval": {} if recall is None else {"audio_to_image": retrieval},
            "reconstruction": {"audio": {"relative_mse": 0.25}},
        }

    reports = {0: report(0.5, 0.2), 1: report(0.7, 0.4)}
    lines = study.details(reports, {0: report(0.4, 0.3), 5: report(0.9, 0.9)}, study.by_modality).splitlines()
    # 50 and 70: mean 60, deviation 14.1, over the square root of two. Only world 0 has a pair: 50 - 40 and 20 - 30.
    assert lines[2].startswith("| audio (2) | 60.0 ± 10.0 (+10.0) | 60.0 ± 10.0 (+10.0) | 30.0 ± 10.0 (-10.0) |")
    assert lines[2].endswith("| 75.0 ± 0.0 (+0.0) |")
    assert " - | - |" in study.details({0: report(0.5, None)}, {}, study.by_modality).splitlines()[2]


def test_every_row_is_a_recipe() -> None:
    study = example("study_decoupling")
    arguments = study.argparse.Namespace(preset="tiny", seed=3, max_steps=2)
    recipes = {row: study.recipe_of(row, arguments) for row in study.ROWS}
    assert {recipe.seed for recipe in recipes.values()} == {3}
    assert recipes["tiny"].stages["bind"] == {
        "train_bridge_heads": "shared",
        "freeze_shared_codes": False,
        "cache_bridge": ["text"],
        "max_steps": 2,
    }
    assert recipes["frozen-bridge"].stages["bind"]["train_bridge_heads"] is False
    # A row that changes nothing would be a row of zeros.
    plain = recipe_config(recipes["tiny"]).to_dict()
    changed = {row for row, recipe in recipes.items() if recipe_config(recipe).to_dict() != plain}
    assert set(study.ROWS) - changed == {"tiny", "decorr-at-once", "frozen-bridge"}
    assert recipes["decorr-at-once"].training["loss_warmup"] is None
    assert recipes["cls"].model == {"specific_readout": "cls"}
    assert recipes["before"].stages["bind"]["max_steps"] == 2


def test_wrong_rows_and_worlds_are_named(tmp_path: Path) -> None:
    for arguments, named in ((("--rows", "tiny,best"), "--rows: got best"), (("--worlds", "a"), "--worlds: got 'a'")):
        done = run_example("study_decoupling", *arguments, "--output_dir", tmp_path)
        assert done.returncode == 2
        assert named in done.stderr


@pytest.mark.slow
def test_a_study_in_miniature_goes_on_where_it_stopped(tmp_path: Path) -> None:
    sizes = ("--num_bridge", 70, "--num_target", 8, "--max_steps", 2, "--num_rows", 60)
    first = run_example("study_decoupling", "--worlds", 3, "--output_dir", tmp_path, *sizes)
    assert first.returncode == 0, first.stderr
    cell = tmp_path / "tiny-3.json"
    before = cell.stat().st_mtime_ns
    done = run_example("study_decoupling", "--worlds", 3, "--rows", "tiny,cls", "--output_dir", tmp_path, *sizes)
    assert done.returncode == 0, done.stderr
    assert cell.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "cls-3.json").read_text())["summary"]["decoupling"]["readable"] > 5
    written = (tmp_path / "decoupling.md").read_text()
    assert written in done.stdout
    assert "| cls (1) |" in written
    assert "| audio (1) |" in written
    assert "| audio.hum (1) |" in written
