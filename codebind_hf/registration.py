"""When do transformers' Auto classes and pipelines learn of this package? When they are first used, at no cost before.

A process that imports `codebind_hf` for one class need not load all of transformers' tables, nor one that never calls
an Auto class our model. So each table is filled once both are there: the module of transformers that holds it, whose
import brings ours along, and our module, which may itself be what imported the other.
"""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from wrapt import register_post_import_hook


def _config_class() -> Any:
    return importlib.import_module("codebind_hf.model.configuration_codebind").CodeBindConfig


def _register_config(auto: Any, ours: Any) -> None:
    auto.AutoConfig.register("codebind", ours.CodeBindConfig)


def _register_model(auto: Any, ours: Any) -> None:
    # A stand-in may be there already.
    auto.AutoModel.register(_config_class(), ours.CodeBindModel, exist_ok=True)
    auto.AutoModelForZeroShotImageClassification.register(_config_class(), ours.CodeBindModel, exist_ok=True)


def _register_processor(auto: Any, ours: Any) -> None:
    auto.AutoProcessor.register(_config_class(), ours.CodeBindProcessor)


# The library's own pipelines load the parts of a processor one by one.
def _register_image_processor(auto: Any, ours: Any) -> None:
    auto.AutoImageProcessor.register(_config_class(), image_processor_classes={"pil": ours.CodeBindImageProcessor})


def _register_feature_extractor(auto: Any, ours: Any) -> None:
    auto.AutoFeatureExtractor.register(_config_class(), ours.CodeBindAudioFeatureExtractor)


def register_pipelines(pipelines: Any, ours: Any) -> None:
    """Let `pipeline("zero-shot-sensor-classification", ...)` and the other tasks of this package be found.

    Args:
        pipelines: the module `transformers.pipelines`.
        ours: the module `codebind_hf.processing.pipelines_codebind`.
    """
    registry, model = pipelines.PIPELINE_REGISTRY, pipelines.AutoModel
    for task, cls in ours.PIPELINES.items():
        if task not in registry.get_supported_tasks():
            registry.register_pipeline(task, pipeline_class=cls, pt_model=model, type="multimodal")


# Module of transformers -> module of ours, and what to do once both are loaded.
_TABLES: dict[str, tuple[str, Callable[[Any, Any], None]]] = {
    "transformers.models.auto.configuration_auto": ("codebind_hf.model.configuration_codebind", _register_config),
    "transformers.models.auto.modeling_auto": ("codebind_hf.model.modeling_codebind", _register_model),
    "transformers.models.auto.processing_auto": ("codebind_hf.processing.processing_codebind", _register_processor),
    "transformers.models.auto.image_processing_auto": (
        "codebind_hf.processing.image_processing_codebind",
        _register_image_processor,
    ),
    "transformers.models.auto.feature_extraction_auto": (
        "codebind_hf.processing.feature_extraction_codebind",
        _register_feature_extractor,
    ),
    "transformers.pipelines": ("codebind_hf.processing.pipelines_codebind", register_pipelines),
}


# What loads packs and, of these, adapters, by its module.
_WITH_PACKS = {
    "codebind_hf.model.pretrained_model": "CodeBindPreTrainedModel",
    "codebind_hf.processing.processing_codebind": "CodeBindProcessor",
}


class _StandIn(type):
    """A class that is imported when anything is asked of it but its name and configuration."""

    def __getattr__(cls, name: str) -> Any:
        return getattr(getattr(importlib.import_module(cls.__module__), cls.__name__), name)


class _Later:
    """Takes the place of a module that cannot be imported yet."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> type:
        return _StandIn(name, (), {"__module__": self._module, "config_class": _config_class()})


def register_when_used() -> None:
    """Register with every table of transformers now, if it is loaded, or as soon as it is."""
    for theirs, (ours, register) in _TABLES.items():
        _register_once_both_are_loaded(theirs, ours, register)
    for module, name in _WITH_PACKS.items():
        register_post_import_hook(partial(_give_packs, name=name), module)


def _give_packs(module: Any, name: str) -> None:
    """Let a class of a room that ships load packs and adapters, which it may not import."""
    given = getattr(module, name)
    given.pack_room = staticmethod(lambda: importlib.import_module("codebind_hf.packs"))
    if hasattr(given, "adapter_room"):
        given.adapter_room = staticmethod(lambda: importlib.import_module("codebind_hf.training.adapters"))


def _register_once_both_are_loaded(theirs: str, ours: str, register: Callable[[Any, Any], None]) -> None:
    loaded: dict[str, ModuleType] = {}

    def after_import(module: ModuleType) -> None:
        loaded[module.__name__] = module
        if len(loaded) == 2:
            register(loaded[theirs], loaded[ours])
        elif module.__name__ == theirs and ours not in sys.modules:
            try:
                importlib.import_module(ours)
            except ImportError:
                # A module of ours, half loaded, imports the table: what builds on that module has to wait. Pipelines
                # register when theirs is imported; nobody imports their base alone.
                if register is _register_model:
                    register(module, _Later(ours))

    register_post_import_hook(after_import, ours)
    register_post_import_hook(after_import, theirs)
