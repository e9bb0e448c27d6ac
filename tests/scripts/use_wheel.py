"""What `make test-wheel` does with a built wheel, in an environment that holds it and what it asks for.

python -I tests/scripts/use_wheel.py DIST

Looks into the wheel and the source distribution in folder `DIST`, then uses the installed package: the preset `tiny`
embeds objects of NineSenses, and every command is there and names the extra that it lacks.
Ends with an AssertionError that says what is wrong.
"""

import importlib.util
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import torch

import codebind_hf
from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.commands.app import COMMANDS
from codebind_hf.data import NineSenses
from codebind_hf.training import Recipe, build


ROOT = Path(__file__).resolve().parents[2]
# What only the extras bring: with one of these the environment would not show that the package does without it.
EXTRAS = (
    *("av", "build", "edfio", "faiss", "ftfy", "gradio", "hypothesis", "laspy", "lazrs", "matplotlib", "mne", "mypy"),
    *("pi_heif", "pytest", "sklearn", "soxr", "trimesh"),
)


def check_wheel(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    folders = {name.split("/")[0] for name in names}
    assert folders == {"codebind_hf", f"codebind_hf-{version('codebind-hf')}.dist-info"}, folders
    held = {name for name in names if name.startswith("codebind_hf/")}
    files = [path for path in (ROOT / "codebind_hf").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    wanted = {path.relative_to(ROOT).as_posix() for path in files}
    assert held == wanted, f"lacks {wanted - held}, holds {held - wanted}"
    assert any(name.endswith("/licenses/LICENSE") for name in names), "no licence"


def check_source(path: Path) -> None:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "Makefile", "SECURITY.md", "constraints.txt", "docs/decisions.md", "examples/train.py"}
    wanted |= {"tests/conftest.py"}
    assert names.issuperset(wanted), f"lacks {wanted - names}"
    assert not any("__pycache__" in name or name.startswith("runs/") for name in names)


def check_environment() -> None:
    installed = Path(codebind_hf.__file__)
    assert installed.is_relative_to(sys.prefix), f"{installed} is not the installed package"
    assert installed.with_name("py.typed").is_file(), "no py.typed: type checkers will not read the annotations"
    assert codebind_hf.__version__ == version("codebind-hf")
    there = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not there, f"the environment is not empty: {there}"


def use() -> list[str]:
    """Embed two objects with every modality; the modalities."""
    rows = NineSenses("test", num_rows=2)
    texts = [row["text"] for row in rows]
    model, processor = build(Recipe(), rows.modalities, texts)
    assert isinstance(model, CodeBindModel)
    assert isinstance(processor, CodeBindProcessor)
    assert model.config.shared_dim == CodeBindConfig.from_preset("tiny").shared_dim
    items = {name: [row[name] for row in rows] for name in rows.modalities}
    embeds = model.eval().encode(items, processor, output="torch")
    assert set(embeds) == set(rows.modalities)
    for name, values in embeds.items():
        assert values.shape == (2, model.config.shared_dim), name
        torch.testing.assert_close(values.norm(dim=-1), torch.ones(2))
    return list(embeds)


def called(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """What the installed command answers."""
    program = Path(sys.executable).with_name("codebind")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def call_commands(folder: Path) -> list[str]:
    """Call the help of every command, and those that need an extra; the names of all."""
    assert called("--version").stdout.strip() == version("codebind-hf")
    for name in COMMANDS:
        assert f"codebind {name}" in called(name, "--help").stdout
    found = json.loads(called("doctor", "--json").stdout)
    assert found["self_test"]["works"], found["self_test"]
    broken = {each["suffix"]: each["fix"] for each in found["readers"] if not each["works"]}
    assert broken[".mp4"] == 'pip install "codebind-hf[video]"', broken
    assert set(broken) == {".heic", ".mp4", ".m4a", ".las", ".laz", ".stl", ".edf", "_raw.fif"}, broken
    rows = NineSenses("test", num_rows=8, modalities=["text", "image"]).export(folder / "rows")
    run = folder / "run"
    called("train", "--manifest", rows, "--output_dir", run, "--max_steps", 1, "--batch_size", 4)
    assert called("search", "--checkpoint", run, "--gallery", rows, "--text", "a").stdout.startswith("query: a (text)")
    tested = ("train", "--manifest", rows, "--test_manifest", rows, "--output_dir", folder / "tested")
    for arguments, extra in (
        (("demo", run), "demo"),
        (tested, "report"),
        (("evaluate", "--checkpoint", run, "--manifest", rows, "--output", folder / "report.json"), "report"),
    ):
        said = called(*arguments, status=1).stderr
        assert said.splitlines()[-1].startswith("error: "), said
        assert f"codebind-hf[{extra}]" in said, said
    return list(COMMANDS)


def main(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    (source,) = dist.glob("*.tar.gz")
    check_wheel(wheel)
    check_source(source)
    check_environment()
    sys.stdout.write(f"{wheel.name}: installed by itself, embeds {', '.join(use())}\n")
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"commands that answer: {', '.join(call_commands(Path(folder)))}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
