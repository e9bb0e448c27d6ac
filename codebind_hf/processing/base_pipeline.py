"""What do the pipelines share? Items of any modality in, unit shared embeddings out, batch by batch."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import Pipeline

from .arguments import argument_of
from .modality_processing import naming
from .pipeline_inputs import ONE_ITEM, Numbered, batches, named_item, numbered, unit
from .sources import is_source
from .values import check_choice, describe, refuse


# Options of `preprocess`, of the model call, and of `postprocess`, as the library splits them.
Options = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]

# Texts and items of a gallery that are embedded at once, unless the pipeline has a batch size of its own.
DEFAULT_BATCH_SIZE = 32


class ModalityPipeline(Pipeline):
    """What the pipelines share: items of any modality in, unit shared embeddings out, batch by batch.

    An item is a text, a `PIL.Image` (an image), a wrapper such as `Depth(map, unit="mm")`, a dictionary that names its
    modality, such as `{"depth": map}`, or with `modality="depth"` anything that the processor takes for that
    modality; a row of several modalities gives up the one that `modality` names. Lists give lists; iterators and data
    sets give an iterator and are never held in memory.
    """

    _load_processor: bool | None = True  # type: ignore[assignment]
    _load_tokenizer: bool | None = False  # type: ignore[assignment]
    _load_image_processor: bool | None = False  # type: ignore[assignment]
    _load_feature_extractor: bool | None = False  # type: ignore[assignment]
    _load_video_processor: bool | None = False  # type: ignore[assignment]
    model: Any
    processor: Any
    task_name: ClassVar[str]
    _options: ClassVar[tuple[str, ...]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("processor") is None:
            fix = "pass processor=CodeBindProcessor.from_pretrained(folder), or the folder itself as model=folder."
            refuse("processor", "got None", "a CodeBindProcessor", fix)
        super().__init__(*args, **kwargs)
        # Only the processor reads items. The base wants one part of it, to know that batches can be made.
        self.tokenizer = self.feature_extractor = None

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """One item, a list of items, or an iterator, generator or data set of them.

        Raises:
            ValueError: no item, an item that cannot be used, or a wrong option.
        """
        is_many = hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__")
        if isinstance(inputs, (Dataset, *ONE_ITEM)) or is_source(inputs) or not is_many:
            return super().__call__(inputs, **kwargs)
        if not isinstance(inputs, (list, tuple)):
            return super().__call__(numbered(inputs), **kwargs)
        if not inputs:
            refuse("inputs", "got an empty list", "one item or a list of items")
        return super().__call__(list(numbered(inputs)), **kwargs)

    def preprocess(  # type: ignore[override]
        self, item: Any, modality: str | None = None, processor_kwargs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The modality of one item and the tensors that the model reads."""
        if isinstance(item, Numbered):
            with naming(f"inputs[{item.position}]"):
                return self.preprocess(item.value, modality, processor_kwargs)
        named = named_item(item, modality, tuple(self.model.config.modalities))
        argument, keywords = argument_of(named.name), dict(processor_kwargs or {})
        if named.options:
            own = f"{argument}_kwargs"
            keywords[own] = {**(keywords.get(own) or {}), **named.options}
        tensors = self.processor(**{argument: [named.raw]}, **keywords, return_tensors="pt")
        return {"modality": named.name, "tensors": dict(tensors.to(self.dtype))}

    def _forward(self, batch: dict[str, Any], quantize: bool = True) -> dict[str, Tensor]:  # type: ignore[override]
        if isinstance(batch["modality"], str):
            batch = {name: [value] for name, value in batch.items()}
        return self._embed(batch["modality"], batch["tensors"], quantize)

    def _embed(
        self, modalities: Sequence[str], samples: Sequence[Mapping[str, Tensor]], quantize: bool
    ) -> dict[str, Tensor]:
        """`embeds` `(batch, dim)` and, where there is a codebook, `codes` `(batch, segments)`, in the given order."""
        embeds: dict[int, Tensor] = {}
        codes: dict[int, Tensor] = {}
        with ExitStack() as stack:
            # A model that is being trained goes on as it was.
            stack.callback(self.model.train, self.model.training)
            self.model.eval()
            for modality in dict.fromkeys(modalities):
                positions = [position for position, other in enumerate(modalities) if other == modality]
                output = self.model(**self._stacked([samples[one] for one in positions]), quantize=quantize)
                embeds |= zip(positions, unit(output.embeds[modality]), strict=True)
                if output.codes[modality].shared is not None:
                    codes |= zip(positions, output.codes[modality].shared, strict=True)
        found = {"embeds": embeds, "codes": codes}
        return {name: torch.stack([rows[one] for one in sorted(rows)]) for name, rows in found.items() if rows}

    def _stacked(self, samples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Samples of one modality in one batch; texts are padded as the tokenizer pads them."""
        padding = {"input_ids": self.processor.tokenizer.pad_token_id, "attention_mask": 0}
        return {
            name: pad_sequence([sample[name][0] for sample in samples], batch_first=True, padding_value=padding[name])
            if name in padding
            else torch.cat([sample[name] for sample in samples])
            for name in samples[0]
        }

    def embedded(
        self,
        items: Iterable[Any],
        modality: str | None,
        batch_size: int,
        label: str,
        quantize: bool = True,
        processor_kwargs: dict[str, Any] | None = None,
    ) -> tuple[Tensor, list[str]]:
        """Embeddings `(items, dim)` and the modality of every item, `batch_size` items at a time.

        Args:
            label: what messages call the items.
        """
        parts: list[Tensor] = []
        modalities: list[str] = []
        for batch in batches(numbered(items), batch_size):
            samples = []
            for item in batch:
                with naming(f"{label}[{item.position}]"):
                    samples.append(self.preprocess(item.value, modality, processor_kwargs))
            names = [sample["modality"] for sample in samples]
            with self.device_placement(), torch.no_grad():
                tensors = self._ensure_tensor_on_device([sample["tensors"] for sample in samples], self.device)
                parts.append(self._embed(names, tensors, quantize)["embeds"].cpu())
            modalities += names
        if not parts:
            refuse(label, "got no item", "at least one")
        return torch.cat(parts), modalities

    def _item_options(self, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options of `preprocess` and of the model call, checked; an unknown option is refused."""
        common = ("modality", "processor_kwargs", "quantize")
        unknown = sorted(set(options) - {*self._options, *common})
        if unknown:
            allowed = ", ".join((*self._options, *common, "batch_size", "num_workers"))
            refuse(unknown[0], f"{self.task_name} has no such option", allowed)
        if options.get("modality") is not None:
            check_choice("modality", options["modality"], tuple(self.model.config.modalities))
        if not isinstance(options.get("processor_kwargs") or {}, dict):
            refuse("processor_kwargs", f"got {describe(options['processor_kwargs'])}", "a dictionary")
        before: dict[str, Any] = {name: options[name] for name in common[:2] if name in options}
        return before, {"quantize": options["quantize"]} if "quantize" in options else {}
