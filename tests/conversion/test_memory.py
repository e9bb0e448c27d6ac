"""A checkpoint is held about once while it is converted, and only what is asked for is read afterwards."""

from pathlib import Path

import pytest
import torch
from common import assert_same
from memory import peak_memory
from reference_checkpoints import TINY

from codebind_hf import CodeBindConfig, CodeBindModel
from codebind_hf.conversion import convert_imagebind, revert_imagebind
from codebind_hf.conversion.architectures import reference_fields
from codebind_hf.conversion.imagebind_keys import IMAGEBIND_ENCODERS


# Half of it text, half of it vision: 180 MB, so that what Python itself needs is small beside it.
LARGE = TINY | {"text_embed_dim": 384, "vision_embed_dim": 768, "vision_num_blocks": 3, "vision_num_heads": 12}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "imagebind.pth"
    config = CodeBindConfig(**reference_fields("ib-huge", LARGE, IMAGEBIND_ENCODERS))
    torch.save(revert_imagebind(CodeBindModel(config)), file)
    return file


@pytest.mark.slow
def test_conversion_needs_less_than_one_and_a_half_times_the_file(large: Path, tmp_path: Path) -> None:
    size = large.stat().st_size
    assert size > 150e6
    imports = "from codebind_hf.conversion import convert_imagebind; import transformers.modeling_utils"
    convert = f"model = convert_imagebind({str(large)!r}, {LARGE!r})"
    assert peak_memory(imports, convert) < 1.3 * size
    saved = f"{convert}\nmodel.save_pretrained({str(tmp_path / 'ours')!r}, max_shard_size='20MB')"
    assert peak_memory(imports, saved) < 1.5 * size


@pytest.mark.slow
def test_only_the_modalities_asked_for_are_read(large: Path, tmp_path: Path) -> None:
    model = convert_imagebind(large, LARGE)
    model.save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    imports = "from codebind_hf import CodeBindModel; import transformers.modeling_utils"
    load = f"model = CodeBindModel.from_pretrained({str(tmp_path)!r}"
    # Files are mapped, so memory is needed when the numbers are.
    use = "[parameter.sum() for parameter in model.parameters()]"
    part = peak_memory(imports, f"{load}, modalities=['audio', 'depth'])\n{use}")
    assert part < 0.3 * size < 0.7 * size < peak_memory(imports, f"{load})\n{use}")
    inputs = {
        "input_ids": torch.tensor([[49406, 7, 49407]]),
        "input_features": torch.randn(2, 3, 128, 204),
        "depth_values": torch.randn(2, 1, 224, 224),
    }
    for names in (["text", "audio"], ["audio", "depth"]):
        restricted = CodeBindModel.from_pretrained(tmp_path, modalities=names)
        assert list(restricted.encoders) == names
        given = {model.config.modality(name).tensor: inputs[model.config.modality(name).tensor] for name in names}
        assert_same(restricted(**given).embeds, model(**given).embeds)
