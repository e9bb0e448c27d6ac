"""What to do with a model: packed codes, an index over them, and what a code stands for."""

from codebind_hf.inference.code_index import CodeIndex, SearchResult
from codebind_hf.inference.explain import CodeUse, explain_code
from codebind_hf.inference.packed_codes import pack_codes, packed_size, unpack_codes


__all__ = [
    "CodeIndex",
    "CodeUse",
    "SearchResult",
    "explain_code",
    "pack_codes",
    "packed_size",
    "unpack_codes",
]
