"""Configurations: what is refused with which message, round trips, presets, subsets."""

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import small_config, tiny_config
from transformers import PreTrainedConfig

from codebind_hf.model.configuration_codebind import LOSS_TERMS, CodeBindConfig
from codebind_hf.model.configuration_encoders import CodeBindEncoderConfig
from codebind_hf.model.configuration_modalities import (
    CodeBindAudioConfig,
    CodeBindDecoderConfig,
    CodeBindEegConfig,
    CodeBindPointConfig,
    CodeBindTextConfig,
    CodeBindVisionConfig,
)
from codebind_hf.model.modalities import MODALITIES, added_modality, modality_named
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.presets import PRESETS, merge_fields


RADAR = {"num_channels": 2, "input_size": [10], "patch_size": [5]}

# name: (class, fields, pattern of the message: the field, what came, what is allowed)
REFUSED: dict[str, tuple[type, dict[str, Any], str]] = {
    "unknown key": (CodeBindConfig, {"shared_dims": 8}, "unknown key 'shared_dims'.*Did you mean 'shared_dim'"),
    "unknown key without likeness": (CodeBindConfig, {"zzzzqqq": 8}, "unknown key 'zzzzqqq'.*Known keys: .*align_on"),
    "unknown nested key": (CodeBindConfig, {"text_config": {"hiden_size": 8}}, "Did you mean 'hidden_size'"),
    "keys that are no texts": (
        CodeBindConfig,
        {"eeg_config": {1: 2}},
        r"eeg_config: got \{1: 2\}; expected the fields",
    ),
    "keys of an added one": (CodeBindConfig, {"added_encoders": {"radar": {1: 2}}}, r"added_encoders\['radar'\]: got"),
    "key of an added one": (
        CodeBindConfig,
        {"added_encoders": {"radar": {"hiden_size": 2}}},
        r"added_encoders\['radar'\].*Did you mean 'hidden_size'",
    ),
    "another library's part": (
        CodeBindConfig,
        {"eeg_config": PreTrainedConfig()},
        "eeg_config: got PreTrainedConfig; expected CodeBindEegConfig or its fields",
    ),
    "an encoder for a decoder": (
        CodeBindConfig,
        {"decoder_config": CodeBindEncoderConfig()},
        "decoder_config: got CodeBindEncoderConfig; expected CodeBindDecoderConfig",
    ),
    "dtype": (CodeBindConfig, {"dtype": "float33"}, "dtype: got 'float33'; allowed: a type of torch"),
    "num_labels": (CodeBindConfig, {"num_labels": 10**30}, "num_labels: got 1000.*; allowed: 0 to 1000000"),
    "id2label": (CodeBindEncoderConfig, {"id2label": {"a": 1}}, "id2label: got {'a': 1}; allowed: texts by"),
    "layers of their own": (CodeBindConfig, {"per_layer_config": {}}, "per_layer_config: got {}; allowed: None"),
    "spread of weights": (CodeBindConfig, {"initializer_range": -0.1}, "initializer_range: got -0.1; it must be 0"),
    "endless number": (CodeBindConfig, {"segment_temperature": math.inf}, "segment_temperature: got inf; .* finite"),
    "no number": (CodeBindEncoderConfig, {"layer_norm_eps": math.nan}, "layer_norm_eps: got nan; it must be"),
    "negative epsilon": (
        CodeBindEncoderConfig,
        {"layer_norm_eps": -1},
        "layer_norm_eps: got -1; it must be 0 or more",
    ),
    "negative epsilon of the stem": (CodeBindEncoderConfig, {"stem_norm_eps": -1.0}, "stem_norm_eps: got -1.0"),
    "endless weight": (
        CodeBindConfig,
        {"loss_weights": {"uni": math.inf}},
        r"loss_weights\['uni'\]: got inf; .*finite",
    ),
    "text for a number": (CodeBindConfig, {"shared_dim": "8"}, "shared_dim.*expected int, got str"),
    "fraction for a number": (CodeBindConfig, {"shared_dim": 8.0}, "shared_dim.*expected int, got float"),
    "truth for a number": (CodeBindEncoderConfig, {"hidden_size": True}, "hidden_size"),
    "number for a truth": (CodeBindConfig, {"restart_codes": 1}, "restart_codes.*expected bool"),
    "list of text": (CodeBindEncoderConfig, {"input_size": ["8", "8"]}, "input_size"),
    "align_on": (CodeBindConfig, {"align_on": "code"}, "align_on: got 'code'; allowed: 'codes', 'continuous'"),
    "decoder_inputs": (CodeBindConfig, {"decoder_inputs": "tokens"}, "decoder_inputs: got 'tokens'; allowed"),
    "shared_dim": (CodeBindConfig, {"shared_dim": 0}, "shared_dim: got 0; it must be 1 or more"),
    "code_dim": (CodeBindConfig, {"code_dim": 0}, "code_dim: got 0"),
    "specific_dim": (CodeBindConfig, {"specific_dim": -1}, "specific_dim: got -1; it must be 0 or more"),
    "num_shared_codes": (CodeBindConfig, {"num_shared_codes": -1}, "num_shared_codes: got -1"),
    "num_specific_codes": (CodeBindConfig, {"num_specific_codes": -1}, "num_specific_codes: got -1"),
    "spread rate": (CodeBindConfig, {"codebook_spread_rate": -0.1}, "codebook_spread_rate: got -0.1"),
    "decay of 1": (CodeBindConfig, {"codebook_decay": 1}, r"codebook_decay: got 1; it must be in \[0, 1\)"),
    "decay not a number": (CodeBindConfig, {"codebook_decay": float("nan")}, "codebook_decay: got nan"),
    "code_temperature": (CodeBindConfig, {"code_temperature": 0}, "code_temperature: got 0; .*greater than 0"),
    "segment_temperature": (CodeBindConfig, {"segment_temperature": -1}, "segment_temperature: got -1"),
    "max_logit_scale": (CodeBindConfig, {"max_logit_scale": 0.0}, "max_logit_scale: got 0.0"),
    "codes without codebook": (CodeBindConfig, {"num_shared_codes": 0}, 'align_on: "codes" needs num_shared_codes'),
    "unknown term": (
        CodeBindConfig,
        {"loss_weights": {"ortho": 1}},
        "loss_weights key: got 'ortho'; allowed: 'align'",
    ),
    "negative weight": (CodeBindConfig, {"loss_weights": {"uni": -1}}, r"loss_weights\['uni'\]: got -1; .* 0 or more"),
    "weight not a number": (
        CodeBindConfig,
        {"loss_weights": {"uni": float("nan")}},
        r"loss_weights\['uni'\]: got nan",
    ),
    "weight of text": (CodeBindConfig, {"loss_weights": {"uni": "1"}}, "loss_weights"),
    "unknown pair": (
        CodeBindConfig,
        {"pair_weights": {"vision": 1}},
        "pair_weights key: got 'vision'; allowed: 'image'",
    ),
    "negative pair": (CodeBindConfig, {"pair_weights": {"text": -2}}, r"pair_weights\['text'\]: got -2"),
    "orth of unequal sizes": (
        CodeBindConfig,
        {"eeg_config": {}, "specific_dim": 8, "loss_weights": {"orth": 1}},
        r"loss_weights\['orth'\]: needs specific_dim equal to shared_dim=1024, got 8 for eeg",
    ),
    "shared segments": (
        CodeBindConfig,
        {"text_config": {}, "shared_dim": 12},
        "shared_dim: got 12 for text, not a multi",
    ),
    "specific segments": (
        CodeBindConfig,
        {"eeg_config": {"specific_dim": 12}},
        "specific_dim: got 12 for eeg, not a multiple of code_dim=8",
    ),
    "added name of a modality": (
        CodeBindConfig,
        {"added_encoders": {"image": RADAR}},
        "added_encoders: 'image' is the",
    ),
    "added name of an encoder": (
        CodeBindConfig,
        {"added_encoders": {"point": RADAR}},
        "added_encoders: 'point' is the",
    ),
    "added text": (CodeBindConfig, {"added_encoders": {"radar": {"stem": "tokens"}}}, "stem: got 'tokens' for radar"),
    "text with patches": (CodeBindConfig, {"text_config": {"stem": "patches"}}, "stem: got 'patches' for text"),
    "added unknown key": (CodeBindConfig, {"added_encoders": {"radar": {"a": 1}}}, "unknown key 'a'"),
    "stem": (CodeBindEncoderConfig, {"stem": "patch"}, "stem: got 'patch'; allowed: 'tokens', 'patches', 'points'"),
    "hidden_size": (CodeBindEncoderConfig, {"hidden_size": 0}, "hidden_size: got 0"),
    "intermediate_size": (CodeBindEncoderConfig, {"intermediate_size": 0}, "intermediate_size: got 0"),
    "heads": (CodeBindEncoderConfig, {"num_attention_heads": 0}, "num_attention_heads: got 0"),
    "heads that do not divide": (
        CodeBindEncoderConfig,
        {"num_attention_heads": 5},
        "num_attention_heads: got 5, which does not divide hidden_size=768",
    ),
    "layers": (CodeBindEncoderConfig, {"num_hidden_layers": -1}, "num_hidden_layers: got -1"),
    "dropout": (CodeBindEncoderConfig, {"dropout": 1.0}, r"dropout: got 1.0; it must be in \[0, 1\)"),
    "attention_dropout": (CodeBindEncoderConfig, {"attention_dropout": -0.1}, "attention_dropout: got -0.1"),
    "drop_path_rate": (CodeBindEncoderConfig, {"drop_path_rate": 2}, "drop_path_rate: got 2"),
    "activation": (CodeBindEncoderConfig, {"hidden_act": "gulu"}, "hidden_act: got 'gulu'.*gelu"),
    "causal with bias": (
        CodeBindEncoderConfig,
        {"is_causal": True, "add_bias_kv": True},
        "add_bias_kv: got True with is_causal=True",
    ),
    "channels": (CodeBindEncoderConfig, {"num_channels": 0}, "num_channels: got 0"),
    "tubelet": (CodeBindVisionConfig, {"tubelet_size": 0}, "tubelet_size: got 0"),
    "tubelet of one axis": (CodeBindEegConfig, {"tubelet_size": 2}, "tubelet_size: got 2; only a two-axis input"),
    "stem_dim without lens": (CodeBindEncoderConfig, {"stem_dim": 5}, "stem_dim: got 5; without a lens it must equal"),
    "lens": (CodeBindEncoderConfig, {"lens_num_latents": -1}, "lens_num_latents: got -1"),
    "lens depth": (CodeBindEncoderConfig, {"lens_depth": 0}, "lens_depth: got 0"),
    "lens heads": (CodeBindEncoderConfig, {"lens_num_heads": 0}, "lens_num_heads: got 0"),
    "axes": (CodeBindEncoderConfig, {"input_size": [4, 4, 4]}, r"input_size: got \[4, 4, 4\]; allowed are one or two"),
    "patch axes": (
        CodeBindEncoderConfig,
        {"patch_size": [16]},
        r"patch_size: got \[16\]; it needs 2 positive numbers",
    ),
    "stride axes": (
        CodeBindEncoderConfig,
        {"patch_stride": [4, 0]},
        r"patch_stride: got \[4, 0\]; it needs 2 positive",
    ),
    "patch too large": (CodeBindEncoderConfig, {"patch_size": [16, 225]}, r"patch_size: got \[16, 225\], larger than"),
    "empty grid": (CodeBindEncoderConfig, {"input_size": [0, 16]}, "larger than input_size"),
    "odd sizes before convolutions": (
        CodeBindEncoderConfig,
        {"stem_widths": [4, 8, 8, 8, 8]},
        r"stem_widths: got \[4, 8, 8, 8, 8\]; .* must be multiples of 32",
    ),
    "width of a convolution": (CodeBindEncoderConfig, {"stem_widths": [0]}, r"stem_widths: got \[0\]"),
    "groups": (CodeBindPointConfig, {"input_size": [100]}, "num_groups, group_size: got 512 and 32; .* 100 points"),
    "points of two axes": (CodeBindPointConfig, {"input_size": [100, 3]}, r"input_size: got \[100, 3\]; .*one number"),
    "channels of points": (CodeBindPointConfig, {"num_channels": 6}, "num_channels: got 6; points have 3 coordinates"),
    "point_widths": (CodeBindPointConfig, {"point_widths": [8, 8]}, r"point_widths: got \[8, 8\]; .*4 positive"),
    "vocab_size": (CodeBindTextConfig, {"vocab_size": 0}, "vocab_size: got 0"),
    "positions": (CodeBindTextConfig, {"max_position_embeddings": 0}, "max_position_embeddings: got 0"),
    "text that sees its padding": (CodeBindTextConfig, {"is_causal": False}, "is_causal: got False; text is causal"),
    "no end token": (
        CodeBindTextConfig,
        {"eos_token_id": None},
        "eos_token_id: got None; text is pooled at this token",
    ),
    "end token outside": (CodeBindTextConfig, {"vocab_size": 50, "eos_token_id": 50}, "eos_token_id"),
    "decoder heads": (CodeBindDecoderConfig, {"hidden_size": 12}, "num_attention_heads: got 8, which does not divide"),
    "decoder width of a modality": (
        CodeBindConfig,
        {"eeg_config": {"decoder_hidden_size": 12}, "decoder_config": {}},
        "num_attention_heads: got 8, which does not divide hidden_size=12",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_value_is_refused_with_its_name(case: str) -> None:
    cls, fields, message = REFUSED[case]
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        cls(**fields)


ODD: list[Any] = [
    *(None, True, -1, 2.5, math.nan, math.inf, 10**30, "", "8", b"8", [], ["a"], [[1]], {}, {1: 2}, {"a": None}),
    *({"image": "x"}, {"radar": {"a": 1}}, set(), object(), int, np.float32(1), np.arange(2), torch.ones(2), 1j),
]
# Parts name the key that they do not know, and two sizes that do not fit name each other.
ELSEWHERE = {"input_size": "patch_size", "stem_widths": "input_size"}


@pytest.mark.parametrize("cls", [CodeBindConfig, CodeBindEncoderConfig, CodeBindDecoderConfig])
def test_an_odd_value_of_any_field_is_taken_or_named(cls: type) -> None:
    tried = refused = 0
    for name in [*cls.__dataclass_fields__, "num_labels", "per_layer_config", "torch_dtype", "output_attentions"]:
        for value in ODD:
            tried += 1
            try:
                cls(**{name: value})
            except ValueError as error:
                refused += 1
                text = str(error)
                of_part = name.endswith("_config") and f"{name.split('_')[0].title()}Config: " in text
                assert name in text or of_part or ELSEWHERE.get(name, name) in text, f"{name}={value!r}: {text}"
    assert tried > 500
    assert refused > tried / 2


def test_a_wrong_type_is_refused_on_assignment_too() -> None:
    config = tiny_config()
    with pytest.raises(Exception, match="shared_dim"):
        config.shared_dim = "8"


def test_whole_numbers_are_accepted_for_fractions() -> None:
    config = CodeBindConfig(code_temperature=1, codebook_decay=0, loss_weights={"uni": 1})
    assert config.loss_weight("uni") == 1.0


# Round trips


def test_a_configuration_survives_a_round_trip(tmp_path: Path) -> None:
    config = tiny_config(added_encoders={"radar": RADAR}, pair_weights={"image": 1.5}, loss_weights={"uni": 0.1})
    config.save_pretrained(tmp_path)
    assert CodeBindConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    assert CodeBindConfig(**config.to_dict()).to_dict() == config.to_dict()
    assert json.loads(config.to_json_string())["vision_config"]["input_size"] == [16, 24]
    assert copy.deepcopy(config).to_dict() == config.to_dict()


def test_an_absent_encoder_stays_absent(tmp_path: Path) -> None:
    small_config("text", "eeg", decoder_config=None).save_pretrained(tmp_path)
    config = CodeBindConfig.from_pretrained(tmp_path)
    assert tuple(config.encoder_configs) == ("text", "eeg")
    assert config.decoder_config is None
    assert config.vision_config is None


def test_loading_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    fields = {**tiny_config().to_dict(), "shared_dims": 3}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="Did you mean 'shared_dim'"):
        CodeBindConfig.from_pretrained(tmp_path)


def test_nested_fields_can_be_overridden_on_loading(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    config = CodeBindConfig.from_pretrained(tmp_path, text_config={"vocab_size": 70}, max_logit_scale=9.0)
    assert config.text_config.vocab_size == 70
    assert config.text_config.hidden_size == 32
    assert config.max_logit_scale == 9.0


def test_an_encoder_configuration_loads_from_a_checkpoint_of_the_model(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    assert CodeBindAudioConfig.from_pretrained(tmp_path).patch_stride == [4, 4]
    assert CodeBindEegConfig.from_pretrained(tmp_path).num_channels == 5


def test_two_configurations_share_nothing() -> None:
    first, second = tiny_config(loss_weights={"uni": 0.1}), tiny_config(loss_weights={"uni": 0.1})
    first.loss_weights["uni"] = 5.0
    first.text_config.vocab_size = 99
    assert second.loss_weight("uni") == 0.1
    assert tiny_config().text_config.vocab_size == 50


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds(name: str) -> None:
    config = CodeBindConfig.from_preset(name)
    assert set(config.loss_weights or {}) <= set(LOSS_TERMS)
    assert {"text", "image"} < set(config.modality_names)
    with torch.device("meta"):
        assert set(CodeBindModel(config).encoders) == set(config.encoder_configs)


def test_tiny_has_every_modality() -> None:
    assert CodeBindConfig.from_preset("tiny").modality_names == tuple(MODALITIES)


def test_overrides_of_a_preset_merge_key_by_key_and_do_not_stay() -> None:
    before = copy.deepcopy(PRESETS)
    plain = CodeBindConfig.from_preset("tiny")
    config = CodeBindConfig.from_preset(
        "tiny", text_config={"vocab_size": 70}, loss_weights={"cm": 0.3}, imu_config=None
    )
    assert config.text_config.vocab_size == 70
    assert config.text_config.hidden_size == plain.text_config.hidden_size
    assert config.loss_weights == {**plain.loss_weights, "cm": 0.3}
    assert "imu" not in config.modality_names
    assert before == PRESETS
    assert CodeBindConfig.from_preset("tiny").to_dict() == plain.to_dict()


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="name: unknown preset 'tinny'; known presets: tiny"):
        CodeBindConfig.from_preset("tinny")


def test_an_unknown_key_beside_a_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'vocab_size'"):
        CodeBindConfig.from_preset("tiny", text_config={"vocabsize": 70})


def test_merging_replaces_everything_but_dictionaries() -> None:
    fields = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert merge_fields(fields, {"a": {"c": [9]}, "d": {"e": 1}}) == {"a": {"b": 1, "c": [9]}, "d": {"e": 1}}
    assert fields == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


# What follows from the fields


def test_sizes_of_an_encoder_override_those_of_the_model() -> None:
    config = tiny_config(eeg_config={"specific_dim": 8, "num_specific_codes": 0})
    assert config.specific_dim_of("eeg") == 8
    assert config.specific_dim_of("vision") == 20
    assert config.specific_dim_of("text") == 0
    assert config.num_specific_codes_of("eeg") == 0
    assert config.num_specific_codes_of("vision") == 10


def test_weights_that_are_not_named_are_off_except_align() -> None:
    config = CodeBindConfig()
    assert {name: config.loss_weight(name) for name in LOSS_TERMS} == {
        name: float(name == "align") for name in LOSS_TERMS
    }
    assert config.pair_weight("bridge") == 1.0


def test_grid_and_tokens_follow_sizes_and_strides() -> None:
    encoders = tiny_config().encoder_configs
    assert encoders["vision"].grid_size == (2, 3)
    assert encoders["vision"].num_tokens == 7
    # (14 - 6) // 4 + 1 = 3 and (18 - 6) // 4 + 1 = 4.
    assert encoders["audio"].grid_size == (3, 4)
    assert encoders["point"].num_stem_tokens == 9
    assert encoders["point"].num_tokens == 6
    assert encoders["text"].num_tokens == 12
    assert encoders["eeg"].mlp_size == 40
    assert CodeBindEncoderConfig(hidden_size=8, num_attention_heads=1).mlp_size == 32


# Subsets


def test_a_subset_keeps_the_encoders_its_modalities_need() -> None:
    config = tiny_config(added_encoders={"radar": RADAR})
    assert config.restricted_to(["video"]).modality_names == ("image", "video")
    assert config.restricted_to(iter(["radar", "text"])).modality_names == ("text", "radar")
    assert config.restricted_to(["eeg"]).added_encoders is None
    assert config.modality_names == (*MODALITIES, "radar"), "the original is not changed"


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["smell"], "modalities: unknown modality 'smell'; known: text, .*add_modality"),
        (["vision"], "modalities: unknown modality 'vision'"),
        (["imu"], "modality: 'imu' is not in this checkpoint, which has text, eeg"),
        ([], "modalities: got an empty list; choose from text, eeg"),
        ("eeg", "modalities: got the text 'eeg'; .*list"),
    ],
)
def test_a_subset_with_an_unknown_modality_is_refused(modalities: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_config("text", "eeg").restricted_to(modalities)


def test_modalities_have_distinct_names_at_every_edge() -> None:
    for field in ("name", "tensor"):
        values = [getattr(modality, field) for modality in MODALITIES.values()]
        assert len(set(values)) == len(values)
    assert modality_named("radar", ("radar",)) == added_modality("radar")
    assert added_modality("radar").tensor == "radar_values"
