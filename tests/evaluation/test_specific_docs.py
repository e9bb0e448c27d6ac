"""`docs/specific.md` runs as it stands there, and its recipe is one."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from codebind_hf.data import NineSenses, PreparedDataset
from codebind_hf.model.codebooks import SharedSpecificCodebook
from codebind_hf.model.presets import merge_fields
from codebind_hf.training import Recipe, build
from codebind_hf.training.building import recipe_config


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "specific.md").read_text()
MODALITIES = ("text", "image", "video", "audio")


@pytest.mark.slow
def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    test = NineSenses("test", 0, num_rows=40, modalities=MODALITIES)
    model, processor = build(Recipe(), MODALITIES, ["a glass ring"])
    for step in (100, 200):
        model.save_pretrained(tmp_path / "runs/mine/bind" / f"checkpoint-{step}")
    names: dict[str, Any] = {"model": model, "processor": processor}
    rows = PreparedDataset(test, processor)
    # Every class of the test rows needs a training row.
    names |= {"training_rows": rows, "test_rows": rows}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        exec(compile(block, f"specific.md block {number}", "exec"), names)
    assert set(names["found"].alone) == {"audio", "video"}
    assert names["gain"] == pytest.approx(names["found"].accuracy - names["shared"].accuracy)
    assert 0 <= names["as_good"] <= 1
    assert names["within"] > names["across"]
    assert names["said"].shape == (16,)
    assert set(names["curve"]) == {100, 200}
    assert {"hue", "light", "class"} <= set(names["curve"][100])
    assert names["curve"][100] == names["curve"][200]


def test_the_recipe_of_separate_codebooks_is_that_of_the_row_with_other_books() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    row = yaml.safe_load((ROOT / "examples/recipes/sun.yaml").read_text())["recipe"]
    config = recipe_config(Recipe(**{**merge_fields(row, yaml.safe_load(block)), "base": None}))
    books = SharedSpecificCodebook(config.restricted_to(["text", "image", "depth"]))
    assert books.book("shared", "depth") is books.book("specific", "depth")
    assert books.book("shared", "depth") is not books.book("shared", "vision")
    assert books.specific["depth"].codes.shape == books.specific["vision"].codes.shape == (1024, 8)
    assert books.shared is books.book("shared", "text")
    assert books.shared.codes.shape == (1024, 8)
    assert config.loss_weight("cm") == 0
    assert config.loss_weight("commit") == 125
