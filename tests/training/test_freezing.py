"""Which parameters and codebooks learn, and in which mode frozen encoders stay."""

from types import SimpleNamespace

import pytest
from common import small_config, tiny_model

from codebind_hf.training import train_only
from codebind_hf.training.adapters import add_lora
from codebind_hf.training.freezing import trainable_parameters, trainable_parts


HEAD_PARTS = ("norm.weight", "norm.bias", "projection.weight")


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


def test_lens_mode_trains_stem_and_lens_or_the_first_blocks() -> None:
    blocks = {f"{name}_config": {"num_hidden_layers": 5} for name in ("point", "depth", "tactile")}
    model = tiny_model(small_config("text", "point_cloud", "depth", "tactile", **blocks))
    heads = {"shared_head", "specific_head", "tower.cls_token"}
    first = {f"tower.layers.{i}" for i in range(4)}
    expected = {
        "point_cloud": heads | {"tower.stem", "tower.lens"},
        # Its stem has positions of its own in the tests' configuration, and that of depth has not.
        "tactile": heads | {"tower.stem"} | first,
        "depth": heads | {"tower.stem", "tower.position"} | first,
    }
    for modality, rooms in expected.items():
        (encoder,) = train_only(model, [modality], mode="lens")
        found = set()
        for name, parameter in model.encoders[encoder].named_parameters():
            if parameter.requires_grad:
                parts = name.split(".")
                found.add(".".join(parts[: 3 if parts[1] == "layers" else 2]) if parts[0] == "tower" else parts[0])
        assert found == rooms
        assert all(parameter.requires_grad for parameter in model.encoders[encoder].tower.stem.parameters())


def test_heads_mode_trains_less_than_full_mode(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["audio"])
    full = trainable_parameters(model)
    train_only(model, ["audio"], mode="heads")
    assert 0 < trainable_parameters(model) < full


def learning(model: object, encoder: str) -> set[str]:
    """Names of what learns in one encoder, with all of an adapter as `lora`."""
    found = {name for name, value in model.encoders[encoder].named_parameters() if value.requires_grad}  # type: ignore[attr-defined]
    return {"lora" if ".lora_" in name else name for name in found}


HEADS = {f"{head}.{name}" for head in ("shared_head", "specific_head") for name in HEAD_PARTS}


def test_lora_mode_trains_adapter_heads_cls_token_and_decoder_of_the_target(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    add_lora(model, ["audio", "depth"])
    assert train_only(model, ["audio"], mode="lora") == ["audio"]
    assert learning(model, "audio") == HEADS | {"tower.cls_token", "lora"}
    assert learning_rooms(model) == {"encoders.audio", "decoders.audio", "logit_scale"}


def test_of_bridges_beside_a_target_heads_cls_token_and_decoder_learn(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    add_lora(model, ["audio"])
    train_only(model, ["audio"], mode="lora", bridges=["text", "image"])
    assert learning(model, "vision") == HEADS | {"tower.cls_token"}
    assert learning(model, "text") == {f"shared_head.{name}" for name in HEAD_PARTS}
    assert learning(model, "depth") == set()
    rooms = {"encoders.text", "encoders.vision", "encoders.audio", "decoders.vision", "decoders.audio", "logit_scale"}
    assert learning_rooms(model) == rooms
    assert {name for name, book in model.codebooks.specific.items() if not book.frozen} == {"vision", "audio"}


def test_of_bridges_the_shared_heads_alone_may_learn() -> None:
    model = tiny_model(small_config("text", "image", "audio", specific_readout="network", loss_weights={"recon": 1.0}))
    train_only(model, ["audio"], bridges=["text", "image"], bridge_mode="shared_heads")
    for bridge in ("text", "vision"):
        assert learning(model, bridge) == {f"shared_head.{name}" for name in HEAD_PARTS}
    assert all(parameter.requires_grad for parameter in model.encoders["audio"].parameters())
    assert "decoders.vision" not in learning_rooms(model)
    assert {name for name, book in model.codebooks.specific.items() if not book.frozen} == {"audio"}
    assert trainable_parts(model)["shared_heads"] == 3 * (2 * 32 + 24 * 32)


def test_a_network_of_the_specific_part_learns_with_its_head() -> None:
    model = tiny_model(small_config("text", "audio", specific_readout="network"))
    train_only(model, ["audio"], mode="heads")
    network = dict(model.encoders["audio"].specific_readout.named_parameters())
    assert network
    assert all(parameter.requires_grad for parameter in network.values())
    assert not any(parameter.requires_grad for parameter in model.encoders["audio"].tower.layers.parameters())
    own = sum(parameter.numel() for parameter in network.values())
    assert trainable_parts(model)["specific_heads"] == own + 2 * 32 + 20 * 32
    assert trainable_parts(model)["towers"] == 0


def test_a_target_that_is_also_named_as_bridge_learns_by_its_mode(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    train_only(model, ["image"], bridges=["text", "video"])
    assert all(parameter.requires_grad for parameter in model.encoders["vision"].parameters())


def test_what_learns_is_counted_by_part(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    add_lora(model, ["audio"], rank=2)
    train_only(model, ["audio"], mode="lora", bridges=["text", "image"])
    decoders = sum(value.numel() for name in ("vision", "audio") for value in model.decoders[name].parameters())
    assert trainable_parts(model) == {
        # Width 16, MLP 24: four square projections, fc1 and fc2.
        "lora": 2 * (4 * (16 + 16) + 2 * (16 + 24)),
        "cls_tokens": 2 * 16,
        "towers": 0,
        # Norm weight and bias, and 16 x 16, of text, vision and audio.
        "shared_heads": 3 * (2 * 16 + 16 * 16),
        "specific_heads": 2 * (2 * 16 + 16 * 16),
        "decoders": decoders,
        "temperature": 1,
    }
    assert sum(trainable_parts(model).values()) == trainable_parameters(model)
    train_only(model, ["text"])
    text = sum(value.numel() for value in model.encoders["text"].parameters())
    counts = trainable_parts(model)
    assert counts["towers"] + counts["shared_heads"] == text
    assert sum(counts.values()) == text + 1


def test_lora_mode_needs_an_adapter_on_every_target(tiny: SimpleNamespace) -> None:
    model = tiny.model()
    add_lora(model, ["audio"])
    before = {name: value.requires_grad for name, value in model.named_parameters()}
    with pytest.raises(ValueError, match="mode: got 'lora', but the encoder 'depth' has no adapter"):
        train_only(model, ["audio", "depth"], mode="lora")
    assert before == {name: value.requires_grad for name, value in model.named_parameters()}


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
    with pytest.raises(ValueError, match="mode: got 'adapter'; allowed: 'full', 'heads', 'lora'"):
        train_only(tiny.model(), ["audio"], mode="adapter")
