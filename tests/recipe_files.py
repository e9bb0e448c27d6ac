"""The recipes in `examples/recipes/`, read as `examples/train.py` reads them."""

from pathlib import Path
from typing import Any

import yaml

from codebind_hf.training import Recipe


FOLDER = Path(__file__).parents[1] / "examples" / "recipes"


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def recipe_of(name: str, **changes: Any) -> Recipe:
    return Recipe(**{**read(name)["recipe"], **changes})
