"""How was this process started? Lines to go on with are said so that they work where they are typed next."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


# What `accelerate launch` tells the processes that it starts.
_LAUNCHED = "ACCELERATE_MIXED_PRECISION"
_MODULE = "codebind_hf"


def command_line(command: str) -> str:
    """How to call a command of `codebind` in the way in which this process was called.

    That is by the command's name, as a module, or as the script of this name beside the one that runs; `train` also
    through `accelerate launch`, if that started this process.
    """
    script = Path(sys.argv[0])
    other = script.with_name(f"{command}.py")
    if _is_module():
        way, prefix = f"-m {_MODULE} {command}", "python"
    elif script.suffix == ".py" and other.is_file():
        way, prefix = str(other), "python"
    else:
        way, prefix = command, "codebind"
    if command == "train" and _LAUNCHED in os.environ and prefix == "python":
        return f"{launcher('accelerate')} launch {way}"
    return f"{launcher(prefix)} {way}"


def typed_flags(values: Mapping[str, Any]) -> list[str]:
    """Flags as words of a command line, one for each value of a list; what is `None` or empty was not given."""
    words = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            value = ",".join(f"{old}={new}" for old, new in value.items())
        each = value if isinstance(value, list | tuple) else [value] if value else []
        words += [word for one in each for word in (f"--{name}", str(one))]
    return words


def launcher(name: str) -> str:
    """A program of this environment, as it can be typed here; an environment may not be activated."""
    own = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if own.is_file() and (found is None or Path(found).parent != own.parent):
        return os.path.relpath(own)
    return name


def _is_module() -> bool:
    specification = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(specification, "name", "") == f"{_MODULE}.__main__"
