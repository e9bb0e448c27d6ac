"""ViT-Lens's own numbers at a tiny size: tokenizers, lenses, towers and embeddings."""

import copy
import json
from pathlib import Path
from typing import Any

import goldens
import pytest
import torch
from common import assert_same
from reference_checkpoints import relative
from safetensors.torch import load_file
from torch import Tensor

from codebind_hf import CodeBindModel
from codebind_hf.conversion import convert_vitlens, revert_vitlens
from codebind_hf.model.point_stems import farthest_points, gather_points, nearest_points


pytestmark = pytest.mark.parity
# Largest difference over the largest value; the issue asks for 1e-4, and 1.2e-6 was found.
BOUND = 2e-6
CASES = ("pc", "pc_full")
KEYWORDS = {
    "image": "pixel_values",
    "tactile": "tactile_values",
    "depth": "depth_values",
    "eeg": "eeg_values",
    "audio": "input_features",
    "text": "input_ids",
    **dict.fromkeys(CASES, "point_values"),
}
NAMES = {name: "point_cloud" if name in CASES else name for name in KEYWORDS}


@pytest.fixture(scope="module")
def folder() -> Path:
    return goldens.folder("vitlens_tiny")


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "outputs.safetensors")


@pytest.fixture(scope="module")
def inputs(folder: Path) -> dict[str, Tensor]:
    tensors = load_file(folder / "inputs.safetensors")
    # Ours have mel bins before frames.
    return {**tensors, "audio": tensors["audio"].transpose(2, 3), "text": tensors["text_ids"]}


def architecture(folder: Path, case: str = "pc") -> dict[str, Any]:
    made = json.loads((folder / "config.json").read_text())
    made["tokenizer"]["pc"] |= copy.deepcopy(made["tokenizer"]["pc"][f"case_{case}"])
    return made


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, CodeBindModel]:
    """The merged file with both geometries of its points."""
    return {case: convert_vitlens(folder / "vitlens_tiny.pt", architecture(folder, case)) for case in CASES}


def model_for(models: dict[str, CodeBindModel], name: str) -> CodeBindModel:
    return models[name if name in CASES else "pc"]


@pytest.mark.parametrize("name", KEYWORDS)
def test_embeddings_are_vitlenss(
    models: dict[str, CodeBindModel], inputs: dict[str, Tensor], expected: dict[str, Tensor], name: str
) -> None:
    model = model_for(models, name)
    with torch.no_grad():
        output = model(**{KEYWORDS[name]: inputs[name]}, output_hidden_states=True)
    modality = NAMES[name]
    assert relative(output.embeds[modality], expected[f"{name}.embed"]) < BOUND
    states = output.hidden_states[modality]
    if name != "text":
        assert relative(states[0], expected[f"{name}.ln_pre"]) < BOUND
        encoder = model.encoders[model.config.modality(modality).encoder]
        assert relative(encoder.shared_head(states[-1][:, 0]), expected[f"{name}.pooled"]) < BOUND
    if f"{name}.hidden" in expected:
        # Of text, the reference's states have passed the last norm.
        last = model.encoders["text"].shared_head.norm(states[-1]) if name == "text" else states[-1]
        assert relative(last, expected[f"{name}.hidden"]) < BOUND


@pytest.mark.parametrize("name", [name for name in KEYWORDS if name != "text"])
def test_tokens_and_lenses_are_vitlenss(
    models: dict[str, CodeBindModel], inputs: dict[str, Tensor], expected: dict[str, Tensor], name: str
) -> None:
    model = model_for(models, name)
    tower = model.encoders[model.config.modality(NAMES[name]).encoder].tower
    values = inputs[name].flatten(0, 1).unsqueeze(1) if name == "audio" else inputs[name]
    with torch.no_grad():
        tokens = tower.stem(values)
        place = expected.get(f"{name}.tok_pos", torch.zeros(()))
        assert relative(tokens, expected[f"{name}.tok_x"] + place) < BOUND
        if name in CASES:
            features, places = tower.stem.features(values)
            assert relative(features, expected[f"{name}.tok_x"]) < BOUND
            assert relative(places, place) < BOUND
        elif f"{name}.tok_pos" in expected:
            assert torch.equal(tower.stem.position, place)
        assert (tower.lens is None) == (f"{name}.lens" not in expected)
        if tower.lens is not None:
            assert relative(tower.lens(tokens), expected[f"{name}.lens"]) < BOUND


@pytest.mark.parametrize("case", CASES)
def test_centres_and_neighbours_are_vitlenss(
    inputs: dict[str, Tensor], expected: dict[str, Tensor], case: str
) -> None:
    points, ids = inputs[case], expected[f"{case}.fps_idx"]
    assert torch.equal(farthest_points(points, ids.shape[1]), ids)
    centres = gather_points(points, ids)
    assert torch.equal(centres, expected[f"{case}.centers"])
    neighbours = expected[f"{case}.knn_idx_sorted"]
    assert torch.equal(nearest_points(centres, points, neighbours.shape[2]).sort().values, neighbours)


def test_the_merged_file_is_reverted_bit_for_bit(models: dict[str, CodeBindModel], folder: Path) -> None:
    original = torch.load(folder / "vitlens_tiny.pt", weights_only=True)["state_dict"]
    for model in models.values():
        assert_same(revert_vitlens(model), original)


@pytest.mark.parametrize(("name", "prefix"), [("pc", ""), ("audio", "module.")])
def test_files_of_one_modality_are_parts_of_the_merged_one(
    models: dict[str, CodeBindModel],
    folder: Path,
    inputs: dict[str, Tensor],
    expected: dict[str, Tensor],
    name: str,
    prefix: str,
) -> None:
    file = folder / f"vitlens_tiny_{name}.pt"
    # The only way to read the numpy numbers here; the file is ours.
    original = torch.load(file, weights_only=False)["state_dict"]
    model = convert_vitlens(file, architecture(folder))
    assert_same({prefix + key: value for key, value in revert_vitlens(model, "single").items()}, original)
    assert model.logit_scale.log_scale.item() == pytest.approx(2.9, abs=1e-7)
    merged = models["pc"].state_dict()
    assert all(torch.equal(value, merged[key]) for key, value in model.state_dict().items() if "scale" not in key)
    with torch.no_grad():
        embeds = model(**{KEYWORDS[name]: inputs[name]}).embeds[NAMES[name]]
    assert relative(embeds, expected[f"{name}.embed"]) < BOUND


def test_clips_are_averaged_before_they_are_normalized(
    models: dict[str, CodeBindModel], inputs: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    """With unit clips, as in ImageBind, the mean would be another one."""
    pooled = expected["audio.pooled"].unflatten(0, (2, 2))
    assert relative(pooled.mean(1), expected["audio.clip_mean"]) < BOUND
    other = torch.nn.functional.normalize(torch.nn.functional.normalize(pooled, dim=-1).mean(1), dim=-1)
    assert relative(other, expected["audio.embed"]) > 1e-4
