"""Rules of the house that no linter knows: who may import whom, sizes, annotations, paths, public names."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "codebind_hf"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
MOST_FILES, MOST_LINES = 30, 5000
# A folder whose code lies beside checkpoints cannot be split: the library copies what is imported from one folder.
# Towers that are networks of others, with their weights and their processors, have files of their own in both.
MOST_LINES_OF = {"model": 6350, "processing": 7060, "training": 5380}
MOST_FILES_OF = {"model": 36, "processing": 34}

# What each room may import from the package, itself included. Modules beside the rooms never ship.
BESIDE = {"lazy_names", "renamed", "started"}
MAY_IMPORT = {
    "model": {"model"},
    "processing": {"processing"},
    "conversion": {"conversion", "processing", "model", *BESIDE},
    "nine_senses": {"nine_senses", *BESIDE},
    "data": {"data", "nine_senses", "processing", "model", *BESIDE},
    "benchmarks": {"benchmarks", "processing", "model", *BESIDE},
    "evaluation": {"evaluation", "benchmarks", "data", "conversion", "processing", "model", *BESIDE},
    "monitoring": {"monitoring", "evaluation", "data", "processing", "model", *BESIDE},
    "packs": {"packs", "evaluation", "conversion", "processing", "model", *BESIDE},
    "training": {
        "training",
        "monitoring",
        "packs",
        "evaluation",
        "benchmarks",
        "data",
        "conversion",
        "processing",
        "model",
        *BESIDE,
    },
    "inference": {
        *(
            "inference",
            "packs",
            "evaluation",
            "benchmarks",
            "data",
            "conversion",
            "processing",
            "model",
            "registration",
        ),
        *BESIDE,
    },
    "serving": {
        *(
            "serving",
            "inference",
            "training",
            "packs",
            "evaluation",
            "benchmarks",
            "data",
            "conversion",
            "processing",
            "model",
        ),
        *BESIDE,
    },
    "publishing": {"publishing", "packs", "evaluation", "conversion", "processing", "model", *BESIDE},
    "commands": {
        *("commands", "serving", "publishing", "inference", "training", "packs", "evaluation", "benchmarks", "data"),
        *("conversion", "processing", "model", *BESIDE),
    },
    "__main__.py": {"commands"},
    "lazy_names.py": {"renamed"},
    "started.py": set(),
    "registration.py": set(),
    "renamed.py": set(),
}
# Rooms that are copied to the Hub as they are, so they need nothing but this and what comes with transformers.
FLAT = ("model", "processing")
FLAT_LIBRARIES = {"torch", "numpy", "transformers", "huggingface_hub", "tokenizers", "safetensors", "PIL"}
OPTIONAL_LIBRARIES = {"soundfile", "av", "pi_heif", "trimesh", "laspy", "lazrs", "edfio", "mne"}

PUBLIC = {
    "codebind_hf": """CodeBindConfig CodeBindEncoderConfig CodeBindModel CodeBindOutput CodeBindProcessor
        CodeBindTrainer CodeBindTrainingArguments LossBalancer""",
    "codebind_hf.benchmarks": "Benchmark Expected Found Metric Rows get names",
    "codebind_hf.conversion": """clip_tokenizer codebind_processor convert_codebind convert_imagebind convert_vitlens
        imagebind_processor revert_codebind revert_imagebind revert_vitlens vitlens_processor""",
    "codebind_hf.data": """Augmentation CodeBindCollator LazyDataset Manifest NineSenses PreparedDataset
        ModalityBatchSampler StoredDataset StreamedDataset augmented_row load_items rows_from_dataset""",
    "codebind_hf.evaluation": """ClassEmbeds EmbeddedModality EmbeddedSet Evaluation FusionResult ProbeResult
        attack calibrate_threshold checkpoint_digest class_embeddings code_agreement codebook_health comparison_table
        draw_figures
        embed_dataset embed_texts evaluate_benchmark evaluate_model fusion_accuracy given_away hit_shares
        intra_class_cosine
        linear_probe load_metric markdown_report match_places mean_average_precision median_rank metric_path
        modality_usage owner_recall pool_precision pool_recall retrieval_recall save_thresholds write_benchmarks
        write_model_card write_report write_search_page zero_shot_accuracy""",
    "codebind_hf.inference": """Audio ClipEmbeds CodeIndex CodeMatch CodeUse Depth Eeg Image Imu PointCloud
        SearchResult Sensor SensorCheck SensorFlags SharedCode Tactile Text Thermal Video disagreement explain_code
        explain_match join_parts pack_codes packed_size unpack_codes""",
    "codebind_hf.inference.pipelines": """CrossModalRetrievalPipeline MultimodalEmbeddingPipeline
        SensorClassificationPipeline register_pipelines""",
    "codebind_hf.packs": """Pack add_packs add_packs_to_processor load_model load_processor read_pack save_pack""",
    "codebind_hf.serving": "build launch serve write_space",
    "codebind_hf.training": """CodeBindTrainer CodeBindTrainingArguments LossBalancer Recipe RunInterrupted RunSettings
        BindSettings ModalityView Stage build plan_stages read_settings run save modalities_of train train_only""",
}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(tree: ast.AST) -> Iterator[tuple[ast.stmt, int, str]]:
    """Every import: its statement, how many dots it begins with, and the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.level, node.module or ""


def name_in_package(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules_imported(path: Path) -> Iterator[str]:
    """Modules of the package that `path` imports when it is itself imported; what types alone need does not count."""
    for statement in tree_of(path).body:
        for node, dots, module in imports_of(statement) if not isinstance(statement, ast.If) else ():
            if dots:
                yield f"{name_in_package(path.parent / '__init__.py')}.{module}"
            elif module.split(".")[0] == "codebind_hf" and isinstance(node, ast.ImportFrom):
                yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)
each_flat_module = pytest.mark.parametrize(
    "path", sorted(path for room in FLAT for path in (PACKAGE / room).glob("*.py")), ids=name_of
)


@each_module
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room not in MAY_IMPORT:
        assert room == "__init__.py", "a new room or module needs a line in MAY_IMPORT"
        return
    for _, dots, module in imports_of(tree_of(path)):
        if not dots and module.split(".")[0] == "codebind_hf":
            parts = module.split(".")
            assert len(parts) > 1, f"{room} imports the package as a whole"
            assert parts[1] in MAY_IMPORT[room], f"{room} imports {module}"


@each_module
def test_only_the_flat_rooms_import_siblings_by_dots(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] not in FLAT:
        assert [module for _, dots, module in imports_of(tree_of(path)) if dots] == []


@each_flat_module
def test_the_flat_rooms_import_siblings_and_what_the_hub_has(path: Path) -> None:
    tree = tree_of(path)
    siblings = {other.stem for other in path.parent.glob("*.py")}
    top_level = set(map(id, tree.body))
    for statement, dots, module in imports_of(tree):
        if dots:
            assert dots == 1
            assert module in siblings, "write `from .sibling import Name`: the Hub's exporter reads nothing else"
            assert id(statement) in top_level, f"{module}: the exporter follows imports at the top only"
            continue
        library = module.split(".")[0]
        allowed = library in FLAT_LIBRARIES | set(sys.stdlib_module_names)
        if library in OPTIONAL_LIBRARIES:
            allowed = id(statement) not in top_level
        assert allowed, f"{module} is not there when a checkpoint is loaded from the Hub"


@pytest.mark.parametrize("room", FLAT)
def test_a_room_that_ships_is_flat(room: str) -> None:
    assert [path for path in (PACKAGE / room).iterdir() if path.is_dir() and path.name != "__pycache__"] == []


def test_no_two_files_that_ship_share_a_name() -> None:
    """Both rooms land in one folder of the Hub."""
    names = [path.name for room in FLAT for path in (PACKAGE / room).glob("*.py") if path.name != "__init__.py"]
    assert sorted(set(names)) == sorted(names)


def test_no_imports_go_in_a_circle() -> None:
    reached = {name_in_package(path): set(modules_imported(path)) for path in MODULES}
    while reached:
        leaves = {module for module, imported in reached.items() if not imported & reached.keys()}
        assert leaves, f"a circle among {', '.join(sorted(reached))}"
        reached = {module: imported for module, imported in reached.items() if module not in leaves}


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=name_of)
def test_a_folder_of_the_package_can_be_overlooked(folder: Path) -> None:
    files = sorted(folder.glob("*.py"))
    assert len(files) <= MOST_FILES_OF.get(folder.name, MOST_FILES)
    assert sum(len(path.read_text().splitlines()) for path in files) <= MOST_LINES_OF.get(folder.name, MOST_LINES)


@each_flat_module
def test_no_docstring_line_of_a_flat_room_looks_like_an_import(path: Path) -> None:
    """The exporter finds dependencies by a regular expression over the whole text."""
    tree = tree_of(path)
    statements = {node.lineno for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        assert number in statements or not re.match(r"\s*(from|import)\s+\.?\w+(\.\w+)*\s*(import|$)", line), line


@pytest.mark.parametrize("path", sorted((PACKAGE / "model").glob("configuration_*.py")), ids=name_of)
def test_configurations_keep_their_annotations(path: Path) -> None:
    """Postponed annotations switch the validation of fields off, silently."""
    assert "from __future__" not in path.read_text()


@each_module
def test_a_module_says_what_question_it_answers_and_stays_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert not text.strip() or ast.get_docstring(tree_of(path))


@each_module
def test_every_function_is_annotated(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments += [extra for extra in (node.args.vararg, node.args.kwarg) if extra is not None]
            bare = [each.arg for each in arguments if each.annotation is None and each.arg not in ("self", "cls")]
            assert bare == [], f"{node.name} in line {node.lineno}"
            assert node.returns is not None, f"{node.name} in line {node.lineno} has no return annotation"


@each_module
def test_the_package_neither_prints_nor_swallows_errors(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "breakpoint", "eval", "exec"), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno} catches everything"
            assert not all(isinstance(child, ast.Pass) for child in node.body), f"line {node.lineno} says nothing"


def tracked_files() -> list[Path]:
    git = shutil.which("git") or "git"
    listed = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file()] or MODULES


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.~/-])/(work|root|home|tmp|Users|mnt|scratch)/\w")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}: {match.group()}" for match in machine.finditer(text)]
    assert found == []


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_names_are_the_written_ones(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(PUBLIC[name].split())
    assert all(hasattr(module, each) for each in module.__all__)


def test_every_test_file_has_a_name_of_its_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(set(names)) == len(names)
    assert list((ROOT / "tests").rglob("__init__.py")) == []
