"""One processor for all modalities: which sub-processor reads which argument, and what a whole call gives."""

import re
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Self

from transformers import BatchFeature, CLIPTokenizer, PreTrainedTokenizerBase, ProcessorMixin

from .arguments import ARGUMENTS, CONFIG_FIELDS, OPTIONS, call_options, tensor_of
from .feature_extraction_codebind import CodeBindAudioFeatureExtractor
from .feature_reading import added_modality, added_part, checked_readers, reader_of, reader_parameters
from .foreign_files import loading, no_packs
from .foreign_processing import (
    ForeignReader,
    bridge_parts,
    is_foreign,
    length_of_texts,
    padding_of_texts,
    parts_of_backbones,
    video_reader,
)
from .image_processing_codebind import (
    CodeBindDepthImageProcessor,
    CodeBindImageProcessor,
    CodeBindTactileImageProcessor,
    CodeBindThermalImageProcessor,
)
from .modality_processing import check_tensor_type
from .model_sizes import added_sizes, checked_augmentation, checked_modalities, configured_modalities, size_parameters
from .point_processing_codebind import CodeBindPointFeatureExtractor
from .signal_processing_codebind import CodeBindEegFeatureExtractor, CodeBindImuFeatureExtractor
from .streams import Batch, Stream, StreamOptions, labelled_items
from .sub_processors import CLASSES, PARTS, saved_parts
from .text_cleaning import CLEANINGS, encode_texts, split_texts
from .values import LIMITS, check_choice, check_number, check_types, refuse, refuse_unknown
from .video_processing_codebind import CodeBindVideoImageProcessor


_MODALITY_OF = {argument: name for name, argument in ARGUMENTS.items()}
_PADDING = ("max_length", "longest")


class CodeBindProcessor(ProcessorMixin):
    """Turns any subset of modalities into the tensors that `CodeBindModel` reads.

    Args:
        image_processor, video_image_processor, depth_image_processor: sub-processors; `None` makes one with its
            default parameters.
        thermal_image_processor, tactile_image_processor, point_feature_extractor: likewise.
        feature_extractor: of audio, likewise.
        eeg_feature_extractor, imu_feature_extractor: likewise.
        tokenizer: reads text; without one the processor knows no text.
        modalities: modalities that the checkpoint has; `None` is all of them (without a tokenizer: all but text).
        max_text_length: tokens that a text is cut and padded to, begin and end included.
        text_padding: "max_length" (every batch has the same width) or "longest" (of the batch).
        text_cleaning: `None`; "clip": repair, unescape and lower-case texts as CLIP and ImageBind do; "open_clip", the
            same with OpenCLIP's names of special tokens; "vitlens": clean captions as ViT-Lens does, then "open_clip".
        added_modalities: parameters of `CodeBindArrayFeatureExtractor` by name of the added modality.
        readers: what reads a modality in place of its sub-processor, by its name: parameters of a reader, with its
            "kind" ("features": what another network made of the items).
        augmentation: what training, never a call, does to items: by modality, operations of `codebind_hf.data`.
    """

    augmentation: dict[str, list[dict[str, Any]]] | None = None
    # Gives what reads packs; the package sets it where it is there.
    pack_room: ClassVar[Callable[[], Any]] = no_packs
    readers: dict[str, dict[str, Any]] | None = None

    def __init__(
        self,
        image_processor: CodeBindImageProcessor | None = None,
        feature_extractor: CodeBindAudioFeatureExtractor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        video_image_processor: CodeBindVideoImageProcessor | None = None,
        depth_image_processor: CodeBindDepthImageProcessor | None = None,
        thermal_image_processor: CodeBindThermalImageProcessor | None = None,
        tactile_image_processor: CodeBindTactileImageProcessor | None = None,
        point_feature_extractor: CodeBindPointFeatureExtractor | None = None,
        eeg_feature_extractor: CodeBindEegFeatureExtractor | None = None,
        imu_feature_extractor: CodeBindImuFeatureExtractor | None = None,
        modalities: list[str] | None = None,
        max_text_length: int | None = None,
        text_padding: str = "longest",
        text_cleaning: str | None = None,
        added_modalities: dict[str, dict[str, Any]] | None = None,
        augmentation: dict[str, list[dict[str, Any]]] | None = None,
        readers: dict[str, dict[str, Any]] | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.modalities = checked_modalities(modalities, has_tokenizer=tokenizer is not None)
        # transformers saves and loads a complete set, so a processor without text keeps an empty tokenizer.
        tokenizer = CLIPTokenizer() if tokenizer is None else tokenizer
        super().__init__(
            image_processor or CodeBindImageProcessor(),
            feature_extractor or CodeBindAudioFeatureExtractor(),
            tokenizer,
            video_image_processor or CodeBindVideoImageProcessor(),
            depth_image_processor or CodeBindDepthImageProcessor(),
            thermal_image_processor or CodeBindThermalImageProcessor(),
            tactile_image_processor or CodeBindTactileImageProcessor(),
            point_feature_extractor or CodeBindPointFeatureExtractor(),
            eeg_feature_extractor or CodeBindEegFeatureExtractor(),
            imu_feature_extractor or CodeBindImuFeatureExtractor(),
            chat_template=chat_template,
        )
        if max_text_length is None:
            # A tokenizer without a limit of its own says 10^30; CLIP's 77 is the width everyone else uses.
            max_text_length = tokenizer.model_max_length if tokenizer.model_max_length < 10**6 else 77
        check_number("max_text_length", max_text_length, 3, whole=True, most=LIMITS.tokens)
        check_choice("text_padding", text_padding, _PADDING)
        check_choice("text_cleaning", text_cleaning, CLEANINGS)
        self.max_text_length, self.text_padding, self.text_cleaning = max_text_length, text_padding, text_cleaning
        self.added_modalities: dict[str, dict[str, Any]] = {}
        for name, parameters in (added_modalities or {}).items():
            self.add_modality(name, **{key: value for key, value in parameters.items() if key != "name"})
        if readers is not None:
            self.readers = checked_readers(readers, self.modalities)
        if augmentation is not None:
            self.augmentation = checked_augmentation(augmentation, [*self.modalities, *self.added_modalities])

    @classmethod
    def from_model_config(
        cls,
        config: Any,
        tokenizer: PreTrainedTokenizerBase | None = None,
        foreign: Any = None,
        **overrides: dict[str, Any],
    ) -> Self:
        """A processor whose sizes are those of the encoders of a `CodeBindConfig`.

        Encoders that are networks of others have their processors, which are loaded from where the networks lie.

        Args:
            foreign: a processor whose parts of such encoders are taken instead.
            overrides: further parameters by argument, e.g. `audio={"clip_seconds": 2.0}`, `text={"max_length": 32}`.

        Raises:
            ValueError: the checkpoint reads text and no tokenizer was given, or an override is unknown.
        """
        modalities = configured_modalities(config)
        others = dict(parts_of_backbones(config, vars(foreign) if foreign is not None else {}))
        tokenizer = tokenizer or others.pop("tokenizer", None)
        if "text" in modalities and tokenizer is None:
            fix = "`build_tokenizer(texts)` trains one, `CLIPTokenizer.from_pretrained(...)` loads one."
            refuse("tokenizer", "got None, but the checkpoint has a text encoder", "a tokenizer", fix)
        if unknown := sorted(set(overrides) - set(_MODALITY_OF)):
            refuse("overrides", f"got unknown argument {unknown[0]!r}", ", ".join(_MODALITY_OF))
        check_types(overrides, dict.fromkeys(overrides, dict[str, Any]))
        parts, readers = {}, {}
        for name, (attribute, part) in PARTS.items():
            encoder, own = getattr(config, CONFIG_FIELDS[name], None), overrides.get(ARGUMENTS[name], {})
            is_foreign_part = attribute in others or name == "video" and "image_processor" in others
            reader = None if is_foreign_part else reader_parameters(encoder, name, overrides, foreign)
            if own and attribute in others:
                fix = "leave them out: what another network takes is not changed."
                refuse(f"overrides[{ARGUMENTS[name]!r}]", "got parameters for another network's", "none", fix)
            if reader is not None:
                readers[name], own = reader, {}
            sizes = size_parameters(name, None if reader else encoder)
            parts[attribute] = others.get(attribute) or part(**{**sizes, **own})
        text = dict(overrides.get("text", {}))
        processor = cls(
            readers=readers or None,
            tokenizer=tokenizer,
            modalities=modalities,
            max_text_length=text.pop("max_length", length_of_texts(config, tokenizer)),
            text_padding=text.pop("padding", padding_of_texts(config)),
            text_cleaning=text.pop("cleaning", None),
            **parts,  # type: ignore[arg-type]
        )
        if text:
            refuse("overrides['text']", f"got unknown parameter {min(text)!r}", "max_length, padding, cleaning")
        for name, encoder in (getattr(config, "added_encoders", None) or {}).items():
            processor.add_modality(name, **added_sizes(encoder))
        return processor

    @classmethod
    def from_bridge(cls, bridge: Any, revision: str | None = None, **options: Any) -> Self:
        """The processor of `CodeBindModel.from_bridge(bridge)`: that of the networks whose encoders it has.

        Args:
            bridge: name or folder of a network, or one for each of "text", "image" and "audio".
            options: of the constructor.

        Raises:
            OSError: a network without a tokenizer, an image processor or a feature extractor.
        """
        return cls(**{**bridge_parts(bridge, revision), **options})

    def add_modality(
        self, name: str, num_channels: int | None = None, input_size: list[int] | None = None, **parameters: Any
    ) -> None:
        """Let `processor(<name>=...)` give `<name>_values`; saved with the processor.

        Args:
            parameters: of `CodeBindArrayFeatureExtractor`; or, as the encoder's, `stem="features"` for what another
                network made of the items, or `stem="pretrained"` with `backbone`, whose processor reads them.

        Raises:
            ValueError: the name is taken or no identifier, or a parameter is wrong.
        """
        taken = {*_MODALITY_OF, *ARGUMENTS, *self.added_modalities, *OPTIONS, "return_tensors"}
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in taken:
            refuse("name", f"got {name!r}", "a new lower-case identifier", f"taken: {', '.join(sorted(taken))}.")
        self.added_modalities[name] = added_modality(name, num_channels, input_size, **parameters)

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        videos: Any = None,
        audio: Any = None,
        depth: Any = None,
        thermal: Any = None,
        tactile: Any = None,
        point_clouds: Any = None,
        eeg: Any = None,
        imu: Any = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Process any subset of modalities; each is one item or a list, and lists may differ in length.

        Args:
            text: `str` or list of them.
            images, tactile: `PIL.Image`, uint8 `(height, width, 3)`, floats in [0, 1], or a path.
            videos: uint8 `(frames, height, width, 3)`, a list of pictures, or a path.
            audio: `{"array", "sampling_rate"}`, an array with `sampling_rate=`, or a path.
            depth: `(height, width)` in metres, or with `depth_unit=`, or a path.
            thermal: `(height, width)` levels, or with `thermal_unit=` and `thermal_range=`, or a path.
            point_clouds: `(points, 3)`, where the encoder sees colours also `(points, 6)`, or a path.
            eeg, imu: `(channels, time)`, `{"array", "sampling_rate"}`, or a path.
            return_tensors: "pt", "np" or `None` (lists of arrays).
            kwargs: added modalities by name; `sampling_rate` (audio), `depth_unit`, `thermal_unit`, `thermal_range`;
                `padding` and `max_length` (text; `True` is "longest"); and `<argument>_kwargs`, a dictionary of
                parameters of one sub-processor for this call.

        Returns:
            `BatchFeature` with the tensors of the modalities passed, named as `CodeBindModel.forward` names them.

        Raises:
            ValueError: nothing passed, an unknown keyword, a modality this checkpoint lacks, or an unusable item.
            OSError: a file that cannot be read.
        """
        check_tensor_type(return_tensors)
        built_in = (text, images, videos, audio, depth, thermal, tactile, point_clouds, eeg, imu)
        added = {name: kwargs.pop(name, None) for name in self.added_modalities}
        values = {**dict(zip(ARGUMENTS.values(), built_in, strict=True)), **added}
        options = call_options(kwargs, list(values))
        present = {argument: value for argument, value in values.items() if value is not None}
        if not present:
            refuse("processor", "got no input", f"at least one of {', '.join(values)}")
        result = BatchFeature({})
        for argument, value in present.items():
            self._check_present(argument)
            call = self._text if argument == "text" else self.part(argument)
            result.update(call(value, return_tensors=return_tensors, **options.get(argument, {})))
        return result

    def _check_present(self, argument: str) -> None:
        name = _MODALITY_OF.get(argument)
        if name is None or name in self.modalities:
            return
        if name == "text":
            fix = "load the checkpoint's tokenizer or build one with `build_tokenizer(texts)`."
            refuse("text", "this processor has no tokenizer", self._known(), fix)
        refuse(argument, f"this checkpoint has no encoder for {name}", self._known())

    def _known(self) -> str:
        return "modalities " + ", ".join([*self.modalities, *self.added_modalities])

    def part(self, argument: str) -> Any:
        """The sub-processor of a call's argument."""
        if argument in self.added_modalities:
            return added_part(self.added_modalities[argument])
        name = _MODALITY_OF[argument]
        if self.readers is not None and name in self.readers:
            return reader_of(name, self.readers[name])
        part = getattr(self, PARTS[name][0])
        if name == "video" and not hasattr(self.image_processor, "process_item"):
            return video_reader(part, self.image_processor)
        return part if hasattr(part, "process_item") else ForeignReader(name, part)

    def stream(
        self, items: Any, known: tuple[str, ...] | None = None, modality: str | None = None, **options: Any
    ) -> Generator[Batch, None, None]:
        """Batches of model inputs from items of any number: what `CodeBindModel.encode` reads.

        Never more than some batches of raw values are in memory, and of recordings never more than some clips.

        Args:
            items: one list or iterator of mixed items, as for `encode`; with `modality`, of its values.
            known: modalities of the model; `None` is those of this processor.
            modality: of all items.
            options: `batch_size`, `clips`, `hop_seconds`, `num_workers`, `allow_urls` and `on_error` as for `encode`;
                `each_clip`, whether the clips of a recording are samples by themselves.

        Returns:
            A generator of `Batch`; options are checked at once, items when they are reached.

        Raises:
            ValueError: no items, a wrong option, an item whose modality is unknown or not among `known`, a URL, or a
                value that cannot be used; the message names the item.
            OSError: a file that cannot be read, or a URL that cannot be fetched.
        """
        refuse_unknown("encode", options, StreamOptions.__dataclass_fields__)
        chosen = StreamOptions(**options)
        names = (*self.modalities, *self.added_modalities) if known is None else known
        return Stream(self, names, chosen).batches(labelled_items(items, names, modality, chosen.allow_urls))

    def _text(
        self,
        text: Any,
        return_tensors: str | None,
        max_length: int | None = None,
        padding: str | bool | None = None,
        truncation: bool = True,
        **unknown: Any,
    ) -> dict[str, Any]:
        refuse_unknown("text_kwargs", unknown, ("max_length", "padding", "truncation"))
        if max_length is not None:
            check_number("max_length", max_length, 3, whole=True, most=LIMITS.tokens)
        # Callers of other processors write `padding=True, truncation=True`.
        if padding is None or isinstance(padding, bool):
            padding = "longest" if padding else self.text_padding
        check_choice("padding", padding, _PADDING)
        check_choice("truncation", truncation, (True,))
        items, labels = split_texts(text)
        length = max_length or self.max_text_length
        encoded = encode_texts(self.tokenizer, items, labels, self.text_cleaning, padding, length, return_tensors)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}

    @property
    def model_input_names(self) -> list[str]:
        """Names of all tensors that a call can give, without duplicates."""
        names = [tensor_of(name) for name in self.modalities]
        if "text" in self.modalities:
            names.insert(names.index("input_ids") + 1, "attention_mask")
        return names + [tensor_of(name) for name in self.added_modalities]

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Save parts, tokenizer and code; the tokenizer forgets the padding and truncation of its last call."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            # transformers writes them into tokenizer.json, and after loading they would cut every text.
            backend.no_truncation()
            backend.no_padding()
        for key in ("is_local", "local_files_only"):
            # How this machine found the tokenizer; transformers would write it down as the tokenizer's own.
            self.tokenizer.init_kwargs.pop(key, None)
        written = super().save_pretrained(str(save_directory), push_to_hub=push_to_hub, **kwargs)
        # Where the code is found belongs in the files; on these objects it would be a trace of having been saved.
        for part in (self, *(getattr(self, attribute) for attribute in self.get_attributes())):
            vars(part).pop("auto_map", None)
        return written

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, packs: Any = None, **kwargs: Any) -> Any:
        """The library's, or of a model of others `from_bridge`; with `packs` beside. Damage is an `OSError`."""
        if packs is not None:
            return cls.pack_room().load_processor(cls, pretrained_model_name_or_path, packs, *args, **kwargs)
        if is_foreign(pretrained_model_name_or_path, **kwargs):
            return cls.from_bridge(pretrained_model_name_or_path, kwargs.get("revision"))
        with loading(pretrained_model_name_or_path):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        """Sub-processors in the order of `__init__`, from the processor's own JSON; the tokenizer from its files.

        The base class would look the first two up through the Auto classes, which do not know classes of this package
        before it registers them, and the others by a registry that cannot hold them.
        """
        return saved_parts(cls, pretrained_model_name_or_path, processor_dict or {}, **kwargs)

    @staticmethod
    def get_possibly_dynamic_module(module_name: str) -> Any:
        """The class called `module_name`, of this package or of transformers."""
        return CLASSES.get(module_name) or ProcessorMixin.get_possibly_dynamic_module(module_name)


CodeBindProcessor.register_for_auto_class()
# Of the sub-processors, only these have Auto classes of their own that look for them; the stock pipelines do.
CodeBindImageProcessor.register_for_auto_class()
CodeBindAudioFeatureExtractor.register_for_auto_class()
