"""Checkpoints of other projects as `CodeBindModel`s, and back."""

from codebind_hf.conversion.codebind import convert_codebind, revert_codebind
from codebind_hf.conversion.imagebind import convert_imagebind, revert_imagebind


__all__ = ["convert_codebind", "convert_imagebind", "revert_codebind", "revert_imagebind"]
