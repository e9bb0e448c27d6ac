"""A bridge, and what labs have that bound a modality to it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from pack_labs import bind_at_home, write_bridge


@pytest.fixture(scope="session")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bridge(tmp_path_factory.mktemp("hub") / "bridge")


@pytest.fixture(scope="session")
def labs(bridge: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SimpleNamespace]:
    """What a lab has of a modality: its model and processor, and the pack it gives away."""
    folder, made = tmp_path_factory.mktemp("labs"), dict[str, SimpleNamespace]()

    def lab(name: str) -> SimpleNamespace:
        if name not in made:
            model, processor = bind_at_home(bridge, name)
            pack = model.save_pack(folder / name, [name], processor, bridge=bridge)
            made[name] = SimpleNamespace(model=model, processor=processor, pack=pack, folder=folder / name)
        return made[name]

    return lab
