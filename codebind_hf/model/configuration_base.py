"""What every CodeBind configuration shares: strict fields, refused unknown keys, and checks of values."""

import difflib
import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig


# Keys that the library itself hands to a configuration beside its fields.
_LIBRARY_KEYS = frozenset(
    {
        "model_type",
        "torch_dtype",
        "name_or_path",
        "_name_or_path",
        "_commit_hash",
        "output_attentions",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "experts_implementation",
        "_experts_implementation",
        "_experts_implementation_internal",
        "per_layer_config",
        "num_labels",
        "auto_map",
        "custom_pipelines",
        "use_cache",
        "tie_word_embeddings",
        "quantization_config",
        "base_model_tp_plan",
        "base_model_pp_plan",
    }
)
# Labels that a classifier of the library may have; it makes a name for each before anything is checked.
_MOST_LABELS = 10**6
_REQUIRED = object()
# This file also runs as code of a checkpoint, under another name.
_IS_INSTALLED = __name__.startswith("codebind_hf.")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(map(repr, allowed))}.")


def check_least(config: PreTrainedConfig, names: str, least: float = 1) -> None:
    for name in names.split():
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise ValueError(f"{name}: got {value!r}; it must be {least} or more.")


def check_rate(config: PreTrainedConfig, names: str) -> None:
    for name in names.split():
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name}: got {getattr(config, name)!r}; it must be in [0, 1).")


def check_fields(name: str, value: Any) -> None:
    """Refuse what cannot be the fields of a part.

    Raises:
        ValueError: it is no mapping, or a key is no text.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name}: got {value!r}; expected the fields of a configuration by their names.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_dtype(value: Any) -> bool:
    found = getattr(torch, value, None) if isinstance(value, str) else value
    return isinstance(found, torch.dtype)


def _is_labels(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    # JSON makes texts of numbers.
    numbers = all(_is_whole(key) or isinstance(key, str) and key.isdecimal() for key in value)
    return numbers and all(isinstance(label, str) for label in value.values())


# What the library would stumble over before it checks any type, with what it takes.
_LIBRARY_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dtype": (_is_dtype, "a type of torch, such as 'float32'"),
    "torch_dtype": (_is_dtype, "a type of torch, such as 'float32'"),
    "id2label": (_is_labels, "texts by whole numbers"),
    "num_labels": (lambda value: _is_whole(value) and 0 <= value <= _MOST_LABELS, f"0 to {_MOST_LABELS}"),
    "per_layer_config": (lambda value: False, "None, as all layers of a part are alike"),
    "problem_type": (lambda value: isinstance(value, str), "a text"),
    "is_encoder_decoder": (lambda value: value is False, "False"),
    "output_attentions": (lambda value: isinstance(value, bool), "True, False"),
}


def checked_config(cls: type) -> type:
    """`strict`, with wrong values reported as the `ValueError` that callers of a constructor expect."""
    cls = strict(cls)
    strict_init = cls.__init__  # type: ignore[misc]

    @wraps(strict_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            strict_init(self, *args, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from error

    cls.__init__ = init  # type: ignore[misc]
    return cls


@checked_config
class CodeBindBaseConfig(PreTrainedConfig):
    """What every CodeBind configuration shares: an unknown key is refused, with the nearest known one.

    `later_fields` are those that the code of version 0.1, which a folder on the Hub may carry, does not know and
    refuses; they are written where they differ from their defaults, which are what that code does.
    """

    later_fields: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The library's, without `later_fields` that are as they were before there was such a field.

        Nor has it `_built`, which keeps encoders' configurations at hand.
        """
        defaults = {name: type(self).__dataclass_fields__[name].default for name in self.later_fields}
        return {
            name: value
            for name, value in super().to_dict().items()
            if name != "_built" and value != defaults.get(name, _REQUIRED)
        }

    def plain_fields(self) -> dict[str, Any]:
        """The fields that differ from the defaults, as JSON values."""
        return {key: value for key, value in self.to_diff_dict().items() if key in type(self).__dataclass_fields__}

    def __post_init__(self, **kwargs: Any) -> None:
        if _IS_INSTALLED:
            # The package registers its pipelines itself. Named here, they would be loaded as code of the checkpoint,
            # which the library refuses without `trust_remote_code`.
            kwargs.pop("custom_pipelines", None)
        unknown = sorted(set(kwargs) - _LIBRARY_KEYS)
        if unknown:
            own = set(type(self).__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
            known = sorted(own - set(CodeBindBaseConfig.__annotations__))
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known keys: {', '.join(known)}."
            raise ValueError(f"{type(self).__name__}: unknown key {', '.join(map(repr, unknown))}.{hint}")
        given = {key: value for key, value in kwargs.items() if value is not None or key != "num_labels"}
        fields = {name: getattr(self, name) for name in type(self).__dataclass_fields__}
        for name, (is_allowed, allowed) in _LIBRARY_VALUES.items():
            value = {**fields, **given}.get(name)
            if value is not None and not is_allowed(value):
                raise ValueError(f"{type(self).__name__}: {name}: got {value!r}; allowed: {allowed}.")
        super().__post_init__(**given)

    def validate_numbers(self) -> None:
        """Refuse numbers that are not finite; a scale without a bound is the one that may be."""
        for name in type(self).__dataclass_fields__:
            value = getattr(self, name)
            if (
                isinstance(value, float)
                and not math.isfinite(value)
                and (name, value) != ("max_logit_scale", math.inf)
            ):
                raise ValueError(f"{name}: got {value}; it must be a finite number.")
