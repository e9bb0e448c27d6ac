"""Weights in eight bits, as PyTorch's own tools make them, embed nearly as before."""

import pytest
import torch
from common import small_config, tiny_inputs, tiny_model
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.functional import cosine_similarity


ALL = ("text", "image", "video", "audio", "depth", "point_cloud", "eeg", "imu")
FEATURES = {"stem": "features", "num_channels": 12, "input_size": [4], "patch_size": [1]}
BALL = {"point_grouping": "ball", "ball_radius": 0.4, "lens_num_latents": 0, "stem_dim": None}


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.parametrize("overrides", [{}, {"point_config": BALL, "eeg_config": FEATURES}], ids=["usual", "stems"])
def test_dynamic_quantization_embeds_and_decodes_nearly_as_before(overrides: dict) -> None:
    model = tiny_model(small_config(*ALL, **overrides))
    inputs = tiny_inputs(model.config)
    if overrides:
        inputs["eeg_values"] = inputs["eeg_values"].transpose(1, 2)
    with torch.no_grad():
        before = model(**inputs, output_reconstructions=True)
        small = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        after = small(**inputs, output_reconstructions=True)
    assert not [module for module in small.encoders.modules() if type(module) is nn.Linear]
    for name in ALL:
        assert not torch.equal(before.continuous_embeds[name], after.continuous_embeds[name])
        assert cosine_similarity(before.continuous_embeds[name], after.continuous_embeds[name]).min() > 0.98
    for name, made in before.reconstructions.items():
        assert after.reconstructions[name].shape == made.shape
        assert after.reconstructions[name].isfinite().all()


def test_int8_weights_of_torchao_embed_nearly_as_before() -> None:
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = tiny_model(small_config(*ALL))
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        before = model(**inputs).continuous_embeds
        quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
        after = model(**inputs).continuous_embeds
    for name in ALL:
        assert cosine_similarity(before[name], after[name]).min() > 0.98
