"""What does a run say before it trains? On what, from which rows, how many steps, and how much memory to expect."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from accelerate.utils import parse_flag_from_env
from torch import nn


logger = logging.getLogger(__name__)


# Bytes of optimizer state for each number that learns, by the beginning of the optimizer's name.
_STATE_BYTES = {
    **{"adamw_torch_8bit": 2, "adamw_torch_4bit": 1, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2},
    **{"lion_8bit": 1, "lion": 4, "paged_lion": 4, "adafactor": 0, "sgd": 0, "adagrad": 4, "rmsprop": 4},
    **{"adamw": 8, "paged_adamw": 8, "stable_adamw": 8},
}


@dataclass(frozen=True)
class Memory:
    """Bytes that training needs on each device, beside activations, which grow with the batch.

    Args:
        weights: parameters and buffers.
        gradients: one of each number that learns.
        optimizer: its state; `None` for an optimizer whose state is not known.
        loaded: of the weights, what lies on the device already.
    """

    weights: int
    gradients: int
    optimizer: int | None
    loaded: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + (self.optimizer or 0)


@dataclass(frozen=True)
class StageFacts:
    """What is known of a stage before it begins.

    Args:
        name: of the stage.
        steps: of the optimizer.
        batch: rows that all processes together take in a step.
        rows: by modality, and under "" all of them; empty for a stream, which has no number of them.
        trained: modalities whose encoders learn.
        learning: how many numbers learn.
        memory: for it.
    """

    name: str
    steps: int
    batch: int
    rows: Mapping[str, int]
    trained: Sequence[str]
    learning: int
    memory: Memory


def memory_of(model: nn.Module, optimizer: str, device: torch.device, shards: int = 1) -> Memory:
    """Memory to train what of `model` has `requires_grad` now: an estimate from sizes, not a measurement.

    Args:
        optimizer: as `TrainingArguments.optim` names it.
        shards: processes that share weights, gradients and state, as FSDP has it; 1 where each has all.
    """
    tensors = [*model.parameters(), *model.buffers()]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    names = sorted(_STATE_BYTES, key=len, reverse=True)
    known = next((name for name in names if optimizer.startswith(name)), None)
    state = None if known is None else sum(each.numel() for each in learning) * _STATE_BYTES[known] // shards
    return Memory(
        _bytes_of(tensors) // shards,
        _bytes_of(learning) // shards,
        state,
        _bytes_of(tensor for tensor in tensors if tensor.device.type == device.type) // shards,
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device still has; `None` where none can be asked."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def opening_lines(
    stages: Sequence[StageFacts], device: str, precision: str, processes: int, free: int | None
) -> list[str]:
    """A few aligned lines: device, rows, a line a stage, memory.

    Args:
        device: in words.
        precision: of the numbers, in words.
        free: bytes that the device still has.
    """
    together = f", {processes} processes" if processes > 1 else ""
    lines = [("device", f"{device}, {precision}{together}")]
    lines += [("rows", rows) for rows in [_rows_of(stages)] if rows]
    lines += [(stage.name, _stage_line(stage)) for stage in stages]
    largest = max((stage.memory for stage in stages), key=lambda memory: memory.total)
    lines.append(("memory", _memory_line(largest, free)))
    width = max(len(name) for name, _ in lines)
    return [f"{name:{width}}  {text}" for name, text in lines]


def shortage(stages: Sequence[StageFacts], device: str, free: int | None) -> str | None:
    """What to say where the largest stage cannot fit into what is free; `None` where it may."""
    missing = [stage.memory.total - stage.memory.loaded for stage in stages]
    if free is None or not missing or max(missing) <= free:
        return None
    return (
        f"{device}: training needs about {size_of(max(missing))} more, without activations, and {size_of(free)} are "
        "free. Fix: train_mode lora or heads, a smaller preset, or FSDP on several devices."
    )


def facts_of(name: str, trained: Sequence[str], rows: Any, model: nn.Module, arguments: Any) -> StageFacts:
    """What is known of a stage for which `model` has its `requires_grad` already.

    Args:
        rows: that know their `row_modalities`, or a stream.
        arguments: of training.
    """
    counts = Counter(modality for names in getattr(rows, "row_modalities", ()) for modality in ("", *names))
    batch = arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps
    steps = arguments.max_steps
    if steps <= 0:
        steps = math.ceil(arguments.num_train_epochs * counts[""] / batch)
    is_sharded = arguments.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP")
    # An enumeration of the library, or the name that was given.
    optimizer = str(getattr(arguments.optim, "value", arguments.optim))
    memory = memory_of(model, optimizer, arguments.device, arguments.world_size if is_sharded else 1)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return StageFacts(name, steps, batch, counts, trained, learning, memory)


def say_opening(stages: Sequence[StageFacts], model: nn.Module, arguments: Any) -> None:
    """Log the lines on the main process, and a warning where memory will not do."""
    if arguments.process_index:
        return
    device, free = device_in_words(arguments.device), free_memory(arguments.device)
    lines = opening_lines(stages, device, precision_in_words(model, arguments), arguments.world_size, free)
    logger.info("%s", "\n".join(lines))
    if short := shortage(stages, device, free):
        logger.warning("%s", short)


def device_in_words(device: torch.device) -> str:
    """`cuda:0 (NVIDIA H200)`, `cpu`."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def precision_in_words(model: nn.Module, arguments: Any) -> str:
    """Of the weights, and of the products where mixed precision has another."""
    weights = str(next(model.parameters()).dtype).removeprefix("torch.")
    mixed = "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else ""
    return f"{weights} weights, {mixed} products" if mixed and mixed != weights else weights


def size_of(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _rows_of(stages: Sequence[StageFacts]) -> str:
    """Of every modality the rows of the stage that has most of it."""
    most: dict[str, int] = {}
    for stage in stages:
        for name, count in stage.rows.items():
            most[name] = max(count, most.get(name, 0))
    return ", ".join(f"{name} {count:,}" for name, count in most.items() if name)


def _stage_line(stage: StageFacts) -> str:
    rows = f" of {stage.rows['']:,} rows" if stage.rows else ", rows as a stream"
    return (
        f"{stage.steps:,} steps of {stage.batch:,}{rows}; {', '.join(stage.trained)} learn, {stage.learning:,} numbers"
    )


def _memory_line(memory: Memory, free: int | None) -> str:
    optimizer = "of unknown size" if memory.optimizer is None else size_of(memory.optimizer)
    parts = (
        f"weights {size_of(memory.weights)}, gradients {size_of(memory.gradients)}, optimizer {optimizer}; "
        "activations come on top"
    )
    left = "" if free is None else f"; {size_of(free)} free"
    return f"about {size_of(memory.total)} ({parts}){left}"
