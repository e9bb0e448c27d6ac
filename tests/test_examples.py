"""The scripts in `examples/`, run as a user runs them: on files, those that train in processes of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from examples_in_process import example, run_example
from PIL import Image

from codebind_hf.data import NineSenses
from codebind_hf.evaluation.figure_style import new_figure
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.adapters import load_adapter
from codebind_hf.training.runs import license_of


ROOT = Path(__file__).parents[1]
NAMES = ["text", "image", "audio"]
SHORT = ("--max_steps", "2", "--batch_size", "4")


def run(*command: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )


def script(name: str, *arguments: object) -> subprocess.CompletedProcess:
    return run(ROOT / "examples" / name, *arguments)


def test_the_benchmark_of_points_prints_times_and_ratios() -> None:
    done = run_example("bench/points", "--clouds", 2, "--points", 128, "--centres", 40)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["farthest", "nearest", "balls", "Chamfer"]
    assert "times as fast as a loop over points" in done.stdout


@pytest.mark.slow
def test_holes_that_are_filled_and_points_that_are_dropped_leave_items_what_they_are() -> None:
    done = run_example("bench/invalid", "--items", 24, "--seeds", 1)
    assert done.returncode == 0, done.stderr
    found = [re.fullmatch(r"(.+?) {2,}(.+?) +([\d.]+) % \(.*\)", line) for line in done.stdout.splitlines()]
    shares = {(line[1], line[2]): float(line[3]) for line in found if line is not None}
    assert len(shares) == len(found) == 14
    assert all(share == 100 for (_, policy), share in shares.items() if policy == "invalid='fill'")
    for case in {case for case, _ in shares}:
        kept = shares.get((case, "invalid='fill'"), shares.get((case, "invalid='drop'")))
        assert kept > shares[case, "as measured"]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A checkpoint trained on exported files, as in the README."""
    folder = tmp_path_factory.mktemp("mine")
    rows = folder / "rows" / "manifest.jsonl"
    test = folder / "test" / "manifest.jsonl"
    NineSenses("train", num_bridge=6, num_target=6, modalities=NAMES).export(rows.parent)
    NineSenses("test", num_rows=42, modalities=NAMES).export(test.parent)
    output = folder / "run"
    done = script("train.py", "--manifest", rows, "--output_dir", output, *SHORT)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        folder=folder, rows=rows, test=test, output=output, checkpoint=output / "checkpoint", done=done
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The demo in miniature, through `accelerate launch`."""
    folder = tmp_path_factory.mktemp("demo")
    config = folder / "small.yaml"
    config.write_text(
        "data:\n  nine_senses: {num_bridge: 24, num_target: 6, num_test: 40}\n"
        "recipe:\n  training: {per_device_train_batch_size: 8, logging_steps: 1, warmup_steps: 0}\n"
        "  stages: {bridge: {input_noise: 0.2}}\n  seed: 3\n"
    )
    launch = ("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1")
    settled = ("--mixed_precision", "no", "--dynamo_backend", "no")
    command = (*launch, *settled, ROOT / "examples" / "train.py", "--config", config, "--output_dir", folder / "run")
    done = run(*command, "--max_steps", "2")
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "run" / "report.json").read_text())
    return SimpleNamespace(folder=folder / "run", report=report)


def test_training_on_a_manifest_writes_checkpoint_and_log(mine: SimpleNamespace) -> None:
    files = {path.name for path in mine.checkpoint.iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json"} <= files
    logs = json.loads((mine.output / "training.json").read_text())
    assert [(entry["stage"], entry["encoders"]) for entry in logs] == [
        ("bridge", ["text", "vision"]),
        ("bind", ["audio"]),
    ]
    assert all(entry["log"][-1]["step"] == 2 for entry in logs)
    assert f"Wrote {mine.checkpoint}." in mine.done.stdout
    assert {path.name for path in mine.output.iterdir()} == {"checkpoint", "training.json", "run.json"}
    card = (mine.checkpoint / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "Results" not in card
    assert "Trained from" not in card
    assert "Nothing is evaluated without test rows" in mine.done.stdout


@pytest.fixture(scope="module")
def bound(mine: SimpleNamespace) -> SimpleNamespace:
    """The same rows bound once more with LoRA, from the checkpoint, as the recipes of the paper do."""
    config = mine.folder / "bind.yaml"
    training = "{train_mode: lora, train_bridge_heads: true, max_steps: 9, freeze_shared_codes: false}"
    config.write_text(
        f"data: {{manifest: {mine.rows}}}\nrecipe:\n  base: nowhere\n  order: bind\n  training: {training}\n"
    )
    output = mine.folder / "bound"
    command = ("--config", config, "--base", mine.checkpoint, "--output_dir", output)
    done = script("train.py", *command, *SHORT)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(output=output, done=done)


@pytest.mark.slow
def test_a_run_with_lora_says_what_learns_and_writes_it_down(bound: SimpleNamespace) -> None:
    (entry,) = json.loads((bound.output / "training.json").read_text())
    assert (entry["stage"], entry["encoders"]) == ("bind", ["audio"])
    assert entry["log"][-1]["step"] == 2
    learned = entry["trainable"]
    assert learned["towers"] == 0
    assert learned["temperature"] == 1
    assert all(learned[part] > 0 for part in ("lora", "cls_tokens", "shared_heads", "specific_heads", "decoders"))
    said = bound.done.stdout
    assert f"bind: {sum(learned.values()):,} numbers learn: lora {learned['lora']:,}, cls_tokens" in said


def test_a_run_with_lora_writes_the_adapter_and_a_plain_checkpoint(
    mine: SimpleNamespace, bound: SimpleNamespace
) -> None:
    assert {path.name for path in bound.output.iterdir()} == {"adapter", "checkpoint", "training.json", "run.json"}
    merged = CodeBindModel.from_pretrained(bound.output / "checkpoint")
    adapted = CodeBindModel.from_pretrained(mine.checkpoint)
    load_adapter(adapted, bound.output / "adapter")
    processor = CodeBindProcessor.from_pretrained(bound.output / "checkpoint")
    queries = {"audio": [str(path) for path in sorted((mine.test.parent / "audio").glob("*.wav"))[:3]], "text": ["a"]}
    found, expected = (model.encode(queries, processor=processor, quantize=False) for model in (merged, adapted))
    for modality in queries:
        np.testing.assert_allclose(found[modality], expected[modality], rtol=1e-4, atol=1e-5)
    before = CodeBindModel.from_pretrained(mine.checkpoint).encode(queries, processor=processor, quantize=False)
    assert np.abs(found["audio"] - before["audio"]).max() > 1e-4


def test_evaluation_writes_json_and_markdown(mine: SimpleNamespace) -> None:
    output = mine.folder / "reports" / "mine.json"
    templates = ("--template", "a photo of a {}", "--template", "the {}")
    done = run_example(
        "evaluate", "--checkpoint", mine.checkpoint, "--manifest", mine.test, "--output", output, *templates
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    for modality in ("image", "audio"):
        entry = report["zero_shot"][modality]
        assert {"accuracy", "accuracy_continuous", "chance", "n"} <= set(entry)
        assert entry["n"] == 42
    assert {"recall_at_1", "recall_at_10", "n"} <= set(report["retrieval"]["audio_to_image"])
    assert output.with_suffix(".md").read_text().startswith("#")
    assert "zero-shot" in done.stdout
    assert "image" in done.stdout


def test_search_ranks_the_files_of_a_gallery(mine: SimpleNamespace) -> None:
    query = next((mine.test.parent / "audio").glob("*.wav"))
    common = ("--checkpoint", mine.checkpoint, "--gallery", mine.test, "--top_k", "3")
    done = run_example("search", "--query", query, *common, "--modalities", "image")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"query: {query} (audio)"
    ranked = [line.split() for line in lines if line.strip().startswith(("1.", "2.", "3."))]
    assert len(ranked) == 3
    cosines = [float(cosine) for _, cosine, _ in ranked]
    assert cosines == sorted(cosines, reverse=True)
    assert all((mine.test.parent / name).is_file() and name.endswith(".png") for _, _, name in ranked)


@pytest.mark.slow
def test_the_report_of_the_demo_has_every_key(demo: SimpleNamespace) -> None:
    report = demo.report
    targets = ("image", "video", "audio", "depth", "thermal", "tactile", "point_cloud", "eeg")
    for modality in targets:
        entry = report["zero_shot"][modality]
        assert entry["n"] == 40
        assert all(0 <= entry[key] <= 1 for key in ("accuracy", "accuracy_continuous", "chance"))
        assert len(report["probes"][modality]) >= 2
        assert "class" in report["probes"][modality]
        for probe in report["probes"][modality].values():
            assert {"shared", "specific", "chance"} <= set(probe)
        for pair in (
            f"{modality}_to_text",
            f"text_to_{modality}",
            *([f"{modality}_to_image"] if modality != "image" else []),
        ):
            assert {"recall_at_1", "recall_at_10", "n"} <= set(report["retrieval"][pair])
    books = {"shared", "vision", "audio", "depth", "thermal", "tactile", "point", "eeg"}
    assert books <= set(report["codebooks"])
    for book in books:
        assert {"usage", "perplexity"} <= set(report["codebooks"][book])
    assert report["seed"] == 3
    assert report["environment"]


@pytest.mark.slow
def test_the_demo_writes_what_the_readme_promises(demo: SimpleNamespace) -> None:
    names = {path.name for path in demo.folder.iterdir()}
    assert {"checkpoint", "training.json", "report.json", "report.md", "figures", "files"} <= names
    assert "NineSenses" in (demo.folder / "checkpoint" / "README.md").read_text()
    assert list((demo.folder / "figures").glob("*.png"))
    assert (demo.folder / "files" / "manifest.jsonl").is_file()
    logs = json.loads((demo.folder / "training.json").read_text())
    assert [entry["stage"] for entry in logs] == ["bridge", "bind"]
    steps = [[line for line in entry["log"] if "loss" in line] for entry in logs]
    assert [len(lines) for lines in steps] == [2, 2]
    assert all("loss/align" in line and "codebook/shared/usage" in line for lines in steps for line in lines)


def refusal(name: str, *arguments: object) -> str:
    """What a script says before it ends with an error."""
    done = run_example(name, *arguments)
    assert done.returncode in (1, 2)
    return done.stderr


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn_from_a_run_of_the_demo(demo: SimpleNamespace, tmp_path: Path) -> None:
    picture = tmp_path / "overview.png"
    done = run_example("overview", "--run", demo.folder, "--object", "-00003", "--output", picture)
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as opened:
        assert opened.width > 2 * opened.height
    done = run_example("overview", "--run", demo.folder, "--object", "nothing", "--output", picture)
    assert done.returncode == 2
    assert "--object: got nothing, which no picture of" in done.stderr


def test_codes_that_senses_share_have_a_colour_and_others_none() -> None:
    overview, axes = example("overview"), new_figure(4, 3).add_subplot()
    codes = {name: [number, 7] for number, name in enumerate(overview.SENSES[:3])}
    overview.lines(axes, codes, "codes", names=True)
    drawn = [patch.get_facecolor() for patch in axes.patches]
    assert len(drawn) == 6
    assert len(set(drawn[1::2])) == 1
    assert len({*drawn[0::2]}) == 1, "codes of one sense alone are grey"
    assert drawn[0][0] == drawn[0][1] == drawn[0][2]
    assert len(set(drawn[1][:3])) > 1


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a picture, a depth map without unit, and manifests of them."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(tmp_path / "depth.png")
    manifests = {
        "one": {"image": "a.png"},
        "depth": {"text": "a cube", "depth": "depth.png", "id": "first-row"},
        "lost": {"text": "a cube", "image": "b.png", "id": "second-row"},
        "apart": {"text": "a cube"},
    }
    for name, row in manifests.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    with (tmp_path / "apart.jsonl").open("a") as rows:
        rows.write('{"image": "a.png"}\n')
    return tmp_path


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        pytest.param("none", "none.jsonl", id="missing"),
        pytest.param("one", "the data has image; training needs text or image, and another that", id="one-modality"),
        pytest.param("depth", "depth_unit", id="depth-without-unit"),
        pytest.param("depth", "first-row", id="the-row-is-named"),
        pytest.param("lost", "second-row, image", id="missing-file"),
        pytest.param("apart", "no row has text or image together with", id="modalities-that-never-meet"),
    ],
)
def test_training_refuses_a_manifest_that_it_cannot_learn_from(files: Path, manifest: str, named: str) -> None:
    said = refusal("train", "--manifest", files / f"{manifest}.jsonl", "--output_dir", files / "run")
    assert "\nerror: " in f"\n{said}"
    assert named in said
    assert not (files / "run" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("dat: {}", "unknown keys ['dat']; allowed: data, recipe, templates", id="key"),
        pytest.param("data: {manifset: a}", "data: unknown key 'manifset'. Did you mean 'manifest'?", id="data-key"),
        pytest.param("recipe: {modell: {}}", "recipe: unknown key 'modell'. Did you mean 'model'?", id="recipe-key"),
        pytest.param("templates: [a photo]", "templates: 'a photo' has no {} for the name", id="template"),
        pytest.param("- 1", "--config", id="list"),
        pytest.param("", "`data` needs one of manifest, dataset, nine_senses, benchmark; got none", id="empty"),
        pytest.param("data: {rows: a.jsonl}", "data: unknown key 'rows'. Allowed: manifest, test_man", id="no-rows"),
        pytest.param("data: {nine_senses: {num_brige: 3}}", "num_brige", id="nine-modalities"),
        pytest.param("recipe: {sed: 0}", "recipe: ", id="recipe"),
        pytest.param("recipe: {stages: {brige: {}}}", "'brige'; allowed: bridge, bind, joint", id="stage"),
        pytest.param("recipe: {training: {learning_rat: 1}}", "Did you mean 'learning_rate'?", id="argument"),
        pytest.param("recipe: {preset: huge}\ndata: {nine_senses: {num_bridge: 1}}", "preset 'huge'", id="preset"),
        pytest.param("recipe: {model: {share_dim: 8}}\ndata: {nine_senses: }", "share_dim", id="model"),
        pytest.param("recipe: {base: none}\ndata: {nine_senses: {num_bridge: 1}}", "base: 'none' is no", id="base"),
        pytest.param("data: [1,", "error: ", id="yaml"),
    ],
)
def test_training_refuses_a_wrong_config(tmp_path: Path, text: str, named: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    said = refusal("train", "--config", config, "--output_dir", tmp_path / "run")
    assert "\nerror: " in f"\n{said}"
    assert named in said


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param([], "give --manifest", id="nothing"),
        pytest.param(["--benchmark", "sun-d", "--root", "none"], "SUN RGB-D: no folder", id="benchmark"),
        pytest.param(["--config", "a.yaml", "--test_manifest", "b.jsonl"], "--test_manifest needs", id="test-alone"),
    ],
)
def test_training_needs_something_to_train_on(tmp_path: Path, arguments: list[str], named: str) -> None:
    assert named in refusal("train", *arguments, "--output_dir", tmp_path)


def test_evaluation_and_search_refuse_what_they_cannot_read(mine: SimpleNamespace, files: Path) -> None:
    checkpoint = ("--checkpoint", mine.checkpoint)
    assert "none.jsonl" in refusal("evaluate", *checkpoint, "--manifest", files / "none.jsonl")
    nothing = ("--checkpoint", files / "none")
    for said in (
        refusal("evaluate", *nothing, "--manifest", mine.test),
        refusal("search", *nothing, "--gallery", mine.test, "--text", "a"),
    ):
        assert f"--checkpoint: no folder {files / 'none'}" in said
    gallery = (*checkpoint, "--gallery", mine.test)
    (files / "a.e57").write_bytes(b"")
    assert "--modality" in refusal("search", *gallery, "--query", files / "a.e57")
    assert "none.wav" in refusal("search", *gallery, "--query", files / "none.wav")
    assert "eeg" in refusal("search", *gallery, "--text", "a cube", "--modalities", "eeg")
    assert "got 0" in refusal("search", *gallery, "--text", "a", "--top_k", "0")


BINDING = ("--bind", "eeg", "--max_steps", "2", "--batch_size", "4")


@pytest.fixture(scope="module")
def eeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of text, image and EEG, whose EEG is also called radar."""
    folder = tmp_path_factory.mktemp("eeg")
    manifest = Path(
        NineSenses("train", num_bridge=0, num_target=6, modalities=["text", "image", "eeg"]).export(folder)
    )
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    (folder / "radar.jsonl").write_text("".join(json.dumps({**row, "radar": row.pop("eeg")}) + "\n" for row in rows))
    return manifest


@pytest.mark.slow
def test_binding_a_modality_leaves_the_run_it_starts_from_and_its_embeddings_alone(
    mine: SimpleNamespace, eeg: Path
) -> None:
    before = {path: path.read_bytes() for path in mine.checkpoint.rglob("*") if path.is_file()}
    output = mine.folder / "with-eeg"
    done = script("train.py", "--bridge", mine.output, *BINDING, "--manifest", eeg, "--output_dir", output)
    assert done.returncode == 0, done.stderr
    assert "Bound eeg: largest movement (tolerance 0): text 0, image 0." in done.stdout
    assert {path.name for path in output.iterdir()} == {
        *("checkpoint", "pack", "training.json", "binding.json", "run.json")
    }
    report = json.loads((output / "binding.json").read_text())
    assert report["movement"] == {"text": 0.0, "image": 0.0}
    assert report["is_within_tolerance"] is True
    assert all(path.read_bytes() == value for path, value in before.items())
    queries = {
        "text": ["a ring", "a long text about a wooden cube"],
        "image": [str(path) for path in sorted((mine.test.parent / "image").glob("*.png"))[:5]],
        "audio": [str(path) for path in sorted((mine.test.parent / "audio").glob("*.wav"))[:5]],
    }
    embeds = [
        CodeBindModel.from_pretrained(folder).encode(queries, processor=CodeBindProcessor.from_pretrained(folder))
        for folder in (mine.checkpoint, output / "checkpoint")
    ]
    for modality in queries:
        np.testing.assert_array_equal(embeds[0][modality], embeds[1][modality])
    assert "eeg" in CodeBindProcessor.from_pretrained(output / "checkpoint").modalities
    model = CodeBindModel.from_pretrained(mine.checkpoint, packs=[output / "pack"])
    processor = CodeBindProcessor.from_pretrained(mine.checkpoint, packs=[output / "pack"])
    whole, own = (kind.from_pretrained(output / "checkpoint") for kind in (CodeBindModel, CodeBindProcessor))
    signals = {"eeg": [str(path) for path in sorted((eeg.parent / "eeg").glob("*.npy"))[:2]]}
    np.testing.assert_array_equal(model.encode(signals, processor)["eeg"], whole.encode(signals, own)["eeg"])
    card = (output / "checkpoint" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "Trained from the weights of `run`." in card
    assert "holds a finished run. Fix: --overwrite to start anew, or a new folder." in refusal(
        "train", "--bridge", mine.output, *BINDING, "--manifest", eeg, "--output_dir", output
    )


@pytest.mark.slow
def test_codes_that_move_the_others_too_far_are_not_saved(mine: SimpleNamespace, eeg: Path) -> None:
    output = mine.folder / "too-far"
    command = ("--bridge", mine.checkpoint, *BINDING, "--manifest", eeg, "--output_dir", output)
    learning = ("--shared_codes", "learning", "--check_manifest", mine.test)
    said = refusal("train", *command, *learning)
    assert (
        "--tolerance: other modalities moved too far, nothing is saved; largest movement (tolerance 0): text 0."
        in said
    )
    assert not (output / "checkpoint").exists()
    moved = json.loads((output / "binding.json").read_text())["movement"]
    assert set(moved) == {"text", "image", "audio"}
    assert min(moved.values()) > 0
    assert "no row has audio, whose" in refusal("train", *command, *learning[:2])


def test_a_modality_of_ones_own_binds_from_the_command_line(mine: SimpleNamespace, eeg: Path) -> None:
    encoder, output = mine.folder / "radar.yaml", mine.folder / "with-radar"
    encoder.write_text(
        "num_channels: 16\ninput_size: [64]\npatch_size: [8]\nhidden_size: 16\nnum_hidden_layers: 1\n"
        "num_attention_heads: 2\nintermediate_size: 24\nprocessor: {normalize: channel}\n"
    )
    command = ("--bind", "radar", "--bridge", mine.output, "--manifest", eeg.with_name("radar.jsonl"), *SHORT)
    done = run_example("train", *command, "--encoder", encoder, "--output_dir", output)
    assert done.returncode == 0, done.stderr
    model = CodeBindModel.from_pretrained(output / "checkpoint")
    processor = CodeBindProcessor.from_pretrained(output / "checkpoint")
    assert processor.added_modalities["radar"]["normalize"] == "channel"
    files = [str(path) for path in sorted((eeg.parent / "eeg").glob("*.npy"))[:2]]
    signals = [np.load(file) for file in files]
    assert model.encode({"radar": signals}, processor=processor)["radar"].shape == (2, 64)
    rows, report = eeg.with_name("radar.jsonl"), mine.folder / "radar.json"
    own = ("--checkpoint", output / "checkpoint")
    done = run_example("evaluate", *own, "--manifest", rows, "--output", report)
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["zero_shot"]["radar"]["n"] == 6
    done = run_example("search", *own, "--query", files[0], "--modality", "radar", "--gallery", rows, "--top_k", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"query: {files[0]} (radar)")
    assert "Fix: describe its encoder" in refusal("train", *command, "--output_dir", mine.folder / "none")
    encoder.write_text("- 1")
    said = refusal("train", *command, "--encoder", encoder, "--output_dir", mine.folder / "none")
    assert "--encoder" in said


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["--bind", "eeg"], "--bind MODALITY and --bridge MODEL belong together", id="no-model"),
        pytest.param(["--bridge", "runs/x"], "--bind MODALITY and --bridge MODEL belong together", id="no-modality"),
        pytest.param(["--bind", "eeg", "--bridge", "x", "--base", "y"], "leave out --base", id="base"),
        pytest.param(["--bind", "eeg", "--bridge", "x", "--test_manifest", "y"], "and --test_dataset", id="test rows"),
        pytest.param(["--test_dataset", "y"], "--test_dataset needs --dataset", id="test rows of another kind"),
        pytest.param(["--tolerance", "0.1"], "--tolerance needs --bind", id="tolerance"),
        pytest.param(["--shared_codes", "learning"], "--shared_codes needs --bind", id="codes"),
        pytest.param(["--encoder", "a.yaml"], "--encoder needs --bind", id="encoder"),
    ],
)
def test_arguments_of_binding_belong_together(tmp_path: Path, arguments: list[str], named: str) -> None:
    assert named in refusal("train", "--manifest", "a.jsonl", "--output_dir", tmp_path, *arguments)


def test_binding_to_no_checkpoint_is_named(files: Path) -> None:
    command = ("--bind", "eeg", "--bridge", files, "--manifest", files / "one.jsonl", "--output_dir", files / "run")
    assert "is no checkpoint" in refusal("train", *command)


@pytest.mark.slow
def test_the_tutorial_binds_a_made_up_sensor(mine: SimpleNamespace, tmp_path: Path) -> None:
    assert len((ROOT / "examples" / "bind_radar.py").read_text().splitlines()) <= 60
    small = ("--rows", "8", "--max_steps", "2")
    for start, folder in ((("--bridge", mine.output), tmp_path / "bound"), ((), tmp_path / "alone")):
        done = script("bind_radar.py", *start, *small, "--output_dir", folder)
        assert done.returncode == 0, done.stderr
        assert "Others: largest movement (tolerance 0): text 0, image 0. Zero-shot accuracy of radar: " in done.stdout
        assert "(chance 5.0%)" in done.stdout
        assert "radar" in CodeBindModel.from_pretrained(folder / "checkpoint").config.modalities


def test_trained_weights_keep_the_licence_of_their_base(tmp_path: Path) -> None:
    assert license_of(None) == "apache-2.0"
    assert license_of(str(tmp_path)) == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n")
    assert license_of(str(tmp_path)) == "cc-by-nc-sa-4.0"
