"""Every block of code of the site runs as it stands there, or a page says why it cannot."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from common import free_port
from examples_in_process import run_example
from PIL import Image as Pillow
from site_pages import (
    DOCS,
    NOT_RUN,
    ROOT,
    blocks_of,
    check_command,
    commands_of,
    make_world,
    pages,
)

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.inference import CodeIndex, Depth, PointCloud
from codebind_hf.processing.foreign_files import FILE_LIMITS


# Pages whose tests look at what the blocks give, beside running them.
ELSEWHERE = {
    "benchmarks.md": "benchmarks/test_registry.py",
    "bridges.md": "model/test_bridge_docs.py",
    "conversion.md": "conversion/test_docs.py",
    "data.md": "data/test_data_docs.py",
    "decoupling.md": "model/test_decoding.py",
    "demo.md": "serving/test_demo_docs.py",
    "encode.md": "conversion/test_docs.py",
    "metrics.md": "evaluation/test_metric_modules.py",
    "packs.md": "packs/test_pack_docs.py",
    "pipelines.md": "inference/test_pipeline_docs.py",
    "specific.md": "evaluation/test_specific_docs.py",
    "training.md": "conversion/test_docs.py",
    "uses.md": "inference/test_uses_docs.py",
}
# Pages that train or compare, which takes too long for `make test`.
SLOW = {"how-to/gpus-and-precision.md", "how-to/watch-a-run.md", "tutorials/bind-a-sensor.md"}
PYTHON = [page for page in pages() if blocks_of(page, "python")]
HERE = [page for page in PYTHON if page not in ELSEWHERE]
BASH = [page for page in pages() if blocks_of(page, "bash")]
MOST_NOT_RUN = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the world, as the working folder."""
    # Pages add files and change none, so links are copies.
    shutil.copytree(world, tmp_path / "here", copy_function=os.link)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        yield tmp_path / "here"


def given_codes() -> dict[str, Any]:
    model, processor = loaded()
    pictures = [Pillow.open(path) for path in sorted(Path("image").glob("*.png"))[:6]]
    sounds = sorted(Path("audio").glob("*.wav"))[:4]
    ids = model.encode({"image": pictures[:2]}, processor, output="codes")
    other = CodeIndex.from_model(model)
    other.add(ids["image"], "image", keys=["a.png", "b.png"])
    other.save("shard-2")
    names: dict[str, Any] = {
        "picture_files": [f"{number}.png" for number in range(6)],
        "sound_files": [path.name for path in sounds],
    }
    return {
        **names,
        "model": model,
        "processor": processor,
        "pictures": pictures,
        "sounds": sounds,
        "queries": ids["image"],
    }


def given_files() -> dict[str, Any]:
    model, processor = loaded()
    holes, points = np.load("map.npy"), np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    holes[3, 4], points[7] = 0, 0
    names = {"config": model.config, "tokenizer": processor.tokenizer, "holes": holes, "points": points}
    wrappers = {"CodeBindProcessor": CodeBindProcessor, "Depth": Depth, "PointCloud": PointCloud}
    return {**names, **wrappers, "model": model}


def loaded() -> tuple[CodeBindModel, CodeBindProcessor]:
    folder = "runs/demo/checkpoint"
    return CodeBindModel.from_pretrained(folder), CodeBindProcessor.from_pretrained(folder)


# What "yours" is on pages that go on from the reader's own values.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {"codes.md": given_codes, "files.md": given_files}


def test_every_page_with_python_is_run_somewhere() -> None:
    assert set(ELSEWHERE) <= set(PYTHON)
    for page, file in ELSEWHERE.items():
        assert re.search(rf"\b{Path(page).name}\b", (ROOT / "tests" / file).read_text()), file


@pytest.mark.parametrize("page", PYTHON)
def test_python_compiles(page: str) -> None:
    for block in blocks_of(page, "python"):
        compile(block.text, f"{page}, block {block.number}", "exec")


@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in HERE])
def test_python_runs(page: str, here: Path) -> None:
    names: dict[str, Any] = {"__name__": "page", **GIVEN.get(page, dict)()}
    limits = dataclasses.replace(FILE_LIMITS)
    for block in blocks_of(page, "python"):
        if block.not_run is None:
            exec(compile(block.text, f"{page}, block {block.number}", "exec"), names)
    vars(FILE_LIMITS).update(vars(limits))


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    left_out = [block for page in pages() for block in blocks_of(page) if block.not_run]
    assert len(left_out) <= MOST_NOT_RUN
    assert all(len(block.not_run or "") > 10 for block in left_out)
    for page in pages():
        marks = re.findall(r"<!-- not run:", (DOCS / page).read_text())
        assert len(marks) == len([block for block in blocks_of(page) if block.not_run]), f"{page}: a mark of no block"
    assert NOT_RUN.search("<!-- not run: needs CUDA -->\n")


@pytest.mark.parametrize("page", BASH)
def test_commands_exist_with_their_flags(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for block in blocks_of(page, "bash"):
        for words in commands_of(block):
            check_command(words, monkeypatch)


@pytest.mark.slow
def test_the_searches_of_the_tutorial_find_something(here: Path) -> None:
    found = 0
    for block in blocks_of("tutorials/search-across-senses.md", "bash"):
        for words in commands_of(block):
            done = run_example(words[1], *words[2:])
            assert done.returncode == 0, done.stderr
            assert re.search(r"^  1\. [+-]0\.\d+ ", done.stdout, re.MULTILINE), done.stdout
            found += 1
    assert found == 3


@pytest.mark.parametrize("page", pages())
def test_data_in_pages_can_be_read(page: str) -> None:
    for block in blocks_of(page, "json"):
        for line in [block.text] if block.text.startswith("{\n") else block.text.splitlines():
            json.loads(line)
    for block in blocks_of(page, "yaml"):
        assert yaml.safe_load(block.text) is not None, f"{page}, block {block.number}"


@pytest.mark.parametrize("path", sorted((DOCS / "accelerate").glob("*.yaml")), ids=lambda path: path.name)
def test_the_configurations_of_accelerate_are_ones(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes == yaml.safe_load(path.read_text())["num_processes"]
    assert f"docs/accelerate/{path.name}" in (DOCS / "how-to" / "many-gpus.md").read_text()


@pytest.mark.slow
def test_two_processes_start_from_the_configuration_for_cpus(here: Path) -> None:
    launched = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--main_process_port",
        str(free_port()),
        "--config_file",
    ]
    given = ["--manifest", "rows.jsonl", "--output_dir", "runs/two", "--max_steps", "2", "--batch_size", "4"]
    command = [*launched, DOCS / "accelerate" / "cpu-2.yaml", ROOT / "examples" / "train.py", *given]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((here / "runs/two/run.json").read_text())
    assert (here / "runs/two/checkpoint/model.safetensors").is_file()
