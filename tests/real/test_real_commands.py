"""Binding real senses by command: what the page says of it, and, where the packages are, the commands themselves."""

from pathlib import Path

import numpy as np
import pytest
from by_command import SENSES, one_split, recall_of
from features import Features
from packages import PACKAGES, default_cache
from page import _by_command


def split(recall: float, seconds: float, unmoved: bool = True) -> dict:
    sense = {"seconds": seconds, "pack_megabytes": 5.84, "gallery": 160, "unmoved": unmoved, "queries": 3}
    return {"bridge": {"seconds": 30.4}, "points": {**sense, "to image, codes": recall}}


def page_of(*splits: dict) -> str:
    place = {"cpu_count": 2, "processor": "x86_64", "date": "2026-11-28T00:00:00"}
    ran = {"splits": {str(seed): each for seed, each in enumerate(splits)}, "environment": place}
    return "\n".join(_by_command(ran))


def test_the_page_says_means_and_ranges_of_what_the_commands_gave() -> None:
    text = page_of(split(0.5, 20.0), split(0.61, 24.0))
    assert "| points | 55.5 (50.0 to 61.0) | 22 (20 to 24) | 5.8 | not a bit |" in text
    assert "the bridge takes 30." in text
    assert "Splits 0, 1;" in text


def test_the_page_says_when_a_vector_of_the_bridge_moved() -> None:
    assert "| they do |" in page_of(split(0.5, 20.0), split(0.5, 20.0, unmoved=False))


def test_of_sentences_that_say_the_same_any_is_right_and_a_picture_is_its_own() -> None:
    angles = np.deg2rad(np.array([0.0, *[10.0] * 6, *[20.0] * 6]))
    gallery = np.stack([np.cos(angles), np.sin(angles)], 1)
    sentences = ["a chair", *["a bench"] * 6, *["a lamp"] * 6]
    query, asked = gallery[[0, 0]], np.array([6, 12])
    # Ten of thirteen are found: all six benches, and three of the six lamps, whichever.
    assert recall_of("text", query, gallery, asked, sentences) == pytest.approx(0.5 + 0.5)
    assert recall_of("image", query, gallery, asked, sentences) == pytest.approx(0.5 + 0.5 * 3 / 6)


def cached() -> bool:
    """Whether everything is there that a run would otherwise fetch and compute."""
    cache = default_cache()
    unpacked = {path.name for path in (cache / "unpacked").glob("*")}
    wanted = {f"{p.name}-{p.version}-{p.sha256[:12]}" for p in PACKAGES.values()}
    senses = {f"{collection}-{sense}" for sense, (collection, _) in SENSES.items()}
    senses |= {"stamps-image", "furniture-image"}
    return wanted <= unpacked and senses <= {path.name for path in (cache / "features").glob("*")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not cached(), reason="packages and features of `make real` are not in the cache")
def test_points_and_a_language_are_bound_by_command_to_minilm_and_efficientnet(tmp_path: Path) -> None:
    features = Features(default_cache())
    features.gone = {"eeg": "not needed", "imu": "not needed"}
    found = one_split(features, tmp_path, seed=0)
    # Within two points of a study with plain InfoNCE heads, by exact names, on three other splits.
    least = {"points": {"image": 0.584, "text": 0.483}, "speech_es": {"image": 0.419, "text": 0.528}}
    for sense, by in least.items():
        entry = found[sense]
        assert entry["unmoved"]
        assert set(entry["movement"].values()) == {0.0}
        assert entry["pack_megabytes"] <= 20
        for other, recall in by.items():
            # One split has about 150 queries: two standard errors of one are 8 points.
            assert entry[f"to {other}, continuous"] >= recall - 0.08
