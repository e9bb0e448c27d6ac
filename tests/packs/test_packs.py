"""Packs beside a bridge: what was bound apart works together, and no other vector moves by a bit."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pack_labs import HELD, bind_at_home, load, moved, same_vectors, vectors_of
from safetensors.torch import load_file
from transformers import AutoModel

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.packs import add_packs, add_packs_to_processor, save_pack
from codebind_hf.training.adapters import add_lora, load_adapter, merge_lora, save_adapter


Labs = Callable[[str], SimpleNamespace]


def test_packs_bound_apart_merge_and_move_no_other_vector_by_a_bit(bridge: Path, labs: Labs) -> None:
    before = vectors_of(*load(bridge), *HELD)
    names = ("radar", "lidar", "eeg")
    model, processor = load(bridge, packs=[labs(name).folder for name in names])
    same_vectors(before, vectors_of(model, processor, *HELD))
    for name in names:
        same_vectors(vectors_of(labs(name).model, labs(name).processor, name), vectors_of(model, processor, name))
    assert set(model.config.modality_names) == {*HELD, "video", *names}
    # Nothing of what a forward pass of all of them together gives depends on the others.
    held = CodeBindModel.from_pretrained(bridge).state_dict()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in held.items())


def test_in_any_order_and_one_after_the_other_is_the_same(bridge: Path, labs: Labs) -> None:
    folders = [labs(name).folder for name in ("radar", "eeg")]
    one, _ = load(bridge, packs=folders)
    other, processor = load(bridge)
    for folder in reversed(folders):
        add_packs(other, [folder])
        add_packs_to_processor(processor, [folder])
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert processor.added_modalities.keys() == {"radar"}
    assert "eeg" in processor.modalities


def test_two_packs_are_the_model_that_bound_one_after_the_other(bridge: Path, tmp_path: Path) -> None:
    """With decoders, so that it is the whole model."""
    first, first_processor = bind_at_home(bridge, "radar")
    first.save_pretrained(tmp_path / "first")
    first_processor.save_pretrained(tmp_path / "first")
    second, second_processor = bind_at_home(tmp_path / "first", "lidar")
    first.save_pack(tmp_path / "radar", ["radar"], first_processor, bridge=bridge, decoders=True)
    second.save_pack(tmp_path / "lidar", ["lidar"], second_processor, bridge=tmp_path / "first", decoders=True)
    model, processor = load(bridge, packs=[tmp_path / "radar", tmp_path / "lidar"])
    found, expected = model.state_dict(), second.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(value, found[name])] == []
    assert processor.added_modalities == second_processor.added_modalities
    # One pack of both is the same.
    save_pack(second, tmp_path / "both", ["radar", "lidar"], second_processor, bridge=bridge, decoders=True)
    both = CodeBindModel.from_pretrained(bridge, packs=[tmp_path / "both"]).state_dict()
    assert all(torch.equal(value, both[name]) for name, value in expected.items())


def test_a_pack_holds_its_modality_and_nothing_else(labs: Labs) -> None:
    lab = labs("radar")
    names = set(load_file(lab.folder / "model.safetensors"))
    assert {name.split(".radar.")[0] for name in names} == {"encoders", "codebooks.specific"}
    assert {path.name for path in lab.folder.iterdir()} == {"README.md", "model.safetensors", "pack.json"}
    found = json.loads((lab.folder / "pack.json").read_text())
    assert found["format_version"] == 1
    assert found["bridge"]["name"] == "bridge"
    assert set(found["bridge"]["parts"]) == {"text", "vision", "shared_codes"}
    assert found["modalities"]["radar"]["config"]["specific_dim"] == 8
    # What it took from the bridge's configuration is its own in the pack.
    assert found["modalities"]["radar"]["config"]["num_specific_codes"] == 10
    assert found["modalities"]["radar"]["processor"]["mean"] == 0.5


def test_the_preprocessing_of_a_pack_is_that_of_its_lab(bridge: Path, labs: Labs) -> None:
    _, processor = load(bridge, packs=[labs("eeg").folder, labs("lidar").folder])
    assert processor.eeg_feature_extractor.parameters() == labs("eeg").processor.eeg_feature_extractor.parameters()
    assert processor.eeg_feature_extractor.sampling_rate == 500
    assert processor.added_modalities == labs("lidar").processor.added_modalities


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [
        pytest.param(["text", "radar"], ("text", "radar"), id="both"),
        pytest.param(["radar"], ("radar",), id="pack alone"),
        pytest.param(["audio"], ("audio",), id="bridge alone"),
    ],
)
def test_only_the_modalities_that_are_asked_for_are_loaded(
    bridge: Path, labs: Labs, modalities: list[str], expected: tuple[str, ...]
) -> None:
    packs = [labs("radar").folder, labs("eeg").folder]
    model = CodeBindModel.from_pretrained(bridge, modalities=modalities, packs=packs)
    assert model.config.modality_names == expected
    _, processor = load(bridge, packs=packs)
    whole, _ = load(bridge, packs=packs)
    same_vectors(vectors_of(whole, processor, *expected), vectors_of(model, processor, *expected))
    with pytest.raises(ValueError, match="smell"):
        CodeBindModel.from_pretrained(bridge, modalities=["text", "smell"], packs=packs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bridge_in_16_bits_is_known_again(bridge: Path, labs: Labs, dtype: torch.dtype) -> None:
    model = CodeBindModel.from_pretrained(bridge, packs=[labs("radar").folder], dtype=dtype)
    assert {value.dtype for value in model.encoders["radar"].parameters()} == {dtype}
    assert model.codebooks.specific["radar"].codes.dtype == torch.float32
    moved(model, "encoders.text.")
    with pytest.raises(ValueError, match="the weights of text differ"):
        add_packs(model, [labs("eeg").folder])


@pytest.mark.slow
def test_a_model_with_packs_saves_as_an_ordinary_checkpoint(bridge: Path, labs: Labs, tmp_path: Path) -> None:
    model, processor = load(bridge, packs=[labs("radar").folder, labs("eeg").folder])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    names = (*HELD, "radar", "eeg")
    same_vectors(vectors_of(model, processor, *names), vectors_of(*load(tmp_path), *names))
    again, _ = load(tmp_path, packs=[labs("lidar").folder])
    assert "lidar" in again.config.modality_names


def test_the_auto_class_loads_packs(bridge: Path, labs: Labs) -> None:
    model = AutoModel.from_pretrained(bridge, packs=[labs("radar").folder])
    assert type(model) is CodeBindModel
    assert "radar" in model.config.modality_names
    # It reads the configuration before the model, which alone knows what packs bring.
    packs = [labs("radar").folder, labs("eeg").folder]
    for modalities in (["radar"], ["text", "radar"], ["text"], ["eeg", "audio"]):
        chosen = AutoModel.from_pretrained(bridge, packs=packs, modalities=modalities)
        assert set(chosen.config.modality_names) == set(modalities)
        expected = CodeBindModel.from_pretrained(bridge, packs=packs, modalities=modalities).state_dict()
        assert chosen.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in chosen.state_dict().items())
    with pytest.raises(ValueError, match="smell"):
        AutoModel.from_pretrained(bridge, packs=packs, modalities=["smell"])
    assert AutoModel.from_pretrained(bridge, modalities=["text"]).config.modality_names == ("text",)


def test_loading_information_comes_with_the_model(bridge: Path, labs: Labs) -> None:
    model, info = CodeBindModel.from_pretrained(bridge, packs=[labs("radar").folder], output_loading_info=True)
    assert "radar" in model.config.modality_names
    assert not info["missing_keys"]


def test_a_modality_of_a_pack_trains_further(bridge: Path, labs: Labs) -> None:
    model, processor = load(bridge, packs=[labs("radar").folder])
    assert all(parameter.requires_grad for parameter in model.encoders["radar"].parameters())
    assert not model.encoders["radar"].training
    inputs = processor(text=["a bell", "b"], radar=[np.ones((2, 24)), np.zeros((2, 24))])
    model.train()(**inputs, return_loss=True).loss.backward()
    assert model.encoders["radar"].shared_head.projection.weight.grad.abs().sum() > 0


# Modalities that the bridge has itself, trained further


def test_of_a_tower_that_was_frozen_the_pack_holds_nothing(bridge: Path, tmp_path: Path) -> None:
    model, processor = load(bridge)
    moved(model, "encoders.audio.shared_head.", "encoders.audio.specific_head.", "codebooks.specific.audio.")
    model.save_pack(tmp_path / "audio", ["audio"], processor, bridge=bridge)
    names = load_file(tmp_path / "audio" / "model.safetensors")
    assert not [name for name in names if ".tower." in name]
    found, own = load(bridge, packs=[tmp_path / "audio"])
    same_vectors(vectors_of(model, processor, *HELD), vectors_of(found, own, *HELD))
    add_lora(carrier := CodeBindModel.from_pretrained(bridge), ["audio"])
    with pytest.raises(ValueError, match="holds 'audio', of which the model carries an adapter. Fix: `merge_lora"):
        add_packs(carrier, [tmp_path / "audio"])
    # It needs the bridge's own, also where audio alone is asked for.
    alone = CodeBindModel.from_pretrained(bridge, modalities=["audio"], packs=[tmp_path / "audio"])
    same_vectors(vectors_of(model, processor, "audio"), vectors_of(alone, own, "audio"))
    without = CodeBindModel.from_pretrained(bridge, modalities=["text", "image"])
    with pytest.raises(ValueError, match=r"what changed of the bridge's own 'audio', which this model lacks"):
        add_packs(without, [tmp_path / "audio"])
    moved(other := CodeBindModel.from_pretrained(bridge), "encoders.audio.tower.")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match="was trained on another 'audio' than this model's"):
        add_packs(other, [tmp_path / "audio"])
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in before.items())


def test_a_whole_encoder_takes_the_place_of_the_bridges(bridge: Path, tmp_path: Path) -> None:
    model, processor = load(bridge)
    moved(model, "encoders.audio.", "codebooks.specific.audio.")
    model.save_pack(tmp_path / "audio", ["audio"], processor, bridge=bridge)
    found, own = load(bridge, packs=[tmp_path / "audio"])
    same_vectors(vectors_of(model, processor, *HELD), vectors_of(found, own, *HELD))


@pytest.fixture
def adapted(bridge: Path, tmp_path: Path) -> SimpleNamespace:
    """Audio and depth, each bound with LoRA by a lab of its own: packs, adapters, and the merged models."""
    merged = {}
    for name, rank in (("audio", 2), ("depth", 3)):
        model, processor = load(bridge)
        add_lora(model, [name], rank=rank)
        with torch.no_grad():
            for key, value in model.named_parameters():
                if ".lora_" in key:
                    value += 0.2
        moved(model, f"encoders.{name}.shared_head.", f"codebooks.specific.{name}.")
        model.save_pack(tmp_path / f"{name}-pack", [name], processor, bridge=bridge)
        save_adapter(model, tmp_path / f"{name}-adapter")
        merged[name] = (merge_lora(model).eval(), processor)
    return SimpleNamespace(folder=tmp_path, merged=merged)


def test_packs_of_two_adapted_modalities_load_one_after_the_other(bridge: Path, adapted: SimpleNamespace) -> None:
    packs = [adapted.folder / f"{name}-pack" for name in ("audio", "depth")]
    assert {name.split(".lora_")[1] for name in load_file(packs[0] / "model.safetensors") if ".lora_" in name} == {
        "A.weight",
        "B.weight",
    }
    model, processor = load(bridge, packs=packs)
    same_vectors(vectors_of(*load(bridge), "text", "image"), vectors_of(model, processor, "text", "image"))
    for name, (merged, own) in adapted.merged.items():
        same_vectors(vectors_of(merged, own, name), vectors_of(model, processor, name))


def test_without_the_bridge_at_hand_lora_is_merged_in_the_file(bridge: Path, tmp_path: Path) -> None:
    model, processor = load(bridge)
    add_lora(model, ["audio"])
    moved(model, "encoders.audio.")
    before = vectors_of(model.eval(), processor, "audio")
    pack = model.save_pack(tmp_path, ["audio"], processor)
    assert not [name for name in pack.tensors() if ".lora_" in name]
    assert any(".lora_" in name for name, _ in model.named_parameters()), "the model is left as it was"
    same_vectors(before, vectors_of(model, processor, "audio"))
    with pytest.raises(ValueError, match="holds 'audio', which the model has already"):
        load(bridge, packs=[tmp_path])
    found = CodeBindModel.from_pretrained(bridge, modalities=["text", "image"])
    add_packs(found, [tmp_path])
    merged = vectors_of(merge_lora(model), processor, "audio")
    same_vectors(merged, vectors_of(found, processor, "audio"))


# Adapters, without packs


@pytest.mark.parametrize("order", [("audio", "depth"), ("depth", "audio")])
def test_adapters_of_two_modalities_load_one_after_the_other(
    bridge: Path, adapted: SimpleNamespace, order: tuple[str, str], tmp_path: Path
) -> None:
    model, processor = load(bridge)
    for name in order:
        load_adapter(model, adapted.folder / f"{name}-adapter")
    model.eval()
    same_vectors(vectors_of(*load(bridge), "text", "image"), vectors_of(model, processor, "text", "image"))
    for name in order:
        lab, _ = load(bridge)
        load_adapter(lab, adapted.folder / f"{name}-adapter")
        same_vectors(vectors_of(lab, processor, name), vectors_of(model, processor, name))
    # Together they are one adapter: saved, loaded and merged as such.
    save_adapter(model, tmp_path / "both")
    both, _ = load(bridge)
    load_adapter(both, tmp_path / "both")
    same_vectors(vectors_of(model, processor, *HELD), vectors_of(both, processor, *HELD))
    merged = merge_lora(model)
    for name in order:
        same_vectors(vectors_of(*adapted.merged[name], name), vectors_of(merged, processor, name))


@pytest.mark.slow
def test_adapters_that_were_not_bound_to_the_same_bridge_are_refused_and_leave_the_model_alone(
    bridge: Path, adapted: SimpleNamespace, tmp_path: Path
) -> None:
    base, _ = load(bridge)
    moved(base, "codebooks.shared.codes")
    base.save_pretrained(tmp_path / "other")
    model = CodeBindModel.from_pretrained(tmp_path / "other")
    processor = CodeBindProcessor.from_pretrained(bridge)
    add_lora(model, ["depth"])
    save_adapter(model, tmp_path / "depth")
    model, _ = load(bridge)
    load_adapter(model, adapted.folder / "audio-adapter")
    before = vectors_of(model.eval(), processor, *HELD)
    with pytest.raises(ValueError, match=r"was trained beside another codebooks.shared.codes than the model has"):
        load_adapter(model, tmp_path / "depth")
    same_vectors(before, vectors_of(model, processor, *HELD))
    add_lora(other := CodeBindModel.from_pretrained(bridge), ["audio", "depth"])
    save_adapter(other, tmp_path / "both")
    with pytest.raises(ValueError, match="adapts 'audio', of which the model has another adapter"):
        load_adapter(model, tmp_path / "both")
    same_vectors(before, vectors_of(model, processor, *HELD))
