"""What trackers are told: steps that run on, pictures and uses against a count by hand."""

import copy
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from common import small_config, tiny_model
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from codebind_hf.data.items import ListedItems
from codebind_hf.monitoring.pictures import side_by_side
from codebind_hf.monitoring.trackers import RunsOn, ShowsModel, check_trackers, code_uses, examples, steps_of


class Noted(TrainerCallback):
    """Notes the steps that it is told, and draws random numbers as trackers do for names."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> str:
        random.shuffle(list(range(9)))
        self.steps.append(state.global_step + logs["shift"])
        return "control"


def test_steps_run_on_and_the_state_of_the_trainer_stays() -> None:
    noted, state = Noted(), SimpleNamespace(global_step=7)
    callback = RunsOn(noted, 900)
    before = random.getstate()
    assert callback.on_log(None, state, None, logs={"shift": 0.5}) == "control"
    assert noted.steps == [907.5]
    assert state.global_step == 7
    assert random.getstate() == before
    assert callback.on_step_end == noted.on_step_end, "what the tracker does not do costs nothing"
    assert copy.copy(callback).first_step == 900
    assert copy.deepcopy(callback).steps == [907.5]


def test_steps_of_stages_that_are_done_are_those_of_their_log() -> None:
    logs = [{"log": [{"step": 50}, {"step": 900}, {"step": 900, "train_loss": 1.0}]}, {"log": [{"step": 12}]}]
    assert [steps_of(logs[:count]) for count in range(3)] == [0, 900, 912]


@pytest.mark.parametrize("names", [None, [], "tensorboard", ["tensorboard"], ["mlflow"]])
def test_trackers_that_are_there_pass(names: Any) -> None:
    pytest.importorskip("tensorboard")
    check_trackers(names)


def test_uses_are_multiples_of_the_fair_share() -> None:
    model = tiny_model(small_config("text", "image"))
    model.codebooks.shared.usage.copy_(torch.arange(16.0))
    uses = code_uses(model)
    assert set(uses) == {"shared", "vision"}
    # 0 to 15 add up to 120; the fair share of 16 codes is 7.5.
    assert uses["shared"].tolist() == pytest.approx([place / 7.5 for place in range(16)])


def items_of(count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    tensors = [{"pixel_values": torch.randn(3, 16, 24, generator=generator)} for _ in range(count)]
    return [{"tensors": each, "id": f"{place}", "label": None, "attributes": {}} for place, each in enumerate(tensors)]


def test_the_first_rows_that_can_be_read_are_shown() -> None:
    class Damaged(ListedItems):
        def whole(self, position: int, modalities: Any = None) -> Any:
            if position == 1:
                raise OSError("damaged")
            return super().whole(position, modalities)

    found = examples(Damaged(items_of(6)))
    assert {name: [item["id"] for item in items] for name, items in found.items()} == {"image": ["0", "2", "3"]}
    assert examples(object()) == {}


@pytest.mark.parametrize("kind", [TensorBoardCallback, WandbCallback, TrackioCallback])
def test_each_library_is_told_in_its_own_words_ten_times_and_at_the_end(kind: Any) -> None:
    told: list[tuple[str, int]] = []
    library = SimpleNamespace(
        Image=lambda picture: ("image", picture.dtype, picture.shape[2]),
        Histogram=lambda values: ("histogram", len(values)),
        log=lambda given: told.extend((name, given["train/global_step"]) for name in given if "/" in name),
        add_image=lambda name, picture, step, dataformats: told.append((name, step)),
        add_histogram=lambda name, values, step: told.append((name, step)),
    )
    callback = kind.__new__(kind)
    callback.tb_writer = callback._wandb = callback._trackio = library
    model = tiny_model(small_config("text", "image"))
    shows = ShowsModel([RunsOn(callback, 100)], {"image": items_of(2)})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    model.train()
    for step in range(1, 96):
        state = SimpleNamespace(is_world_process_zero=True, global_step=step, max_steps=95, logging_steps=3)
        shows.on_step_end(None, state, None, model=model)
    steps = [*range(110, 195, 10), 195]
    assert sorted({step for _, step in told}) == steps
    assert {name for name, _ in told} - {"train/global_step"} == {
        "reconstruction/image",
        "codebook_use/shared",
        "codebook_use/vision",
    }
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])] == []


def test_other_processes_show_nothing() -> None:
    shows = ShowsModel([RunsOn(TrainerCallback(), 0)], {})
    state = SimpleNamespace(is_world_process_zero=False, global_step=1, max_steps=1, logging_steps=1)
    shows.on_step_end(None, state, None, model=None)


# Pictures


def test_originals_lie_above_their_reconstructions_in_one_scale() -> None:
    original = np.zeros((2, 1, 4, 8), dtype=np.float32)
    original[:, :, :, 4:] = 1.0
    answer = np.full_like(original, 0.5)
    picture = side_by_side(original, answer)
    # A side of 64 or more, and an edge of one all around.
    assert (picture.shape, picture.dtype) == ((2 * 66, 2 * 66, 3), np.uint8)
    for left in (0, 66):
        assert picture[1:65, left + 1 : left + 33].max() == 0
        assert picture[1:65, left + 33 : left + 65].min() == 255
        assert np.unique(picture[67:131, left + 1 : left + 65]).tolist() == [128]
        assert picture[0, left : left + 66].min() == 255


@pytest.mark.parametrize(
    ("shape", "is_cloud", "size"),
    [
        ((2, 3, 70, 64), False, (2 * 72, 2 * 66)),
        ((2, 3, 5, 64, 64), False, (2 * 66, 2 * 66)),
        ((2, 8, 33), False, (2 * 66, 2 * 68)),
        ((2, 128), False, (2 * 66, 2 * 130)),
        ((2, 50, 3), True, (2 * 66, 2 * 66)),
        ((2, 50, 6), True, (2 * 66, 2 * 66)),
    ],
)
def test_items_of_every_shape_become_pictures(shape: tuple[int, ...], is_cloud: bool, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape).astype(np.float32)
    picture = side_by_side(values, values, is_cloud)
    assert picture.shape == (*size, 3)
    half = len(picture) // 2
    assert np.array_equal(picture[:half], picture[half:])
    assert len(np.unique(picture)) > 2


def test_a_constant_item_is_shown_without_a_warning() -> None:
    assert side_by_side(np.ones((1, 1, 8, 8)), np.ones((1, 1, 8, 8))).shape == (132, 66, 3)
