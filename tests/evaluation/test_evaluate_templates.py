"""`examples/evaluate.py` takes its prompts from the command line, or from a recipe."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from examples_in_process import EXAMPLES, example

from codebind_hf.benchmarks.prompts import SCENES


RECIPES = EXAMPLES / "recipes"


def templates(template: list[str] | None, recipe: Path | None) -> list[str]:
    return example("evaluate").templates_of(SimpleNamespace(template=template, recipe=recipe))


def test_a_recipes_templates_are_taken_unless_others_are_given() -> None:
    assert templates(None, RECIPES / "vl-sun.yaml") == list(SCENES)
    assert templates(["the {}"], RECIPES / "vl-sun.yaml") == ["the {}"]
    assert templates(None, None) is None


def test_a_recipe_without_templates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("recipe: {preset: tiny}\n")
    with pytest.raises(ValueError, match=r"bare\.yaml has no `templates`"):
        templates(None, tmp_path / "bare.yaml")
