"""`codebind evaluate` takes its prompts from the command line, or from a recipe."""

from pathlib import Path

import pytest
from examples_in_process import EXAMPLES

from codebind_hf.benchmarks.prompts import SCENES
from codebind_hf.commands.evaluate import templates_of


RECIPES = EXAMPLES / "recipes"


def test_a_recipes_templates_are_taken_unless_others_are_given() -> None:
    assert templates_of(None, RECIPES / "vl-sun.yaml") == list(SCENES)
    assert templates_of(["the {}"], RECIPES / "vl-sun.yaml") == ["the {}"]
    assert templates_of(None, None) is None


def test_a_recipe_without_templates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("recipe: {preset: tiny}\n")
    with pytest.raises(ValueError, match=r"bare\.yaml has no `templates`"):
        templates_of(None, tmp_path / "bare.yaml")
