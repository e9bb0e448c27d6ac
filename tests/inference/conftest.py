"""One checkpoint for all tests of pipelines."""

from pathlib import Path

import pytest
from pipeline_items import save_checkpoint

from codebind_hf import CodeBindModel, CodeBindProcessor


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> CodeBindModel:
    return CodeBindModel.from_pretrained(checkpoint)


@pytest.fixture(scope="session")
def processor(checkpoint: Path) -> CodeBindProcessor:
    return CodeBindProcessor.from_pretrained(checkpoint)
