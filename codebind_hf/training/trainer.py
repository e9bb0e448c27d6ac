"""CodeBindTrainer: transformers' Trainer with balanced losses, two learning rates and codebook health in the log."""

import os
import pickle
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import seed_worker

from codebind_hf.data.choices import BAR_DELAY
from codebind_hf.data.collator import CodeBindCollator
from codebind_hf.data.items import Items, row_modalities
from codebind_hf.data.sampler import ModalityBatchSampler, UnevenBatches
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.data.workers import in_own_group, named_workers
from codebind_hf.model.codebooks import Codebook
from codebind_hf.monitoring.callbacks import ShortProgress, ShuffleAnew
from codebind_hf.training.adapters import check_trainable, model_in
from codebind_hf.training.arguments import CodeBindTrainingArguments
from codebind_hf.training.augmentation import augmented
from codebind_hf.training.balancing import LossBalancer
from codebind_hf.training.bridge_cache import CACHE_FOLDER, check_cache, with_cached_towers
from codebind_hf.training.checkpointed import CheckpointedTrainer
from codebind_hf.training.checkpoints import settle
from codebind_hf.training.divergence import DivergenceGuard
from codebind_hf.training.freezing import NEW_MODULES
from codebind_hf.training.gradient_cache import check_config, in_chunks
from codebind_hf.training.health import codebook_log
from codebind_hf.training.interruption import RunInterrupted, TimedCheckpoints
from codebind_hf.training.predicting import PredictingTrainer
from codebind_hf.training.stages import check_useful, useful_sets, useful_stream
from codebind_hf.training.stream_batches import stream_loader


class CodeBindTrainer(PredictingTrainer, CheckpointedTrainer):
    """Trains a `CodeBindModel` on rows of any subset of modalities.

    Every logged step carries the mean of each loss term (`loss/align`, ...), its weight (`weight/align`, ...), the
    scale, and usage and perplexity of every codebook (`codebook/shared/usage`, ...). Batches hold rows of one set of
    modalities: negatives are then of the modality that is being bound.

    Args:
        model: plain, with an adapter of `add_lora` or `model.add_adapter`, or of `get_peft_model` (see `model_in`).
        args: `CodeBindTrainingArguments`, or plain `TrainingArguments`, which get the defaults of ours.
        data_collator: by default `CodeBindCollator(processing_class)`.
        balancer: of adaptive loss weights.
        cache_folder: of what `cache_bridge` keeps, by default one in `output_dir`.
        others, kwargs: as of `Trainer`.

    Raises:
        ValueError: an argument that is not allowed, a model whose adapter no file would hold, or rows of which none
            can teach what learns; single ones are left out with a warning.
    """

    loss_is_scaled_for_ga = False
    _unwrapped: tuple[Any, Any] = (None, None)

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: Any = None,
        *others: Any,
        balancer: LossBalancer | None = None,
        cache_folder: Path | None = None,
        **kwargs: Any,
    ) -> None:
        if data_collator is None:
            # Behind the first three, `Trainer` takes the rows for training and evaluation, and then the processor.
            data_collator = CodeBindCollator(others[2] if len(others) > 2 else kwargs.get("processing_class"))
        inner = model_in(model)
        super().__init__(inner, CodeBindTrainingArguments.of(args), data_collator, *others, **kwargs)
        shared = self._plain_model.codebooks.shared
        # Frozen by `model_in`, whatever the arguments say.
        self._keeps_shared_codes = inner is not model and shared is not None and shared.frozen
        check_trainable(self._plain_model)
        self._known_rows: tuple[Any, Sequence[tuple[str, ...]]] = (None, ())
        self._check_rows()
        self._cache_folder = cache_folder or Path(str(self.args.output_dir)) / CACHE_FOLDER
        self.balancer = balancer or LossBalancer(max_steps=self._num_batches())
        self._sums: dict[str, list[Tensor]] = defaultdict(list)
        self._factors: dict[str, float] = {}
        # Of a stream, which goes on with it.
        self._first_batch = 0
        self._guard = DivergenceGuard(self._plain_model, self.args.max_skipped_steps)
        if self.args.gradient_cache_chunk is not None:
            config = self._plain_model.config
            check_config(config, self.args.gradient_cache_chunk, self.is_fsdp_enabled)
        check_cache(self)
        self.add_callback(ShuffleAnew)
        self._timed: TimedCheckpoints | None = None
        if self.args.save_minutes is not None:
            self._timed = TimedCheckpoints(self.args.save_minutes, at_end=self.args.save_at_end)
            self.add_callback(self._timed)
        if not self.args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(ShortProgress)

    args: CodeBindTrainingArguments
    train_dataset: Any

    @property
    def _plain_model(self) -> Any:
        """The model without what wraps it; unwrapping looks at every module, and a step asks several times."""
        if self._unwrapped[0] is not self.model:
            self._unwrapped = (self.model, self.accelerator.unwrap_model(self.model))
        return self._unwrapped[1]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0, for not counted: the library's estimate is that of one language model, and a walk over all parameters."""
        return 0

    def get_train_dataloader(self) -> DataLoader:
        """Batches that are homogeneous in their modalities, shuffled anew every epoch."""
        if isinstance(self.train_dataset, StreamedDataset):
            return stream_loader(self, self._first_batch)
        # By now weights of a checkpoint to go on from are loaded, and codebooks started without autocast.
        self.train_dataset = with_cached_towers(self, self._cache_folder)
        return self.accelerator.prepare(self._batches())

    def _check_rows(self) -> None:
        """Refuse rows, or loaders of them, that nothing can be trained with."""
        if isinstance(self.train_dataset, StreamedDataset):
            if self.args.dataloader_persistent_workers:
                raise ValueError("dataloader_persistent_workers: a stream starts its readers anew. Fix: False.")
            self.train_dataset = useful_stream(self._plain_model, self.train_dataset)
        elif self.train_dataset is not None:
            check_useful(self._plain_model, self._row_modalities())

    def _row_modalities(self) -> Sequence[tuple[str, ...]]:
        """The modalities of every row to train on; rows that do not tell are looked at once."""
        if self._known_rows[0] is not self.train_dataset:
            self._known_rows = (self.train_dataset, row_modalities(self.train_dataset))
        return self._known_rows[1]

    def _num_batches(self) -> int:
        """About as many batches as the run has on every process."""
        if self.args.max_steps > 0:
            return self.args.max_steps * self.args.gradient_accumulation_steps
        num_rows = 0 if self.train_dataset is None else len(self.train_dataset)
        size = self._train_batch_size * self.args.world_size
        return max(1, int(self.args.num_train_epochs * num_rows / size))

    def _batches(self) -> DataLoader:
        if isinstance(self.train_dataset, StreamedDataset):
            # The same on every process, which may then see other rows.
            return stream_loader(self, shares=False)
        sampler = ModalityBatchSampler(
            self.train_dataset,
            batch_size=self._train_batch_size,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            drop_last=self.args.dataloader_drop_last,
            modalities=self._row_modalities(),
            num_processes=self.args.world_size,
        )
        useful = useful_sets(self._plain_model, sampler.groups)
        sampler.groups = {names: group for names, group in sampler.groups.items() if names in useful}
        workers = {"num_workers": self.args.dataloader_num_workers, "rank": self.args.process_index}
        return DataLoader(
            self.train_dataset,
            batch_sampler=UnevenBatches(sampler, draws=isinstance(self.train_dataset, Items)),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            worker_init_fn=partial(in_own_group, begin=partial(seed_worker, **workers)),
        )

    def train(  # type: ignore[override]
        self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any
    ) -> Any:
        """Like `Trainer.train`; starts the codebooks by k-means first, unless it resumes.

        Args:
            resume_from_checkpoint: a folder, or `True` for the newest complete checkpoint in `output_dir`.

        Raises:
            OSError: the checkpoint is incomplete, one cannot be written, or a process that loads rows was killed.
            ValueError: `True`, and there is no complete checkpoint.
            FloatingPointError: a gradient or codebook is not finite, and `max_skipped_steps` are left out already.
            RunInterrupted: with `save_minutes`, after SIGINT or SIGTERM and the checkpoint that these cause.
        """
        if self.args.should_save:
            settle(Path(str(self.args.output_dir)))
        self.accelerator.wait_for_everyone()
        if resume_from_checkpoint is True:
            resume_from_checkpoint = self._newest_checkpoint()
        if isinstance(self.train_dataset, StreamedDataset) and resume_from_checkpoint:
            state = TrainerState.load_from_json(os.path.join(str(resume_from_checkpoint), TRAINER_STATE_NAME))
            self._first_batch = state.global_step * self.args.gradient_accumulation_steps
            self.args.ignore_data_skip = True
        model = self._plain_model
        if model.codebooks.shared is not None:
            model.codebooks.shared.frozen = self.args.freeze_shared_codes or self._keeps_shared_codes
        if self.args.init_codebooks and not resume_from_checkpoint:
            with named_workers("dataloader_num_workers"):
                self._start_codebooks(model)
        try:
            with named_workers("dataloader_num_workers"):
                result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        except pickle.UnpicklingError as error:
            raise OSError(
                f"{resume_from_checkpoint}: a file holds more than tensors and is not read, since it could run code. "
                "Fix: resume from a checkpoint that you trust to be as the trainer wrote it."
            ) from error
        finally:
            if self._timed is not None:
                self._timed.restore()
        if self._timed is not None and (number := self._timed.stopped_by or self._timed.came_late):
            self._save_once()
            raise RunInterrupted(number, self.state.global_step, self.state.max_steps)
        return result

    def _start_codebooks(self, model: Any) -> None:
        """k-means for the codebooks that will learn; one that is frozen or has learned before keeps its codes.

        Every process looks at the same batches, and so gets the same codes.
        """
        model.to(self.args.device)
        books = [module for module in model.modules() if isinstance(module, Codebook)]
        settled = [book for book in books if book.frozen or book.num_updates]
        if len(settled) == len(books):
            return
        kept = [{name: value.clone() for name, value in book.state_dict().items()} for book in settled]
        bar = tqdm(
            islice(self._batches(), self.args.init_batches),
            desc="Starting codebooks",
            unit="batch",
            total=self.args.init_batches,
            disable=self.args.disable_tqdm or not self.is_world_process_zero(),
            delay=BAR_DELAY,
        )
        batches = (self._prepare_inputs(batch) for batch in bar)
        model.init_codebooks(batches, seed=self.args.seed)
        for book, state in zip(settled, kept, strict=True):
            book.load_state_dict(state)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one batch under fixed or adaptive weights; keeps every term for the log."""
        training = model.training
        inputs = {**inputs, "return_loss": True}
        if training:
            inputs = augmented(self._plain_model, inputs, self.args)
            self._guard.prepare()
        size = self.args.gradient_cache_chunk if training else None
        with nullcontext() if size is None else in_chunks(self._plain_model, size):
            output = model(**inputs)
        factors = self._warmup_factors(output.loss_terms) if training else {}
        if training:
            self._factors = factors
            if self._is_guarded:
                self._guard.watch(output.loss_terms, output.continuous_embeds)
        if self.args.balance == "adaptive":
            output.loss = self.balancer.weighted(output.loss_terms, training, factors)
        elif factors:
            config = self._plain_model.config
            weights = {name: factors.get(name, 1.0) * config.loss_weight(name) for name in output.loss_terms}
            output.loss = torch.stack([weights[name] * term for name, term in output.loss_terms.items()]).sum()
        if training:
            for name, value in output.loss_terms.items():
                self._sums[name].append(value.detach())
        return (output.loss, output) if return_outputs else output.loss

    @property
    def _is_guarded(self) -> bool:
        """Not with a scaler of float16, which leaves out steps by itself and lowers its scale."""
        return self.accelerator.scaler is None

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if self._is_guarded and self._guard.refuses(norm, self.state.global_step + 1):
            return 0.0
        return norm

    def _warmup_factors(self, terms: Collection[str]) -> dict[str, float]:
        """What the weights of those of `terms` that only begin (`loss_warmup`) are multiplied by at this step."""
        progress = self.state.global_step / max(self.state.max_steps, 1)
        spans = {name: span for name, span in (self.args.loss_warmup or {}).items() if name in terms}
        growing = {name: (start, end) for name, (start, end) in spans.items() if progress < end}
        return {name: max((progress - start) / (end - start), 0.0) for name, (start, end) in growing.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add loss terms, weights, scale and codebook health to a training log."""
        if "loss" in logs and self._sums:
            model = self._plain_model
            for name, values in self._sums.items():
                logs[f"loss/{name}"] = float(torch.stack(values).mean())
                adaptive = self.args.balance == "adaptive"
                weight = self.balancer.weights[name] if adaptive else model.config.loss_weight(name)
                logs[f"weight/{name}"] = weight * self._factors.get(name, 1.0)
            self._sums.clear()
            logs["logit_scale"] = float(model.logit_scale().detach())
            logs.update(codebook_log(model))
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW in four groups: with and without weight decay, pretrained and new modules."""
        target: Any = self.model if model is None else model
        if self.optimizer is None:
            decayed = set(self.get_decay_parameter_names(target))
            groups: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
            for name, parameter in target.named_parameters():
                if parameter.requires_grad:
                    groups[name in decayed, any(part in name for part in NEW_MODULES)].append(parameter)
            rate, new_rate = self.args.learning_rate, self.args.new_module_learning_rate
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = cls(
                [
                    {
                        "params": parameters,
                        "weight_decay": self.args.weight_decay if decays else 0.0,
                        "lr": new_rate if is_new and new_rate is not None else rate,
                    }
                    for (decays, is_new), parameters in sorted(groups.items())
                ],
                **options,
            )
        return self.optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices decay; vectors, position tables and the temperature do not."""
        kept = ("position", "latents", "cls_token", "log_scale", "bias_k", "bias_v")
        return [
            name
            for name, parameter in model.named_parameters()
            if parameter.ndim > 1 and not name.rsplit(".", 1)[-1].startswith(kept)
        ]
