"""Training arguments: transformers' own, and what binding modalities adds."""

import copy
from dataclasses import dataclass, field

from transformers import TrainingArguments

from codebind_hf.model.configuration_codebind import LOSS_TERMS
from codebind_hf.processing.values import check_number, fits
from codebind_hf.training.adapters import LORA_MODULES


BALANCES = ("fixed", "adaptive")
BRIDGE_HEADS = (False, True, "shared")
MODES = ("full", "heads", "lora", "lens")
_LEAST = {"input_noise": 0, "view_noise": 0, "init_batches": 1, "lora_rank": 1, "max_skipped_steps": 0}
_PLAIN_FOLDER = "tmp_trainer"


@dataclass
class CodeBindTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` plus the choices that CodeBind needs.

    `remove_unused_columns` has no effect: the collator makes what `forward` takes of columns that have other names.

    Raises:
        ValueError: a value that is not allowed; the message names the field.
    """

    train_mode: str = field(
        default="full",
        metadata={
            "help": "What learns in a trained encoder: 'full', 'heads' (both heads and the CLS token), 'lora' (heads, "
            "CLS token and an adapter), or 'lens' (heads, CLS token, stem and lens, or the first blocks)."
        },
    )
    train_bridge_heads: bool | str = field(
        default=False,
        metadata={
            "help": "While targets bind, also train heads, CLS token and decoder of text and vision; 'shared' trains "
            "their shared heads alone, which costs little and moves no specific part."
        },
    )
    freeze_towers: list[str] | None = field(
        default=None,
        metadata={
            "help": "Modalities whose towers stay as they are where their heads learn, whatever the mode: of a "
            "finished network that a bridge is made with, such as [text]."
        },
    )
    lora_rank: int = field(default=4, metadata={"help": "Rank of the adapter, whose alpha is equal to it."})
    lora_layers: list[int] | None = field(
        default=None,
        metadata={"help": "Blocks with an adapter, counted from 0; None is the last half (the paper's)."},
    )
    lora_modules: str = field(
        default="all", metadata={"help": "Where adapters are: 'all' (attention and MLP) or 'attention'."}
    )
    new_module_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate of specific heads and decoders; None takes learning_rate."},
    )
    balance: str = field(
        default="fixed",
        metadata={"help": "Loss weights: 'fixed' (the configuration's) or 'adaptive' (LossBalancer)."},
    )
    loss_warmup: dict[str, list[float]] | None = field(
        default=None,
        metadata={
            "help": "Loss terms whose weight grows: 'decorr: [0.3, 0.9]' is 0 up to 30 % of the steps and whole from "
            "90 % on. A strong decorrelation from the first step keeps both parts from learning anything private."
        },
    )
    freeze_shared_codes: bool = field(
        default=False,
        metadata={"help": "Keep the shared codebook as it is while training."},
    )
    init_codebooks: bool = field(
        default=True,
        metadata={"help": "Start the codebooks by k-means before the first step (never when resuming)."},
    )
    init_batches: int = field(
        default=16,
        metadata={"help": "Batches that the k-means start of the codebooks sees."},
    )
    input_noise: float = field(
        default=0.0,
        metadata={
            "help": "Noise on the inputs of the trained encoders while training, in standard deviations of a sample."
        },
    )
    view_noise: float = field(
        default=1.0,
        metadata={
            "help": "Noise on the second view of an input that the loss term 'views' compares with the first, in "
            "standard deviations of a sample; of a point cloud, the second view is another draw of its points."
        },
    )
    save_minutes: float | None = field(
        default=None,
        metadata={
            "help": "Minutes between checkpoints, beside those of save_strategy; SIGINT and SIGTERM then save before "
            "the run ends. Where saving takes long, they are further apart, so that it costs at most about 2 % of the "
            "time; 0 saves at every step."
        },
    )
    save_at_end: bool = field(
        default=False,
        metadata={"help": "With save_minutes: also at the last step."},
    )
    max_skipped_steps: int = field(
        default=0,
        metadata={
            "help": "Steps that may be left out because gradients or codebooks are not finite; one more ends the run."
        },
    )
    cache_bridge: bool | list[str] = field(
        default=False,
        metadata={
            "help": "Let the towers that do not learn run once a row and keep what they give on the disk: True is all "
            "of them, a list names modalities. Those are then neither read nor processed while training."
        },
    )
    gradient_cache_chunk: int | None = field(
        default=None,
        metadata={
            "help": "Samples of a modality that its encoder is given at a time while training, with the gradients of "
            "the whole batch; None takes all at once. Memory is that of a chunk, and every encoder runs twice."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check()

    @classmethod
    def of(cls, args: TrainingArguments | None) -> "CodeBindTrainingArguments":
        """`args` with the defaults of what they lack; `None` is what `Trainer` takes for it."""
        if isinstance(args, cls):
            return args
        made = cls(_PLAIN_FOLDER) if args is None else copy.copy(args)
        # Fields of ours with their defaults are attributes of the class; `args` stay as they are.
        made.__class__ = cls
        made._check()  # type: ignore[attr-defined]
        return made  # type: ignore[return-value]

    def _check(self) -> None:
        self.remove_unused_columns = False
        for name, value, allowed in (
            ("train_mode", self.train_mode, MODES),
            ("balance", self.balance, BALANCES),
            ("lora_modules", self.lora_modules, tuple(LORA_MODULES)),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(map(repr, allowed))}.")
        if self.train_bridge_heads not in BRIDGE_HEADS:
            choices = ", ".join(map(repr, BRIDGE_HEADS))
            raise ValueError(f"train_bridge_heads: got {self.train_bridge_heads!r}; allowed: {choices}.")
        for name, span in (self.loss_warmup or {}).items():
            if name not in LOSS_TERMS:
                raise ValueError(f"loss_warmup: got {name!r}; allowed: {', '.join(map(repr, LOSS_TERMS))}.")
            if not isinstance(span, list | tuple) or len(span) != 2 or not 0 <= span[0] <= span[1] <= 1:
                raise ValueError(
                    f"loss_warmup[{name!r}]: got {span!r}; it must be the shares of the steps where the growth starts "
                    "and ends, such as [0.3, 0.9]."
                )
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}; it must be {least} or more.")
        if self.save_minutes is not None and not self.save_minutes >= 0:
            raise ValueError(f"save_minutes: got {self.save_minutes}; it must be 0 or more, or None for no such.")
        if self.ddp_find_unused_parameters is None:
            # A batch rarely has every modality, and activation checkpointing would turn the library's default off.
            self.ddp_find_unused_parameters = True
        chunk = self.gradient_cache_chunk
        if chunk is not None and (not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 1):
            raise ValueError(
                f"gradient_cache_chunk: got {chunk!r}; it must be a whole number of 1 or more, or None for no chunks."
            )
        self._check_cache_bridge()
        self._check_counts()

    def _check_counts(self) -> None:
        for name, least in (
            ("per_device_train_batch_size", 1),
            ("gradient_accumulation_steps", 1),
            ("dataloader_num_workers", 0),
        ):
            check_number(name, getattr(self, name), least, whole=True)
        if self.max_steps != -1 and not self.max_steps >= 1:
            raise ValueError(f"max_steps: got {self.max_steps}; allowed: 1 or more, or -1 to count epochs.")
        if self.max_steps == -1 and not self.num_train_epochs > 0:
            raise ValueError(f"num_train_epochs: got {self.num_train_epochs}; it must be greater than 0.")

    def _check_cache_bridge(self) -> None:
        if not fits(self.cache_bridge, bool | list[str]) or self.cache_bridge == []:
            raise ValueError(
                f"cache_bridge: got {self.cache_bridge!r}; allowed: true, false, or modalities, such as ['text']."
            )
