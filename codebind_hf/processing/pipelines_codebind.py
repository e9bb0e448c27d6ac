"""Pipelines for every modality: classification with words, embedding, and retrieval across modalities.

A folder that one of them saved holds this file and all it needs, so `pipeline(task, model=folder,
trust_remote_code=True)` works where the package is not installed.

Axes in this file: B batch, C classes, T templates, D width of a shared embedding.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import logging

from .base_pipeline import DEFAULT_BATCH_SIZE, ModalityPipeline, Options
from .pipeline_inputs import (
    ONE_ITEM,
    THRESHOLDS_FILE,
    Gallery,
    checked_embeds,
    checked_labels,
    checked_templates,
    checked_thresholds,
    stored_thresholds,
)
from .values import check_choice, check_number, describe, refuse


logger = logging.get_logger(__name__)

# What an item is that is nearer to no label than their threshold.
NONE_OF_THESE = "none of these"
_OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "numpy": lambda values: values.numpy(),
    "torch": lambda values: values.clone(),
    "list": lambda values: values.tolist(),
}


class _Shareable(ModalityPipeline):
    """A pipeline whose saved folder holds the code of all three."""

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model, processor and the code of all three pipelines.

        The library's method leaves the processor out, and would name this pipeline only.
        """
        if os.path.isfile(save_directory):
            refuse("save_directory", f"got the file {str(save_directory)!r}", "a folder")
        os.makedirs(save_directory, exist_ok=True)
        self.model.config.custom_pipelines = custom_pipelines()
        custom_object_save(self, save_directory)
        with _code_shipped(type(self.model.config), type(self.model), type(self.processor)):
            self.model.save_pretrained(save_directory, **kwargs)
            self.processor.save_pretrained(save_directory, **kwargs)
        if thresholds := stored_thresholds(self.model):
            text = json.dumps(thresholds, indent=1) + "\n"
            Path(save_directory, THRESHOLDS_FILE).write_text(text, encoding="utf-8")


class SensorClassificationPipeline(_Shareable):
    """Which of some labels fits an item of any modality: `zero-shot-sensor-classification`.

    Options, at construction or in a call:
        candidate_labels (`list[str]`): what may be answered.
        hypothesis_template (`str` or `list[str]`): texts with `{}` where a label belongs; with several, a class is the
            mean of its unit text embeddings, of unit norm again.
        modality, processor_kwargs: modality of the items, and keywords of the processor, such as `depth_unit`.
        top_k (`int`): answers to give; default: all.
        quantize (`bool`): `False` compares continuous embeddings.
        none_of_these (`bool`): let `"none of these"` be an answer too, with the threshold that was calibrated for the
            modality and lies beside the checkpoint.
        threshold (`float` or `dict[str, float]`): instead of it, the cosine from which on an item is one of the
            labels, for all modalities or by modality; implies `none_of_these`.

    Returns for every item a list of `{"label", "score"}`, best first; scores are the softmax of scale * cosine. "none
    of these" is one more label, whose cosine is the threshold: it comes first where no label reaches that.
    """

    task_name = "zero-shot-sensor-classification"
    # Read when they are first needed.
    _thresholds: dict[str, Any] | None = None
    _options = ("candidate_labels", "hypothesis_template", "top_k", "none_of_these", "threshold")

    def _sanitize_parameters(self, **options: Any) -> Options:
        before, forward = self._item_options(options)
        if options.get("candidate_labels") is not None:
            forward["candidate_labels"] = checked_labels(options["candidate_labels"])
        if "hypothesis_template" in options:
            forward["templates"] = checked_templates(options["hypothesis_template"])
        if options.get("threshold") is not None:
            forward["threshold"] = checked_thresholds(options["threshold"], tuple(self.model.config.modalities))
        if "none_of_these" in options:
            check_choice("none_of_these", options["none_of_these"], (True, False))
            forward["none_of_these"] = options["none_of_these"]
        if options.get("top_k") is not None:
            check_number("top_k", options["top_k"], 1, whole=True)
        return before, forward, {"top_k": options["top_k"]} if "top_k" in options else {}

    def __call__(  # type: ignore[override]
        self, inputs: Any, candidate_labels: Sequence[str] | None = None, **kwargs: Any
    ) -> Any:
        """See the class; `inputs` is an item, a list, an iterator or a data set."""
        if candidate_labels is None and "candidate_labels" not in self._forward_params:
            refuse("candidate_labels", "got None", "a list of labels", 'such as ["a ring", "a bell"].')
        # Embedded once a call, not once a batch; the weights may have changed since the last call.
        self._class_embeds: dict[tuple, Tensor] = {}
        return super().__call__(inputs, candidate_labels=candidate_labels, **kwargs)

    def _forward(  # type: ignore[override]
        self,
        batch: dict[str, Any],
        candidate_labels: tuple[str, ...],
        templates: tuple[str, ...] = ("a photo of a {}",),
        quantize: bool = True,
        none_of_these: bool | None = None,
        threshold: float | dict[str, float] | None = None,
    ) -> dict[str, Any]:
        embeds_BD = super()._forward(batch, quantize)["embeds"]
        key = (candidate_labels, templates, quantize)
        if key not in self._class_embeds:
            self._class_embeds[key] = self.class_embeddings(*key).to(embeds_BD)
        cosines_BC = embeds_BD @ self._class_embeds[key].T
        if none_of_these or none_of_these is None and threshold is not None:
            names = batch["modality"] if isinstance(batch["modality"], list) else [batch["modality"]]
            limits = [self.threshold(name, threshold, quantize, templates) for name in names]
            cosines_BC = torch.cat([cosines_BC, cosines_BC.new_tensor(limits)[:, None]], dim=1)
            candidate_labels = (*candidate_labels, NONE_OF_THESE)
        logits_BC = self.model.logit_scale() * cosines_BC
        return {"scores": logits_BC.softmax(-1), "labels": [candidate_labels] * len(logits_BC)}

    def threshold(
        self,
        modality: str,
        given: float | Mapping[str, float] | None = None,
        quantize: bool = True,
        templates: Sequence[str] | None = None,
    ) -> float:
        """The cosine from which on an item of a modality is one of the labels: as given, or as calibrated.

        Raises:
            ValueError: there is none for this modality.
        """
        if isinstance(given, float):
            return given
        if given is not None and modality in given:
            return float(given[modality])
        if self._thresholds is None:
            self._thresholds = stored_thresholds(self.model)
        entry = self._thresholds.get("modalities", {}).get(modality)
        if entry is None:
            fix = (
                f"threshold=0.3, say, or threshold={{{modality!r}: 0.3}}; a run with labelled test rows calibrates it."
            )
            got = f"got no threshold for {modality!r}, and the checkpoint has none calibrated ({THRESHOLDS_FILE})"
            refuse("none_of_these", got, "one for each modality of the items", fix)
        made_with = self._thresholds.get("templates", [])
        if templates is not None and list(templates) != made_with:
            logger.warning_once(
                f"none_of_these: the threshold was calibrated with the templates {made_with}, and labels are shown in "
                f"{list(templates)}, whose cosines may be others (said once)."
            )
        return float(entry["threshold" if quantize else "threshold_continuous"])

    def class_embeddings(self, labels: Sequence[str], templates: Sequence[str], quantize: bool = True) -> Tensor:
        """`(classes, dim)` unit prototypes: the mean over the templates of the unit text embeddings."""
        texts = [template.replace("{}", label) for label in labels for template in templates]
        embeds, _ = self.embedded(texts, "text", self._batch_size or DEFAULT_BATCH_SIZE, "candidate_labels", quantize)
        embeds_CTD = normalize(embeds.double(), dim=-1).reshape(len(labels), len(templates), -1)
        return normalize(embeds_CTD.mean(1), dim=-1).float()

    def postprocess(self, found: dict[str, Any], top_k: int | None = None) -> list[dict[str, Any]]:  # type: ignore[override]
        """Labels and scores, best first; of equal ones the first named first."""
        # A batch that was cut into samples has one tuple of labels here, a single item a list of one.
        labels = found["labels"][0] if isinstance(found["labels"], list) else found["labels"]
        scores, order = found["scores"][0].sort(descending=True, stable=True)
        pairs = zip(order.tolist(), scores.tolist(), strict=True)
        return [{"label": labels[position], "score": score} for position, score in pairs][:top_k]


class MultimodalEmbeddingPipeline(_Shareable):
    """Unit shared embeddings of items of any modality: `multimodal-embedding`.

    Options, at construction or in a call:
        modality, processor_kwargs: modality of the items, and keywords of the processor, such as `depth_unit`.
        quantize (`bool`): `False` gives continuous embeddings.
        output: "numpy" (default), "torch" or "list".
        return_codes (`bool`): give `{"embedding", "codes"}`, where codes are the shared code ids.

    Returns for every item its embedding `(dim,)`, float32.
    """

    task_name = "multimodal-embedding"
    _options = ("output", "return_codes")

    def _sanitize_parameters(self, **options: Any) -> Options:
        before, forward = self._item_options(options)
        if "output" in options:
            check_choice("output", options["output"], tuple(_OUTPUTS))
        if options.get("return_codes") and self.model.codebooks.shared is None:
            refuse("return_codes", "got True, but this model has no shared codebook", "False")
        return before, forward, {name: options[name] for name in self._options if name in options}

    def postprocess(  # type: ignore[override]
        self, found: dict[str, Tensor], output: str = "numpy", return_codes: bool = False
    ) -> Any:
        """The embedding, or embedding and codes, of one item."""
        convert = _OUTPUTS[output]
        embedding = convert(found["embeds"][0])
        return {"embedding": embedding, "codes": convert(found["codes"][0])} if return_codes else embedding


class Match(dict):
    """One item that was found: `{"index", "score", "modality"}`."""

    def __missing__(self, key: str) -> Any:
        if key == "sense" and "modality" in self:
            warnings.warn('"sense" is called "modality" now.', DeprecationWarning, stacklevel=2)
            return self["modality"]
        raise KeyError(key)


class CrossModalRetrievalPipeline(_Shareable):
    """Which items of a gallery lie closest to an item of any modality: `cross-modal-retrieval`.

    Options, at construction or in a call:
        gallery: items as for queries; `(items, dim)` embeddings; a dictionary of either by modality; or a `Gallery`
            that `embed_gallery` made. Given at construction, it is embedded once for all calls.
        gallery_modality: modality of the gallery's items, where they do not name it.
        modalities (`list[str]`): modalities of the gallery to search; default: all.
        top_k (`int`): items to give, 5 by default.
        modality: modality of the queries, where they do not name it.
        processor_kwargs: keywords of the processor, such as `depth_unit`, for queries and for a gallery that is given
            with them.
        quantize (`bool`): `False` compares continuous embeddings; a gallery embedded otherwise is refused.

    Returns for every query a list of `{"index", "score", "modality"}`, best first: the position in the gallery (in a
    dictionary: in the list of that modality), the cosine, and the modality, where it is known. Of equal scores the
    first in the gallery comes first.
    """

    task_name = "cross-modal-retrieval"
    _options = ("gallery", "gallery_modality", "modalities", "top_k")

    def _sanitize_parameters(self, **options: Any) -> Options:
        if "senses" in options:
            warnings.warn("senses= is called modalities= now.", DeprecationWarning, stacklevel=2)
            options["modalities"] = options.pop("senses")
        before, forward = self._item_options(options)
        after: dict[str, Any] = {name: options[name] for name in self._options[1:] if name in options}
        check_number("top_k", after.get("top_k", 1), 1, whole=True)
        if after.get("gallery_modality") is not None:
            check_choice("gallery_modality", after["gallery_modality"], tuple(self.model.config.modalities))
        gallery = options.get("gallery")
        # A call inherits what the pipeline was made with.
        names = ("_preprocess_params", "_forward_params", "_postprocess_params")
        made = {key: value for name in names for key, value in getattr(self, name, {}).items()}
        given = {**made, **before, **forward, **after}
        if gallery is not None and not isinstance(gallery, Gallery):
            wanted = {name: given[name] for name in ("quantize", "processor_kwargs") if name in given}
            gallery = self.embed_gallery(gallery, given.get("gallery_modality"), **wanted)
        used, quantize = given.get("gallery") if gallery is None else gallery, given.get("quantize", True)
        if used is not None and used.quantize not in (None, quantize):
            fix = "give the gallery's items in this call, or embed_gallery(..., quantize=...)."
            refuse("quantize", f"got {quantize}, and the gallery has quantize={used.quantize}", "one of both", fix)
        return before, forward, after if gallery is None else {**after, "gallery": gallery}

    def __call__(self, inputs: Any, gallery: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """See the class; `inputs` is a query, a list, an iterator or a data set of queries."""
        if gallery is None and "gallery" not in self._postprocess_params:
            refuse("gallery", "got None", "items, embeddings, or a Gallery", "gallery=[picture, ...].")
        return super().__call__(inputs, gallery=gallery, **kwargs)

    def embed_gallery(
        self,
        gallery: Any,
        modality: str | None = None,
        quantize: bool = True,
        processor_kwargs: dict[str, Any] | None = None,
        batch_size: int | None = None,
    ) -> Gallery:
        """Embed a gallery for many calls; see the class for what it may be.

        Args:
            modality: modality of items that do not name theirs.
            batch_size: items of the gallery at once; default: that of the pipeline, or 32.

        Raises:
            ValueError: an empty gallery, embeddings of another width, or an item that cannot be used.
        """
        size = batch_size or self._batch_size or DEFAULT_BATCH_SIZE
        options: dict[str, Any] = {"quantize": quantize, "processor_kwargs": processor_kwargs, "batch_size": size}
        parts = gallery if isinstance(gallery, Mapping) else {None: gallery}
        embeds: list[Tensor] = []
        modalities: list[str | None] = []
        for name, items in parts.items():
            if name is not None:
                check_choice("gallery", name, tuple(self.model.config.modalities))
            label = "gallery" if name is None else f"gallery[{name!r}]"
            found, names = self._gallery_part(items, name or modality, label, **options)
            embeds.append(found)
            modalities += names
        if not embeds:
            refuse("gallery", "got an empty dictionary", "items or embeddings by modality")
        distinct, rows = torch.unique(torch.cat(embeds), dim=0, return_inverse=True)
        indices = tuple(index for part in embeds for index in range(len(part)))
        return Gallery(
            distinct, rows, indices, tuple(modalities), quantize if any(map(_is_raw, parts.values())) else None
        )

    def _gallery_part(
        self, items: Any, modality: str | None, label: str, **options: Any
    ) -> tuple[Tensor, Sequence[str | None]]:
        if isinstance(items, (np.ndarray, Tensor)):
            embeds = checked_embeds(items, int(self.model.config.shared_dim), label)
            return embeds, [modality] * len(embeds)
        if isinstance(items, ONE_ITEM) or not isinstance(items, Iterable):
            fix = "put a single item into a list."
            refuse(label, f"got {describe(items)}", "a list of items, or (items, dim) embeddings", fix)
        return self.embedded(items, modality, label=label, **options)

    def postprocess(  # type: ignore[override]
        self,
        found: dict[str, Tensor],
        gallery: Gallery,
        gallery_modality: str | None = None,
        modalities: Sequence[str] | None = None,
        top_k: int = 5,
    ) -> list[Match]:
        """The closest items to one query; `gallery_modality` was of use when the gallery was embedded."""
        results = []
        for position, score in gallery.closest(found["embeds"][0], modalities, top_k):
            modality = gallery.modalities[position]
            match = Match(index=gallery.indices[position], score=score)
            results.append(match if modality is None else Match(match, modality=modality))
        return results


def _is_raw(items: Any) -> bool:
    return not isinstance(items, (np.ndarray, Tensor))


PIPELINES: dict[str, type[ModalityPipeline]] = {
    each.task_name: each
    for each in (SensorClassificationPipeline, MultimodalEmbeddingPipeline, CrossModalRetrievalPipeline)
}


def custom_pipelines() -> dict[str, dict[str, Any]]:
    """What `config.custom_pipelines` holds for the pipelines of this file to be found in a checkpoint."""
    module = __name__.rpartition(".")[2]
    return {
        task: {"impl": f"{module}.{each.__name__}", "pt": [AutoModel.__name__], "type": "multimodal"}
        for task, each in PIPELINES.items()
    }


@contextmanager
def _code_shipped(*classes: Any) -> Iterator[None]:
    """Meanwhile, saving one of these classes (configuration, model, processor) also writes the code that it needs."""
    with ExitStack() as stack:
        for cls, auto_class in zip(classes, ("AutoConfig", "AutoModel", "AutoProcessor"), strict=True):
            if cls._auto_class is None:
                cls.register_for_auto_class(auto_class)
                stack.callback(setattr, cls, "_auto_class", None)
        yield
