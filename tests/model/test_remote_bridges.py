"""A bridge without the package: its code beside it, its network from where it lies."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_models import foreign
from PIL import Image
from safetensors.torch import load_file

from codebind_hf import CodeBindModel, CodeBindProcessor


TESTS = Path(__file__).parents[1]
_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from scripts.load_remotely import NoPackage
import numpy as np, torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModel, AutoProcessor
torch.set_num_threads(1)
folder, out = sys.argv[1:]
model, processor = (auto.from_pretrained(folder, trust_remote_code=True) for auto in (AutoModel, AutoProcessor))
items = {{"text": ["a bell"], "image": [Image.open(folder + "/x.png")], "radar": [np.ones(6, dtype=np.float32)]}}
embeds = model.encode(items, processor, output="torch")
model.save_pretrained(out)
save_file(embeds, out + "/embeds.safetensors")
assert not [name for name in sys.modules if name.split(".")[0] == "codebind_hf"]
"""


@pytest.mark.slow
def test_a_bridge_with_a_sensor_loads_without_the_package(tmp_path: Path) -> None:
    foreign("clip", tmp_path / "clip")
    model, processor = (cls.from_pretrained(tmp_path / "clip") for cls in (CodeBindModel, CodeBindProcessor))
    tower = {"stem": "features", "num_channels": 6, "input_size": [1], "hidden_size": 16, "num_attention_heads": 2}
    model.add_modality("radar", {**tower, "num_hidden_layers": 0})
    processor.add_modality("radar", num_channels=6, input_size=[1], stem="features")
    for each in (model, processor):
        each.save_pretrained(tmp_path / "ours")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    picture.save(tmp_path / "ours" / "x.png")
    items = {"text": ["a bell"], "image": [picture], "radar": [np.ones(6)]}
    expected = model.encode(items, processor, output="torch")
    home = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HOME": str(tmp_path / "home")}
    script, places = _SCRIPT.format(tests=str(TESTS)), [str(tmp_path / "ours"), str(tmp_path / "again")]
    command = [sys.executable, "-c", script, *places]
    done = subprocess.run(command, env={**os.environ, **home}, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "again" / "embeds.safetensors")
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=1e-6)
    again = CodeBindModel.from_pretrained(tmp_path / "again")
    assert not any(".backbone." in key for key in load_file(tmp_path / "again" / "model.safetensors"))
    torch.testing.assert_close(again.encode(items, processor, output="torch")["text"], expected["text"])
