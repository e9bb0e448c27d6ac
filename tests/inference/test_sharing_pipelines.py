"""A saved pipeline, used by a process that has no `codebind_hf`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from pipeline_items import WORDS, item
from transformers import pipeline
from transformers.utils import hub

from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.processing.pipelines_codebind import PIPELINES


CLASSIFY, EMBED, RETRIEVE = PIPELINES
CALLS: dict[str, dict[str, Any]] = {
    CLASSIFY: {"candidate_labels": WORDS, "hypothesis_template": ["a photo of {}", "{}"]},
    EMBED: {"output": "list", "return_codes": True},
    RETRIEVE: {"gallery": WORDS, "top_k": 2},
}

# Refuses the package wherever it is installed, as if it were not.
GUARD = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "codebind_hf":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Refuse())
"""

STRANGER = """
import importlib
import json
import sys
import numpy as np
from transformers import pipeline

folder, again, calls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
try:
    importlib.import_module("codebind_hf")
    raise SystemExit("the package can be imported: this test shows nothing")
except ModuleNotFoundError:
    pass
items = [{"depth": np.load("depth.npy")}, {"radar": np.load("radar.npy")}, "a bell"]

def result(source, task):
    pipe = pipeline(task, model=source, trust_remote_code=True, device="cpu")
    return pipe, pipe(items, batch_size=2, **calls[task])

results = {}
for task in calls:
    pipe, results[task] = result(folder, task)
pipe.save_pretrained(again)
_, results["again"] = result(again, task)
assert not [name for name in sys.modules if name.partition(".")[0] == "codebind_hf"]
assert type(pipe).__module__.startswith("transformers_modules.")
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def shared(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What a stranger gets from a folder that a pipeline saved, and from the folder that the stranger saved."""
    home = tmp_path_factory.mktemp("stranger")
    pipe = pipeline(RETRIEVE, model=str(checkpoint), device="cpu")
    pipe.save_pretrained(home / "saved")
    guard = home / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    work = home / "work"
    work.mkdir()
    for modality in ("depth", "radar"):
        np.save(work / f"{modality}.npy", item(modality))
    (work / "stranger.py").write_text(STRANGER)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "PYTHONPATH": str(guard),
        "HF_MODULES_CACHE": str(home / "modules"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "stranger.py", str(home / "saved"), str(home / "again"), json.dumps(CALLS)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=home / "saved", results=json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("task", PIPELINES)
def test_a_stranger_gets_the_same_results(checkpoint: Path, shared: SimpleNamespace, task: str) -> None:
    items = [{"depth": item("depth")}, {"radar": item("radar")}, "a bell"]
    pipe = pipeline(task, model=str(checkpoint), device="cpu")
    expected = pipe(items, batch_size=2, **CALLS[task])
    assert shared.results[task] == expected
    if task == RETRIEVE:
        assert shared.results["again"] == expected, "after the stranger saved it"


def test_a_saved_pipeline_holds_processor_code_and_the_names_of_all_three(shared: SimpleNamespace) -> None:
    files = {path.name for path in shared.folder.iterdir()}
    assert {"pipelines_codebind.py", "modeling_codebind.py", "processor_config.json", "tokenizer.json"} <= files
    assert "preprocessor_config.json" not in files
    config = json.loads((shared.folder / "config.json").read_text())
    assert set(config["custom_pipelines"]) == set(PIPELINES)
    assert config["auto_map"]["AutoModel"] == "modeling_codebind.CodeBindModel"


@pytest.mark.parametrize("trust", [None, False, True])
def test_with_the_package_the_same_folder_needs_no_trust(
    shared: SimpleNamespace, checkpoint: Path, trust: bool | None
) -> None:
    pipe = pipeline(EMBED, model=str(shared.folder), trust_remote_code=trust, device="cpu")
    assert type(pipe.model) is CodeBindModel
    assert type(pipe) is PIPELINES[EMBED]
    assert pipe("a ring").tolist() == pipeline(EMBED, model=str(checkpoint), device="cpu")("a ring").tolist()


def test_saving_a_pipeline_leaves_no_trace_on_the_classes(checkpoint: Path, tmp_path: Path) -> None:
    before = [cls._auto_class for cls in (CodeBindConfig, CodeBindModel, CodeBindProcessor)]
    pipeline(EMBED, model=str(checkpoint), device="cpu").save_pretrained(tmp_path)
    assert [cls._auto_class for cls in (CodeBindConfig, CodeBindModel, CodeBindProcessor)] == before


def test_a_file_is_no_folder_to_save_into(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="save_directory: got the file .*; allowed: a folder"):
        pipeline(EMBED, model=str(checkpoint), device="cpu").save_pretrained(tmp_path / "file")


def test_pushing_uploads_the_same_folder(
    checkpoint: Path, shared: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the network: what the library would upload, with its own options for saving."""
    uploaded: set[str] = set()
    api = SimpleNamespace(create_repo=lambda repo_id, **_: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr(hub, "hf_api", lambda: api)
    monkeypatch.setattr(hub, "create_and_tag_model_card", lambda *_, **__: ModelCard("---\nlicense: mit\n---\n"))
    pipe = pipeline(EMBED, model=str(checkpoint), device="cpu")
    monkeypatch.setattr(
        type(pipe), "_upload_modified_files", lambda _, folder, *__, **___: uploaded.update(os.listdir(folder))
    )
    pipe.push_to_hub("someone/codebind", max_shard_size="600KB")
    files = {path.name for path in shared.folder.iterdir()}
    assert files - {"model.safetensors"} <= uploaded
    assert len([name for name in uploaded if name.endswith(".safetensors")]) > 1
