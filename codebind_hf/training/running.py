"""The stages of a run one after another, from where it stopped if it did; and saving what comes out."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import SaveStrategy

from codebind_hf.conversion.lora import has_lora
from codebind_hf.data import CodeBindCollator
from codebind_hf.data.items import Items, as_items, row_modalities
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.evaluation.writing import write_text
from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modalities import Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.monitoring.opening import facts_of, say_opening
from codebind_hf.monitoring.remaining_time import RemainingTime
from codebind_hf.monitoring.trackers import steps_of, track
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.adapters import add_lora, save_adapter
from codebind_hf.training.arguments import CodeBindTrainingArguments
from codebind_hf.training.bridge_cache import CACHE_FOLDER, cached_modalities, check_used
from codebind_hf.training.checkpoints import complete_checkpoints, discard, first_sound, settle
from codebind_hf.training.freezing import train_only, trainable_parts
from codebind_hf.training.health import CodebookHealthCallback
from codebind_hf.training.processes import decided_by_main
from codebind_hf.training.recipe import Recipe
from codebind_hf.training.stages import TEXT_FIX, ModalityView, Stage, plan_stages
from codebind_hf.training.trainer import CodeBindTrainer


logger = logging.getLogger(__name__)

# The log of every stage that is done.
LOG_FILE = "training.json"
_Rows = ModalityView | StreamedDataset
_Planned = tuple[Stage, _Rows, CodeBindTrainingArguments]


def train(
    recipe: Recipe,
    model: CodeBindModel,
    processor: CodeBindProcessor,
    items: Items | StreamedDataset | Sequence[Mapping[str, Any]],
    output_dir: Path,
    resume: bool = False,
) -> list[dict[str, Any]]:
    """Run all stages; returns the training log of each.

    Checkpoints of a stage lie in `output_dir/<stage>`, as often as its arguments say; `output_dir/training.json` holds
    the logs of the stages that are done, and `output_dir/bridge_cache` what `cache_bridge` keeps.

    Args:
        model: fresh from `build`, also to resume: its weights are then replaced.
        items: a `PreparedDataset`, `StoredDataset`, `LazyDataset` or `StreamedDataset`, or a list of prepared rows.
        resume: go on where the newest checkpoint of a run with the same recipe and items is, bit for bit; from the
            start, if there is none.

    Raises:
        ValueError: the items have no modalities that can be trained together, or one that never meets text or image.
        OSError: a checkpoint cannot be written or read, or the log of a stage that is done is missing.
        FloatingPointError: training diverged, see `CodeBindTrainer.train`.
        RunInterrupted: a signal asked the run to end.
    """
    rows = items if isinstance(items, StreamedDataset) else as_items(items)
    plan = [
        (stage, view, recipe.arguments(stage, output_dir))
        for stage, view in _planned(rows, model.config.modalities, recipe.order)
    ]
    _add_lora(model, plan)
    _limit_caches(model, plan)
    names = [stage.name for stage, _, _ in plan]
    first, logs = decided_by_main(lambda: _progress(names, output_dir, resume))
    _say_opening(model, plan[first:])
    for position, (stage, view, arguments) in enumerate(plan[first:], start=first):
        encoders = _freeze(model, stage, arguments)
        parts = trainable_parts(model)
        named = ", ".join(f"{name} {count:,}" for name, count in parts.items() if count)
        logger.info("%s: %s numbers learn: %s", stage.name, f"{sum(parts.values()):,}", named)
        arguments.save_at_end = arguments.save_at_end or position + 1 < len(plan)
        trainer = _trainer(arguments, model, processor, view, output_dir / CACHE_FOLDER)
        trainer.add_callback(RemainingTime(stage.name, following=len(plan) - position - 1))
        track(trainer, output_dir, view, steps_of(logs))
        _run(trainer, resume and position == first)
        logs.append({"stage": stage.name, "encoders": encoders, "trainable": parts, "log": trainer.state.log_history})
        if trainer.is_world_process_zero():
            write_text(output_dir / LOG_FILE, json.dumps(logs, indent=1))
            # Whatever stops the run from here on, it goes on from this stage.
            if complete_checkpoints(_folder(trainer)):
                for _, _, earlier in plan[:position]:
                    if earlier.save_strategy == SaveStrategy.NO:
                        discard(Path(str(earlier.output_dir)))
    model.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, Codebook):
            module.frozen = False
    model.eval()
    return logs


def _say_opening(model: CodeBindModel, plan: Sequence[_Planned]) -> None:
    """Say where, on what and how long the stages that are left will train, and what memory that takes."""
    facts = []
    for stage, view, arguments in plan:
        _freeze(model, stage, arguments)
        facts.append(facts_of(stage.name, stage.trained, view, model, arguments))
    say_opening(facts, model, plan[0][2])


def check_plan(rows: Any, modalities: dict[str, Modality], order: str) -> None:
    """Refuse raw rows that cannot be trained on, before one of them is prepared.

    Args:
        rows: a `StreamedDataset`, or rows that know their `row_modalities`, or that are opened for them.
        modalities: of the model.

    Raises:
        ValueError: as `train`, of the modalities.
    """
    if not isinstance(rows, StreamedDataset):
        rows, known = Items(), row_modalities(rows)
        rows.row_modalities = known
    _planned(rows, modalities, order)


def _planned(items: Items | StreamedDataset, modalities: dict[str, Modality], order: str) -> list[tuple[Stage, _Rows]]:
    """The stages and the rows of each; one joint stage when no row has text and image, which would leave no bridge."""
    if isinstance(items, StreamedDataset):
        stages = plan_stages([name for name in modalities if name in items.modalities], order)
        bridges = ("text", "image", "video")
        return [(stage, items.restricted(stage.modalities, stage.trained, bridges)) for stage in stages]
    present = {name for names in set(items.row_modalities) for name in names}
    names = [name for name in modalities if name in present]
    stages = plan_stages(names, order)
    usable = ModalityView(items, names, modalities)
    met = {name for names in set(usable.row_modalities) for name in names}
    if alone := [name for name in names if name not in met]:
        raise ValueError(
            f"rows: no row has {' or '.join(alone)} together with text or image, so there is nothing to align it to. "
            f"Fix: leave this modality out, give its rows a text or an image, or {TEXT_FIX}."
        )
    views = [ModalityView(items, stage.modalities, modalities, required=stage.trained) for stage in stages]
    if not len(views[0]):
        return [(Stage("joint", tuple(names), tuple(names)), usable)]
    return list(zip(stages, views, strict=True))


def _add_lora(model: CodeBindModel, plan: Sequence[_Planned]) -> None:
    """One adapter for the targets of all stages in mode "lora": a second one would hide the first.

    Raises:
        ValueError: stages with different adapters, or a stage that trains whole towers, which no adapter holds.
    """
    chosen = [(stage, arguments) for stage, _, arguments in plan if arguments.train_mode == "lora"]
    if not chosen:
        return
    whole = [(stage.name, arguments.train_mode) for stage, _, arguments in plan]
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


def _freeze(model: CodeBindModel, stage: Stage, arguments: CodeBindTrainingArguments) -> list[str]:
    """Let only what a stage trains learn; returns its encoders."""
    bridges = set(stage.modalities) - set(stage.trained) if arguments.train_bridge_heads else ()
    bridge_mode = "shared_heads" if arguments.train_bridge_heads == "shared" else "heads"
    known = model.config.modalities
    frozen = [name for name in arguments.freeze_towers or () if name in known]
    return train_only(model, stage.trained, arguments.train_mode, bridges, bridge_mode, frozen)


def _limit_caches(model: CodeBindModel, plan: Sequence[_Planned]) -> None:
    """Ask every stage for no caches but those that it can have, before any stage begins.

    Raises:
        ValueError: a frozen tower whose tokens cannot be cached, or no stage that caches what is asked for.
    """
    if not any(arguments.cache_bridge for _, _, arguments in plan):
        return
    wanted, cached = list[str](), list[str]()
    for stage, view, arguments in plan:
        _freeze(model, stage, arguments)
        wanted += arguments.cache_bridge if isinstance(arguments.cache_bridge, list) else []
        chosen = cached_modalities(model, view, arguments)
        arguments.cache_bridge = chosen or False
        cached += chosen
    check_used(wanted or True, cached)


def _trainer(
    arguments: CodeBindTrainingArguments, model: CodeBindModel, processor: CodeBindProcessor, view: _Rows, cache: Path
) -> CodeBindTrainer:
    if isinstance(view, StreamedDataset) and arguments.max_steps <= 0:
        raise ValueError("max_steps: got none; a stream has no length, so epochs cannot be counted. Fix: 1000.")
    arguments.dataloader_drop_last = arguments.dataloader_drop_last and _fills_batches(
        view, arguments.train_batch_size * arguments.world_size
    )
    return CodeBindTrainer(
        model=model,
        args=arguments,
        train_dataset=view,
        data_collator=CodeBindCollator(processor),
        callbacks=[CodebookHealthCallback()],
        cache_folder=cache,
    )


def _run(trainer: CodeBindTrainer, resume: bool) -> None:
    """Train one stage, or what is left of it."""
    folder = _folder(trainer)
    checkpoints = decided_by_main(lambda: complete_checkpoints(folder)) if resume else []
    if trainer.is_fsdp_enabled:
        # Shards are loaded into a model that is being trained; so something must be left to train.
        checkpoints = [each for each in checkpoints if not _is_last_step(each)]
    checkpoint = decided_by_main(lambda: first_sound(checkpoints))
    if checkpoint and _is_last_step(checkpoint):
        logger.info("%s: is done, %s.", folder.name, checkpoint.name)
        trainer.load_finished(str(checkpoint))
    else:
        logger.info("%s: %s.", folder.name, f"going on from {checkpoint.name}" if checkpoint else "starts at step 0")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.is_world_process_zero() and folder.is_dir() and not any(folder.iterdir()):
        # The library makes it for checkpoints, of which there may be none.
        folder.rmdir()


def _folder(trainer: CodeBindTrainer) -> Path:
    return Path(str(trainer.args.output_dir))


def _is_last_step(checkpoint: Path) -> bool:
    state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text())
    return state["global_step"] >= state["max_steps"]


def _progress(names: Sequence[str], output_dir: Path, resume: bool) -> tuple[int, list[dict[str, Any]]]:
    """The stage that a run is in, by its newest checkpoint, and the logs of the stages before it."""
    for name in names:
        settle(output_dir / name)
    started = [position for position, name in enumerate(names) if complete_checkpoints(output_dir / name)]
    if started and not resume:
        raise ValueError(
            f"output_dir: {output_dir / names[started[-1]]} holds checkpoints of an earlier run, which this one would "
            "mix with its own. Fix: resume=True (--resume) to go on, or another folder."
        )
    first, file = started[-1] if started else 0, output_dir / LOG_FILE
    logs = json.loads(file.read_text())[:first] if first and file.is_file() else []
    if [entry["stage"] for entry in logs] != list(names[:first]):
        raise OSError(f"{file}: lacks the log of {names[first - 1]!r}, which is done. Fix: start anew (--overwrite).")
    return first, logs


def _fills_batches(view: _Rows, batch_size: int) -> bool:
    """Whether smaller rounds can be left out: not of a few hundred rows, nor the only one of a set of modalities.

    Args:
        batch_size: rows that all processes together take in a round.
    """
    if isinstance(view, StreamedDataset):
        return True
    sizes = Counter(view.row_modalities).values()
    return sum(sizes) >= 8 * batch_size and min(sizes) >= batch_size


def save(model: CodeBindModel, processor: CodeBindProcessor, folder: Path) -> None:
    """Model and processor, ready for `from_pretrained`; of a model with an adapter, what `save_adapter` writes."""
    if has_lora(model):
        save_adapter(model, folder)
    else:
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
