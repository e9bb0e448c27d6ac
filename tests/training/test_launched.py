"""`accelerate launch` on two processes: one codebook, one set of loss weights, one model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from common import free_port


SCRIPT = Path(__file__).parents[1] / "scripts" / "train_on_processes.py"
# Without a device of its own for every process, accelerate launches several on the CPU by this variable alone.
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def launched(script: Path, *arguments: str) -> str:
    """What a script says on two processes."""
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
    said = launched(SCRIPT.with_name("joined_processes.py"))
    assert sorted(said.split("\n")[:2]) == ["0 of 2, decided by 0", "1 of 2, decided by 0"]
