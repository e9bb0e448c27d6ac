"""Which configuration do the tensors of a ViT-Lens checkpoint have? What shapes say, and what they cannot say."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from codebind_hf.conversion.vitlens_keys import VITLENS_ENCODERS
from codebind_hf.conversion.vitlens_lenses import lens_depth


# Heads by width, of the published backbones (OpenCLIP's ViT-B/16, L/14 and bigG/14). Shapes do not tell them.
_TOWER_HEADS = {768: 12, 1024: 16, 1664: 16}
_TEXT_HEADS = {512: 8, 768: 12, 1280: 20}
_POINTS: dict[str, dict[str, Any]] = {
    "pointbert": {"npoints": 8192, "num_group": 512, "group_size": 32},
    "pnsa": {"npoints": 10000, "num_group": 512, "group_size": 64, "radius": 0.2},
}
_FRAMES = 512
_ACTIVATIONS = {"gelu_exact": "gelu", "gelu": "gelu", "quick_gelu": "quick_gelu"}
_LENS_SIZES = ("input_chan", "depth", "self_per_cross_attn")
_PATCHES = ("kernel", "stride", "bias")
# Every key of an architecture; a dictionary goes one level down. What only describes a checkpoint is passed over.
_KNOWN: dict[str, Any] = {
    "backbone": (
        *("image_size", "patch_size", "width", "layers", "heads", "head_dim", "mlp_ratio", "embed_dim", "act"),
        "layer_norm_eps",
    ),
    "text": ("context_length", "vocab_size", "width", "heads", "layers", "embed_dim", "causal", "pool", "eot"),
    "lens": {
        **dict.fromkeys(("num_latents", "latent_dim", "cross_heads", "cross_dim_head")),
        **dict.fromkeys(("latent_heads", "latent_dim_head", "weight_tie_layers")),
        **dict.fromkeys(("depth", "tactile", "image"), ()),
        **dict.fromkeys(("pc", "audio", "eeg"), _LENS_SIZES),
    },
    "tokenizer": {
        "pc": (
            *("kind", "encoder_dims", "trans_dim", "in_channels", "fps_start_index"),
            *("npoints", "num_group", "group_size", "radius", "case_pc", "case_pc_full"),
        ),
        "audio": ("mel_bins", "target_length", "fstride", "tstride", "kernel", "grid_freq_time", "bias"),
        "depth": _PATCHES,
        "eeg": ("chans", "time_len", "window", "stride", "bias"),
        "tactile": ("same_as",),
    },
    **dict.fromkeys(("logit_scale", "text_strings", "text_cleaning", "numerics", "reference")),
}


class Architecture:
    """What a caller says of a checkpoint beside its shapes: nested dictionaries, read by dotted paths."""

    def __init__(self, given: Mapping[str, Any] | None) -> None:
        self._given = given or {}
        _check_known(self._given, _KNOWN, "architecture")

    def option(self, path: str, default: Any = None) -> Any:
        """What the caller says under `path`, which shapes do not tell."""
        value: Any = self._given
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return default if value is None else value

    def confirmed(self, path: str, found: Any) -> Any:
        """`found`, which the tensors say.

        Raises:
            ValueError: the caller says something else.
        """
        said = self.option(path, found)
        if said != found:
            raise ValueError(f"architecture: {path} is {said!r}, but the checkpoint's tensors say {found!r}.")
        return found


def _check_known(given: Mapping[str, Any], known: Any, where: str) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: got {type(given).__name__}; expected a dictionary.")
    for key, value in given.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            raise ValueError(f"{where}: unknown key {key!r}. {hint}")
        if isinstance(known, Mapping) and isinstance(known[key], (tuple, Mapping)) and value is not None:
            _check_known(value, known[key], f"{where}.{key}")


def vitlens_fields(source: dict[str, Tensor], architecture: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fields of `CodeBindConfig` for a checkpoint with merged keys.

    Args:
        source: its tensors; the stages that a tied lens left out are added.
        architecture: as in `convert_vitlens`.

    Raises:
        ValueError: something that shapes do not say and no published model has, an unknown key of the architecture, or
            one that contradicts the tensors.
    """
    given = Architecture(architecture)
    towers = {name: _tower(source, name) for name in VITLENS_ENCODERS}
    present = {name: tower for name, tower in towers.items() if tower}
    fields: dict[str, Any] = {"specific_dim": 0, "num_shared_codes": 0, "num_specific_codes": 0}
    fields |= {"align_on": "continuous", "logit_scale_init_value": float(given.option("logit_scale", math.log(100)))}
    sizes = {name: _output_dim(name, tower) for name, tower in present.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"checkpoint: its towers end in spaces of different sizes {sizes or 'or are missing'}.")
    fields["shared_dim"] = given.confirmed("backbone.embed_dim", next(iter(sizes.values())))
    for name, tower in present.items():
        made = _text_fields(tower, given) if name == "text" else _tower_fields(source, name, tower, given)
        fields[f"{VITLENS_ENCODERS[name]}_config"] = made
    return fields


def _tower(source: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"vitlens.{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in source.items() if key.startswith(prefix)}


def _need(tower: Mapping[str, Tensor], name: str, key: str) -> tuple[int, ...]:
    """Shape of a tensor that every tower of this kind has."""
    if key not in tower:
        raise ValueError(f"checkpoint: missing keys vitlens.{name}.{key}.")
    return tuple(tower[key].shape)


def _output_dim(name: str, tower: Mapping[str, Tensor]) -> int:
    return _need(tower, name, "text_projection" if name == "text" else "proj")[1]


def _blocks(tower: Mapping[str, Tensor], name: str, given: Architecture) -> dict[str, Any]:
    """What the transformer's tensors say, and the caller of all towers alike."""
    mlp, width = _need(tower, name, "transformer.resblocks.0.mlp.c_fc.weight")
    numbers = {int(key.split(".")[2]) for key in tower if key.startswith("transformer.resblocks.")}
    act = given.option("backbone.act", "gelu")
    if act not in _ACTIVATIONS:
        raise ValueError(f"architecture: backbone.act is {act!r}; allowed: {', '.join(map(repr, _ACTIVATIONS))}.")
    return {
        "hidden_size": width,
        "num_hidden_layers": max(numbers) + 1,
        "intermediate_size": mlp,
        "hidden_act": _ACTIVATIONS[act],
        "layer_norm_eps": float(given.option("backbone.layer_norm_eps", 1e-5)),
        "normalize_clips": False,
    }


def _heads(given: Architecture, room: str, width: int, published: Mapping[int, int]) -> int:
    head_dim = given.option(f"{room}.head_dim")
    heads = given.option(f"{room}.heads", width // head_dim if head_dim else published.get(width))
    if head_dim and heads * head_dim != width:
        raise ValueError(f"architecture: {room}.heads x head_dim is {heads} x {head_dim}, but the width is {width}.")
    if heads is None:
        raise ValueError(
            f"architecture: no published model has a width of {width}, so its number of heads is unknown. Fix: pass "
            f"architecture={{{room!r}: {{'heads': ...}}}}."
        )
    return heads


def _text_fields(tower: Mapping[str, Tensor], given: Architecture) -> dict[str, Any]:
    fields = _blocks(tower, "text", given)
    width = given.confirmed("text.width", fields["hidden_size"])
    given.confirmed("text.layers", fields["num_hidden_layers"])
    given.confirmed("text.embed_dim", _output_dim("text", tower))
    given.confirmed("text.causal", True)
    given.confirmed("text.pool", "argmax token id")
    vocabulary, _ = _need(tower, "text", "token_embedding.weight")
    length, _ = _need(tower, "text", "positional_embedding")
    end = given.option("text.eot", 49407)
    return {
        **fields,
        "num_attention_heads": _heads(given, "text", width, _TEXT_HEADS),
        "vocab_size": given.confirmed("text.vocab_size", vocabulary),
        "max_position_embeddings": given.confirmed("text.context_length", length),
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": 0,
    }


def _tower_fields(
    source: dict[str, Tensor], name: str, tower: Mapping[str, Tensor], given: Architecture
) -> dict[str, Any]:
    fields = _blocks(tower, name, given)
    width = given.confirmed("backbone.width", fields["hidden_size"])
    # Some are written as a fraction that only its whole number of rows makes good.
    if (
        int(width * given.option("backbone.mlp_ratio", fields["intermediate_size"] / width))
        != fields["intermediate_size"]
    ):
        given.confirmed("backbone.mlp_ratio", fields["intermediate_size"] / width)
    if name != "pc":
        # OpenShape's point tower leaves out the first blocks of its backbone.
        given.confirmed("backbone.layers", fields["num_hidden_layers"])
    fields["num_attention_heads"] = _heads(given, "backbone", width, _TOWER_HEADS)
    fields["pre_norm"] = True
    tokenizers = {"pc": _point_fields, "audio": _audio_fields, "eeg": _eeg_fields}
    fields |= tokenizers.get(name, _picture_fields)(name, tower, given)
    return fields | _lens_fields(source, name, tower, given, fields["num_hidden_layers"])


def _picture_fields(name: str, tower: Mapping[str, Tensor], given: Architecture) -> dict[str, Any]:
    """Images, tactile pictures and depth maps."""
    key = "visual_adapter.conv1.weight" if name == "depth" else "conv1.weight"
    _, channels, patch, _ = _need(tower, name, key)
    if name == "depth":
        for part, found in (("kernel", patch), ("stride", patch), ("bias", False)):
            given.confirmed(f"tokenizer.depth.{part}", found)
    if name == "tactile":
        given.confirmed("tokenizer.tactile.same_as", "image")
    tokens = _need(tower, name, "positional_embedding")[0] - 1
    side = patch * math.isqrt(tokens)
    return {
        "num_channels": channels,
        "patch_size": [given.confirmed("backbone.patch_size", patch)] * 2,
        "input_size": [given.confirmed("backbone.image_size", side)] * 2,
        "stem_position": name == "depth",
    }


def _audio_fields(name: str, tower: Mapping[str, Tensor], given: Architecture) -> dict[str, Any]:
    path = "tokenizer.audio"
    kernel = given.confirmed(f"{path}.kernel", _need(tower, name, "visual_adapter.conv1.weight")[2])
    given.confirmed(f"{path}.bias", False)
    tokens = _need(tower, name, "visual_adapter.pos_emb")[0]
    mel, across, along = (
        given.option(f"{path}.{key}", default)
        for key, default in (("mel_bins", 128), ("fstride", 10), ("tstride", 10))
    )
    rows = (mel - kernel) // across + 1
    columns, rest = divmod(tokens, rows)
    if rest or not columns:
        raise ValueError(
            f"architecture: the {tokens} audio tokens are no grid of {rows} rows, which {mel} mel bins in steps of "
            f"{across} give. Fix: pass architecture={{'tokenizer': {{'audio': {{'mel_bins': ..., 'fstride': ...}}}}}}."
        )
    given.confirmed(f"{path}.grid_freq_time", [rows, columns])
    # Frames behind the last patch are never read, so several lengths fit; the published one is among them.
    least = (columns - 1) * along + kernel
    frames = given.option(f"{path}.target_length", _FRAMES if least <= _FRAMES < least + along else least)
    if not least <= frames < least + along:
        allowed = f"{least} to {least + along - 1}"
        raise ValueError(f"architecture: {path}.target_length is {frames}, but {tokens} tokens need {allowed} frames.")
    return {
        "num_channels": 1,
        "input_size": [mel, frames],
        "patch_size": [kernel, kernel],
        "patch_stride": [across, along],
        "stem_position": True,
    }


def _eeg_fields(name: str, tower: Mapping[str, Tensor], given: Architecture) -> dict[str, Any]:
    _, channels, window = _need(tower, name, "visual_adapter.proj.weight")
    given.confirmed("tokenizer.eeg.bias", "visual_adapter.proj.bias" in tower)
    stride = given.option("tokenizer.eeg.stride", window)
    length = (_need(tower, name, "visual_adapter.pos_emb")[0] - 1) * stride + window
    return {
        "num_channels": given.confirmed("tokenizer.eeg.chans", channels),
        "input_size": [given.confirmed("tokenizer.eeg.time_len", length)],
        "patch_size": [given.confirmed("tokenizer.eeg.window", window)],
        "patch_stride": None if stride == window else [stride],
        "stem_bias": True,
        "stem_position": True,
    }


def _point_fields(name: str, tower: Mapping[str, Tensor], given: Architecture) -> dict[str, Any]:
    path = "tokenizer.pc"
    kind = "pnsa" if "visual_adapter.sa.mlp_convs.0.weight" in tower else "pointbert"
    given.confirmed(f"{path}.kind", kind)
    options: dict[str, Any] = {key: given.option(f"{path}.{key}", value) for key, value in _POINTS[kind].items()}
    start = given.option(f"{path}.fps_start_index", 0)
    if start not in (0, "random"):
        raise ValueError(f"architecture: {path}.fps_start_index is {start!r}; allowed: 0, 'random'.")
    fields: dict[str, Any] = {
        "stem": "points",
        "input_size": [options["npoints"]],
        "num_groups": options["num_group"],
        "group_size": options["group_size"],
        "fps_start": "first" if start == 0 else "random",
    }
    if kind == "pointbert":
        convs = [f"visual_adapter.encoder.{part}_conv.{i}.weight" for part in ("first", "second") for i in (0, 3)]
        shapes = [_need(tower, name, key) for key in convs]
        given.confirmed(f"{path}.encoder_dims", shapes[-1][0])
        width, _ = _need(tower, name, "visual_adapter.reduce_dim.weight")
        fields["num_channels"] = given.confirmed(f"{path}.in_channels", shapes[0][1])
    else:
        count = len(
            [key for key in tower if key.startswith("visual_adapter.sa.mlp_convs.") and key.endswith("weight")]
        )
        shapes = [_need(tower, name, f"visual_adapter.sa.mlp_convs.{i}.weight") for i in range(count)]
        width, *_ = _need(tower, name, "visual_adapter.lift.0.weight")
        # The first layer sees the coordinates relative to the centre, too.
        fields["num_channels"] = given.confirmed(f"{path}.in_channels", shapes[0][1] - 3)
        fields |= {"point_grouping": "ball", "ball_radius": options["radius"]}
    return {
        **fields,
        "point_widths": [shape[0] for shape in shapes],
        "stem_dim": given.confirmed(f"{path}.trans_dim", width),
    }


def _lens_fields(
    source: dict[str, Tensor], name: str, tower: Mapping[str, Tensor], given: Architecture, layers: int
) -> dict[str, Any]:
    if "perceiver.latents" not in tower:
        return {}
    latents, width = _need(tower, name, "perceiver.latents")
    inner, context = _need(tower, name, "perceiver.layers.0.0.fn.to_q.weight")[0], _context_dim(tower, name)
    given.confirmed(f"lens.{name}.input_chan", context)
    given.confirmed("lens.cross_heads", 1)
    blocks = {key.split(".")[4] for key in tower if key.startswith("perceiver.layers.0.2.")}
    fields = {
        "lens_num_latents": given.confirmed("lens.num_latents", latents),
        "lens_depth": lens_depth(
            source,
            name,
            published=published_depth(context, layers),
            asked=given.option(f"lens.{name}.depth"),
            tied=given.option("lens.weight_tie_layers"),
        ),
        "lens_self_blocks": given.confirmed(f"lens.{name}.self_per_cross_attn", len(blocks)),
        "lens_cross_head_dim": given.confirmed("lens.cross_dim_head", inner),
    }
    given.confirmed("lens.latent_dim", width)
    if blocks:
        # In every published lens the heads among latents are as wide as the one across.
        rows = _need(tower, name, "perceiver.layers.0.2.0.0.fn.to_q.weight")[0]
        head_dim = given.option("lens.latent_dim_head", inner)
        heads = given.option("lens.latent_heads", rows // head_dim)
        if heads * head_dim != rows:
            raise ValueError(
                f"architecture: lens.latent_heads x lens.latent_dim_head is {heads} x {head_dim}, but the lens of "
                f"{name} has {rows} rows of queries."
            )
        fields |= {"lens_num_heads": heads, "lens_head_dim": head_dim}
    return fields


def _context_dim(tower: Mapping[str, Tensor], name: str) -> int:
    return _need(tower, name, "perceiver.layers.0.0.fn.to_kv.weight")[1]


def published_depth(context: int, layers: int) -> int | None:
    """Stages of the published point lens with tokens of width `context` before a trunk of `layers` blocks."""
    return {(384, 24): 4, (256, 32): 4}.get((context, layers))
