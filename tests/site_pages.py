"""The pages of the site: their blocks of code, the commands in them, and a folder in which they run."""

import argparse
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from examples_in_process import example
from PIL import Image

from codebind_hf.commands import app
from codebind_hf.data import NineSenses
from codebind_hf.training import Recipe, build, save


ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Before a block that no test runs: why it cannot.
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n+$", re.DOTALL)
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# Commands of others, of which nothing is ours to check.
OTHERS = {
    "git clone",
    "cd codebind_hf",
    "source .venv/bin/activate",
    "tensorboard --logdir",
    "hf auth",
    "nvidia-smi -l",
}


class Block(NamedTuple):
    """Code of a page.

    Args:
        page: path below `docs/`.
        number: its place among all blocks of the page.
        language: "python", "bash", ...
        text: the code.
        not_run: why no test runs it, or `None`.
    """

    page: str
    number: int
    language: str
    text: str
    not_run: str | None


def pages() -> list[str]:
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def blocks_of(page: str, *languages: str) -> list[Block]:
    text, found = (DOCS / page).read_text(encoding="utf-8"), []
    for number, match in enumerate(BLOCK.finditer(text)):
        indent, language, code = match.groups()
        mark = NOT_RUN.search(text[: match.start()])
        lines = [line.removeprefix(indent) for line in code.splitlines()]
        found.append(Block(page, number, language, "\n".join(lines) + "\n", mark[1] if mark else None))
    return [block for block in found if not languages or block.language in languages]


def make_world(folder: Path) -> Path:
    """What pages take for granted: a run with an untrained checkpoint, a manifest of files, a file of every kind."""
    rows = NineSenses("test", num_rows=40)
    texts = [text.format(name) for name in rows.class_names for text in rows.templates]
    save(*build(Recipe(), [*rows.modalities, "imu"], texts), folder / "runs" / "demo" / "checkpoint")
    (folder / "runs" / "demo" / "run.json").write_text("{}")
    lines = Path(rows.export(folder)).read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(lines[:30]))
    (folder / "test.jsonl").write_text("".join(lines[20:]))
    one = json.loads(lines[0])
    for name, modality in (("photo", "image"), ("strike", "audio"), ("gel", "tactile"), ("heat", "thermal")):
        shutil.copy(folder / one[modality], folder / f"{name}{Path(one[modality]).suffix}")
    shutil.copy(folder / one["point_cloud"], folder / "scan.ply")
    shutil.copytree(folder / one["video"], folder / "frames")
    depth = np.load(folder / one["depth"])
    np.save(folder / "map.npy", depth)
    Image.fromarray((depth * 1000).astype(np.uint16)).save(folder / "map.png")
    degrees = np.linspace(18, 36, 48 * 64).reshape(48, 64)
    Image.fromarray(((degrees + 273.15) * 100).astype(np.uint16)).save(folder / "heat.tiff")
    draw = np.random.default_rng(0)
    np.save(folder / "brain.npy", draw.normal(size=(4, 512)).astype(np.float32))
    np.save(folder / "motion.npy", draw.normal(size=(6, 400)).astype(np.float32))
    (folder / "radar").mkdir()
    with (folder / "radar.jsonl").open("w") as stream:
        for number, line in enumerate(lines[:30]):
            np.save(folder / "radar" / f"{number}.npy", draw.normal(size=(2, 32)).astype(np.float32))
            row = {key: value for key, value in json.loads(line).items() if key in ("text", "image", "label")}
            stream.write(json.dumps({**row, "radar": f"radar/{number}.npy"}) + "\n")
    return folder


def commands_of(block: Block) -> Iterator[list[str]]:
    """The command lines of a block of bash, continued lines joined, without variables that are set before."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words


class _Parsed(Exception):
    """The command line was read to its end."""


def check_codebind(words: list[str]) -> None:
    """`codebind <command> ...` has these flags, and they have values of their kind."""
    group = app.whole()
    with group.make_context("codebind", [words[1]], resilient_parsing=True) as context:
        command = group.get_command(context, words[1])
        assert command is not None, words
        if words[2:] != ["--help"]:
            command.make_context(words[1], words[2:], parent=context)


def check_example(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`examples/<name>.py` takes these arguments: its own parser says so."""
    parse = argparse.ArgumentParser.parse_args

    def only_parse(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        parse(self, *args, **kwargs)
        raise _Parsed

    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", [f"{name}.py", *arguments])
        patch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
        with pytest.raises(_Parsed):
            example(name).main()


def check_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command line of a page names is there: scripts, flags, targets, extras."""
    scripts = [place for place, word in enumerate(words) if re.fullmatch(r"examples/[\w/]+\.py", word)]
    if scripts and words[0] in ("python", "accelerate"):
        script = words[scripts[0]]
        assert (ROOT / script).is_file(), words
        if words[0] == "accelerate":
            check_launcher(words[1 : scripts[0]])
        name, arguments = script.removeprefix("examples/").removesuffix(".py"), words[scripts[0] + 1 :]
        if name in app.COMMANDS:
            check_codebind(["codebind", name, *arguments])
        else:
            check_example(name, arguments, monkeypatch)
    elif Path(words[0]).name == "codebind":
        if words[1:] != ["--help"]:
            check_codebind(words)
    elif words[0] == "make":
        made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= made, words
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for listed in re.findall(r"\[([a-z,]+)\]", " ".join(words)):
            assert set(listed.split(",")) <= set(extras), words
    else:
        assert " ".join(words[:2]) in OTHERS, words


def check_launcher(words: list[str]) -> None:
    """`accelerate launch` knows these options, and the file of a `--config_file` is there."""
    from accelerate.commands.launch import launch_command_parser

    assert words[0] == "launch"
    arguments = launch_command_parser().parse_args([*words[1:], "script.py"])
    if arguments.config_file:
        assert (ROOT / arguments.config_file).is_file(), arguments.config_file
