"""Recipes and settings of runs with something wrong are taken or refused in words of ours, whatever it is."""

from pathlib import Path

import pytest
from fuzzing.outcomes import REFUSED, TAKEN, Outcomes
from fuzzing.settings import recipe_calls


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_recipes_and_settings_are_taken_or_clearly_refused(tmp_path: Path) -> None:
    outcomes = Outcomes()
    outcomes.try_all(recipe_calls(tmp_path), 700)
    for door in ("recipe", "settings of a run"):
        assert min(outcomes.counts[door, TAKEN], outcomes.counts[door, REFUSED]) > 20, outcomes.table()
