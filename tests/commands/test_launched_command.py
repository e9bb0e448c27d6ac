"""`accelerate launch -m codebind_hf train` on two processes."""

import json
from pathlib import Path

import pytest
from test_launched import launched

from codebind_hf.data import NineSenses


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_processes_train_one_model_by_the_command(tmp_path: Path) -> None:
    rows = NineSenses("train", num_bridge=12, num_target=0, modalities=["text", "image"]).export(tmp_path / "rows")
    flags = ("--manifest", str(rows), "--output_dir", str(tmp_path / "run"), "--max_steps", "2", "--batch_size", "2")
    said = launched(Path("-m"), "codebind_hf", "train", *flags)
    assert said.count(f"Wrote {tmp_path / 'run' / 'checkpoint'}.") == 1, "one process tells"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    (log,) = json.loads((tmp_path / "run" / "training.json").read_text())
    assert log["log"][-1]["step"] == 2
