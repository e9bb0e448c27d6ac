"""Settings of every test: no network, one thread, the same seeds."""

import logging
import os
import random
from collections.abc import Iterator


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from transformers.utils import logging as library_logging  # noqa: E402


torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    # Examples that run in this process choose a number of their own, and sums then differ in the last bit.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the library logs as a warning or worse."""
    records: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    library_logging.add_handler(handler)
    yield records
    library_logging.remove_handler(handler)
