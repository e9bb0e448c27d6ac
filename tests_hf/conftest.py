"""Puts the library's tests, once fetched, and our tiny model on the path, and explains what is skipped."""

import os
import re
import sys
from importlib.metadata import version
from pathlib import Path


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).parents[1]
FETCHED = ROOT / ".hf_tests" / version("transformers")

if not FETCHED.is_dir():
    raise RuntimeError(f"{FETCHED}: the library's tests are not there. Fix: run `make test-hf`, which fetches them.")
sys.path[:0] = [str(FETCHED), str(ROOT / "tests")]

import pytest  # noqa: E402
import torch  # noqa: E402


torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Markers of the library's tests, which our strict configuration would refuse."""
    for file in (FETCHED / "hf_tests").glob("*.py"):
        for name in set(re.findall(r"\bmark\.(\w+)", file.read_text())) - {"skip", "skipif", "parametrize"}:
            config.addinivalue_line("markers", f"{name}: of the library's tests")
