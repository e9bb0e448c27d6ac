"""`accelerate launch` on two processes: one codebook, one set of loss weights, one model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from common import free_port
from small_runs import same_results, settings_for

from codebind_hf.data import NineSenses


SCRIPT = Path(__file__).parents[1] / "scripts" / "train_on_processes.py"
RUN = SCRIPT.with_name("run_on_processes.py")
STREAM = SCRIPT.with_name("stream_on_processes.py")
# Without a device of its own for every process, accelerate launches several on the CPU by this variable alone.
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def launched(script: Path | str, *arguments: str) -> str:
    """What a script, or `-m` and a module, says on two processes."""
    options = f"--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --main_process_port {free_port()}"
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *options.split()]
    done = subprocess.run(
        [*command, "--dynamo_backend", "no", str(script), *arguments],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_launched_processes_end_with_the_same_model_codebooks_and_weights(tmp_path: Path) -> None:
    launched(SCRIPT, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert first["state"].keys() == second["state"].keys()
    different = [name for name, value in first["state"].items() if not torch.equal(value, second["state"][name])]
    assert different == []
    assert first["balancer"] == second["balancer"]
    assert first["state"]["codebooks.shared.num_updates"].item() == 6, "two epochs of three rounds"
    assert [entry["step"] for entry in first["log"] if "loss" in entry] == [1, 2, 3, 4]


@pytest.mark.timeout(180)
def test_processes_on_the_cpu_know_each_other_before_anything_is_trained() -> None:
    said = launched(SCRIPT.with_name("joined_processes.py")).splitlines()
    assert [json.loads(line) for line in said] == [["0 of 2, decided by 0", "1 of 2, decided by 0"]]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_of_two_workers_share_a_stream() -> None:
    # 48 rows of two sets of modalities, 12 and 36, are 6 rounds of two batches of 4: an epoch and a half.
    first, second = json.loads(launched(STREAM, "48", "4", "9", "0").splitlines()[-1])
    assert [batch["kinds"] for batch in first] == [batch["kinds"] for batch in second]
    assert all(len(batch["kinds"]) == 1 for batch in (*first, *second))
    epoch = [name for own in (first, second) for batch in own[: rounds_of(first, second)] for name in batch["ids"]]
    assert sorted(epoch, key=int) == [str(number) for number in range(48)], "a row twice, or lost"
    later = json.loads(launched(STREAM, "48", "4", "6", "3").splitlines()[-1])
    assert later == [first[3:], second[3:]]


def rounds_of(first: list[dict], second: list[dict]) -> int:
    """Rounds of the first epoch: until 48 rows were seen."""
    seen = 0
    for number, pair in enumerate(zip(first, second, strict=True), 1):
        seen += sum(len(batch["ids"]) for batch in pair)
        if seen >= 48:
            return number
    raise AssertionError(f"only {seen} rows in {len(first)} rounds")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_look_at_a_bridge_and_tell_a_tracker_without_changing_a_bit(
    straight: Path, manifest: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    settings = settings_for(manifest).as_json()
    recipe = {**settings["recipe"], "base": str(straight), "order": "bind"}
    del recipe["model"]
    for name, trackers in (("seen", ["tensorboard"]), ("blind", [])):
        told = {**recipe, "training": {**recipe["training"], "report_to": trackers}}
        (tmp_path / f"{name}.json").write_text(json.dumps({**settings, "recipe": told}))
        launched(RUN, str(tmp_path / f"{name}.json"), str(tmp_path / name), *(["blind"] if name == "blind" else []))
    same_results(tmp_path / "seen", tmp_path / "blind")
    assert json.loads((tmp_path / "seen" / "run.json").read_text())["bridge"]["rows"] > 0
    assert len(list((tmp_path / "seen" / "logs").iterdir())) == 1, "one process writes"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_processes_train_one_model_by_the_command(tmp_path: Path) -> None:
    rows = NineSenses("train", num_bridge=12, num_target=0, modalities=["text", "image"]).export(tmp_path / "rows")
    flags = ("--manifest", str(rows), "--output_dir", str(tmp_path / "run"), "--max_steps", "2", "--batch_size", "2")
    said = launched("-m", "codebind_hf", "train", *flags)
    assert said.count(f"Wrote {tmp_path / 'run' / 'checkpoint'}.") == 1, "one process tells"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    (log,) = json.loads((tmp_path / "run" / "training.json").read_text())
    assert log["log"][-1]["step"] == 2
