"""`docs/uses.md` runs as it stands there, and what it says of versions and rows is so."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipeline_items import item
from torch.nn.functional import normalize

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.evaluation.embedding import EmbeddedModality, EmbeddedSet
from codebind_hf.inference import index_files


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "uses.md").read_text()


def embedded(items: int, seed: int) -> tuple[EmbeddedSet, np.ndarray]:
    """Sounds of two speakers, whom the specific part alone tells apart."""
    generator = torch.Generator().manual_seed(seed)
    speakers = torch.randint(0, 2, (items,), generator=generator)
    shared, own = torch.randn(items, 6, generator=generator), torch.randn(items, 4, generator=generator)
    own[:, 0] += 6 * speakers
    ids = torch.randint(0, 4, (items, 3), generator=generator)
    parts = (normalize(shared, dim=-1), normalize(own, dim=-1))
    audio = EmbeddedModality(torch.arange(items), parts[0], parts[0], parts[1], parts[1], ids, ids)
    return EmbeddedSet({"audio": audio}, [None] * items, [None] * items, [{}] * items), speakers.numpy()


def readings(rows: int, seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    things = draw.normal(size=(rows, 24))
    return {name: things + 0.3 * draw.normal(size=(rows, 24)) for name in ("image", "depth", "audio")}


def test_the_blocks_of_the_page_run(
    model: CodeBindModel, processor: CodeBindProcessor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train_set, train_speakers = embedded(120, 0)
    test_set, test_speakers = embedded(80, 1)
    rows = readings(50, 1)
    rows["depth"] = np.roll(rows["depth"], 1, axis=0)
    names: dict[str, Any] = {
        "model": model,
        "processor": processor,
        "pictures": [item("image", seed) for seed in range(6)],
        "picture": item("image", 4),
        "sounds": [item("audio", seed) for seed in range(4)],
        "picture_files": [f"{number}.png" for number in range(6)],
        "sound_files": [f"{number}.wav" for number in range(4)],
        "healthy": readings(240, 0),
        "rows": rows,
        **{"train_set": train_set, "test_set": test_set},
        **{"train_speakers": train_speakers, "test_speakers": test_speakers},
    }
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    for number, block in enumerate(blocks):
        exec(compile(block, f"uses.md block {number}", "exec"), names)
    # The picture is the fifth of the gallery.
    for by in ("unit", "both"):
        assert names[by].keys[0, 0] == "4.png"
        assert names[by].scores[0, 0] == pytest.approx(1.0)
    assert set(names["kind"].modalities.ravel()) == {"image", "audio"}
    assert set(names["unit"].modalities.ravel()) == {"image"}
    assert names["match"].cosine == pytest.approx(names["match"].contributions.sum())
    assert names["flags"].flagged.mean() > 0.8
    assert (names["flags"].modality[names["flags"].flagged] == "depth").mean() > 0.9
    assert names["found"]["both"].accuracy > 0.9
    assert names["kept_back"] > 5 * names["standard_error"]


def test_the_page_names_the_versions_of_the_code() -> None:
    assert f"saved as version {index_files.VERSION}; one without as version {index_files._WITHOUT_SPECIFIC}," in PAGE
