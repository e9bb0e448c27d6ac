"""Whoever may read any new file in a folder may read the weights in it, too."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from common import small_config, tiny_model
from pipeline_items import WORDS

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.inference import CodeIndex
from codebind_hf.training.adapters import add_lora, save_adapter
from codebind_hf.training.tokenization import build_tokenizer


pytestmark = pytest.mark.skipif(os.name == "nt", reason="the system has no permissions of this kind")
# What processes of users have, and what a new file then gets.
MODES = {0o022: 0o644, 0o077: 0o600}


@pytest.fixture(params=MODES, ids=oct)
def expected(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield MODES[request.param]
    os.umask(before)


@pytest.fixture
def model() -> CodeBindModel:
    return tiny_model(small_config("text", "depth", text_config={"vocab_size": 600, "max_position_embeddings": 24}))


def modes_of(folder: Path) -> dict[str, int]:
    """Permissions of every file, by name."""
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*") if file.is_file()}


def assert_ordinary(folder: Path, expected: int, *names: str) -> None:
    modes = modes_of(folder)
    assert set(names) <= modes.keys()
    assert {name: oct(mode) for name, mode in modes.items() if mode != expected} == {}


def test_a_checkpoint_is_of_ordinary_files_whole_or_in_shards(
    model: CodeBindModel, expected: int, tmp_path: Path
) -> None:
    processor = CodeBindProcessor.from_model_config(model.config, build_tokenizer(WORDS * 9, 600, max_length=24))
    for size in ("5GB", "100KB", "5GB"):
        model.save_pretrained(tmp_path, max_shard_size=size)
        processor.save_pretrained(tmp_path)
        weights = "model.safetensors" if size == "5GB" else "model.safetensors.index.json"
        assert_ordinary(tmp_path, expected, weights, "config.json", "tokenizer.json", "processor_config.json")


def test_an_adapter_is_of_ordinary_files_ours_and_the_librarys(
    model: CodeBindModel, expected: int, tmp_path: Path
) -> None:
    add_lora(model, ["depth"])
    save_adapter(model, tmp_path / "ours")
    assert_ordinary(tmp_path / "ours", expected, "adapter_model.safetensors", "adapter_config.json", "config.json")
    model.save_pretrained(tmp_path / "library")
    assert_ordinary(tmp_path / "library", expected, "adapter_model.safetensors", "adapter_config.json")


def test_an_index_is_of_ordinary_files(model: CodeBindModel, expected: int, tmp_path: Path) -> None:
    index = CodeIndex.from_model(model)
    index.add(torch.zeros(2, 6, dtype=torch.long), "depth", keys=["a", "b"])
    index.save(tmp_path / "index")
    assert_ordinary(tmp_path / "index", expected, "codebook.safetensors", "index.json", "codes.npy", "keys.npy")


def test_files_that_are_not_written_keep_what_they_have(model: CodeBindModel, tmp_path: Path) -> None:
    private = tmp_path / "mine.safetensors"
    private.write_bytes(b"secret")
    private.chmod(0o600)
    model.save_pretrained(tmp_path)
    assert modes_of(tmp_path)["mine.safetensors"] == 0o600
    # Nothing that was made to find the permissions out is left.
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_process_that_writes_nothing_touches_nothing(model: CodeBindModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").chmod(0o600)
    model.save_pretrained(tmp_path, is_main_process=False)
    assert modes_of(tmp_path)["model.safetensors"] == 0o600
