"""Is a codebook collapsing? One warning for each that does, while there is time to stop the run."""

import logging
from typing import Any

import torch
from transformers import TrainerCallback

from codebind_hf.model.codebooks import Codebook
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.training.arguments import CodeBindTrainingArguments


logger = logging.getLogger(__name__)


class CodebookHealthCallback(TrainerCallback):
    """Warns once for every codebook that collapses, with what to do about it.

    A codebook has collapsed when its usage, or its perplexity as a share of its codes, is below `least_share`: the
    numbers of `codebook_log`, over its recent updates. Frozen codebooks are left alone. One that recovers leaves
    `collapsed` without a word.

    Args:
        least_share: of the codes; in the paper's appendix table 8 conventional quantization reaches a perplexity of
            9 % of its shared codes, the compositional one 65 %.
        warmup_updates: updates of a codebook before it is judged; its moving averages need some hundred.

    Raises:
        ValueError: a share outside (0, 1], or fewer than 0 updates.
    """

    def __init__(self, least_share: float = 0.1, warmup_updates: int = 100) -> None:
        if not 0 < least_share <= 1:
            raise ValueError(f"least_share: got {least_share}; it must be above 0 and at most 1.")
        if warmup_updates < 0:
            raise ValueError(f"warmup_updates: got {warmup_updates}; it must be 0 or more.")
        self.least_share, self.warmup_updates = least_share, warmup_updates
        self.collapsed: set[str] = set()
        self._warned: set[str] = set()

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, Any] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Judge every codebook that learns, whenever a training step is logged."""
        if "loss" not in (logs or {}):
            return
        health = codebook_log(model)
        for name, book in _learning_books(model).items():
            usage, perplexity = (health[f"codebook/{name}/{kind}"] for kind in ("usage", "perplexity"))
            if int(book.num_updates) < self.warmup_updates:
                continue
            if min(usage, perplexity / book.num_codes) >= self.least_share:
                self.collapsed.discard(name)
                continue
            self.collapsed.add(name)
            if name not in self._warned and state.is_world_process_zero:
                logger.warning(
                    "codebook %r has collapsed: %.1f %% of its %d codes are in use, with a perplexity of %.1f (below "
                    "%.0f %%), after %d updates. Fix: %s.",
                    name,
                    100 * usage,
                    book.num_codes,
                    perplexity,
                    100 * self.least_share,
                    int(book.num_updates),
                    _advice(name, model, args),
                )
            self._warned.add(name)


def codebook_log(model: Any) -> dict[str, float]:
    """Usage and perplexity of every codebook over its recent updates."""
    logs = {}
    for name, module in model.codebooks.named_modules():
        if isinstance(module, Codebook):
            share = module.usage / module.usage.sum().clamp(min=1e-12)
            name = name.removeprefix("specific.")
            # A code counts as used when it got a hundredth of its fair share.
            logs[f"codebook/{name}/usage"] = float((share > 0.01 / module.num_codes).float().mean())
            logs[f"codebook/{name}/perplexity"] = float(torch.exp(-(share * (share + 1e-12).log()).sum()))
    return logs


def _learning_books(model: CodeBindModel) -> dict[str, Codebook]:
    """Codebooks that are not frozen, named as in `codebook_log`."""
    books = {name.removeprefix("specific."): module for name, module in model.codebooks.named_modules()}
    return {name: book for name, book in books.items() if isinstance(book, Codebook) and not book.frozen}


def _advice(name: str, model: CodeBindModel, args: CodeBindTrainingArguments) -> str:
    """What is left to try, the likeliest cure first."""
    config = model.config
    size, term = ("num_shared_codes", "cuni") if name == "shared" else ("num_specific_codes", "uni")
    cures = {
        "set `restart_codes: true` in the model's configuration": not config.restart_codes,
        "let k-means start it (`init_codebooks: true`)": not args.init_codebooks,
        f"give the loss term `{term}` a weight": not config.loss_weight(term),
        f"lower the learning rate, check that its inputs differ, or take fewer codes (`{size}`)": True,
    }
    return "; or ".join(cure for cure, is_left in cures.items() if is_left)
