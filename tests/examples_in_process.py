"""The scripts in `examples/` in the process of the tests, which saves each the seconds of its imports."""

import importlib.util
import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest
import torch


EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    """The script `name` as a module, fresh every time."""
    specification = importlib.util.spec_from_file_location(
        f"example_{name.replace('/', '_')}", EXAMPLES / f"{name}.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What `python examples/<name>.py <arguments>` would give: exit status, output and errors."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            example(name).main()
        except SystemExit as stop:
            is_message = isinstance(stop.code, str)
            code = 1 if is_message else int(stop.code or 0)
            errors.write(f"{stop.code}\n" if is_message else "")
        finally:
            # A script may give itself all cores.
            torch.set_num_threads(threads)
    return subprocess.CompletedProcess(sys.argv, code, output.getvalue(), errors.getvalue())
