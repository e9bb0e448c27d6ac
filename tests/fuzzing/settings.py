"""Recipes and settings of runs as YAML may hold them, right but for a value or a key."""

import copy
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from fuzzing.doors import Call
from fuzzing.strategies import json_values, scalars
from hypothesis import strategies as st

from codebind_hf.training import CodeBindTrainingArguments, Recipe, RunSettings, read_settings


ARGUMENTS = [entry.name for entry in fields(CodeBindTrainingArguments) if entry.init]
RIGHT: dict[str, Any] = {
    "data": {"manifest": "a.jsonl", "test_manifest": None, "nine_senses": {"num_bridge": 3, "modalities": ["text"]}},
    "recipe": {
        **{"preset": "tiny", "base": None, "order": "joint", "temperature": 0.1, "seed": 3, "model": {}},
        "processor": {"depth": {"depth_unit": "m"}},
        "training": {"learning_rate": 1e-3, "max_steps": 3, "loss_warmup": {"decorr": [0.3, 0.9]}},
        "stages": {"bridge": {"max_steps": 2}, "bind": {"train_mode": "full"}, "joint": {}},
    },
    "templates": ["a {}"],
}


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested mappings and lists."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


@st.composite
def recipe_calls(draw: st.DrawFn, folder: Path) -> Call:
    """`read_settings` of a file, `Recipe(...)` and `RunSettings(...)`, with one or two things wrong."""
    given = copy.deepcopy(RIGHT)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from([place for place in _places(given) if place]))
        parent = given
        for key in place[:-1]:
            parent = parent[key]
        kind = draw(st.sampled_from(["value", "value", "key", "argument"]))
        if kind == "value" or not isinstance(parent, dict):
            parent[place[-1]] = copy.deepcopy(draw(json_values))
        elif kind == "key":
            parent[draw(st.sampled_from(["", "x", "seed", "lerning_rate", "output_dir"]))] = copy.deepcopy(
                draw(json_values)
            )
        elif isinstance(given.get("recipe"), dict):
            given["recipe"]["training"] = {draw(st.sampled_from(ARGUMENTS)): copy.deepcopy(draw(json_values))}
    door = draw(st.sampled_from(["file", "recipe", "settings"]))
    if door == "file":
        file = folder / "run.yaml"
        file.write_text(yaml.safe_dump(given, allow_unicode=True))
        return Call("settings of a run", lambda: read_settings(file))
    if door == "recipe":
        recipe = given["recipe"] if isinstance(given.get("recipe"), dict) else {}
        known = {name: value for name, value in recipe.items() if name in Recipe.__dataclass_fields__}
        return Call("recipe", lambda: Recipe(**known))
    odd = draw(st.one_of(st.just("skip"), scalars))
    chosen = {name: value for name, value in given.items() if name in RIGHT}
    return Call("settings of a run", lambda: RunSettings(**chosen, on_error=odd))
