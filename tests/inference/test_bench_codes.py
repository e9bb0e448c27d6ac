"""`examples/bench/codes.py`: its measures by hand, and a run in miniature on a model that has learned nothing."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from examples_in_process import example, run_example

from codebind_hf.data import NineSenses
from codebind_hf.training import Recipe, build, save


pytest.importorskip("faiss", reason="the extra `index`")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return example("bench/codes")


def test_recall_counts_what_reaches_the_tenth_best(benchmark: ModuleType) -> None:
    # Twelve items, of which the tenth and the eleventh tie. Nine and the eleventh are as good as the first ten; with
    # the twelfth, which falls short, nine of ten are right; ranked upside down, the twelfth alone is wrong again.
    exact = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.05, 0.0]])
    places = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 9, 10]])
    assert benchmark.recall(-places, exact) == 1.0
    places[0, -3:] = 11, 10, 9
    assert benchmark.recall(-places, exact) == pytest.approx(0.9)
    assert benchmark.recall(-exact, exact) == pytest.approx(0.9)


def test_an_object_that_ties_is_found_by_chance(benchmark: ModuleType) -> None:
    # All twenty items tie: the own one is among the ten best in half of the draws.
    assert benchmark.finds_object(np.zeros((1, 20))) == pytest.approx(0.5)
    assert benchmark.finds_object(np.eye(3, 20)) == 1.0


SIZES = {"objects": 14, "queries": 4, "fit_objects": 20, "speed_items": 300}


def run(checkpoint: Path, folder: Path) -> dict:
    options = [text for name, size in SIZES.items() for text in (f"--{name}", str(size))]
    done = run_example("bench/codes", "--checkpoint", checkpoint, "--output_dir", folder, *options)
    assert done.returncode == 0, done.stderr
    assert (folder / "codes.md").read_text() in done.stdout
    return json.loads((folder / "codes.json").read_text())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrained")
    rows = NineSenses("train", num_bridge=1, num_target=1)
    model, processor = build(Recipe(preset="tiny"), list(rows.modalities), ["a photo of a ball"])
    save(model, processor, folder)
    return folder


@pytest.fixture(scope="module")
def report(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run(checkpoint, tmp_path_factory.mktemp("codes"))


@pytest.mark.slow
def test_a_miniature_run_writes_every_number(report: dict) -> None:
    assert report["settings"] == {**SIZES, "world": 0, "seed": 0, "trained_here_for_steps": None}
    assert {"date", "torch", "faiss"} <= report["environment"].keys()
    exact = report["storages"]["float32"]["modalities"]
    assert len(exact) == 9
    assert all(entry["recall"] == entry["recall_mixed"] == 1.0 for entry in exact.values())
    sizes = {name: entry["bytes"] for name, entry in report["storages"].items()}
    assert {sizes["codes of the model"], sizes["PQ"], sizes["OPQ"]} == {"16"}
    codes = report["storages"]["codes of the model"]["modalities"]
    assert all(0.0 < entry["recall"] < 1.0 for entry in codes.values())
