"""`examples/convert.py`, run as a user runs it: from the original files to folders that `from_pretrained` reads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_checkpoints import TINY, TINY_CODEBIND, write_merges

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.conversion import convert_codebind, convert_imagebind
from codebind_hf.training.adapters import load_adapter


SCRIPT = Path(__file__).parents[2] / "examples" / "convert.py"
TONE = {"array": np.sin(np.arange(32000) / 9).astype(np.float32), "sampling_rate": 16000}


def convert(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture
def options(tmp_path: Path) -> list[object]:
    """Arguments that every call here has."""
    (tmp_path / "architecture.json").write_text(json.dumps(TINY_CODEBIND))
    bpe = write_merges(tmp_path / "bpe.txt.gz")
    return ["--bpe", bpe, "--architecture", tmp_path / "architecture.json", "--output_dir", tmp_path / "out"]


def test_imagebind_becomes_a_folder_with_model_and_processor(
    imagebind_file: Path, options: list[object], tmp_path: Path
) -> None:
    (tmp_path / "architecture.json").write_text(json.dumps(TINY))
    done = convert("--imagebind", imagebind_file, *options)
    assert done.returncode == 0, done.stderr
    assert "million parameters; senses: text, image, video, audio, depth, thermal, imu" in done.stdout
    assert not (tmp_path / "out.partial").exists()
    model, processor = (kind.from_pretrained(tmp_path / "out") for kind in (CodeBindModel, CodeBindProcessor))
    embeds = model(**processor(text=["a dog", "rain"], audio=[TONE])).embeds
    assert embeds["text"].shape == (2, 24)
    expected = convert_imagebind(imagebind_file, TINY)(**processor(audio=[TONE])).embeds["audio"]
    assert torch.equal(embeds["audio"], expected)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-nc-sa-4.0" in card
    assert "adapter" not in card


def test_an_experiment_becomes_a_base_and_an_adapter(
    experiment: Path, imagebind_file: Path, options: list[object], tmp_path: Path
) -> None:
    done = convert("--codebind", experiment, "--base", imagebind_file, "--lora", "adapter", *options)
    assert done.returncode == 0, done.stderr
    model, processor = (kind.from_pretrained(tmp_path / "out") for kind in (CodeBindModel, CodeBindProcessor))
    load_adapter(model, tmp_path / "out" / "adapter")
    assert 'load_adapter(model, "out/adapter")' in (tmp_path / "out" / "README.md").read_text()
    inputs = processor(audio=[TONE])
    assert inputs["input_features"].shape == (1, 1, 128, 204)
    expected = convert_codebind(experiment, imagebind_file, TINY_CODEBIND, lora="adapter")(**inputs)
    assert torch.equal(model.eval()(**inputs).embeds["audio"], expected.embeds["audio"])


def test_wrong_calls_say_what_to_do(imagebind_file: Path, options: list[object], tmp_path: Path) -> None:
    done = convert("--codebind", tmp_path, *options)
    assert done.returncode == 2
    assert "--base: missing" in done.stderr
    done = convert("--imagebind", imagebind_file, "--lora", "adapter", *options)
    assert "only with --codebind" in done.stderr
    done = convert("--imagebind", tmp_path / "architecture.json", *options)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    (tmp_path / "out").mkdir()
    done = convert("--imagebind", imagebind_file, *options)
    assert done.returncode == 2
    assert "give a new folder" in done.stderr
