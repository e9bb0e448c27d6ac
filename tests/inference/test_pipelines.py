"""Our own pipelines: values against the model called by hand, what may come in, and what is refused."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from common import assert_same, buffers_of, small_config, tiny_model
from pipeline_items import WORDS, item
from torch import Tensor
from transformers import Pipeline, pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import KeyDataset

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.evaluation import class_embeddings
from codebind_hf.inference import Audio, Depth, Sensor
from codebind_hf.inference.pipelines import register_pipelines
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.pipeline_inputs import Gallery
from codebind_hf.processing.pipelines_codebind import PIPELINES, SensorClassificationPipeline


NAMES = ["text", "image", "video", "audio", "depth", "thermal", "tactile", "point_cloud", "eeg", "imu", "radar"]
TEMPLATES = ["a photo of {}.", "this is a photo of {}.", "{}"]
CLASSIFY, EMBED, RETRIEVE = PIPELINES


@pytest.fixture(scope="module")
def make(checkpoint: Path) -> Callable[..., Pipeline]:
    return lambda task, **options: pipeline(task, model=str(checkpoint), device="cpu", **options)


@pytest.fixture(scope="module")
def classify(make: Callable[..., Pipeline]) -> Pipeline:
    return make(CLASSIFY)


@pytest.fixture(scope="module")
def embed(make: Callable[..., Pipeline]) -> Pipeline:
    return make(EMBED)


@pytest.fixture(scope="module")
def retrieve(make: Callable[..., Pipeline]) -> Pipeline:
    return make(RETRIEVE)


def by_hand(
    model: CodeBindModel, processor: CodeBindProcessor, modality: str, value: Any, quantize: bool = True
) -> Tensor:
    """The embedding of one item, from processor and model alone."""
    with torch.no_grad():
        inputs = processor(**{argument_of(modality): [value]})
        return model(**inputs, quantize=quantize).embeds[modality][0]


def mixed(count: int = len(NAMES)) -> list[dict[str, Any]]:
    return [{NAMES[index % len(NAMES)]: item(NAMES[index % len(NAMES)], index)} for index in range(count)]


# Classification


@pytest.mark.parametrize("modality", NAMES)
def test_scores_are_the_softmax_of_scaled_cosines_with_the_mean_prompts(
    classify: Pipeline, model: CodeBindModel, processor: CodeBindProcessor, modality: str
) -> None:
    value = item(modality, 4)
    results = classify(value, WORDS, modality=modality, hypothesis_template=TEMPLATES)
    query = by_hand(model, processor, modality, value)
    scores = {}
    for word in WORDS:
        texts = [by_hand(model, processor, "text", template.replace("{}", word)) for template in TEMPLATES]
        mean = torch.stack([text / text.norm() for text in texts]).mean(0)
        scores[word] = float(model.logit_scale().detach()) * float(query @ mean / mean.norm())
    total = sum(np.exp(score) for score in scores.values())
    expected = {word: float(np.exp(score)) / total for word, score in scores.items()}
    assert {entry["label"]: entry["score"] for entry in results} == pytest.approx(expected, abs=1e-5)
    assert [entry["label"] for entry in results] == sorted(WORDS, key=lambda word: -expected[word])


@pytest.mark.parametrize("quantize", [True, False])
def test_classes_are_those_of_the_evaluation(
    classify: Any, model: CodeBindModel, processor: CodeBindProcessor, quantize: bool
) -> None:
    expected = class_embeddings(model, processor, WORDS, TEMPLATES)
    found = classify.class_embeddings(WORDS, TEMPLATES, quantize)
    torch.testing.assert_close(found, expected.embeds if quantize else expected.continuous_embeds)


@pytest.mark.parametrize("batch_size", [2, 3, 50])
def test_batches_of_mixed_modalities_keep_their_order(classify: Pipeline, batch_size: int) -> None:
    """13 items of 11 modalities: the last batch is short, and modalities repeat."""
    items = mixed(13)
    together = classify(items, WORDS, batch_size=batch_size)
    for one, found in zip(items, together, strict=True):
        alone = classify(one, WORDS)
        assert [entry["label"] for entry in found] == [entry["label"] for entry in alone]
        assert [entry["score"] for entry in found] == pytest.approx([entry["score"] for entry in alone], abs=1e-5)


def test_options_may_be_given_at_construction_and_changed_in_a_call(make: Callable[..., Pipeline]) -> None:
    pipe = make(CLASSIFY, candidate_labels=WORDS, modality="depth", top_k=1, batch_size=2)
    value = item("depth")
    assert len(pipe(value)) == 1
    assert len(pipe(value, top_k=2)) == 2
    assert len(pipe(value, ["a ring", "a bell"], top_k=None)) == 2
    assert pipe([value, value, value]) == [pipe(value)] * 3


def test_equal_labels_in_meaning_keep_their_order(classify: Pipeline) -> None:
    """The tokenizer lower-cases, so the two prompts are one text and the scores tie."""
    results = classify({"depth": item("depth")}, ["A BELL", "a bell"])
    assert [entry["label"] for entry in results] == ["A BELL", "a bell"]
    assert [entry["score"] for entry in results] == [0.5, 0.5]


def test_prompts_are_embedded_once_a_call(classify: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = type(classify).class_embeddings
    monkeypatch.setattr(
        type(classify), "class_embeddings", lambda *given: calls.append(1) or original(*given), raising=True
    )
    classify(mixed(6), WORDS, batch_size=2)
    assert len(calls) == 1
    classify(mixed(2), WORDS)
    assert len(calls) == 2, "weights may have changed"


def test_keywords_of_the_processor_reach_it(classify: Pipeline) -> None:
    metres = item("depth")
    millimetres = (metres * 1000).round().astype(np.uint16)
    options = {"modality": "depth", "processor_kwargs": {"depth_unit": "mm"}}
    found = classify(millimetres, WORDS, **options)
    expected = classify(millimetres.astype(np.float32) / 1000, WORDS, modality="depth")
    assert [entry["score"] for entry in found] == pytest.approx([entry["score"] for entry in expected], abs=1e-5)


def test_a_wrapper_brings_its_modality_and_its_options(make: Callable[..., Pipeline], embed: Pipeline) -> None:
    millimetres = (item("depth") * 1000).round().astype(np.uint16)
    wrapped, sound, radar = Depth(millimetres, unit="mm"), item("audio"), item("radar")
    expected = embed(millimetres, modality="depth", processor_kwargs={"depth_unit": "mm"})
    for found in (embed(wrapped), embed(wrapped, processor_kwargs={"depth_kwargs": {"depth_unit": "m"}})):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(embed(Audio(sound["array"], sampling_rate=16000)), embed({"audio": sound}))
    np.testing.assert_array_equal(embed(Sensor(radar, modality="radar")), embed({"radar": radar}))
    best = make(RETRIEVE, gallery=["a ring", wrapped])({"depth": wrapped})[0]
    assert best == {"index": 1, "score": pytest.approx(1, abs=1e-6), "modality": "depth"}
    with pytest.raises(ValueError, match="item: got 'depth'; allowed: 'audio'"):
        embed(wrapped, modality="audio")
    with pytest.raises(ValueError, match="audio: got an item of 'depth'"):
        embed({"audio": wrapped})


def test_keywords_of_the_processor_reach_the_gallery_too(make: Callable[..., Pipeline]) -> None:
    millimetres = (item("depth") * 1000).round().astype(np.uint16)
    pipe = make(RETRIEVE, modality="depth", gallery_modality="depth", processor_kwargs={"depth_unit": "mm"})
    for gallery in ({"depth": [millimetres]}, [millimetres]):
        assert pipe(millimetres, gallery=gallery)[0]["score"] == pytest.approx(1, abs=1e-6)


# What may come in


def test_iterators_stream(embed: Pipeline) -> None:
    def items() -> Iterator[dict[str, Any]]:
        for index, one in enumerate(mixed(9)):
            drawn.append(index)
            yield one

    for wrap in (lambda source: source, iter, lambda source: map(dict, source)):
        drawn: list[int] = []
        results = iter(embed(wrap(items()), batch_size=2))
        first = next(results)
        assert len(drawn) < 9
        rest = list(results)
        np.testing.assert_allclose([first, *rest], embed(mixed(9)), atol=1e-6)


def test_data_sets_and_sequences_stream(embed: Pipeline) -> None:
    rows = [{"eeg": item("eeg", seed), "label": "a ring", "id": str(seed), "depth": None} for seed in range(3)]
    stored = datasets.Dataset.from_list([{**row, "eeg": row["eeg"].tolist()} for row in rows])
    expected = embed(rows)
    for many in (stored, stored.to_iterable_dataset(), KeyDataset(stored, "eeg"), OldSequence(rows)):
        found = list(embed(many, batch_size=2, modality="eeg"))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(embed(tuple(rows)), expected, atol=1e-6)


class OldSequence:
    """Has a length and positions, and no `__iter__`."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def test_files_are_read(embed: Pipeline, tmp_path: Path) -> None:
    picture = item("image")
    picture.save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", item("radar"))
    files = [{"image": tmp_path / "a.png"}, {"radar": str(tmp_path / "b.npy")}]
    np.testing.assert_array_equal(embed(files), embed([picture, {"radar": item("radar")}]))


def test_strings_and_paths_are_what_they_are_to_encode(embed: Pipeline, tmp_path: Path) -> None:
    item("image").save(tmp_path / "a.png")
    expected = embed(item("image"))
    for value in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(embed(value), expected)
    with pytest.raises(ValueError, match=r"item: got 'b.png', which ends like a file and names none"):
        embed("b.png")
    with pytest.raises(ValueError, match="item: got the URL 'https://example.org/a.png'"):
        embed("https://example.org/a.png")


def test_a_row_of_many_modalities_gives_up_the_one_asked_for(embed: Pipeline) -> None:
    row = {"text": "a ring", "imu": item("imu"), "label": "a ring"}
    np.testing.assert_array_equal(embed(row, modality="imu"), embed({"imu": item("imu")}))
    sound = item("audio")
    np.testing.assert_array_equal(embed(sound, modality="audio"), embed({"audio": sound}))


# Embeddings


@pytest.mark.parametrize("quantize", [True, False])
def test_embeddings_are_those_of_the_model(
    embed: Pipeline, model: CodeBindModel, processor: CodeBindProcessor, quantize: bool
) -> None:
    found = embed(mixed(), quantize=quantize, batch_size=4)
    for one, embedding in zip(mixed(), found, strict=True):
        ((modality, value),) = one.items()
        expected = by_hand(model, processor, modality, value, quantize)
        torch.testing.assert_close(torch.from_numpy(embedding), expected, rtol=1e-5, atol=1e-5)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_codes_give_the_embedding_back(embed: Pipeline, model: CodeBindModel) -> None:
    for one, found in zip(mixed(), embed(mixed(), return_codes=True, output="torch", batch_size=3), strict=True):
        ((modality, _),) = one.items()
        embedding = model.codes_to_embeds(found["codes"][None], modality=modality, part="shared")[0]
        torch.testing.assert_close(embedding, found["embedding"])


def test_outputs_have_the_asked_type(embed: Pipeline) -> None:
    arrays = embed(mixed(2))
    assert all(isinstance(array, np.ndarray) and array.shape == (24,) for array in arrays)
    assert all(isinstance(tensor, Tensor) for tensor in embed(mixed(2), output="torch"))
    assert embed(mixed(2), output="list") == [array.tolist() for array in arrays]
    assert isinstance(embed("a ring", output="list", return_codes=True)["codes"][0], int)


def test_half_precision_gives_float32_unit_vectors_near_those_of_float32(
    make: Callable[..., Pipeline], embed: Pipeline
) -> None:
    half = make(EMBED, dtype=torch.bfloat16, quantize=False)
    assert half.model.dtype == torch.bfloat16
    expected = embed(mixed(), quantize=False)
    for embedding, exact in zip(half(mixed(), batch_size=4), expected, strict=True):
        assert embedding.dtype == np.float32
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)
        assert embedding @ exact > 0.99
    scores = make(CLASSIFY, dtype="bfloat16")({"eeg": item("eeg")}, WORDS)
    assert sum(entry["score"] for entry in scores) == pytest.approx(1, abs=1e-6)


def test_a_model_in_training_is_not_changed(checkpoint: Path, processor: CodeBindProcessor, embed: Pipeline) -> None:
    """Points go through batch norm, whose statistics would move, and whose batch would change the values."""
    model = CodeBindModel.from_pretrained(checkpoint).train()
    before = copy.deepcopy(buffers_of(model))
    pipe = pipeline(EMBED, model=model, processor=processor, device="cpu")
    found = pipe([{"point_cloud": item("point_cloud", seed)} for seed in range(3)], batch_size=3)
    assert model.training
    assert_same(before, buffers_of(model))
    np.testing.assert_allclose(found[0], embed({"point_cloud": item("point_cloud")}), atol=1e-6)


def test_a_checkpoint_without_text_embeds_what_it_has(tmp_path: Path) -> None:
    config = small_config("eeg", "imu")
    pipe = pipeline(
        EMBED, model=tiny_model(config), processor=CodeBindProcessor.from_model_config(config, None), device="cpu"
    )
    assert len(pipe([{"imu": item("imu")}, {"eeg": item("eeg")}], batch_size=2)) == 2
    with pytest.raises(ValueError, match="item: got str .*; allowed: a modality among eeg, imu"):
        pipe("a ring")


# Retrieval


def test_the_closest_items_come_first_with_their_cosines(retrieve: Pipeline, embed: Pipeline) -> None:
    gallery = mixed(20)
    vectors = np.stack(embed(gallery, quantize=False))
    queries = [{"thermal": item("thermal", 30)}, "a bell"]
    results = retrieve(queries, gallery=gallery, quantize=False, top_k=7, batch_size=2)
    for query, found in zip(embed(queries, quantize=False), results, strict=True):
        cosines = vectors @ query
        order = np.argsort(-cosines, kind="stable")[:7]
        assert [entry["index"] for entry in found] == order.tolist()
        assert [entry["score"] for entry in found] == pytest.approx(cosines[order].tolist(), abs=1e-5)
        assert [entry["modality"] for entry in found] == [next(iter(gallery[index])) for index in order]


def test_of_equal_items_the_first_comes_first(retrieve: Pipeline, embed: Pipeline) -> None:
    """Without the distinct embeddings kept once, a matrix product may give equal rows different last bits."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(5, 24)).astype(np.float32)
    rows = generator.integers(0, 5, size=203)
    found = retrieve("a ring", gallery=vectors[rows], top_k=203)
    positions = [entry["index"] for entry in found]
    for row in range(5):
        same = [position for position in positions if rows[position] == row]
        assert same == sorted(same)
    scores = [entry["score"] for entry in found]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 5


def test_a_gallery_of_the_other_kind_is_refused(make: Callable[..., Pipeline]) -> None:
    pipe = make(RETRIEVE, gallery=["a bell", "a ring"])
    assert pipe("a bell", quantize=True)[0]["score"] == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="quantize: got False, and the gallery has quantize=True"):
        pipe("a bell", quantize=False)
    assert pipe("a bell", gallery=["a bell"], quantize=False)[0]["score"] == pytest.approx(1, abs=1e-6)
    gallery = pipe.embed_gallery(["a bell"], quantize=False)
    with pytest.raises(ValueError, match="quantize: got True, and the gallery has quantize=False"):
        pipe("a bell", gallery=gallery)
    assert pipe("a bell", gallery=gallery, quantize=False)[0]["score"] == pytest.approx(1, abs=1e-6)


def test_galleries_of_every_form_give_the_same(retrieve: Any, embed: Pipeline) -> None:
    values = [item("image", seed) for seed in range(4)]
    expected = retrieve("a ring", gallery=values)
    vectors = np.stack(embed(values))
    without_modality = [{name: entry[name] for name in ("index", "score")} for entry in expected]

    def close(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
        return [pytest.approx(entry, abs=1e-6) for entry in wanted] == found

    assert retrieve("a ring", gallery={"image": values}) == expected
    assert retrieve("a ring", gallery=(value for value in values)) == expected
    assert retrieve("a ring", gallery=retrieve.embed_gallery(values, batch_size=3)) == expected
    assert retrieve("a ring", gallery=[{"image": value} for value in values]) == expected
    assert close(retrieve("a ring", gallery=vectors), without_modality)
    assert close(retrieve("a ring", gallery=torch.from_numpy(vectors) * 3), without_modality)
    assert close(retrieve("a ring", gallery=vectors, gallery_modality="image"), expected)
    assert close(retrieve("a ring", gallery={"image": vectors}), expected)


def test_a_gallery_by_modality_is_searched_as_one_or_in_part(retrieve: Pipeline) -> None:
    gallery = {modality: [item(modality, seed) for seed in range(3)] for modality in ("image", "radar", "audio")}
    everything = retrieve("a ring", gallery=gallery, top_k=9)
    assert sorted((entry["modality"], entry["index"]) for entry in everything) == [
        (modality, index) for modality in ("audio", "image", "radar") for index in range(3)
    ]
    part = retrieve("a ring", gallery=gallery, modalities=["radar", "audio"], top_k=50)
    assert part == [entry for entry in everything if entry["modality"] != "image"]
    assert retrieve("a ring", gallery=gallery, modalities="radar", top_k=1) == [
        next(entry for entry in everything if entry["modality"] == "radar")
    ]


def test_a_gallery_given_at_construction_is_embedded_once(
    make: Callable[..., Pipeline], retrieve: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [item("tactile", seed) for seed in range(3)]
    pipe = make(RETRIEVE, gallery=values, gallery_modality="tactile", quantize=False, top_k=2)
    monkeypatch.setattr(type(pipe), "embed_gallery", lambda *given: pytest.fail("embedded again"))
    expected = [{"index": 1, "score": pytest.approx(1, abs=1e-5), "modality": "tactile"}]
    assert pipe(item("tactile", 1), modality="tactile", top_k=1) == expected
    assert len(pipe(["a ring", "a bell"])) == 2


# What is refused


@pytest.mark.parametrize(
    ("task", "inputs", "options", "message"),
    [
        (CLASSIFY, "a ring", {}, "candidate_labels: got None; allowed: a list of labels"),
        (CLASSIFY, "a ring", {"candidate_labels": "a bell"}, r"candidate_labels: got str \('a bell'\).*list"),
        (CLASSIFY, "a ring", {"candidate_labels": []}, "candidate_labels: got an empty list"),
        (CLASSIFY, "a ring", {"candidate_labels": ["a", 3]}, r"candidate_labels\[1\]: got int; allowed: str"),
        (CLASSIFY, "a ring", {"candidate_labels": ["a", "b", "a"]}, "candidate_labels: got 'a' twice"),
        (
            CLASSIFY,
            "a ring",
            {"candidate_labels": ["a"], "hypothesis_template": "a photo"},
            "hypothesis_template: .*{}",
        ),
        (CLASSIFY, "a ring", {"candidate_labels": ["a"], "hypothesis_template": []}, r"hypothesis_template: got \[\]"),
        (CLASSIFY, "a ring", {"candidate_labels": ["a"], "top_k": 0}, "top_k: got 0; allowed: a whole number"),
        (CLASSIFY, "a ring", {"candidate_labels": ["a"], "templates": ["{}"]}, "templates: zero-shot.*no such option"),
        (EMBED, "a ring", {"modality": "smell"}, "modality: got 'smell'; allowed: 'text', 'image'"),
        (EMBED, "a ring", {"output": "tensorflow"}, "output: got 'tensorflow'; allowed: 'numpy', 'torch', 'list'"),
        (EMBED, "a ring", {"processor_kwargs": "mm"}, "processor_kwargs: got str"),
        (EMBED, [], {}, "inputs: got an empty list"),
        (EMBED, np.ones((5, 5)), {}, r"item: got ndarray of shape \(5, 5\).*may be of any modality.*Fix: name it"),
        (EMBED, {"smell": 3}, {}, "item: got a dictionary with keys 'smell'; allowed: one modality among text"),
        (EMBED, {}, {}, r"item: got a dictionary with keys \(none\)"),
        (EMBED, {"text": "a", "eeg": [[1.0]]}, {}, "item: got text and eeg in one item.*Fix: pass modality="),
        (EMBED, [{"text": "a"}, {"depth": np.full((3, 3), np.nan)}], {}, r"inputs\[1\]: depth\[0\]: got 9 NaN"),
        (RETRIEVE, "a ring", {}, "gallery: got None"),
        (RETRIEVE, "a ring", {"gallery": []}, "gallery: got no item"),
        (RETRIEVE, "a ring", {"gallery": {}}, "gallery: got an empty dictionary"),
        (RETRIEVE, "a ring", {"gallery": "a ring"}, "gallery: got str.*put a single item into a list"),
        (RETRIEVE, "a ring", {"gallery": np.ones((2, 7))}, r"gallery: got ndarray of shape \(2, 7\).*\(items, 24\)"),
        (RETRIEVE, "a ring", {"gallery": np.zeros((2, 24))}, "gallery: got a zero vector in row 0"),
        (RETRIEVE, "a ring", {"gallery": np.full((2, 24), np.inf)}, "gallery: got 48 NaN or infinite"),
        (RETRIEVE, "a ring", {"gallery": {"smell": ["a"]}}, "gallery: got 'smell'"),
        (RETRIEVE, "a ring", {"gallery": ["a", {"eeg": 3}]}, r"gallery\[1\]: eeg\[0\]: got"),
        (RETRIEVE, "a ring", {"gallery": ["a"], "modalities": ["eeg"]}, "modalities: got 'eeg'; allowed: 'text'"),
        (RETRIEVE, "a ring", {"gallery": ["a"], "modalities": []}, "modalities: got an empty list"),
        (RETRIEVE, "a ring", {"gallery": ["a"], "top_k": 2.5}, "top_k: got 2.5"),
        (RETRIEVE, "a ring", {"gallery": ["a"], "gallery_modality": "smell"}, "gallery_modality: got 'smell'"),
    ],
)
def test_wrong_calls_are_refused(
    request: pytest.FixtureRequest, task: str, inputs: Any, options: dict[str, Any], message: str
) -> None:
    pipe = request.getfixturevalue({CLASSIFY: "classify", EMBED: "embed", RETRIEVE: "retrieve"}[task])
    with pytest.raises(ValueError, match=message):
        pipe(inputs, **options)


def test_a_missing_file_is_an_os_error_that_names_the_item(embed: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"inputs\[1\]: images\[0\]: .*no such file"):
        embed(["a ring", {"image": tmp_path / "none.png"}])


def test_codes_of_a_model_without_codebook_are_refused() -> None:
    config = small_config("eeg", num_shared_codes=0, align_on="continuous")
    processor = CodeBindProcessor.from_model_config(config, None)
    pipe = pipeline(EMBED, model=tiny_model(config), processor=processor, device="cpu")
    assert pipe({"eeg": item("eeg")}).shape == (24,)
    with pytest.raises(ValueError, match="return_codes: got True, but this model has no shared codebook"):
        pipe({"eeg": item("eeg")}, return_codes=True)


def test_a_pipeline_needs_the_processor(model: CodeBindModel) -> None:
    with pytest.raises(ValueError, match="processor: got None; allowed: a CodeBindProcessor"):
        SensorClassificationPipeline(model=model, device="cpu")


def test_importing_the_package_registers_the_tasks_once(complaints: list[str]) -> None:
    register_pipelines()
    assert set(PIPELINES) <= set(PIPELINE_REGISTRY.get_supported_tasks())
    assert complaints == []


def test_a_gallery_has_a_length() -> None:
    gallery = Gallery(torch.eye(2), torch.tensor([0, 1, 1]), (0, 1, 2), ("text", "text", "eeg"))
    assert len(gallery) == 3
    assert gallery.closest(torch.tensor([0.0, 1.0]), None, 2) == [(1, 1.0), (2, 1.0)]
