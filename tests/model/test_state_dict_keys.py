"""Names and shapes of tensors in a checkpoint: they are what published weights are found by.

A line that must change here breaks every checkpoint out there, so it needs an entry in the key maps too.
"""

from pathlib import Path

import pytest
from common import CodeBindModel, tiny_model


# Every tensor of the tiny model. A line holds names that differ in some parts only: the names with stars in place of
# these parts, the shape that they share, and, for every name, what the stars stand for.
EVERY_KEY = Path(__file__).with_name("checkpoint_keys.txt")
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


def starred(name: str) -> tuple[str, str]:
    """A name with stars for modalities and numbers, and what these are."""
    parts = name.split(".")
    place = {"encoders": 1, "decoders": 1, "codebooks": 2}.get(parts[0], 0) if "shared." not in name else 0
    stars = [i for i, part in enumerate(parts) if part.isdigit() or place and i == place]
    return ".".join("*" if i in stars else part for i, part in enumerate(parts)), ".".join(parts[i] for i in stars)


def written(shapes: dict[str, str]) -> list[str]:
    """Lines of `EVERY_KEY` for shapes by name."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, shape in sorted(shapes.items()):
        pattern, stars = starred(name)
        groups.setdefault((pattern, shape), []).append(stars)
    return [" ".join([*group, *stars]).rstrip() for group, stars in sorted(groups.items())]


def read(lines: list[str]) -> dict[str, str]:
    """Shapes by name from lines of `EVERY_KEY`."""
    shapes = {}
    for pattern, shape, *names in (line.split() for line in lines):
        for stars in names or [""]:
            parts = iter(stars.split("."))
            name = ".".join(next(parts) if part == "*" else part for part in pattern.split("."))
            assert name not in shapes, f"{name} stands there twice"
            shapes[name] = shape
    return shapes


def test_every_key_of_a_checkpoint_is_a_written_one(model: CodeBindModel) -> None:
    found = {name: "x".join(map(str, tensor.shape)) or "()" for name, tensor in model.state_dict().items()}
    expected = read(EVERY_KEY.read_text().splitlines())
    lost = sorted(expected.items() - found.items())
    new = sorted(found.items() - expected.items())
    assert (lost, new) == ([], []), "published weights would not load; if it is meant, write the key maps first"
    assert written(found) == EVERY_KEY.read_text().splitlines()


@pytest.mark.parametrize("change", ["rename", "loss", "addition", "shape"])
def test_a_change_of_one_key_of_the_file_would_be_seen(change: str) -> None:
    shapes = read(EVERY_KEY.read_text().splitlines())
    changed = dict(shapes)
    shape = changed.pop("encoders.eeg.tower.layers.1.mlp.fc1.bias")
    changed |= {
        "rename": {"encoders.eeg.tower.layers.1.mlp.up.bias": shape},
        "loss": {},
        "addition": {
            "encoders.eeg.tower.layers.1.mlp.fc1.bias": shape,
            "encoders.eeg.tower.layers.2.mlp.fc1.bias": shape,
        },
        "shape": {"encoders.eeg.tower.layers.1.mlp.fc1.bias": "41"},
    }[change]
    assert read(written(shapes)) == shapes
    assert read(written(changed)) == changed
    assert written(changed) != written(shapes)


def test_a_checkpoint_has_no_other_parts(model: CodeBindModel) -> None:
    assert {name.split(".")[0] for name in model.state_dict()} == {"encoders", "decoders", "codebooks", "logit_scale"}
    encoders = {name.split(".")[2] for name in model.state_dict() if name.startswith("encoders.")}
    assert encoders == {"tower", "shared_head", "specific_head"}
    assert len([name for name in model.state_dict() if name.startswith("encoders.text.tower.layers.0.")]) == 16


def test_text_has_no_specific_head_codebook_or_decoder(model: CodeBindModel) -> None:
    names = [name for name in model.state_dict() if ".text." in name]
    assert all(name.startswith(("encoders.text.tower.", "encoders.text.shared_head.")) for name in names)
