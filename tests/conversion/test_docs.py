"""The Python of `docs/` runs as it stands there, on small checkpoints under the names that it uses."""

import re
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import assert_same, small_config, tiny_model
from PIL import Image as Pillow
from reference_checkpoints import SMALL_VITLENS, TINY, TINY_CODEBIND

from codebind_hf import CodeBindConfig, CodeBindModel
from codebind_hf.conversion import revert_vitlens, vitlens_architectures
from codebind_hf.conversion.architectures import reference_fields
from codebind_hf.conversion.imagebind_keys import CODEBIND_ENCODERS, IMAGEBIND_ENCODERS
from codebind_hf.data import NineSenses
from codebind_hf.model import presets
from codebind_hf.training import Recipe, build, save


DOCS = Path(__file__).parents[2] / "docs"


def run_blocks(file: str, names: dict[str, Any]) -> dict[str, Any]:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / file).read_text(), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        exec(compile(block, f"{file} block {number}", "exec"), names)
    return names


def test_conversion(experiment: Path, imagebind_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "ib-huge": reference_fields("ib-huge", TINY, IMAGEBIND_ENCODERS),
        "codebind-ib-huge": reference_fields("codebind-ib-huge", TINY_CODEBIND, CODEBIND_ENCODERS),
    }
    for name, fields in small.items():
        monkeypatch.setitem(presets.PRESETS, name, fields)
    monkeypatch.setitem(vitlens_architectures._TOWER_HEADS, 16, 2)
    monkeypatch.setitem(vitlens_architectures._TEXT_HEADS, 16, 2)
    geometry = {"npoints": 40, "num_group": 9, "group_size": 7}
    monkeypatch.setitem(vitlens_architectures._POINTS, "pointbert", geometry)
    state = revert_vitlens(CodeBindModel(CodeBindConfig(**SMALL_VITLENS)))
    torch.save({"state_dict": state}, tmp_path / "vitlensL.pt")
    shutil.move(imagebind_file, tmp_path / "imagebind_huge.pth")
    shutil.move(experiment, tmp_path / "experiments" / "sun")
    monkeypatch.chdir(tmp_path)
    names = run_blocks("conversion.md", {})
    assert_same(names["tensors"], state)
    assert "imagebind-lora-audio" in names["files"]


def test_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = small_config("text", "image", "depth")
    names = run_blocks("training.md", {"model": tiny_model(config), "fresh_base": tiny_model(config)})
    merged = CodeBindModel.from_pretrained("merged")
    assert_same(merged.state_dict(), names["model"].state_dict())
    assert_same(names["sample"]["tensors"], names["again"]["tensors"])


def test_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["a glass ring", "a wooden heart"]
    save(*build(Recipe(), ["text", "image", "audio", "depth"], texts), tmp_path / "runs" / "demo" / "checkpoint")
    row = NineSenses("test", num_rows=1, modalities=["text", "image", "audio", "depth"])[0]
    Pillow.fromarray(np.asarray(row["image"])).save("photo.png")
    Pillow.fromarray((np.asarray(row["depth"]) * 1000).astype(np.uint16)).save("map.png")
    with wave.open("strike.wav", "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16000)
        stream.writeframes((0.1 * np.random.default_rng(0).normal(size=40000) * 32767).astype("<i2").tobytes())
    names = run_blocks("encode.md", {})
    assert names["embeds"].shape == (4, 64)
    assert names["cosines"].shape == (1, 1)
    assert names["clips"].starts == [0.0, 0.5, 1.0, 1.5]
