"""Checkpoints of the reference implementations, and random ones in their layouts."""

import json
from pathlib import Path
from typing import Any

import goldens
import pytest
import torch
from reference_checkpoints import SCALES, TINY, TINY_CODEBIND, random_lora
from safetensors.torch import save_file

from codebind_hf.conversion.architectures import reference_fields
from codebind_hf.conversion.codebind import revert_codebind
from codebind_hf.conversion.imagebind import revert_imagebind
from codebind_hf.conversion.imagebind_keys import IMAGEBIND_ENCODERS
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.model.presets import merge_fields


@pytest.fixture(scope="session")
def imagebind_golden() -> tuple[Path, dict[str, Any]]:
    """ImageBind's tiny checkpoint and its constructor arguments."""
    folder = goldens.folder("imagebind_tiny")
    return folder / "imagebind_tiny.pth", json.loads((folder / "config.json").read_text())


@pytest.fixture(scope="session")
def codebind_golden() -> tuple[Path, dict[str, Any]]:
    """The folder of CodeBind's tiny experiments and their constructor arguments."""
    folder = goldens.folder("codebind_tiny")
    config = json.loads((folder / "config.json").read_text())
    lengths = {name: config[name] for name in ("eeg_data_len", "eeg_patch_size")}
    return folder, {**config["constructor_args"], **lengths}


@pytest.fixture
def imagebind_file(tmp_path: Path) -> Path:
    """A random ImageBind checkpoint of the size `TINY`, made without any reference value."""
    torch.manual_seed(0)
    config = CodeBindConfig(**reference_fields("ib-huge", TINY, IMAGEBIND_ENCODERS), source_scales=SCALES)
    config.initializer_range = 0.2
    tensors = revert_imagebind(CodeBindModel(config))
    tensors["modality_preprocessors.text.mask"] = torch.full((77, 77), float("-inf")).triu(1)
    file = tmp_path / "imagebind.pth"
    torch.save(tensors, file)
    return file


@pytest.fixture
def experiment(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A random experiment of the official CodeBind on audio, in its layout of files, with LoRA on the last block.

    Parametrized indirectly, by fields of its configuration.
    """
    torch.manual_seed(1)
    fields = reference_fields("codebind-ib-huge", TINY_CODEBIND, ("text", "vision", "audio"))
    fields |= {"specific_dim": 16, "num_shared_codes": 20, "num_specific_codes": 10, "normalize_codes": False}
    fields["loss_weights"] = None
    fields["decoder_config"] |= {"hidden_size": 16, "num_hidden_layers": 1}
    scales = {f"modality_postprocessors_new.{name}.log_logit_scale": 2.5 for name in ("text", "audio")}
    fields = merge_fields(fields, getattr(request, "param", {}))
    model = CodeBindModel(CodeBindConfig(**fields, source_scales=scales))
    folder = tmp_path / "audio" / "checkpoints"
    folder.mkdir(parents=True)
    for name, tensors in revert_codebind(model).items():
        if "trunks" not in name:
            torch.save(tensors, folder / f"{name}_best.pth")
    for which in ("best", "last"):
        save_file(random_lora(12), folder / f"imagebind-lora-audio_{which}.safetensors")
    return folder.parent
