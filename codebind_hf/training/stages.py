"""Stages: first the image-text bridge, then the other modalities against the frozen bridge; or only one of the two.

`video` has no encoder of its own: it learns with the bridge, in the vision encoder that later stages freeze. The other
targets bind jointly by default. With frozen bridges and a frozen shared codebook (the defaults, not the paper's
recipes) nothing that one target learns can move another, so the order does not matter, and one stage reuses every pass
through the bridge.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from codebind_hf.data.items import Items, ItemView, as_items
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.model.modalities import BRIDGE_ENCODERS, MODALITIES, Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.objective import aligned_pairs
from codebind_hf.renamed import renamed_attribute, renamed_keywords


ORDERS = ("joint", "sequential", "bind")
# What rows that have nothing to be aligned to may lack.
TEXT_FIX = """make text of labels: text_from_label (--text_from_label "a photo of a {}")"""
_BRIDGES = ("text", "image")
# Rows that a message names.
_NAMED = 3


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One call of the trainer.

    Args:
        name: for logs and folders.
        trained: modalities whose encoders learn.
        modalities: modalities that its batches hold.
    """

    name: str
    trained: tuple[str, ...]
    modalities: tuple[str, ...]

    senses = renamed_attribute("senses", "modalities")


@renamed_keywords(senses="modalities")
def plan_stages(modalities: Iterable[str], order: str = "joint") -> list[Stage]:
    """The stages for data that has these modalities.

    Without both text and image there is no bridge to freeze: all modalities learn together in one stage.

    Args:
        order: "joint" or "sequential" binding of the targets after the bridge; or "bind", for a bridge that a
            checkpoint brings: one stage of all targets, or without targets one of text and vision.

    Raises:
        ValueError: fewer than two modalities, no bridge modality, or an unknown order.
    """
    if order not in ORDERS:
        raise ValueError(f"order: got {order!r}; allowed: {', '.join(map(repr, ORDERS))}.")
    names = tuple(dict.fromkeys(modalities))
    bridges = tuple(name for name in _BRIDGES if name in names)
    if len(names) < 2 or not bridges:
        raise ValueError(
            f"modalities: the data has {', '.join(names) or 'none'}; training needs text or image, and another that "
            f"shares rows with it. Fix: add or rename a column (--columns old=new), or {TEXT_FIX}."
        )
    with_bridge = tuple(name for name in names if _encoder(name) in BRIDGE_ENCODERS)
    targets = tuple(name for name in names if name not in with_bridge)
    if order == "bind":
        return [Stage("bind", targets, (*with_bridge, *targets)) if targets else Stage("bridge", names, names)]
    if len(bridges) < 2:
        return [Stage("joint", names, names)]
    stages = [Stage("bridge", with_bridge, with_bridge)]
    if order == "joint" and targets:
        stages.append(Stage("bind", targets, (*with_bridge, *targets)))
    elif targets:
        stages.extend(Stage(f"bind-{target}", (target,), (*with_bridge, target)) for target in targets)
    return stages


def _encoder(name: str) -> str:
    return MODALITIES[name].encoder if name in MODALITIES else name


class ModalityView(ItemView):
    """The rows of a data set that can be aligned, with only the modalities asked for.

    These are the rows with text, an image or a video, and at least one more of `modalities`.

    Args:
        items: a `PreparedDataset`, a `LazyDataset`, or prepared items whose `tensors` are named as in `modalities`.
        names: modalities to keep.
        modalities: names of their tensors.
        required: keep only rows that have one of these, default any.
    """

    @renamed_keywords(senses="names")
    def __init__(
        self,
        items: Items | Sequence[dict[str, Any]],
        names: Iterable[str],
        modalities: dict[str, Modality],
        required: Iterable[str] | None = None,
    ) -> None:
        whole, kept = as_items(items), [name for name in names if name in modalities]
        needed = set(kept if required is None else required)
        bridges = {*_BRIDGES, "video"}
        positions = [
            position
            for position, present in enumerate(map(set(kept).intersection, whole.row_modalities))
            if len(present) > 1 and not needed.isdisjoint(present) and not bridges.isdisjoint(present)
        ]
        super().__init__(whole, positions, kept)


def learning_modalities(model: CodeBindModel) -> frozenset[str]:
    """The modalities that alignment teaches: those whose encoders learn, or all where none does or all are judged."""
    trained = model.trained_modalities()
    return trained if trained and not model.config.parity_losses else frozenset(model.config.modality_names)


def can_be_aligned(model: CodeBindModel, names: Collection[str], learning: Collection[str]) -> bool:
    """Whether rows with the modalities `names` have a pair with a weight, one of which is in `learning`."""
    if not model.config.loss_weight("align"):
        return True
    pairs = ((anchor, other) for anchor, other, _ in aligned_pairs(model.config) if {anchor, other} <= set(names))
    return any(not set(pair).isdisjoint(learning) for pair in pairs)


def useful_sets(model: CodeBindModel, sets: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Of sets of modalities those whose rows can teach what learns."""
    learning = learning_modalities(model)
    return {names for names in set(sets) if can_be_aligned(model, names, learning)}


def check_useful(model: CodeBindModel, rows: Sequence[tuple[str, ...]]) -> None:
    """Warn of rows that can teach nothing, which training leaves out.

    Args:
        rows: the modalities of every row.

    Raises:
        ValueError: no row can teach anything.
    """
    useful = useful_sets(model, rows)
    useless = [position for position, names in enumerate(rows) if tuple(names) not in useful]
    if not useless:
        return
    named = ", ".join(f"row {position} ({' + '.join(rows[position]) or 'nothing'})" for position in useless[:_NAMED])
    others = f" and {len(useless) - _NAMED} more" if len(useless) > _NAMED else ""
    learning = ", ".join(name for name in model.config.modality_names if name in learning_modalities(model))
    what = f"no two modalities to align of which one learns ({learning})"
    if len(useless) == len(rows):
        raise ValueError(
            f"train_dataset: {named}{others} have {what}, and no other row is there. Fix: rows with text or an image "
            f"beside what learns, or {TEXT_FIX}."
        )
    logger.warning(
        "train_dataset: %d of %d rows are left out, %s%s: they have %s.", len(useless), len(rows), named, others, what
    )


def useful_stream(model: CodeBindModel, stream: StreamedDataset) -> StreamedDataset:
    """The rows of a stream that can teach what learns; a stream that was restricted already stays as it is."""
    if stream.bridges or not model.config.loss_weight("align"):
        return stream
    return stream.restricted(stream.modalities, sorted(learning_modalities(model)), (*_BRIDGES, "video"))
