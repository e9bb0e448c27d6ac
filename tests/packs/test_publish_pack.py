"""A pack on the Hub: `codebind publish --pack`, and loading bridge and pack by name, against the stand-in."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands_in_process import run_command
from hub_server import HubServer, Repository, hub_server
from huggingface_hub import HfApi, ModelCard
from pack_labs import HELD, load, same_vectors, vectors_of

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.packs import read_pack


BRIDGE, NAME = "someone/bridge", "me/radar"
Labs = Callable[[str], SimpleNamespace]


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with hub_server() as running:
        yield running


@pytest.fixture
def hub(server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Hub of this process is the server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    api = partial(HfApi, endpoint=server.url, token="of-the-tests")
    monkeypatch.setattr("codebind_hf.publishing.uploading.HfApi", api)


def test_a_pack_is_published_and_loads_beside_its_bridge_by_name(
    hub: None, server: HubServer, bridge: Path, labs: Labs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--pack", labs("radar").folder, "--repo_id", NAME, "--bridge", BRIDGE)
    assert run_command("publish", *given, "--dry_run", tmp_path / "dry").returncode == 0
    done = run_command("publish", *given)
    assert done.returncode == 0, done.stderr
    files = server.repositories[NAME].files
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "dry").iterdir()}
    assert set(files) == {"README.md", "pack.json", "model.safetensors"}
    assert len(server.repositories[NAME].commits) == 1
    assert f"Uploaded 3 files, {sum(map(len, files.values())):,} bytes: {server.url}/{NAME}" in done.stdout
    # Its card has the names that work for everybody.
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == BRIDGE
    assert "codebind-pack" in card.data.tags
    assert f'CodeBindModel.from_pretrained("{BRIDGE}", packs=["{NAME}"])' in card.text
    assert f"of `{BRIDGE}`, whose own vectors stay" in card.text
    assert json.loads(files["pack.json"])["bridge"]["name"] == BRIDGE

    repository = server.repositories[BRIDGE] = Repository(private=False)
    repository.files |= {path.name: path.read_bytes() for path in bridge.iterdir() if path.is_file()}
    model, processor = (
        kind.from_pretrained(BRIDGE, packs=[NAME], cache_dir=tmp_path / "cache")
        for kind in (CodeBindModel, CodeBindProcessor)
    )
    same_vectors(vectors_of(*load(bridge), *HELD), vectors_of(model, processor, *HELD))
    lab = labs("radar")
    same_vectors(vectors_of(lab.model, lab.processor, "radar"), vectors_of(model, processor, "radar"))
    assert read_pack(f"{NAME}@main").sha256 == labs("radar").pack.sha256
    # What is bound to a bridge by name can do without the bridge's folder.
    again = model.save_pack(tmp_path / "again", ["audio"], processor, bridge=BRIDGE)
    assert again.bridge["name"] == BRIDGE
    assert again.modalities["audio"]["is_in_bridge"]
    assert not [name for name in again.tensors() if ".audio.tower." in name]
    # Once fetched it is there without a network, too.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert read_pack(NAME).sha256 == labs("radar").pack.sha256
    with pytest.raises(OSError, match="packs: no pack.json of 'me/none', neither in a folder"):
        read_pack("me/none")


@pytest.mark.parametrize(
    ("change", "arguments", "named"),
    [
        pytest.param(lambda folder: None, [], "--bridge: the pack calls its bridge 'bridge'; allowed", id="bridge"),
        pytest.param(lambda folder: (folder / "README.md").unlink(), [], "README.md: no such file", id="no card"),
        pytest.param(
            lambda folder: (folder / "README.md").write_text("---\nlicense: mit\n---\nSHA-256 `" + "0" * 64 + "`"),
            [],
            "README.md: is of 000000",
            id="another's card",
        ),
        pytest.param(
            lambda folder: (folder / "model.safetensors").write_bytes(b"no"),
            [],
            "is not the file that",
            id="damage",
        ),
        pytest.param(lambda folder: (folder / "pack.json").unlink(), [], "has no pack.json", id="no pack"),
        pytest.param(
            lambda folder: (folder / "README.md").write_text(f"---\nlicense: mit\n---\nsee /{'home'}/me/rows"),
            ["--bridge", BRIDGE],
            "a path of one machine",
            id="path",
        ),
    ],
)
def test_a_pack_that_should_not_be_public_is_refused(
    hub: None,
    labs: Labs,
    tmp_path: Path,
    change: Callable[[Path], None],
    arguments: list[str],
    named: str,
) -> None:
    folder = tmp_path / "run" / "pack"
    folder.mkdir(parents=True)
    for file in labs("radar").folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    refused = run_command("publish", "--pack", tmp_path / "run", "--repo_id", "me/none", *arguments)
    assert refused.returncode == 1
    assert re.search(rf"error: .*{named}", refused.stderr)


def test_a_checkpoint_has_no_bridge() -> None:
    refused = run_command("publish", "--checkpoint", "x", "--repo_id", NAME, "--bridge", BRIDGE)
    assert refused.returncode == 2
    assert "--bridge needs --pack" in refused.stderr
