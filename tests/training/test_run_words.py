"""What a whole run says, and that saying it changes no bit: the look at a bridge, templates, trackers, the end."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from small_runs import Killed, at_step, die, same_results, settings_for

from codebind_hf.data import NineSenses
from codebind_hf.started import command_line
from codebind_hf.training import RunSettings, run, runs
from codebind_hf.training.settings import BindSettings


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="codebind_hf")
    return lambda: [record.getMessage() for record in caplog.records]


def on_bridge(base: Path, manifest: Path) -> RunSettings:
    """Audio trained against the frozen bridge of another run."""
    settings = settings_for(manifest)
    recipe = {name: value for name, value in settings.recipe.items() if name != "model"}
    return RunSettings(settings.data, {**recipe, "base": str(base), "order": "bind"})


def test_a_look_at_the_bridge_is_kept_and_changes_no_bit(
    straight: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    settings = on_bridge(straight, manifest)
    run(settings, tmp_path / "looked")
    record = json.loads((tmp_path / "looked" / "run.json").read_text())
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert record["bridge"]["rows"] == sum("image" in row for row in rows)
    assert record["bridge"]["classes"] == len({row["label"] for row in rows})
    assert record["bridge"]["templates"] == ["a photo of a {}"]
    assert record["bridge"]["words"]["words"] > 0
    assert sum(text.startswith("bridge: before training it names") for text in said()) == 1
    monkeypatch.setattr(runs, "look_once", lambda *given: None)
    run(settings, tmp_path / "blind")
    assert json.loads((tmp_path / "blind" / "run.json").read_text())["bridge"] is None
    same_results(tmp_path / "looked", tmp_path / "blind")


@pytest.mark.slow
def test_a_run_that_goes_on_looks_no_second_time_and_ends_the_same(
    straight: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    settings = RunSettings(
        settings_for(manifest).data,
        {"training": settings_for(manifest).recipe["training"], "seed": 2},
        bind=BindSettings("audio", str(straight)),
    )
    run(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, "bind", 3, die)
        with pytest.raises(Killed):
            run(settings, tmp_path / "run")
    before = json.loads((tmp_path / "run" / "run.json").read_text())["bridge"]
    assert before is not None
    count = sum(text.startswith("bridge: before training") for text in said())
    run(None, tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["bridge"] == before
    assert sum(text.startswith("bridge: before training") for text in said()) == count == 2
    same_results(tmp_path / "run", tmp_path / "whole")
    last = said()[-1].splitlines()
    there = f"--bridge YOU/{straight.name} --repo_id YOU/audio"
    pack = f"  {command_line('publish')} --pack {tmp_path / 'run'} {there}"
    assert last[0] == "Made:"
    assert pack in last


def test_a_run_from_nothing_has_no_bridge_to_look_at(straight: Path) -> None:
    assert json.loads((straight / "run.json").read_text())["bridge"] is None


# Templates, the opening and the end


@pytest.fixture(scope="module")
def evaluated(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run with test rows, whose texts follow one template; and what it said."""
    folder = tmp_path_factory.mktemp("evaluated")
    rows = NineSenses("test", num_rows=60, modalities=["text", "image"])
    test = Path(rows.export(folder / "test"))
    train = folder / "train.jsonl"
    lines = [json.loads(line) for line in test.read_text().splitlines()]
    told = [{**row, "text": f"we see a {row['label']}", "image": str(test.parent / row["image"])} for row in lines]
    train.write_text("\n".join(map(json.dumps, told)))
    settings = settings_for(train)
    settings.data["test_manifest"] = str(test)
    heard: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("codebind_hf")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with pytest.MonkeyPatch.context() as patch:
            # Pictures are not of interest here, and take most of the time.
            patch.setattr(runs, "draw_if_installed", lambda *given: {})
            run(settings, folder / "run")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return folder / "run", heard


def test_a_template_that_fits_is_proposed_and_what_is_evaluated_stays(evaluated: tuple[Path, list[str]]) -> None:
    folder, heard = evaluated
    proposed = [text for text in heard if "training texts that name their label" in text]
    assert proposed == [
        'Of 60 training texts that name their label, 60 follow "we see a {}"; classes will be evaluated as "a photo '
        "of a {}\". To evaluate them as they were trained: --template 'we see a {}'"
    ]
    assert json.loads((folder / "report.json").read_text())["templates"] == ["a photo of a {}"]
    assert any("--template 'we see a {}'" in line for line in heard[-1].splitlines())


def test_the_opening_says_what_the_run_does(evaluated: tuple[Path, list[str]]) -> None:
    opening = next(text for text in evaluated[1] if text.startswith("device")).splitlines()
    assert opening[:2] == ["device  cpu, float32", "rows    text 60, image 60"]
    trained = json.loads((evaluated[0] / "training.json").read_text())[0]
    numbers = sum(trained["trainable"].values())
    assert opening[2] == f"bridge  5 steps of 4 of 60 rows; text, image learn, {numbers:,} numbers"
    assert opening[3].startswith("memory  about ")
    # AdamW keeps two numbers of four bytes for each that learns.
    assert f"optimizer {8 * numbers / 1e6:.1f} MB" in opening[3]


def test_a_run_with_test_rows_calibrates_what_its_checkpoint_keeps(evaluated: tuple[Path, list[str]]) -> None:
    folder = evaluated[0]
    report = json.loads((folder / "report.json").read_text())
    kept = json.loads((folder / "checkpoint" / "abstention.json").read_text())
    assert kept["templates"] == ["a photo of a {}"]
    assert kept["modalities"]["image"]["threshold"] == report["abstention"]["image"]["threshold"]


@pytest.mark.parametrize("given", ["templates", "text_from_label"])
def test_whoever_gives_a_template_is_proposed_none(manifest: Path, said: Any, given: str) -> None:
    settings = settings_for(manifest)
    settings.data["test_manifest"] = str(manifest)
    if given == "templates":
        settings.templates = ["{}"]
    else:
        settings.data["text_from_label"] = ["a sound of a {}"]
    rows = runs.load_rows(settings.data)
    assert runs.fitting_prompts(settings, rows) == []
    assert not any("training texts" in text for text in said())


# Trackers


def test_trackers_get_one_folder_with_steps_that_run_on_and_see_the_model(
    straight: Path, manifest: Path, tmp_path: Path
) -> None:
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(settings_for(manifest, report_to=["tensorboard"]), tmp_path / "run")
    same_results(tmp_path / "run", straight)
    events = sorted((tmp_path / "run").rglob("events.*"))
    assert {file.parent for file in events} == {tmp_path / "run" / "logs"}
    found = tensorboard.EventAccumulator(str(tmp_path / "run" / "logs"), {"scalars": 0, "histograms": 0, "images": 0})
    found.Reload()
    logs = json.loads((tmp_path / "run" / "training.json").read_text())
    expected = [
        (entry["step"] + 5 * place, entry["loss/align"])
        for place, each in enumerate(logs)
        for entry in each["log"]
        if "loss" in entry
    ]
    scalars = [(event.step, event.value) for event in found.Scalars("train/loss/align")]
    assert scalars == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    assert [step for step, _ in scalars] == list(range(1, 11))
    tags = found.Tags()
    assert set(tags["histograms"]) == {f"codebook_use/{name}" for name in ("shared", "vision", "audio")}
    assert [event.step for event in found.Histograms("codebook_use/shared")] == list(range(1, 11))
    # Only the second stage has audio.
    assert set(tags["images"]) == {"reconstruction/image", "reconstruction/audio"}
    assert {event.step for event in found.Images("reconstruction/audio")} == set(range(6, 11))
    picture = found.Images("reconstruction/image")[-1]
    assert (picture.width, picture.height) == (4 * 66, 2 * 66)


def test_a_tracker_that_is_not_there_is_named_before_rows_are_read(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "no such file.jsonl", report_to=["wandb"])
    with pytest.raises(ValueError, match="report_to: got 'wandb', which is not installed. Fix: pip install 'wandb'"):
        run(settings, tmp_path / "run")
