"""One checkpoint for all tests of pipelines."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline_items import save_checkpoint
from transformers.utils import logging as library_logging

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


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the library logs as a warning or worse."""
    records: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    library_logging.add_handler(handler)
    yield records
    library_logging.remove_handler(handler)
