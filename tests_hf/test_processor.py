"""The library's processor tests on `CodeBindProcessor`."""

import unittest
from typing import Any

import numpy as np
from hf_tests.test_processing_common import ProcessorTesterMixin

from codebind_hf import CodeBindConfig, CodeBindProcessor
from codebind_hf.training.tokenization import build_tokenizer


NAMES = "parameters of sub-processors have other names (`mean`, no `do_rescale`) and come in `images_kwargs={...}`"
TENSORS = "`return_tensors` is an argument of its own, as a call gives tensors unless it asks for something else"
FRAMES = "`do_sample_frames` is of the library's video processors; ours cuts clips by its own parameters"
COMMON = "there is no `common_kwargs`: what is common is an argument"
LENGTH = "the length of texts is `max_text_length`: not what the tokenizer was last called with"
SKIPPED = {
    "test_call_arguments_default_none": TENSORS,
    "test_call_arguments_not_in_processor_kwargs": TENSORS,
    "test_flat_kwarg_applied_when_modality_dict_lacks_it": FRAMES,
    "test_model_input_names": FRAMES,
    "test_kwargs_overrides_default_subprocessor_kwargs_0_images": NAMES,
    "test_unstructured_kwargs_0_images": NAMES,
    "test_unstructured_kwargs_batched_0_images": NAMES,
    "test_save_load_pretrained_additional_features": NAMES,
    "test_structured_kwargs_nested_from_dict_0_images": COMMON,
    "test_structured_kwargs_nested_from_dict_2_audio": COMMON,
    "test_subprocessor_defaults_preserved_by_kwargs_0_images": LENGTH,
    "test_subprocessor_defaults_preserved_by_kwargs_2_audio": LENGTH,
    "test_processor_from_and_save_pretrained_as_nested_dict": "it finds one sub-processor of a kind; ours has several",
    "test_processor_text_has_no_visual": "every picture is a row of its own; no text has pictures that belong to it",
}


def whole_processor() -> CodeBindProcessor:
    config = CodeBindConfig.from_preset("tiny")
    return CodeBindProcessor.from_model_config(config, build_tokenizer(["lower newer", "upper older longer string"]))


def _setup_of(attribute: str) -> classmethod:
    return classmethod(lambda cls: getattr(whole_processor(), attribute))


class CodeBindProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = CodeBindProcessor

    def get_component(self, attribute: str, use_tiny_ckpt: bool = True, **kwargs: Any) -> Any:
        """The library's knows one sub-processor of each kind, and looks for it through the Auto classes."""
        return getattr(CodeBindProcessor.from_pretrained(self.tmpdirname), attribute)

    def prepare_audio_inputs(self, batch_size: int | None = None) -> Any:
        """Sounds say their sampling rate; without one they are refused."""
        rng = np.random.default_rng(0)
        sounds = [
            {"array": rng.uniform(-0.5, 0.5, 8000 + i).astype(np.float32), "sampling_rate": 16000}
            for i in range(batch_size or 1)
        ]
        return sounds[0] if batch_size is None else sounds


for _attribute in CodeBindProcessor.get_attributes():
    setattr(CodeBindProcessorTest, f"_setup_{_attribute}", _setup_of(_attribute))
for _name, _reason in SKIPPED.items():
    setattr(CodeBindProcessorTest, _name, unittest.skip(_reason)(getattr(CodeBindProcessorTest, _name)))
