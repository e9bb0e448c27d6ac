"""Does the whole road work here? A tiny random model takes one step, is saved, loaded, and embeds the same."""

import io
import logging
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np


_SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
_TRAINING = {"max_steps": 1, "per_device_train_batch_size": 4, "warmup_steps": 0, "disable_tqdm": True}


class SelfTest(NamedTuple):
    """How the road went: whether it did, in how many seconds, and where it stopped."""

    works: bool
    seconds: float
    reason: str = ""


def self_test() -> SelfTest:
    """Train, save, load and embed; whatever is raised on the way is the reason."""
    started = time.monotonic()
    # A library that is there and broken may raise anything; what trainers print is nobody's answer.
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            reason = _go()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    return SelfTest(not reason, round(time.monotonic() - started, 1), reason)


def _go() -> str:
    """What went wrong; empty if nothing did."""
    from codebind_hf.data import NineSenses, PreparedDataset
    from codebind_hf.model.modeling_codebind import CodeBindModel
    from codebind_hf.processing.processing_codebind import CodeBindProcessor
    from codebind_hf.training import Recipe, build, save, train

    modalities = ["text", "image"]
    rows = NineSenses("train", num_bridge=8, num_target=0, modalities=modalities)
    texts = [row["text"] for row in rows]
    shapes = {f"{name}_config": _SMALL for name in ("text", "vision", "decoder")}
    recipe = Recipe(model=shapes, training=_TRAINING, stages={"joint": {"max_steps": 1}, "bridge": {"max_steps": 1}})
    level = logging.getLogger("codebind_hf").level
    logging.getLogger("codebind_hf").setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            model, processor = build(recipe, modalities, texts)
            before = {name: value.clone() for name, value in model.state_dict().items()}
            train(recipe, model, processor, PreparedDataset(rows, processor), folder / "run")
            model.eval()
            if all(value.equal(before[name]) for name, value in model.state_dict().items()):
                return "a step of training changed nothing"
            save(model, processor, folder / "checkpoint")
            again, reader = (
                kind.from_pretrained(folder / "checkpoint") for kind in (CodeBindModel, CodeBindProcessor)
            )
            items = {name: [row[name] for row in rows] for name in modalities}
            one, other = model.encode(items, processor), again.encode(items, reader)
            moved = [name for name in modalities if not np.array_equal(one[name], other[name])]
            return f"{', '.join(moved)}: not embedded the same after saving and loading" if moved else ""
    finally:
        logging.getLogger("codebind_hf").setLevel(level)
