"""Checkpoints of other projects as `CodeBindModel`s, and back."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names


if TYPE_CHECKING:
    from codebind_hf.conversion.clip_vocabulary import clip_tokenizer as clip_tokenizer
    from codebind_hf.conversion.codebind import convert_codebind as convert_codebind
    from codebind_hf.conversion.codebind import revert_codebind as revert_codebind
    from codebind_hf.conversion.imagebind import convert_imagebind as convert_imagebind
    from codebind_hf.conversion.imagebind import revert_imagebind as revert_imagebind
    from codebind_hf.conversion.processors import codebind_processor as codebind_processor
    from codebind_hf.conversion.processors import imagebind_processor as imagebind_processor
    from codebind_hf.conversion.processors import vitlens_processor as vitlens_processor
    from codebind_hf.conversion.vitlens import convert_vitlens as convert_vitlens
    from codebind_hf.conversion.vitlens import revert_vitlens as revert_vitlens

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.conversion.clip_vocabulary": "clip_tokenizer",
        "codebind_hf.conversion.codebind": "convert_codebind revert_codebind",
        "codebind_hf.conversion.imagebind": "convert_imagebind revert_imagebind",
        "codebind_hf.conversion.processors": "codebind_processor imagebind_processor vitlens_processor",
        "codebind_hf.conversion.vitlens": "convert_vitlens revert_vitlens",
    },
)
