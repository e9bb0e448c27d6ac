"""What version 0.1.0 saved, before the network and the processors had a room each: it loads here, and our files there.

`fixtures/version-0.1.0.tar.xz` was written by that version: a checkpoint of every modality with its code, an index,
and what the model made of the items of `pipeline_items`.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipeline_items import item
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor, pipeline

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.inference import CodeIndex


TESTS = Path(__file__).parent
# Runs where the package cannot be imported, with the code of each folder.
_WITHOUT_PACKAGE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from scripts.load_remotely import NoPackage
import numpy as np, torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor
torch.set_num_threads(1)
text, eeg = "a ring", np.load({eeg!r})
for folder in map(Path, sys.argv[1:]):
    model, processor = (auto.from_pretrained(folder, trust_remote_code=True) for auto in (AutoModel, AutoProcessor))
    embeds = model.encode({{"text": [text], "eeg": [eeg]}}, processor, output="torch")
    save_file(embeds, folder.parent / (folder.name + ".safetensors"))
assert not [name for name in sys.modules if name.split(".")[0] == "codebind_hf"]
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("version-0.1.0")
    with tarfile.open(TESTS / "fixtures" / "version-0.1.0.tar.xz") as archive:
        archive.extractall(root, filter="data")
    return root


def assert_as_expected(model: Any, processor: Any, expected: dict[str, torch.Tensor]) -> None:
    for name in model.config.modality_names:
        items = {name: [item(name)]}
        codes = model.encode(items, processor, output="codes")[name]
        continuous = model.encode(items, processor, quantize=False, output="torch")[name]
        assert torch.equal(codes, expected[f"{name}.codes"])
        torch.testing.assert_close(continuous, expected[f"{name}.continuous"], rtol=0, atol=1e-5)
        quantized = model.encode(items, processor, output="torch")[name]
        torch.testing.assert_close(quantized, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("auto", [False, True], ids=["own classes", "auto classes"])
def test_it_loads_and_embeds_as_it_did(saved: Path, auto: bool) -> None:
    folder = saved / "checkpoint"
    classes = (AutoModel, AutoProcessor) if auto else (CodeBindModel, CodeBindProcessor)
    model, processor = (cls.from_pretrained(folder) for cls in classes)
    assert (type(model), type(processor)) == (CodeBindModel, CodeBindProcessor)
    assert_as_expected(model, processor, load_file(saved / "expected.safetensors"))


def test_its_pipelines_run(saved: Path) -> None:
    embed = pipeline("multimodal-embedding", model=str(saved / "checkpoint"), device="cpu")
    found = torch.as_tensor(embed({"eeg": item("eeg")}, output="torch"))
    expected = load_file(saved / "expected.safetensors")["eeg"][0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_its_index_answers_as_it_did_and_is_saved_as_today(saved: Path, tmp_path: Path) -> None:
    index = CodeIndex.load(saved / "index")
    expected = json.loads((saved / "found.json").read_text())
    query = load_file(saved / "expected.safetensors")["audio"]
    index.save(tmp_path / "again")
    for gallery in (index, CodeIndex.load(tmp_path / "again")):
        found = gallery.search(query, top_k=7)
        assert found.keys.tolist() == expected["keys"]
        assert found.modalities.tolist() == expected["senses"]
        assert found.scores[0].tolist() == pytest.approx(expected["scores"][0], abs=1e-6)
    assert json.loads((tmp_path / "again" / "index.json").read_text())["version"] == 2
    # The old folder may be replaced by today's, which leaves none of its files.
    CodeIndex.load(tmp_path / "again").save(saved / "index")
    assert not (saved / "index" / "senses.npy").exists()


@pytest.mark.slow
def test_without_the_package_old_and_new_code_read_both(saved: Path, tmp_path: Path) -> None:
    """The code of a folder may be older than its weights: whoever pins a revision of the code has that."""
    model, processor = (cls.from_pretrained(saved / "checkpoint") for cls in (CodeBindModel, CodeBindProcessor))
    model.save_pretrained(tmp_path / "new")
    processor.save_pretrained(tmp_path / "new")
    old_code = tmp_path / "new-with-old-code"
    shutil.copytree(saved / "checkpoint", old_code)
    for file in (*(tmp_path / "new").glob("*.json"), *(tmp_path / "new").glob("*.safetensors")):
        shutil.copy(file, old_code)
    shutil.copytree(saved / "checkpoint", tmp_path / "old")
    np.save(tmp_path / "eeg.npy", item("eeg"))
    script = _WITHOUT_PACKAGE.format(tests=str(TESTS), eeg=str(tmp_path / "eeg.npy"))
    folders = [str(tmp_path / name) for name in ("old", "new", old_code.name)]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", script, *folders], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    expected = load_file(saved / "expected.safetensors")
    for folder in folders:
        for name, found in load_file(f"{folder}.safetensors").items():
            torch.testing.assert_close(found, expected[name], rtol=0, atol=1e-6)
