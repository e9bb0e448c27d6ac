"""Which sub-processor reads each modality, and how does a saved processor get its own back?"""

from typing import Any

from .feature_extraction_codebind import CodeBindAudioFeatureExtractor
from .foreign_files import nothing_saved
from .foreign_processing import from_saved
from .image_processing_codebind import (
    CodeBindDepthImageProcessor,
    CodeBindImageProcessor,
    CodeBindTactileImageProcessor,
    CodeBindThermalImageProcessor,
)
from .modality_processing import ModalityProcessing
from .point_processing_codebind import CodeBindPointFeatureExtractor
from .signal_processing_codebind import CodeBindEegFeatureExtractor, CodeBindImuFeatureExtractor
from .video_processing_codebind import CodeBindVideoImageProcessor


# Attribute and class of every modality's sub-processor. transformers finds sub-processors by the kind in their name.
PARTS: dict[str, tuple[str, type[ModalityProcessing]]] = {
    "image": ("image_processor", CodeBindImageProcessor),
    "video": ("video_image_processor", CodeBindVideoImageProcessor),
    "audio": ("feature_extractor", CodeBindAudioFeatureExtractor),
    "depth": ("depth_image_processor", CodeBindDepthImageProcessor),
    "thermal": ("thermal_image_processor", CodeBindThermalImageProcessor),
    "tactile": ("tactile_image_processor", CodeBindTactileImageProcessor),
    "point_cloud": ("point_feature_extractor", CodeBindPointFeatureExtractor),
    "eeg": ("eeg_feature_extractor", CodeBindEegFeatureExtractor),
    "imu": ("imu_feature_extractor", CodeBindImuFeatureExtractor),
}
CLASSES: dict[str, Any] = {cls.__name__: cls for _, cls in PARTS.values()}


def saved_parts(processor: Any, source: Any, saved: dict[str, Any], **kwargs: Any) -> list[Any]:
    """Sub-processors in the order of the constructor of a processor's class.

    Args:
        processor: the class.
        source: folder or name of what was saved.
        saved: its JSON.
        kwargs: of the library's loaders.

    Raises:
        OSError: a part that was not saved.
    """
    subfolder = kwargs.pop("subfolder", "")
    has_text = "text" in (saved.get("modalities") or ["text"])
    parts = []
    for attribute in processor.get_attributes():
        if attribute == "tokenizer":
            load = processor._load_tokenizer_from_pretrained
            tokenizer = load(attribute, source, subfolder=subfolder, **kwargs)
            parts.append(tokenizer if has_text else None)
        elif isinstance(saved.get(attribute), dict):
            fields = saved[attribute]
            class_name = fields.get("image_processor_type") or fields.get("feature_extractor_type")
            own = CLASSES.get(class_name)
            parts.append(from_saved(fields) if own is None else own.from_dict(fields))
        else:
            raise OSError(nothing_saved(str(source), attribute, saved))
    return parts
