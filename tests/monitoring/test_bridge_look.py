"""A look at a frozen bridge: the share against a count by hand, chance, words, and nothing that is left behind."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from codebind_hf.data import NineSenses
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.monitoring import bridge_look
from codebind_hf.monitoring.bridge_look import BridgeLook, look_at_bridge, wilson_interval
from codebind_hf.monitoring.known_words import KnownWords
from codebind_hf.monitoring.random_state import kept_random_state
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training import Recipe, build


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TEMPLATES = ["a photo of a {}", "this is a {}"]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(NineSenses("train", num_bridge=24, num_target=0, modalities=["text", "image"]))


@pytest.fixture(scope="module")
def bridge(rows: list[dict[str, Any]]) -> tuple[CodeBindModel, CodeBindProcessor]:
    recipe = Recipe(model={f"{name}_config": SMALL for name in ("text", "vision", "decoder")}, seed=3)
    return build(recipe, ["text", "image"], [row["text"] for row in rows])


def unit(values: torch.Tensor) -> torch.Tensor:
    return values / values.norm(dim=-1, keepdim=True)


def test_the_share_is_that_of_the_nearest_mean_prompt(bridge: Any, rows: list[dict[str, Any]]) -> None:
    model, processor = bridge
    found = look_at_bridge(model, processor, rows, TEMPLATES)
    names = sorted({row["label"] for row in rows})
    right = 0
    model.eval()
    with torch.no_grad():
        prompts = [[template.replace("{}", name) for template in TEMPLATES] for name in names]
        means = [unit(unit(model(**processor(text=each), quantize=False).embeds["text"]).mean(0)) for each in prompts]
        for row in rows:
            picture = model(**processor(images=[row["image"]]), quantize=False).embeds["image"][0]
            right += names[int(torch.stack([picture @ mean for mean in means]).argmax())] == row["label"]
    assert found is not None
    assert (found.modality, found.words_are, found.rows, found.classes) == ("image", "labels", 24, len(names))
    assert found.accuracy == pytest.approx(right / 24)
    assert found.chance == pytest.approx(1 / len(names))
    assert found.is_at_chance, "an untrained bridge"
    assert "at chance on your labels" in found.warnings()[0]
    assert f"names 24 rows of image by {len(names)} labels: {100 * right / 24:.1f} %" in found.lines()[0]


def test_without_labels_the_rows_own_texts_are_told_apart(bridge: Any, rows: list[dict[str, Any]]) -> None:
    bare = [{"text": row["text"], "image": row["image"]} for row in rows]
    found = look_at_bridge(*bridge, bare, TEMPLATES)
    assert found is not None
    assert (found.words_are, found.templates, found.classes) == ("texts", (), len({row["text"] for row in rows}))
    assert found.chance == pytest.approx(1 / found.classes)


def test_an_ideal_bridge_is_not_at_chance(
    bridge: Any, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(dict.fromkeys(row["label"] for row in rows))
    pictures = torch.eye(len(names))[[names.index(row["label"]) for row in rows]]
    embedded = SimpleNamespace(positions=torch.arange(len(rows)), continuous_embeds=pictures)
    found = SimpleNamespace(modalities={"image": embedded})
    monkeypatch.setattr(bridge_look, "embed_dataset", lambda *given, **options: found)
    classes = SimpleNamespace(continuous_embeds=torch.eye(len(names)))
    monkeypatch.setattr(bridge_look, "class_embeddings", lambda *given: classes)
    look = look_at_bridge(*bridge, rows, TEMPLATES)
    assert look is not None
    assert (look.accuracy, look.is_at_chance) == (1.0, False)
    assert look.warnings() == []


def test_no_random_number_and_no_flag_is_changed(bridge: Any, rows: list[dict[str, Any]]) -> None:
    model, processor = bridge
    model.train()
    model.encoders["text"].eval()
    flags = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = _drawn(lambda: None)
    assert _drawn(lambda: look_at_bridge(model, processor, rows, TEMPLATES)) == expected
    assert [module.training for module in model.modules()] == flags
    assert [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])] == []


def _drawn(between: Any) -> list[float]:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    between()
    return [random.gauss(), float(np.random.rand()), float(torch.rand(()))]


def test_what_is_drawn_inside_is_drawn_again_after_it_also_after_an_error() -> None:
    def draw() -> None:
        with kept_random_state():
            for fill in (random.shuffle, np.random.shuffle, lambda values: torch.rand(3)):
                fill(list(range(9)))

    def fail() -> None:
        with kept_random_state():
            draw()
            random.shuffle(list(range(9)))
            raise KeyError

    def failed() -> None:
        with pytest.raises(KeyError):
            fail()

    assert _drawn(draw) == _drawn(failed) == _drawn(lambda: None)


def test_few_rows_are_looked_at_whatever_there_is_and_the_same_every_time(
    bridge: Any, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_look, "MOST_ROWS", 12)
    monkeypatch.setattr(bridge_look, "MOST_CLASSES", 5)
    opened: list[int] = []

    class Rows(list[Any]):
        row_modalities = [("text", "image")] * len(rows)
        class_names = [row["label"] for row in rows]

        def __getitem__(self, place: Any) -> Any:
            opened.append(place)
            return rows[place]

    found = look_at_bridge(*bridge, Rows(rows), TEMPLATES, seed=2)
    assert found is not None
    assert (found.rows, found.classes, len(opened)) == (12, 5, 12)
    assert look_at_bridge(*bridge, Rows(rows), TEMPLATES, seed=2) == found
    assert opened[12:] == opened[:12]


def test_words_are_judged_where_there_is_no_picture(bridge: Any) -> None:
    rows = [{"label": f"xq{place}zk", "audio": None, "text": "vkwq"} for place in range(12)]
    found = look_at_bridge(*bridge, rows, TEMPLATES)
    assert found is not None
    assert (found.modality, found.is_at_chance, found.lines()) == (None, False, [])
    assert found.words is not None
    assert found.words.spelled == found.words.words == 12
    assert "does not know 12 of the 12 words of your labels, such as 'xq0zk'" in found.warnings()[0]
    assert look_at_bridge(*bridge, [{"audio": "a.wav"}], TEMPLATES) is None


def test_a_damaged_picture_is_left_out(bridge: Any, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    found = look_at_bridge(*bridge, [*rows, {**rows[0], "image": str(tmp_path / "broken.png")}], TEMPLATES)
    assert found is not None
    assert found.rows == len(rows)
    broken = [{"label": f"{place % 2}", "image": str(tmp_path / "broken.png")} for place in range(12)]
    assert look_at_bridge(*bridge, broken, TEMPLATES) == BridgeLook(templates=tuple(TEMPLATES), words=_words(2, 0, 0))


def _words(words: int, unknown: int, spelled: int) -> KnownWords:
    return KnownWords(words, unknown, spelled, ())


def test_rows_of_several_labels_are_right_with_any(bridge: Any) -> None:
    rows = [{"label": ["red", "blue"], "image": Image.new("RGB", (40, 40), (place, 0, 0))} for place in range(12)]
    found = look_at_bridge(*bridge, rows, TEMPLATES)
    assert found is not None
    assert (found.accuracy, found.chance, found.is_at_chance) == (1.0, 1.0, True)


@pytest.mark.parametrize(
    ("share", "number", "low", "high"),
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    [
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_the_published_one(share: float, number: int, low: float, high: float) -> None:
    assert wilson_interval(share, number) == pytest.approx((low, high), abs=5e-5)
