"""Checkpoints of other projects as `CodeBindModel`s, and back."""

from codebind_hf.conversion.clip_tokenizer import clip_tokenizer
from codebind_hf.conversion.codebind import convert_codebind, revert_codebind
from codebind_hf.conversion.imagebind import convert_imagebind, revert_imagebind
from codebind_hf.conversion.processors import codebind_processor, imagebind_processor, vitlens_processor
from codebind_hf.conversion.vitlens import convert_vitlens, revert_vitlens


__all__ = [
    "clip_tokenizer",
    "codebind_processor",
    "convert_codebind",
    "convert_imagebind",
    "convert_vitlens",
    "imagebind_processor",
    "revert_codebind",
    "revert_imagebind",
    "revert_vitlens",
    "vitlens_processor",
]
