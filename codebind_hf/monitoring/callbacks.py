"""What the trainer does beside its steps: a new order of the rows every epoch, and a progress bar that stays short."""

from typing import Any

from transformers import ProgressCallback, TrainerCallback


class ShuffleAnew(TrainerCallback):
    """Tells the sampler its epoch; inside the wrappers of a resumed run on several processes nobody else does."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        sampler = train_dataloader.batch_sampler
        if sampler is None:  # A stream, which counts its epochs itself.
            return
        while not hasattr(sampler, "set_epoch"):
            sampler = sampler.batch_sampler
        sampler.set_epoch(int(state.epoch))


class ShortProgress(ProgressCallback):
    """A progress bar that shows loss and scale; the full log goes to the trackers and the log history."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs and "loss" in logs:
            shown = {name.removeprefix("loss/"): value for name, value in logs.items() if name.startswith("loss/")}
            self.training_bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()})
