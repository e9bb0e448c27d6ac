"""Names and shapes of tensors in a checkpoint: they are what published weights are found by.

A line that must change here breaks every checkpoint out there, so it needs an entry in the key maps too.
"""

import pytest
from common import CodeBindModel, tiny_model


ANCHORS = {
    "encoders.text.tower.stem.embedding.weight": (50, 32),
    "encoders.text.tower.position": (12, 32),
    "encoders.text.tower.layers.1.self_attn.out_proj.bias": (32,),
    "encoders.text.shared_head.norm.weight": (32,),
    "encoders.text.shared_head.projection.weight": (24, 32),
    "encoders.vision.tower.cls_token": (32,),
    "encoders.vision.tower.stem.projection.weight": (32, 3, 2, 8, 8),
    "encoders.vision.tower.layers.0.layer_norm1.weight": (32,),
    "encoders.vision.tower.layers.0.self_attn.q_proj.weight": (32, 32),
    "encoders.vision.tower.layers.0.mlp.fc1.weight": (40, 32),
    "encoders.vision.specific_head.projection.weight": (20, 32),
    "encoders.audio.tower.stem.norm.bias": (32,),
    "encoders.depth.tower.stem.convolutions.0.weight": (6, 1, 3, 3),
    "encoders.tactile.tower.pre_norm.weight": (32,),
    "encoders.tactile.tower.stem.position": (6, 32),
    "encoders.point.tower.stem.local.1.running_mean": (8,),
    "encoders.point.tower.stem.merged.3.weight": (11, 16),
    "encoders.point.tower.stem.position.2.weight": (22, 128),
    "encoders.point.tower.lens.latents": (5, 32),
    "encoders.point.tower.lens.stages.0.0.attention.k_proj.weight": (6, 22),
    "encoders.point.tower.lens.stages.0.1.mlp.fc2.weight": (32, 128),
    "encoders.imu.tower.layers.1.self_attn.bias_k": (1, 1, 32),
    "decoders.vision.input_projection.weight": (32, 44),
    "decoders.vision.head.deconv.weight": (28, 3, 2, 4, 4),
    "decoders.point.head.projection.weight": (12, 28),
    "decoders.eeg.layers.0.self_attn.v_proj.bias": (28,),
    "codebooks.shared.codes": (16, 4),
    "codebooks.shared.code_sum": (16, 4),
    "codebooks.specific.vision.cluster_size": (10,),
    "codebooks.specific.imu.num_updates": (1,),
    "logit_scale.log_scale": (1,),
}


@pytest.fixture(scope="module")
def model() -> CodeBindModel:
    return tiny_model()


def test_the_keys_of_a_checkpoint_have_not_changed(model: CodeBindModel) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name in ANCHORS}
    assert found == ANCHORS


def test_a_checkpoint_has_no_other_parts(model: CodeBindModel) -> None:
    assert {name.split(".")[0] for name in model.state_dict()} == {"encoders", "decoders", "codebooks", "logit_scale"}
    encoders = {name.split(".")[2] for name in model.state_dict() if name.startswith("encoders.")}
    assert encoders == {"tower", "shared_head", "specific_head"}
    assert len([name for name in model.state_dict() if name.startswith("encoders.text.tower.layers.0.")]) == 16


def test_text_has_no_specific_head_codebook_or_decoder(model: CodeBindModel) -> None:
    names = [name for name in model.state_dict() if ".text." in name]
    assert all(name.startswith(("encoders.text.tower.", "encoders.text.shared_head.")) for name in names)
