"""A whole run from rows to a checkpoint: what it is made of, its stages, saving."""

import difflib
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from codebind_hf.conversion.lora import has_lora
from codebind_hf.data import CodeBindCollator, PreparedDataset
from codebind_hf.data.collator import modality_names
from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modalities import MODALITIES, Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.adapters import add_lora, save_adapter
from codebind_hf.training.arguments import MODES, CodeBindTrainingArguments
from codebind_hf.training.freezing import train_only, trainable_parts
from codebind_hf.training.health import CodebookHealthCallback
from codebind_hf.training.stages import ORDERS, ModalityView, Stage, plan_stages
from codebind_hf.training.trainer import CodeBindTrainer


logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?")

# What suits tiny on a few hundred to a few thousand rows; a recipe file overrides any of it.
DEFAULT_ARGUMENTS: dict[str, Any] = {
    "per_device_train_batch_size": 64,
    "learning_rate": 2e-3,
    "weight_decay": 0.05,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 60,
    "loss_warmup": {"decorr": [0.4, 0.9]},
    "input_noise": 0.05,
    "max_grad_norm": 1.0,
    "logging_steps": 50,
    "save_strategy": "no",
    "report_to": "none",
    "remove_unused_columns": False,
    "dataloader_drop_last": True,
    "dataloader_pin_memory": False,
}
DEFAULT_STAGES: dict[str, dict[str, Any]] = {
    "bridge": {"max_steps": 900},
    "bind": {"freeze_shared_codes": True, "input_noise": 0.2},
    "joint": {"max_steps": 1200},
}
# Binding takes as many steps for every target, and a single one no fewer than the least.
STEPS_PER_TARGET, LEAST_BINDING_STEPS = 300, 500


@dataclass
class Recipe:
    """What a training run is made of.

    Args:
        preset: architecture to train from nothing ("tiny" without `base`), or to extend that of `base` to.
        base: checkpoint to start from, a folder or a name on the Hub; what it lacks starts from nothing.
        model: fields of `CodeBindConfig` that override the preset's or the checkpoint's.
        processor: options of `CodeBindProcessor.from_model_config`.
        temperature: to start with, of the cosines; `None` is the configuration's or the checkpoint's.
        order: "joint" or "sequential" binding of the targets, or "bind" for a single stage on a bridge that `base`
            brings.
        training: `CodeBindTrainingArguments` of every stage.
        stages: further arguments by stage: "bridge", "bind" (every target when sequential), "joint".
        seed: of weights, data order and everything else.

    Raises:
        ValueError: an unknown order, stage or training argument, or a temperature that is not above 0.
    """

    preset: str | None = None
    base: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    temperature: float | None = None
    order: str = "joint"
    training: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order: got {self.order!r}; allowed: {', '.join(map(repr, ORDERS))}.")
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature: got {self.temperature}; it must be greater than 0.")
        if self.preset is None and self.base is None:
            self.preset = "tiny"
        if unknown := sorted(set(self.stages) - set(DEFAULT_STAGES)):
            raise ValueError(f"stages: got {', '.join(map(repr, unknown))}; allowed: {', '.join(DEFAULT_STAGES)}.")
        known = {entry.name for entry in fields(CodeBindTrainingArguments) if entry.init}
        for name, options in {"training": self.training, **self.stages}.items():
            if unknown := sorted(set(options) - known):
                close = difflib.get_close_matches(unknown[0], known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"{name}: got the unknown argument {', '.join(map(repr, unknown))}.{hint}")
            _check_values(name, options)

    def arguments(self, stage: Stage, output_dir: Path) -> CodeBindTrainingArguments:
        """Arguments of one stage: the defaults, the recipe's, then the stage's own."""
        kind = stage.name.partition("-")[0]
        chosen = {**DEFAULT_ARGUMENTS, **DEFAULT_STAGES[kind], **self.training, **self.stages.get(kind, {})}
        chosen.setdefault("max_steps", max(LEAST_BINDING_STEPS, STEPS_PER_TARGET * len(stage.trained)))
        return CodeBindTrainingArguments(output_dir=str(output_dir / stage.name), seed=self.seed, **chosen)


def _check_values(name: str, options: Mapping[str, Any]) -> None:
    """Refuse numbers that YAML reads as text, and a wrong mode before any row is prepared."""
    kinds = {entry.name: entry.default for entry in fields(CodeBindTrainingArguments)}
    for key, value in options.items():
        if isinstance(value, str) and not isinstance(kinds[key], str) and _NUMBER.fullmatch(value):
            raise ValueError(
                f"{name}: {key} is the text {value!r}, not a number. Fix: YAML needs a point, such as 5.0e-4."
            )
    if options.get("train_mode", MODES[0]) not in MODES:
        allowed = ", ".join(map(repr, MODES))
        raise ValueError(f"{name}: train_mode is {options['train_mode']!r}; allowed: {allowed}.")


def modalities_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The modalities that any row has, in the order of the table of modalities."""
    present = {name for row in rows for name in MODALITIES if row.get(name) is not None}
    return [name for name in MODALITIES if name in present]


def train(
    recipe: Recipe, model: CodeBindModel, processor: CodeBindProcessor, items: PreparedDataset, output_dir: Path
) -> list[dict[str, Any]]:
    """Run all stages; returns the training log of each.

    Raises:
        ValueError: the items have no modalities that can be trained together, or one that never meets text or image.
    """
    plan = [
        (stage, view, recipe.arguments(stage, output_dir))
        for stage, view in _planned(items, model.config.modalities, recipe.order)
    ]
    _add_lora(model, [(stage, arguments) for stage, _, arguments in plan])
    logs = []
    for stage, view, arguments in plan:
        bridges = set(stage.modalities) - set(stage.trained) if arguments.train_bridge_heads else ()
        bridge_mode = "shared_heads" if arguments.train_bridge_heads == "shared" else "heads"
        encoders = train_only(model, stage.trained, arguments.train_mode, bridges, bridge_mode)
        parts = trainable_parts(model)
        named = ", ".join(f"{name} {count:,}" for name, count in parts.items() if count)
        logger.info("%s: %s numbers learn: %s", stage.name, f"{sum(parts.values()):,}", named)
        log = _run(arguments, model, processor, view)
        logs.append({"stage": stage.name, "encoders": encoders, "trainable": parts, "log": log})
    model.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, Codebook):
            module.frozen = False
    model.eval()
    return logs


def _planned(items: PreparedDataset, modalities: dict[str, Modality], order: str) -> list[tuple[Stage, ModalityView]]:
    """The stages and the rows of each; one joint stage when no row has text and image, which would leave no bridge."""
    tensors = {name for item in items for name in item["tensors"]}
    names = [name for name, modality in modalities.items() if modality.tensor in tensors]
    stages = plan_stages(names, order)
    usable = ModalityView(items, names, modalities)
    met = {name for item in usable for name in item["tensors"]}
    if alone := [name for name in names if modalities[name].tensor not in met]:
        raise ValueError(
            f"rows: no row has {' or '.join(alone)} together with text or image, so there is nothing to align it to. "
            "Fix: leave this modality out, or give its rows a text or an image."
        )
    views = [ModalityView(items, stage.modalities, modalities, required=stage.trained) for stage in stages]
    if not len(views[0]):
        return [(Stage("joint", tuple(names), tuple(names)), usable)]
    return list(zip(stages, views, strict=True))


def _add_lora(model: CodeBindModel, stages: Sequence[tuple[Stage, CodeBindTrainingArguments]]) -> None:
    """One adapter for the targets of all stages in mode "lora": a second one would hide the first.

    Raises:
        ValueError: stages with different adapters, or a stage that trains whole towers, which no adapter holds.
    """
    chosen = [(stage, arguments) for stage, arguments in stages if arguments.train_mode == "lora"]
    if not chosen:
        return
    whole = [(stage.name, arguments.train_mode) for stage, arguments in stages]
    if whole := [(name, mode) for name, mode in whole if mode in ("full", "lens")]:
        raise ValueError(
            f"train_mode: stage {whole[0][0]!r} is {whole[0][1]!r} and {chosen[0][0].name!r} is 'lora'; an adapter "
            "holds no tower. Fix: give every stage 'lora' or 'heads', or bind to a finished bridge with order 'bind'."
        )
    kinds = [(each.lora_rank, each.lora_layers, each.lora_modules) for _, each in chosen]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(f"stages: got the adapters {kinds}; all stages share one rank, layers and modules.")
    modalities = model.config.modalities
    encoders = [modalities[name].encoder for stage, _ in chosen for name in stage.trained]
    add_lora(model, encoders, *kinds[0])


def _run(
    arguments: CodeBindTrainingArguments, model: CodeBindModel, processor: CodeBindProcessor, view: ModalityView
) -> list[dict[str, Any]]:
    arguments.dataloader_drop_last = arguments.dataloader_drop_last and _fills_batches(
        view, arguments.train_batch_size * arguments.world_size
    )
    trainer = CodeBindTrainer(
        model=model,
        args=arguments,
        train_dataset=view,
        data_collator=CodeBindCollator(processor),
        callbacks=[CodebookHealthCallback()],
    )
    trainer.train()
    folder = Path(str(arguments.output_dir))
    if trainer.is_world_process_zero() and folder.is_dir() and not any(folder.iterdir()):
        # The library makes it for checkpoints, of which there may be none.
        folder.rmdir()
    return trainer.state.log_history


def _fills_batches(view: ModalityView, batch_size: int) -> bool:
    """Whether smaller rounds can be left out: not of a few hundred rows, nor the only one of a set of modalities.

    Args:
        batch_size: rows that all processes together take in a round.
    """
    sizes = Counter(map(modality_names, view)).values()
    return sum(sizes) >= 8 * batch_size and min(sizes) >= batch_size


def save(model: CodeBindModel, processor: CodeBindProcessor, folder: Path) -> None:
    """Model and processor, ready for `from_pretrained`; of a model with an adapter, what `save_adapter` writes."""
    if has_lora(model):
        save_adapter(model, folder)
    else:
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
