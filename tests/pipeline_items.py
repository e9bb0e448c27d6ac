"""A small checkpoint with every modality, and items for it as users hold them: what the tests of pipelines share."""

from pathlib import Path
from typing import Any

import numpy as np
from common import tiny_config, tiny_model
from PIL import Image

from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer


WORDS = ["a ring", "a bell", "a tall glass"]
RADAR = {"num_channels": 2, "input_size": [10], "patch_size": [5], "hidden_size": 16, "num_attention_heads": 2}
# One item a modality, as a user holds it in memory; numbers choose among several.
SHAPES = {
    "depth": (20, 30),
    "thermal": (20, 30),
    "point_cloud": (90, 3),
    "eeg": (5, 40),
    "imu": (6, 30),
    "radar": (2, 10),
}


def save_checkpoint(folder: Path) -> Path:
    """Model and processor of all ten modalities and an added one."""
    texts = [
        f"{start} {word}." for start in ("a photo of", "this is a photo of", "this is a sound of") for word in WORDS
    ]
    text = {"vocab_size": 700, "max_position_embeddings": 24}
    model = tiny_model(tiny_config(text_config=text, added_encoders={"radar": RADAR}))
    processor = CodeBindProcessor.from_model_config(model.config, build_tokenizer(texts * 3, 700, max_length=24))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def item(modality: str, seed: int = 0) -> Any:
    """The `seed`-th value of a modality."""
    random = np.random.default_rng(seed)
    if modality == "text":
        return WORDS[seed % len(WORDS)]
    if modality in ("image", "tactile"):
        return Image.fromarray(random.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    if modality == "video":
        return random.integers(0, 255, (4, 30, 40, 3), dtype=np.uint8)
    if modality == "audio":
        return {"array": sound(seed), "sampling_rate": 16000}
    return random.random(SHAPES[modality], dtype=np.float32)


def sound(seed: int = 0) -> np.ndarray:
    """A second of noise at 16 kHz."""
    return (0.1 * np.random.default_rng(seed).normal(size=16000)).astype(np.float32)
