"""Flags of the commands: what is trained on is evaluated and searched, and flags that do nothing are refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from commands_in_process import run_command
from PIL import Image

from codebind_hf.data import NineSenses
from codebind_hf.training import Recipe, build, save


SHADES = {"ring": 30, "star": 120, "cube": 220}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures by class."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    noise = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for name, shade in SHADES.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                picture = np.clip(noise.normal(shade, 9, (40, 40, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(folder / split / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sounds by class."""
    folder = tmp_path_factory.mktemp("data") / "sounds"
    for name, level in (("ring", 0.1), ("star", 0.3)):
        (folder / "train" / name).mkdir(parents=True)
        for number in range(2):
            wave = level * np.sin(np.arange(8000) / (3 + number))
            soundfile.write(folder / "train" / name / f"{number}.wav", wave, 16000)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a checkpoint of text, image, audio and depth, which learned nothing."""
    folder = tmp_path_factory.mktemp("made") / "run"
    model, processor = build(Recipe(), ["text", "image", "audio", "depth"], ["a photo of a ring, a star and a cube"])
    save(model, processor, folder / "checkpoint")
    (folder / "run.json").write_text("{}")
    return folder


@pytest.fixture
def table(tmp_path: Path, pictures: Path) -> Path:
    """A manifest of the pictures with two captions each, and manifests with other rows beside it."""
    names = sorted(str(path) for path in (pictures / "test").rglob("*.png"))
    rows = [
        {"image": name, "text": [f"one {place}", f"two {place}"], "label": "x"} for place, name in enumerate(names)
    ]
    write(tmp_path / "rows.jsonl", rows)
    write(tmp_path / "eeg.jsonl", [{"eeg": "a.npy", "label": "x"}])
    (tmp_path / "a.npy").write_bytes(b"")
    write(tmp_path / "both.jsonl", [{**row, "eeg": "a.npy"} for row in rows])
    (tmp_path / "rows.csv").write_text("text,image\na," + names[0] + "\n")
    return tmp_path / "rows.jsonl"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def done(name: str, *arguments: object) -> str:
    """What a command prints."""
    result = run_command(name, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(name: str, *arguments: object) -> str:
    """What a command says that ends with an error, in one line."""
    result = run_command(name, *arguments)
    assert result.returncode in (1, 2), result.stdout
    return " ".join(result.stderr.split())


def report_of(output: Path) -> dict[str, Any]:
    report = json.loads(output.read_text())
    return {name: value for name, value in report.items() if name not in ("seconds", "environment")}


def test_a_folder_of_classes_is_trained_on_evaluated_and_searched(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    rows = ("--text_from_label", "a photo of a {}")
    done("train", "--dataset", pictures, *rows, "--output_dir", run, "--max_steps", 2, "--batch_size", 4)
    output = tmp_path / "report.json"
    common = ("--checkpoint", run, "--dataset", f"{pictures}:test", *rows)
    printed = done("evaluate", *common, "--output", output)
    report = report_of(output)
    assert report["templates"] == ["a photo of a {}"]
    assert "zero-shot prompts: `a photo of a {}`\n" in printed
    assert report["zero_shot"]["image"]["n"] == 6
    assert report["class_names"] == sorted(SHADES)
    assert (report["dataset"], report["checkpoint"]) == ("pictures:test", "run")
    assert report["rows"]["modalities"] == {"text": 6, "image": 6}
    for loading in ("memory", "disk"):
        done("evaluate", *common, "--output", tmp_path / f"{loading}.json", "--loading", loading)
        assert report_of(tmp_path / f"{loading}.json") == report
    assert (tmp_path / "disk.rows" / "rows.json").is_file()
    assert not (tmp_path / "memory.rows").exists()
    said = done("search", *common, "--text", "a photo of a ring", "--top_k", 6)
    found = [line.split()[-1] for line in said.splitlines() if line.strip()[:2] in ("1.", "6.")]
    assert said.splitlines()[0] == "query: a photo of a ring (text)"
    assert len(found) == 2
    assert all(Path(name).is_file() for name in found)
    words = done(
        "search", *common, "--query", next(pictures.rglob("*.png")), "--modality", "image", "--modalities", "text"
    )
    assert {line.split(maxsplit=2)[2] for line in words.splitlines()[3:]} <= {
        f"a photo of a {name}" for name in SHADES
    }


def test_a_run_its_checkpoint_and_a_name_are_told_apart(made: Path, table: Path, tmp_path: Path) -> None:
    rows = ("--manifest", table, "--loading", "memory", "--preprocessing_num_workers", 1)
    reports = []
    for number, given in enumerate((made, made / "checkpoint")):
        done("evaluate", "--checkpoint", given, *rows, "--output", tmp_path / f"{number}.json")
        reports.append(report_of(tmp_path / f"{number}.json"))
    assert reports[0] == reports[1]
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")
    scripts = {"evaluate": rows[:2], "search": ("--gallery", table, "--text", "a"), "publish": ("--repo_id", "me/x")}
    scripts["benchmark"] = ("nyu-d", "--root", tmp_path)
    for name, others in scripts.items():
        gone = refused(name, *others, "--checkpoint", tmp_path / "gone")
        assert f"--checkpoint: no folder {tmp_path / 'gone'}. Fix: give a run of `codebind train`, the folder" in gone
        assert "and no such model on the Hub" in refused(name, *others, "--checkpoint", "runs/none")
        begun = refused(name, *others, "--checkpoint", tmp_path / "begun")
        assert f"--resume --output_dir {tmp_path / 'begun'})" in begun
    train = ("train", "--manifest", table, "--output_dir", tmp_path / "out")
    assert f"--bridge: no folder {tmp_path / 'gone'}. Fix:" in refused(
        *train, "--bind", "eeg", "--bridge", tmp_path / "gone"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_training_starts_from_a_run_as_from_its_checkpoint(made: Path, pictures: Path, tmp_path: Path) -> None:
    rows = ("--dataset", pictures, "--text_from_label", "a {}", "--max_steps", 1, "--batch_size", 4)
    weights = []
    for number, base in enumerate((made, made / "checkpoint")):
        done("train", *rows, "--base", base, "--output_dir", tmp_path / str(number))
        weights.append((tmp_path / str(number) / "checkpoint" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_rows_and_model_have_something_in_common(
    made: Path, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = ("--output", tmp_path / "report.json")
    for name, others in (("evaluate", output), ("search", ("--text", "a"))):
        said = refused(name, "--checkpoint", made, "--manifest", table.with_name("eeg.jsonl"), *others)
        assert (
            "no row has a modality that this model reads; the rows have eeg, the model reads text, image, video"
            in said
        )
    caplog.clear()
    done("evaluate", "--checkpoint", made, "--manifest", table.with_name("both.jsonl"), *output)
    (said,) = [each.getMessage() for each in caplog.records if "is left out" in each.getMessage()]
    assert said == "rows: eeg is left out, which this model does not read; it reads text, image, video, audio, depth."


def test_every_caption_of_a_gallery_is_ranked_and_printed_as_text(made: Path, table: Path, pictures: Path) -> None:
    query = next((pictures / "train").rglob("*.png"))
    said = done(
        *("search", "--checkpoint", made, "--gallery", table, "--query", query, "--modality", "image"),
        *("--modalities", "text", "--top_k", 99),
    )
    found = [line.split(maxsplit=2)[2] for line in said.splitlines()[3:]]
    assert sorted(found) == sorted(f"{word} {place}" for word in ("one", "two") for place in range(6))


ROWS = ("--manifest", "rows.jsonl")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([*ROWS, "--dataset", "x"], "--manifest and --dataset: got both; give one of them."),
        ([*ROWS, "--max_steps", "0"], "--max_steps: got 0; allowed: a whole number of 1 or more"),
        ([*ROWS, "--batch_size", "0"], "--batch_size: got 0; allowed: a whole number of 1 or more"),
        ([*ROWS, "--seed", "-1"], "--seed: got -1; allowed: a whole number of 0 or more"),
        ([*ROWS, "--preprocessing_num_workers", "-1"], "--preprocessing_num_workers: got -1; allowed"),
        ([*ROWS, "--streaming"], "streaming: got true with manifest, where it has no effect; allowed: with dataset."),
        (
            ["--dataset", "x", "--streaming", "--loading", "disk"],
            "loading: got 'disk' with streaming, where it has no effect; allowed: with rows by number",
        ),
        (
            ["--dataset", "x", "--streaming", "--preprocessing_num_workers", "2"],
            "preprocessing_num_workers: got 2 with streaming, where it has no effect",
        ),
        (
            [*ROWS, "--loading", "lazy", "--preprocessing_num_workers", "2"],
            "preprocessing_num_workers: got 2 with loading 'lazy', where it has no effect; .*dataloader_num_workers",
        ),
        (
            [*ROWS, "--encoding", "cp1252"],
            "encoding: got 'cp1252' with .jsonl files, .* Fix: leave it out (--encoding)",
        ),
        (["--dataset", "x", "--encoding", "cp1252"], "encoding: got 'cp1252' with dataset, where it has no effect"),
        (
            ["--dataset", "x", "--root", "y"],
            "root: got 'y' with dataset, where it has no effect; allowed: with benchmark",
        ),
        ([*ROWS, "--protocol", "sound"], "protocol: got 'sound' with manifest, where it has no effect"),
        (
            ["--benchmark", "nyu-d", "--columns", "a=b"],
            "columns: got {'a': 'b'} with benchmark, .*: with manifest or da",
        ),
        (["--benchmark", "nyu-d", "--text_from_label", "{}"], "text_from_label: got ['{}'] with benchmark"),
        ([*ROWS, "--text_from_label", "a"], "text_from_label: got 'a'; a template holds {}"),
        (
            [*ROWS, "--depth_unit", "mm"],
            "depth_unit: got 'mm', and no depth is read, only text, image. Fix: leave it out",
        ),
        ([*ROWS, "--template", "a {}"], "--template is of an evaluation after training, which needs --test_manifest"),
        ([*ROWS, "--cache_bridge", "txt"], "cache_bridge: got 'txt'; allowed: 'text', 'image', .*did you mean `text`"),
        ([*ROWS, "--config", "nope.yaml"], "--config: nope.yaml: no such file or directory. Fix: check the path"),
        ([*ROWS, "--config", "."], "--config: .: is a directory. Fix: check the path"),
        ([*ROWS, "--config", "bad.yaml"], "--config: bad.yaml is no YAML"),
        ([*ROWS, "--bind", "eeg", "--bridge", "x", "--encoder", "nope.yaml"], "--encoder: nope.yaml: no such file or"),
        (
            [*ROWS, "--bind", "eeg", "--bridge", "x", "--tolerance", "-1"],
            "tolerance: got -1.0; allowed: a number of at",
        ),
        (
            ["--resume", "--max_steps", "9"],
            "--max_steps: a run that goes on keeps its settings. Fix: leave out all but",
        ),
        (
            ["--resume", "--bridge", "x", "--on_error", "skip"],
            "--on_error, --bridge: a run that goes on keeps its settings",
        ),
        (["--resume", "--columns", "a=b"], "--columns: a run that goes on keeps its settings"),
    ],
    ids=lambda value: " ".join(value).replace("--manifest rows.jsonl ", "") if isinstance(value, list) else "",
)
def test_training_refuses_what_would_have_no_effect_before_a_row_is_prepared(
    table: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(table.parent)
    (table.parent / "bad.yaml").write_text("data: [1,")
    monkeypatch.setattr("codebind_hf.data.stored.prepared_rows", never)
    monkeypatch.setattr("codebind_hf.data.preparing.prepared_rows", never)
    monkeypatch.setattr("codebind_hf.data.prepared.prepared_rows", never)
    said = refused("train", *arguments, "--output_dir", "out")
    parts, place = named.split(".*"), 0
    for part in parts:
        assert part in said[place:], said
        place = said.index(part, place) + len(part)
    assert not Path("out").exists()


def test_what_cannot_be_bound_or_started_from_is_named(
    made: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codebind_hf.training.runs.build", never)
    common = ("train", "--manifest", table, "--output_dir", tmp_path / "out")
    said = refused(*common, "--bind", "tactil", "--bridge", made)
    assert "(--bind). Fix: did you mean `tactile`? Else describe its encoder (`encoder`, --encoder)." in said
    said = refused(*common, "--bind", "eeg", "--bridge", made)
    assert "rows: none has 'eeg', they have text, image (--bind). Fix: give rows with a column 'eeg', or" in said
    said = refused(*common, "--bind", "eeg", "--bridge", made, "--depth_unit", "mm")
    assert (
        "depth_unit: got 'mm' while 'eeg' is bound, where it has no effect. Fix: leave it out (--depth_unit)" in said
    )
    said = refused(*common, "--base", table)
    assert f"base: '{table}' is no checkpoint, it has no config.json. Fix: give the folder of a saved" in said
    assert not (tmp_path / "out").exists()


def never(*_: object, **__: object) -> None:
    raise AssertionError("a row was prepared")


def test_an_output_folder_that_is_a_file_is_named(table: Path) -> None:
    said = refused("train", "--manifest", table, "--output_dir", table)
    assert f"--output_dir: {table} is a file. Fix: name a folder." in said


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--manifest", "rows.jsonl", "--batch_size", "0"], "--batch_size: got 0"),
        ([], "give --manifest or --dataset."),
        (
            ["--manifest", "rows.jsonl", "--recipe", "nope.yaml"],
            "--recipe: nope.yaml: no such file or directory. Fix:",
        ),
        (["--manifest", "rows.jsonl", "--preprocessing_num_workers", "2"], "got 2 with loading 'lazy'"),
        (
            ["--manifest", "rows.jsonl", "--loading", "memory", "--on_error", "skip"],
            "--on_error: got skip with --loadi",
        ),
        (
            ["--manifest", "rows.jsonl", "--depth_unit", "mm"],
            "depth_unit: got 'mm', and no depth is read, only text, im",
        ),
        (["--manifest", "rows.jsonl", "--encoding", "cp1252"], "encoding: got 'cp1252' with .jsonl files"),
        (["--manifest", "rows.jsonl", "--template", "a ring"], "templates: got 'a ring'; a template holds {}"),
        (
            ["--manifest", "rows.jsonl", "--columns", "img=image"],
            "has no column 'img'; its columns: image, text, label",
        ),
    ],
)
def test_evaluation_refuses_what_would_have_no_effect(
    made: Path, table: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(table.parent)
    assert named in refused("evaluate", "--checkpoint", made, *arguments)


def test_search_refuses_what_would_have_no_effect(made: Path, table: Path) -> None:
    common = ("search", "--checkpoint", made, "--gallery", table)
    assert "--modality: got image with --text" in refused(*common, "--text", "a", "--modality", "image")
    assert "no depth is read, only text, image, text" in refused(*common, "--text", "a", "--depth_unit", "mm")


def test_all_that_is_missing_of_several_benchmarks_is_listed(made: Path, tmp_path: Path) -> None:
    names = ("nyu-d", "clotho", "esc-50")
    root = ("--root", tmp_path)
    (tmp_path / "esc-50").mkdir()
    for flags in (("--check",), ("--checkpoint", made)):
        said = refused("benchmark", *names, *root, *flags)
        assert f"NYU Depth v2: no folder {tmp_path / 'nyu-d'}, which should hold for 'test': nyu_depth_v2" in said
        assert (
            f"Clotho: no folder {tmp_path / 'clotho'}, which should hold for 'test': clotho_captions_evaluation.csv"
            in said
        )
        assert "2 of 2 expected things are missing for 'test': meta/esc50.csv" in said
    flags = [flag for name in names for flag in ("--benchmark", name)]
    said = refused("train", *flags, *root, "--output_dir", tmp_path / "out")
    assert "NYU Depth v2: no folder" in said
    assert "clotho_captions_development.csv" in said


def test_rows_kept_on_the_disk_go_when_the_run_is_finished(tmp_path: Path) -> None:
    rows = NineSenses("train", num_bridge=4, num_target=0, modalities=["text", "image"]).export(tmp_path / "rows")
    seen = SimpleNamespace(there=False)

    def look(self: Any, record: Any) -> None:
        seen.there = (self.rows / "train" / "rows.json").is_file()
        finish(self, record)

    from codebind_hf.training.run_folder import RunFolder

    finish = RunFolder.finish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "finish", look)
        done(
            *("train", "--manifest", rows, "--loading", "disk", "--output_dir", tmp_path / "run"),
            *("--max_steps", 1, "--batch_size", 2),
        )
    assert seen.there
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint", "training.json", "run.json"}


def test_training_that_could_not_be_evaluated_is_refused_before_it_begins(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codebind_hf.commands.values.find_spec", lambda name: None)
    common = ("train", "--manifest", table, "--output_dir", tmp_path / "run")
    said = refused(*common, "--test_manifest", table)
    assert (
        'evaluation after training needs sklearn, which is not installed. Fix: pip install "codebind-hf[report]"'
        in said
    )
    assert not (tmp_path / "run").exists()


def test_pictures_without_their_library_are_refused_at_once(
    made: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("evaluate", "--checkpoint", made, "--manifest", table)
    monkeypatch.setattr("codebind_hf.commands.values.find_spec", lambda name: None)
    assert 'evaluation needs sklearn, which is not installed. Fix: pip install "codebind-hf[report]".' in refused(
        *common
    )
    monkeypatch.setattr("codebind_hf.commands.values.find_spec", lambda name: name != "matplotlib" or None)
    said = refused(*common, "--figures", tmp_path / "figures")
    assert '--figures needs matplotlib, which is not installed. Fix: pip install "codebind-hf[report]".' in said
