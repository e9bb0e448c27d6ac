"""The ablation: rows that differ in their losses alone, differences in pairs, and a verdict that follows from them."""

import argparse
import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import evidence
import numpy as np
import pytest
import torch
from binding import OURS, Settings, bridge
from cells import Cells
from drift import drift
from equal_bytes import OWN, compared
from rows import FULL, MAIN, WORDS, WORLD, on_worlds
from scipy import stats
from tables import ahead, behind, holm, of_worlds, spread, table_of
from values import value
from worlds import TARGETS, World

from codebind_hf.evaluation.environment import environment


SMALL = {"hidden_size": 16, "batch": 32, "least_steps": 40, "epochs": 0, "dim": 16, "noise": 0.1, "blocks": 0}


def small(row: Settings) -> Settings:
    codes = {"code_dim": 16} if row.code_dim == row.dim else {}
    return replace(row, **SMALL, **codes)


def made_up(number: int) -> World:
    """A world in which every sense sees one hidden vector a row, and a private label."""
    rng = np.random.default_rng(number)
    widths = {"image": 12, "text": 10, **dict.fromkeys(TARGETS, 14)}
    maps = {name: rng.normal(size=(6, width)) for name, width in widths.items()}
    centres = rng.normal(size=(4, 6))
    arrays: dict[str, np.ndarray] = {"classes": (centres @ maps["text"])[:, None].repeat(2, 1).astype(np.float32)}
    for split, count in (("bridge", 96), ("validation", 40), ("test", 420), *((target, 64) for target in TARGETS)):
        labels = rng.integers(0, 4, count)
        hidden = centres[labels] + 0.3 * rng.normal(size=(count, 6))
        arrays |= {f"{split}.{name}": (hidden @ maps[name]).astype(np.float32) for name in ("image", "text")}
        arrays[f"{split}.label"] = labels
        for target in TARGETS if split in ("validation", "test") else (split,) if split in TARGETS else ():
            private = rng.integers(0, 2, count)
            values = (hidden @ maps[target] + 2 * np.outer(private, np.ones(14))).astype(np.float32)
            arrays[f"{target}.values" if split == target else f"{split}.{target}"] = values
            key = f"{target}.attribute.side" if split == target else f"{split}.{target}.attribute.side"
            arrays[key] = private
    return World(number, arrays)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    rows = {name: small(MAIN[name]) for name in ("untrained", "hard", "ours")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cells.WIDTH", 14)
        cells = Cells(Path("nowhere"), tmp_path_factory.mktemp("ablation"), rows)
        cells.world = made_up  # type: ignore[assignment]
        for row, target in itertools.product(rows, TARGETS):
            cells.compute(row, 1, target, 0)
        yield cells


def test_the_eight_rows_differ_in_what_they_are_named_for() -> None:
    assert list(MAIN) == list(WORDS)
    assert len(MAIN) == 8
    shared = [
        "hidden_size",
        "blocks",
        "epochs",
        "least_steps",
        "batch",
        "rate",
        "decay",
        "noise",
        "temperature",
        "dim",
        "image_weight",
    ]
    for name, row in {**FULL, **on_worlds(FULL)}.items():
        same = on_worlds(MAIN)["hard"] if asdict(row)["epochs"] == WORLD["epochs"] else MAIN["hard"]
        assert {key: getattr(row, key) for key in shared} == {key: getattr(same, key) for key in shared}, name
    assert not MAIN["hard"].codes
    assert not MAIN["hard"].specific
    assert not MAIN["hard"].weights
    assert MAIN["segments"] == replace(MAIN["hard"], even_segments=True)
    assert MAIN["paper"].balance
    assert MAIN["paper"].align_on == "codes"
    assert set(MAIN["paper"].weights or {}) == {"recon", "orth", "uni", "commit", "cm", "cctr", "cuni"}
    assert MAIN["ours"] == OURS
    worlds = on_worlds(FULL)
    assert worlds["segments"].even_segments
    assert not worlds["ours"].even_segments
    assert "decorr" not in (worlds["ours without decorr"].weights or {})
    assert worlds["ours without views"].weights == {
        name: weight for name, weight in (worlds["ours"].weights or {}).items() if name != "views"
    }


@pytest.mark.parametrize("name", list(FULL))
def test_every_row_makes_a_model_that_trains(name: str) -> None:
    row = replace(small(FULL[name]), least_steps=2, code_dim=min(FULL[name].code_dim, 16))
    image, text = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)), torch.randn(40, 10)
    model = bridge(image, text, row, seed=0)
    assert bool(model.codebooks.shared) == row.codes
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_parts_that_two_rows_both_have_start_from_equal_weights() -> None:
    image, text = torch.randn(40, 12), torch.randn(40, 10)
    rows = [small(MAIN[row]) for row in ("hard", "paper", "ours")]
    start = [bridge(image, text, row, seed=3, train=False).state_dict() for row in rows]
    common = [key for key in start[0] if "codebook" not in key and all(key in other for other in start)]
    assert sum("vision" in key for key in common) > 3
    for other in start[1:]:
        assert [key for key in common if not torch.equal(start[0][key], other[key])] == []
    again = bridge(image, text, small(MAIN["hard"]), seed=4, train=False).state_dict()
    assert not all(torch.equal(start[0][key], again[key]) for key in common)


def test_cells_are_computed_once_and_trained_rows_beat_the_untrained_one(cells: Cells) -> None:
    found = of_worlds(cells, ["untrained", "hard", "ours"], [1], [0])
    assert found["hard"][1]["zero-shot"] > found["untrained"][1]["zero-shot"] + 0.3
    assert found["ours"][1]["R@10"] > found["untrained"][1]["R@10"]
    assert 0 < found["ours"][1]["specific knows"] <= 1
    assert "specific knows" not in found["hard"][1]
    file = cells.file("hard", 1, "depth", 0)
    file.write_text(file.read_text().replace('"zero-shot shared": ', '"zero-shot shared": 7'))
    assert cells.compute("hard", 1, "depth", 0)["zero-shot shared"] >= 7
    assert cells.done("hard", 1, 0)
    assert not cells.done("hard", 2, 0)
    file.unlink()
    cells.compute("hard", 1, "depth", 0)


def test_differences_are_in_pairs_and_their_p_is_that_of_a_paired_test() -> None:
    one, other = [0.5, 0.6, 0.4, 0.7, 0.55, 0.65], [0.52, 0.63, 0.41, 0.74, 0.56, 0.69]
    rows = {
        "hard": {i: {"zero-shot": x} for i, x in enumerate(one)},
        "ours": {i: {"zero-shot": x} for i, x in enumerate(other)},
    }
    entry = table_of(rows, splits=False)["ours"]["zero-shot"]
    paired = stats.ttest_rel(other, one)
    assert entry["difference"]["p"] == pytest.approx(paired.pvalue)
    assert entry["difference"]["holm"] == pytest.approx(paired.pvalue)
    low, high = paired.confidence_interval()
    assert entry["difference"]["half"] == pytest.approx((high - low) / 2)
    assert entry["won"] == [6, 6]
    assert ahead(entry)
    assert not behind(entry)
    # Ten splits of a fifth: the variance is 1/10 + 1/4 of that of one, not 1/10.
    values = np.linspace(0, 1, 10)
    assert spread(values, splits=True)["se"] == pytest.approx(values.std(ddof=1) * math.sqrt(0.35))


def test_p_values_are_corrected_for_their_number() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    corrected = holm([0.5, math.nan, 0.9])
    assert math.isnan(corrected[1])
    assert corrected[::2] == [1.0, 1.0]


def verdict_of(ours: Mapping[str, float], paper: Mapping[str, float]) -> str:
    hard = {i: {"zero-shot": 0.5 + i / 50, "R@10": 0.4 + i / 70, "R@10 of codes": 0.4 + i / 70} for i in range(6)}
    shifted = {
        row: {i: {k: x + by.get(k, 0.0) + 0.001 * (i % 2) for k, x in values.items()} for i, values in hard.items()}
        for row, by in (("ours", ours), ("paper", paper))
    }
    table = table_of({"hard": hard, **shifted}, splits=False)
    return evidence.verdict({"tables": {"worlds": table, "splits": table}})


def test_the_verdict_follows_from_the_table() -> None:
    won = verdict_of({"zero-shot": 0.03, "R@10": 0.04}, {"R@10": -0.1})
    assert won.startswith("**`ours` is ahead of tuned hard alignment")
    assert re.search(r"`paper` has [+-]0\.\d ± 0\.1 zero-shot.*, -9\.9 ± 0\.1 R@10 \(behind\)", won)
    lost = verdict_of({"zero-shot": 0.03, "R@10": -0.04}, {"zero-shot": -0.01})
    assert lost.startswith("**No row is ahead of tuned hard alignment in both")


def test_the_page_tells_rows_levels_and_what_was_confirmed(cells: Cells, tmp_path: Path) -> None:
    arguments = argparse.Namespace(worlds=[1], seeds=[0], splits=[], senses=[], rows=["untrained", "hard", "ours"])
    file = tmp_path / "evidence.md"
    evidence.write_page(file, cells, argparse.Namespace(rows={}), arguments)
    page = file.read_text()
    assert "| `hard` | InfoNCE alone, tuned |" in page
    assert "## NineSenses" in page
    assert "| `ours, codes` |" in page.partition("## Sensors checked against each other")[2]
    assert "## Real senses" not in page
    assert "## Confirmed once" not in page
    (tmp_path / "evidence-confirmed.json").write_text(file.with_suffix(".json").read_text())
    evidence.write_page(file, cells, argparse.Namespace(rows={}), arguments)
    assert "## Confirmed once" in file.read_text()
    assert "at equal bytes" not in file.read_text()
    kept = {seed: {name: {"kept": 0.8, "R@10": 0.5} for name in ("exact", OWN)} for seed in (0, 1)}
    stored = {
        "sizes": {"32": compared(kept, kept)},
        "splits": [0, 1],
        "senses": ["points"],
        "environment": environment(),
    }
    (tmp_path / "quantizers.json").write_text(json.dumps(stored))
    evidence.write_page(file, cells, argparse.Namespace(rows={}), arguments)
    assert (
        "| ours, its own codes | 80.0 ± 0.0 |"
        in file.read_text().partition("## Codes and quantizers at equal bytes")[2]
    )


def test_sensors_that_say_something_else_are_flagged_more_often_than_healthy_ones(cells: Cells) -> None:
    found = drift(cells, [1], [0])
    assert list(found) == ["hard", "ours", "ours, codes"]
    for entry in found.values():
        healthy, swapped = entry["healthy"]["level"]["mean"], entry["swapped"]["level"]["mean"]
        assert healthy < 0.06
        assert swapped > healthy + 0.1
        assert entry["swapped, named"]["level"]["mean"] <= swapped
    difference = found["ours"]["dead"]["difference"]["mean"]
    levels = [found[name]["dead"]["level"]["mean"] for name in ("ours", "hard")]
    assert difference == pytest.approx(levels[0] - levels[1])


def test_the_readme_claims_what_the_published_table_says() -> None:
    root = Path(__file__).parents[2]
    tables = json.loads((root / "docs" / "evidence.json").read_text())["tables"]
    claimed = " ".join(
        (root / "README.md").read_text().partition("Are codes and two parts more accurate? No.")[2].split()
    )[:900]

    def said(kind: str, row: str, name: str) -> str:
        return value(tables[kind][row][name]["difference"], signed=True)

    for kind, measure in itertools.product(("worlds", "splits"), ("zero-shot", "R@10")):
        assert said(kind, "ours", measure) in claimed
    assert f"{said('worlds', 'ours', 'R@10 of codes').removeprefix('-')} lower" in claimed
    assert f"{said('worlds', 'paper', 'R@10').removeprefix('-')} behind" in claimed
    assert f"({said('splits', 'ours', 'shared knows')} points" in claimed


def test_an_unknown_row_is_named_with_what_there_is() -> None:
    script = Path(__file__).parents[2] / "examples" / "ablation" / "run.py"
    done = subprocess.run([sys.executable, script, "--rows", "hard,soft"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--rows: got soft; allowed: untrained, hard" in done.stderr
