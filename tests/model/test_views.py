"""Two views of one input: what the term compares, what it teaches, and what may be given."""

from typing import Any

import pytest
import reference
import torch
from common import BATCH, CodeBindModel, small_config, tiny_config, tiny_inputs, tiny_model
from torch import Tensor
from torch.nn.functional import normalize

from codebind_hf.training.freezing import train_only


NAMES = ("text", "image", "audio", "eeg")
READOUTS = pytest.mark.parametrize("readout", ["cls", "token", "pool", "network"])


def model_of(readout: str = "network", **overrides: Any) -> CodeBindModel:
    weights = {"align": 0.0, "views": 1.0}
    return tiny_model(small_config(*NAMES, specific_readout=readout, **{"loss_weights": weights, **overrides}))


def inputs_of(model: CodeBindModel) -> dict[str, Any]:
    inputs = tiny_inputs(model.config)
    return {name: inputs[name] for name in ("input_ids", "attention_mask", "pixel_values", "input_features")}


def views_of(inputs: dict[str, Any], *names: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {name: inputs[name] + torch.randn(inputs[name].shape, generator=generator) for name in names}


@READOUTS
@pytest.mark.parametrize("modality", ["depth", "audio", "point_cloud", "video"])
def test_the_specific_part_alone_is_that_of_a_whole_pass(
    readout: str, modality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tiny_config(specific_readout=readout))
    chosen = model.config.modality(modality)
    inputs = {chosen.tensor: tiny_inputs(model.config)[chosen.tensor]}
    view = {chosen.tensor: inputs[chosen.tensor] * 0.5 + 0.3}
    expected = model(**view).continuous_specific_embeds[modality]
    values = view[chosen.tensor].flatten(0, 1).unsqueeze(1) if modality == "audio" else view[chosen.tensor]
    if modality == "video":
        values = values.flatten(0, 1).transpose(1, 2)
    clips = {"audio": 2, "video": 2}.get(modality, 1)
    encoder = model.encoders[chosen.encoder]
    if readout == "network":
        # It needs no pass through the tower.
        monkeypatch.setattr(encoder.tower, "forward", None)
    found = normalize(encoder.specific_of(values, clips), dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@READOUTS
def test_the_term_contrasts_both_views_given_the_shared_part_over_modalities_that_have_one(readout: str) -> None:
    model = model_of(readout, view_temperature=0.25)
    inputs = inputs_of(model)
    views = views_of(inputs, "pixel_values", "input_features")
    first, second = model(**inputs), model(**views)
    values = []
    for name in ("image", "audio"):
        known = first.continuous_embeds[name]
        own = (each.continuous_specific_embeds[name] for each in (first, second))
        values.append(reference.info_nce(*(torch.cat([part, known], dim=1) for part in own), 4.0))
    output = model(**inputs, views=views, return_loss=True)
    assert output.loss_terms["views"].item() == pytest.approx(reference.mean(values), rel=1e-4)
    alone = model(**inputs, views={"input_features": views["input_features"]}, return_loss=True)
    assert alone.loss_terms["views"].item() == pytest.approx(values[1], rel=1e-4)


def test_without_views_or_weight_there_is_no_term() -> None:
    model = model_of(loss_weights={"views": 1.0})
    inputs = inputs_of(model)
    assert set(model(**inputs, return_loss=True).loss_terms) == {"align"}
    model.config.loss_weights = {}
    views = views_of(inputs, "pixel_values")
    assert set(model(**inputs, views=views, return_loss=True).loss_terms) == {"align"}


@pytest.mark.parametrize(("readout", "reached"), [("network", {"specific_readout"}), ("cls", {"tower"})])
def test_the_term_teaches_the_specific_part_and_nothing_else(readout: str, reached: set[str]) -> None:
    model = model_of(readout)
    inputs = inputs_of(model)
    model(**inputs, views=views_of(inputs, "pixel_values"), return_loss=True).loss.backward()
    found = {
        tuple(name.split(".")[1:3])
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 1e-6
    }
    assert found == {("vision", part) for part in (*reached, "specific_head")}


def test_the_term_makes_views_of_one_input_alike_and_inputs_different() -> None:
    model = model_of().train()
    inputs = inputs_of(model)
    views = views_of(inputs, "pixel_values")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    @torch.no_grad()
    def margin() -> float:
        first, second = (
            model.eval()(pixel_values=x).continuous_specific_embeds["image"]
            for x in (inputs["pixel_values"], views["pixel_values"])
        )
        cosines = first @ second.T
        return float(cosines.diagonal().mean() - (cosines.sum() - cosines.trace()) / (BATCH * (BATCH - 1)))

    before, losses = margin(), []
    for _ in range(20):
        loss = model.train()(**inputs, views=views, return_loss=True).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert margin() > before + 0.1


def test_a_modality_that_is_frozen_is_not_compared_beside_one_that_learns() -> None:
    model = model_of(loss_weights={"views": 1.0})
    train_only(model, ["audio"])
    inputs = inputs_of(model)
    views = views_of(inputs, "pixel_values", "input_features")
    both = model(**inputs, views=views, return_loss=True).loss_terms["views"]
    alone = model(**inputs, views={"input_features": views["input_features"]}, return_loss=True).loss_terms["views"]
    assert torch.equal(both, alone)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        pytest.param({"eeg_values": torch.zeros(3, 4, 16)}, "views: got eeg_values; allowed are", id="not given"),
        pytest.param({"input_ids": torch.zeros(3, 4).long()}, "views: got input_ids; allowed are", id="text"),
        pytest.param({"pixel_values": torch.zeros(2, 3, 16, 24)}, r"views\['pixel_values'\]: got shape", id="batch"),
        pytest.param({"pixel_values": torch.zeros(3, 3, 16, 8)}, "pixel_values: got shape", id="picture"),
        pytest.param({"pixel_values": torch.zeros(3, 3, 16, 24).long()}, "pixel_values: got dtype", id="dtype"),
    ],
)
def test_a_view_that_fits_no_input_is_refused(views: dict[str, Tensor], message: str) -> None:
    model = model_of()
    with pytest.raises(ValueError, match=message):
        model(**inputs_of(model), views=views, return_loss=True)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"view_temperature: got 0\.0"):
        small_config(*NAMES, view_temperature=0.0)
