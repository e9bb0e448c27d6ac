"""docs/data.md: its Python runs, and the flags, endings and numbers it names are those of the code."""

import re
from pathlib import Path

import pytest
import typer
from commands_in_process import flags_of, parsed

from codebind_hf import CodeBindProcessor
from codebind_hf.commands.running import data_of, given
from codebind_hf.commands.values import renames
from codebind_hf.data import NineSenses
from codebind_hf.data.choices import LOADINGS
from codebind_hf.data.loading import MEMORY_LIMIT
from codebind_hf.data.sources import SHARD_COLUMNS
from codebind_hf.data.streamed import SHUFFLE_BUFFER
from codebind_hf.data.units import UNITS
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.training.run_rows import DATA_KEYS
from codebind_hf.training.tokenization import build_tokenizer


PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def test_the_block_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    manifest = NineSenses("test", num_rows=2, modalities=["text", "eeg"]).export(tmp_path)
    processor = CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["a ring"]))
    exec(compile(block, "docs/data.md", "exec"), {"manifest": manifest, "processor": processor})


def test_what_it_names_is_there() -> None:
    of_rows = {f"--{name}" for name in data_of({})} | {"--cache_bridge", "--backbones", "--depth_unit", "--on_error"}
    known = flags_of("train") | flags_of("evaluate") | flags_of("search")
    named = set(re.findall(r"--[a-z_]+", PAGE))
    assert set(re.findall(r"`(--[a-z_]+)", PAGE)) <= known
    assert of_rows <= known
    assert of_rows <= named
    assert set(re.findall(r"^\| `([a-z]+)` \|", PAGE, re.MULTILINE)) == set(LOADINGS)
    assert f"{MEMORY_LIMIT // 2**30} GiB" in PAGE
    assert f"{SHUFFLE_BUFFER:,} rows" in PAGE
    for ending in ("jpg", "png", "wav", "flac", "mp4", "txt", "cls"):
        assert ending in SHARD_COLUMNS


def test_its_table_of_units_is_that_of_the_code() -> None:
    table = PAGE.partition("## Units")[2].partition("\n## ")[0]
    named = [
        name for line in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    ]
    assert sorted(named) == sorted(UNITS)


def test_flags_are_the_settings_of_data() -> None:
    words = ["--dataset", "d:test", "--columns", "img=image, caption=text", "--streaming", "--text_from_label", "a {}"]
    data = data_of(given(parsed("train", "--output_dir", "x", *words)))
    assert set(data) <= set(DATA_KEYS)
    assert {name: value for name, value in data.items() if value is not None} == {
        "dataset": "d:test",
        "columns": {"img": "image", "caption": "text"},
        "streaming": True,
        "text_from_label": ["a {}"],
    }


@pytest.mark.parametrize("text", ["img", "img=", "=image", "a=b,a=c"])
def test_columns_are_pairs(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="allowed: column=name pairs"):
        renames(text)
