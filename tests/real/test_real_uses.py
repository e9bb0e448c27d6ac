"""What codes and parts are for, on embeddings whose answers are known."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import faults
import numpy as np
import pytest
import torch
import uses
import uses_page
from splits import held_out
from things import Thing

from codebind_hf.model.codebooks import nearest_codes, sphere_points, unit_segments


COUNT, DIM = 240, 16
BOOK = sphere_points(64, 4)


def things(collection: str) -> list[Thing]:
    return [Thing(collection, str(n), f"name{n}x", f"name{n}x.", "kind", {}, {}) for n in range(COUNT)]


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def quantized(values: np.ndarray) -> np.ndarray:
    segments = unit_segments(torch.from_numpy(values), 4)
    ids = nearest_codes(segments.flatten(0, 1), BOOK)
    return unit(BOOK[ids].view(len(values), -1).numpy())


@dataclass
class Known:
    """A study in which senses of one thing agree but for noise, and the voice is in the specific part alone."""

    features: Any = None
    by: str = "name"
    senses: tuple[str, ...] = ("speech", *uses.MESH_SENSES)

    def __post_init__(self) -> None:
        self.features = SimpleNamespace(things={name: things(name) for name in ("stamps", "furniture")})

    def rows_of(self, sense: str, test: dict[str, np.ndarray]) -> Any:
        numbers = np.concatenate([np.arange(COUNT)] * 3)
        voices = np.repeat(["speech_a", "speech_b", "speech_c"], COUNT)
        return SimpleNamespace(things=numbers, variant=voices, test=test["stamps"][numbers])

    def arrays(self, row: str, seed: int, sense: str) -> dict[str, np.ndarray]:
        test = held_out(self.features.things, seed, self.by)
        rng = np.random.default_rng([seed, *sense.encode(), *row.encode()])
        if sense == "speech":
            rows = self.rows_of(sense, test)
            meaning = np.random.default_rng(seed).normal(size=(COUNT, DIM))[rows.things]
            voice = np.random.default_rng(1).normal(size=(3, DIM))[np.unique(rows.variant, return_inverse=True)[1]]
            shared = unit(meaning + 0.1 * rng.normal(size=meaning.shape))[rows.test]
            specific = unit(voice + 0.1 * rng.normal(size=voice.shape))[rows.test]
            parts = {"shared": shared, "shared_codes": quantized(shared), "specific": specific}
            return {**parts, "things": rows.things[rows.test]}
        meaning = np.random.default_rng(seed).normal(size=(COUNT, DIM))[test["furniture"]]
        shared = unit(meaning + 0.1 * rng.normal(size=meaning.shape))
        start = "furniture-image-" if sense == "bridge" else ""
        moved = unit(meaning + 3 * np.random.default_rng(2).normal(size=DIM))
        faults = {"drifted.shared": moved, "drifted.shared_codes": quantized(moved)}
        return {f"{start}shared": shared, f"{start}shared_codes": quantized(shared), **faults}

    def bridge_of(self, row: str, seed: int) -> Any:
        return (SimpleNamespace(codebooks=SimpleNamespace(shared=SimpleNamespace(codes=BOOK))),)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    seeds = range(6)
    meshes = uses.uses(Known(senses=uses.MESH_SENSES), seeds)  # type: ignore[arg-type]
    assert set(meshes) == {"check", "match"}
    speech = uses.uses(Known(senses=("speech",)), seeds[:2])  # type: ignore[arg-type]
    assert set(speech) == {"attack", "search"}
    return {**speech, **meshes}


def test_an_attacker_reads_what_was_given_away_and_no_more(found: dict[str, Any]) -> None:
    read = {name: entry["mean"] for name, entry in found["attack"].items()}
    assert read["shared and specific"] > 0.97
    assert read["shared"] < 0.5
    assert read["chance"] == pytest.approx(1 / 3, abs=0.05)
    assert read["shared - InfoNCE alone"] == pytest.approx(read["shared"] - read["InfoNCE alone"])


def test_what_finds_the_object_and_which_finds_the_voice(found: dict[str, Any]) -> None:
    near = {name: entry["mean"] for name, entry in found["search"].items()}
    # Two of three nearest can be of the same object, as it is said in three voices.
    assert near["what: same object"] == pytest.approx(2 / 3, abs=0.02)
    assert near["which: same voice"] > 0.97
    assert near["what: same voice"] < 0.4
    assert near["which: same object"] < 0.1


def test_faults_are_flagged_and_named_at_the_rate_of_false_alarms(found: dict[str, Any]) -> None:
    for name in ("ours", "our codes", "InfoNCE alone"):
        rates = {state: entry["mean"] for state, entry in found["check"][name].items()}
        assert rates["healthy"] <= 0.05, name
        assert rates["swapped"] > 0.9, name
        assert rates["swapped, named"] > 0.9, name
        assert rates["dead"] > 0.9, name
        assert rates["drifted"] > 0.9, name
        assert rates["drifted, named"] > 0.9, name


def test_nothing_is_in_its_place_after_a_swap() -> None:
    order = faults.derangement(7, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(7))
    assert not (order == np.arange(7)).any()


def test_a_drift_is_one_offset_for_all_readings_of_its_seed() -> None:
    values = torch.randn(5, 4000, generator=torch.Generator().manual_seed(0))
    offset = faults.drifted(values, 3) - values
    torch.testing.assert_close(offset, offset[:1].expand_as(offset))
    assert offset[0].std().item() == pytest.approx(faults.DRIFT, rel=0.05)
    assert not torch.equal(faults.drifted(values, 4), faults.drifted(values, 3))


def test_equal_ids_are_counted_and_told(found: dict[str, Any]) -> None:
    match = found["match"]
    assert match["segments"] == DIM / 4
    assert match["same"]["mean"] > 10 * match["other"]["mean"]
    assert match["example"].startswith("touch '")
    assert "equal codes in " in match["example"]


def test_the_page_tells_all_of_it(found: dict[str, Any]) -> None:
    page = "\n".join(uses_page.lines(found))
    for heading in ("Keep the specific part back", 'Search by "what"', "Sensors checked", "A match in words"):
        assert f"### {heading}" in page
    assert "| shared and specific | " in page
    assert list(uses_page.lines({})) == []
