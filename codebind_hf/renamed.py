"""Names of the version before: they work for one version, with a warning, and are gone in 0.3.

Modules that moved when the network and the processors got a room each, and what was called a sense and is a modality.
"""

import functools
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar


_F = TypeVar("_F", bound=Callable[..., Any])
_REMOVED_IN = "0.3"
_PROCESSING = """array_processing_codebind downloads feature_extraction_codebind frames image_processing_codebind
    image_resizing items media pipeline_inputs pipelines_codebind ply point_processing_codebind processing_codebind
    recordings resampling signal_processing_codebind spectrogram text_cleaning video_processing_codebind"""
MOVED: dict[str, str] = {
    **{f"codebind_hf.model.{name}": f"codebind_hf.processing.{name}" for name in _PROCESSING.split()},
    "codebind_hf.model.sense_processing": "codebind_hf.processing.modality_processing",
    "codebind_hf.model.sense_values": "codebind_hf.processing.values",
    "codebind_hf.model.picture_values": "codebind_hf.processing.pictures",
    "codebind_hf.model.feature_methods": "codebind_hf.model.modality_features",
    "codebind_hf.model.codebook_methods": "codebind_hf.model.codebook_fitting",
    "codebind_hf.model.encode_methods": "codebind_hf.model.raw_data_encoding",
    "codebind_hf.model.encoding": "codebind_hf.model.raw_data_encoding",
    "codebind_hf.model.tokenization": "codebind_hf.training.tokenization",
    "codebind_hf.inference.code_items": "codebind_hf.inference.code_storage",
}


def warn_of(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn the caller's caller that `old` is called `new`."""
    message = f"{old} is called {new} now; the old name is gone in codebind_hf {_REMOVED_IN}."
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)


def renamed_keywords(**names: str) -> Callable[[_F], _F]:
    """Let a function be called with keywords of the version before: `renamed_keywords(senses="modalities")`."""

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                warn_of(f"{function.__qualname__}({old}=)", f"{names[old]}=")
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def renamed_attribute(old: str, new: str) -> Any:
    """A property that gives the attribute `new` under its name of the version before."""

    def get(self: Any) -> Any:
        warn_of(f"{type(self).__name__}.{old}", new)
        return getattr(self, new)

    return property(get, doc=f"Old name of `{new}`.")


class _SameModule(Loader):
    """Gives the module of today under its name of the version before."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        # The import system wrote the old name into it.
        module.__spec__ = self._spec


class _MovedModules(MetaPathFinder):
    """Finds modules under their names of the version before; asked last, so it costs other imports nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MOVED:
            return None
        warn_of(fullname, MOVED[fullname])
        return importlib.util.spec_from_loader(fullname, _SameModule(importlib.import_module(MOVED[fullname])))


def find_moved_modules() -> None:
    """Let modules be imported under their names of the version before."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
