"""What does a run say when it is done? What it made, and what to do with it, as it can be typed."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codebind_hf.monitoring.opening import size_of
from codebind_hf.started import command_line, typed_flags


# What a run on NineSenses exports.
_OWN_ROWS = Path("files", "manifest.jsonl")
# What else rows of one's own are read with.
_COLUMNS = ("columns", "text_from_label", "encoding")
# What no name on the Hub has.
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+|-{2,}|\.{2,}")
# Of the folder of a run, in this order: what is there is named.
_MADE = {
    "checkpoint": "model and processor",
    "adapter": "the adapter alone",
    "pack": "what was bound, to load beside its bridge",
    "report.html": "the evaluation, with pictures and players",
    "report.json": "the same for programs",
    "binding.json": "how far other modalities moved",
    "training.json": "the log of all steps",
    "logs": "for tensorboard --logdir",
    "files": "rows as files, to search",
}


def closing_lines(
    folder: Path,
    data: Mapping[str, Any],
    bound: str | None = None,
    bridge: str = "",
    templates: Sequence[str] = (),
    has_text: bool = True,
) -> list[str]:
    """What lies in the folder of a run, and commands that go on from there.

    Args:
        data: of `RunSettings.data`.
        bound: the modality that was bound; `None` for a run that trained a whole model.
        bridge: that it was bound to.
        templates: zero-shot prompts to evaluate with, where others than the default suit.
        has_text: whether the checkpoint reads words, to search with.
    """
    made = [(folder / name, what) for name, what in _MADE.items() if (folder / name).exists()]
    width = max((len(str(path)) for path, _ in made), default=0)
    lines = ["Made:", *(f"  {str(path):{width}}  {_sized(path, what)}" for path, what in made)]
    following = next_commands(folder, data, bound, bridge, templates, has_text)
    return [*lines, "Next:", *(f"  {line}" for line in following)]


def next_commands(
    folder: Path,
    data: Mapping[str, Any],
    bound: str | None,
    bridge: str,
    templates: Sequence[str],
    has_text: bool = True,
) -> list[str]:
    """Evaluate, search, look, publish; arguments as `closing_lines` has them."""
    run, gallery = str(folder), _gallery(folder, data)
    commands = [
        ["evaluate", "--checkpoint", run, *_rows(folder, data), *typed_flags({"template": list(templates)})],
    ]
    if gallery:
        asked = ["--text", "WORDS"] if has_text else ["--query", "FILE"]
        commands.append(["search", "--checkpoint", run, *asked, "--gallery", *gallery])
    if bound and (folder / "pack").is_dir():
        commands[0][1:3] = ["--checkpoint", bridge, "--packs", run]
        place = f"YOU/{_name(Path(bridge).resolve().name)}" if Path(bridge).exists() else bridge
        commands.append(["publish", "--pack", run, "--bridge", place, "--repo_id", f"YOU/{_name(bound)}"])
    else:
        commands += [
            ["demo", run],
            ["publish", "--checkpoint", run, "--repo_id", f"YOU/{_name(folder.resolve().name)}"],
        ]
    return [f"{command_line(name)} {shlex.join(flags)}" for name, *flags in commands]


def _rows(folder: Path, data: Mapping[str, Any]) -> list[str]:
    """Rows that a run was not trained on, or a word in their place."""
    for name in ("manifest", "dataset"):
        if data.get(f"test_{name}"):
            return [f"--{name}", str(data[f"test_{name}"]), *_columns(data)]
    if (own := folder / _OWN_ROWS).is_file():
        return ["--manifest", str(own)]
    return ["--dataset" if data.get("dataset") else "--manifest", "LABELLED_ROWS"]


def _gallery(folder: Path, data: Mapping[str, Any]) -> list[str]:
    """A manifest to search in, and what it is read with; nothing without one."""
    if (own := folder / _OWN_ROWS).is_file():
        return [str(own)]
    given = data.get("test_manifest") or data.get("manifest")
    return [str(given), *_columns(data)] if given else []


def _columns(data: Mapping[str, Any]) -> list[str]:
    return typed_flags({name: data.get(name) for name in _COLUMNS})


def _name(folder: str) -> str:
    """A name that a repository may have, after a folder that may be called anything."""
    return _NO_NAME.sub("-", folder).strip("-.") or "model"


def _sized(path: Path, what: str) -> str:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else []
    return f"{what}, {size_of(sum(file.stat().st_size for file in files))}" if files else what
