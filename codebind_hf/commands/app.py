"""The command `codebind`: which commands there are, how their flags are read, and how a call ends.

Exit codes: 0 done; 1 failed, with one line that begins with `error:`; 2 called wrongly; 128 + the number of the
signal that interrupted it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from codebind_hf.commands import benchmark, bind, convert, demo, doctor, evaluate, publish, search, train
from codebind_hf.commands.values import did_you_mean


FAILED, WRONG_USE = 1, 2
# Set to anything to see where an error comes from.
TRACEBACK = "CODEBIND_TRACEBACK"
# By name: what runs, and a call to copy.
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "train": (train.train, train.EXAMPLE),
    "bind": (bind.bind, bind.EXAMPLE),
    "evaluate": (evaluate.evaluate, evaluate.EXAMPLE),
    "search": (search.search, search.EXAMPLE),
    "convert": (convert.convert, convert.EXAMPLE),
    "publish": (publish.publish, publish.EXAMPLE),
    "benchmark": (benchmark.benchmark, benchmark.EXAMPLE),
    "demo": (demo.demo, demo.EXAMPLE),
    "doctor": (doctor.doctor, doctor.EXAMPLE),
}
_EXPECTED = (ValueError, OSError, FloatingPointError, ImportError)


class SpreadingCommand(TyperCommand):
    """A command whose repeatable flags take several values at once, as shells write them for `*.pt`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        repeated = {name for each in self.params if getattr(each, "multiple", False) for name in each.opts}
        alone = {name for each in self.params if str(each.metavar).startswith("[") for name in each.opts}
        return super().parse_args(ctx, spread(args, repeated, alone))


def spread(arguments: Sequence[str], repeated: set[str], alone: set[str]) -> list[str]:
    """Arguments with a flag before each of its values; what may stand alone then says `all`.

    Args:
        repeated: flags that take several values.
        alone: flags that need none.
    """
    found: list[str] = []
    flag = ""
    for place, each in enumerate(arguments):
        if each.startswith("--"):
            name = "--" + _underscored(each[2:].partition("=")[0])
            flag = each if name in repeated and "=" not in each else ""
            found.append(each)
            following = arguments[place + 1 : place + 2]
            if name in alone and "=" not in each and (not following or following[0].startswith("--")):
                found.append("all")
        else:
            found += [flag, each] if flag and found[-1] != flag else [each]
    return found


def _underscored(token: str) -> str:
    return token.replace("-", "_")


_SETTINGS = {
    "token_normalize_func": _underscored,
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
}
_OPTIONS: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(import_module("codebind_hf").__version__)
        raise typer.Exit


def _codebind(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say it and end")
    ] = False,
) -> None:
    """Bind sensors to one embedding space: train, evaluate, search, convert and publish models of CodeBind."""


def whole() -> Any:
    """The command with all its sub-commands."""
    app = typer.Typer(**_OPTIONS, context_settings=_SETTINGS, epilog=f"{TRACEBACK}=1 shows where an error comes from.")
    app.callback()(_codebind)
    for name in COMMANDS:
        _add(app, name)
    return typer.main.get_command(app)


def one(name: str) -> Any:
    """A sub-command by itself."""
    app = typer.Typer(**_OPTIONS)
    _add(app, name)
    return typer.main.get_command(app)


def _add(app: typer.Typer, name: str) -> None:
    function, example = COMMANDS[name]
    # The mark keeps the example in one line.
    epilog = f"\b\nExample:\n  {example}"
    app.command(name, cls=SpreadingCommand, context_settings=_SETTINGS, epilog=epilog)(function)


def main(name: str | None = None) -> None:
    """Run what the command line says, and end the process if that failed.

    Args:
        name: of the only command that a script runs.
    """
    if status := status_of(sys.argv[1:], name):
        sys.exit(status)


def status_of(arguments: Sequence[str], name: str | None = None) -> int:
    """Run a command with these arguments; its exit status, after everything was said.

    Args:
        name: of the command, if `arguments` do not begin with it.
    """
    command, called = (one(name), Path(sys.argv[0]).name) if name else (whole(), "codebind")
    try:
        status = command.main(list(arguments) or ([] if name else ["--help"]), prog_name=called, standalone_mode=False)
    except typer.TyperException as error:
        typer.echo(_wrong_use(error, called), err=True)
        return WRONG_USE
    except _EXPECTED as error:
        if os.environ.get(TRACEBACK):
            raise
        typer.echo(f"error: {error}", err=True)
        return FAILED
    return status if isinstance(status, int) else 0


def _wrong_use(error: typer.TyperException, called: str) -> str:
    """What was wrong with a call, by the name of the flag, and where to read more."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    message = error.format_message()
    if (possible := getattr(error, "possibilities", None)) is not None:
        name = getattr(error, "option_name", "")
        message = f"{name}: no such option.{did_you_mean(name, possible)}"
    elif parameter is not None:
        name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
        message = f"{name}: {error.message or 'missing'}"
        message += "" if message.endswith((".", "?")) else "."
    elif isinstance(error, typer.BadParameter):
        message = error.message
    return f"error: {message}\nSee `{context.command_path if context else called} --help`."
