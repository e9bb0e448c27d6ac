"""A saved folder carries its code: a machine without the package loads it and gets the same numbers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from common import ALL_TERMS, assert_same, small_config, tiny_config, tiny_inputs, tiny_model
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor, CLIPTokenizer
from transformers.dynamic_module_utils import get_imports

import codebind_hf
from codebind_hf import CodeBindConfig, CodeBindModel, CodeBindProcessor
from codebind_hf.processing.arguments import argument_of
from codebind_hf.training.tokenization import build_tokenizer


ROOMS = [Path(codebind_hf.__file__).parent / room for room in ("model", "processing")]
SCRIPT = Path(__file__).parents[1] / "scripts" / "load_remotely.py"
RADAR = {"num_channels": 2, "input_size": [10], "patch_size": [5], "hidden_size": 16, "num_attention_heads": 2}
PARITY = {
    "parity_losses": True,
    "parity_codebooks": True,
    "decoder_inputs": "codes+tokens",
    "normalize_codes": False,
    "specific_dim": 24,
    "loss_weights": dict.fromkeys(ALL_TERMS, 1.0),
}
CASES = {
    "whole": lambda: tiny_config(text_config={"vocab_size": 600}, added_encoders={"radar": RADAR}),
    "some": lambda: small_config("text", "eeg", text_config={"vocab_size": 600}),
    "parity": lambda: small_config("text", "image", "audio", text_config={"vocab_size": 600}, **PARITY),
    "tiny-vl": lambda: CodeBindConfig.from_preset("tiny-vl"),
    "no-text": lambda: small_config("imu"),
}


def items_of(config: CodeBindConfig) -> dict[str, Any]:
    """Two raw items of every modality."""
    rng = np.random.default_rng(0)
    picture = [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(2)]
    sound = {"array": (0.1 * rng.normal(size=9000)).astype(np.float32), "sampling_rate": 8000}
    made = {
        "text": ["a bell", "b"],
        "images": picture,
        "videos": [np.stack([np.asarray(picture[0])] * 3)] * 2,
        "audio": [sound, sound],
        "depth": list(rng.uniform(0.5, 8, (2, 40, 50)).astype(np.float32)),
        "thermal": list(rng.integers(0, 256, (2, 40, 50), dtype=np.uint8)),
        "tactile": picture,
        "point_clouds": list(rng.normal(size=(2, 600, 3)).astype(np.float32)),
        "eeg": list(rng.normal(size=(2, channels_of(config, "eeg"), 300)).astype(np.float32)),
        "imu": list(rng.normal(size=(2, 6, 300)).astype(np.float32)),
        "radar": list(rng.normal(size=(2, 2, 30)).astype(np.float32)),
    }
    return {argument_of(name): made[argument_of(name)] for name in config.modality_names}


def channels_of(config: CodeBindConfig, encoder: str) -> int:
    found = config.encoder_configs.get(encoder)
    return found.num_channels if found else 1


def tensors_of(config: CodeBindConfig) -> dict[str, torch.Tensor]:
    plain = CodeBindConfig(**{**config.to_dict(), "added_encoders": None})
    radar = {"radar_values": torch.randn(3, 2, 10)} if config.added_encoders else {}
    return {**tiny_inputs(plain), **radar}


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer(["a bell", "b"], 600, 64)


@pytest.fixture(scope="module")
def published(tokenizer: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Folders of all `CASES`, and what a process without the package made of them."""
    root = tmp_path_factory.mktemp("published")
    models, processors, stored = {}, {}, {}
    for name, make in CASES.items():
        config = make()
        models[name] = model = tiny_model(config)
        vocabulary = tokenizer if "text" in config.modality_names else None
        processors[name] = processor = CodeBindProcessor.from_model_config(config, vocabulary)
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
        stored[name] = {"tensors": tensors_of(config), "items": items_of(config)}
        torch.save(stored[name], root / f"{name}.pt")
    environment = {**os.environ, "HF_MODULES_CACHE": str(root / "modules"), "HF_HOME": str(root / "home")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(root)], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((root / "facts.json").read_text())
    return SimpleNamespace(root=root, models=models, processors=processors, stored=stored, facts=facts)


@pytest.mark.parametrize("copy", ["", "-again"], ids=["saved here", "saved again there"])
@pytest.mark.parametrize("name", list(CASES))
def test_a_machine_without_the_package_gets_the_same_numbers(published: SimpleNamespace, name: str, copy: str) -> None:
    there = torch.load(published.root / f"{name}{copy}.out.pt", weights_only=True)
    model, processor, stored = published.models[name], published.processors[name], published.stored[name]
    with torch.no_grad():
        direct = model(**stored["tensors"], output_reconstructions=True)
        processed = processor(**stored["items"], return_tensors="pt")
        encoded = model(**processed)
    assert list(there["embeds"]) == list(model.config.modality_names)
    assert_same(direct.embeds, there["embeds"])
    assert_same(direct.specific_embeds, there["specific"])
    assert_same(direct.reconstructions, there["reconstructions"])
    assert_same({key: ids.shared for key, ids in direct.codes.items()}, there["shared_codes"])
    assert_same(dict(processed), there["processed"])
    assert_same(encoded.embeds, there["encoded"])


def test_the_package_was_not_there(published: SimpleNamespace) -> None:
    """Else the test above would compare the package with itself."""
    assert published.facts["package"] == []
    assert all(name.startswith("transformers_modules.") for name in published.facts["configurations"].values())


def test_added_modalities_and_chosen_modalities_work_there_too(published: SimpleNamespace) -> None:
    assert published.facts["added"]["whole"] == published.processors["whole"].added_modalities
    assert set(published.facts["added"]["whole"]) == {"radar"}
    assert published.facts["some"] == ["text", "eeg"]


def test_a_stock_pipeline_works_there(published: SimpleNamespace) -> None:
    assert sorted(entry["label"] for entry in published.facts["labels"]) == ["a", "b"]
    assert sum(entry["score"] for entry in published.facts["labels"]) == pytest.approx(1)


def test_code_is_not_run_without_consent(published: SimpleNamespace) -> None:
    assert "trust_remote_code=True" in published.facts["refusal"]


def test_the_entries_name_files_of_the_folder(published: SimpleNamespace) -> None:
    folder = published.root / "whole"
    config, processor = (json.loads((folder / f"{x}.json").read_text()) for x in ("config", "processor_config"))
    entries = {**config["auto_map"], **processor["auto_map"], **processor["image_processor"]["auto_map"]}
    entries |= processor["feature_extractor"]["auto_map"]
    assert entries == {
        "AutoConfig": "configuration_codebind.CodeBindConfig",
        "AutoModel": "modeling_codebind.CodeBindModel",
        "AutoModelForZeroShotImageClassification": "modeling_codebind.CodeBindModel",
        "AutoProcessor": "processing_codebind.CodeBindProcessor",
        "AutoImageProcessor": "image_processing_codebind.CodeBindImageProcessor",
        "AutoFeatureExtractor": "feature_extraction_codebind.CodeBindAudioFeatureExtractor",
    }
    for entry in entries.values():
        file, name = entry.split(".")
        assert re.search(rf"^class {name}\b", (folder / f"{file}.py").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", list(CASES))
def test_the_code_is_that_of_the_package_and_needs_nothing_else(published: SimpleNamespace, name: str) -> None:
    """The loader demands what a file imports anywhere, functions included: an optional library would be required."""
    files = sorted((published.root / name).glob("*.py"))
    assert {"modeling_codebind.py", "processing_codebind.py", "parity_losses.py", "lenses.py"} <= {
        x.name for x in files
    }
    allowed = {"torch", "numpy", "transformers", "huggingface_hub", "tokenizers", "safetensors", "PIL"}
    allowed |= sys.stdlib_module_names
    for file in files:
        (own,) = (room / file.name for room in ROOMS if (room / file.name).exists())
        assert file.read_bytes() == own.read_bytes()
        assert set(get_imports(file)) <= allowed, file.name


# With the package


@pytest.mark.parametrize("trust", [None, True, False])
def test_the_package_wins_over_code_in_the_folder(
    published: SimpleNamespace, trust: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("code of the folder was about to run")

    for module in ("configuration_auto", "auto_factory", "processing_auto", "image_processing_auto"):
        monkeypatch.setattr(f"transformers.models.auto.{module}.get_class_from_dynamic_module", refuse)
    folder = published.root / "whole"
    assert type(AutoConfig.from_pretrained(folder, trust_remote_code=trust)) is CodeBindConfig
    assert type(AutoModel.from_pretrained(folder, trust_remote_code=trust)) is CodeBindModel
    assert type(AutoProcessor.from_pretrained(folder, trust_remote_code=trust)) is CodeBindProcessor


def test_what_was_saved_without_the_package_loads_with_it(published: SimpleNamespace) -> None:
    again = published.root / "whole-again"
    assert_same(CodeBindModel.from_pretrained(again).state_dict(), published.models["whole"].state_dict())
    processor = CodeBindProcessor.from_pretrained(again)
    assert processor.to_dict() == CodeBindProcessor.from_pretrained(published.root / "whole").to_dict()


@pytest.mark.parametrize("auto", [AutoModel, CodeBindModel])
def test_modalities_are_chosen_through_the_auto_class_as_through_the_model(
    published: SimpleNamespace, auto: Any
) -> None:
    options = {"modalities": ["text", "eeg"], "attn_implementation": "eager", "dtype": torch.bfloat16}
    model = auto.from_pretrained(published.root / "whole", **options)
    assert model.config.modality_names == ("text", "eeg")
    assert set(model.encoders) == {"text", "eeg"}
    assert model.encoders["eeg"].config._attn_implementation == "eager"
    assert model.dtype == torch.bfloat16


def test_a_configuration_can_be_restricted_on_loading(published: SimpleNamespace) -> None:
    config = CodeBindConfig.from_pretrained(published.root / "whole", modalities=["radar", "image"], shared_dim=32)
    assert config.modality_names == ("image", "video", "radar")
    assert config.shared_dim == 32
    with pytest.raises(ValueError, match="unknown modality 'smell'"):
        AutoModel.from_pretrained(published.root / "whole", modalities=["smell"])


def test_a_class_derived_outside_the_package_is_what_its_folder_names(tmp_path: Path) -> None:
    """It needs the package there, but it is not silently replaced by its parent."""
    source = "from codebind_hf import CodeBindModel\n\n\nclass Mine(CodeBindModel):\n    pass\n"
    (tmp_path / "modeling_mine.py").write_text(source)
    sys.path.insert(0, str(tmp_path))
    try:
        from modeling_mine import Mine  # noqa: PLC0415

        torch.manual_seed(0)
        Mine(small_config("imu")).save_pretrained(tmp_path / "saved")
    finally:
        sys.path.remove(str(tmp_path))
    entries = json.loads((tmp_path / "saved" / "config.json").read_text())["auto_map"]
    assert entries["AutoModel"] == entries["AutoModelForZeroShotImageClassification"] == "modeling_mine.Mine"
    assert (tmp_path / "saved" / "modeling_mine.py").read_text() == source
