"""Which rows of a gallery belong to this file, or to these words? What a command that searches asks, step by step.

Messages name the flags of `codebind search`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codebind_hf.data.prepared import by_fix
from codebind_hf.evaluation.embedding import EmbeddedModality, embed_dataset, modalities_to_read
from codebind_hf.evaluation.pages.search_page import write_search_page
from codebind_hf.inference.part_search import join_parts
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.media import SUFFIXES
from codebind_hf.processing.sources import kind_of
from codebind_hf.processing.values import nearest


@dataclass(frozen=True)
class Match:
    """An item of a gallery: its file, text or row, its cosine with the query, and what its row says of it."""

    item: str
    cosine: float
    value: Any = None


@dataclass(frozen=True)
class GalleryAnswer:
    """What of a gallery is nearest to a query.

    Args:
        query: the file or the words.
        modality: of the query.
        found: by modality, the best items first.
        skipped: what could not be read, as lines.
    """

    query: str
    modality: str
    found: dict[str, list[Match]]
    skipped: list[str]

    def lines(self) -> list[str]:
        """The answer for people."""
        lines = [f"query: {self.query} ({self.modality})", *self.skipped]
        for name, matches in self.found.items():
            lines += ["", name]
            lines += [f"{rank:3}. {each.cosine:+.3f}  {each.item}" for rank, each in enumerate(matches, start=1)]
        return lines

    def as_json(self) -> dict[str, Any]:
        """The answer for programs."""
        found = {
            name: [{"item": each.item, "cosine": each.cosine} for each in matches]
            for name, matches in self.found.items()
        }
        return {"query": self.query, "modality": self.modality, "found": found, "skipped": self.skipped}

    def write_page(self, file: Path) -> Path:
        """The answer as a page to look at and listen to.

        Raises:
            OSError: it cannot be written, or the query cannot be read any more.
        """
        results = {
            name: [{"name": each.item, "cosine": each.cosine, "value": each.value} for each in matches]
            for name, matches in self.found.items()
        }
        return write_search_page(file, {"modality": self.modality, "value": self.query}, results)


def search_gallery(
    model: CodeBindModel,
    processor: Any,
    rows: Any,
    query: str,
    modality: str,
    modalities: str | None = None,
    top_k: int = 5,
    read_out: str = "continuous",
    by: str = "what",
    on_error: str = "raise",
    folder: Path | None = None,
) -> GalleryAnswer:
    """Rank every modality of the rows by its cosine with the query.

    Args:
        query: a file, or words.
        modality: of the query, of `modality_of_query` or "text".
        modalities: names to rank, with commas; by default all that the rows have but the query's own.
        top_k: items of each.
        read_out: one of `READ_OUTS`.
        by: one of `BY`.
        on_error: as in `embed_dataset`.
        folder: that names of files are given from.

    Raises:
        ValueError: a modality that there is not, or parts that cannot be compared.
        OSError: with "raise", a file cannot be read.
    """
    present = modalities_to_read(model, rows, "gallery")
    wanted = gallery_modalities(model.config, modalities, modality, present, by)
    asked = embedded_query(model, processor, modality, query)
    embedded = embed_dataset(model, processor, rows, modalities=wanted, on_error=on_error)
    reasons = [(f"skipped row {each.position}, {each.modality}", each.message) for each in embedded.failures]
    found = {}
    for name in (name for name in wanted if name in embedded.modalities):
        is_text = name == "text"
        gallery = embedded.captions if is_text and embedded.captions is not None else embedded.modalities[name]
        positions = gallery.positions.tolist()
        matches = (
            _match(rows, positions, item, name, folder or Path(), cosine)
            for item, cosine in ranked(asked, gallery, read_out, by)
        )
        found[name] = list(islice(distinct(matches) if is_text else matches, top_k))
    return GalleryAnswer(query, modality, found, list(by_fix(reasons)))


def check_query(path: str) -> None:
    """Refuse a query that is not there, before a model is loaded."""
    if not os.path.exists(path):
        raise OSError(
            f"--query: {path!r}: no such file. Fix: check the path and the working directory; words go to --text."
        )


def modalities_of_file(path: str | os.PathLike, known: Sequence[str]) -> list[str]:
    """The modalities among `known` of whose files `path` is one, by its content or suffix; video for a folder."""
    if os.path.isdir(path):
        return [modality for modality in known if modality == "video"]
    return [name for name in known if kind_of(path, ()) in SUFFIXES.get(name, ())]


def modality_of_query(path: str, known: tuple[str, ...]) -> str:
    """The one modality that a file's suffix can be, among those that the checkpoint knows."""
    suffix = Path(path).suffix.lower()
    possible = modalities_of_file(path, known)
    # Arrays may also be of a modality that was added.
    possible += [modality for modality in known if modality not in MODALITIES] if suffix == ".npy" else []
    if len(possible) == 1:
        return possible[0]
    named, others = suffix or repr(path), modalities_of_file(path, tuple(MODALITIES))
    if not possible and others:
        raise ValueError(
            f"--query: {named} is {' or '.join(others)}, which this checkpoint does not read; it reads "
            f"{', '.join(known)}. Fix: another query, or a checkpoint with {' or '.join(others)}."
        )
    choices = ", ".join(possible or [modality for modality in known if modality != "text"])
    raise ValueError(f"--query: {named} may be any of {choices}. Fix: say which with --modality.")


def check_modality(modality: str, known: tuple[str, ...], flag: str) -> None:
    """Refuse a modality of the query that the checkpoint does not read."""
    if modality not in known:
        fix = nearest(modality, known) or "another query, or another checkpoint."
        raise ValueError(
            f"{flag}: got {modality!r}, which this checkpoint does not read; it reads {', '.join(known)}. Fix: {fix}"
        )


def embedded_query(model: CodeBindModel, processor: Any, modality: str, value: str) -> EmbeddedModality:
    """The query as the model sees it; what is wrong with it is said of the flag, not of a row."""
    try:
        found = embed_dataset(model, processor, [{modality: value}], modalities=[modality], progress=False)
    except (ValueError, OSError) as error:
        # The processor says which argument and which of its items.
        reason = str(error.__cause__ or error).removeprefix(argument_of(modality)).removeprefix("[0]").lstrip(": ")
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"--{'text' if modality == 'text' else 'query'}: {reason}") from error
    return found.modalities[modality]


def gallery_modalities(
    config: CodeBindConfig, wanted: str | None, query: str, present: list[str], by: str = "what"
) -> list[str]:
    """The modalities to rank: those asked for, or all that the rows have but the query's own.

    By specific parts it is those of the query's encoder, its own among them: no others can be compared.
    """
    if by != "what":
        encoder = config.modality(query).encoder
        if not config.specific_dim_of(encoder):
            raise ValueError(f"--by: got {by}, and {query} has no specific part. Fix: --by what, or another query.")
        present = [name for name in present if config.modality(name).encoder == encoder]
        if not present:
            raise ValueError(f"--by: got {by}, and no row has {query}, with which specific parts could be compared.")
    if wanted is None:
        return present if by != "what" else [name for name in present if name != query] or present
    chosen = [modality.strip() for modality in wanted.split(",")]
    missing = [modality for modality in chosen if modality not in present]
    if missing:
        to_rank = (
            "the gallery and the checkpoint have" if by == "what" else f"by {by}, a query of {query} is ranked in"
        )
        near = nearest(missing[0], present)
        fix = near and f" Fix: {near}"
        raise ValueError(f"--modalities: got {', '.join(missing)}; {to_rank} {', '.join(present)}.{fix}")
    return chosen


def ranked(
    query: EmbeddedModality, gallery: EmbeddedModality, read_out: str = "continuous", by: str = "what"
) -> Iterator[tuple[int, float]]:
    """All items of the gallery and their cosine, best first.

    Args:
        read_out: one of `READ_OUTS`.
        by: one of `BY`.
    """
    cosines = _vectors(gallery, read_out, by) @ _vectors(query, read_out, by)[0]
    return ((int(item), float(value)) for value, item in zip(*cosines.sort(descending=True), strict=True))


def _vectors(part: EmbeddedModality, read_out: str, by: str) -> Tensor:
    is_continuous = read_out == "continuous"
    shared = part.continuous_embeds if is_continuous else part.embeds
    own = part.continuous_specific_embeds if is_continuous else part.specific_embeds
    if by == "what" or own is None:
        return shared
    return own if by == "which" else torch.from_numpy(join_parts(shared.numpy(), own.numpy()))


def distinct(matches: Iterable[Match]) -> Iterator[Match]:
    """Texts that several rows share once, where the best of them stands."""
    seen = set[str]()
    for match in matches:
        if match.item not in seen:
            seen.add(match.item)
            yield match


def _match(rows: Any, positions: list[int], item: int, modality: str, folder: Path, cosine: float) -> Match:
    name = name_of_item(rows, positions, item, modality, folder)
    return Match(name, cosine, name if modality == "text" else rows[positions[item]][modality])


def name_of_item(rows: Any, positions: list[int], item: int, modality: str, folder: Path) -> str:
    """A text as it is, a file relative to the manifest; what has no name, by its row and label."""
    row = rows[positions[item]]
    # Where the manifest says a unit, the file has it with it.
    value = getattr(row[modality], "value", row[modality])
    if modality == "text":
        return value if isinstance(value, str) else value[item - positions.index(positions[item])]
    if isinstance(value, (str, os.PathLike)):
        return os.path.relpath(value, folder)
    label = f" ({row['label']})" if row.get("label") else ""
    return f"{row.get('id') or f'row {positions[item]}'}{label}"
