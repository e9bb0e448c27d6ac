"""What is there of a pretrained network: its configuration, how it is pooled, and a digest of its weights."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import transformers
from transformers.utils import logging
from transformers.utils.hub import cached_file


logger = logging.get_logger(__name__)

# Kinds of input that networks of several have functions for, and how their parts for each are called.
PARTS = {"text": ("text",), "image": ("vision", "visual", "image"), "audio": ("audio",)}
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_CHUNK = 2**24
# Of sentence-transformers: how its poolings are called here, and its modules that are run or change nothing.
_POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_ACTIVATIONS = {"Identity": "linear", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu"}
_NOTHING = frozenset({"Normalize", "Dropout"})


def check_folder(source: str) -> None:
    """Refuse what can only be the path of a folder and is none.

    Raises:
        OSError: it is not there.
    """
    is_path = os.path.isabs(source) or source.startswith(".") or source.count("/") > 1
    if is_path and not os.path.isdir(source):
        raise OSError(f"backbone: {source!r}: no such folder. Fix: correct the path, or give a name on the Hub.")


def found_file(source: str, name: str, revision: str | None = None, **options: Any) -> Path | None:
    """A file of a folder or of a model on the Hub; `None` if it has none of this name.

    Raises:
        OSError: no such folder.
    """
    check_folder(source)
    if os.path.isdir(source):
        file = Path(source) / name
        return file if file.is_file() else None
    found = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False, **options)
    return None if found is None else Path(found)


def weight_files(source: str, revision: str | None = None, **options: Any) -> list[Path]:
    """The files of weights that the library loads from a folder or the Hub.

    Raises:
        OSError: there are none.
    """
    for name in _WEIGHTS:
        file = found_file(source, name, revision, **options)
        if file is not None and file.suffix == ".json":
            parts = sorted(set(json.loads(file.read_text())["weight_map"].values()))
            found = [found_file(source, part, revision, **options) for part in parts]
            if any(part is None for part in found):
                raise OSError(f"backbone: {source!r} lacks {parts[found.index(None)]}. Fix: copy it again.")
            return [part for part in found if part is not None]
        if file is not None:
            return [file]
    raise OSError(f"backbone: {source!r} has no weights; looked for {', '.join(_WEIGHTS)}. Fix: correct the name.")


def weights_digest(source: str, revision: str | None = None, **options: Any) -> str:
    """SHA-256 of the file of weights, as the Hub shows it; of several, of the lines `<sha256>  <name>` of all.

    Raises:
        OSError: no weights.
    """
    digests = [(_digest_of(file), file.name) for file in weight_files(source, revision, **options)]
    if len(digests) == 1:
        return digests[0][0]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for digest, name in digests).encode()).hexdigest()


def _digest_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def config_of(source: str, revision: str | None = None, **options: Any) -> Any:
    """The configuration of a network of transformers.

    Raises:
        ValueError: a network that the library does not know, such as one with code of its own.
        OSError: nothing there.
    """
    check_folder(source)
    if os.path.isdir(source) and not (Path(source) / "config.json").is_file():
        raise OSError(f"backbone: {source!r} has no config.json, so it is no network. Fix: correct the path.")
    fix = (
        'Fix: run it elsewhere and use what it gives, with stem="features"; code that comes with a checkpoint is not '
        "run here."
    )
    try:
        config = transformers.AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False, **options)
    except ValueError as error:
        raise ValueError(f"backbone: {source!r} is no network that transformers knows ({error}). {fix}") from error
    if type(config) not in transformers.MODEL_MAPPING or config.model_type == "codebind":
        raise ValueError(f"backbone: {source!r} is a {config.model_type!r}, which makes no backbone. {fix}")
    return config


def backbone_fields(backbone: str, kind: str, **fields: Any) -> dict[str, Any]:
    """Fields of `CodeBindEncoderConfig` for a network; those that are given win.

    Args:
        backbone: name or folder.
        kind: "text", "image" or "audio".

    Raises:
        ValueError: another kind, or no network that could be such an encoder.
        OSError: nothing there.
    """
    if kind not in PARTS:
        raise ValueError(f"kind: got {kind!r}; allowed: {', '.join(map(repr, PARTS))}.")
    source, revision = os.fspath(backbone), fields.get("backbone_revision")
    sentence = _sentence_fields(source, revision) if kind == "text" else {}
    config = config_of(source, revision)
    chosen = {**_pooling_of(config, kind), **sentence, **fields}
    kept = {name: value for name, value in config.to_dict().items() if name not in ("_name_or_path", "architectures")}
    found: dict[str, Any] = {
        "stem": "pretrained",
        "backbone": source,
        "backbone_config": json.loads(json.dumps({**kept, "model_type": config.model_type})),
        "backbone_sha256": weights_digest(source, revision),
        "hidden_size": _width(config, kind, chosen),
        "num_hidden_layers": 0,
        "num_attention_heads": 1,
    }
    if kind == "text":
        text = config.get_text_config()
        found["vocab_size"] = text.vocab_size
        found["max_position_embeddings"] = max(1, _longest_text(text))
    return {**found, **chosen}


def _pooling_of(config: Any, kind: str) -> dict[str, Any]:
    """Which part of a network is run for a kind of input, and how it is pooled."""
    network: Any = transformers.MODEL_MAPPING[type(config)]
    if isinstance(network, (tuple, list)):
        network = network[0]
    if all(hasattr(network, f"get_{each}_features") for each in ("text", kind)):
        return {"backbone_part": kind, "backbone_pooling": "projection"}
    if getattr(config, "is_encoder_decoder", False):
        return {"backbone_part": "encoder", "backbone_pooling": "mean"}
    if kind == "image":
        return {"backbone_pooling": "cls" if hasattr(config, "num_attention_heads") else "pooler"}
    return {"backbone_pooling": "mean"}


def _width(config: Any, kind: str, chosen: dict[str, Any]) -> int:
    """Numbers of the pooled token."""
    if chosen.get("backbone_dense"):
        return int(chosen["backbone_dense"][-1]["out_features"])
    if chosen["backbone_pooling"] == "projection":
        own = getattr(config, {"text": "text_config", "image": "vision_config", "audio": "audio_config"}[kind])
        candidates = [(config, "projection_dim"), (own, "projection_size"), (own, "hidden_size")]
    else:
        part = chosen.get("backbone_part") or ""
        own = getattr(config, f"{part.removesuffix('_model')}_config", config) if part else config
        candidates = [(own, "hidden_size"), (own, "hidden_dim"), (own, "hidden_sizes")]
    for place, name in candidates:
        width = getattr(place, name, None)
        if width:
            return int(width[-1] if isinstance(width, (list, tuple)) else width)
    raise ValueError(
        f"hidden_size: not found in the configuration of a {config.model_type!r}. Fix: give it, the numbers of a "
        "pooled token."
    )


def _longest_text(config: Any) -> int:
    """Tokens that a text may have; RoBERTa's kin count positions from behind the padding."""
    most = int(getattr(config, "max_position_embeddings", 0) or 512)
    is_offset = config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet")
    return most - 2 if is_offset else most


def sentence_modules(source: str, revision: str | None = None) -> list[dict[str, Any]]:
    """What `modules.json` of a sentence-transformers model lists; nothing for any other."""
    file = found_file(source, "modules.json", revision)
    return [] if file is None else json.loads(file.read_text())


def sentence_length(source: str, revision: str | None = None) -> int | None:
    """Tokens that a sentence-transformers model cuts texts to, if it says so.

    Raises:
        ValueError: it changes texts before the tokenizer sees them.
    """
    file = found_file(source, "sentence_bert_config.json", revision) if sentence_modules(source, revision) else None
    fields = {} if file is None else json.loads(file.read_text())
    if fields.get("do_lower_case"):
        raise ValueError(
            f"backbone: {source!r} lower-cases texts itself (do_lower_case). Fix: a cased one, or features."
        )
    return fields.get("max_seq_length")


def _sentence_fields(source: str, revision: str | None) -> dict[str, Any]:
    """Pooling and layers behind it of a sentence-transformers model.

    Raises:
        ValueError: a module or a pooling that is not known.
    """
    fields: dict[str, Any] = {}
    for module in sentence_modules(source, revision):
        name, place = module["type"].rpartition(".")[2], module["path"]
        if name == "Transformer" and place:
            raise ValueError(
                f"backbone: {source!r} keeps its network in {place!r}. Fix: give that folder as backbone."
            )
        if name == "Pooling":
            fields |= {"backbone_part": None, "backbone_pooling": _sentence_pooling(source, place, revision)}
        elif name == "Dense":
            fields.setdefault("backbone_dense", []).append(_sentence_dense(source, place, revision))
        elif name not in _NOTHING and name != "Transformer":
            raise ValueError(
                f"backbone: {source!r} has a module {name}; known: Transformer, Pooling, Dense, Normalize."
            )
    prompts = found_file(source, "config_sentence_transformers.json", revision) if fields else None
    if prompts is not None and json.loads(prompts.read_text()).get("default_prompt_name"):
        logger.warning("backbone: %s has a default prompt, which is not put before texts here.", source)
    return fields


def _sentence_pooling(source: str, place: str, revision: str | None) -> str:
    fields = _module_fields(source, place, revision)
    chosen = [
        _POOLING_MODES.get(name, name) for name, value in fields.items() if name.startswith("pooling_mode_") and value
    ]
    if "pooling_mode" in fields:
        named = fields["pooling_mode"]
        chosen = [{"lasttoken": "last"}.get(each, each) for each in ([named] if isinstance(named, str) else named)]
    if len(chosen) != 1 or chosen[0] not in _POOLING_MODES.values():
        raise ValueError(f"backbone: {source!r} pools by {', '.join(chosen) or 'nothing'}; known: cls, mean, last.")
    return chosen[0]


def _sentence_dense(source: str, place: str, revision: str | None) -> dict[str, Any]:
    fields = _module_fields(source, place, revision)
    activation = str(fields.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise ValueError(f"backbone: {source!r}, {place}: activation {activation}; known: {', '.join(_ACTIVATIONS)}.")
    sizes = {name: int(fields[name]) for name in ("in_features", "out_features")}
    return {**sizes, "bias": bool(fields.get("bias", True)), "activation": _ACTIVATIONS[activation], "path": place}


def _module_fields(source: str, place: str, revision: str | None) -> dict[str, Any]:
    file = found_file(source, f"{place}/config.json", revision)
    if file is None:
        raise OSError(f"backbone: {source!r} has no {place}/config.json. Fix: copy it again.")
    return json.loads(file.read_text())
