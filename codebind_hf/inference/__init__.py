"""What applications use: items of any modality, an index over their codes, and what a code stands for."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names


if TYPE_CHECKING:
    from codebind_hf.inference.code_index import CodeIndex as CodeIndex
    from codebind_hf.inference.code_index import SearchResult as SearchResult
    from codebind_hf.inference.explain import CodeUse as CodeUse
    from codebind_hf.inference.explain import explain_code as explain_code
    from codebind_hf.inference.matches import CodeMatch as CodeMatch
    from codebind_hf.inference.matches import SharedCode as SharedCode
    from codebind_hf.inference.matches import explain_match as explain_match
    from codebind_hf.inference.packed_codes import pack_codes as pack_codes
    from codebind_hf.inference.packed_codes import packed_size as packed_size
    from codebind_hf.inference.packed_codes import unpack_codes as unpack_codes
    from codebind_hf.inference.part_search import join_parts as join_parts
    from codebind_hf.inference.sensor_check import SensorCheck as SensorCheck
    from codebind_hf.inference.sensor_check import SensorFlags as SensorFlags
    from codebind_hf.inference.sensor_check import disagreement as disagreement
    from codebind_hf.model.raw_data_encoding import ClipEmbeds as ClipEmbeds
    from codebind_hf.processing.items import Audio as Audio
    from codebind_hf.processing.items import Depth as Depth
    from codebind_hf.processing.items import Eeg as Eeg
    from codebind_hf.processing.items import Image as Image
    from codebind_hf.processing.items import Imu as Imu
    from codebind_hf.processing.items import PointCloud as PointCloud
    from codebind_hf.processing.items import Sensor as Sensor
    from codebind_hf.processing.items import Tactile as Tactile
    from codebind_hf.processing.items import Text as Text
    from codebind_hf.processing.items import Thermal as Thermal
    from codebind_hf.processing.items import Video as Video

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.inference.code_index": "CodeIndex SearchResult",
        "codebind_hf.inference.explain": "CodeUse explain_code",
        "codebind_hf.inference.matches": "CodeMatch SharedCode explain_match",
        "codebind_hf.inference.packed_codes": "pack_codes packed_size unpack_codes",
        "codebind_hf.inference.part_search": "join_parts",
        "codebind_hf.inference.sensor_check": "SensorCheck SensorFlags disagreement",
        "codebind_hf.model.raw_data_encoding": "ClipEmbeds",
        "codebind_hf.processing.items": "Audio Depth Eeg Image Imu PointCloud Sensor Tactile Text Thermal Video",
    },
)
