"""Pooled tokens of a tower stand for the input that it read."""

from typing import Any

import pytest
import torch
from common import assert_same, small_config, tiny_config, tiny_inputs, tiny_model
from torch import Tensor

from codebind_hf.model.modeling_codebind import CodeBindModel


LOSSES = {"recon": 0.3, "uni": 0.2, "commit": 0.4}


def pooled_of(model: CodeBindModel, inputs: dict[str, Tensor], *names: str) -> dict[str, Any]:
    """`inputs` with pooled tokens in place of some modalities."""
    left, tokens = dict(inputs), {}
    for name in names:
        mask = left.pop("attention_mask") if name == "text" else None
        with torch.no_grad():
            tokens[name] = model.get_pooled_tokens(name, left.pop(model.config.modalities[name].tensor), mask)
    return {**left, "pooled_tokens": tokens}


def outputs_of(output: Any) -> dict[str, Tensor]:
    parts = {"embeds": output.embeds, "continuous": output.continuous_embeds, "own": output.specific_embeds}
    found = {f"{part} {name}": value for part, values in parts.items() for name, value in (values or {}).items()}
    codes = {f"codes {name}": value.shared for name, value in output.codes.items()}
    return {**found, **codes, **{f"logits {name}": value for name, value in (output.logits or {}).items()}}


@pytest.mark.parametrize("name", list(tiny_config().modalities))
def test_pooled_tokens_give_the_same_embeddings_of_every_modality(name: str) -> None:
    model = tiny_model()
    tensor = model.config.modalities[name].tensor
    inputs = {key: value for key, value in tiny_inputs(model.config).items() if key in (tensor, "attention_mask")}
    if name != "text":
        inputs.pop("attention_mask")
    pooled = pooled_of(model, inputs, name)
    clips = 2 if name in ("video", "audio") else 1
    assert pooled["pooled_tokens"][name].shape == (3, clips, 32)
    output = model(**pooled)
    assert_same(outputs_of(output), outputs_of(model(**inputs)))
    assert output.last_hidden_state is None


def test_the_tower_does_not_run_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    inputs = tiny_inputs(model.config)
    expected = outputs_of(model(**inputs))
    pooled = pooled_of(model, inputs, "text", "image", "video")
    for name in ("text", "vision"):
        monkeypatch.setattr(model.encoders[name].tower, "forward", None)
    found = model(**pooled)
    assert_same(outputs_of(found), expected)
    assert list(found.embeds) == list(model.config.modalities), "sums over modalities keep their order"


@pytest.mark.parametrize("readout", ["pool", "token", "network"])
def test_a_specific_part_with_a_readout_of_its_own_is_left_out(readout: str) -> None:
    model = tiny_model(small_config("text", "image", "depth", specific_readout=readout))
    inputs = tiny_inputs(model.config)
    output = model(**pooled_of(model, inputs, "image"))
    assert set(output.specific_embeds) == {"depth"} | ({"video"} & set(output.embeds))
    assert torch.equal(output.embeds["image"], model(**inputs).embeds["image"])


def step(model: CodeBindModel, inputs: dict[str, Any], rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """Loss, gradients and buffers of one step."""
    model.train()
    model.zero_grad()
    torch.manual_seed(4)
    output = model(**inputs, rows=rows, return_loss=True)
    output.loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {"loss": output.loss.detach(), **gradients, **{name: x.clone() for name, x in model.named_buffers()}}


@pytest.mark.parametrize("heads", [False, True], ids=["frozen", "learning"])
def test_a_step_on_rows_that_lack_modalities_is_the_same(heads: bool) -> None:
    rows = {"text": torch.tensor([0, 2, 3]), "image": torch.tensor([1, 2, 3]), "depth": torch.tensor([0, 1, 3])}
    steps = []
    for pooled in (False, True):
        model = tiny_model(small_config("text", "image", "depth", loss_weights=LOSSES))
        inputs = tiny_inputs(model.config)
        inputs.pop("pixel_values_videos")
        for name, parameter in model.named_parameters():
            is_target = ".depth." in name or "logit_scale" in name
            parameter.requires_grad_(is_target or (heads and ".shared_head." in name))
        steps.append(step(model, pooled_of(model, inputs, "text", "image") if pooled else inputs, rows))
    assert_same(*steps)
    assert ("encoders.vision.shared_head.projection.weight" in steps[0]) == heads


def test_tokens_of_another_row_change_the_loss() -> None:
    model = tiny_model(small_config("text", "image", "depth"))
    inputs = pooled_of(model, tiny_inputs(model.config), "image")
    straight = model(**inputs, return_loss=True).loss
    inputs["pooled_tokens"]["image"] = inputs["pooled_tokens"]["image"].roll(1, 0)
    assert abs(model(**inputs, return_loss=True).loss - straight) > 1e-3


def test_pooled_tokens_are_checked() -> None:
    model = tiny_model(small_config("text", "image", "depth"))
    inputs = tiny_inputs(model.config)
    good = torch.randn(3, 1, 32)
    for given, message in (
        ({"radar": good}, "modalities: unknown modality 'radar'"),
        ({"audio": good}, "modality: 'audio' is not in this checkpoint, which has text, image, video, depth"),
        ({"image": good}, r"pooled_tokens\['image'\]: got it beside pixel_values; allowed: one of the two"),
        ([good], "pooled_tokens: got list; expected tensors by modality"),
    ):
        with pytest.raises(ValueError, match=message):
            model(pixel_values=inputs["pixel_values"], pooled_tokens=given)
    for tokens, message in (
        (torch.randn(3, 32), r"got shape \(3, 32\); expected \(batch, clips, 32\), as `get_pooled_tokens` gives it"),
        (torch.randn(3, 1, 31), r"got shape \(3, 1, 31\)"),
        (torch.randn(0, 1, 32), r"got shape \(0, 1, 32\)"),
        (torch.ones(3, 1, 32, dtype=torch.long), "got dtype torch.int64; expected floating point"),
        (torch.full((3, 1, 32), torch.nan), "got 96 numbers that are NaN"),
        ("tokens", "got str; expected a torch.Tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            model(pooled_tokens={"image": tokens})
    with pytest.raises(ValueError, match="different batch sizes"):
        model(depth_values=inputs["depth_values"], pooled_tokens={"image": good[:2]}, return_loss=True)
    with pytest.raises(ValueError, match="got no input"):
        model(pooled_tokens={})


def test_what_needs_more_than_pooled_tokens_is_refused() -> None:
    model = tiny_model(small_config("text", "image", "depth"))
    inputs = pooled_of(model, tiny_inputs(model.config), "image")
    with pytest.raises(ValueError, match=r"\['image'\]: this call reads all tokens.*Fix: give pixel_values"):
        model(**inputs, output_reconstructions=True)
    with pytest.raises(ValueError, match=r"\['image'\]: its tower learns, and would get no gradient"):
        model.train()(**inputs, return_loss=True)
    parity = tiny_model(small_config("text", "image", "depth", parity_losses=True))
    with pytest.raises(ValueError, match="`parity_losses`"):
        parity(**pooled_of(parity, tiny_inputs(parity.config), "image"), return_loss=True)
