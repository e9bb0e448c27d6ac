"""`examples/convert.py`, run as a user runs it: from the original files to folders that `from_pretrained` reads."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from common import assert_same
from examples_in_process import run_example
from reference_checkpoints import SMALL_ARCHITECTURE, SMALL_VITLENS, TINY, TINY_CODEBIND, write_merges

from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.conversion import convert_codebind, convert_imagebind, convert_vitlens, revert_vitlens
from codebind_hf.training.adapters import load_adapter


TONE = {"array": np.sin(np.arange(32000) / 9).astype(np.float32), "sampling_rate": 16000}


convert = partial(run_example, "convert")


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
    assert "million parameters; modalities: text, image, video, audio, depth, thermal, imu" in done.stdout
    assert not (tmp_path / "out.partial").exists()
    model, processor = (kind.from_pretrained(tmp_path / "out") for kind in (CodeBindModel, CodeBindProcessor))
    embeds = model(**processor(text=["a dog", "rain"], audio=[TONE])).embeds
    assert embeds["text"].shape == (2, 24)
    expected = convert_imagebind(imagebind_file, TINY)(**processor(audio=[TONE])).embeds["audio"]
    assert torch.equal(embeds["audio"], expected)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-nc-sa-4.0" in card
    assert "adapter" not in card
    assert "trust_remote_code=True" in card


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


def test_files_of_vitlens_become_one_folder(options: list[object], tmp_path: Path) -> None:
    (tmp_path / "architecture.json").write_text(json.dumps(SMALL_ARCHITECTURE))
    torch.manual_seed(0)
    whole = CodeBindModel(CodeBindConfig(**SMALL_VITLENS))
    files = []
    for modality in ("point_cloud", "audio"):
        part = CodeBindModel(whole.config.restricted_to(["text", "image", modality]))
        part.load_state_dict({key: x for key, x in whole.state_dict().items() if key in part.state_dict()})
        files.append(tmp_path / f"{modality}.pt")
        torch.save({"state_dict": revert_vitlens(part, "single")}, files[-1])
    done = convert("--vitlens", *files, *options)
    assert done.returncode == 0, done.stderr
    assert "Point clouds: 40 points in 9 groups of 7 (nearest)." in done.stdout
    assert "modalities: text, image, video, audio, point_cloud" in done.stdout
    model, processor = (kind.from_pretrained(tmp_path / "out") for kind in (CodeBindModel, CodeBindProcessor))
    inputs = processor(text=["a bell"], audio=[TONE], point_clouds=[np.random.default_rng(0).normal(size=(90, 3))])
    assert inputs["point_values"].shape == (1, 40, 3)
    expected = convert_vitlens(files, SMALL_ARCHITECTURE)
    assert_same(model.state_dict(), expected.state_dict())
    for modality, embeds in model(**inputs).embeds.items():
        # Where a file's tensors lie in memory can change the last bit of a sum.
        torch.testing.assert_close(embeds, expected(**inputs).embeds[modality], rtol=0, atol=1e-6)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "Converted from point_cloud.pt and audio.pt" in card


def test_wrong_calls_say_what_to_do(imagebind_file: Path, options: list[object], tmp_path: Path) -> None:
    done = convert("--codebind", tmp_path, *options)
    assert done.returncode == 2
    assert "--base: missing" in done.stderr
    done = convert("--imagebind", imagebind_file, "--lora", "adapter", *options)
    assert "only with --codebind" in done.stderr
    (tmp_path / "bad.json").write_text("{")
    for name, said in (("gone.json", "no such file or directory. Fix: check the path"), ("bad.json", "is no JSON")):
        done = convert("--imagebind", imagebind_file, *options, "--architecture", tmp_path / name)
        assert f"error: --architecture: {tmp_path / name}" in done.stderr
        assert said in done.stderr
    done = convert("--imagebind", tmp_path / "architecture.json", *options)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    (tmp_path / "out").mkdir()
    done = convert("--imagebind", imagebind_file, *options)
    assert done.returncode == 2
    assert "give a new folder" in done.stderr
