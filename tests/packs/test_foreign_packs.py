"""Packs beside a bridge of others: the whole, some modalities, and those of the pack alone."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from foreign_models import foreign
from pack_labs import ENCODERS, load, moved, write_bridge

from codebind_hf import CodeBindModel


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A CLIP, a radar that was bound to it, and its pack."""
    folder = tmp_path_factory.mktemp("foreign")
    foreign("clip", folder / "clip")
    model, processor = load(folder / "clip")
    sizes = {key: ENCODERS["radar"][key] for key in ("num_channels", "input_size")}
    model.add_modality("radar", {**ENCODERS["radar"], "specific_dim": 14})
    processor.add_modality("radar", **sizes)
    moved(model, "encoders.radar.")
    model.save_pack(folder / "radar", ["radar"], processor, bridge=folder / "clip")
    return SimpleNamespace(clip=folder / "clip", pack=folder / "radar", model=model.eval(), processor=processor)


@pytest.mark.parametrize("modalities", [None, ["radar"], ["text", "radar"], ["radar", "image"]], ids=str)
def test_radar_embeds_as_in_its_lab_whatever_is_loaded_beside(
    lab: SimpleNamespace, modalities: list[str] | None
) -> None:
    model = CodeBindModel.from_pretrained(lab.clip, packs=[lab.pack], modalities=modalities)
    # Pictures and videos are of one encoder.
    expected = {"text", "image", "video", "radar"} if modalities is None else {*modalities}
    assert set(model.config.modality_names) - {"video"} == expected - {"video"}
    items = {"radar": [np.random.default_rng(3).normal(size=(2, 24)).astype("float32")]}
    for part in ("shared", "specific"):
        found, own = (one.encode(items, lab.processor, part=part)["radar"] for one in (model, lab.model))
        np.testing.assert_array_equal(found, own)
    # The temperature is that of the network, which the pack does not hold.
    assert torch.equal(model.logit_scale.log_scale, lab.model.logit_scale.log_scale)
    names = {name.split(".")[1] for name in model.state_dict() if name.startswith("encoders.")}
    assert names == {model.config.modality(name).encoder for name in model.config.modality_names}
    assert model.config.restricted_to(["radar"]).modality_names == ("radar",)


def test_what_is_left_saves_and_loads_as_an_ordinary_checkpoint(lab: SimpleNamespace, tmp_path: Path) -> None:
    model = CodeBindModel.from_pretrained(lab.clip, packs=[lab.pack], modalities=["radar"])
    model.save_pretrained(tmp_path)
    again = CodeBindModel.from_pretrained(tmp_path)
    assert again.config.modality_names == ("radar",)
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("modalities", [None, ["radar"]], ids=str)
def test_a_pack_of_another_bridge_is_refused_with_its_name(
    lab: SimpleNamespace, tmp_path: Path, modalities: list[str] | None
) -> None:
    other = tmp_path / "other"
    foreign("clip", other, seed=1)
    for place, message in ((write_bridge(tmp_path / "ours"), "shared_dim is 14 there"), (other, "weights of text")):
        with pytest.raises(ValueError, match=f"was bound to another bridge than .*{message}.*load it beside 'clip'"):
            CodeBindModel.from_pretrained(place, packs=[lab.pack], modalities=modalities)
