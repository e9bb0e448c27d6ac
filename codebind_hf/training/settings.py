"""What a run is started with: a recipe, its data, how to bind; read, checked, kept beside the run, and read again."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from codebind_hf.data.choices import ON_ERROR
from codebind_hf.data.sources import split_name
from codebind_hf.processing.values import check_choice, check_number
from codebind_hf.training.choices import SHARED_CODES
from codebind_hf.training.recipe import BACKBONE_FIELDS, DEFAULT_STAGES, Recipe
from codebind_hf.training.run_rows import check_data
from codebind_hf.training.typed_fields import check_mapping, check_names, check_types


_SOURCES = ("manifest", "dataset", "benchmark")
_PLACES = ("manifest", "test_manifest", "dataset", "test_dataset", "root")
_FILE_KEYS = ("data", "recipe", "templates")


@dataclass
class BindSettings:
    """Binding one modality to a finished model.

    Args:
        modality: its name.
        bridge: the model, a run or a checkpoint.
        encoder: fields of the encoder of a modality that the model lacks.
        shared_codes: "frozen" or "learning".
        tolerance: how far other embeddings may move; 0 is not a bit.
        check_manifest: rows of the other modalities to measure, instead of the training rows.
    """

    modality: str
    bridge: str
    encoder: dict[str, Any] | None = None
    shared_codes: str = "frozen"
    tolerance: float = 0.0
    check_manifest: str | None = None

    def __post_init__(self) -> None:
        check_types(vars(self), get_type_hints(BindSettings), "bind")
        check_choice("shared_codes", self.shared_codes, SHARED_CODES)
        check_number("tolerance", self.tolerance, 0)


@dataclass
class RunSettings:
    """Everything that a run depends on, beside code and files.

    Args:
        data: `manifest` and maybe `test_manifest`, `dataset` and maybe `test_dataset` (see `dataset_rows`),
            `benchmark` (a name or several, see `codebind_hf.benchmarks`) with `root`, `protocol` and `backbone`, or
            `nine_senses` with the arguments of `NineSenses`. Beside the first two, `columns` to rename,
            `text_from_label` (templates with `{}`), `encoding` of CSV. `loading`: where tensors live, see
            `load_items`; `preprocessing_num_workers`: processes that make those that are kept, and that fit probes.
            `streaming`: read `dataset` from front to back, with a `shuffle_buffer`, see `dataset_stream`.
        recipe: fields of `Recipe`.
        templates: zero-shot prompts with `{}` for the class.
        on_error: what an unreadable file does, "raise" or "skip".
        bind: of a run that binds one modality.

    Raises:
        ValueError: an unknown key, a value of another type, or a template without `{}`.
    """

    data: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    templates: list[str] | None = None
    on_error: str = "raise"
    bind: BindSettings | None = None

    def __post_init__(self) -> None:
        self.data, self.recipe = check_mapping(self.data, "data"), check_mapping(self.recipe, "recipe")
        if isinstance(self.bind, Mapping):
            check_names(self.bind, [entry.name for entry in fields(BindSettings)], "bind")
            self.bind = BindSettings(**self.bind)
        check_types(vars(self), get_type_hints(RunSettings), "settings")
        check_data(self.data)
        check_choice("on_error", self.on_error, ON_ERROR)
        if self.bind and self.data.get("streaming"):
            raise ValueError(
                "streaming: got true with a binding, which measures rows by number. Fix: leave it out (--streaming)."
            )
        if self.bind and (tested := [name for name in ("test_manifest", "test_dataset") if self.data.get(name)]):
            raise ValueError(
                f"{tested[0]}: got {self.data[tested[0]]!r} with a binding, which does not evaluate "
                "(codebind evaluate does). Fix: leave it out."
            )
        for template in self.templates or []:
            if "{}" not in template:
                raise ValueError(f"templates: {template!r} has no {{}} for the name of the class.")
        check_names(self.recipe, [entry.name for entry in fields(Recipe)], "recipe")
        self.make_recipe()

    def make_recipe(self) -> Recipe:
        """The recipe, checked."""
        return Recipe(**self.recipe)

    def as_json(self) -> dict[str, Any]:
        """As values of JSON, from which `RunSettings(**values)` makes the same."""
        return json.loads(json.dumps(asdict(self)))


def read_settings(
    config: Path | None = None,
    data: Mapping[str, Any] | None = None,
    templates: Sequence[str] | None = None,
    recipe: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
    processor: Mapping[str, Any] | None = None,
    backbones: Mapping[str, str] | None = None,
    flag: str = "--config",
    **others: Any,
) -> RunSettings:
    """A YAML file of `data`, `recipe` and `templates`, with what is given beside it on top.

    Local paths become absolute, so that the run can go on from anywhere.

    Args:
        data: of `RunSettings.data`; `None` among them leaves the file's.
        recipe: fields of the recipe, likewise.
        training: training arguments of every stage, likewise.
        max_steps: of every stage.
        processor: options of the processor.
        backbones: by "text", "image" or "audio", the folder or name of a network that is its tower.
        flag: that named the file.
        others: further fields of `RunSettings`.

    Raises:
        ValueError: as for `RunSettings`, naming the file.
        OSError: the file cannot be read.
    """
    where, content = (flag, read_yaml(config, flag)) if config else ("settings", None)
    try:
        given = check_mapping(content, where)
        if unknown := sorted(set(given) - set(_FILE_KEYS)):
            raise ValueError(f"unknown keys {unknown}; allowed: {', '.join(_FILE_KEYS)}.")
        chosen = {**check_mapping(given.get("recipe"), "recipe"), **_given(recipe)}
        if training := _given(training):
            chosen["training"] = {**check_mapping(chosen.get("training"), "training"), **training}
        if max_steps is not None:
            stages = check_mapping(chosen.get("stages"), "stages")
            own = {name: check_mapping(stages.get(name), name) for name in (*DEFAULT_STAGES, *stages)}
            chosen["stages"] = {name: {**options, "max_steps": max_steps} for name, options in own.items()}
        if processor := _given(processor):
            chosen["processor"] = {**check_mapping(chosen.get("processor"), "processor"), **processor}
        if backbones := _given(backbones):
            chosen["model"] = _with_towers(check_mapping(chosen.get("model"), "model"), backbones)
        own, data = check_mapping(given.get("data"), "data"), _given(data)
        # Rows that are given replace those of the file, with all that is said of them there.
        data = data if any(name in data for name in _SOURCES) else {**own, **data}
        data = {name: _absolute_source(value) if name in _PLACES else value for name, value in data.items()}
        if chosen.get("base") is not None:
            chosen["base"] = _absolute(chosen["base"])
        return RunSettings(data, chosen, list(templates) if templates else given.get("templates"), **others)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if config else str(error)) from error


def read_yaml(path: Path, flag: str) -> Any:
    """What a file of YAML or JSON that a flag names holds.

    Raises:
        OSError: it cannot be read; the message names the flag.
        ValueError: it is something else.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"{flag}: {path}: {reason}. Fix: check the path and the working directory.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{flag}: {path} is no YAML ({error}).") from error


def read_binding(
    bind: str | None,
    bridge: str | None,
    encoder: Path | None = None,
    base: str | None = None,
    test_rows: str | None = None,
    **options: Any,
) -> BindSettings | None:
    """What flags of the command line say of binding; `None` if nothing.

    Args:
        encoder: YAML or JSON file with the fields of an encoder.
        test_rows: rows to evaluate on, of which there are none while binding.
        options: further fields of `BindSettings`, `None` for their defaults.

    Raises:
        ValueError: flags that do not belong together, or an encoder without fields.
        OSError: the encoder's file cannot be read.
    """
    options = _given(options)
    if bool(bind) != bool(bridge):
        raise ValueError("--bind MODALITY and --bridge MODEL belong together.")
    if not bind or not bridge:
        for name in ("encoder",) if encoder else options:
            raise ValueError(f"--{name} needs --bind.")
        return None
    if base or test_rows:
        raise ValueError(
            "--bind starts from its --bridge and does not evaluate (codebind evaluate does): leave out --base, "
            "--test_manifest and --test_dataset."
        )
    shape = read_yaml(encoder, "--encoder") if encoder else None
    if encoder and not isinstance(shape, dict):
        raise ValueError(f"--encoder: {encoder} holds no fields, such as `num_channels: 1`.")
    if "check_manifest" in options:
        options["check_manifest"] = _absolute(options["check_manifest"])
    return BindSettings(bind, _absolute(bridge), shape, **options)


def _with_towers(model: Mapping[str, Any], backbones: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a model whose encoders are these networks."""
    found = dict(model)
    for kind, place in backbones.items():
        check_choice(
            "backbones", kind, tuple(BACKBONE_FIELDS), "name a kind of input, as in text=FOLDER (--backbones)."
        )
        field = BACKBONE_FIELDS[kind]
        own = check_mapping(found.get(field), field)
        found[field] = {**own, "stem": "pretrained", "backbone": _absolute(place)}
    return found


def _given(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (options or {}).items() if value is not None}


def _absolute_source(name: Any) -> Any:
    """As `_absolute`, of a folder with a split too."""
    place, split = split_name(name) if isinstance(name, str) else (name, "")
    return _absolute(name) if place == name else f"{_absolute(place)}:{split}"


def _absolute(path: Any) -> Any:
    """A path that exists, from anywhere; a name on the Hub as it is, and what is missing for its error."""
    return str(Path(path).resolve()) if isinstance(path, str) and os.path.exists(path) else path
