"""One place for what trackers are told of a run: all stages in one folder, whose steps run on, and what a model shows.

The library's own callbacks tell TensorBoard, Weights & Biases or Trackio every number of the log. They would begin a
folder of their own for every stage, at step 0.
"""

import copy
import importlib.util
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from codebind_hf.evaluation.reconstruction import reconstructions
from codebind_hf.model.codebooks import Codebook
from codebind_hf.monitoring.pictures import side_by_side
from codebind_hf.monitoring.random_state import kept_random_state


# In the folder of a run.
LOGS = "logs"
_PACKAGES = {"tensorboard": "codebind-hf[trackers]", "wandb": "wandb", "trackio": "trackio"}
_TIMES = 10
_EXAMPLES = 4


def check_trackers(names: str | Iterable[str] | None) -> None:
    """Refuse a tracker whose package is not there, before rows are read.

    Raises:
        ValueError: which one, and how to install it.
    """
    for name in [names] if isinstance(names, str) else names or ():
        if name in _PACKAGES and importlib.util.find_spec(name) is None:
            fix = f"pip install '{_PACKAGES[name]}', or leave it out."
            raise ValueError(f"report_to: got {name!r}, which is not installed. Fix: {fix}")


def track(trainer: Any, folder: Path, rows: Any, first_step: int = 0) -> None:
    """Let the trackers of a trainer write about the whole run; without one nothing happens.

    Args:
        trainer: of one stage, before it trains.
        folder: of the run.
        rows: items of the stage, some of which are reconstructed; of a stream none.
        first_step: how many steps the stages before had.
    """
    args, handler = trainer.args, trainer.callback_handler
    kinds = tuple(get_reporting_integration_callbacks(args.report_to))
    if not kinds:
        return
    args.run_name = args.run_name or folder.resolve().name
    logs = folder / LOGS
    if WandbCallback in kinds and trainer.is_world_process_zero():
        logs.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("WANDB_DIR", str(logs))
    trackers = []
    for place, callback in enumerate(handler.callbacks):
        if isinstance(callback, kinds):
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(logs)
            handler.callbacks[place] = RunsOn(callback, first_step)
            trackers.append(handler.callbacks[place])
    is_blind = trainer.is_fsdp_enabled or not trainer.is_world_process_zero()
    with kept_random_state():
        trainer.add_callback(ShowsModel(trackers, {} if is_blind else examples(rows)))


def steps_of(logs: Sequence[Mapping[str, Any]]) -> int:
    """The steps of stages that are done, by their entries in `training.json`."""
    return sum(max((line.get("step", 0) for line in entry["log"]), default=0) for entry in logs)


class RunsOn:
    """A tracker's callback that counts steps from `first_step` on, and leaves random numbers as they were."""

    def __init__(self, callback: TrainerCallback, first_step: int) -> None:
        self.callback, self.first_step = callback, first_step

    def __getattr__(self, name: str) -> Any:
        if name == "callback":
            # Of an instance that is being copied.
            raise AttributeError(name)
        found = getattr(self.callback, name)
        inherited = getattr(TrainerCallback, name, None)
        if not name.startswith("on_") or getattr(type(self.callback), name, None) is inherited:
            return found

        def told(args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            state = copy.copy(state)
            state.global_step += self.first_step
            with kept_random_state():
                return found(args, state, control, **kwargs)

        return told


class ShowsModel(TrainerCallback):
    """Ten times a stage: reconstructions below their originals, and how much each codebook uses its codes.

    Args:
        trackers: that are told.
        items: of every modality some, prepared; those of a model without a decoder are not shown.
    """

    def __init__(self, trackers: Sequence[RunsOn], items: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.trackers, self.items = trackers, items

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Show the model as it is after this step, on the main process alone: nothing here waits for others."""
        every = max(state.logging_steps, math.ceil(state.max_steps / _TIMES))
        if state.is_world_process_zero and (state.global_step % every == 0 or state.global_step == state.max_steps):
            with kept_random_state():
                pictures, uses = self.pictures(model), code_uses(model)
                for tracker in self.trackers:
                    _SENDERS.get(type(tracker.callback), _send_nothing)(
                        tracker.callback, state.global_step + tracker.first_step, pictures, uses
                    )

    def pictures(self, model: Any) -> dict[str, np.ndarray]:
        """By modality, `(height, width, 3)` bytes."""
        found = {}
        for name, items in self.items.items():
            modality = model.config.modalities.get(name)
            pairs = None if modality is None else reconstructions(model, None, items, modality)
            if pairs is not None:
                originals, answers = (values.numpy() for values in pairs)
                if name == "audio":
                    # Low frequencies belong below.
                    originals, answers = originals[..., ::-1, :], answers[..., ::-1, :]
                found[name] = side_by_side(originals, answers, is_cloud=modality.axes[0] == "points")
        return found


def examples(rows: Any, most: int = _EXAMPLES) -> dict[str, list[Any]]:
    """The first few items of every modality but text; none of a stream."""
    places: dict[str, list[int]] = {}
    for place, names in enumerate(getattr(rows, "row_modalities", ())):
        for name in names:
            if name != "text" and len(places.setdefault(name, [])) < most:
                places[name].append(place)
    found = {name: [_readable(rows, place, name) for place in chosen] for name, chosen in places.items()}
    kept = {name: [item for item in items if item] for name, items in found.items()}
    return {name: items for name, items in kept.items() if items}


def _readable(rows: Any, place: int, name: str) -> Any:
    """An item, or nothing where it cannot be read: the run says so when its turn comes, on whichever process."""
    try:
        return rows.whole(place, [name])
    except (ValueError, OSError):
        return None


def code_uses(model: Any) -> dict[str, np.ndarray]:
    """How often each code was picked lately, as a multiple of its fair share; named as in the log."""
    books = {name.removeprefix("specific."): book for name, book in model.codebooks.named_modules()}
    return {
        name: (book.usage / book.usage.sum().clamp(min=1e-12) * book.num_codes).float().cpu().numpy()
        for name, book in books.items()
        if isinstance(book, Codebook)
    }


def _send_nothing(callback: Any, step: int, pictures: Mapping[str, np.ndarray], uses: Mapping[str, Any]) -> None:
    """A tracker that is told numbers alone."""


def _to_tensorboard(callback: Any, step: int, pictures: Mapping[str, np.ndarray], uses: Mapping[str, Any]) -> None:
    for name, picture in pictures.items():
        callback.tb_writer.add_image(f"reconstruction/{name}", picture, step, dataformats="HWC")
    for name, values in uses.items():
        callback.tb_writer.add_histogram(f"codebook_use/{name}", values, step)


def _to_wandb(callback: Any, step: int, pictures: Mapping[str, np.ndarray], uses: Mapping[str, Any]) -> None:
    _log(callback._wandb, step, pictures, uses)


def _to_trackio(callback: Any, step: int, pictures: Mapping[str, np.ndarray], uses: Mapping[str, Any]) -> None:
    _log(callback._trackio, step, pictures, uses)


def _log(library: Any, step: int, pictures: Mapping[str, np.ndarray], uses: Mapping[str, Any]) -> None:
    shown = {f"reconstruction/{name}": library.Image(picture) for name, picture in pictures.items()}
    counted = {f"codebook_use/{name}": library.Histogram(values.tolist()) for name, values in uses.items()}
    library.log({**shown, **counted, "train/global_step": step})


_SENDERS = {TensorBoardCallback: _to_tensorboard, WandbCallback: _to_wandb, TrackioCallback: _to_trackio}
