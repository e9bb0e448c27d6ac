"""A pack on the Hub: `examples/publish.py --pack`, and loading bridge and pack by name, against the stand-in."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hub_server import HubServer, Repository, hub_server
from huggingface_hub import HfApi, ModelCard
from pack_labs import HELD, load, same_vectors, vectors_of

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.packs import read_pack


PUBLISH = Path(__file__).parents[2] / "examples" / "publish.py"
BRIDGE, NAME = "someone/bridge", "me/radar"
Labs = Callable[[str], SimpleNamespace]


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with hub_server() as running:
        yield running


@pytest.fixture
def publish(server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The example in this process, whose Hub is the server."""
    spec = importlib.util.spec_from_file_location("publish", PUBLISH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr(module, "HfApi", lambda: HfApi(endpoint=server.url, token="of-the-tests"))
    return module


def call(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["publish.py", *map(str, arguments)])
    module.main()


def test_a_pack_is_published_and_loads_beside_its_bridge_by_name(
    publish: ModuleType,
    server: HubServer,
    bridge: Path,
    labs: Labs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    given = ("--pack", labs("radar").folder, "--repo_id", NAME, "--bridge", BRIDGE)
    call(publish, monkeypatch, *given, "--dry_run", tmp_path / "dry")
    call(publish, monkeypatch, *given)
    files = server.repositories[NAME].files
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "dry").iterdir()}
    assert set(files) == {"README.md", "pack.json", "model.safetensors"}
    assert len(server.repositories[NAME].commits) == 1
    assert f"Uploaded 3 files, {sum(map(len, files.values())):,} bytes: {server.url}/{NAME}" in capsys.readouterr().out
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
    publish: ModuleType,
    labs: Labs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    arguments: list[str],
    named: str,
) -> None:
    folder = tmp_path / "run" / "pack"
    folder.mkdir(parents=True)
    for file in labs("radar").folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    with pytest.raises(SystemExit, match=rf"error: .*{named}"):
        call(publish, monkeypatch, "--pack", tmp_path / "run", "--repo_id", "me/none", *arguments)


def test_a_checkpoint_has_no_bridge(
    publish: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        call(publish, monkeypatch, "--checkpoint", "x", "--repo_id", NAME, "--bridge", BRIDGE)
    assert "--bridge needs --pack" in capsys.readouterr().err
