"""`docs/pipelines.md` and `examples/pipelines.py` run as they stand there."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples_in_process import example, run_example
from pipeline_items import item, sound

from codebind_hf.data import NineSenses
from codebind_hf.training import Recipe, build, save


ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_blocks_of_the_page_run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "picture": item("image"),
        "waveform": sound(),
        "depth_map": item("depth"),
        "millimetres": (item("depth") * 1000).astype(np.uint16),
        "eeg": item("eeg"),
        "recordings": [item("eeg", seed) for seed in range(3)],
        "pictures": [item("image", seed) for seed in range(3)],
        "sounds": [item("audio", seed) for seed in range(3)],
    }
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "pipelines.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    for number, block in enumerate(blocks):
        exec(compile(block, f"pipelines.md block {number}", "exec"), names)
    assert names["pooled"].shape == (1, 24)
    assert [vector.shape for vector in names["vectors"]] == [(24,)] * 2
    assert set(names["found"]) == {"embedding", "codes"}
    assert len(names["best"]) == 3
    assert {match["modality"] for match in names["best_sounds"]} == {"audio"}


def test_the_example_names_finds_and_shares(tmp_path: Path) -> None:
    modalities = ["text", "image", "depth", "eeg"]
    model, processor = build(Recipe(), modalities, NineSenses("test", num_rows=4).class_names)
    save(model, processor, tmp_path / "checkpoint")
    options = ("--num_items", 12, "--batch_size", 5, "--modalities", "depth,eeg")
    places = ("--checkpoint", tmp_path / "checkpoint", "--output_dir", tmp_path / "shared")
    done = run_example("pipelines", *places, *options)
    assert done.returncode == 0, done.stderr
    assert (
        re.findall(r"^(\w+) +named +[\d.]+%   picture among 10 of 12: +[\d.]+%$", done.stdout, re.M) == modalities[2:]
    )
    assert (tmp_path / "shared" / "pipelines_codebind.py").exists()


def test_the_example_refuses_modalities_that_are_not_there() -> None:
    pipelines = example("pipelines")
    rows = NineSenses("test", num_rows=1)
    assert pipelines.modalities_of(None, ("text", "image", "eeg", "imu", "depth"), rows) == ["depth", "eeg"]
    with pytest.raises(SystemExit, match="--modalities: got audio; checkpoint and data have depth, eeg."):
        pipelines.modalities_of("depth, audio", ("text", "image", "eeg", "depth"), rows)
