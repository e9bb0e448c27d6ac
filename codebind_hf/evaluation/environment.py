"""Where and when did a result come from: versions, machine and date."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch
import transformers


def environment() -> dict[str, str | int]:
    """Versions of what ran, the kind of machine, and the date; no names of machines or users."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "codebind_hf": package_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu_count": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
    }


def package_version() -> str:
    """The version of this package, as it is installed."""
    try:
        return version("codebind-hf")
    except PackageNotFoundError:
        return "not installed"
