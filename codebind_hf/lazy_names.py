"""How does a room offer names without the cost of what stands behind them? They are imported when first used."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from codebind_hf.renamed import warn_of


class LazyNames(NamedTuple):
    """What a package assigns to `__getattr__`, `__dir__` and `__all__` (PEP 562)."""

    getattr: Callable[[str], Any]
    dir: Callable[[], list[str]]
    all: list[str]


def lazy_names(package: str, sources: Mapping[str, str], renamed: Mapping[str, str] | None = None) -> LazyNames:
    """Names of a package that are imported when they are first used.

    Args:
        package: `__name__` of the package.
        sources: module -> the names it gives, separated by spaces.
        renamed: old name -> name of today; old ones work with a warning and are not listed.
    """
    module_of = {name: module for module, names in sources.items() for name in names.split()}
    old_names = dict(renamed or {})

    def get(name: str) -> Any:
        if name in old_names:
            warn_of(f"{package}.{name}", f"{package}.{old_names[name]}")
            return getattr(sys.modules[package], old_names[name])
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*(name for name in vars(sys.modules[package]) if name.startswith("__")), *module_of})

    return LazyNames(get, names, sorted(module_of))
