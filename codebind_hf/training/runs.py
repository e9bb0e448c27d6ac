"""A whole run in its folder: rows, training, checkpoint, card, evaluation; and going on with one that stopped."""

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from huggingface_hub import ModelCard

from codebind_hf.data import Manifest, NineSenses, PreparedDataset, StoredDataset, load_items
from codebind_hf.data.feature_statistics import fit_normalization
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.evaluation import Evaluation, write_model_card, write_report
from codebind_hf.evaluation.abstention import save_thresholds
from codebind_hf.evaluation.figures import draw_if_installed
from codebind_hf.evaluation.provenance import checkpoint_of
from codebind_hf.evaluation.report import summary_lines
from codebind_hf.evaluation.writing import write_text
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.monitoring.trackers import check_trackers
from codebind_hf.packs.pack_files import WEIGHTS_FILE
from codebind_hf.packs.saving import save_pack
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.values import check_choice, nearest
from codebind_hf.training.binding import bind, binding_recipe, rows_to_bind
from codebind_hf.training.building import build, recipe_config
from codebind_hf.training.interruption import ended_by_signals
from codebind_hf.training.processes import decided_by_main, joined_processes
from codebind_hf.training.recipe import DEFAULT_STAGES, Recipe
from codebind_hf.training.run_folder import FIGURES, FILES, PACK, RunFolder, RunRecord
from codebind_hf.training.run_rows import RunRows, check_depth_unit, load_rows
from codebind_hf.training.run_words import fitting_prompts, look_once, say_end
from codebind_hf.training.running import check_plan, train
from codebind_hf.training.settings import BindSettings, RunSettings
from codebind_hf.training.stages import Stage


logger = logging.getLogger(__name__)

FILES_TO_SEARCH = 60


def run(
    settings: RunSettings | None, output_dir: Path, resume: bool = False, overwrite: bool = False
) -> RunRecord | None:
    """Train, save and evaluate as `settings` say, in `output_dir`; what is there already is not done again.

    Written are `run.json` (whose run it is and how far it came), `checkpoint/`, `training.json`, with test rows
    `report.json`, `report.html`, `report.md` and `figures/`, and of NineSenses some `files/` to search; of a bound
    modality `pack/`.
    Checkpoints to go on from lie in a folder for each stage, and go when the run is finished.

    Args:
        settings: `None` takes those of the run in `output_dir`, with `resume`.
        resume: go on with the run in `output_dir`; start it, if there is none.
        overwrite: replace what an earlier run left there.

    Returns:
        The record on the main process, `None` on others.

    Raises:
        ValueError: settings, rows or a folder that cannot be used, or that another process uses.
        OSError: a file cannot be read or written.
        FloatingPointError: training diverged; no checkpoint is written.
        RunInterrupted: SIGINT or SIGTERM asked the run to end; while it trains, it saves first.
    """
    if resume and overwrite:
        raise ValueError("--resume and --overwrite: got both; one goes on with a run, the other removes it.")
    joined_processes()
    folder = RunFolder(output_dir)
    with ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        decided_by_main(lambda: stack.enter_context(folder.held()))
        return _run(settings, folder, resume, overwrite)


def _run(settings: RunSettings | None, folder: RunFolder, resume: bool, overwrite: bool) -> RunRecord | None:
    settings = decided_by_main(lambda: folder.open(settings, resume, overwrite))
    if resume and not folder.has_results():
        logger.info("%s: nothing was saved there, so the run starts from the beginning.", folder.path)
    record = decided_by_main(folder.record)
    if record is not None and record.status == "finished" and not overwrite:
        logger.info("%s is finished: checkpoint %s. --overwrite trains anew.", folder.path, record.checkpoint)
        return record if PartialState().is_main_process else None
    if settings.bind:
        return _bind(settings, settings.bind, folder, overwrite)
    return _train(settings, folder, overwrite)


def _train(settings: RunSettings, folder: RunFolder, overwrite: bool) -> RunRecord | None:
    recipe = settings.make_recipe()
    # What is trained needs its base no more, which may be gone.
    trains = overwrite or not folder.checkpoint.is_dir()
    if trains:
        _check(recipe, folder)
    rows = load_rows(settings.data, on_error=settings.on_error)
    if trains:
        check_depth_unit(recipe.processor.get("depth", {}).get("depth_unit"), rows.modalities)
        check_plan(rows.training, recipe_config(recipe).restricted_to(rows.modalities).modalities, recipe.order)
    proposed = fitting_prompts(settings, rows)
    record = decided_by_main(lambda: folder.begin(settings, rows.digest, overwrite))
    was_trained = record.status != "training"
    if not was_trained:
        model, processor = build(recipe, rows.modalities, [] if recipe.base else rows.texts())
        fit_normalization(processor, rows.training, settings.on_error)
        if recipe.order == "bind":
            look_once(model, processor, rows.training, settings.templates or rows.templates, recipe, folder, record)
        items = _items(settings, rows.training, processor, recipe, folder, "train")
        train(recipe, model, processor, items, folder.path, resume=True)
        if not PartialState().is_main_process:
            return None
        _publish(model, processor, recipe, folder, record)
    else:
        if not PartialState().is_main_process:
            return None
        model = CodeBindModel.from_pretrained(folder.checkpoint)
        processor = CodeBindProcessor.from_pretrained(folder.checkpoint)
        write_card(model, recipe, folder.path, record)
    if rows.test is not None:
        # Usage of codes is counted over the rows that it was trained on, where they are at hand.
        items = _items(settings, rows.training, processor, recipe, folder, "train") if was_trained else items
        counted = items if isinstance(items, (PreparedDataset, StoredDataset)) else None
        model.to(PartialState().device)
        prepared = _items(settings, rows.test, processor, recipe, folder, "test")
        templates = settings.templates or rows.templates
        workers = settings.data.get("preprocessing_num_workers", 0)
        options: dict[str, Any] = {"training_rows": counted, "seed": recipe.seed, "num_workers": workers}
        evaluation = Evaluation(model, processor, prepared, rows.class_names, templates, **options)
        _evaluate(evaluation, recipe, rows, folder, record)
    else:
        logger.info(
            "Nothing is evaluated without test rows (--test_manifest, --test_dataset); of a benchmark, "
            "codebind benchmark evaluates."
        )
    if isinstance(rows.test, NineSenses):
        _export(rows.test, folder.path / FILES)
    folder.finish(record)
    say_end(settings, folder, settings.templates or proposed)
    return record


def _check(recipe: Recipe, folder: RunFolder) -> None:
    """Refuse what is wrong and can be known without a row: preset, base, training arguments of all stages."""
    modalities = recipe_config(recipe).modality_names
    for stage in DEFAULT_STAGES:
        arguments = recipe.arguments(Stage(stage, (), ()), folder.path)
        cached = arguments.cache_bridge if isinstance(arguments.cache_bridge, list) else []
        check_trackers(arguments.report_to)
        for flag, names in (("cache_bridge", cached), ("freeze_towers", arguments.freeze_towers or [])):
            for name in names:
                check_choice(flag, name, modalities, nearest(name, modalities) or "name modalities, as in a,b.")


def _items(
    settings: RunSettings, rows: Any, processor: CodeBindProcessor, recipe: Recipe, folder: RunFolder, part: str
) -> Any:
    """Rows as tensors; those on disk lie beside the run, and only those to train on are augmented."""
    if isinstance(rows, StreamedDataset):
        return rows.with_processor(processor, settings.on_error, recipe.seed, augment=True)
    loading, workers = settings.data.get("loading", "auto"), settings.data.get("preprocessing_num_workers", 0)
    place, augment = folder.rows / part, part == "train"
    return load_items(rows, processor, loading, settings.on_error, recipe.seed, place, augment, workers)


def _publish(
    model: CodeBindModel,
    processor: CodeBindProcessor,
    recipe: Recipe,
    folder: RunFolder,
    record: RunRecord,
    write_pack: Callable[[Path], Any] | None = None,
) -> None:
    folder.publish(model, processor, record, write_pack)
    write_card(model, recipe, folder.path, record)
    logger.info("Wrote %s.", folder.checkpoint)
    if write_pack is not None:
        size = (folder.path / PACK / WEIGHTS_FILE).stat().st_size
        logger.info("Wrote %s, %.1f MB, which loads beside %s.", folder.path / PACK, size / 1e6, recipe.base)


def _evaluate(evaluation: Evaluation, recipe: Recipe, rows: RunRows, folder: RunFolder, record: RunRecord) -> None:
    report = {**evaluation.report(), "checkpoint_sha256": record.checkpoint}
    figures = draw_if_installed(evaluation, report, folder.path / FIGURES)
    write_report(report, folder.path, figures, evaluation=evaluation)
    write_card(evaluation.model, recipe, folder.path, record, report, rows.name)
    save_thresholds(report, folder.checkpoint)
    logger.info("%s", "\n".join(summary_lines(report)))


def _export(test: NineSenses, folder: Path) -> None:
    some = NineSenses("test", test.world, test.difficulty, num_rows=FILES_TO_SEARCH, modalities=test.modalities)
    some.export(folder)


def license_of(base: str | None) -> str:
    """The licence of trained weights: that of the weights they come from, or ours for weights from nothing."""
    if base is None:
        return "apache-2.0"
    card = Path(base) / "README.md"
    return (ModelCard.load(card).data.license if card.is_file() else None) or "unknown"


def write_card(
    model: CodeBindModel, recipe: Recipe, folder: Path, record: RunRecord, report: Any = None, dataset: str = ""
) -> None:
    """The checkpoint's card, with the base that it comes from and its licence."""
    base = Path(recipe.base or "")
    name = base.parent.name if base.name == "checkpoint" else base.name
    write_model_card(
        folder / "checkpoint",
        report,
        model.config,
        dataset=dataset,
        training=f"Trained from the weights of `{name}`." if name else "",
        license=license_of(recipe.base),
        name=folder.name,
        checkpoint=record.checkpoint,
    )


def _bind(settings: RunSettings, chosen: BindSettings, folder: RunFolder, overwrite: bool) -> RunRecord | None:
    recipe, modalities = _binding(settings, chosen)
    _check(recipe, folder)
    rows = load_rows(settings.data, modalities, settings.on_error)
    proposed = fitting_prompts(settings, rows)
    # Of a large model, weights would be read before `bind` says so.
    rows_to_bind(rows.training, chosen.modality, recipe_config(recipe).modalities)
    check = Manifest(chosen.check_manifest, modalities=modalities) if chosen.check_manifest else None
    if check is not None:
        check.validate(settings.on_error)
    record = decided_by_main(lambda: folder.begin(settings, rows.digest, overwrite))
    if record.status == "training":
        model, processor = build(recipe, modalities, [])
        look_once(model, processor, rows.training, settings.templates or rows.templates, recipe, folder, record)
        result = bind(
            *(model, processor, rows.training, chosen.modality, recipe, folder.path),
            shared_codes=chosen.shared_codes,
            tolerance=chosen.tolerance,
            check_rows=check,
            on_error=settings.on_error,
            resume=True,
            loading=settings.data.get("loading", "auto"),
            num_workers=settings.data.get("preprocessing_num_workers", 0),
            folder=folder.rows / "train",
        )
        if PartialState().is_main_process:
            write_text(folder.path / "binding.json", json.dumps(result.report(), indent=1))
            logger.info("Bound %s: %s.", chosen.modality, result.summary())
        if not result.is_within_tolerance:
            raise ValueError(f"--tolerance: other modalities moved too far, nothing is saved; {result.summary()}.")
        if PartialState().is_main_process:
            _publish(model, processor, recipe, folder, record, _pack_writer(model, processor, recipe, chosen, folder))
    if not PartialState().is_main_process:
        return None
    if not (folder.checkpoint / "README.md").is_file():
        write_card(CodeBindModel.from_pretrained(folder.checkpoint), recipe, folder.path, record)
    folder.finish(record)
    say_end(settings, folder, settings.templates or proposed)
    return record


def _pack_writer(
    model: CodeBindModel, processor: CodeBindProcessor, recipe: Recipe, chosen: BindSettings, folder: RunFolder
) -> Callable[[Path], Any] | None:
    """What writes the pack of the bound modality; `None` where shared codes followed it, which no bridge then has."""
    if chosen.shared_codes != "frozen":
        logger.info("No pack is written: with learning shared codes the bridge is another one than before.")
        return None
    bridge = str(recipe.base)
    options: dict[str, Any] = {"bridge": bridge, "license": license_of(bridge), "name": folder.path.resolve().name}
    return lambda place: save_pack(model, place, [chosen.modality], processor, **options)


def _binding(settings: RunSettings, chosen: BindSettings) -> tuple[Recipe, list[str]]:
    """The recipe that binds, and all modalities of its model."""
    recipe = replace(settings.make_recipe(), base=checkpoint_of(chosen.bridge, "--bridge"))
    recipe = binding_recipe(recipe, chosen.modality, chosen.encoder)
    return recipe, list(recipe_config(recipe).modalities)
