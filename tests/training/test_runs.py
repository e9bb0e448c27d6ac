"""A run in its folder: killed, diverged, on a full disk, started twice; and going on to the same bits."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from small_runs import Killed, at_step, die, same_results, settings_for

from codebind_hf.evaluation import checkpoint_digest
from codebind_hf.training import CodeBindTrainer, RunSettings, read_settings, run, runs
from codebind_hf.training.checkpoints import STAGING_FOLDER, complete_checkpoints
from codebind_hf.training.run_folder import RunFolder


ROOT = Path(__file__).parents[2]


def test_a_run_says_what_it_was_started_with_and_what_came_out(straight: Path, manifest: Path) -> None:
    record = json.loads((straight / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["settings"] == settings_for(manifest).as_json()
    assert record["checkpoint"] == checkpoint_digest(straight / "checkpoint")
    assert record["environment"]["torch"] == torch.__version__
    assert record["checkpoint"] in (straight / "checkpoint" / "README.md").read_text()
    # The model is kept once.
    assert {path.name for path in straight.iterdir()} == {"checkpoint", "run.json", "training.json"}


@pytest.mark.parametrize(
    ("stage", "step", "left"),
    [
        pytest.param("bridge", 1, None, id="before-anything-is-saved", marks=pytest.mark.slow),
        pytest.param("bridge", 4, "bridge", id="in-the-first-stage", marks=pytest.mark.slow),
        pytest.param("bind", 1, "bridge", id="at-the-start-of-the-second"),
        pytest.param("bind", 4, "bind", id="in-the-second"),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(
    straight: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, step: int, left: Any
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, stage, step, die)
        with pytest.raises(Killed):
            run(settings_for(manifest), tmp_path / "run")
    started = [name for name in ("bridge", "bind") if complete_checkpoints(tmp_path / "run" / name)]
    assert started[-1:] == ([left] if left else [])
    assert all(len(complete_checkpoints(tmp_path / "run" / name)) <= 2 for name in started)
    assert not (tmp_path / "run" / "checkpoint").exists()
    run(settings_for(manifest) if left is None else None, tmp_path / "run", resume=True)
    same_results(tmp_path / "run", straight)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"checkpoint", "run.json", "training.json"}


@pytest.mark.parametrize(
    "moment",
    [pytest.param("save", marks=pytest.mark.slow), "place", pytest.param("write_card", marks=pytest.mark.slow)],
)
def test_a_run_that_dies_while_it_publishes_goes_on(
    straight: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with monkeypatch.context() as patch:
        room = runs if moment == "write_card" else sys.modules[RunFolder.__module__]
        patch.setattr(room, moment, die)
        with pytest.raises(Killed):
            run(settings_for(manifest), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint").exists() == (moment == "write_card")
    run(None, tmp_path / "run", resume=True)
    same_results(tmp_path / "run", straight)
    assert not (tmp_path / "run" / STAGING_FOLDER).exists()
    assert (tmp_path / "run" / "checkpoint" / "README.md").is_file()


def test_checkpoints_come_by_time_and_cost_no_more_than_a_share_of_it(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000))
    monkeypatch.setattr("codebind_hf.training.interruption.time.monotonic", lambda: 40.0 * next(clock))
    saved: list[str] = []
    original = CodeBindTrainer._save_checkpoint

    def noted(self: CodeBindTrainer, model: Any, trial: Any) -> None:
        saved.append(f"{Path(str(self.args.output_dir)).name} {self.state.global_step}")
        original(self, model, trial)

    monkeypatch.setattr(CodeBindTrainer, "_save_checkpoint", noted)
    run(settings_for(manifest, save_minutes=1.0), tmp_path / "run")
    # 40 seconds between looks at the clock, so after two steps; then saving itself seems to take 40 seconds, of which
    # 2 % of the time allow none in what is left.
    assert saved[0] == "bridge 2"
    assert len([name for name in saved if name.startswith("bridge")]) <= 2


# What a folder may be used for


def test_a_finished_run_is_not_written_over(straight: Path, manifest: Path) -> None:
    before = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="holds a finished run. Fix: --overwrite to start anew, or a new folder"):
        run(settings_for(manifest), straight)
    assert run(None, straight, resume=True).status == "finished"
    assert {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_overwriting_leaves_nothing_of_the_earlier_run(straight: Path, manifest: Path, tmp_path: Path) -> None:
    run(settings_for(manifest), tmp_path / "run")
    for name in ("report.json", "report.md"):
        (tmp_path / "run" / name).write_text("{}")
    (tmp_path / "run" / "figures").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    run(settings_for(manifest), tmp_path / "run", overwrite=True)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"checkpoint", "run.json", "training.json", "notes.txt"}
    same_results(tmp_path / "run", straight)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_left_alone(manifest: Path, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="holds files, and no record of a run. Fix: name a new folder"):
        run(settings_for(manifest), tmp_path, overwrite=overwrite)
    assert (tmp_path / "files" / "thesis.txt").read_text() == "years"


def test_an_unfinished_run_is_not_started_anew_by_accident(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, "bridge", 4, die)
        with pytest.raises(Killed):
            run(settings_for(manifest), tmp_path / "run")
    with pytest.raises(ValueError, match="holds a run that is not finished. Fix: --resume to go on with it"):
        run(settings_for(manifest), tmp_path / "run")
    changed = settings_for(manifest, learning_rate=1e-5)
    with pytest.raises(ValueError, match=r"other settings: recipe.training.learning_rate is 1e-05 and was None"):
        run(changed, tmp_path / "run", resume=True)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    shorter = tmp_path / "rows" / "manifest.jsonl"
    shorter.parent.mkdir()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    for name in ("image", "audio"):
        (shorter.parent / name).symlink_to(manifest.parent / name)
    shorter.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    record["settings"]["data"]["manifest"] = str(shorter)
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="the rows changed since"):
        run(None, tmp_path / "run", resume=True)


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run. Fix: name its folder, or say what to train"):
        run(None, tmp_path, resume=True)
    with pytest.raises(ValueError, match="got both"):
        run(None, tmp_path, resume=True, overwrite=True)
    (tmp_path / "run.json").write_text('{"status": 3}')
    with pytest.raises(OSError, match=r"run.json: is no record of a run"):
        run(None, tmp_path, resume=True)


# Numbers that are not finite, and disks that are full


def test_a_run_that_diverges_ends_with_what_and_where(manifest: Path, tmp_path: Path) -> None:
    settings = settings_for(manifest, learning_rate=1e12, save_minutes=1000.0, max_grad_norm=0.0)
    with pytest.raises(FloatingPointError, match=r"step 2: not finite: .*align.*batch of text, image.*learning_rate"):
        run(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.parametrize("part", [pytest.param("gradient", marks=pytest.mark.slow), "codebook"])
def test_steps_that_are_not_finite_may_be_left_out(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    original = CodeBindTrainer.training_step

    def spoiled(self: CodeBindTrainer, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, model, *args, **kwargs)
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        if self.state.global_step == 1 and part == "gradient":
            next(value for value in model.parameters() if value.grad is not None).grad.fill_(torch.nan)
        elif self.state.global_step == 1:
            model.codebooks.shared.code_sum.fill_(torch.inf)
        return loss

    monkeypatch.setattr(CodeBindTrainer, "training_step", spoiled)
    named = "gradients" if part == "gradient" else "codebook shared"
    with pytest.raises(FloatingPointError, match=rf"step 2: not finite: {named} \(batch of"):
        run(settings_for(manifest), tmp_path / "stops")
    assert [path.name for path in complete_checkpoints(tmp_path / "stops" / "bridge")] == ["checkpoint-1"]
    seen.clear()
    run(settings_for(manifest, max_skipped_steps=1), tmp_path / "goes-on")
    assert f"step 2: not finite: {named}" in caplog.text
    # The third step begins with the weights that the second began with; codebooks learn in the forward pass.
    kept = [name for name in seen[1] if "codebooks" not in name]
    assert all(torch.equal(seen[1][name], seen[2][name]) for name in kept)
    assert not all(torch.equal(seen[2][name], seen[3][name]) for name in kept)
    assert json.loads((tmp_path / "goes-on" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), marks=pytest.mark.slow),
        SafetensorError("I/O error: No space left on device"),
    ],
)
def test_a_full_disk_leaves_no_half_checkpoint(
    straight: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(model: Any, processor: Any, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[RunFolder.__module__], "save", full)
        with pytest.raises(OSError, match=r"checkpoint: could not be written .*No space left.*--resume"):
            run(settings_for(manifest), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert not (tmp_path / "run" / STAGING_FOLDER).exists()
    run(None, tmp_path / "run", resume=True)
    same_results(tmp_path / "run", straight)


def test_a_checkpoint_of_the_trainer_that_cannot_be_written_leaves_the_earlier_ones(
    straight: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = CodeBindTrainer._save_rng_state

    def full(self: CodeBindTrainer, folder: str) -> None:
        if self.state.global_step == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(CodeBindTrainer, "_save_rng_state", full)
        with pytest.raises(OSError, match=r"checkpoint-4: could not be written .*No space left.*newest checkpoint"):
            run(settings_for(manifest), tmp_path / "run")
    names = [path.name for path in complete_checkpoints(tmp_path / "run" / "bridge")]
    assert names == ["checkpoint-3", "checkpoint-2"]
    run(None, tmp_path / "run", resume=True)
    same_results(tmp_path / "run", straight)


# Settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: 7", "recipe: got 7; expected a mapping"),
        ("recipe: {training: 7}", "training: got 7; expected a mapping"),
        ("recipe: {stages: ''}", "stages: got ''; expected a mapping"),
        ("recipe: {stages: {bind: [1]}}", r"stages, bind: got \[1\]; expected a mapping"),
        ("recipe: {training: {seed: 3}}", "training: seed belongs to the whole run"),
        ("recipe: {training: {output_dir: a}}", "training: output_dir belongs to the whole run"),
        ("recipe: {seed: x}", "recipe: seed is 'x'; expected a whole number"),
        ("recipe: {seed: 1.5}", "recipe: seed is 1.5; expected a whole number"),
        ("recipe: {base: 3}", "recipe: base is 3; expected a text or None"),
        ("recipe: {training: {max_steps: many}}", "training: max_steps is 'many'; expected a whole number"),
        ("recipe: {training: {learning_rate: [1]}}", r"training: learning_rate is \[1\]; expected a finite number"),
        ("recipe: {training: {bf16: 'yes'}}", "training: bf16 is 'yes'; expected True or False"),
        (
            "recipe: {training: {loss_warmup: {decorr: a}}}",
            "loss_warmup is .* expected a dictionary from a text to a",
        ),
        ("recipe: {trainin: {}}", "recipe: unknown key 'trainin'. Did you mean 'training'?"),
        ("templates: a photo", "templates is 'a photo'; expected a list with each a text"),
        ("data: [1]", r"data: got \[1\]; expected a mapping"),
        ("3: 4", "--config: got {3: 4}; expected a mapping of names"),
    ],
)
def test_settings_of_the_wrong_type_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bridge": "6"}, "nine_senses: num_bridge is the text '6', not a number"),
        ({"num_test": 1.5}, "nine_senses: num_test is 1.5; expected a whole number"),
        ({"num_brige": 6}, "nine_senses: unknown key 'num_brige'. Did you mean 'num_bridge'?"),
        ({"split": "test"}, "nine_senses: unknown key 'split'"),
    ],
)
def test_arguments_of_nine_senses_are_checked(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(RunSettings({"nine_senses": options}), tmp_path / "run")


def test_settings_survive_json_and_other_folders(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(manifest.parent)
    settings = read_settings(data={"manifest": "manifest.jsonl"}, recipe={"seed": 4, "base": None}, max_steps=3)
    assert settings.data["manifest"] == str(manifest.resolve())
    assert settings.recipe["seed"] == 4
    assert "base" not in settings.recipe
    assert {options["max_steps"] for options in settings.recipe["stages"].values()} == {3}
    assert RunSettings(**settings.as_json()) == settings


@pytest.mark.slow
def test_a_killed_process_goes_on_by_the_command_line(manifest: Path, tmp_path: Path) -> None:
    """As a user would: SIGKILL, then `--resume` and nothing but the folder."""
    config = tmp_path / "config.yaml"
    kept = settings_for(manifest).as_json()
    config.write_text(json.dumps({"data": kept["data"], "recipe": kept["recipe"]}))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def command(folder: str, *flags: str) -> list[str]:
        return [sys.executable, str(ROOT / "examples" / "train.py"), "--output_dir", str(tmp_path / folder), *flags]

    process = subprocess.Popen(command("run", "--config", str(config)), env=environment, stdout=subprocess.PIPE)
    while not complete_checkpoints(tmp_path / "run" / "bridge"):
        assert process.poll() is None
    process.kill()
    process.wait()
    for folder, flags in (("run", ["--resume"]), ("straight", ["--config", str(config)])):
        done = subprocess.run(
            command(folder, *flags), env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"Wrote {tmp_path / folder / 'checkpoint'}." in done.stdout
    same_results(tmp_path / "run", tmp_path / "straight")
