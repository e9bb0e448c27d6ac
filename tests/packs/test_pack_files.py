"""Packs that do not fit, are damaged or of another version: refused by name, and the model stays as it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from common import small_config, tiny_model
from pack_labs import load, moved, write_bridge
from safetensors.torch import load_file, save_file

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.packs import add_packs, read_pack, save_pack
from codebind_hf.packs.identity import fingerprint, is_same
from codebind_hf.packs.pack_files import hash_of


Labs = Callable[[str], SimpleNamespace]


@pytest.fixture
def copy(labs: Labs, tmp_path: Path) -> Path:
    return Path(shutil.copytree(labs("radar").folder, tmp_path / "radar"))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = folder / "pack.json"
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


# What does not fit


@pytest.mark.parametrize(
    ("options", "room", "named"),
    [
        pytest.param({}, "encoders.text.tower.", "the weights of text differ", id="text"),
        pytest.param({}, "encoders.vision.shared_head.", "the weights of vision differ", id="vision"),
        pytest.param({}, "codebooks.shared.codes", "the weights of shared codes differ", id="codes"),
        pytest.param({"num_shared_codes": 12}, "", "num_shared_codes is 16 there and 12 here", id="book"),
        pytest.param({"shared_dim": 20}, "", "shared_dim is 24 there and 20 here", id="width"),
        pytest.param(
            {"text_config": {"vocab_size": 600, "hidden_act": "gelu_new"}},
            "",
            "hidden_act of text is 'gelu' there and 'gelu_new' here",
            id="activation",
        ),
    ],
)
def test_a_pack_of_another_bridge_is_refused(
    labs: Labs, tmp_path: Path, options: dict[str, Any], room: str, named: str
) -> None:
    folder = write_bridge(tmp_path / "other", **options)
    if room:
        model = CodeBindModel.from_pretrained(folder)
        moved(model, room)
        model.save_pretrained(folder)
    with pytest.raises(ValueError, match=rf"packs: .*radar' was bound to another bridge than .*other: {named}.*Fix"):
        load(folder, packs=[labs("radar").folder])


def test_what_is_private_to_pictures_and_what_else_the_model_holds_does_not_matter(labs: Labs, tmp_path: Path) -> None:
    folder = write_bridge(tmp_path / "other")
    model = CodeBindModel.from_pretrained(folder)
    moved(
        model, "encoders.vision.specific_head.", "encoders.audio.", "codebooks.specific.", "decoders.", "logit_scale"
    )
    model.save_pretrained(folder)
    model, _ = load(folder, packs=[labs("radar").folder])
    assert "radar" in model.config.modality_names


def test_a_modality_twice_is_refused(bridge: Path, labs: Labs, copy: Path) -> None:
    radar = labs("radar").folder
    for kind in (CodeBindModel, CodeBindProcessor):
        with pytest.raises(ValueError, match=r"packs: .* and .* both hold 'radar'. Fix: load one"):
            kind.from_pretrained(bridge, packs=[radar, copy])
    model, processor = load(bridge, packs=[radar])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"holds 'radar', which the model has already. Fix: leave one of them out"):
        add_packs(model, [copy])
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_the_package_says_what_it_needs_where_it_is_not_there(
    bridge: Path, labs: Labs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that was loaded from beside a checkpoint knows no packs."""
    monkeypatch.setattr("codebind_hf.model.pretrained_model.CodeBindPreTrainedModel.pack_room", None)
    with pytest.raises(ValueError, match="packs: the code beside a checkpoint knows none. Fix: `pip install codebind"):
        CodeBindModel.from_pretrained(bridge, packs=[labs("radar").folder])


# What is damaged, missing or of another version


def test_damaged_weights_are_refused(bridge: Path, copy: Path) -> None:
    file = copy / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(OSError, match=r"model.safetensors: is not the file that pack.json was written for"):
        CodeBindModel.from_pretrained(bridge, packs=[copy])


def test_tensors_that_are_missing_or_have_another_shape_are_refused_and_leave_the_model_alone(
    bridge: Path, copy: Path
) -> None:
    model, _ = load(bridge)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    file = copy / "model.safetensors"
    whole = load_file(file)
    name = "encoders.radar.shared_head.projection.weight"
    for tensors in ({key: x for key, x in whole.items() if key != name}, {**whole, name: torch.zeros(3, 3)}):
        save_file(tensors, file)
        edit(copy, lambda found: found.update(sha256=hash_of(file)))
        with pytest.raises(OSError, match=r"packs: .* does not hold the radar that it names .*shared_head.projection"):
            add_packs(model, [copy])
        assert "radar" not in model.config.modality_names
        assert model.state_dict().keys() == before.keys()
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    ("change", "kind", "named"),
    [
        pytest.param(
            lambda found: found.update(format_version=2),
            ValueError,
            r"is of format 2; this package reads 1 to 1. Fix: `pip install --upgrade",
            id="newer",
        ),
        pytest.param(lambda found: found.pop("format_version"), OSError, "names no format_version", id="no version"),
        pytest.param(
            lambda found: found.pop("bridge"), OSError, "bridge is nothing, not a dictionary", id="no bridge"
        ),
        pytest.param(
            lambda found: found["bridge"]["layout"].pop("code_dim"), OSError, "bridge.layout.code_dim", id="no field"
        ),
        pytest.param(
            lambda found: found["bridge"]["parts"].update(text={"sha256": 3}),
            OSError,
            "bridge.parts.text.sha256 is 3, not a text",
            id="fingerprint",
        ),
        pytest.param(
            lambda found: found["modalities"]["radar"].pop("config"), OSError, "modalities.radar.config", id="config"
        ),
        pytest.param(
            lambda found: found["modalities"]["radar"].update(encoder="vision"),
            OSError,
            "names 'vision' for the encoder of 'radar'",
            id="encoder",
        ),
        pytest.param(
            lambda found: found["modalities"].update(image={**found["modalities"]["radar"], "encoder": "vision"}),
            OSError,
            "names 'vision' for the encoder of 'image'",
            id="bridge",
        ),
        pytest.param(lambda found: found["modalities"].clear(), OSError, "names no modalities", id="nothing"),
        pytest.param(
            lambda found: found["modalities"].update(
                {"a.b": {**found["modalities"]["radar"], "encoder": "a.b"}},
            ),
            OSError,
            "names 'a.b' for the encoder of 'a.b'",
            id="no name",
        ),
        pytest.param(
            lambda found: found["modalities"]["radar"]["config"].update(rotary=True),
            ValueError,
            "the encoder of 'radar' in .* cannot be built: .*rotary.* Fix: `pip install --upgrade",
            id="newer field",
        ),
        pytest.param(lambda found: found.update(sha256="0" * 64), OSError, "is not the file that", id="hash"),
    ],
)
def test_a_pack_that_says_something_else_is_refused(
    bridge: Path, copy: Path, change: Callable, kind: type[Exception], named: str
) -> None:
    edit(copy, change)
    with pytest.raises(kind, match=named):
        CodeBindModel.from_pretrained(bridge, packs=[copy])


def test_what_is_no_pack_is_named(bridge: Path, copy: Path, tmp_path: Path) -> None:
    for packs in ("radar", None, 3):
        with pytest.raises(ValueError, match=r"packs: got .*; allowed: a list"):
            CodeBindModel.from_pretrained(bridge, packs=packs) if packs else add_packs(tiny_model(), packs)
    with pytest.raises(ValueError, match="packs: got 3; allowed: folders and names"):
        CodeBindModel.from_pretrained(bridge, packs=[3])
    with pytest.raises(OSError, match="bridge has no pack.json, so it is no pack"):
        CodeBindModel.from_pretrained(bridge, packs=[bridge])
    shutil.copytree(copy, tmp_path / "run" / "pack")
    found, whole = read_pack(tmp_path / "run"), read_pack(copy)
    assert (found.folder, found.sha256) == (tmp_path / "run" / "pack", whole.sha256)
    (tmp_path / "run" / "pack" / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"run.pack has no model.safetensors, so it is no pack"):
        CodeBindModel.from_pretrained(bridge, packs=[tmp_path / "run"])
    with pytest.raises(OSError, match=r"packs: no pack.json of 'someone/none', neither in a folder"):
        CodeBindModel.from_pretrained(bridge, packs=["someone/none"])
    with pytest.raises(OSError, match=r"packs: 'no//where' is neither a folder nor a name on the Hub"):
        CodeBindModel.from_pretrained(bridge, packs=["no//where"])
    (copy / "pack.json").write_text("{")
    with pytest.raises(OSError, match="pack.json: is no JSON"):
        CodeBindModel.from_pretrained(bridge, packs=[copy])


# What is not saved


def test_what_no_bridge_could_load_is_not_saved(bridge: Path, tmp_path: Path) -> None:
    model, processor = load(bridge)
    for modalities, named in (
        ([], "modalities: got none; choose from"),
        (["image"], "modalities: got 'image', which is the bridge"),
        (["smell"], "unknown modality 'smell'"),
    ):
        with pytest.raises(ValueError, match=named):
            save_pack(model, tmp_path / "none", modalities, processor)
    other = CodeBindProcessor.from_model_config(small_config("audio"), None)
    with pytest.raises(ValueError, match="processor: it does not read 'depth', only audio"):
        save_pack(model, tmp_path / "none", ["depth"], other)
    moved(model, "codebooks.shared.codes")
    with pytest.raises(ValueError, match="bridge: shared codes of the model are not those of .*learning shared codes"):
        save_pack(model, tmp_path / "none", ["audio"], processor, bridge=bridge)
    moved(model, "encoders.vision.")
    with pytest.raises(ValueError, match="bridge: vision and shared codes of the model are not those of"):
        save_pack(model, tmp_path / "none", ["audio"], processor, bridge=bridge)
    assert not (tmp_path / "none").exists()


# Fingerprints


def test_a_fingerprint_is_of_numbers_and_knows_a_rounded_copy() -> None:
    generator = torch.Generator().manual_seed(2)
    values = {"b": torch.randn(40, 30, generator=generator), "a": torch.randn(7, generator=generator)}
    saved = fingerprint(values)
    assert len(saved["sample"]) == 32
    assert is_same(saved, dict(reversed(values.items())))
    assert is_same(saved, {name: value.double() for name, value in values.items()})
    half = {name: value.half() for name, value in values.items()}
    assert is_same(saved, half)
    # Halves that were widened again have the same numbers, and so the same digest.
    assert fingerprint(half)["sha256"] == fingerprint({name: x.float() for name, x in half.items()})["sha256"]
    assert fingerprint(half)["dtype"] == "float16"
    one_bit = {**values, "a": values["a"].nextafter(torch.tensor(9.0))}
    assert not is_same(saved, one_bit)
    assert not is_same(saved, {"c": values["b"], "a": values["a"]})
    assert not is_same(saved, {**values, "b": values["b"].reshape(30, 40)})
    assert not is_same(saved, {name: (1.1 * value).bfloat16() for name, value in values.items()})


def test_a_bridge_of_which_nothing_is_there_is_not_called_the_right_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_bridge(tmp_path / "bridge", num_shared_codes=0, align_on="continuous")
    model, processor = load(folder)
    model.save_pack(tmp_path / "audio", ["audio"], processor)
    with caplog.at_level("WARNING", logger="codebind_hf"):
        found = CodeBindModel.from_pretrained(folder, modalities=["audio"], packs=[tmp_path / "audio"])
        assert found.config.modality_names == ("audio",)
        assert "audio: the model holds nothing of its bridge, so that it cannot be compared." in caplog.text
        caplog.clear()
        CodeBindModel.from_pretrained(folder, modalities=["text", "audio"], packs=[tmp_path / "audio"])
        assert caplog.text == ""
