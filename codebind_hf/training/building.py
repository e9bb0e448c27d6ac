"""What a recipe starts from: a fresh model, or a checkpoint with what it lacks added."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, set_seed
from transformers.utils import CONFIG_NAME

from codebind_hf.data.augmentation import Augmentation
from codebind_hf.model.backbone_files import backbone_fields
from codebind_hf.model.bridges import is_foreign
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.configuration_modalities import CodeBindTextConfig
from codebind_hf.model.modalities import BRIDGE_ENCODERS, MODALITIES
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.presets import merge_fields, preset_fields
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.modality_processing import ModalityProcessing
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.renamed import renamed_keywords
from codebind_hf.training.recipe import BACKBONE_FIELDS, Recipe
from codebind_hf.training.tokenization import build_tokenizer
from codebind_hf.training.typed_fields import check_names


logger = logging.getLogger(__name__)
_LIBRARY = logging.getLogger("transformers.modeling_utils")


# Fields in which an encoder may differ from the base's: noise of training, where sampling starts, and what is added.
_OWN_FIELDS = frozenset(
    {"attention_dropout", "dropout", "drop_path_rate", "fps_start"}
    | {
        "specific_dim",
        "specific_code_dim",
        "num_specific_codes",
        "specific_readout",
        "specific_num_hidden_layers",
        "decoder_hidden_size",
        "has_decoder",
    }
)
_TOWER_FIELDS = sorted(
    set(CodeBindEncoderConfig.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__) - _OWN_FIELDS
)
# Fields that follow from others where they are `None`.
_DERIVED = {"intermediate_size": "mlp_size", "patch_stride": "strides"}


@renamed_keywords(senses="modalities")
def build(recipe: Recipe, modalities: Sequence[str], texts: Sequence[str]) -> tuple[CodeBindModel, CodeBindProcessor]:
    """A model with the encoders that `modalities` need, and its processor.

    Without `recipe.base` the model is fresh and its tokenizer is trained on `texts`. With it, weights, tokenizer and
    preprocessing are the checkpoint's, in float32, and `texts` is not used.

    Raises:
        ValueError: an unknown preset or field, a checkpoint whose shapes differ or that lacks a bridge, or
            `order="bind"` without one.
        OSError: no checkpoint at `recipe.base`.
    """
    if recipe.order == "bind" and recipe.base is None:
        raise ValueError("order: got 'bind' without base; a fresh bridge would stay random. Fix: name a checkpoint.")
    set_seed(recipe.seed)
    config = recipe_config(recipe).restricted_to(modalities)
    warn_of_idle_terms(config)
    if recipe.base is not None:
        processor = _extended_processor(recipe.base, config, recipe.processor)
        _add_augmentation(processor, recipe.augmentation)
        return _loaded_model(recipe.base, config, recipe.temperature is not None), processor
    text, tokenizer = config.text_config, None
    if isinstance(text, CodeBindTextConfig) and text.stem == "tokens":
        tokenizer = build_tokenizer(texts, vocab_size=text.vocab_size, max_length=text.max_position_embeddings)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(text, name, getattr(tokenizer, name))
    processor = CodeBindProcessor.from_model_config(config, tokenizer, **recipe.processor)
    _add_augmentation(processor, recipe.augmentation)
    model = CodeBindModel(config)
    model.load_backbones()
    return model, processor


def _add_augmentation(processor: CodeBindProcessor, augmentation: dict[str, list[dict[str, Any]]]) -> None:
    """Set what the recipe says of the processor's modalities, checked before any row is read."""
    known = [*processor.modalities, *processor.added_modalities]
    check_names(augmentation, [*MODALITIES, *processor.added_modalities], "augmentation")
    if own := {modality: operations for modality, operations in augmentation.items() if modality in known}:
        processor.augmentation = own
        Augmentation(processor)


def recipe_config(recipe: Recipe) -> CodeBindConfig:
    """The configuration that a recipe names: of the base, then the preset, then its own fields.

    Raises:
        ValueError: an unknown preset or field.
        OSError: no checkpoint at `recipe.base`.
    """
    fields = {} if recipe.base is None else _stored_fields(recipe.base)
    if recipe.preset is not None:
        fields = merge_fields(fields, preset_fields(recipe.preset))
    if recipe.temperature is not None:
        fields["logit_scale_init_value"] = -math.log(recipe.temperature)
    return CodeBindConfig(**merge_fields(fields, _with_backbones(recipe.model)))


def _with_backbones(model: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe, with all of a network where an encoder has no more than its `backbone`.

    Raises:
        OSError: no network there.
    """
    found = dict(model)
    for kind, field in BACKBONE_FIELDS.items():
        own = found.get(field) or {}
        if own.get("stem") == "pretrained" and own.get("backbone") and not own.get("backbone_config"):
            given = {name: value for name, value in own.items() if name not in ("stem", "backbone")}
            try:
                found[field] = backbone_fields(own["backbone"], kind, **given)
            except OSError as error:
                reason = str(error).strip().splitlines()[0]
                fix = "give the folder of a network, or its name on the Hub (--backbones)."
                raise OSError(f"{field}: {own['backbone']!r} is no network ({reason}). Fix: {fix}") from error
    return found


def _stored_fields(base: str) -> dict[str, Any]:
    fix = "Fix: give the folder of a saved model or a run (--base); published weights need to be converted first."
    folder = Path(base)
    if folder.exists() and not (folder / CONFIG_NAME).is_file():
        # The library would go on with the defaults.
        raise OSError(f"base: {base!r} is no checkpoint, it has no {CONFIG_NAME}. {fix}")
    try:
        return _stored_config(base).to_dict()
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(f"base: {base!r} is no checkpoint. {fix} ({reason})") from error


def _stored_config(base: str) -> CodeBindConfig:
    """That of a checkpoint, or of the bridge that a network of others makes."""
    return CodeBindConfig.from_bridge(base) if is_foreign(base) else CodeBindConfig.from_pretrained(base)


def check_fit(base: str, config: CodeBindConfig) -> None:
    """Refuse towers other than the base's: some would fail at a tensor, some, such as other heads, run wrongly.

    Raises:
        ValueError: all fields that differ, and the base's values as YAML.
    """
    stored = _stored_config(base)
    compared: list[tuple[tuple[str, ...], Any, Any]] = [(("shared_dim",), stored.shared_dim, config.shared_dim)]
    for name, encoder in config.encoder_configs.items():
        if own := stored.encoder_configs.get(name):
            place = ("added_encoders", name) if name in (config.added_encoders or {}) else (f"{name}_config",)
            for field in _TOWER_FIELDS:
                held, wanted = (_plain(getattr(each, _DERIVED.get(field, field))) for each in (own, encoder))
                compared.append(((*place, field), held, wanted))
    found = [(path, held, wanted) for path, held, wanted in compared if held != wanted]
    if not found:
        return
    fields: dict[str, Any] = {}
    for path, held, _ in found:
        inner: dict[str, Any] = fields
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = held
    said = [f"{'.'.join(path)} is {held} in the base and {wanted} in the recipe" for path, held, wanted in found]
    lines = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in fields.items())
    raise ValueError(
        f"base: {base!r} does not fit the recipe's preset and model: {'; '.join(said)}. Fix: give the base's values "
        f"in the recipe, or leave out its preset:\nmodel:\n{lines}"
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def warn_of_idle_terms(config: CodeBindConfig) -> None:
    """Say which losses have a weight and nothing to judge."""
    has_specific = any(map(config.specific_dim_of, config.encoder_configs))
    has_codes = (
        bool(config.num_shared_codes)
        or has_specific
        and any(map(config.num_specific_codes_of, config.encoder_configs))
    )
    is_common = bool(config.num_shared_codes) and config.shared_codebook == "one"
    lacking = {
        "decoders (decoder_config)": ("recon",) if config.decoder_config is None else (),
        "specific embeddings (specific_dim)": () if has_specific else ("orth", "uni"),
        "codebooks (num_shared_codes)": () if has_codes else ("commit", "cctr", "cuni"),
        "shared codebook of all encoders (num_shared_codes, shared_codebook)": () if is_common else ("cm",),
    }
    for part, terms in lacking.items():
        if idle := [term for term in terms if config.loss_weight(term)]:
            logger.warning("loss_weights: %s: no effect, the model has no %s.", ", ".join(idle), part)


@contextmanager
def _held_report() -> Iterator[list[logging.LogRecord]]:
    """Holds back the library's table of every tensor that a base lacks, which `_check_bridges` says in a line."""
    held = list[logging.LogRecord]()

    def passes(record: logging.LogRecord) -> bool:
        if is_report := "LOAD REPORT" in record.getMessage():
            held.append(record)
        return not is_report

    _LIBRARY.addFilter(passes)
    try:
        yield held
    finally:
        _LIBRARY.removeFilter(passes)


def _loaded_model(base: str, config: CodeBindConfig, has_temperature: bool) -> CodeBindModel:
    check_fit(base, config)
    if is_foreign(base):
        return CodeBindModel.from_bridge(base, config=config, has_own_scale=has_temperature)
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    with _held_report() as held:
        try:
            loaded: Any = CodeBindModel.from_pretrained(base, **options)
        except RuntimeError as error:
            said = "".join(f"\n{record.getMessage()}" for record in held)
            raise ValueError(f"base: {base!r} does not fit the recipe's preset and model: {error}{said}") from error
    model, info = loaded
    if info["unexpected_keys"]:
        for record in held:
            _LIBRARY.handle(record)
    _check_bridges(model, set(info["missing_keys"]), base)
    if has_temperature:
        torch.nn.init.constant_(model.logit_scale.log_scale, model.logit_scale.initial)
    return model


def _check_bridges(model: CodeBindModel, missing: set[str], base: str) -> None:
    """Refuse a bridge without weights: everything is aligned to it; say what else starts from nothing."""
    names = [name for name, _ in model.named_parameters()]
    for encoder in BRIDGE_ENCODERS:
        tower = [name for name in names if name.startswith(f"encoders.{encoder}.tower.")]
        if tower and missing.issuperset(tower):
            raise ValueError(f"base: {base!r} has no {encoder} encoder, which the recipe's data needs.")
    for part, count in sorted(Counter(map(_part, missing)).items()):
        logger.warning("base: %s lacks %d tensors of %s, which start from nothing.", base, count, part)


def _part(name: str) -> str:
    """`encoders.eeg.tower` of `encoders.eeg.tower.layers.0...`."""
    return ".".join(name.split(".")[: 3 if name.startswith("encoders.") else 2])


def _extended_processor(base: str, config: CodeBindConfig, overrides: dict[str, dict[str, Any]]) -> CodeBindProcessor:
    """The base's processor for the modalities of `config`; those it does not know take the default parameters."""
    stored = CodeBindProcessor.from_pretrained(base)
    known = {
        part.argument: part.parameters() for part in _modality_parts(stored) if part.modality in stored.modalities
    }
    known["text"] = {
        "max_length": stored.max_text_length,
        "padding": stored.text_padding,
        "cleaning": stored.text_cleaning,
    }
    added = config.added_encoders or {}
    # What another network made of the items, or reads itself, has no parameters of ours.
    known = {name: options for name, options in known.items() if name == "text" or not _is_foreign(config, name)}
    names = [name for name in {**known, **overrides} if name not in added]
    options = {name: {**known.get(name, {}), **overrides.get(name, {})} for name in names}
    tokenizer = stored.tokenizer if "text" in stored.modalities else None
    processor = CodeBindProcessor.from_model_config(config, tokenizer, stored, **options)
    for name in added:
        parameters = {**processor.added_modalities.pop(name), **stored.added_modalities.get(name, {})}
        sizes = {"num_channels", "input_size"} & overrides.get(name, {}).keys()
        if sizes:
            raise ValueError(f"processor: {min(sizes)} of {name!r} is its encoder's. Fix: leave it out.")
        own = {key: value for key, value in parameters.items() if key != "name"}
        processor.add_modality(name, **{**own, **overrides.get(name, {})})
    return processor


def _is_foreign(config: CodeBindConfig, argument: str) -> bool:
    return any(
        argument_of(name) == argument and config.encoder_configs[modality.encoder].stem in ("features", "pretrained")
        for name, modality in config.modalities.items()
    )


def _modality_parts(processor: CodeBindProcessor) -> Iterable[ModalityProcessing]:
    parts = (getattr(processor, name) for name in processor.get_attributes())
    return (part for part in parts if isinstance(part, ModalityProcessing))
