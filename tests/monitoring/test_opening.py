"""What a run says before it trains: sizes against a count by hand, steps against arithmetic, what cannot be known."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from codebind_hf.monitoring import remaining_time
from codebind_hf.monitoring.opening import (
    Memory,
    StageFacts,
    facts_of,
    memory_of,
    opening_lines,
    say_opening,
    shortage,
    size_of,
)
from codebind_hf.monitoring.remaining_time import RemainingTime, in_words


CPU = torch.device("cpu")


def two_layers() -> nn.Module:
    """3 * 5 + 5 = 20 numbers that are frozen, 5 * 2 + 2 = 12 that learn, and a buffer of 7 in half precision."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    model[0].requires_grad_(False)
    model.register_buffer("codes", torch.zeros(7, dtype=torch.float16))
    return model


def arguments(**fields: Any) -> SimpleNamespace:
    usual = {"train_batch_size": 4, "world_size": 3, "gradient_accumulation_steps": 2, "max_steps": -1}
    usual |= {"num_train_epochs": 2.5, "fsdp": None, "optim": "adamw_torch", "device": CPU, "process_index": 0}
    return SimpleNamespace(**{**usual, "bf16": False, "fp16": False, **fields})


def test_memory_is_counted_from_what_learns() -> None:
    memory = memory_of(two_layers(), "adamw_torch", CPU)
    # 32 numbers of 4 bytes and 7 of 2; 12 gradients of 4; two moments of 4 for each of 12.
    assert memory == Memory(weights=142, gradients=48, optimizer=96, loaded=142)
    assert memory.total == 286
    assert memory_of(two_layers(), "adamw_torch", CPU, shards=2) == Memory(71, 24, 48, 71)


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [("adamw_torch_fused", 96), ("adamw_bnb_8bit", 24), ("sgd", 0), ("lion_32bit", 48), ("something_new", None)],
)
def test_the_state_depends_on_the_optimizer(optimizer: str, state: int | None) -> None:
    assert memory_of(two_layers(), optimizer, CPU).optimizer == state


def test_adamw_keeps_as_much_as_is_said() -> None:
    model = two_layers()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    kept = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert sum(value.numel() * value.element_size() for value in kept) == memory_of(model, "adamw", CPU).optimizer


def test_steps_and_rows_of_a_stage() -> None:
    rows = SimpleNamespace(row_modalities=[("text", "image")] * 50 + [("text", "audio")] * 11)
    facts = facts_of("bind", ("audio",), rows, two_layers(), arguments())
    # 61 rows, 4 * 3 * 2 in a step: 2.5 epochs are 6.35 steps.
    assert (facts.steps, facts.batch, facts.learning) == (7, 24, 12)
    assert facts.rows == {"": 61, "text": 61, "image": 50, "audio": 11}
    assert facts_of("bind", (), object(), two_layers(), arguments(max_steps=9)).steps == 9


def test_the_names_of_the_library_are_understood() -> None:
    given = TrainingArguments("unused", optim="adafactor", report_to="none", use_cpu=True)
    assert facts_of("joint", (), object(), two_layers(), given).memory.optimizer == 0


def test_lines_are_few_and_aligned() -> None:
    memory, rows = Memory(8_000_000, 3_000_000_000, None), {"": 1200, "text": 1200, "depth": 30}
    stages = [
        StageFacts("bridge", 900, 64, rows, ("text",), 12_345, memory),
        StageFacts("b", 5, 2, {}, ("d",), 1, memory),
    ]
    assert opening_lines(stages, "cuda:0 (X)", "float32 weights, bfloat16 products", 2, 4_000_000_000) == [
        "device  cuda:0 (X), float32 weights, bfloat16 products, 2 processes",
        "rows    text 1,200, depth 30",
        "bridge  900 steps of 64 of 1,200 rows; text learn, 12,345 numbers",
        "b       5 steps of 2, rows as a stream; d learn, 1 numbers",
        "memory  about 3.0 GB (weights 8.0 MB, gradients 3.0 GB, optimizer of unknown size; activations come on top); "
        "4.0 GB free",
    ]


def test_only_the_main_process_speaks_and_says_what_does_not_fit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codebind_hf.monitoring.opening.free_memory", lambda device: 100)
    caplog.set_level(logging.INFO, logger="codebind_hf")
    stages = [facts_of("joint", ("text",), object(), two_layers(), arguments(max_steps=1))]
    say_opening(stages, two_layers(), arguments(process_index=1))
    assert caplog.records == []
    say_opening(stages, two_layers(), arguments())
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    # What is loaded already needs no room any more: 48 + 96 of 286.
    assert shortage(stages, "cpu", 144) is None
    assert "needs about 0.0 MB more" in str(shortage(stages, "cpu", 143))
    assert shortage(stages, "cpu", None) is None


def test_the_remaining_time_is_that_of_measured_steps(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(remaining_time, "perf_counter", lambda: clock.now)
    caplog.set_level(logging.INFO, logger="codebind_hf")
    callback = RemainingTime("bind", following=2, warmup_steps=2, least_steps=4, least_seconds=5.0)
    for step in range(1, 20):
        # The first two steps take a minute each, all others two seconds; a run that goes on is at step 100 then.
        clock.now += 60.0 if step <= 2 else 2.0
        state = SimpleNamespace(is_world_process_zero=True, global_step=100 + step, max_steps=406)
        callback.on_step_end(None, state, None)
    # After step 6: 406 - 106 steps of 2 s.
    assert [record.getMessage() for record in caplog.records] == [
        "bind: about 10 min for the 300 steps that are left, at 2.00 s a step; 2 more after it."
    ]


def test_other_processes_and_short_stages_say_nothing_of_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="codebind_hf")
    for is_main, last in ((False, 90), (True, 10)):
        callback = RemainingTime("bind", warmup_steps=1, least_steps=2, least_seconds=0.0 if last == 90 else 60.0)
        for step in range(1, last):
            state = SimpleNamespace(is_world_process_zero=is_main, global_step=step, max_steps=100)
            callback.on_step_end(None, state, None)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (5370, "90 min"), (12_000, "3 h 20 min")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    # 89.5 minutes are rounded to 90, which are said in hours.
    assert in_words(seconds) == ("1 h 30 min" if seconds == 5370 else words)


def test_sizes_in_words() -> None:
    assert [size_of(count) for count in (0, 12_340_000, 3_210_000_000)] == ["0.0 MB", "12.3 MB", "3.2 GB"]
