"""From rows to embeddings: every modality of every row through processor and model, in batches, without gradients."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from codebind_hf.data.choices import ON_ERROR
from codebind_hf.data.collator import ATTENTION_MASK, CodeBindCollator
from codebind_hf.data.items import CAPTIONS, Items, row_modalities
from codebind_hf.data.row_tensors import class_names_of
from codebind_hf.model.evaluating import evaluating
from codebind_hf.model.modalities import MODALITIES, Modality
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.renamed import renamed_attribute, renamed_keywords


logger = logging.getLogger(__name__)


class Rows(Protocol):
    """What rows may come in: a list, a `datasets.Dataset`, a manifest, prepared rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Any: ...


@dataclass
class EmbeddedModality:
    """What the model makes of one modality of a set of rows.

    Args:
        positions (`Tensor` of shape `(items,)`): the rows that have this modality.
        embeds, continuous_embeds (`Tensor` of shape `(items, shared_dim)`): shared part after and before quantization.
        specific_embeds, continuous_specific_embeds (`Tensor` of shape `(items, specific_dim)`, *optional*): the
            specific part likewise; `None` for a modality that has none, such as text.
        shared_codes, specific_codes (`Tensor` of shape `(items, segments)`, *optional*): ids of the picked codes.
    """

    positions: Tensor
    embeds: Tensor
    continuous_embeds: Tensor
    specific_embeds: Tensor | None = None
    continuous_specific_embeds: Tensor | None = None
    shared_codes: Tensor | None = None
    specific_codes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, items: Tensor) -> "EmbeddedModality":
        """The chosen items (positions or a mask over the items of this modality), in that order."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        taken: dict[str, Any] = {name: None if value is None else value[items] for name, value in values.items()}
        return EmbeddedModality(**taken)


@dataclass
class Failure:
    """One item that could not be embedded: position of its row, its modality and why."""

    position: int
    modality: str
    message: str


@dataclass
class EmbeddedSet:
    """A set of rows after the model: one `EmbeddedModality` for each modality that any row has.

    Args:
        modalities: by modality name.
        ids, labels: of every row, `None` where a row has none, or several labels.
        attributes: of every row, an empty dictionary where a row has none.
        failures: items left out because of `on_error="skip"`.
        label_sets: all labels of every row, where any row has several; else empty.
        captions: all texts, where any row has several, with positions that repeat; `modalities["text"]` holds the
            first of every row.
    """

    modalities: dict[str, EmbeddedModality]
    ids: list[str | None]
    labels: list[str | None]
    attributes: list[dict[str, str | int]]
    failures: list[Failure] = field(default_factory=list)
    label_sets: list[tuple[str, ...]] = field(default_factory=list)
    captions: EmbeddedModality | None = None

    senses = renamed_attribute("senses", "modalities")

    def __len__(self) -> int:
        return len(self.ids)

    def both(self, one: str, other: str) -> tuple[EmbeddedModality, EmbeddedModality]:
        """The two modalities, restricted to the rows that have both, in the same order."""
        first, second = self.modalities[one], self.modalities[other]
        shared = first.positions[torch.isin(first.positions, second.positions)]
        return first.take(items_at(first.positions, shared)), second.take(items_at(second.positions, shared))

    def all_of_both(self, one: str, other: str) -> tuple[EmbeddedModality, EmbeddedModality]:
        """As `both`, but with all captions of the rows where texts are asked for; then positions may repeat."""
        first, second = self.both(one, other)
        if self.captions is None or "text" not in (one, other):
            return first, second
        texts = self.captions.take(torch.isin(self.captions.positions, first.positions))
        return (texts, second) if one == "text" else (first, texts)

    def only(self, rows: Tensor) -> "EmbeddedSet":
        """The set restricted to some rows; positions keep naming the rows of the whole set."""
        kept = {
            name: modality.take(torch.isin(modality.positions, rows)) for name, modality in self.modalities.items()
        }
        modalities = {name: modality for name, modality in kept.items() if len(modality)}
        captions = self.captions and self.captions.take(torch.isin(self.captions.positions, rows))
        return replace(self, modalities=modalities, captions=captions)


class ClassEmbeds(NamedTuple):
    """Class prototypes of shape `(classes, shared_dim)`, after and before quantization of the texts."""

    embeds: Tensor
    continuous_embeds: Tensor


@renamed_keywords(senses="modalities")
def embed_dataset(
    model: CodeBindModel,
    processor: CodeBindProcessor | None,
    rows: Rows,
    batch_size: int = 64,
    modalities: Iterable[str] | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> EmbeddedSet:
    """Embed every modality of every row that the model can read.

    The model runs in evaluation mode; each of its modules gets its training flag back. Of a row with several captions
    all are embedded, see `EmbeddedSet.captions`.

    Args:
        model: a `CodeBindModel`.
        processor: its `CodeBindProcessor`; not used for prepared rows.
        rows: anything with `len` and integer positions that yields row dictionaries, or prepared rows with `tensors`.
        batch_size: rows at a time.
        modalities: modality names to embed; by default every modality that the model has.
        on_error: "raise" stops at the first item that cannot be processed; "skip" leaves it out and lists it in
            `failures`.
        progress: show a progress bar.

    Raises:
        ValueError: no rows, an unknown modality, a wrong `on_error` or `batch_size`, or (with "raise") an item that
            the processor refuses; the message names row and modality.
        OSError: (with "raise") a file of a row cannot be read.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error: got {on_error!r}; allowed: {', '.join(map(repr, ON_ERROR))}.")
    if batch_size < 1 or len(rows) == 0:
        raise ValueError(f"rows, batch_size: got {len(rows)} rows in batches of {batch_size}; both must be 1 or more.")
    encoder = _Encoder(model, processor, _wanted(model, modalities), on_error)
    row_at = rows.whole if isinstance(rows, Items) else rows.__getitem__
    with evaluating(model), torch.inference_mode():
        for start in tqdm(range(0, len(rows), batch_size), desc="Embedding", unit="batch", disable=not progress):
            stop = min(start + batch_size, len(rows))
            # A lazy row that cannot be read and is skipped is a row of nothing.
            encoder.add(start, [row_at(position) or {} for position in range(start, stop)])
    return encoder.result()


def modalities_to_read(model: CodeBindModel, rows: Any, name: str = "rows") -> list[str]:
    """The modalities of rows that a model reads, in its order; others are named in the log.

    Args:
        rows: that know their `row_modalities`, or a list.
        name: of the rows, for messages.

    Raises:
        ValueError: there is none.
    """
    present = {each for names in set(row_modalities(rows)) for each in names}
    known = model.config.modality_names
    found = [each for each in known if each in present]
    # What else the dictionaries of a list hold need not be a modality.
    others = sorted(each for each in present - set(known) if each in MODALITIES or not isinstance(rows, list))
    if not found:
        raise ValueError(
            f"{name}: no row has a modality that this model reads; the rows have "
            f"{', '.join(sorted(present)) or 'none'}, the model reads {', '.join(known)}. Fix: other rows, other "
            "names for columns (--columns old=new), or another checkpoint."
        )
    if others:
        logger.warning(
            "%s: %s is left out, which this model does not read; it reads %s.",
            *(name, ", ".join(others), ", ".join(known)),
        )
    return found


def embed_texts(
    model: CodeBindModel, processor: CodeBindProcessor | None, texts: Sequence[str], batch_size: int = 64
) -> EmbeddedModality:
    """Embed texts; item i of the result is text i. Errors are those of `embed_dataset`."""
    rows = [{"text": text} for text in texts]
    return embed_dataset(model, processor, rows, batch_size, modalities=("text",), progress=False).modalities["text"]


def class_embeddings(
    model: CodeBindModel,
    processor: CodeBindProcessor | None,
    class_names: Sequence[str],
    templates: Sequence[str] = ("a photo of a {}",),
) -> ClassEmbeds:
    """Prototype of each class: mean over the templates of the unit text embeddings, of unit norm again.

    Args:
        class_names: what replaces `{}` in a template.
        templates: texts with one `{}` each.

    Raises:
        ValueError: no class, no template, or a template without `{}`.
    """
    if not len(class_names) or not len(templates):
        raise ValueError(
            f"class_names, templates: got {len(class_names)} classes and {len(templates)} templates; give one or more."
        )
    check_templates(templates)
    texts = [template.replace("{}", name) for name in class_names for template in templates]
    embedded = embed_texts(model, processor, texts)
    shape = (len(class_names), len(templates), -1)
    return ClassEmbeds(*(_unit_mean(part.reshape(shape)) for part in (embedded.embeds, embedded.continuous_embeds)))


def check_templates(templates: Sequence[str]) -> None:
    """Refuse a template without `{}`."""
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"templates: got {template!r}; a template holds {{}} where the class name belongs.")


def modality_inputs(
    processor: CodeBindProcessor | None, modality: Modality, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Tensor]:
    """Model inputs for one modality of rows that all have it; prepared rows are stacked, raw ones processed."""
    batch = CodeBindCollator(processor)([_only(row, modality)[0] for row in rows])
    return {name: batch[name] for name in (modality.tensor, ATTENTION_MASK) if name in batch}


def has_modality(row: Mapping[str, Any], modality: Modality) -> bool:
    """Whether a raw or prepared row has this modality."""
    if "tensors" in row:
        return modality.tensor in row["tensors"]
    return row.get(modality.name) is not None


class _Encoder:
    """Collects, batch by batch, what the model makes of each modality."""

    def __init__(
        self, model: CodeBindModel, processor: CodeBindProcessor | None, modalities: Sequence[Modality], on_error: str
    ) -> None:
        self.model, self.processor, self.modalities, self.on_error = model, processor, modalities, on_error
        self.parts: dict[str, list[EmbeddedModality]] = {}
        self.rows: list[tuple[str | None, tuple[str, ...], dict[str, str | int]]] = []
        self.failures: list[Failure] = []

    def add(self, start: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += [
            (row.get("id"), tuple(class_names_of([row.get("label")])), dict(row.get("attributes") or {}))
            for row in rows
        ]
        for modality in self.modalities:
            present = [
                (start + offset, one)
                for offset, row in enumerate(rows)
                if has_modality(row, modality)
                for one in _only(row, modality)
            ]
            if present:
                self._add_modality(modality, *map(list, zip(*present, strict=True)))

    def _add_modality(self, modality: Modality, positions: list[int], rows: list[Mapping[str, Any]]) -> None:
        try:
            inputs = modality_inputs(self.processor, modality, rows)
        except (ValueError, OSError) as error:
            if len(rows) > 1:  # find the culprit: the others are still good
                for position, row in zip(positions, rows, strict=True):
                    self._add_modality(modality, [position], [row])
                return
            self._fail(modality, positions[0], rows[0], error)
            return
        output = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()})
        self.parts.setdefault(modality.name, []).append(_modality_of(output, modality.name, positions))

    def _fail(self, modality: Modality, position: int, row: Mapping[str, Any], error: ValueError | OSError) -> None:
        name = f"row {position}" + (f" ({row['id']})" if row.get("id") else "")
        if self.on_error == "raise":
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(f"{name}, {modality.name}: {error}") from error
        self.failures.append(Failure(position, modality.name, str(error)))

    def result(self) -> EmbeddedSet:
        ids, label_sets, attributes = (list(column) for column in zip(*self.rows, strict=True))
        modalities = {name: _joined(parts) for name, parts in self.parts.items()}
        captions = None
        if "text" in modalities and (firsts := _firsts(modalities["text"].positions)) is not None:
            captions, modalities["text"] = modalities["text"], modalities["text"].take(firsts)
        labels = [names[0] if len(names) == 1 else None for names in label_sets]
        several = label_sets if any(len(names) > 1 for names in label_sets) else []
        return EmbeddedSet(modalities, ids, labels, attributes, self.failures, several, captions)


def _only(row: Mapping[str, Any], modality: Modality) -> list[dict[str, Any]]:
    """A raw or prepared row with no modality but one; several where it is text with several captions."""
    is_text = modality.name == "text"
    if "tensors" not in row:
        value = row[modality.name]
        values = value if is_text and isinstance(value, (list, tuple)) else [value]
        return [{"id": row.get("id"), modality.name: each} for each in values]
    captions = row.get(CAPTIONS, ()) if is_text else ()
    names = (modality.tensor, ATTENTION_MASK) if is_text else (modality.tensor,)
    return [
        {"id": row.get("id"), "tensors": {name: tensors[name] for name in names if name in tensors}}
        for tensors in captions or [row["tensors"]]
    ]


def _firsts(positions: Tensor) -> Tensor | None:
    """Items that are the first of their row, of sorted `positions`; `None` where every row has one."""
    is_first = torch.cat([positions.new_ones(1), positions.diff()]) > 0
    return None if bool(is_first.all()) else is_first.nonzero().squeeze(1)


def _modality_of(output: Any, name: str, positions: list[int]) -> EmbeddedModality:
    codes = (output.codes or {}).get(name)
    return EmbeddedModality(
        positions=torch.tensor(positions),
        embeds=_kept(output.embeds[name]),
        continuous_embeds=_kept(output.continuous_embeds[name]),
        specific_embeds=_kept((output.specific_embeds or {}).get(name)),
        continuous_specific_embeds=_kept((output.continuous_specific_embeds or {}).get(name)),
        shared_codes=_kept(getattr(codes, "shared", None)),
        specific_codes=_kept(getattr(codes, "specific", None)),
    )


def _kept(values: Tensor | None) -> Any:
    if values is None:
        return None
    return values.float().cpu() if values.is_floating_point() else values.cpu()


def _joined(parts: list[EmbeddedModality]) -> EmbeddedModality:
    columns = {entry.name: [getattr(part, entry.name) for part in parts] for entry in fields(EmbeddedModality)}
    order = torch.argsort(torch.cat(columns["positions"]), stable=True)
    joined: dict[str, Any] = {
        name: None if values[0] is None else torch.cat(values)[order] for name, values in columns.items()
    }
    return EmbeddedModality(**joined)


def items_at(positions: Tensor, wanted: Tensor) -> Tensor:
    """Which items have the `wanted` positions, in their order."""
    order = torch.argsort(positions)
    return order[torch.searchsorted(positions[order], wanted)]


def _unit_mean(embeds: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(embeds.double(), dim=-1)
    return torch.nn.functional.normalize(unit.mean(dim=1), dim=-1).float()


def _wanted(model: CodeBindModel, modalities: Iterable[str] | None) -> list[Modality]:
    known = model.config.modalities
    wanted = list(known) if modalities is None else list(modalities)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"modalities: got {', '.join(map(repr, unknown))}; this model has {', '.join(known)}.")
    return [known[name] for name in wanted]
