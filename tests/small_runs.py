"""Runs of two stages of five steps on twelve rows, and ways to have something happen to them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from codebind_hf.training import CodeBindTrainer, RunSettings, running


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
MODEL = {f"{name}_config": SMALL for name in ("text", "vision", "audio", "decoder")}
STEPS = 5


class Killed(BaseException):
    """What the process sees of its end: nothing can catch it."""


def settings_for(manifest: Path, **training: Any) -> RunSettings:
    usual = {
        **{"max_steps": STEPS, "per_device_train_batch_size": 4, "logging_steps": 1, "warmup_steps": 0},
        **{"disable_tqdm": True, "use_cpu": True, "save_minutes": 0.0},
    }
    return RunSettings({"manifest": str(manifest)}, {"model": MODEL, "training": {**usual, **training}, "seed": 2})


def at_step(monkeypatch: pytest.MonkeyPatch, stage: str, step: int, do: Callable[[Any], None]) -> None:
    """Have something happen after a step of a stage, before anything is saved."""

    class Happens(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if Path(args.output_dir).name == stage and state.global_step == step:
                do(kwargs["model"])

    original = running._trainer

    def make(*given: Any) -> CodeBindTrainer:
        trainer = original(*given)
        trainer.callback_handler.callbacks.insert(0, Happens())
        return trainer

    monkeypatch.setattr(running, "_trainer", make)


def die(model: Any = None, *args: Any, **kwargs: Any) -> None:
    raise Killed


def same_results(one: Path, other: Path) -> None:
    weights, others = (load_file(folder / "checkpoint" / "model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    assert [name for name, value in weights.items() if not torch.equal(value, others[name])] == []
    logs, other_logs = (json.loads((folder / "training.json").read_text()) for folder in (one, other))
    assert [entry["stage"] for entry in logs] == [entry["stage"] for entry in other_logs]
    steps, other_steps = (
        [[(line["step"], line["loss/align"]) for line in entry["log"] if "loss" in line] for entry in each]
        for each in (logs, other_logs)
    )
    assert steps == other_steps
