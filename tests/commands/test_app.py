"""The command `codebind`: what its help says, what it answers to slips, how it ends, and how it can be started."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from commands_in_process import flags_of, parsed, run_command
from examples_in_process import EXAMPLES, run_example

from codebind_hf.commands import app
from codebind_hf.commands.running import given


each_command = pytest.mark.parametrize("name", list(app.COMMANDS))
# What no help may import: it should come at once.
HEAVY = {"torch", "transformers", "datasets", "accelerate", "numpy", "PIL", "huggingface_hub"}
# Options of every command that the scripts of before had.
OF_BEFORE = {
    "train": """config manifest test_manifest dataset test_dataset benchmark root protocol columns text_from_label
        encoding loading preprocessing_num_workers cache_bridge backbones streaming depth_unit
        on_error template base output_dir resume overwrite max_steps batch_size seed bind bridge
        encoder shared_codes tolerance check_manifest""",
    "evaluate": """checkpoint packs manifest dataset columns text_from_label encoding loading
        preprocessing_num_workers depth_unit on_error output template recipe figures training_manifest
        training_dataset batch_size seed""",
    "search": """checkpoint packs query text modality manifest gallery dataset columns text_from_label encoding
        depth_unit on_error modalities senses top_k read_out by""",
    "convert": """imagebind codebind vitlens verify base bpe output_dir architecture which lora_which lora
        max_shard_size""",
    "publish": "checkpoint pack bridge repo_id private dry_run",
    "benchmark": """list docs root check checkpoint backbone protocol split partial limit batch_size draws seed
        on_error device output""",
}


def said(*arguments: object) -> str:
    """What a call that fails says, in one line."""
    done = run_command(*arguments)
    assert done.returncode == 2, done.stdout
    return " ".join(done.stderr.split())


def test_the_help_lists_every_command_with_its_whole_first_sentence() -> None:
    for done in (run_command(), run_command("--help"), run_command("-h")):
        assert done.returncode == 0
        listed = dict(re.findall(r"^  ([a-z]+)  +(.+)$", done.stdout.partition("Commands:")[2], re.MULTILINE))
        assert list(listed) == list(app.COMMANDS)
        assert not [line for line in listed.values() if not line.endswith(".") or line.endswith("...")]


@each_command
def test_help_shows_defaults_and_an_example_that_can_be_called(name: str) -> None:
    done = run_command(name, "--help")
    assert done.returncode == 0
    text = done.stdout
    example = app.COMMANDS[name][1]
    assert f"Example:\n    {example}\n" in text
    words = shlex.split(example)
    assert words[:2] == ["codebind", name]
    assert parsed(name, *words[2:])
    assert not re.findall(r"--\w+ <.*", text), "a flag without a word for its value"
    one_line = " ".join(text.split())
    defaults = {each.name: each.default for each in app.one(name).params if each.default not in (None, False, [], ())}
    for flag, value in defaults.items():
        assert f"[default: {value}]" in one_line, flag


@pytest.mark.parametrize("name", ["", *app.COMMANDS])
def test_help_comes_without_what_is_heavy(name: str, helps: dict[str, list[str]]) -> None:
    assert helps[name] == []


@pytest.fixture(scope="module")
def helps() -> dict[str, list[str]]:
    """What each help has imported, all in one fresh process."""
    script = f"""
import contextlib, io, json, sys
from codebind_hf.commands import app
from codebind_hf.commands.running import given
found = {{}}
for name in ["", *app.COMMANDS]:
    with contextlib.redirect_stdout(io.StringIO()):
        assert app.status_of([name, "--help"] if name else ["--help"]) == 0
    found[name] = sorted({HEAVY!r} & sys.modules.keys())
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", list(OF_BEFORE))
def test_every_option_of_the_scripts_is_one_of_the_command(name: str) -> None:
    assert {f"--{each}" for each in OF_BEFORE[name].split()} <= flags_of(name)


def test_what_two_commands_share_has_one_help_and_one_default() -> None:
    """Such as `--columns`; flags of training say of some what the recipe does without them."""
    known: dict[str, tuple[str, object, str]] = {}
    own = {"--bridge", "--batch_size", "--seed", "--loading", "--root", "--protocol", "--output", "--modality"}
    own |= {"--output_dir", "--base", "--checkpoint", "--gallery", "--help"}
    for name in app.COMMANDS:
        for each in app.one(name).params:
            flag = each.opts[0]
            if not flag.startswith("--") or flag in own:
                continue
            entry = (each.help, each.default, each.metavar)
            assert known.setdefault(flag, entry) == entry, f"{flag} of {name}"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["trian"], "error: No such command 'trian'. Did you mean 'train'?"),
        (["search", "--chekpoint", "x"], "error: --chekpoint: no such option. Fix: did you mean --checkpoint?"),
        (["search", "--zzz", "x"], "error: --zzz: no such option. See `codebind search --help`."),
        (["search"], "error: --checkpoint: missing."),
        (["search", "--checkpoint"], "error: Option '--checkpoint' requires an argument."),
        (
            ["search", "--checkpoint", "x", "--by", "wich"],
            "error: --by: got wich; allowed: what, which, both. Fix: did you mean which?",
        ),
        (["search", "--checkpoint", "x", "--text", "a", "--query", "b"], "--query and --text: got both; give one"),
        (["search", "--checkpoint", "x"], "error: give --query or --text."),
        (["train", "--output_dir", "x", "--max_steps", "many"], "--max_steps: got many; allowed: a whole number of 1"),
        (["train", "--output_dir", "x", "--tolerance", "much"], "error: --tolerance: got much; allowed: a number."),
        (["train", "--output_dir", "x", "y"], "unexpected extra argument"),
        (["bind", "--output_dir", "x", "--manifest", "y"], "MODALITY and --bridge MODEL: give both"),
        (["demo"], "error: MODEL: missing."),
        (["publish", "--repo_id", "me/x"], "error: give --checkpoint or --pack."),
        (["convert"], "error: give --imagebind, --codebind, --vitlens or --verify."),
        (["benchmark"], "give --list, or the NAME of a row and its --root."),
        (["evaluate", "--checkpoint", "x", "--manifest", "y", "--output", "a.txt"], "give a file that ends in .json."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_slip_is_named_with_what_was_meant(arguments: list[str], answer: str) -> None:
    assert answer in said(*arguments)


def test_dashes_stand_for_underscores_and_flags_take_several_values() -> None:
    model = ("--checkpoint", "x")
    assert parsed("search", *model, "--top-k", 3, "--read-out", "quantized")["top_k"] == 3
    for packs in (("--packs", "a", "b"), ("--packs", "a", "--packs", "b"), ("--packs=a", "--packs", "b")):
        assert parsed("search", *packs, *model)["packs"] == ["a", "b"]
    assert given(parsed("search", *model))["packs"] is None
    assert parsed("evaluate", *model, "--text-from-label", "a {}", "the {}")["text_from_label"] == ["a {}", "the {}"]
    assert parsed("train", "--output_dir", "x", "--cache-bridge", "--resume")["cache_bridge"] is True
    assert parsed("benchmark", "a", "b", "--root", "c")["names"] == ["a", "b"]


def test_spread_puts_the_flag_before_each_value() -> None:
    given = ["x", "--many", "a", "b", "--one", "c", "d", "--many=e", "f", "--open"]
    expected = ["x", "--many", "a", "--many", "b", "--one", "c", "d", "--many=e", "f", "--open", "all"]
    assert app.spread(given, {"--many"}, {"--open"}) == expected
    assert app.spread(["--many", "--many", "a", "--many"], {"--many"}, set()) == [
        "--many",
        "--many",
        "a",
        "--many",
    ]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """What a command raises."""
    chosen: dict[str, BaseException] = {}

    def fail() -> None:
        raise chosen["error"]

    monkeypatch.setitem(app.COMMANDS, "doctor", (fail, "codebind doctor"))
    return chosen


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("depth: got 1."), 1, "error: depth: got 1.\n"),
        (OSError("no file."), 1, "error: no file.\n"),
        (FloatingPointError("NaN."), 1, "error: NaN.\n"),
        (ImportError("needs x. Fix: y."), 1, "error: needs x. Fix: y.\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(143), 143, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_command_ends_with_its_status_and_one_line(
    failing: dict[str, BaseException], error: BaseException, status: int, line: str
) -> None:
    failing["error"] = error
    done = run_command("doctor")
    assert (done.returncode, done.stderr) == (status, line)


def test_a_traceback_comes_where_it_is_asked_for(
    failing: dict[str, BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing["error"] = ValueError("depth: got 1.")
    monkeypatch.setenv(app.TRACEBACK, "1")
    with pytest.raises(ValueError, match="depth: got 1"):
        run_command("doctor")


def test_what_nobody_expects_keeps_its_traceback(failing: dict[str, BaseException]) -> None:
    failing["error"] = KeyError("a bug")
    with pytest.raises(KeyError):
        run_command("doctor")


def test_it_runs_as_a_module_and_says_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codebind_hf", "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)
    done = subprocess.run(
        [sys.executable, "-m", "codebind_hf", "trian"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "Did you mean 'train'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", list(OF_BEFORE))
def test_a_script_is_short_and_has_the_flags_of_the_command(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 120
    done = run_example(name, "--help")
    assert done.returncode == 0
    assert done.stdout.partition("\n\n")[2] == run_command(name, "--help").stdout.partition("\n\n")[2]
    assert set(re.findall(r"(?<![\w-])--[a-z_]+", text)) - {"--help"} <= flags_of(name)
    refused = run_example(name, "--nonsense")
    assert refused.returncode == 2
    assert f"See `{name}.py --help`." in refused.stderr
    assert not Path("--nonsense").exists()
