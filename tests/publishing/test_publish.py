"""`codebind publish` and `push_to_hub`, with the real client of the Hub against a server on this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands_in_process import run_command
from common import assert_same, small_config, tiny_model
from hub_server import HubServer, Repository, hub_server
from huggingface_hub import HfApi
from PIL import Image, PngImagePlugin

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.evaluation import checkpoint_digest
from codebind_hf.publishing.staging import stage
from codebind_hf.publishing.uploading import upload
from codebind_hf.training.tokenization import build_tokenizer


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "scripts" / "push_remotely.py"
CARD = """---
license: apache-2.0
library_name: transformers
---

# A bell

[report](report.md), `AutoModel.from_pretrained("bell", trust_remote_code=True)`
"""
ITEMS = {"text": ["a bell", "b"], "imu": [[[0.5] * 30] * 6, [[-0.1] * 30] * 6]}
NAME = "someone/bells"


def checkpoint_text(digest: str) -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("Checkpoint", digest)
    return text


def write_run(folder: Path) -> Path:
    """What training leaves: a checkpoint with a card, a state of training, a report and pictures."""
    model = tiny_model(small_config("text", "imu", text_config={"vocab_size": 600}))
    processor = CodeBindProcessor.from_model_config(model.config, build_tokenizer(["a bell", "b"], 600, 12))
    checkpoint = folder / "checkpoint"
    model.save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)
    (checkpoint / "README.md").write_text(CARD)
    (checkpoint / "optimizer.pt").write_bytes(b"state")
    (checkpoint / "adapter").mkdir()
    (checkpoint / "adapter" / "adapter_config.json").write_text("{}")
    digest = checkpoint_digest(checkpoint)
    (folder / "report.json").write_text(json.dumps({"seed": 0, "checkpoint_sha256": digest}))
    (folder / "report.md").write_text("![zero shot](figures/zero_shot.png)\n")
    (folder / "training.json").write_text("[]")
    (folder / "figures").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "figures" / "zero_shot.png", pnginfo=checkpoint_text(digest))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with hub_server() as running:
        yield running


def on_hub(
    server: HubServer, home: Path, *command: object, token: str = "of-the-tests"
) -> subprocess.CompletedProcess:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))},
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",  # whose uploads are compiled code for servers of its own
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "HF_TOKEN": "of-the-tests",
    }
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def published(run: Path, server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The run uploaded, and the same as a dry run."""
    home = tmp_path_factory.mktemp("home")
    dry = home / "dry"
    tried = run_command("publish", "--checkpoint", run, "--repo_id", NAME, "--private", "--dry_run", dry)
    assert tried.returncode == 0, tried.stderr
    given = ("--checkpoint", run, "--repo_id", NAME, "--private")
    done = on_hub(server, home, SCRIPT, "push", run / "checkpoint", "someone/pushed", *given)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(done=done, tried=tried, repository=server.repositories[NAME], dry=dry, home=home)


def files_of(folder: Path) -> dict[str, bytes]:
    return {x.relative_to(folder).as_posix(): x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file()}


def test_the_bytes_that_arrive_are_those_of_the_dry_run(published: SimpleNamespace, server: HubServer) -> None:
    assert published.repository.files == files_of(published.dry)
    assert len(published.repository.commits) == 1
    assert published.repository.private
    assert any(line.startswith("PUT /objects/") for line in server.requests), "weights go the way of large files"


def test_a_published_folder_has_everything_and_no_state_of_training(published: SimpleNamespace, run: Path) -> None:
    names = set(files_of(published.dry))
    code = {name for name in names if name.endswith(".py")}
    assert names - code == {
        "README.md",
        "adapter/adapter_config.json",
        "config.json",
        "figures/zero_shot.png",
        "model.safetensors",
        "processor_config.json",
        "report.json",
        "report.md",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    parts = {f"{part}_codebind.py" for part in ("modeling", "processing", "configuration", "pipelines")}
    assert parts <= code
    name = "model.safetensors"
    assert (published.dry / name).read_bytes() == (run / "checkpoint" / name).read_bytes()
    # Its example loads what was published.
    assert (published.dry / "README.md").read_text() == CARD.replace('"bell"', f'"{NAME}"')


def test_a_dry_run_ends_with_the_line_that_uploads(published: SimpleNamespace, run: Path) -> None:
    words = published.tried.stdout.splitlines()[-1].partition("codebind publish ")[2]
    assert words == f"--checkpoint {run} --repo_id {NAME} --private"


def test_it_says_what_it_uploads_and_where(published: SimpleNamespace, server: HubServer) -> None:
    lines = published.done.stdout.splitlines()
    listed = {name: int(size.replace(",", "")) for size, name in (line.split() for line in lines[:-1])}
    assert listed == {name: len(data) for name, data in published.repository.files.items()}
    total = f"{sum(listed.values()):,}"
    assert lines[-1].startswith(f"Uploaded {len(listed)} files, {total} bytes: {server.url}/{NAME}/commit/")


@pytest.mark.slow
def test_the_published_repository_loads_by_its_own_code(
    published: SimpleNamespace, run: Path, server: HubServer
) -> None:
    inputs, outputs = published.home / "in.pt", published.home / "out.pt"
    torch.save(ITEMS, inputs)
    done = on_hub(server, published.home, SCRIPT, "load", NAME, inputs, outputs)
    assert done.returncode == 0, done.stderr
    found = torch.load(outputs, weights_only=True)
    model = CodeBindModel.from_pretrained(run / "checkpoint")
    processor = CodeBindProcessor.from_pretrained(run / "checkpoint")
    with torch.no_grad():
        assert_same(found["embeds"], model(**processor(**ITEMS)).embeds)
        expected = model.encode({"text": ITEMS["text"][:1]}, processor, output="torch", quantize=True)["text"][0]
    torch.testing.assert_close(found["embedding"], expected)
    assert found["is_one_class"], "on the Hub, unlike in a folder, all files share one package"
    copy = server.repositories[f"{NAME}-copy"].files
    entries = json.loads(copy["config.json"])["auto_map"]
    assert entries["AutoModel"] == "modeling_codebind.CodeBindModel"
    assert copy["model.safetensors"] == published.repository.files["model.safetensors"]
    assert copy["processor_config.json"] == published.repository.files["processor_config.json"]
    # The pipelines are no part of the model's code; those who save a pipeline have them.
    code = {name for name in published.repository.files if name.endswith(".py") and "pipeline" not in name}
    assert all(copy[name] == published.repository.files[name] for name in code)


def test_push_to_hub_uploads_what_save_pretrained_writes(
    published: SimpleNamespace, run: Path, server: HubServer, tmp_path: Path
) -> None:
    repository = server.repositories["someone/pushed"]
    CodeBindModel.from_pretrained(run / "checkpoint").save_pretrained(tmp_path / "saved")
    CodeBindProcessor.from_pretrained(run / "checkpoint").save_pretrained(tmp_path / "saved")
    arrived = {name: data for name, data in repository.files.items() if name != "README.md"}
    assert arrived == files_of(tmp_path / "saved")
    assert len(repository.commits) == 2
    assert repository.private


@pytest.fixture
def online(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub of this process is the server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    api = partial(HfApi, endpoint=server.url, token="of-the-tests")
    monkeypatch.setattr("codebind_hf.publishing.uploading.HfApi", api)


def test_a_public_repository_is_not_taken_for_a_private_one(
    online: None, server: HubServer, published: SimpleNamespace
) -> None:
    """The Hub would silently publish in the repository as it is."""
    repository = server.repositories["someone/public"] = Repository(private=False)
    with pytest.raises(ValueError, match="--private: someone/public exists and is public"):
        upload(published.dry, "someone/public", private=True)
    assert repository.commits == []
    upload(published.dry, "someone/public", private=False)
    assert repository.files == files_of(published.dry)


def test_weights_of_before_are_not_left_beside_the_new_ones(
    online: None, server: HubServer, published: SimpleNamespace
) -> None:
    """The library would read the old ones."""
    repository = server.repositories["someone/sharded"] = Repository(private=False)
    old = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    repository.files |= dict.fromkeys((*old, "notes.txt"), b"old")
    upload(published.dry, "someone/sharded", private=False)
    assert repository.files == {**files_of(published.dry), "notes.txt": b"old"}
    assert len(repository.commits) == 1


def test_a_login_that_is_missing_is_said(
    online: None, server: HubServer, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = partial(HfApi, endpoint=server.url, token=False)
    monkeypatch.setattr("codebind_hf.publishing.uploading.HfApi", api)
    refused = run_command("publish", "--checkpoint", run, "--repo_id", "someone/none")
    assert refused.returncode == 1
    assert re.search(r"error: .*401", refused.stderr)
    assert "someone/none" not in server.repositories


# What is refused


@pytest.fixture
def mine(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


MACHINE = f"/{'home'}/someone/data"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        pytest.param(
            "checkpoint/README.md", None, "README.md: no such file; what is published needs a card", id="no-card"
        ),
        pytest.param("checkpoint/README.md", "# A bell\n", "got license None in its header", id="no-licence"),
        pytest.param("checkpoint/README.md", "---\nlicense: unknown\n---\n", "got license 'unknown'", id="unknown"),
        pytest.param("checkpoint/README.md", f"{CARD}From {MACHINE}.", f"README.md: holds '{MACHINE}", id="in-card"),
        pytest.param("report.json", json.dumps({"rows": MACHINE}), f"report.json: holds '{MACHINE}'", id="in-report"),
        pytest.param("report.md", r"C:\Users\someone", r"report.md: holds 'C:\\\\Users'", id="windows"),
        pytest.param(
            "checkpoint/adapter/adapter_config.json",
            json.dumps({"base_model_name_or_path": MACHINE}),
            "adapter/adapter_config.json: holds",
            id="in-adapter",
        ),
        pytest.param("checkpoint/config.json", None, "has no config.json, so it is no checkpoint", id="no-checkpoint"),
        pytest.param(
            "checkpoint/processor_config.json", None, "no such file, so there is no processor", id="processor"
        ),
        pytest.param("checkpoint/model.safetensors", None, "model.safetensors", id="no-weights"),
    ],
)
def test_a_folder_that_should_not_be_public_is_refused(
    mine: Path, tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    if text is None:
        (mine / file).unlink()
    else:
        (mine / file).write_text(text)
    (tmp_path / "stage").mkdir()
    with pytest.raises((ValueError, OSError), match=re.escape(message).replace(r"\\\\", r"\\")):
        stage(mine, tmp_path / "stage", NAME)


@pytest.mark.parametrize("file", ["report.json", "run.json", "figures/zero_shot.png", "checkpoint/README.md"])
def test_what_is_of_another_checkpoint_is_not_published_beside_this_one(mine: Path, tmp_path: Path, file: str) -> None:
    other = "0" * 64
    if file.endswith(".json"):
        (mine / file).write_text(json.dumps({"checkpoint": other, "checkpoint_sha256": other}))
    elif file.endswith(".png"):
        Image.new("RGB", (4, 4)).save(mine / file, pnginfo=checkpoint_text(other))
    else:
        (mine / file).write_text(f"{CARD}This card is of the checkpoint with the SHA-256 `{other}`")
    (tmp_path / "stage").mkdir()
    with pytest.raises(ValueError, match=rf"{Path(file).name}: is of {other}, and this checkpoint is .*evaluate"):
        stage(mine, tmp_path / "stage", NAME)


def test_a_report_that_names_no_checkpoint_is_not_published(mine: Path, tmp_path: Path) -> None:
    (mine / "report.json").write_text("{}")
    (tmp_path / "stage").mkdir()
    with pytest.raises(ValueError, match=r"report.json: is of no checkpoint, and this checkpoint is "):
        stage(mine, tmp_path / "stage", NAME)


def test_a_path_to_the_checkpoint_itself_is_refused_wherever_it_lies(mine: Path, tmp_path: Path) -> None:
    (mine / "report.md").write_text(f"see {(mine / 'checkpoint').resolve()}")
    (tmp_path / "stage").mkdir()
    with pytest.raises(ValueError, match=r"report.md: holds .*a path of one machine"):
        stage(mine, tmp_path / "stage", NAME)


def test_links_and_urls_are_no_paths_of_a_machine(mine: Path, tmp_path: Path) -> None:
    text = "see https://host.org/home/page, ../figures/a.png, data/rows.jsonl, /api/models and [a](/docs/data)"
    (mine / "report.md").write_text(text)
    (tmp_path / "stage").mkdir()
    stage(mine, tmp_path / "stage", NAME)
    assert (tmp_path / "stage" / "report.md").read_text() == text


def test_weights_that_are_not_all_there_are_refused(mine: Path, tmp_path: Path) -> None:
    """The library would fill them with random numbers and publish those."""
    other = tiny_model(small_config("text", text_config={"vocab_size": 600}))
    config = (mine / "checkpoint" / "config.json").read_text()
    other.save_pretrained(mine / "checkpoint")
    (mine / "checkpoint" / "config.json").write_text(config)
    (tmp_path / "stage").mkdir()
    with pytest.raises(ValueError, match=r"lacks \d+ tensors of the model, such as "):
        stage(mine, tmp_path / "stage", NAME)


def test_a_checkpoint_without_a_run_is_published_alone(mine: Path, tmp_path: Path) -> None:
    folder = (mine / "checkpoint").rename(mine / "converted")
    (tmp_path / "stage").mkdir()
    stage(folder, tmp_path / "stage", NAME)
    names = set(files_of(tmp_path / "stage"))
    assert {"README.md", "config.json", "model.safetensors"} <= names
    assert not names & {"report.json", "report.md", "figures/zero_shot.png"}


def test_a_dry_run_writes_over_nothing(mine: Path) -> None:
    refused = run_command("publish", "--checkpoint", mine, "--repo_id", NAME, "--dry_run", mine)
    assert refused.returncode == 2
    assert "exists; give a new folder" in refused.stderr
