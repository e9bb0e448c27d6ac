"""Data: the embedded NineSenses, manifests of your own files, and batches of rows with any subset of senses."""

from codebind_hf.data.collator import CodeBindCollator
from codebind_hf.data.dataset_rows import rows_from_dataset
from codebind_hf.data.manifest import Manifest
from codebind_hf.data.nine_senses import NineSenses
from codebind_hf.data.prepared import PreparedDataset
from codebind_hf.data.sampler import SenseBatchSampler


__all__ = [
    "CodeBindCollator",
    "Manifest",
    "NineSenses",
    "PreparedDataset",
    "SenseBatchSampler",
    "rows_from_dataset",
]
