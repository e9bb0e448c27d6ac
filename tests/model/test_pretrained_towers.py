"""Towers that are networks of transformers: equal to the networks themselves, saved by reference or whole."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import assert_same, tiny_config, tiny_model
from foreign_models import NAMES, foreign, sentence_transformer
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoTokenizer, pipeline

from codebind_hf import CodeBindConfig, CodeBindEncoderConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.model.backbone_files import weights_digest
from codebind_hf.model.bridges import kinds_of
from codebind_hf.processing.foreign_processing import foreign_parts
from codebind_hf.training.adapters import add_lora, load_adapter, merge_lora, save_adapter
from codebind_hf.training.freezing import train_only


RNG = np.random.default_rng(0)
TEXTS = ["a red bell", "drum", "the photo of a ring"]
PICTURES = [Image.fromarray(RNG.integers(0, 256, (20 + n, 30, 3), dtype=np.uint8)) for n in range(3)]
SOUNDS = [
    {"array": RNG.normal(size=length).astype(np.float32), "sampling_rate": 16000} for length in (8000, 12000, 9000)
]
ITEMS: dict[str, list[Any]] = {"text": TEXTS, "image": PICTURES, "audio": SOUNDS}
RADAR = {"num_channels": 2, "input_size": [10], "patch_size": [5], "num_attention_heads": 2, "num_hidden_layers": 1}
RADAR |= {"hidden_size": 16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foreign")
    for name in NAMES:
        foreign(name, root / name)
    return root


def own_embeds(name: str, folder: Path) -> dict[str, Tensor]:
    """What the library's own classes make of the items, without anything of ours."""
    network, found = AutoModel.from_pretrained(folder).eval(), {}
    with torch.no_grad():
        if name in ("clip", "siglip", "siglip2"):
            full = {"padding": "max_length", "max_length": 16} if name != "clip" else {"padding": True}
            tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", **full)
            names = ("input_ids", "attention_mask") if name == "clip" else ("input_ids",)
            found["text"] = network.get_text_features(**{key: tokens[key] for key in names}).pooler_output
            pictures = AutoImageProcessor.from_pretrained(folder)(PICTURES, return_tensors="pt")
            found["image"] = network.get_image_features(**pictures).pooler_output
        elif name == "bert":
            rows = [AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt") for text in TEXTS]
            found["text"] = torch.cat([network(**row).last_hidden_state.mean(1) for row in rows])
        elif name in ("vit", "resnet"):
            output = network(**AutoImageProcessor.from_pretrained(folder)(PICTURES, return_tensors="pt"))
            is_vit = name == "vit"
            found["image"] = output.last_hidden_state[:, 0] if is_vit else output.pooler_output[..., 0, 0]
        else:
            extract, encoder = AutoFeatureExtractor.from_pretrained(folder), getattr(network, "encoder", network)
            encoder = encoder if name == "whisper" else network
            key = {"whisper": "input_features", "wav2vec2": "input_values"}[name]
            rows = [extract(each["array"], sampling_rate=16000, return_tensors="pt")[key] for each in SOUNDS]
            found["audio"] = torch.cat([encoder(row).last_hidden_state.mean(1) for row in rows])
    return {kind: normalize(values, dim=-1) for kind, values in found.items()}


def embeds(model: CodeBindModel, processor: CodeBindProcessor, kinds: Any) -> dict[str, Tensor]:
    return model.encode({kind: ITEMS[kind] for kind in kinds}, processor, output="torch")


# Those that are like another one are left to the whole run of the tests.
ALIKE = ("siglip", "vit")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in NAMES]
)
def test_a_bridge_embeds_as_its_network_does_also_saved_and_loaded(name: str, folders: Path, tmp_path: Path) -> None:
    expected = own_embeds(name, folders / name)
    model, processor = (cls.from_pretrained(folders / name) for cls in (CodeBindModel, CodeBindProcessor))
    assert set(kinds_of(str(folders / name))) == set(foreign_parts(str(folders / name))) == set(expected)
    found = embeds(model, processor, expected)
    for kind, values in expected.items():
        torch.testing.assert_close(found[kind], values, rtol=0, atol=2e-6)
        assert (values[0] - values[1]).abs().max() > 1e-3
    for place, options in (("reference", {}), ("whole", {"backbone_weights": "saved"})):
        model.save_pretrained(tmp_path / place, **options)
        processor.save_pretrained(tmp_path / place)
        again, reader = (cls.from_pretrained(tmp_path / place) for cls in (CodeBindModel, CodeBindProcessor))
        assert_same(again.state_dict(), model.state_dict())
        assert_same(dict(again.named_buffers()), dict(model.named_buffers()))
        assert_same(embeds(again, reader, expected), found)
        assert reader.to_dict() == CodeBindProcessor.from_pretrained(tmp_path / place).to_dict()
    stored = [load_file(tmp_path / place / "model.safetensors") for place in ("reference", "whole")]
    assert [any(".backbone." in key for key in state) for state in stored] == [False, True]
    assert stored[1].keys() == model.state_dict().keys()


@pytest.mark.parametrize("pooling", ["cls", "last", "mean"])
@pytest.mark.parametrize("layer", [-1, 1])
def test_poolings_and_layers_are_those_of_the_hidden_states(folders: Path, pooling: str, layer: int) -> None:
    fields = {"backbone_pooling": pooling, "backbone_layer": layer}
    config = CodeBindEncoderConfig.from_backbone(str(folders / "bert"), "text", **fields)
    model = CodeBindModel(
        CodeBindConfig(text_config=config.plain_fields(), shared_dim=8, align_on="continuous")
    ).eval()
    model.load_backbones()
    tokenizer = AutoTokenizer.from_pretrained(folders / "bert")
    network = AutoModel.from_pretrained(folders / "bert").eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model.get_pooled_tokens("text", batch["input_ids"], batch["attention_mask"])
        for row, text in enumerate(TEXTS):
            one = network(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
            states = one.hidden_states[layer][0]
            expected = {"cls": states[0], "last": states[-1], "mean": states.mean(0)}[pooling]
            torch.testing.assert_close(found[row, 0], expected, rtol=1e-4, atol=1e-5)
    assert found.shape == (3, 1, 12)


@pytest.mark.parametrize(("pooling", "dense"), [("mean_tokens", None), ("cls_token", 10), ("lasttoken", 6)])
def test_a_sentence_transformers_folder_is_a_bridge(tmp_path: Path, pooling: str, dense: int | None) -> None:
    network = sentence_transformer(tmp_path / "st", pooling, dense).eval()
    model, processor = (cls.from_pretrained(tmp_path / "st") for cls in (CodeBindModel, CodeBindProcessor))
    assert model.config.modality_names == ("text",)
    assert processor.max_text_length == 9
    found = embeds(model, processor, ["text"])["text"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "st")
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        vector = {"mean_tokens": states.mean(0), "cls_token": states[0], "lasttoken": states[-1]}[pooling]
        if dense:
            weights = load_file(tmp_path / "st" / "2_Dense" / "model.safetensors")
            vector = torch.tanh(weights["linear.weight"] @ vector + weights["linear.bias"])
        torch.testing.assert_close(found[row], normalize(vector, dim=0), rtol=0, atol=1e-6)
    model.save_pretrained(tmp_path / "ours")
    again = CodeBindModel.from_pretrained(tmp_path / "ours")
    assert_same(again.state_dict(), model.state_dict())


def test_what_a_sentence_transformers_folder_does_besides_is_refused(tmp_path: Path) -> None:
    sentence_transformer(tmp_path / "st", "max_tokens")
    with pytest.raises(ValueError, match="pools by pooling_mode_max_tokens; known: cls, mean, last"):
        CodeBindModel.from_bridge(tmp_path / "st")
    listed = json.loads((tmp_path / "st" / "modules.json").read_text())
    listed[1]["type"] = "sentence_transformers.models.WordWeights"
    (tmp_path / "st" / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match="has a module WordWeights"):
        CodeBindModel.from_bridge(tmp_path / "st")


# Weights that lie somewhere else


@pytest.fixture
def referred(folders: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the CLIP, and a model that refers to it."""
    shutil.copytree(folders / "clip", tmp_path / "clip")
    CodeBindModel.from_bridge(tmp_path / "clip").save_pretrained(tmp_path / "ours")
    return tmp_path / "clip", tmp_path / "ours"


def test_a_network_that_is_gone_is_named_with_what_to_do(referred: tuple[Path, Path]) -> None:
    clip, ours = referred
    model = CodeBindModel.from_pretrained(ours)
    moved = clip.rename(clip.with_name("moved"))
    with pytest.raises(OSError, match=r"text: its backbone .*clip.* is not there.*backbones=\{'text': folder\}"):
        CodeBindModel.from_pretrained(ours)
    again = CodeBindModel.from_pretrained(ours, backbones={"text": moved, "image": moved})
    assert_same(again.state_dict(), model.state_dict())
    with pytest.raises(ValueError, match="backbones: got 'radar'; pretrained towers of this model: text, vision"):
        CodeBindModel.from_pretrained(ours, backbones={"radar": moved})


def test_other_weights_than_the_model_was_made_with_are_refused(referred: tuple[Path, Path]) -> None:
    clip, ours = referred
    before = weights_digest(str(clip))
    foreign("clip", clip, seed=1)
    assert weights_digest(str(clip)) != before
    with pytest.raises(ValueError, match=rf"text: the weights of its backbone .* was made with {before}"):
        CodeBindModel.from_pretrained(ours)


def test_the_digest_is_that_of_the_file_or_of_all_its_parts(folders: Path, tmp_path: Path) -> None:
    network = AutoModel.from_pretrained(folders / "bert")
    network.save_pretrained(tmp_path / "parts", max_shard_size="5KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    whole = weights_digest(str(tmp_path / "parts"))
    fields = {"backbone_sha256": None}
    config = CodeBindEncoderConfig.from_backbone(str(tmp_path / "parts"), "text", **fields)
    assert (config.backbone_sha256, len(whole)) == (None, 64)
    (tmp_path / "parts" / "model-00001-of-00002.safetensors").touch()
    last = max((tmp_path / "parts").glob("model-*-of-*.safetensors"))
    last.unlink()
    with pytest.raises(OSError, match="lacks model-"):
        weights_digest(str(tmp_path / "parts"))


@pytest.mark.parametrize("changed", [slice(None), slice(1, 2)], ids=["all", "one-number"])
def test_weights_that_were_trained_are_saved_with_the_model(
    referred: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: slice
) -> None:
    model = CodeBindModel.from_pretrained(referred[1])
    with torch.no_grad():
        max(model.encoders["vision"].tower.backbone.parameters(), key=torch.numel).view(-1)[changed].add_(0.01)
    model.save_pretrained(tmp_path / "trained")
    assert "vision: the weights of its backbone" in caplog.text
    keys = load_file(tmp_path / "trained" / "model.safetensors").keys()
    assert any(key.startswith("encoders.vision.tower.backbone") for key in keys)
    assert not any(key.startswith("encoders.text.tower.backbone") for key in keys)
    assert_same(CodeBindModel.from_pretrained(tmp_path / "trained").state_dict(), model.state_dict())


def test_a_model_of_a_configuration_has_random_weights_until_they_are_loaded(referred: tuple[Path, Path]) -> None:
    config = CodeBindConfig.from_pretrained(referred[1])
    model, expected = tiny_model(config), CodeBindModel.from_pretrained(referred[1])
    key = next(key for key in expected.state_dict() if key.endswith("token_embedding.weight"))
    assert not torch.equal(model.state_dict()[key], expected.state_dict()[key])
    model.load_backbones()
    assert torch.equal(model.state_dict()[key], expected.state_dict()[key])


# What works on such models as on any


def test_modalities_are_chosen(referred: tuple[Path, Path], folders: Path) -> None:
    model, processor = CodeBindModel.from_pretrained(referred[1], modalities=["image"]), None
    processor = CodeBindProcessor.from_pretrained(folders / "clip")
    assert list(model.encoders) == ["vision"]
    assert not any("text" in key for key in model.state_dict())
    whole = CodeBindModel.from_pretrained(referred[1])
    assert_same(embeds(model, processor, ["image"]), embeds(whole, processor, ["image"]))
    direct = CodeBindModel.from_pretrained(folders / "clip", modalities=["image"])
    assert_same(direct.state_dict(), model.state_dict())


def test_a_sensor_is_added_and_nothing_else_moves(folders: Path, tmp_path: Path) -> None:
    model, processor = (cls.from_pretrained(folders / "clip") for cls in (CodeBindModel, CodeBindProcessor))
    before = embeds(model, processor, ["text", "image"])
    model.add_modality("radar", {**RADAR, "specific_readout": "network"})
    processor.add_modality("radar", num_channels=2, input_size=[10])
    assert_same(embeds(model, processor, ["text", "image"]), before)
    train_only(model, ["radar"])
    assert not any(x.requires_grad for name in ("text", "vision") for x in model.encoders[name].parameters())
    model.train()
    assert not any(model.encoders[name].tower.backbone.training for name in ("text", "vision"))
    batch = processor(images=PICTURES, radar=list(RNG.normal(size=(3, 2, 10))))
    loss = model(**batch, return_loss=True).loss
    loss.backward()
    assert model.encoders["radar"].shared_head.projection.weight.grad.abs().sum() > 0
    model.eval().save_pretrained(tmp_path)
    again = CodeBindModel.from_pretrained(tmp_path)
    assert_same(again.state_dict(), model.state_dict())


@pytest.mark.parametrize(("name", "items"), [("whisper", SOUNDS), ("vit", PICTURES)])
def test_a_modality_of_ones_own_can_be_a_network(folders: Path, tmp_path: Path, name: str, items: list[Any]) -> None:
    config = tiny_config(code_dim=4).restricted_to(["imu"])
    model, processor = tiny_model(config), CodeBindProcessor.from_model_config(config)
    kind = {"whisper": "audio", "vit": "image"}[name]
    model.add_modality("gadget", CodeBindEncoderConfig.from_backbone(str(folders / name), kind))
    processor.add_modality("gadget", stem="pretrained", backbone=str(folders / name))
    found = model.encode({"gadget": items}, processor, output="torch", quantize=False)["gadget"]
    own = own_embeds(name, folders / name)[kind]
    tokens = model.get_pooled_tokens("gadget", processor(gadget=items)["gadget_values"])[:, 0]
    torch.testing.assert_close(normalize(tokens, dim=-1), own, rtol=0, atol=2e-6)
    for each in (model, processor):
        each.save_pretrained(tmp_path)
    again, reader = (cls.from_pretrained(tmp_path) for cls in (CodeBindModel, CodeBindProcessor))
    assert torch.equal(again.encode({"gadget": items}, reader, output="torch", quantize=False)["gadget"], found)


def test_videos_and_pictures_of_gels_go_through_the_image_processor(folders: Path, tmp_path: Path) -> None:
    fields = CodeBindEncoderConfig.from_backbone(str(folders / "vit"), "image").plain_fields()
    fields |= {"shared_head": "identity", "specific_dim": 0}
    sizes = {"shared_dim": 20, "code_dim": 4, "num_shared_codes": 0, "align_on": "continuous"}
    config = CodeBindConfig(vision_config=fields, tactile_config=fields, **sizes)
    model, processor = CodeBindModel(config).eval(), CodeBindProcessor.from_model_config(config)
    model.load_backbones()
    own = own_embeds("vit", folders / "vit")["image"]
    film = [np.stack([np.asarray(PICTURES[0])] * 3), np.stack([np.asarray(PICTURES[1])] * 2)]
    processor.save_pretrained(tmp_path)
    for reader in (processor, CodeBindProcessor.from_pretrained(tmp_path)):
        found = model.encode({"tactile": PICTURES, "video": film}, reader, output="torch")
        torch.testing.assert_close(found["tactile"], own, rtol=0, atol=2e-6)
        torch.testing.assert_close(found["video"], own[:2], rtol=0, atol=2e-6)
    floats = model.encode({"image": [np.asarray(PICTURES[0], dtype=np.float32) / 255]}, processor, output="torch")
    torch.testing.assert_close(floats["image"][0], own[0], rtol=0, atol=2e-6)


def test_what_its_own_processor_does_is_not_changed(folders: Path) -> None:
    config = CodeBindConfig.from_bridge(folders / "clip")
    processor = CodeBindProcessor.from_bridge(folders / "clip")
    with pytest.raises(ValueError, match="images_kwargs"):
        processor(images=PICTURES, images_kwargs={"size": [8, 8]})
    with pytest.raises(ValueError, match="another network's"):
        CodeBindProcessor.from_model_config(config, images={"size": [8, 8]})
    with pytest.raises(ValueError, match=r"images\[1\]: got"):
        processor(images=[PICTURES[0], np.ones((5, 5, 7), dtype=np.uint8)])
    sounds = CodeBindProcessor.from_bridge(folders / "whisper")
    with pytest.raises(ValueError, match=r"audio\[0\]: got samples without a sampling rate"):
        sounds(audio=[SOUNDS[0]["array"]])
    with pytest.raises(ValueError, match="audio: got 1 NaN"):
        sounds(audio={"array": np.r_[SOUNDS[0]["array"], np.nan], "sampling_rate": 16000})
    with pytest.raises(OSError, match="nothing'?: no such folder"):
        sounds.add_modality("radar", stem="pretrained", backbone=str(folders / "nothing"))
    with pytest.raises(OSError, match="has neither an image processor nor a feature extractor"):
        sounds.add_modality("radar", stem="pretrained", backbone=str(folders / "bert"))


def test_pooled_tokens_stand_for_the_input(folders: Path) -> None:
    model, processor = (cls.from_pretrained(folders / "clip") for cls in (CodeBindModel, CodeBindProcessor))
    batch = processor(text=TEXTS, images=PICTURES)
    pooled = {
        "text": model.get_pooled_tokens("text", batch["input_ids"], batch["attention_mask"]),
        "image": model.get_pooled_tokens("image", batch["pixel_values"]),
    }
    with torch.no_grad():
        direct, cached = model(**batch), model(pooled_tokens={name: x.detach() for name, x in pooled.items()})
    assert_same(dict(direct.embeds), dict(cached.embeds))


@pytest.mark.parametrize(
    "name", ["clip", "bert", *(pytest.param(x, marks=pytest.mark.slow) for x in ("vit", "whisper"))]
)
def test_adapters_go_into_the_blocks_of_the_network(name: str, folders: Path, tmp_path: Path) -> None:
    model, processor = (CodeBindModel.from_bridge(folders / name), CodeBindProcessor.from_bridge(folders / name))
    kinds = list(own_embeds(name, folders / name))
    encoder = "vision" if kinds[-1] == "image" else kinds[-1]
    before = embeds(model, processor, kinds)
    untouched = copy.deepcopy(model)
    add_lora(model, [encoder], rank=2, layers=[1])
    train_only(model, [kinds[-1]], "lora")
    learning = [key for key, each in model.named_parameters() if each.requires_grad and "lora" in key]
    assert learning
    assert all(".1." in key for key in learning)
    assert_same(embeds(model, processor, kinds), before)
    with torch.no_grad():
        for key, each in model.named_parameters():
            if "lora_B" in key:
                each.normal_()
    after = embeds(model, processor, kinds)
    assert (after[kinds[-1]] - before[kinds[-1]]).abs().max() > 1e-3
    save_adapter(model, tmp_path)
    load_adapter(untouched, tmp_path)
    assert_same(embeds(untouched, processor, kinds), after)
    merged = embeds(merge_lora(model), processor, kinds)
    for kind in kinds:
        torch.testing.assert_close(merged[kind], after[kind], rtol=0, atol=1e-5)


def test_the_zero_shot_pipeline_of_the_library_gives_clips_own_scores(folders: Path, tmp_path: Path) -> None:
    for cls in (CodeBindModel, CodeBindProcessor):
        cls.from_pretrained(folders / "clip").save_pretrained(tmp_path)
    task, labels = "zero-shot-image-classification", ["bell", "ring", "drum"]
    asked = {"candidate_labels": labels, "hypothesis_template": "a {}"}
    places = (folders / "clip", tmp_path)
    answers = [pipeline(task, model=str(place), device="cpu")(PICTURES[0], **asked) for place in places]
    own, ours = ({each["label"]: each["score"] for each in answer} for answer in answers)
    assert ours == pytest.approx(own, abs=1e-5)
    assert max(own.values()) - min(own.values()) > 1e-2


def test_attention_and_types_are_those_asked_for(folders: Path) -> None:
    model = CodeBindModel.from_pretrained(folders / "clip", attn_implementation="eager", dtype=torch.bfloat16)
    tower = model.encoders["vision"].tower
    assert {x.dtype for x in tower.backbone.parameters()} == {torch.bfloat16}
    assert tower.backbone.vision_model.config._attn_implementation == "eager"
    model.set_attn_implementation("sdpa")
    assert tower.backbone.vision_model.config._attn_implementation == "sdpa"


def test_a_pair_of_networks_has_the_embedding_of_the_first(folders: Path) -> None:
    pair = {"text": folders / "bert", "image": folders / "vit"}
    model, processor = (cls.from_bridge(pair) for cls in (CodeBindModel, CodeBindProcessor))
    assert model.config.modality_names == ("text", "image", "video")
    heads = {name: each.shared_head for name, each in model.config.encoder_configs.items()}
    assert heads == {"text": "identity", "vision": "linear"}
    found = embeds(model, processor, ["text", "image"])
    torch.testing.assert_close(found["text"], own_embeds("bert", folders / "bert")["text"], rtol=0, atol=2e-6)
    assert found["image"].shape == found["text"].shape


def test_fields_win_over_what_is_found_out(folders: Path) -> None:
    model = CodeBindModel.from_bridge(folders / "clip", num_shared_codes=8, vision_config={"specific_dim": 14})
    assert model.config.num_shared_codes == 8
    assert model.config.specific_dim_of("vision") == 14
    assert model.config.shared_dim == 14


def test_a_network_has_no_lens_to_train(folders: Path) -> None:
    with pytest.raises(ValueError, match="got 'lens' for 'vision', which is a network of others"):
        train_only(CodeBindModel.from_bridge(folders / "vit"), ["image"], "lens")
