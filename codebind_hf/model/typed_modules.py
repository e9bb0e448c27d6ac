"""Containers of modules that say what they contain, which `nn.ModuleDict` tells no type checker; and quick walks.

A step of training asks several times what learns, and which mode everything is in. The library's own walks make a
name for whatever they come by, which takes longer than a small tower does.
"""

from collections.abc import Collection, ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn


M = TypeVar("M", bound=nn.Module)


class ModulesByName(nn.ModuleDict, Generic[M]):
    """`nn.ModuleDict` of modules of one class."""

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> M: ...
        def items(self) -> ItemsView[str, M]: ...
        def values(self) -> ValuesView[M]: ...


class Modules(nn.ModuleList, Generic[M]):
    """`nn.ModuleList` of modules of one class."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[M]: ...


def modules_of(module: nn.Module) -> Collection[nn.Module]:
    """What `module.modules()` gives, in the same order."""
    waiting: list[nn.Module | None] = [module]
    found: dict[nn.Module, None] = {}
    while waiting:
        each = waiting.pop()
        if each is not None and each not in found:
            found[each] = None
            waiting.extend(reversed(each._modules.values()))
    return found.keys()


def parameters_of(module: nn.Module) -> Collection[nn.Parameter]:
    """What `module.parameters()` gives, in the same order."""
    held = (each for owner in modules_of(module) for each in owner._parameters.values() if each is not None)
    return {id(parameter): parameter for parameter in held}.values()


def any_learns(module: nn.Module) -> bool:
    """Whether any parameter of `module` requires a gradient."""
    held = (each for owner in modules_of(module) for each in owner._parameters.values())
    return any(each is not None and each.requires_grad for each in held)


def dtype_of(layer: nn.Module) -> torch.dtype:
    """The type of the numbers that a layer takes, that of its weight; `quantize_dynamic` packs it into no tensor."""
    weight = layer.weight
    return weight.dtype if isinstance(weight, Tensor) else torch.float32
