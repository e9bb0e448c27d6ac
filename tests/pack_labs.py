"""A bridge on disk, and labs that each bound something of their own to it: what the tests of packs share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import small_config, tiny_model
from torch.nn.functional import normalize

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.processing.arguments import argument_of
from codebind_hf.training.tokenization import build_tokenizer


HELD = ("text", "image", "audio", "depth")
_TOWER = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2}
ENCODERS = {
    "radar": {**_TOWER, "num_channels": 2, "input_size": [24], "patch_size": [4], "specific_dim": 8},
    "lidar": {**_TOWER, "num_channels": 1, "input_size": [12], "patch_size": [3], "specific_readout": "token"},
}


def items() -> dict[str, list[Any]]:
    """Two raw items of every modality of the bridge and of the labs."""
    draw = np.random.default_rng(3)
    return {
        "text": ["a bell", "b"],
        "image": [draw.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(2)],
        "audio": [{"array": draw.normal(size=9000).astype("float32"), "sampling_rate": 16000} for _ in range(2)],
        "depth": [draw.uniform(0.5, 3, (20, 30)).astype("float32") for _ in range(2)],
        "eeg": [{"array": draw.normal(size=(5, 60)).astype("float32"), "sampling_rate": 1000} for _ in range(2)],
        "radar": [draw.normal(size=(2, 30)).astype("float32") for _ in range(2)],
        "lidar": [draw.normal(size=12).astype("float32") for _ in range(2)],
    }


def vectors_of(model: CodeBindModel, processor: CodeBindProcessor, *names: str) -> dict[str, np.ndarray]:
    """What `encode` gives of `items`, and both parts of the embeddings, quantized and not, with the codes."""
    some = {name: value for name, value in items().items() if name in names}
    found = {f"encoded.{name}": value for name, value in model.encode(some, processor).items()}
    with torch.no_grad():
        output = model(**processor(**{argument_of(name): value for name, value in some.items()}))
    for kind in ("embeds", "continuous_embeds", "specific_embeds", "continuous_specific_embeds"):
        found |= {f"{kind}.{name}": value.numpy() for name, value in (output[kind] or {}).items()}
    return found | {f"codes.{name}": value.shared.numpy() for name, value in output.codes.items()}


def same_vectors(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not np.array_equal(value, other[name])] == []


def moved(model: CodeBindModel, *rooms: str, seed: int = 5) -> None:
    """What training could have done to the parameters and codes in some rooms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.startswith(rooms):
                value += (0.3 * torch.randn(value.shape, generator=generator)).to(value.dtype)
                if name.endswith(".codes"):
                    value.copy_(normalize(value, dim=-1))


def write_bridge(folder: Path, seed: int = 0, **overrides: Any) -> Path:
    text = {"text_config": {"vocab_size": 600}}
    config = small_config(*HELD, **{**text, **overrides})
    model = tiny_model(config) if not seed else _seeded(config, seed)
    processor = CodeBindProcessor.from_model_config(model.config, build_tokenizer(["a bell", "b"], 600, 12))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _seeded(config: CodeBindConfig, seed: int) -> CodeBindModel:
    torch.manual_seed(seed)
    return CodeBindModel(config).eval()


def load(*given: Any, **options: Any) -> tuple[CodeBindModel, CodeBindProcessor]:
    packs = {"packs": options["packs"]} if "packs" in options else {}
    return CodeBindModel.from_pretrained(*given, **options), CodeBindProcessor.from_pretrained(*given, **packs)


def bind_at_home(bridge: Path, name: str) -> tuple[CodeBindModel, CodeBindProcessor]:
    """The bridge with one more modality, as a lab has it after training."""
    model, processor = load(bridge)
    if name == "eeg":
        config = CodeBindConfig(**{**model.config.to_dict(), "eeg_config": _eeg()})
        model = CodeBindModel.from_pretrained(bridge, config=config)
        processor = CodeBindProcessor.from_model_config(config, processor.tokenizer, eeg={"sampling_rate": 500})
    else:
        model.add_modality(name, ENCODERS[name])
        sizes = {key: ENCODERS[name][key] for key in ("num_channels", "input_size")}
        processor.add_modality(name, **sizes, normalize="item", mean=0.5)
    moved(model, *(f"{room}.{name}." for room in ("encoders", "decoders", "codebooks.specific")))
    return model.eval(), processor


def _eeg() -> dict[str, Any]:
    return {**_TOWER, "num_channels": 5, "input_size": [33], "patch_size": [3], "patch_stride": [3]}
