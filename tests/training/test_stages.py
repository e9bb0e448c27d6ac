"""Which stages the data asks for, and which rows each of them sees."""

from typing import Any

import pytest
import torch

from codebind_hf.model.modalities import MODALITIES
from codebind_hf.training import ModalityView, Stage, plan_stages


NINE = ("text", "image", "video", "audio", "depth", "thermal", "tactile", "point_cloud", "eeg")


def item(*modalities: str, mask: bool = True) -> dict[str, Any]:
    tensors = {MODALITIES[modality].tensor: torch.zeros(2) for modality in modalities}
    if "text" in modalities and mask:
        tensors["attention_mask"] = torch.ones(2)
    return {"tensors": tensors, "id": "-".join(modalities), "label": None, "attributes": {}}


def test_nine_senses_are_a_bridge_and_one_joint_binding() -> None:
    bridge, bind = plan_stages(NINE)
    assert bridge == Stage("bridge", ("text", "image", "video"), ("text", "image", "video"))
    targets = ("audio", "depth", "thermal", "tactile", "point_cloud", "eeg")
    assert bind == Stage("bind", targets, ("text", "image", "video", *targets))


def test_sequential_binds_one_target_after_another() -> None:
    stages = plan_stages(["text", "image", "audio", "eeg"], order="sequential")
    assert [stage.name for stage in stages] == ["bridge", "bind-audio", "bind-eeg"]
    assert stages[1] == Stage("bind-audio", ("audio",), ("text", "image", "audio"))
    assert stages[2].trained == ("eeg",)


@pytest.mark.parametrize(
    "modalities",
    [
        pytest.param(("image", "audio", "depth"), id="no-text"),
        pytest.param(("text", "audio", "eeg"), id="no-image"),
        pytest.param(("text", "audio"), id="text-and-one"),
        pytest.param(("image", "point_cloud"), id="image-and-one"),
    ],
)
@pytest.mark.parametrize("order", ["joint", "sequential"])
def test_without_a_whole_bridge_everything_learns_together(modalities: tuple[str, ...], order: str) -> None:
    assert plan_stages(modalities, order) == [Stage("joint", modalities, modalities)]


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [
        pytest.param(
            ("text", "image", "depth"), Stage("bind", ("depth",), ("text", "image", "depth")), id="image-text-depth"
        ),
        pytest.param(
            ("text", "video", "audio"), Stage("bind", ("audio",), ("text", "video", "audio")), id="video-text-audio"
        ),
        pytest.param(
            ("text", "audio", "eeg"), Stage("bind", ("audio", "eeg"), ("text", "audio", "eeg")), id="no-vision"
        ),
        pytest.param(("text", "image"), Stage("bridge", ("text", "image"), ("text", "image")), id="image"),
        pytest.param(("text", "video"), Stage("bridge", ("text", "video"), ("text", "video")), id="video"),
    ],
)
def test_binding_to_a_bridge_that_is_there_is_one_stage(modalities: tuple[str, ...], expected: Stage) -> None:
    assert plan_stages(modalities, order="bind") == [expected]


def test_a_row_of_a_video_and_a_target_is_usable() -> None:
    rows = [item("video", "audio"), item("audio", "depth"), item("text", "image", "audio")]
    view = ModalityView(rows, ("text", "image", "video", "audio"), MODALITIES, required=("audio",))
    assert [row["id"] for row in view] == ["video-audio", "text-image-audio"]


def test_text_and_image_alone_are_the_bridge() -> None:
    assert plan_stages(["text", "image"]) == [Stage("bridge", ("text", "image"), ("text", "image"))]
    assert [stage.name for stage in plan_stages(["text", "image"], "sequential")] == ["bridge"]


def test_every_modality_learns_exactly_once_and_no_later_stage_touches_the_bridge() -> None:
    for order in ("joint", "sequential"):
        learned = [modality for stage in plan_stages(NINE, order) for modality in stage.trained]
        assert sorted(learned) == sorted(NINE)
        encoders = [MODALITIES[name].encoder for stage in plan_stages(NINE, order)[1:] for name in stage.trained]
        assert not {"text", "vision"} & set(encoders)


def test_a_modality_that_a_user_added_is_a_target() -> None:
    assert plan_stages(["text", "image", "radar"])[1].trained == ("radar",)


def test_a_modality_named_twice_counts_once() -> None:
    assert plan_stages(["text", "text", "image", "audio", "audio"]) == plan_stages(["text", "image", "audio"])


@pytest.mark.parametrize(
    ("modalities", "order", "named"),
    [
        pytest.param(["text", "image"], "random", r"order: got 'random'; allowed: 'joint', 'sequential'", id="order"),
        pytest.param([], "joint", "modalities: the data has none", id="none"),
        pytest.param(["image"], "joint", "modalities: the data has image;", id="one"),
        pytest.param(["image", "image"], "joint", "modalities: the data has image;", id="one-twice"),
        pytest.param(["audio", "eeg"], "joint", "training needs text or image", id="no-bridge-modality"),
    ],
)
def test_data_that_cannot_be_trained_on_is_named(modalities: list[str], order: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        plan_stages(modalities, order)


def test_a_view_keeps_only_its_modalities_and_the_mask_of_text() -> None:
    view = ModalityView([item("text", "image", "audio")], ["text", "audio"], MODALITIES)
    assert set(view[0]["tensors"]) == {"input_ids", "attention_mask", "input_features"}
    assert view[0]["id"] == "text-image-audio"


def test_a_view_without_text_has_no_mask() -> None:
    view = ModalityView([item("text", "image", "audio")], ["image", "audio"], MODALITIES)
    assert set(view[0]["tensors"]) == {"pixel_values", "input_features"}


def test_a_view_takes_text_without_a_mask() -> None:
    view = ModalityView([item("text", "image", mask=False)], ["text", "image"], MODALITIES)
    assert set(view[0]["tensors"]) == {"input_ids", "pixel_values"}


def test_rows_with_fewer_than_two_of_the_modalities_are_left_out() -> None:
    items = [item("text"), item("text", "audio"), item("image"), item("text", "image"), item("audio", "depth")]
    view = ModalityView(items, ["text", "image"], MODALITIES)
    # A text alone has two tensors, ids and mask, but is one modality.
    assert [row["id"] for row in view] == ["text-image"]


def test_required_keeps_rows_that_have_one_of_them() -> None:
    items = [item("text", "image"), item("text", "image", "audio"), item("image", "eeg"), item("text", "audio")]
    view = ModalityView(items, ["text", "image", "audio", "eeg"], MODALITIES, required=["audio", "eeg"])
    assert [row["id"] for row in view] == ["text-image-audio", "image-eeg", "text-audio"]


def test_a_view_leaves_the_items_as_they_are() -> None:
    items = [item("text", "image", "audio")]
    ModalityView(items, ["text", "image"], MODALITIES)
    assert set(items[0]["tensors"]) == {"input_ids", "attention_mask", "pixel_values", "input_features"}


def test_a_view_may_be_empty() -> None:
    assert len(ModalityView([item("text", "image")], ["text", "audio"], MODALITIES)) == 0


def test_rows_without_text_and_image_have_nothing_to_align_to() -> None:
    items = [item("audio", "depth"), item("text", "audio", "depth")]
    view = ModalityView(items, ["text", "image", "audio", "depth"], MODALITIES)
    assert [row["id"] for row in view] == ["text-audio-depth"]


@pytest.mark.parametrize("modalities", [["image"], ["audio", "eeg"]])
def test_data_that_has_nothing_to_align_is_told_how_labels_become_text(modalities: list[str]) -> None:
    with pytest.raises(
        ValueError, match=r"Fix: .*--columns old=new.*text_from_label \(--text_from_label \"a photo of a {}"
    ):
        plan_stages(modalities)
