"""What applications use: items of any sense, their embeddings."""

from codebind_hf.model.encoding import ClipEmbeds
from codebind_hf.model.items import (
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
    "Depth",
    "Eeg",
    "Image",
    "Imu",
    "PointCloud",
    "Sensor",
    "Tactile",
    "Text",
    "Thermal",
    "Video",
]
