"""One run of every modality for all tests of the demo app."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from served_runs import write_run

from codebind_hf.serving.workbench import Workbench


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run; nobody changes it."""
    return write_run(tmp_path_factory.mktemp("runs") / "mine")


@pytest.fixture(scope="session")
def bench(run: Path) -> Workbench:
    """The workbench of the run, loaded."""
    bench = Workbench(str(run))
    bench.loaded()
    return bench


@pytest.fixture(scope="session")
def served(run: Path) -> Iterator[SimpleNamespace]:
    """The page of the run at an address, and a client for it."""
    pytest.importorskip("gradio", reason="the demo app needs the extra `demo`")
    import httpx

    from codebind_hf.serving import build, serve

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    page = build(str(run))
    serve(page, port=port, prevent_thread_lock=True, quiet=True)
    address = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=address, timeout=60) as client:
        yield SimpleNamespace(client=client, page=page, address=address)
    page.close()
