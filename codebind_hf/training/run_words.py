"""What a run says of its rows and its bridge before it trains, and of what it made when it is done."""

import logging
import shlex
from collections.abc import Sequence
from typing import Any

from accelerate import PartialState

from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.monitoring.bridge_look import look_at_bridge
from codebind_hf.monitoring.closing import closing_lines
from codebind_hf.monitoring.label_templates import labelled_texts, templates_of
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.started import typed_flags
from codebind_hf.training.processes import decided_by_main
from codebind_hf.training.recipe import Recipe
from codebind_hf.training.run_folder import RunFolder, RunRecord
from codebind_hf.training.run_rows import DEFAULT_PROMPT, RunRows
from codebind_hf.training.settings import RunSettings


logger = logging.getLogger(__name__)


def fitting_prompts(settings: RunSettings, rows: RunRows) -> list[str]:
    """Templates that the training texts follow, where classes would else be shown as `DEFAULT_PROMPT`.

    They are proposed, and what is evaluated stays what the settings say. Empty where prompts are given, where the
    default fits, or where texts follow none.
    """
    is_own = settings.data.get("manifest") or settings.data.get("dataset")
    is_default = not settings.templates and list(rows.templates) == [DEFAULT_PROMPT]
    if not (is_own and is_default) or isinstance(rows.training, StreamedDataset):
        return []
    found = templates_of(labelled_texts(rows.training, settings.make_recipe().seed))
    if not found.proposed or DEFAULT_PROMPT in found.proposed:
        return []
    if rows.test is not None and PartialState().is_main_process:
        flags = shlex.join(typed_flags({"template": found.proposed}))
        logger.info(
            'Of %s training texts that name their label, %s follow "%s"; classes will be evaluated as "%s". To '
            "evaluate them as they were trained: %s",
            *(f"{found.texts:,}", f"{found.counts[0]:,}", found.templates[0], DEFAULT_PROMPT, flags),
        )
    return found.proposed


def look_once(
    model: CodeBindModel,
    processor: CodeBindProcessor,
    rows: Any,
    templates: Sequence[str],
    recipe: Recipe,
    folder: RunFolder,
    record: RunRecord,
) -> None:
    """Say and write down what a frozen bridge makes of the rows, unless the record has it: every process must call.

    The main process looks, and others wait for it.
    """
    if record.bridge is not None or isinstance(rows, StreamedDataset):
        return

    def look() -> None:
        found = look_at_bridge(model, processor, rows, templates, recipe.seed, PartialState().device)
        if found is not None:
            for line in found.lines():
                logger.info("%s", line)
            for line in found.warnings():
                logger.warning("%s", line)
            record.bridge = found.as_json()
            folder.write(record)

    decided_by_main(look)


def say_end(settings: RunSettings, folder: RunFolder, templates: Sequence[str]) -> None:
    """What the run made and what to do next; for the main process."""
    bound = settings.bind.modality if settings.bind else None
    bridge = settings.bind.bridge if settings.bind else ""
    has_text = "text" in CodeBindConfig.from_pretrained(folder.checkpoint).modality_names
    logger.info("%s", "\n".join(closing_lines(folder.path, settings.data, bound, bridge, templates, has_text)))
