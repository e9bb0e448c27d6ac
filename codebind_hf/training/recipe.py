"""A recipe: what a training run is made of, and the arguments that each of its stages gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from codebind_hf.data.items import row_modalities
from codebind_hf.evaluation.provenance import final_checkpoint
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.training.arguments import MODES, CodeBindTrainingArguments
from codebind_hf.training.stages import ORDERS, Stage
from codebind_hf.training.typed_fields import check_mapping, check_names, check_types


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
    "save_minutes": 2.0,
    "save_total_limit": 2,
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
# By the kind of input, the field of the model whose encoder may be a network of others.
BACKBONE_FIELDS = {"text": "text_config", "image": "vision_config", "audio": "audio_config"}
# Training arguments that the run itself sets for every stage.
_OF_THE_RUN = ("seed", "output_dir")


@dataclass
class Recipe:
    """What a training run is made of.

    Args:
        preset: architecture to train from nothing ("tiny" without `base`), or to extend that of `base` to.
        base: checkpoint to start from, a folder, a run, or a name on the Hub; what it lacks starts from nothing.
        model: fields of `CodeBindConfig` that override the preset's or the checkpoint's.
        processor: options of `CodeBindProcessor.from_model_config`.
        augmentation: of the processor, by modality; what the data lacks is left out. A base's own is not taken over.
        temperature: to start with, of the cosines; `None` is the configuration's or the checkpoint's.
        order: "joint" or "sequential" binding of the targets, or "bind" for a single stage on a bridge that `base`
            brings.
        training: `CodeBindTrainingArguments` of every stage.
        stages: further arguments by stage: "bridge", "bind" (every target when sequential), "joint".
        seed: of weights, data order and everything else.

    Raises:
        ValueError: an unknown order, stage or training argument, a value of another type than its field, or a
            temperature that is not above 0.
    """

    preset: str | None = None
    base: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    augmentation: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    temperature: float | None = None
    order: str = "joint"
    training: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("model", "processor", "augmentation", "training", "stages"):
            setattr(self, name, check_mapping(getattr(self, name), name))
        self.stages = {name: check_mapping(options, f"stages, {name}") for name, options in self.stages.items()}
        check_types(vars(self), get_type_hints(Recipe), "recipe")
        if self.order not in ORDERS:
            raise ValueError(f"order: got {self.order!r}; allowed: {', '.join(map(repr, ORDERS))}.")
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature: got {self.temperature}; it must be greater than 0.")
        if self.base is not None:
            self.base = final_checkpoint(self.base)
        if self.preset is None and self.base is None:
            self.preset = "tiny"
        if unknown := sorted(set(self.stages) - set(DEFAULT_STAGES)):
            raise ValueError(f"stages: got {', '.join(map(repr, unknown))}; allowed: {', '.join(DEFAULT_STAGES)}.")
        for name, options in {"training": self.training, **self.stages}.items():
            _check_arguments(options, name)

    def arguments(self, stage: Stage, output_dir: Path) -> CodeBindTrainingArguments:
        """Arguments of one stage: the defaults, the recipe's, then the stage's own."""
        kind = stage.name.partition("-")[0]
        chosen = {**DEFAULT_ARGUMENTS, **DEFAULT_STAGES[kind], **self.training, **self.stages.get(kind, {})}
        chosen.setdefault("max_steps", max(LEAST_BINDING_STEPS, STEPS_PER_TARGET * len(stage.trained)))
        return CodeBindTrainingArguments(output_dir=str(output_dir / stage.name), seed=self.seed, **chosen)


@cache
def _argument_hints() -> dict[str, Any]:
    return get_type_hints(CodeBindTrainingArguments)


def _check_arguments(options: Mapping[str, Any], where: str) -> None:
    """Refuse unknown, mistyped and wrong training arguments before any row is prepared."""
    for name in _OF_THE_RUN:
        if name in options:
            raise ValueError(f"{where}: {name} belongs to the whole run, not to its training arguments. Fix: move it.")
    known = [entry.name for entry in fields(CodeBindTrainingArguments) if entry.init]
    check_names(options, [name for name in known if name not in _OF_THE_RUN], where)
    check_types(options, _argument_hints(), where)
    if options.get("train_mode", MODES[0]) not in MODES:
        allowed = ", ".join(map(repr, MODES))
        raise ValueError(f"{where}: train_mode is {options['train_mode']!r}; allowed: {allowed}.")


def modalities_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The modalities that any row has, in the order of the table of modalities, then those that a user added."""
    present = {name for names in set(row_modalities(rows)) for name in names}
    return [*(name for name in MODALITIES if name in present), *sorted(present - set(MODALITIES))]
