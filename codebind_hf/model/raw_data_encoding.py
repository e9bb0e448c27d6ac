"""From raw data to embeddings, and from embeddings to scores: what applications call."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers.utils import logging

from .codebook_fitting import codes_digest
from .evaluating import evaluating
from .inputs import check_floats, check_storage, model_input
from .modalities import shown


OUTPUTS = ("numpy", "torch", "codes")
POOLS = ("mean", "none")
PARTS = ("shared", "specific")
# In place of the row of an item that is left out.
_LEFT_OUT = object()


class ClipEmbeds(NamedTuple):
    """Embeddings of the clips of one item.

    Args:
        embeds: `(clips, shared_dim)`, or code ids `(clips, segments)`.
        starts: seconds at which the clips begin.
        seconds: length of a clip; 0 for an item that is no recording.
    """

    embeds: Any
    starts: list[float]
    seconds: float


class RawDataEncoding:
    """`encode`, `encode_stream`, `similarity` and `probabilities` of `CodeBindModel`."""

    logit_scale: Any

    def encode(
        self,
        items: Any,
        processor: Any,
        batch_size: int = 32,
        quantize: bool = True,
        output: str = "numpy",
        clips: str | int = "uniform",
        pool: str = "mean",
        hop_seconds: float | None = None,
        num_workers: int = 0,
        progress: bool = False,
        allow_urls: bool = False,
        on_error: str = "raise",
        part: str = "shared",
    ) -> Any:
        """Embed raw data: `{"image": pictures, "text": texts}`, or one list or iterator of mixed items.

        A mixed item is a text, a picture, `{"array", "sampling_rate"}` (a sound), a file (path, bytes, ...) that
        tells its modality, `{"depth": value}`, or a wrapper of `codebind_hf.inference` such as
        `Depth(map, unit="mm")`. A string is a text unless a file of this name exists. Never more than some batches of
        raw values are in memory, and of recordings never more than some clips.

        Args:
            items: lists or iterators by modality, or one list or iterator of mixed items.
            processor: the `CodeBindProcessor` of this checkpoint.
            batch_size: samples of one modality that are embedded at once.
            quantize: `False` gives continuous embeddings.
            output: "numpy", "torch" or "codes" (code ids, as tensors whose `codebook` is the digest of their book).
            clips: of sounds and videos: "uniform" (as the processor spreads them), a number of clips, or "sliding":
                one after the other over the whole recording.
            pool: "mean" (one embedding an item), or "none": a list of `ClipEmbeds`, the embeddings of every clip and
                the seconds at which it begins.
            hop_seconds: between the beginnings of sliding clips; `None` is their length.
            num_workers: threads that read and prepare the next batches meanwhile.
            progress: show a progress bar.
            allow_urls: fetch items that are http(s) URLs; otherwise they are refused.
            on_error: what becomes of an item that cannot be used: "raise" stops; "skip" leaves it out; "null" gives it
                a row of NaN, of codes a row of -1, with `pool="none"` a `None`, so that row i stays item i. The last
                two warn of every such item by name.
            part: "shared", or "specific", of items by modality; each encoder has a specific part of its own.

        Returns:
            Unit embeddings as one `(items, shared_dim)` array in the order of the items, or a dictionary of such; with
            `pool="none"` lists of `ClipEmbeds`.

        Raises:
            ValueError: nothing to embed, an item whose modality is unknown or not in this checkpoint, a URL, a value
                that the processor refuses, or a wrong option; the message names the item.
            OSError: a file that cannot be read, or a URL that cannot be fetched.
        """
        rows = _Rows(self, quantize, output, pool, progress, on_error, part)
        rows.check_part(items)
        reading = {
            "batch_size": batch_size,
            "clips": clips,
            "hop_seconds": hop_seconds,
            "num_workers": num_workers,
            "allow_urls": allow_urls,
            "on_error": on_error,
        }
        if not isinstance(items, Mapping):
            return rows.joined(rows.of(processor, items, **reading), "items")
        return {
            name: rows.joined(rows.of(processor, values, modality=name, **reading), f"items[{name!r}]")
            for name, values in items.items()
        }

    def encode_stream(
        self,
        items: Iterable[Any],
        processor: Any,
        quantize: bool = True,
        output: str = "numpy",
        pool: str = "mean",
        progress: bool = False,
        **reading: Any,
    ) -> Iterator[Any]:
        """Embeddings of mixed items one by one, in their order, for streams of any length.

        The model is in evaluation mode until the iterator ends or is closed.

        Args:
            items, processor, quantize, output, pool, progress: as for `encode`.
            reading: further arguments of `encode`.

        Returns:
            An iterator of `(shared_dim,)` embeddings, or of `ClipEmbeds` with `pool="none"`.

        Raises:
            ValueError, OSError: as for `encode`.
        """
        rows = _Rows(self, quantize, output, pool, progress, reading.get("on_error", "raise"))
        return rows.each(rows.of(processor, items, **reading))

    def similarity(self, first: Any, second: Any) -> Any:
        """Cosines `(first, second)` of two sets of embeddings, `(n, dim)` or one `(dim,)` each, of any length.

        Returns:
            A numpy array, or a tensor if `first` is one.

        Raises:
            ValueError: embeddings of different sizes, no floating point numbers, or NaN or infinities among them.
        """
        rows, columns = _unit_rows(first, "first"), _unit_rows(second, "second")
        if rows.shape[1] != columns.shape[1]:
            raise ValueError(f"second: got embeddings of {columns.shape[1]} numbers; `first` has {rows.shape[1]}.")
        cosines = rows @ columns.to(rows.device).T
        return cosines if isinstance(first, Tensor) else cosines.detach().cpu().numpy()

    @torch.no_grad()
    def probabilities(self, query: Any, candidates: Any) -> Any:
        """Softmax over `candidates` of the learned scale times the cosine, `(queries, candidates)`.

        Args:
            query, candidates: embeddings, as for `similarity`. Candidates of one modality: modalities differ in how
                close they lie to each other as a whole.
        """
        cosines = self.similarity(query, candidates)
        scaled = torch.as_tensor(cosines).float() * self.logit_scale().to(torch.as_tensor(cosines).device)
        scores = scaled.softmax(dim=-1)
        return scores if isinstance(query, Tensor) else scores.cpu().numpy()


class _Rows:
    """One call of `encode`: the batches of a processor in, a row for every item out."""

    def __init__(
        self,
        model: Any,
        quantize: bool,
        output: str,
        pool: str,
        progress: bool,
        on_error: str = "raise",
        part: str = "shared",
    ) -> None:
        switches = (True, False)
        arguments: dict[str, tuple[Any, tuple[Any, ...]]] = {
            "output": (output, OUTPUTS),
            "pool": (pool, POOLS),
            "part": (part, PARTS),
            "quantize": (quantize, switches),
            "progress": (progress, switches),
        }
        for name, (value, allowed) in arguments.items():
            if not isinstance(value, type(allowed[0])) or value not in allowed:
                raise ValueError(f"{name}: got {shown(value)}; allowed: {', '.join(map(repr, allowed))}.")
        if output == "codes" and part == "shared" and model.codebooks.shared is None:
            raise ValueError('output: got "codes", but this model has no shared codebook; choose "numpy" or "torch".')
        self._model, self._quantize, self._output, self._progress = model, quantize, output, progress
        self._keeps_clips, self._skips, self._part = pool == "none", on_error == "skip", part
        # The modality that is read, where it is one.
        self._named: str | None = None
        if part == "specific":
            self._quantize = quantize and model.config.quantize_specific

    def check_part(self, items: Any) -> None:
        """Refuse items that have no specific part, or of which it is not known before they are read."""
        if self._part == "shared":
            return
        if not isinstance(items, Mapping):
            raise ValueError('part: got "specific" for items of any modality. Fix: {"image": items}, by modality.')
        for name in items:
            encoder, books = self._model.config.modality(name).encoder, self._model.codebooks
            if not self._model.config.specific_dim_of(encoder):
                raise ValueError(f'part: got "specific", and {name!r} has none in this model. Fix: leave it out.')
            if self._output == "codes" and books.book("specific", encoder) is None:
                raise ValueError(f'output: got "codes", but the specific part of {name!r} has no codebook here.')

    def of(self, processor: Any, items: Any, **reading: Any) -> Generator[Any, None, None]:
        """Rows in the order of `items`; arguments are checked at once, items when they are reached."""
        if not hasattr(processor, "stream"):
            fix = "CodeBindProcessor.from_pretrained(...) of this version loads one."
            raise ValueError(f"processor: got {type(processor).__name__}; expected a CodeBindProcessor. Fix: {fix}")
        known, self._named = tuple(self._model.config.modalities), reading.get("modality")
        return self._in_order(processor.stream(items, known, each_clip=self._keeps_clips, **reading))

    def each(self, rows: Generator[Any, None, None]) -> Iterator[Any]:
        """Rows one by one, each in the type asked for."""
        with closing(rows):
            for row in rows:
                yield self.converted(row)

    def joined(self, rows: Iterable[Any], where: str) -> Any:
        """All rows as one array, or as a list of `ClipEmbeds`."""
        found = list(rows)
        if not found:
            raise ValueError(f"{where}: got nothing; expected one value or more that can be used.")
        if self._keeps_clips:
            return [self.converted(row) for row in found]
        return self._marked(self.converted(torch.stack(found)))

    def _marked(self, rows: Any) -> Any:
        """Code ids that say of which codebook they are, so that an index can tell; all are of one or say nothing."""
        books = self._model.codebooks
        encoders = {self._model.config.modality(self._named).encoder} if self._named else set(self._model.encoders)
        digests = {codes_digest(books.book(self._part, each).codes) for each in encoders if self._output == "codes"}
        if len(digests) == 1:
            rows.codebook = digests.pop()
        return rows

    def converted(self, row: Any) -> Any:
        """A row in the type asked for; `None` stays."""
        if row is None:
            return None
        if isinstance(row, ClipEmbeds):
            return row._replace(embeds=self.converted(row.embeds))
        # A copy is an ordinary tensor, of which gradients may be asked for; rows come from inference mode.
        return row.numpy() if self._output == "numpy" else row.clone()

    def _in_order(self, batches: Any) -> Generator[Any, None, None]:
        waiting: dict[int, Any] = {}
        following = 0
        bar = logging.tqdm(desc="Encoding", unit="item", disable=not self._progress)
        with evaluating(self._model), bar, closing(batches):
            for position, row in self._rows(batches):
                waiting[position] = row
                while following in waiting:
                    bar.update()
                    ready = waiting.pop(following)
                    following += 1
                    if ready is not _LEFT_OUT:
                        yield ready

    def _rows(self, batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        clips: list[Tensor] = []
        starts: list[float] = []
        for batch in batches:
            if batch.failure is not None:
                clips, starts = [], []
                yield from ((position, self._nothing()) for position in batch.positions)
                continue
            values = self._values(batch)
            encoder = self._model.config.modality(batch.modality).encoder
            if batch.starts is None:
                rows: Any = self._read(encoder, values)
                if self._keeps_clips:
                    rows = [ClipEmbeds(row[None], [0.0], 0.0) for row in rows]
                yield from zip(batch.positions, rows, strict=True)
                continue
            # Of a long recording nothing is kept but one vector a clip, or their sum.
            clips.append(self._read(encoder, values) if self._keeps_clips else values.sum(0, keepdim=True))
            starts += batch.starts
            if batch.is_last:
                joint = torch.cat(clips)
                if self._keeps_clips:
                    yield batch.positions[0], ClipEmbeds(joint, starts, batch.seconds)
                else:
                    yield batch.positions[0], self._read(encoder, joint.sum(0, keepdim=True) / len(starts))[0]
                clips, starts = [], []

    def _nothing(self) -> Any:
        """What an item that cannot be used has for a row."""
        if self._skips or self._keeps_clips:
            return _LEFT_OUT if self._skips else None
        config = self._model.config
        encoder = (
            next(iter(config.encoder_configs)) if self._part == "shared" else config.modality(str(self._named)).encoder
        )
        if self._output == "codes":
            return torch.full((config.num_segments_of(self._part, encoder),), -1)
        return torch.full((config.dim_of(self._part, encoder),), torch.nan)

    @torch.inference_mode()
    def _values(self, batch: Any) -> Tensor:
        """The part before its norm, `(items, dim)`; of clips as it enters the mean over clips."""
        modality = self._model.config.modality(batch.modality)
        config = self._model.encoders[modality.encoder].config
        tensors = {name: value.to(self._model.device) for name, value in batch.tensors.items()}
        checks = self._model.input_checks()
        values = model_input(modality, config, tensors[modality.tensor], tensors.get("attention_mask"), checks)
        # The specific head matters to a single clip by its share of the clip's norm.
        specific = self._part == "specific" or (batch.starts is not None and config.normalize_clips)
        encoded = self._model._encode(values, all_tokens=False, specific=specific)
        return getattr(encoded, self._part)[:, 0].float()

    @torch.inference_mode()
    def _read(self, encoder: str, values: Tensor) -> Tensor:
        """Unit embeddings or code ids on the CPU."""
        quantized = self._model.codebooks.quantize(self._part, encoder, values)
        if self._output == "codes":
            return quantized.ids.cpu()
        return (quantized.embedding if self._quantize else quantized.continuous).cpu()


def _unit_rows(embeds: Any, name: str) -> Tensor:
    values = _float_tensor(embeds, name)
    if values.ndim not in (1, 2) or not values.is_floating_point() or not values.numel():
        raise ValueError(
            f"{name}: got {values.dtype} of shape {tuple(values.shape)}; expected embeddings (n, dim) or (dim,)."
        )
    rows = torch.atleast_2d(values).float()
    lengths = rows.detach().norm(dim=-1)
    if not bool(lengths.isfinite().all()):
        row = int(lengths.isfinite().int().argmin())
        fix = "`embeds[np.isfinite(embeds).all(-1)]` leaves out items that could not be encoded."
        raise ValueError(f"{name}: got NaN, infinite or too large numbers, first in row {row}. Fix: {fix}")
    return normalize(rows, dim=-1)


def _float_tensor(embeds: Any, name: str) -> Tensor:
    """Embeddings as a tensor, whose type and shape are still to be looked at."""
    if isinstance(embeds, Tensor):
        check_storage(name, embeds)
        if embeds.is_floating_point():
            check_floats(name, embeds)
        return embeds.resolve_neg() if embeds.is_floating_point() else embeds
    is_masked = isinstance(embeds, np.ma.MaskedArray) and embeds.dtype.kind == "f"
    try:
        array = np.asarray(np.ma.filled(embeds, np.nan) if is_masked else embeds)
        # float32 is what cosines are computed in. Numbers in an array of objects are of any type.
        array = array.astype(np.float32) if array.dtype.kind in "fO" else array
        return torch.from_numpy(array)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        raise ValueError(
            f"{name}: got {type(embeds).__name__}, which gives no numbers ({reason}); expected embeddings."
        ) from error
