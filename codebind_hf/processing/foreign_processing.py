"""How do items become what a network of transformers reads? Its own processor makes the tensors of them."""

import functools
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoTokenizer,
    BatchFeature,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging
from transformers.utils.hub import cached_file

from .arguments import argument_of, tensor_of
from .arrays import as_float_array, one_sound_or_list
from .modality_processing import ModalityProcessing
from .pictures import picture_or_grid
from .resampling import resample
from .values import check_rate, describe, refuse, refuse_unknown, shown, split_rated
from .video_processing_codebind import CodeBindVideoImageProcessor


logger = logging.get_logger(__name__)

KINDS: dict[str, Any] = {"text": AutoTokenizer, "image": AutoImageProcessor, "audio": AutoFeatureExtractor}
_ATTRIBUTES = {"text": "tokenizer", "image": "image_processor", "audio": "feature_extractor"}
_INPUTS = {"text": ("input_ids",), "image": ("pixel_values",), "audio": ("input_features", "input_values")}
# What a network of one kind of input gets besides, and follows from the values or makes no difference.
_BESIDE = {"attention_mask", "is_longer", "pixel_mask"}
# Seconds of a waveform, where the network's processor has no length of its own.
_SECONDS = 10.0
# Networks that were trained on texts with their padding, all of one length.
_PADDED_TEXTS = ("siglip",)


def is_foreign(source: Any, **kwargs: Any) -> bool:
    """Whether a name or folder is of a model that is not CodeBind's.

    Args:
        kwargs: of the library's loaders; those that do not help to find files are not looked at.
    """
    hub = ("cache_dir", "revision", "token", "local_files_only", "force_download")
    try:
        fields, _ = PreTrainedConfig.get_config_dict(source, **{key: kwargs[key] for key in hub if key in kwargs})
    except (OSError, ValueError):
        # Whoever loads the processor says what is wrong.
        return False
    return fields.get("model_type", "codebind") != "codebind"


def foreign_part(kind: str, source: str, revision: str | None = None, **options: Any) -> Any:
    """The tokenizer, image processor or feature extractor of a network; nothing that needs code of its own.

    Args:
        kind: "text", "image" or "audio".

    Raises:
        OSError: there is none.
    """
    try:
        return KINDS[kind].from_pretrained(source, revision=revision, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "Fix: name a folder that has one, or use features of the network."
        raise OSError(
            f"{kind}: {source!r} has no {KINDS[kind].__name__[4:]} that can be loaded ({error}). {fix}"
        ) from error


def foreign_parts(source: str, revision: str | None = None) -> dict[str, Any]:
    """Of a network the tokenizer ("text"), image processor ("image") and feature extractor ("audio") of what it reads.

    Raises:
        ValueError: a network that the library does not know, or that reads something else.
        OSError: it lacks one of them.
    """
    if os.path.isabs(source) and not os.path.isdir(source):
        raise OSError(f"bridge: {source!r}: no such folder. Fix: correct the path, or give a name on the Hub.")
    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    # The network's side of this table belongs to the other room.
    network: Any = MODEL_MAPPING[type(config)]
    network = network[0] if isinstance(network, (list, tuple)) else network
    kinds = [kind for kind in KINDS if hasattr(network, f"get_{kind}_features")]
    if len(kinds) < 2 or kinds[0] != "text":
        kinds = [kind for kind, names in _INPUTS.items() if network.main_input_name in names]
    if not kinds:
        refuse("bridge", f"got {source!r}, which reads {network.main_input_name}", "text, pictures or sounds")
    return {kind: foreign_part(kind, source, revision) for kind in kinds}


def bridge_parts(bridge: Any, revision: str | None = None) -> dict[str, Any]:
    """Arguments of `CodeBindProcessor` for a bridge.

    Raises:
        OSError: a network without the processor of its kind.
    """
    if isinstance(bridge, Mapping):
        sources = {kind: os.fspath(source) for kind, source in bridge.items()}
        found = {kind: foreign_part(kind, source) for kind, source in sources.items()}
    else:
        found = foreign_parts(os.fspath(bridge), revision)
        sources = dict.fromkeys(found, os.fspath(bridge))
    parts: dict[str, Any] = {_ATTRIBUTES[kind]: part for kind, part in found.items()}
    modalities = {"text": ["text"], "image": ["image", "video"], "audio": ["audio"]}
    parts["modalities"] = [name for kind in found for name in modalities[kind]]
    return {**parts, **(_text_options(found["text"], sources["text"], revision) if "text" in found else {})}


def _text_options(tokenizer: PreTrainedTokenizerBase, source: str, revision: str | None) -> dict[str, Any]:
    """How a network's texts are cut and padded."""
    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    lengths = [tokenizer.model_max_length, getattr(config.get_text_config(), "max_position_embeddings", None)]
    file = cached_file(
        source, "sentence_bert_config.json", revision=revision, _raise_exceptions_for_missing_entries=False
    )
    lengths.append(None if file is None else json.loads(Path(file).read_text()).get("max_seq_length"))
    return {"max_text_length": min(each for each in lengths if each), "text_padding": _padding(config.model_type)}


def _padding(model_type: str) -> str:
    return "max_length" if model_type.startswith(_PADDED_TEXTS) else "longest"


def padding_of_texts(config: Any) -> str:
    """How texts are padded for the encoders of a `CodeBindConfig`."""
    text: Any = getattr(config, "text_config", None)
    return _padding(text.backbone_config["model_type"]) if getattr(text, "stem", None) == "pretrained" else "longest"


def length_of_texts(config: Any, tokenizer: Any) -> int | None:
    """Tokens that the text encoder of a `CodeBindConfig` takes, and its network's tokenizer gives."""
    text = getattr(config, "text_config", None)
    length = getattr(text, "max_position_embeddings", None)
    if length is None or getattr(text, "stem", None) != "pretrained":
        return length
    return min(length, tokenizer.model_max_length)


def parts_of_backbones(config: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Tokenizer, image processor and feature extractor of encoders that are networks, by attribute of the processor.

    Args:
        config: the `CodeBindConfig`.
        given: those that are there already.

    Raises:
        OSError: a network that is not there, or has no such part.
    """
    found = {}
    for kind, attribute in _ATTRIBUTES.items():
        encoder: Any = getattr(config, {"image": "vision_config"}.get(kind, f"{kind}_config"), None)
        if getattr(encoder, "stem", None) == "pretrained":
            found[attribute] = given.get(attribute) or foreign_part(kind, encoder.backbone, encoder.backbone_revision)
    return found


def from_saved(fields: dict[str, Any]) -> Any:
    """The image processor or feature extractor with these parameters."""
    return _from_json(json.dumps(fields, sort_keys=True))


@functools.lru_cache(maxsize=32)
def _from_json(text: str) -> Any:
    kind = "image" if "image_processor_type" in json.loads(text) else "audio"
    # The library's tables are by file: they know which class reads the parameters with the libraries that are there.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "preprocessor_config.json").write_text(text)
        return foreign_part(kind, folder)


class ForeignReader(ModalityProcessing):
    """Pictures or sounds of any modality as the processor of a network makes them.

    Args:
        name: the modality.
        foreign: the image processor or feature extractor.
    """

    def __init__(self, name: str, foreign: Any) -> None:
        self.modality, self.argument, self.foreign = name, argument_of(name), foreign
        self.model_input_names = [tensor_of(name)]
        super().__init__()

    @property
    def takes_pictures(self) -> bool:
        """Whether the items are pictures, not sounds."""
        return hasattr(self.foreign, "image_processor_type") or "pixel_values" in self.foreign.model_input_names

    @property
    def media(self) -> str:
        """Files of pictures or sounds, whatever they are called."""
        return "image" if self.takes_pictures else "audio"

    def parameters(self) -> dict[str, Any]:
        """The network's own."""
        return json.loads(self.foreign.to_json_string())

    def with_parameters(self, **overrides: Any) -> "ForeignReader":
        """This reader: parameters of a network's own processor are what it was trained with.

        Raises:
            ValueError: other parameters.
        """
        refuse_unknown(f"{self.argument}_kwargs", overrides, ())
        return self

    def __call__(
        self, values: Any, sampling_rate: int | None = None, return_tensors: str | None = None, **overrides: Any
    ) -> BatchFeature:
        """Process one item or a list of items.

        Args:
            sampling_rate: Hz of sounds that come without their own.
        """
        reader = self.with_parameters(**overrides)
        if self.takes_pictures:
            return reader.batch(values, reader.process_item, return_tensors)
        return reader.batch(values, functools.partial(self.process_sound, sampling_rate=sampling_rate), return_tensors)

    def process_item(self, value: Any, label: str) -> np.ndarray:
        """One picture."""
        return made_of_picture(self.foreign, value, label)

    def process_sound(self, value: Any, label: str, sampling_rate: int | None = None) -> np.ndarray:
        """One sound; channels are averaged."""
        array, own_rate = split_rated(value, label)
        rate = sampling_rate if own_rate is None else own_rate
        if rate is None:
            fix = "pass {'array': samples, 'sampling_rate': Hz}, a file path, or sampling_rate=Hz."
            refuse(label, "got samples without a sampling rate", "samples with their rate", fix)
        samples = as_float_array(array, label)
        if samples.ndim == 2 and samples.shape[0] <= samples.shape[1]:
            samples = samples.mean(0)
        if samples.ndim != 1:
            refuse(label, f"got {describe(array)}", "samples, (time,) or (channels, time)")
        wanted = int(self.foreign.sampling_rate)
        samples = resample(samples[None], check_rate(rate, label), wanted)[0].astype(np.float32)
        options: dict[str, Any] = {}
        longest = getattr(self.foreign, "n_samples", None)
        if self.foreign.model_input_names[0] == "input_values" and not hasattr(self.foreign, "num_mel_bins"):
            longest = round(_SECONDS * wanted)
            options = {"padding": "max_length", "max_length": longest, "truncation": True}
        if longest is not None and len(samples) > longest:
            logger.warning_once(f"{label}: its network hears {longest / wanted:g} seconds; the rest is cut off.")
        made = self.foreign(samples, sampling_rate=wanted, return_tensors="np", **options)
        return _single(made, label)

    def items(self, values: Any) -> tuple[list[Any], list[str]]:
        """As for every modality; a batch of pictures may be one array."""
        self.item_ndim = 3 if self.takes_pictures else None
        return super().items(values if self.takes_pictures else one_sound_or_list(values, self.argument))


class ForeignVideoReader(CodeBindVideoImageProcessor):
    """Videos whose frames go through the image processor of a network."""

    foreign: Any

    def with_parameters(self, **overrides: Any) -> Any:
        """A copy with other clips and frames."""
        other = super().with_parameters(**overrides)
        other.foreign = self.foreign
        return other

    def _crops(self, value: Any, label: str) -> np.ndarray:
        return made_of_picture(self.foreign, value, label)[None]


def video_reader(video: CodeBindVideoImageProcessor, foreign: Any) -> ForeignVideoReader:
    """A reader that picks frames as `video` does."""
    reader = ForeignVideoReader(**video.parameters())
    reader.foreign = foreign
    return reader


def made_of_picture(foreign: Any, value: Any, label: str) -> np.ndarray:
    """What an image processor makes of one picture."""
    picture = picture_or_grid(value, label, 3)
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0))
    return _single(foreign([picture.convert("RGB")], return_tensors="np"), label)


def _single(made: Any, label: str) -> np.ndarray:
    """The one tensor of one item; what SigLIP2 knows of its patches are further columns of them.

    Raises:
        ValueError: there are several, which a modality has no place for.
    """
    tensors = {name: np.asarray(value) for name, value in made.items() if name not in _BESIDE}
    if set(tensors) == {"pixel_values", "pixel_attention_mask", "spatial_shapes"}:
        patches, mask, shapes = (
            tensors[name][0] for name in ("pixel_values", "pixel_attention_mask", "spatial_shapes")
        )
        about = np.concatenate([mask[:, None], np.broadcast_to(shapes, (len(patches), 2))], axis=1)
        return np.concatenate([patches, about.astype(np.float32)], axis=1, dtype=np.float32)
    if len(tensors) != 1:
        fix = "run the network elsewhere and use its features."
        refuse(label, f"got {shown(sorted(tensors))} of its network's processor", "one tensor a modality", fix)
    (values,) = tensors.values()
    return np.asarray(values[0], dtype=np.float32)
