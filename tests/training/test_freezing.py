"""Which parameters and codebooks learn, and in which mode frozen encoders stay."""

from types import SimpleNamespace

import pytest

from codebind_hf.training import train_only
from codebind_hf.training.freezing import trainable_parameters


def learning_rooms(model: object) -> set[str]:
    """`encoders.audio`, `decoders.audio`, `logit_scale`, ... of everything that learns."""
    found = set()
    for name, parameter in model.named_parameters():  # type: ignore[attr-defined]
        if parameter.requires_grad:
            room, _, rest = name.partition(".")
            found.add(room if room == "logit_scale" else f"{room}.{rest.partition('.')[0]}")
    return found


def test_only_the_named_encoders_their_decoders_and_the_temperature_learn(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    assert train_only(model, ["audio"]) == ["audio"]
    assert learning_rooms(model) == {"encoders.audio", "decoders.audio", "logit_scale"}


def test_every_parameter_of_a_trained_encoder_learns_in_full_mode(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["audio"])
    parts = [*model.encoders["audio"].parameters(), *model.decoders["audio"].parameters()]
    assert all(parameter.requires_grad for parameter in parts)
    assert trainable_parameters(model) == sum(parameter.numel() for parameter in parts) + 1


def test_heads_mode_trains_heads_cls_token_and_decoder(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["audio"], mode="heads")
    encoder = model.encoders["audio"]
    learning = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    heads = {name for name, _ in encoder.named_parameters() if name.startswith(("shared_head.", "specific_head."))}
    assert heads
    assert learning == heads | {"tower.cls_token"}
    assert all(parameter.requires_grad for parameter in model.decoders["audio"].parameters())


def test_heads_mode_trains_less_than_full_mode(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["audio"])
    full = trainable_parameters(model)
    train_only(model, ["audio"], mode="heads")
    assert 0 < trainable_parameters(model) < full


def test_text_has_no_cls_token_but_its_heads_learn(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["text"], mode="heads")
    assert any(parameter.requires_grad for parameter in model.encoders["text"].parameters())


def test_image_and_video_are_one_encoder(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    assert train_only(model, ["text", "image", "video"]) == ["text", "vision"]


def test_specific_codebooks_of_frozen_encoders_are_frozen(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["audio"])
    assert {name: book.frozen for name, book in model.codebooks.specific.items()} == {
        "vision": True,
        "audio": False,
        "depth": True,
    }


def test_a_later_stage_undoes_an_earlier_one(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["text", "image"])
    train_only(model, ["depth"])
    assert learning_rooms(model) == {"encoders.depth", "decoders.depth", "logit_scale"}
    assert not model.codebooks.specific["depth"].frozen
    assert model.codebooks.specific["vision"].frozen


def test_frozen_encoders_stay_in_evaluation_mode(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["audio"])
    model.train()
    assert model.training
    assert {name for name, encoder in model.encoders.items() if encoder.training} == {"audio"}
    assert not any(module.training for module in model.encoders["vision"].modules())
    model.eval()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("modalities", "named"),
    [
        pytest.param(["eeg"], "modalities: 'eeg' is not in this model, which has text, image", id="absent"),
        pytest.param(["audio", "radar"], "modalities: 'radar' is not in this model", id="unknown"),
        pytest.param([], "modalities: got none; choose from text, image", id="none"),
    ],
)
def test_a_wrong_modality_is_named(tiny: SimpleNamespace, modalities: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        train_only(tiny.model(), modalities)


def test_an_unknown_mode_is_named(tiny: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="mode: got 'lora'; allowed: 'full', 'heads'"):
        train_only(tiny.model(), ["audio"], mode="lora")
