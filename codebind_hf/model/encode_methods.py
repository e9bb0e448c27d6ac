"""From raw data to embeddings, and from embeddings to scores: what applications call."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from .encoding import EncodeOptions, encode_items, encode_stream


class EncodeMethods:
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
    ) -> Any:
        """Embed raw data: `{"image": pictures, "text": texts}`, or one list or iterator of mixed items.

        A mixed item is a text, a picture, `{"array", "sampling_rate"}` (a sound), the path of a file whose suffix
        tells its sense, `{"depth": value}`, or a wrapper of `codebind_hf.inference` such as `Depth(map, unit="mm")`.
        A string is a text unless a file of this name exists. Never more than some batches of raw values are in
        memory, and of recordings never more than some clips.

        Args:
            items: lists or iterators by modality, or one list or iterator of mixed items.
            processor: the `CodeBindProcessor` of this checkpoint.
            batch_size: samples of one modality that are embedded at once.
            quantize: `False` gives continuous embeddings.
            output: "numpy", "torch" or "codes" (shared code ids, as tensors).
            clips: of sounds and videos: "uniform" (as the processor spreads them), a number of clips, or "sliding":
                one after the other over the whole recording.
            pool: "mean" (one embedding an item), or "none": a list of `ClipEmbeds`, the embeddings of every clip and
                the seconds at which it begins.
            hop_seconds: between the beginnings of sliding clips; `None` is their length.
            num_workers: threads that read and prepare the next batches meanwhile.
            progress: show a progress bar.
            allow_urls: fetch items that are http(s) URLs; otherwise they are refused.

        Returns:
            Unit embeddings as one `(items, shared_dim)` array in the order of the items, or a dictionary of such; with
            `pool="none"` lists of `ClipEmbeds`.

        Raises:
            ValueError: nothing to embed, an item whose sense is unknown or not in this checkpoint, a URL, a value that
                the processor refuses, or a wrong option; the message names the item.
            OSError: a file that cannot be read, or a URL that cannot be fetched.
        """
        options = EncodeOptions(
            batch_size, quantize, output, clips, pool, hop_seconds, num_workers, progress, allow_urls
        )
        return encode_items(self, items, processor, options)

    def encode_stream(self, items: Iterable[Any], processor: Any, **options: Any) -> Iterator[Any]:
        """Embeddings of mixed items one by one, in their order, for streams of any length.

        The model is in evaluation mode until the iterator ends or is closed.

        Args:
            items, processor: as for `encode`.
            options: further arguments of `encode`.

        Returns:
            An iterator of `(shared_dim,)` embeddings, or of `ClipEmbeds` with `pool="none"`.

        Raises:
            ValueError, OSError: as for `encode`.
        """
        return encode_stream(self, items, processor, EncodeOptions(**options))

    def similarity(self, first: Any, second: Any) -> Any:
        """Cosines `(first, second)` of two sets of embeddings, `(n, dim)` or one `(dim,)` each, of any length.

        Returns:
            A numpy array, or a tensor if `first` is one.

        Raises:
            ValueError: embeddings of different sizes.
        """
        rows, columns = _unit_rows(first, "first"), _unit_rows(second, "second")
        if rows.shape[1] != columns.shape[1]:
            raise ValueError(f"second: got embeddings of {columns.shape[1]} numbers; `first` has {rows.shape[1]}.")
        cosines = rows @ columns.to(rows.device).T
        return cosines if isinstance(first, Tensor) else cosines.numpy()

    @torch.no_grad()
    def probabilities(self, query: Any, candidates: Any) -> Any:
        """Softmax over `candidates` of the learned scale times the cosine, `(queries, candidates)`.

        Args:
            query, candidates: embeddings, as for `similarity`. Candidates of one sense: senses differ in how close
                they lie to each other as a whole.
        """
        cosines = self.similarity(query, candidates)
        scaled = torch.as_tensor(cosines).float() * self.logit_scale().to(torch.as_tensor(cosines).device)
        scores = scaled.softmax(dim=-1)
        return scores if isinstance(query, Tensor) else scores.cpu().numpy()


def _unit_rows(embeds: Any, name: str) -> Tensor:
    values = embeds if isinstance(embeds, Tensor) else torch.from_numpy(np.asarray(embeds))
    if values.ndim not in (1, 2) or not values.is_floating_point():
        raise ValueError(
            f"{name}: got {values.dtype} of shape {tuple(values.shape)}; expected embeddings (n, dim) or (dim,)."
        )
    return normalize(torch.atleast_2d(values).float(), dim=-1)
