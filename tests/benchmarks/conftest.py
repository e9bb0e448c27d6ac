"""Miniature copies, each made once, and something to read HDF5 with where h5py is not installed."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import miniatures
import pytest


@pytest.fixture(autouse=True)
def _hdf5(monkeypatch: pytest.MonkeyPatch) -> None:
    if not miniatures.HAS_HDF5:
        stand_in = ModuleType("h5py")
        stand_in.File = miniatures.StoredFile  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "h5py", stand_in)


@pytest.fixture(scope="session")
def copy_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a miniature copy that nobody changes."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = miniatures.make(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get
