"""Networks and fields that make no tower, and inputs that no network reads: what is said of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import NAMES, WORDS, foreign
from torch import Tensor

from codebind_hf import CodeBindConfig, CodeBindEncoderConfig, CodeBindModel


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foreign")
    for name in NAMES:
        foreign(name, root / name)
    return root


@pytest.mark.parametrize(
    ("name", "kind", "fields", "message"),
    [
        ("bert", "smell", {}, "kind: got 'smell'"),
        ("clip", "image", {"backbone_part": "vision"}, "backbone_part: got 'vision'; allowed: 'text', 'image'"),
        ("clip", "image", {"backbone_layer": 1}, "'projection' is of the last layer"),
        ("bert", "text", {"backbone_pooling": "max"}, "backbone_pooling: got 'max'"),
        ("bert", "text", {"backbone_weights": "gone"}, "backbone_weights: got 'gone'"),
        ("bert", "text", {"backbone_config": None}, "backbone_config: got none"),
        ("bert", "text", {"shared_head": "round"}, "shared_head: got 'round'"),
        ("bert", "text", {"lens_num_latents": 3}, "got a lens for a pretrained tower"),
    ],
    ids=str,
)
def test_fields_that_make_no_tower_are_refused(
    folders: Path, name: str, kind: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CodeBindEncoderConfig.from_backbone(str(folders / name), kind, **fields)


def test_networks_that_are_not_there_or_not_known_are_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing.: no such folder"):
        CodeBindModel.from_bridge(tmp_path / "nothing")
    with pytest.raises(OSError, match=r"has no config.json, so it is no network"):
        CodeBindModel.from_bridge(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nowhere_to_be_found"}))
    with pytest.raises(ValueError, match=r"no network that transformers knows[\s\S]*features"):
        CodeBindModel.from_bridge(tmp_path)
    own = json.loads((folders / "bert" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(own))
    with pytest.raises(OSError, match="has no weights"):
        CodeBindModel.from_bridge(tmp_path)


def test_widths_and_readouts_that_do_not_fit_are_refused(folders: Path) -> None:
    fields = CodeBindEncoderConfig.from_backbone(str(folders / "vit"), "image").plain_fields()
    with pytest.raises(ValueError, match="whose tower gives 20 numbers for shared_dim=24"):
        CodeBindConfig(vision_config={**fields, "shared_head": "identity"}, shared_dim=24, code_dim=4)
    with pytest.raises(ValueError, match="specific_readout: got 'network' for vision, a pretrained tower"):
        CodeBindConfig(vision_config=fields, shared_dim=24, specific_dim=24, code_dim=4, specific_readout="network")
    wrong = CodeBindConfig(vision_config={**fields, "hidden_size": 19}, shared_dim=24, specific_dim=0, code_dim=4)
    with pytest.raises(ValueError, match="hidden_size: got 19; the backbone gives 20 numbers"):
        CodeBindModel(wrong)(pixel_values=torch.zeros(1, 3, 16, 16))
    part = {**fields, "backbone_part": "brain.stem"}
    with pytest.raises(ValueError, match="backbone_part: got 'brain.stem'; ViTModel has"):
        CodeBindModel(CodeBindConfig(vision_config=part, shared_dim=24, specific_dim=0, code_dim=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * torch.nan, "NaN"),
        (lambda x: x[:0], "1 or more"),
        (lambda x: x.long(), "dtype"),
        (lambda x: x.flatten(), r"expected \(batch, \.\.\.\)"),
    ],
    ids=["NaN", "empty", "integers", "axes"],
)
def test_inputs_that_no_network_reads_are_refused(
    folders: Path, change: Callable[[Tensor], Tensor], message: str
) -> None:
    model = CodeBindModel.from_bridge(folders / "vit")
    with pytest.raises(ValueError, match=message):
        model(pixel_values=change(torch.ones(2, 3, 16, 16)))
    assert len(WORDS) == CodeBindConfig.from_bridge(folders / "bert").text_config.vocab_size
