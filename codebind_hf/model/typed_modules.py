"""Containers of modules that say what they contain: to a type checker, `nn.ModuleDict` gives any module or tensor."""

from collections.abc import ItemsView, Iterator, ValuesView
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn


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
