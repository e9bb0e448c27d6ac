"""What an import brings along, and that the library's tables know this package once they are used."""

import ast
import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from common import small_config, tiny_model
from test_house import MODULES, PACKAGE, PUBLIC, name_in_package, tree_of

import codebind_hf
from codebind_hf.renamed import MOVED, renamed_attribute, renamed_keywords


# A name of the library's Trainer, and what the extras bring.
HEAVY = "transformers.trainer sklearn matplotlib datasets faiss peft evaluate gradio"
ROOMS = " ".join(
    f"codebind_hf.{room}" for room in ("training", "evaluation", "benchmarks", "data", "conversion", "inference")
)


# The page itself: what is written in Gradio's words, and says which extra brings it.
OF_THE_DEMO = [f"codebind_hf.serving.{name}" for name in ("demo_app", "gradio_library", "picker", "screens")]


def in_fresh_process(script: str, *arguments: Any, strip: bool = True) -> str:
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() if strip else done.stdout


def test_a_bare_import_loads_neither_torch_nor_transformers() -> None:
    found = in_fresh_process(
        "import sys, codebind_hf; print(*(set('torch transformers numpy'.split()) & sys.modules.keys()))"
    )
    assert found == ""


@pytest.mark.parametrize(
    "name",
    ["CodeBindModel", *(pytest.param(f"CodeBind{name}", marks=pytest.mark.slow) for name in ("Processor", "Config"))],
)
def test_a_class_brings_neither_training_nor_evaluation(name: str) -> None:
    script = f"""
import sys
import torch, transformers, transformers.modeling_utils
before = set(sys.modules)
from codebind_hf import {name}
print(*(set({HEAVY + " " + ROOMS!r}.split()) & (sys.modules.keys() - before)))
print(*[module for module in sys.modules if module.startswith("codebind_hf.processing.")])
"""
    *heavy, processing = in_fresh_process(script, strip=False).splitlines()
    assert heavy == [""]
    # The network knows no file formats.
    assert bool(processing) == (name == "CodeBindProcessor")


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param(
            "import codebind_hf\nfrom transformers import AutoModel, AutoConfig, AutoProcessor",
            id="before",
            marks=pytest.mark.slow,
        ),
        pytest.param("from transformers import AutoModel, AutoConfig, AutoProcessor\nimport codebind_hf", id="after"),
        pytest.param(
            "from codebind_hf import CodeBindModel\nfrom transformers import AutoModel, AutoConfig",
            id="model",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import codebind_hf.model.blocks\nfrom transformers import AutoModel, AutoConfig",
            id="a part",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_auto_classes_know_the_package_however_it_was_imported(imports: str, tmp_path: Path) -> None:
    tiny_model(small_config("imu")).save_pretrained(tmp_path)
    script = f"""
{imports}
import sys
from transformers.pipelines import PIPELINE_REGISTRY
print(*(type(auto.from_pretrained(sys.argv[1])).__module__ for auto in (AutoConfig, AutoModel)))
print("cross-modal-retrieval" in PIPELINE_REGISTRY.get_supported_tasks())
"""
    found = in_fresh_process(script, tmp_path)
    assert found == "codebind_hf.model.configuration_codebind codebind_hf.model.modeling_codebind\nTrue"


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "codebind_hf.inference.pipelines"])
def test_what_type_checkers_see_is_what_a_room_gives(name: str) -> None:
    file = PACKAGE.joinpath(*name.split(".")[1:]) / "__init__.py"
    (seen,) = (node for node in tree_of(file).body if isinstance(node, ast.If))
    imported = {(node.module, alias.name) for node in seen.body for alias in node.names}  # type: ignore[attr-defined]
    room = importlib.import_module(name)
    assert {each for _, each in imported} == set(room.__all__)
    for module, each in imported:
        assert getattr(room, each) is getattr(importlib.import_module(module), each)
    assert set(room.__all__) <= set(dir(room))
    # Once it is imported, a module hides what its room offers under the same name.
    assert not set(room.__all__) & {path.stem for path in file.parent.iterdir()}
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'Nonsense'"):
        room.Nonsense  # noqa: B018


EVERY_MODULE = sorted(name_in_package(path) for path in MODULES if "metric_modules" not in path.parts)
# Those that bring the library's tables along while they are half loaded themselves.
BRINGING_TABLES = [
    "codebind_hf.inference.pipelines",
    "codebind_hf.model.blocks",
    "codebind_hf.model.lenses",
    "codebind_hf.processing.base_pipeline",
    "codebind_hf.processing.pipelines_codebind",
]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("names", [pytest.param(BRINGING_TABLES, id="some"), pytest.param(EVERY_MODULE, id="every")])
def test_any_module_may_be_the_first_that_is_imported(names: list[str]) -> None:
    """The tables of the library are filled while modules of ours are half loaded, so every order has to work."""
    script = f"""
import importlib, os
import torch, transformers.modeling_utils
for name in {names!r}:
    if not (child := os.fork()):
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    assert in_fresh_process(script) == ""


# What only the extras bring; soundfile is left out, since other libraries import it where it is installed.
EXTRAS = [
    "av",
    "edfio",
    "faiss",
    "ftfy",
    "gradio",
    "hypothesis",
    "laspy",
    "matplotlib",
    "mne",
    "pi_heif",
    "pypcd4",
    "sklearn",
    "trimesh",
]


def test_every_module_is_imported_without_the_extras_and_without_a_connection() -> None:
    """As in a default installation, on a machine that may reach the Hub."""
    script = f"""
import importlib, importlib.machinery, os, sys

for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ.pop(name, None)

class WithoutExtras(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {EXTRAS!r} else super().find_spec(name, path, target)

sys.meta_path[:] = [WithoutExtras if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
asked = []
sys.addaudithook(lambda event, arguments: asked.append((event, arguments)) if event in (
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request") else None)
for name in {EVERY_MODULE!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if name not in {OF_THE_DEMO!r} or "pip install codebind-hf[demo]" not in str(error):
            raise
    else:
        if name in {OF_THE_DEMO!r}:
            sys.exit(f"{{name}} does not need the demo's extra")
    if asked:
        sys.exit(f"{{name}} asks the network: {{asked}}")
print(*(set({EXTRAS!r}) & sys.modules.keys()))
# Else the list above would hide nothing, and the hook would hear nothing.
import socket
try:
    import sklearn
except ModuleNotFoundError:
    print("no sklearn")
try:
    socket.getaddrinfo("127.0.0.1", 9)
finally:
    print(len(asked))
"""
    assert in_fresh_process(script, strip=False).splitlines() == ["", "no sklearn", "1"]


# Names of the version before


@pytest.mark.parametrize("old", MOVED)
def test_a_module_that_moved_is_the_module_of_today(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is called {MOVED[old]} now; the old name is gone in") as seen:
        found = importlib.import_module(old)
    assert found is importlib.import_module(MOVED[old])
    assert found.__name__ == found.__spec__.name == MOVED[old]
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("room", "old", "new"),
    [
        ("data", "SenseBatchSampler", "ModalityBatchSampler"),
        ("evaluation", "EmbeddedSense", "EmbeddedModality"),
        ("training", "SenseView", "ModalityView"),
        ("training", "senses_of", "modalities_of"),
    ],
)
def test_a_renamed_class_is_given_with_a_warning(room: str, old: str, new: str) -> None:
    module = importlib.import_module(f"codebind_hf.{room}")
    with pytest.warns(DeprecationWarning, match=f"{old} is called codebind_hf.{room}.{new} now"):
        assert getattr(module, old) is getattr(module, new)
    assert old not in dir(module)


def test_renamed_keywords_and_attributes_still_work() -> None:
    rows = codebind_hf.data.NineSenses("test", num_rows=2, modalities=["text", "eeg"])
    with pytest.warns(DeprecationWarning, match=r"NineSenses.__init__\(senses=\) is called modalities= now"):
        old = codebind_hf.data.NineSenses("test", num_rows=2, senses=["text", "eeg"])
    with pytest.warns(DeprecationWarning, match="NineSenses.senses is called modalities now") as seen:
        assert old.senses == rows.modalities == ("text", "eeg")
    assert seen[0].filename == __file__


def test_a_warning_names_the_line_that_uses_the_old_name_and_today_gives_none() -> None:
    class Box:
        size = 3
        width = renamed_attribute("width", "size")

        @renamed_keywords(colour="color")
        def paint(self, color: str) -> str:
            return color

    with pytest.warns(DeprecationWarning, match="is called") as seen:
        assert (Box().width, Box().paint(colour="red")) == (3, "red")
    assert {warning.filename for warning in seen} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (Box().size, Box().paint(color="red"), Box().paint("red")) == (3, "red", "red")
