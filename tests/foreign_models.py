"""Tiny networks of transformers with random weights, in folders as they are published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, PreTrainedTokenizerFast


WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "bell", "ring", "red", "drum", "of", "the", "photo"]
_TEXT = {"vocab_size": len(WORDS), "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2}
_TEXT |= {"num_attention_heads": 2, "max_position_embeddings": 16, "pad_token_id": 0}
_IMAGE = {"hidden_size": 20, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
_IMAGE |= {"image_size": 16, "patch_size": 8}
_SIZE = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.4, 0.5, 0.6]}


def tokenizer() -> PreTrainedTokenizerFast:
    """Words, with a begin and an end around every text."""
    fast = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = transformers.tokenization_utils_tokenizers.processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, model_max_length=16, **names)


def _image_processor(name: str, **fields: Any) -> Any:
    return getattr(transformers, name)(**{**_SIZE, **fields})


def _clip(folder: Path) -> Any:
    text = {**_TEXT, "eos_token_id": 2, "bos_token_id": 1}
    config = transformers.CLIPConfig(text_config=text, vision_config=_IMAGE, projection_dim=14)
    tokenizer().save_pretrained(folder)
    fields = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    _image_processor("CLIPImageProcessorPil", **fields).save_pretrained(folder)
    return config


def _siglip(folder: Path) -> Any:
    config = transformers.SiglipConfig(
        text_config={**_TEXT, "hidden_size": 20, "projection_size": 20}, vision_config=_IMAGE
    )
    tokenizer().save_pretrained(folder)
    _image_processor("SiglipImageProcessorPil").save_pretrained(folder)
    return config


def _siglip2(folder: Path) -> Any:
    vision = {key: value for key, value in _IMAGE.items() if key != "image_size"}
    text = {**_TEXT, "hidden_size": 20, "projection_size": 20}
    config = transformers.Siglip2Config(text_config=text, vision_config={**vision, "num_patches": 16})
    tokenizer().save_pretrained(folder)
    transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=9).save_pretrained(folder)
    return config


def _bert(folder: Path) -> Any:
    tokenizer().save_pretrained(folder)
    return transformers.BertConfig(**_TEXT)


def _vit(folder: Path) -> Any:
    _image_processor("ViTImageProcessorPil").save_pretrained(folder)
    return transformers.ViTConfig(**_IMAGE)


def _whisper(folder: Path) -> Any:
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    sizes = {"d_model": 12, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_source_positions": 50}
    tokens = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    return transformers.WhisperConfig(num_mel_bins=8, max_target_positions=8, suppress_tokens=None, **sizes, **tokens)


def _wav2vec2(folder: Path) -> Any:
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    convolutions = {"conv_dim": (8, 8), "conv_stride": (20, 8), "conv_kernel": (20, 8)}
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    groups = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "layer"}
    return transformers.Wav2Vec2Config(**convolutions, **sizes, **groups, do_stable_layer_norm=True)


def _resnet(folder: Path) -> Any:
    _image_processor("ViTImageProcessorPil").save_pretrained(folder)
    return transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")


_CONFIGS: dict[str, Callable[[Path], Any]] = {
    "clip": _clip,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "bert": _bert,
    "vit": _vit,
    "whisper": _whisper,
    "wav2vec2": _wav2vec2,
    "resnet": _resnet,
}
NAMES = tuple(_CONFIGS)


def foreign(name: str, folder: Path, seed: int = 0) -> Any:
    """A network with random weights, larger than the library's, saved in `folder` with what prepares its inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = AutoModel.from_config(_CONFIGS[name](folder)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" not in key and "logit" not in key and parameter.ndim:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return AutoModel.from_pretrained(folder).eval()


def sentence_transformer(folder: Path, pooling: str = "mean_tokens", dense: int | None = None) -> Any:
    """A BERT in the layout of sentence-transformers: pooling, a dense layer if asked for, and a norm."""
    model = foreign("bert", folder)
    modules = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    listed = []
    for place, name in enumerate(modules):
        path = "" if name == "Transformer" else f"{place}_{name}"
        listed.append({"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"})
        (folder / path).mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9, "do_lower_case": False}))
    modes = {
        f"pooling_mode_{each}": each == pooling for each in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 12, **modes}))
    if dense:
        fields = {"in_features": 12, "out_features": dense, "bias": True}
        activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense" / "config.json").write_text(json.dumps({**fields, **activation}))
        weights = {"linear.weight": torch.randn(dense, 12), "linear.bias": torch.randn(dense)}
        save_file(weights, folder / "2_Dense" / "model.safetensors")
    return model
