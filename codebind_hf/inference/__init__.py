"""What applications use: items of any sense, an index over their codes, and what a code stands for."""

from codebind_hf.inference.code_index import CodeIndex, SearchResult
from codebind_hf.inference.explain import CodeUse, explain_code
from codebind_hf.inference.packed_codes import pack_codes, packed_size, unpack_codes
from codebind_hf.model.raw_data_encoding import ClipEmbeds
from codebind_hf.processing.items import (
    Audio,
    Depth,
    Eeg,
    Image,
    Imu,
    PointCloud,
    Sensor,
    Tactile,
    Text,
    Thermal,
    Video,
)


__all__ = [
    "Audio",
    "ClipEmbeds",
    "CodeIndex",
    "CodeUse",
    "Depth",
    "Eeg",
    "Image",
    "Imu",
    "PointCloud",
    "SearchResult",
    "Sensor",
    "Tactile",
    "Text",
    "Thermal",
    "Video",
    "explain_code",
    "pack_codes",
    "packed_size",
    "unpack_codes",
]
