"""The library's own pipelines on a saved checkpoint: nothing but `import codebind_hf` is needed."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from common import small_config, tiny_model
from pipeline_items import WORDS, item, sound
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer, pipeline

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.model.outputs import ByModality
from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.image_processing_codebind import CodeBindImageProcessor


TASKS = ["zero-shot-image-classification", "zero-shot-audio-classification", "image-feature-extraction"]


def expected_scores(
    model: CodeBindModel, processor: CodeBindProcessor, modality: str, value: Any, template: str
) -> dict[str, float]:
    """Softmax of scale * cosine, one modality at a time."""
    argument = {"image": "images", "audio": "audio"}[modality]
    with torch.no_grad():
        found = model(**processor(**{argument: [value]})).embeds[modality][0]
        texts = model(**processor(text=[template.format(word) for word in WORDS])).embeds["text"]
        scores = (model.logit_scale() * (texts @ found)).softmax(0)
    return dict(zip(WORDS, scores.tolist(), strict=True))


def checked(results: list[dict[str, Any]], expected: dict[str, float]) -> None:
    assert [entry["score"] for entry in results] == sorted((entry["score"] for entry in results), reverse=True)
    assert {entry["label"]: entry["score"] for entry in results} == pytest.approx(expected, abs=1e-6)


def test_zero_shot_image_classification(
    checkpoint: Path, model: CodeBindModel, processor: CodeBindProcessor, complaints: list[str]
) -> None:
    pictures = [item("image", seed) for seed in range(5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        pipe = pipeline("zero-shot-image-classification", model=str(checkpoint), device="cpu")
        one = pipe(pictures[0], candidate_labels=WORDS)
        many = pipe(pictures, candidate_labels=WORDS, batch_size=2, hypothesis_template="a photo of {}.")
    checked(one, expected_scores(model, processor, "image", pictures[0], "This is a photo of {}."))
    for found, picture in zip(many, pictures, strict=True):
        checked(found, expected_scores(model, processor, "image", picture, "a photo of {}."))
    assert complaints == []


def test_zero_shot_audio_classification(
    checkpoint: Path, model: CodeBindModel, processor: CodeBindProcessor, complaints: list[str]
) -> None:
    pipe = pipeline("zero-shot-audio-classification", model=str(checkpoint), device="cpu")
    results = pipe([sound(seed) for seed in range(3)], candidate_labels=WORDS, batch_size=2)
    for seed, found in enumerate(results):
        value = item("audio", seed)
        checked(found, expected_scores(model, processor, "audio", value, "This is a sound of {}."))
    assert complaints == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_image_feature_extraction(
    checkpoint: Path, model: CodeBindModel, processor: CodeBindProcessor, complaints: list[str], batch_size: int
) -> None:
    """Batches fail as soon as one field of the output cannot be cut into samples."""
    pictures = [item("image", seed) for seed in range(3)]
    pipe = pipeline("image-feature-extraction", model=str(checkpoint), device="cpu")
    with torch.no_grad():
        expected = model.get_image_features(**processor(images=pictures))
    tokens = pipe(pictures, batch_size=batch_size, return_tensors=True)
    pooled = pipe(pictures, batch_size=batch_size, pool=True, return_tensors=True)
    torch.testing.assert_close(torch.cat(tokens), expected.last_hidden_state)
    torch.testing.assert_close(torch.cat(pooled), expected.pooler_output)
    assert pipe(pictures[0], pool=True) == [pytest.approx(expected.pooler_output[0].tolist(), abs=1e-6)]
    assert complaints == []


def test_a_model_without_specific_embeddings_is_cut_into_samples_too(tmp_path: Path) -> None:
    config = small_config("image", specific_dim=0, decoder_config=None)
    tiny_model(config).save_pretrained(tmp_path)
    CodeBindProcessor.from_model_config(config, None).save_pretrained(tmp_path)
    pipe = pipeline("image-feature-extraction", model=str(tmp_path), device="cpu")
    pooled = pipe([item("image"), item("image", 1)], batch_size=2, pool=True)
    assert len(pooled) == 2


def test_texts_have_features_of_their_own(checkpoint: Path) -> None:
    pipe = pipeline("feature-extraction", model=str(checkpoint), device="cpu")
    alone = pipe(WORDS, return_tensors=True)
    assert [tuple(x.shape[::2]) for x in alone] == [(1, 32)] * 3
    for found, expected in zip(pipe(WORDS, return_tensors=True, batch_size=2), alone, strict=True):
        torch.testing.assert_close(found[:, : expected.shape[1]], expected)


@pytest.mark.parametrize("task", TASKS)
def test_half_precision_gives_nearly_the_same(checkpoint: Path, task: str) -> None:
    value = sound() if "audio" in task else item("image")
    options = {"pool": True} if task == "image-feature-extraction" else {"candidate_labels": WORDS}
    pipe = pipeline(task, model=str(checkpoint), device="cpu", dtype=torch.bfloat16)
    assert pipe.model.dtype == torch.bfloat16
    assert len(pipe(value, **options)) == len(WORDS) or "pool" in options


def test_a_generator_streams(checkpoint: Path) -> None:
    def pictures() -> Iterator[Any]:
        for seed in range(4):
            given.append(seed)
            yield item("image", seed)

    given: list[int] = []
    pipe = pipeline("image-feature-extraction", model=str(checkpoint), device="cpu")
    results = iter(pipe(pictures(), pool=True))
    next(results)
    assert len(given) < 4
    assert len(list(results)) == 3


def test_model_and_parts_may_be_objects(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    parts = {"image_processor": processor.image_processor, "tokenizer": processor.tokenizer}
    pipe = pipeline("zero-shot-image-classification", model=model, device="cpu", **parts)
    assert {entry["label"] for entry in pipe(item("image"), candidate_labels=WORDS)} == set(WORDS)


def test_the_auto_classes_load_the_parts_of_a_saved_processor(checkpoint: Path, processor: CodeBindProcessor) -> None:
    images = AutoImageProcessor.from_pretrained(checkpoint)
    sounds = AutoFeatureExtractor.from_pretrained(checkpoint)
    assert type(images) is CodeBindImageProcessor
    assert type(sounds) is CodeBindAudioFeatureExtractor
    assert images.to_dict() == processor.image_processor.to_dict()
    assert sounds.to_dict() == processor.feature_extractor.to_dict()
    assert AutoTokenizer.from_pretrained(checkpoint)(WORDS) == processor.tokenizer(WORDS)


def test_token_types_are_ignored_and_padding_changes_nothing(
    model: CodeBindModel, processor: CodeBindProcessor
) -> None:
    narrow = processor(text=WORDS)
    wide = processor.tokenizer(WORDS, padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        first, second = (
            model(**inputs, token_type_ids=torch.zeros_like(inputs["input_ids"])).embeds["text"]
            for inputs in (narrow, wide)
        )
    torch.testing.assert_close(first, second)


def test_only_one_modality_has_a_pooled_output(model: CodeBindModel, processor: CodeBindProcessor) -> None:
    one = model(**processor(images=item("image")))
    two = model(**processor(images=item("image"), text="a ring"))
    assert torch.equal(one.pooler_output, one.embeds["image"])
    assert isinstance(one[0], Tensor)
    assert two.pooler_output is None
    assert two.last_hidden_state is None


def test_fields_by_modality_are_dictionaries_with_the_names_of_modalities() -> None:
    fields = ByModality({"image": torch.ones(2), "text": torch.zeros(2)})
    assert list(fields) == ["image", "text"]
    assert fields == {"image": fields["image"], "text": fields["text"]}
    assert fields.get("audio") is None
    with pytest.raises(KeyError, match="audio"):
        fields["audio"]
