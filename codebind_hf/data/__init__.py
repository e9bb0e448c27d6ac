"""Data: the embedded NineSenses, manifests of your own files, and batches of rows with any subset of modalities."""

from typing import TYPE_CHECKING

from codebind_hf.lazy_names import lazy_names


if TYPE_CHECKING:
    from codebind_hf.data.augmentation import Augmentation as Augmentation
    from codebind_hf.data.augmentation import augmented_row as augmented_row
    from codebind_hf.data.collator import CodeBindCollator as CodeBindCollator
    from codebind_hf.data.dataset_rows import rows_from_dataset as rows_from_dataset
    from codebind_hf.data.lazy import LazyDataset as LazyDataset
    from codebind_hf.data.loading import load_items as load_items
    from codebind_hf.data.manifest import Manifest as Manifest
    from codebind_hf.data.prepared import PreparedDataset as PreparedDataset
    from codebind_hf.data.sampler import ModalityBatchSampler as ModalityBatchSampler
    from codebind_hf.data.stored import StoredDataset as StoredDataset
    from codebind_hf.data.streamed import StreamedDataset as StreamedDataset
    from codebind_hf.nine_senses.rows import NineSenses as NineSenses

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "codebind_hf.data.augmentation": "Augmentation augmented_row",
        "codebind_hf.data.collator": "CodeBindCollator",
        "codebind_hf.data.dataset_rows": "rows_from_dataset",
        "codebind_hf.data.lazy": "LazyDataset",
        "codebind_hf.data.loading": "load_items",
        "codebind_hf.data.manifest": "Manifest",
        "codebind_hf.nine_senses.rows": "NineSenses",
        "codebind_hf.data.prepared": "PreparedDataset",
        "codebind_hf.data.sampler": "ModalityBatchSampler",
        "codebind_hf.data.stored": "StoredDataset",
        "codebind_hf.data.streamed": "StreamedDataset",
    },
    renamed={"SenseBatchSampler": "ModalityBatchSampler"},
)
