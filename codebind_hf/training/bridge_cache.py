"""Which towers do not learn in a stage, and run once a row for it instead of at every step?"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm.auto import tqdm

from codebind_hf.data.items import Draw, Items, as_items
from codebind_hf.data.pooled_tokens import (
    ROWS_A_FILE,
    PooledItems,
    TokenStore,
    base_of,
    origin_of,
    pool_rows,
    tokens_key,
)
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.model.evaluating import evaluating
from codebind_hf.training.arguments import CodeBindTrainingArguments
from codebind_hf.training.checkpoints import discard
from codebind_hf.training.processes import decided_by_main, done_by_all


logger = logging.getLogger(__name__)

# In the folder of a run.
CACHE_FOLDER = "bridge_cache"
_KEY_DIGITS = 16


def cached_modalities(model: Any, items: Any, arguments: CodeBindTrainingArguments) -> list[str]:
    """The modalities of `items` with a frozen tower that `cache_bridge` asks for: all of them, or those it names.

    Args:
        model (`CodeBindModel`): whose parameters say by `requires_grad` what learns.

    Raises:
        ValueError: one of them has other tokens at every step, or training needs more than its pooled ones; with the
            reason and what to do. Or a modality that the model lacks, or rows of a stream.
    """
    if not arguments.cache_bridge:
        return []
    if isinstance(items, StreamedDataset):
        raise ValueError(
            "cache_bridge: got rows of a stream, which have no numbers to find them by. Fix: read them by number, "
            "without `streaming`, or leave cache_bridge out."
        )
    rows, config = as_items(items), model.config
    present = {name for names in set(rows.row_modalities) for name in names}
    wanted = config.modality_names if arguments.cache_bridge is True else arguments.cache_bridge
    modalities = [config.modality(name) for name in wanted]
    chosen = [each.name for each in modalities if each.name in present and _is_frozen(model.encoders[each.encoder])]
    found = {name: _obstacle(model, rows, name, arguments) for name in chosen}
    for name, obstacle in found.items():
        if obstacle is not None:
            reason, fix = obstacle
            others = ", ".join(other for other in chosen if found[other] is None)
            rest = f"cache others alone (cache_bridge: [{others}])" if others else "leave cache_bridge out"
            raise ValueError(f"cache_bridge: {name} {reason}. Fix: {fix}, or {rest}.")
    return chosen


def check_used(wanted: bool | Sequence[str], cached: Iterable[str]) -> None:
    """Refuse a `cache_bridge` that nothing follows from.

    Args:
        cached: what is cached in any stage.

    Raises:
        ValueError: nothing, or not what is named.
    """
    every = set(cached)
    if wanted and not every:
        raise ValueError(
            "cache_bridge: got no modality whose tower is frozen, so there is none that needs to run only once. Fix: "
            "leave it out; or freeze the bridge: train_bridge_heads false or 'shared' (true also trains CLS tokens, "
            "which towers read), and for a finished bridge order 'bind'."
        )
    if idle := [name for name in dict.fromkeys([] if isinstance(wanted, bool) else wanted) if name not in every]:
        raise ValueError(
            f"cache_bridge: got {', '.join(idle)}, which no row has, or whose tower learns. Fix: leave it out."
        )


def _obstacle(model: Any, items: Items, name: str, arguments: CodeBindTrainingArguments) -> tuple[str, str] | None:
    """Why the tokens of a frozen tower are not the same at every step, or not enough; and what to do."""
    config, modality = model.config, model.config.modality(name)
    encoder = model.encoders[modality.encoder]
    shape = encoder.config
    augmentation = getattr(base_of(items), "augmentation", None)
    learns, of_text = encoder.learns(), modality.encoder == "text"
    has_own = encoder.specific_head is not None
    decodes = modality.encoder in model.decoders and config.loss_weight("recon") > 0
    randomly = any(float(rate) for rate in (shape.dropout, shape.attention_dropout, shape.drop_path_rate))
    # Where nothing that is private learns, the private parts of frozen encoders are judged too.
    judges_own = not any(model._is_reconstructed(each) for each in model.encoders)
    obstacles = (
        (
            augmentation is not None and name in augmentation.operations,
            *("is augmented, anew in every epoch", "leave its augmentation out"),
        ),
        (
            learns and arguments.input_noise and not of_text,
            *("has heads that learn, so that its input gets noise", "input_noise: 0"),
        ),
        (learns and randomly, "has heads that learn, so that its tower has dropout", "no dropout in its encoder"),
        (shape.fps_start == "random", "has points whose groups start at random", "fps_start: first"),
        (
            learns and has_own and encoder.specific_learns() or judges_own and encoder.specific_readout is not None,
            *("is trained with its specific part, which reads more than pooled tokens", "freeze all of its encoder"),
        ),
        (learns and not has_own and decodes, "is reconstructed, from all tokens", "freeze all of its encoder"),
        (config.parity_losses, "is judged by parity_losses, on all tokens", "parity_losses: false"),
        (config.output_hidden_states, "is asked for hidden states", "output_hidden_states: false"),
    )
    return next(((reason, fix) for holds, reason, fix in obstacles if holds), None)


def _is_frozen(encoder: Any) -> bool:
    """Whether its tower does not learn; heads may."""
    return not any(parameter.requires_grad for parameter in encoder.tower.parameters())


def check_cache(trainer: Any) -> None:
    """Refuse a `cache_bridge` that the training of `trainer` could not follow.

    Raises:
        ValueError: as `cached_modalities` and `check_used`, or FSDP holds the weights.
    """
    if not trainer.args.cache_bridge or trainer.train_dataset is None:
        return
    if trainer.is_fsdp_enabled:
        raise ValueError("cache_bridge: got it with FSDP, which shares towers out. Fix: leave one of the two out.")
    cached = cached_modalities(trainer._plain_model, trainer.train_dataset, trainer.args)
    check_used(trainer.args.cache_bridge, cached)


def with_cached_towers(trainer: Any, folder: Path) -> Any:
    """The rows of `trainer` with pooled tokens in place of the modalities that `cache_bridge` asks for.

    Rows that are not in `folder` go through their towers now, each on one process; every process must ask. Tokens of
    other weights, rows or settings are removed there.

    Raises:
        ValueError: a row that cannot be processed.
        OSError: the cache is damaged or cannot be written, or a file of a row cannot be read.
    """
    if not trainer.args.cache_bridge or isinstance(trainer.train_dataset, PooledItems):
        return trainer.train_dataset
    model, rows = trainer._plain_model, as_items(trainer.train_dataset)
    model.to(trainer.args.device)
    stores = {}
    for name in cached_modalities(model, rows, trainer.args):
        stores[name] = _opened(model, rows, name, trainer.args, folder)
        _complete(stores[name], model, rows, name, trainer)
    return PooledItems(rows, stores)


def _opened(model: Any, rows: Items, name: str, arguments: CodeBindTrainingArguments, folder: Path) -> TokenStore:
    """What is there of a modality; what is there of other weights or rows goes."""
    base = base_of(rows)
    precision = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "no"

    def checked() -> TokenStore:
        key = tokens_key(model, name, base.fingerprint_of(name), precision)
        own = folder / f"{name}-{key[:_KEY_DIGITS]}"
        for other in folder.glob(f"{name}-*"):
            if other != own:
                discard(other)
        store = TokenStore(own, key, len(base))
        store.scan(check=True)
        return store

    return decided_by_main(checked)


def _complete(store: TokenStore, model: Any, rows: Items, name: str, trainer: Any) -> None:
    """Let every row that is missing go through its tower, a file's worth of them at a time on one of the processes."""
    state, arguments = PartialState(), trainer.args
    places = (place for place, names in enumerate(rows.row_modalities) if name in names)
    positions = sorted({origin_of(rows, Draw(place)).position for place in places})
    # Files of a run that was killed are whole, so that what is left is batched as it would have been.
    blocks = [positions[start : start + ROWS_A_FILE] for start in range(0, len(positions), ROWS_A_FILE)]
    left = [missing for block in blocks if (missing := store.missing(block))]
    mine = left[state.process_index :: state.num_processes]

    def pooled(values: Tensor, mask: Tensor | None) -> Tensor:
        on_device = (None if x is None else x.to(model.device) for x in (values, mask))
        with trainer.accelerator.autocast():
            return model.get_pooled_tokens(name, *on_device)

    def write() -> None:
        with (
            evaluating(model),
            torch.no_grad(),
            tqdm(
                total=sum(map(len, mine)),
                desc=f"Caching {name}",
                unit="row",
                disable=arguments.disable_tqdm or not state.is_main_process or not mine,
            ) as bar,
        ):
            for block in mine:
                found: dict[int, list[Tensor]] = {}
                workers = arguments.dataloader_num_workers
                for position, tokens in pool_rows(base_of(rows), block, name, trainer.data_collator, pooled, workers):
                    found[position] = tokens
                    bar.update()
                store.write(found)

    done_by_all(write)
    store.scan()
    count, fresh = len(positions), sum(map(len, left))
    logger.info("cache_bridge: %s of %s rows, %s of them now, in %s.", name, f"{count:,}", f"{fresh:,}", store.folder)
