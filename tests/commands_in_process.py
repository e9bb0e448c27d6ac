"""The command `codebind` in the process of the tests, which saves each call the seconds of its imports."""

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch

from codebind_hf.commands import app


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What `codebind <arguments>` would give: exit status, output and errors."""
    output, errors, words = io.StringIO(), io.StringIO(), [str(each) for each in arguments]
    threads = torch.get_num_threads()
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            status = app.status_of(words)
        finally:
            # A command may give itself all cores.
            torch.set_num_threads(threads)
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


def parsed(name: str, *arguments: object) -> dict[str, Any]:
    """The values of a command's flags, as the command gets them."""
    return dict(app.one(name).make_context(name, [str(each) for each in arguments]).params)


def flags_of(name: str) -> set[str]:
    """Every flag that a command has."""
    return {flag for each in app.one(name).params for flag in each.opts if flag.startswith("--")}
