"""Which model do the text and image encoders of others make? The fields of a bridge that a sensor is bound to."""

import os
from collections.abc import Mapping
from json import JSONDecodeError
from typing import Any

import transformers

from .backbone_files import PARTS, backbone_fields, config_of, sentence_modules


# The encoder of a kind of input.
_ENCODERS = {"text": "text", "image": "vision", "audio": "audio"}
_CODE_DIMS = (8, 4, 2, 1)


def is_foreign(source: Any, **options: Any) -> bool:
    """Whether a name or folder is of a model that is not CodeBind's."""
    if source is None:
        return False
    try:
        fields, _ = transformers.PreTrainedConfig.get_config_dict(source, **options)
    except (OSError, JSONDecodeError, UnicodeError):
        # Whoever loads it says what is wrong with it.
        return False
    return fields.get("model_type", "codebind") != "codebind"


def kinds_of(bridge: str, revision: str | None = None) -> tuple[str, ...]:
    """What a model reads of "text", "image" and "audio".

    Raises:
        ValueError: none of them, or a model that transformers does not know.
        OSError: nothing there.
    """
    if sentence_modules(bridge, revision):
        return ("text",)
    network: Any = transformers.MODEL_MAPPING[type(config_of(bridge, revision))]
    network = network[0] if isinstance(network, (list, tuple)) else network
    several = tuple(kind for kind in PARTS if hasattr(network, f"get_{kind}_features"))
    if len(several) > 1 and several[0] == "text":
        return several
    inputs = {"input_ids": "text", "pixel_values": "image", "input_features": "audio", "input_values": "audio"}
    kind = inputs.get(network.main_input_name)
    if kind is None:
        raise ValueError(f"bridge: {bridge!r} reads {network.main_input_name}; known: {', '.join(inputs)}.")
    return (kind,)


def bridge_fields(bridge: str | os.PathLike | Mapping[str, str], revision: str | None = None) -> dict[str, Any]:
    """Fields of `CodeBindConfig` for a bridge: encoders that are finished, and their embedding as the shared one.

    Args:
        bridge: name or folder of a model of text and images such as CLIP or SigLIP, of a sentence-transformers model,
            or of any one network; or one for each of "text", "image" and "audio". Of several, the first has the
            shared embedding, and heads of the others start from nothing.
        revision: commit on the Hub of a single one.

    Raises:
        ValueError: another kind of input, or models that make no bridge.
        OSError: nothing there.
    """
    if isinstance(bridge, Mapping):
        if not bridge or not set(bridge) <= set(PARTS):
            raise ValueError(f"bridge: got {', '.join(map(repr, bridge)) or 'nothing'}; allowed: {', '.join(PARTS)}.")
        places = {kind: os.fspath(bridge[kind]) for kind in PARTS if kind in bridge}
    else:
        places = dict.fromkeys(kinds_of(os.fspath(bridge), revision), os.fspath(bridge))
    pinned = {} if revision is None else {"backbone_revision": revision}
    encoders = {kind: backbone_fields(place, kind, **pinned) for kind, place in places.items()}
    width = next(iter(encoders.values()))["hidden_size"]
    fields: dict[str, Any] = {
        "shared_dim": width,
        "specific_dim": width,
        "num_shared_codes": 0,
        "align_on": "continuous",
    }
    fields["code_dim"] = next(size for size in _CODE_DIMS if width % size == 0)
    is_one = len(set(places.values())) == 1
    for number, (kind, encoder) in enumerate(encoders.items()):
        head = "identity" if encoder["hidden_size"] == width and (is_one or not number) else "linear"
        fields[f"{_ENCODERS[kind]}_config"] = {**encoder, "specific_dim": 0, "shared_head": head}
    return fields
