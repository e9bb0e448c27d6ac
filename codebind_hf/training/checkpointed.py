"""A trainer whose checkpoints are whole or not there, with the balancer and all that lies beside an adapter."""

import json
import os
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from codebind_hf.conversion.lora import has_lora
from codebind_hf.training.adapters import load_adapter
from codebind_hf.training.balancing import LossBalancer
from codebind_hf.training.checkpoints import (
    BALANCER_FILE,
    STAGING_FOLDER,
    check_sound,
    clear_write_errors,
    compare_processes,
    complete_checkpoints,
    discard,
    first_sound,
    publish,
)
from codebind_hf.training.divergence import DivergenceGuard
from codebind_hf.training.processes import decided_by_main


class CheckpointedTrainer(Trainer):
    """Writes checkpoints aside and moves them to their place, and goes on from those that are sound."""

    balancer: LossBalancer
    _plain_model: Any
    _guard: DivergenceGuard
    _is_staging = False

    def _save_once(self) -> None:
        """A checkpoint of this step, unless there is one."""
        folder, name = Path(str(self.args.output_dir)), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if name not in decided_by_main(lambda: [each.name for each in complete_checkpoints(folder)]):
            self._save_checkpoint(self._plain_model, None)

    def load_finished(self, checkpoint: str) -> None:
        """Weights and log of a checkpoint of the last step, which leaves nothing to train."""
        self.state = TrainerState.load_from_json(os.path.join(checkpoint, TRAINER_STATE_NAME))
        self._load_from_checkpoint(checkpoint)

    def _newest_checkpoint(self) -> str:
        """The newest complete checkpoint that the first process sees, for all processes."""
        folder = Path(str(self.args.output_dir))
        found = decided_by_main(lambda: first_sound(complete_checkpoints(folder)))
        if found is None:
            raise ValueError(
                f"resume_from_checkpoint: got True, and {self.args.output_dir} holds no complete checkpoint. Fix: "
                "None, to start anew, or the folder of a checkpoint."
            )
        return str(found)

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, STAGING_FOLDER) if self._is_staging else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint aside; when every process has, move it to its place and drop the oldest.

        Raises:
            FloatingPointError: weights are not finite.
            OSError: it cannot be written; earlier ones are kept.
        """
        self._guard.check_weights(self.state.global_step)
        run = Path(self._get_output_dir(trial))
        final = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staged = run / STAGING_FOLDER / final.name
        if self.args.should_save:
            discard(staged)
        self.accelerator.wait_for_everyone()
        self._is_staging = True
        try:
            with clear_write_errors(staged, final):
                super()._save_checkpoint(model, trial)
        finally:
            self._is_staging = False
        best = self.state.best_model_checkpoint
        if best is not None and Path(best) == staged:
            self.state.best_model_checkpoint = str(final)
        if self.args.should_save:
            self.state.save_to_json(str(staged / TRAINER_STATE_NAME))
            (staged / BALANCER_FILE).write_text(json.dumps(self.balancer.state_dict()))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            with clear_write_errors(staged, final):
                publish(staged, final)
            best, limit = self.state.best_model_checkpoint, self.args.save_total_limit
            rotate_checkpoints(str(run), limit, best_model_checkpoint=best, use_mtime=True)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(final))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # The upload goes on beside the training: it needs a folder that stays where it is.
        if not self._is_staging:
            super()._push_from_checkpoint(checkpoint_folder)

    def _load_adapter(self, folder: str, model: nn.Module | None = None) -> bool:
        """Load the adapter of a checkpoint, if that is how this model is saved; FSDP has a format of its own."""
        plain = self.accelerator.unwrap_model(self.model if model is None else model)
        if not has_lora(plain) or self.is_fsdp_enabled:
            return False
        load_adapter(plain, folder)
        return True

    def _load_best_model(self) -> None:
        if not self._load_adapter(str(self.state.best_model_checkpoint)):
            super()._load_best_model()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        check_sound(Path(resume_from_checkpoint))
        compare_processes(Path(resume_from_checkpoint), self.args.world_size)
        if not self._load_adapter(resume_from_checkpoint, model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = Path(resume_from_checkpoint) / BALANCER_FILE
        self.balancer.load_state_dict(json.loads(saved.read_text()))
