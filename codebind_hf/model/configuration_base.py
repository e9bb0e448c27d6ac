"""What every CodeBind configuration shares: strict fields, refused unknown keys, and checks of values."""

import difflib
from functools import wraps
from typing import Any, ClassVar

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
        """The library's, without `later_fields` that are as they were before there was such a field."""
        defaults = {name: type(self).__dataclass_fields__[name].default for name in self.later_fields}
        return {name: value for name, value in super().to_dict().items() if value != defaults.get(name, _REQUIRED)}

    def __post_init__(self, **kwargs: Any) -> None:
        if _IS_INSTALLED:
            # The package registers its pipelines itself. Named here, they would be loaded as code of the checkpoint,
            # which the library refuses without `trust_remote_code`.
            kwargs.pop("custom_pipelines", None)
        unknown = sorted(set(kwargs) - _LIBRARY_KEYS)
        if unknown:
            known = sorted(type(self).__dataclass_fields__)
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known keys: {', '.join(known)}."
            raise ValueError(f"{type(self).__name__}: unknown key {', '.join(map(repr, unknown))}.{hint}")
        super().__post_init__(**kwargs)
