"""A tower that is a model of transformers: how is it built from its configuration, and what of its output is pooled?

Axes in this file: B batch, N tokens, H width.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from .backbone_files import PARTS
from .configuration_encoders import CodeBindEncoderConfig


# Columns that `packed_patches` adds: whether it is a patch, and rows and columns of the grid.
_PACKED = 3
_deferring: ContextVar[bool] = ContextVar("deferring", default=False)


@contextmanager
def deferring_backbones() -> Iterator[None]:
    """Meanwhile, towers whose weights are somewhere else are built without their network: it is put in later."""
    token = _deferring.set(True)
    try:
        yield
    finally:
        _deferring.reset(token)


class PretrainedTower(nn.Module):
    """Runs a network of transformers, or a part of it; token 0 of what it gives is the pooled one.

    It stands where a `Tower` stands, without what that has beside its blocks.
    """

    lens = cls_token = position = None

    def __init__(self, config: CodeBindEncoderConfig) -> None:
        super().__init__()
        self.config = config
        is_elsewhere = config.backbone_weights == "reference" and _deferring.get()
        self.backbone: PreTrainedModel | None = None if is_elsewhere else build_backbone(config)
        self.dense = _dense_layers(config.backbone_dense or [])
        # Of the weights as they were loaded; `None` for those that no file holds.
        self.loaded: str | None = None

    @property
    def network(self) -> PreTrainedModel:
        """The network.

        Raises:
            ValueError: it is not there yet.
        """
        if self.backbone is None:
            raise ValueError("backbone: its weights were not loaded. Fix: `model.load_backbones()`.")
        return self.backbone

    @property
    def layers(self) -> nn.ModuleList:
        """Its blocks: the longest list of modules of one class."""
        return self.network.get_submodule(self.place_of_layers)  # type: ignore[return-value]

    @property
    def place_of_layers(self) -> str:
        """Name of the blocks in the network; they are what adapters go into.

        Raises:
            ValueError: it has no list of blocks.
        """
        lists = {
            name: len(each)
            for name, each in self.network.named_modules()
            if isinstance(each, nn.ModuleList) and len({type(block) for block in each}) == 1
        }
        if not lists:
            raise ValueError(f"backbone: {type(self.network).__name__} has no list of blocks.")
        return max(lists, key=lambda name: lists[name])

    def seen(self, values: Tensor) -> None:
        """As of `Tower`: every token that is given."""
        return

    def pooled(self, values: Tensor, tokens_BNH: Tensor) -> Tensor:
        """The tokens that stand for the samples, `(B, H)`."""
        return tokens_BNH[:, 0]

    def forward(self, values: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """One hidden state, `(B, 1 + N, H)`: the pooled token and the others, or `(B, 1, H)` where only that is known.

        Raises:
            ValueError: the network gives something else than its configuration says.
        """
        inputs, mask = self._inputs(values, attention_mask)
        pooling = self.config.backbone_pooling
        if pooling in ("projection", "pooler"):
            tokens_BNH = _attribute(self._run(inputs), "pooler_output").flatten(1).unsqueeze(1)
        else:
            states_BNH = self._tokens(inputs)
            pooled_BH = _pooled(states_BNH, pooling, self._token_mask(values, states_BNH, mask))
            tokens_BNH = torch.cat([pooled_BH.unsqueeze(1), states_BNH], dim=1)
        tokens_BNH = self.dense(tokens_BNH)
        if tokens_BNH.ndim != 3 or tokens_BNH.shape[-1] != self.config.hidden_size:
            raise ValueError(
                f"hidden_size: got {self.config.hidden_size}; the backbone gives {tokens_BNH.shape[-1]} numbers. Fix: "
                "`CodeBindEncoderConfig.from_backbone` finds it out."
            )
        return (tokens_BNH,)

    def attentions(
        self, values: Tensor, attention_mask: Tensor | None, states: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Attention weights as the network gives them, which runs once more.

        Raises:
            ValueError: its attention implementation gives none.
        """
        if not states:
            return ()
        found = getattr(self._run(self._inputs(values, attention_mask)[0], output_attentions=True), "attentions", None)
        if not found or found[0] is None:
            raise ValueError(
                f"output_attentions: {type(self.network).__name__} gives none with the attention implementation "
                f"{self.network.config._attn_implementation!r}. Fix: `model.set_attn_implementation('eager')`."
            )
        return tuple(found)

    def _run(self, inputs: dict[str, Any], **options: Any) -> Any:
        if self.config.backbone_pooling == "projection":
            return getattr(self.network, f"get_{self.config.backbone_part}_features")(**inputs, **options)
        return part_of(self.network, self.config)(**inputs, **options)

    def _inputs(self, values: Tensor, attention_mask: Tensor | None) -> tuple[dict[str, Any], Tensor | None]:
        """Keywords of the network, and which of its inputs are more than padding."""
        network, kind = self.network, self.config.backbone_config["model_type"]  # type: ignore[index]
        part = network if self.config.backbone_pooling == "projection" else part_of(network, self.config)
        weight = next(part.parameters())
        if not values.is_floating_point():
            # The networks that were trained on padding have no other way to see it.
            mask = None if kind.startswith("siglip") else attention_mask
            return {"input_ids": values, **({} if mask is None else {"attention_mask": mask})}, attention_mask
        values = values.to(weight.dtype)
        name = part.main_input_name
        if self.config.backbone_pooling == "projection":
            name = next(iter(signature(getattr(network, f"get_{self.config.backbone_part}_features")).parameters))
        if kind.startswith("siglip2"):
            return _unpacked_patches(values), None
        if name != "input_values" or values.ndim != 2:
            return {name: values}, None
        # Waveforms end in zeros where they are shorter than the batch.
        mask = values.flip(1).ne(0).cumsum(1).flip(1).gt(0).long()
        takes_mask = getattr(part.config, "feat_extract_norm", None) == "layer"
        return {name: values, **({"attention_mask": mask} if takes_mask else {})}, mask

    def _tokens(self, inputs: dict[str, Any]) -> Tensor:
        layer = self.config.backbone_layer
        if layer == -1:
            return _attribute(self._run(inputs), "last_hidden_state")
        return _attribute(self._run(inputs, output_hidden_states=True), "hidden_states")[layer]

    def _token_mask(self, values: Tensor, states_BNH: Tensor, mask: Tensor | None) -> Tensor | None:
        if mask is None or mask.shape[1] == states_BNH.shape[1]:
            return mask
        part: Any = part_of(self.network, self.config)
        if not hasattr(part, "_get_feature_vector_attention_mask"):
            return None
        return part._get_feature_vector_attention_mask(states_BNH.shape[1], mask)


def _attribute(output: Any, name: str) -> Any:
    if name == "pooler_output" and isinstance(output, Tensor):
        return output
    found = getattr(output, name, None)
    if found is None:
        raise ValueError(
            f"backbone_pooling: the backbone gives {type(output).__name__} without {name}. Fix: another "
            "backbone_part, or 'cls', 'mean' or 'last'."
        )
    return found


def _pooled(states_BNH: Tensor, pooling: str, mask_BN: Tensor | None) -> Tensor:
    """The first token, the last that is no padding, or the mean of those that are none, `(B, H)`."""
    if pooling == "cls":
        return states_BNH[:, 0]
    if mask_BN is None:
        return states_BNH.mean(1) if pooling == "mean" else states_BNH[:, -1]
    if pooling == "last":
        places_BN = torch.arange(mask_BN.shape[1], device=mask_BN.device) * mask_BN.ne(0)
        return states_BNH[torch.arange(len(states_BNH), device=mask_BN.device), places_BN.argmax(1)]
    weights_BN1 = mask_BN.to(states_BNH.dtype).unsqueeze(-1)
    return (states_BNH * weights_BN1).sum(1) / weights_BN1.sum(1).clamp(min=1e-9)


def _dense_layers(layers: list[dict[str, Any]]) -> nn.Sequential:
    """Linear layers that a sentence-transformers model has behind its pooling."""
    dense = nn.Sequential()
    for layer in layers:
        dense.append(nn.Linear(layer["in_features"], layer["out_features"], bias=layer["bias"]))
        dense.append(ACT2FN[layer["activation"]])
    return dense


def foreign_config(config: CodeBindEncoderConfig) -> PreTrainedConfig:
    """The configuration of the network, from the fields that are kept of it."""
    fields = copy.deepcopy(config.backbone_config or {})
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def attention_of(config: CodeBindEncoderConfig) -> dict[str, Any]:
    """What the library is told of the attention: nothing where the encoder has its default, which not all know."""
    chosen = config._attn_implementation
    return {} if chosen in (None, "sdpa") else {"attn_implementation": chosen}


def build_backbone(config: CodeBindEncoderConfig) -> PreTrainedModel:
    """The network with fresh weights, without the parts that the tower does not run."""
    options = {"dtype": torch.get_default_dtype(), **attention_of(config)}
    return trimmed(AutoModel.from_config(foreign_config(config), **options), config)


def trimmed(model: PreTrainedModel, config: CodeBindEncoderConfig) -> PreTrainedModel:
    """A view of `model` that holds nothing but what the tower runs; its modules are those of `model`."""
    root = place = _shallow(model)
    if config.backbone_pooling == "projection":
        others = [prefix for kind, prefixes in PARTS.items() if kind != config.backbone_part for prefix in prefixes]
        for name in list(root._modules):
            if name.startswith(tuple(others)):
                del root._modules[name]
        root._parameters.clear()
        root._is_hf_initialized = True
    elif config.backbone_part is not None:
        for name in config.backbone_part.split("."):
            # What initializes it would look for parts that are gone.
            place._is_hf_initialized = True
            if name not in place._modules:
                known = ", ".join(place._modules)
                raise ValueError(f"backbone_part: got {config.backbone_part!r}; {type(place).__name__} has {known}.")
            kept = _shallow(place._modules[name])
            place._modules = {name: kept}
            place._parameters = {}
            place = kept
    return root


def _shallow(module: Any) -> Any:
    other = copy.copy(module)
    for name in ("_modules", "_parameters", "_buffers"):
        setattr(other, name, dict(getattr(module, name)))
    return other


def part_of(network: PreTrainedModel, config: CodeBindEncoderConfig) -> Any:
    """The module that the tower runs."""
    return network if config.backbone_part is None else network.get_submodule(config.backbone_part)


def packed_patches(pixel_values: Tensor, pixel_attention_mask: Tensor, spatial_shapes: Tensor) -> Tensor:
    """Patches of pictures of any shape with what SigLIP2 must know of them, as one tensor `(B, N, numbers + 3)`."""
    about = torch.cat(
        [
            pixel_attention_mask.unsqueeze(-1).to(pixel_values.dtype),
            spatial_shapes.unsqueeze(1).expand(-1, pixel_values.shape[1], -1).to(pixel_values.dtype),
        ],
        dim=-1,
    )
    return torch.cat([pixel_values, about], dim=-1)


def _unpacked_patches(values: Tensor) -> dict[str, Tensor]:
    pixels, about = values[..., :-_PACKED], values[..., -_PACKED:]
    return {
        "pixel_values": pixels,
        "pixel_attention_mask": about[..., 0].round().to(torch.int32),
        "spatial_shapes": about[:, 0, 1:].round().long(),
    }
