"""Rows of the paper end to end on miniatures: each number is computed again from the items that were written down."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import miniatures
import numpy as np
import pytest
import torch
from examples_in_process import run_example
from sklearn.metrics import average_precision_score

from codebind_hf import benchmarks
from codebind_hf.benchmarks import Benchmark
from codebind_hf.benchmarks.depth import NYU_CLASSES
from codebind_hf.evaluation import benchmarking, comparison_table, evaluate_benchmark, write_benchmarks
from codebind_hf.evaluation.benchmarking import fitting_processor
from codebind_hf.training import Recipe, build, save


CopyOf = Callable[[str], Path]
MODALITIES = ["text", "image", "video", "audio", "depth", "thermal", "tactile", "point_cloud", "eeg"]
# These run in `make test`: one with merging, one with several labels, one with captions.
FAST = ("nyu-d", "audioset", "clotho")
TESTED = [name for name in benchmarks.names() if name != "shapenet55"]
each = pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in TESTED]
)


@pytest.fixture(scope="module")
def tiny() -> SimpleNamespace:
    """A model that has learned nothing, for every sense, and its processor."""
    words = [*NYU_CLASSES, *miniatures.ACTIONS, *miniatures.EVENTS, "a photo of the number in the scene", "rain dog"]
    recipe = Recipe(preset="tiny", model={"eeg_config": {"num_channels": 128}}, seed=3)
    model, processor = build(recipe, MODALITIES, words)
    return SimpleNamespace(model=model.eval(), processor=processor)


def short(name: str) -> Benchmark:
    """The benchmark with three templates of each backbone, which is enough for an average."""
    one = benchmarks.get(name)
    return replace(one, templates={backbone: texts[-3:] for backbone, texts in one.templates.items()})


def measure(tiny: SimpleNamespace, one: str | Benchmark, root: Path, **options: Any) -> dict[str, Any]:
    settings = {"partial": True, "draws": 20, "progress": False, "batch_size": 8, **options}
    benchmark = short(one) if isinstance(one, str) else one
    return evaluate_benchmark(tiny.model, tiny.processor, benchmark, root, **settings)


@each
def test_the_number_follows_from_the_items(name: str, tiny: SimpleNamespace, copy_of: CopyOf, tmp_path: Path) -> None:
    one, result = short(name), measure(tiny, name, copy_of(name))
    write_benchmarks([result], tmp_path / "result.json")
    (written,) = json.loads((tmp_path / "result.json").read_text())["results"]
    items = written["items"]
    for metric, cut in zip(one.metric.names, one.metric.at, strict=True):
        if one.metric.kind == "average_precision":
            arrays = np.load(tmp_path / written["arrays"])
            columns = [c for c in range(len(arrays["classes"])) if arrays["relevant"][:, c].any()]
            expected = np.mean(
                [average_precision_score(arrays["relevant"][:, c], arrays["scores"][:, c]) for c in columns]
            )
            named = [[str(arrays["classes"][c]) for c in np.flatnonzero(row)] for row in arrays["relevant"]]
            assert [sorted(item["label"]) for item in items] == [sorted(labels) for labels in named]
        elif one.metric.kind == "recall":
            places = np.array([(item["before"], item["tied"]) for item in items])
            expected = np.mean(np.clip((cut - places[:, 0]) / places[:, 1], 0, 1))
        elif one.metric.folds:
            folds = sorted({item["fold"] for item in items})
            expected = np.mean([np.mean([item[metric] for item in items if item["fold"] == fold]) for fold in folds])
        else:
            expected = np.mean([item[metric] for item in items])
        measured = written["ours"][metric]
        assert measured["value"] == pytest.approx(100 * expected, abs=1e-4)
        assert 0 <= measured["low"] <= measured["high"] <= 100
    if one.metric.kind == "accuracy":
        # An untied item hits at once where its prediction is its label.
        for item in items:
            first = item[one.metric.names[0]]
            assert first == (item["prediction"] == item["label"]) or 0 < first < 1
    assert written["data"]["rows"] == len(one.rows(copy_of(name)))
    assert {"fingerprint", "is_whole"} <= written["data"].keys()
    assert {"seed", "environment", "templates", "processing"} <= written.keys()


@each
def test_the_number_is_that_of_embeddings_made_another_way(name: str, tiny: SimpleNamespace, copy_of: CopyOf) -> None:
    """By `encode`, and cosines in numpy."""
    one = short(name)
    result, rows = measure(tiny, name, copy_of(name)), one.rows(copy_of(name))
    processor = fitting_processor(tiny.processor, one, "paper", "ib")

    def encoded(values: list[Any], modality: str) -> np.ndarray:
        made = tiny.model.encode({modality: values}, processor=processor, batch_size=5)[modality]
        return np.asarray(made, dtype=np.float64)

    items = encoded([row[one.modality] for row in rows], one.modality)
    if one.metric.kind == "recall":
        texts = [(text, place) for place, row in enumerate(rows) for text in row["text"]]
        similarity = encoded([text for text, _ in texts], "text") @ items.T
        own = similarity[np.arange(len(texts)), [place for _, place in texts]][:, None]
        before, tied = (similarity > own + 1e-6).sum(1), (np.abs(similarity - own) <= 1e-6).sum(1)
        expected = np.clip((one.metric.at[0] - before) / tied, 0, 1).mean()
        assert result["ours"]["R@1"]["value"] == pytest.approx(100 * expected)
        return
    names = one.class_names(copy_of(name))
    prototypes = []
    for label in names:
        vectors = encoded([template.replace("{}", label) for template in one.prompts("ib")], "text")
        mean = vectors.mean(0)
        prototypes.append(mean / np.linalg.norm(mean))
    similarity = items @ np.array(prototypes).T
    if one.metric.kind == "average_precision":
        np.testing.assert_allclose(result["arrays"]["scores"], similarity, atol=1e-5)
        return
    merged = one.merged.get("ib", {})
    best = [merged.get(names[c], names[c]) for c in similarity.argmax(1)]
    ties = (similarity >= similarity.max(1, keepdims=True) - 1e-5).sum(1)
    differing = [n for n, item in enumerate(result["items"]) if ties[n] == 1 and item["prediction"] != best[n]]
    assert differing == []


def value(result: dict[str, Any]) -> float:
    return next(iter(result["ours"].values()))["value"]


@pytest.fixture
def steered(tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Replace what the embeddings of a benchmark's items and classes are, to know the right number beforehand."""

    def steer(scores: Any) -> None:
        monkeypatch.setattr(benchmarking.scoring, "cosines", lambda embeds, classes: scores(len(embeds), len(classes)))

    return steer


def test_merging_changes_the_number(tiny: SimpleNamespace, copy_of: CopyOf, steered: Callable[[Any], None]) -> None:
    """Every room is taken for a foyer: right for all that count as other, wrong without merging but for foyers."""
    steered(lambda items, classes: np.tile(np.eye(classes)[NYU_CLASSES.index("foyer")], (items, 1)))
    result = measure(tiny, "nyu-d", copy_of("nyu-d"))
    labels = benchmarks.get("nyu-d").rows(copy_of("nyu-d")).column("label")
    others = [label in ("study", "study room", "playroom", "cafe", "foyer") for label in labels]
    assert value(result) == pytest.approx(100 * np.mean(others))
    assert {item["prediction"] for item in result["items"]} == {"other"}
    unmerged = measure(tiny, replace(short("nyu-d"), merged={}), copy_of("nyu-d"))
    assert value(unmerged) == pytest.approx(100 * labels.count("foyer") / len(labels))
    assert value(unmerged) < value(result)


def test_vitlens_prompts_only_the_rooms_that_are_there(tiny: SimpleNamespace, copy_of: CopyOf) -> None:
    seen = []
    original = benchmarking.class_embeddings

    def noting(model: Any, processor: Any, names: Any, templates: Any) -> Any:
        seen.append((tuple(names), tuple(templates)))
        return original(model, processor, names, templates)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarking, "class_embeddings", noting)
        for backbone in ("ib", "vl"):
            measure(tiny, "nyu-d", copy_of("nyu-d"), backbone=backbone)
    (all_names, clip), (names, scenes) = seen
    assert all_names == NYU_CLASSES
    assert set(names) == set(benchmarks.get("nyu-d").rows(copy_of("nyu-d")).column("label"))
    assert (clip, scenes) == (short("nyu-d").prompts("ib"), short("nyu-d").prompts("vl"))


def test_another_prompt_split_and_protocol_change_the_scores(tiny: SimpleNamespace, copy_of: CopyOf) -> None:
    results = [measure(tiny, "audioset", copy_of("audioset"), backbone=backbone) for backbone in ("ib", "vl")]
    assert np.abs(results[0]["arrays"]["scores"] - results[1]["arrays"]["scores"]).max() > 1e-4
    trained = measure(tiny, "audioset", copy_of("audioset"), split="train")
    assert trained["data"]["fingerprint"] != results[0]["data"]["fingerprint"]
    assert value(trained) != value(results[0])
    joined, apart = (measure(tiny, "clotho", copy_of("clotho"), protocol=name) for name in ("paper", "sound"))
    assert (len(joined["items"]), len(apart["items"])) == (6, 30)
    assert joined["ours"] != apart["ours"]


def test_names_of_a_class_are_shown_and_averaged(tiny: SimpleNamespace, copy_of: CopyOf) -> None:
    seen: list[tuple[str, ...]] = []
    original = benchmarking.class_embeddings

    def noting(model: Any, processor: Any, names: Any, templates: Any) -> Any:
        seen.append(tuple(names))
        return original(model, processor, names, templates)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarking, "class_embeddings", noting)
        task = benchmarking._Task(tiny.model, tiny.processor, short("llvip"), Path("."), "sound", "ib")
        two = task._prototypes(("person", "background"), "continuous_embeds")
    assert seen == [("person", "man", "woman", "people", "street", "road", "car", "light", "tree")]
    parts = original(tiny.model, tiny.processor, seen[0], short("llvip").prompts()).continuous_embeds
    expected = torch.stack([parts[:4].mean(0), parts[4:].mean(0)])
    torch.testing.assert_close(two, torch.nn.functional.normalize(expected, dim=1))


def test_the_authors_clips_are_the_papers_only(tiny: SimpleNamespace) -> None:
    one = benchmarks.get("clotho")
    counts = {
        (protocol, backbone): fitting_processor(tiny.processor, one, protocol, backbone).part("audio").num_clips
        for protocol in ("paper", "sound")
        for backbone in ("ib", "vl")
    }
    own = tiny.processor.part("audio").num_clips
    assert counts == {("paper", "ib"): 1, ("paper", "vl"): 6, ("sound", "ib"): own, ("sound", "vl"): own}


def test_depth_is_in_metres_whatever_the_checkpoint_was_trained_on(tiny: SimpleNamespace) -> None:
    part = tiny.processor.depth_image_processor
    tiny.processor.depth_image_processor = part.with_parameters(depth_unit=1 / 8000)
    try:
        fitting = fitting_processor(tiny.processor, benchmarks.get("sun-d"), "paper", "ib")
        assert fitting.part("depth").depth_unit is None
        assert tiny.processor.part("depth").depth_unit == 1 / 8000
    finally:
        tiny.processor.depth_image_processor = part


def test_an_unreadable_item_stops_or_is_listed(tiny: SimpleNamespace, tmp_path: Path) -> None:
    root = miniatures.make("clotho", tmp_path / "clotho")
    (root / "evaluation/evaluation 2.wav").write_bytes(b"no sound")
    with pytest.raises(OSError, match="evaluation 2"):
        measure(tiny, "clotho", root)
    result = measure(tiny, "clotho", root, on_error="skip")
    assert [failure["position"] for failure in result["failures"]] == [2]
    assert [item["id"] for item in result["items"]] == [f"evaluation {n}" for n in (0, 1, 3, 4, 5)]
    assert not result["data"]["is_whole"]


def test_a_limit_is_said(tiny: SimpleNamespace, copy_of: CopyOf) -> None:
    result = measure(tiny, "nyu-d", copy_of("nyu-d"), limit=4)
    assert (result["data"]["rows"], result["data"]["limit"], result["data"]["is_whole"]) == (4, 4, False)
    assert "4 of a part" in comparison_table([result])


def test_what_cannot_be_measured_is_refused(tiny: SimpleNamespace, copy_of: CopyOf) -> None:
    with pytest.raises(ValueError, match="only for training; evaluate on modelnet40"):
        measure(tiny, "shapenet55", copy_of("shapenet55"))
    deaf = SimpleNamespace(config=SimpleNamespace(modalities=dict.fromkeys(("text", "image"))))
    with pytest.raises(ValueError, match="needs audio, but this model has text, image"):
        evaluate_benchmark(deaf, tiny.processor, benchmarks.get("clotho"), copy_of("clotho"))  # type: ignore[arg-type]


def test_the_table_has_the_papers_number_ours_and_the_difference(tiny: SimpleNamespace, copy_of: CopyOf) -> None:
    result = measure(tiny, "clotho", copy_of("clotho"), backbone="vl")
    result["ours"] = {
        "R@1": {"value": 10.0, "low": 8.04, "high": 12.0},
        "R@10": {"value": 30.0, "low": 29, "high": 31},
    }
    first, second = comparison_table([result]).splitlines()[2:]
    assert first.startswith("| Clotho | paper | R@1 | 8.5 | 10.0 (8.0 to 12.0) | +1.5 |")
    assert second.startswith("| Clotho | paper | R@10 | 32.8 | 30.0 (29.0 to 31.0) | -2.8 |")


def test_the_command_checks_evaluates_and_lists(tiny: SimpleNamespace, copy_of: CopyOf, tmp_path: Path) -> None:
    listed = run_example("benchmark", "--list")
    assert listed.returncode == 0
    assert all(f"| {name} |" in listed.stdout for name in benchmarks.names())
    root = copy_of("tag-hs")
    checked = run_example("benchmark", "tag-hs", "--root", root, "--check", "--partial")
    assert "Touch and Go, hard or soft: 11 rows of test, a part" in checked.stdout
    refused = run_example("benchmark", "tag-hs", "--root", root, "--check")
    assert refused.returncode == 1
    assert "name 11 rows for 'test'; expected: 29879" in refused.stderr
    save(tiny.model, tiny.processor, tmp_path / "checkpoint")
    (tmp_path / "data").mkdir()
    for name in ("tag-hs", "clotho"):
        (tmp_path / "data" / name).symlink_to(copy_of(name))
    done = run_example(
        *("benchmark", "tag-hs", "clotho", "--root", tmp_path / "data", "--checkpoint", tmp_path / "checkpoint"),
        *("--partial", "--draws", 10, "--output", tmp_path / "numbers.json"),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "numbers.json").read_text())["results"]
    assert [result["benchmark"] for result in results] == ["tag-hs", "clotho"]
    assert all(len(result["checkpoint_sha256"]) == 64 for result in results)
    assert results[1]["ours"] == measure(tiny, "clotho", copy_of("clotho"), draws=10, batch_size=64)["ours"]
    table = (tmp_path / "numbers.md").read_text()
    assert table in done.stdout
    assert "| Touch and Go, hard or soft | paper | top-1 | 83.9 |" in table
