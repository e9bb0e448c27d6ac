import contextlib
import io
import itertools
import json
import math
import multiprocessing
import re
import shutil
import socket
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.metrics import accuracy_score, average_precision_score, mutual_info_score, top_k_accuracy_score

from codebind_hf.evaluation import (
    codebook_health,
    load_metric,
    mean_average_precision,
    metric_path,
    retrieval_recall,
    zero_shot_accuracy,
)


ROOT = Path(__file__).parents[2]
MODULES = ROOT / "codebind_hf" / "evaluation" / "metric_modules"
NAMES = ("codebook_health", "mean_average_precision", "retrieval_recall", "zero_shot_accuracy")
WITH_REFERENCES = [name for name in NAMES if name != "codebook_health"]


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `evaluate` copies scripts and keeps rows: never the user's own caches."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", folder / "metrics")
        yield folder


def parts(name: str, rows: int = 9, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Inputs with many ties, the keywords of `compute`, and what the function of the same name says of them."""
    rng = np.random.default_rng(seed)
    if name == "codebook_health":
        ids = rng.integers(0, 11, (rows, 4))
        return {"predictions": ids}, {"num_codes": 16}, codebook_health(ids, 16)
    if name == "mean_average_precision":
        scores = rng.integers(0, 4, (rows, 7)) / 3
        relevant = rng.random((rows, 7)) < 0.4
        value = mean_average_precision(scores, relevant)
        return {"predictions": scores, "references": relevant}, {}, {name: value}
    query, target = quantized(rng, rows), quantized(rng, rows)
    if name == "retrieval_recall":
        return (
            {"predictions": query, "references": target},
            {"k": (1, 2, 5)},
            retrieval_recall(query, target, (1, 2, 5)),
        )
    classes, labels = target[:5], rng.integers(0, 5, rows)
    value = zero_shot_accuracy(query, classes, labels, top_k=2)
    return {"predictions": query, "references": labels}, {"class_embeds": classes, "top_k": 2}, {name: value}


def quantized(rng: np.random.Generator, rows: int) -> np.ndarray:
    codes = rng.standard_normal((2, 3)) * [[1.0], [0.3]]
    return codes[rng.integers(0, 2, (rows, 2))].reshape(rows, -1)


def by_rows(metric: evaluate.Metric, inputs: dict[str, Any]) -> dict[str, Any]:
    for row in zip(*inputs.values(), strict=True):
        metric.add(**dict(zip([name.removesuffix("s") for name in inputs], row, strict=True)))
    return {}


def by_batches(metric: evaluate.Metric, inputs: dict[str, Any]) -> dict[str, Any]:
    for rows in (slice(0, 4), slice(4, 4), slice(4, None)):
        metric.add_batch(**{name: values[rows] for name, values in inputs.items()})
    return {}


def by_both(metric: evaluate.Metric, inputs: dict[str, Any]) -> dict[str, Any]:
    by_rows(metric, {name: torch.as_tensor(values[:3]) for name, values in inputs.items()})
    metric.add_batch(**{name: values[3:6].tolist() for name, values in inputs.items()})
    return {name: list(map(torch.as_tensor, values[6:])) for name, values in inputs.items()}


def at_once(metric: evaluate.Metric, inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("add", [by_rows, by_batches, by_both, at_once])
@pytest.mark.parametrize("name", NAMES)
def test_a_metric_equals_its_function_bit_for_bit(
    name: str, add: Callable[[evaluate.Metric, dict[str, Any]], dict[str, Any]], in_memory: bool
) -> None:
    metric = load_metric(name, keep_in_memory=in_memory)
    for seed in (0, 1):  # the second round shows that nothing of the first is left
        inputs, keywords, expected = parts(name, seed=seed)
        rest = add(metric, inputs)
        value = metric.compute(**rest, **keywords)
        assert value == expected
        assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_of_the_folder_loads_without_the_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = tmp_path / name
    shutil.copytree(metric_path(name), folder)
    script = folder / f"{name}.py"
    script.write_text(script.read_text() + "\n\nCOPIED = True\n")  # another text, so that no earlier copy is taken
    inputs, keywords, expected = parts(name)
    for path in (folder, script):
        metric = evaluate.load(str(path), experiment_id="copied")
        module = sys.modules[type(metric).__module__]
        assert module.COPIED
        assert not Path(str(module.__file__)).is_relative_to(ROOT)
        assert metric.compute(**inputs, **keywords) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_says_what_it_is(name: str) -> None:
    metric = evaluate.load(metric_path(name))
    assert isinstance(metric, evaluate.Metric)
    assert (metric.name, metric.module_type) == (name, "metric")
    assert "float" not in str(metric.features).replace("float64", "")  # narrower ones would round
    assert metric.description
    assert metric.reference_urls
    assert ("CodeBind" in metric.citation) == (name != "mean_average_precision")
    assert all(argument in str(metric.compute.__doc__) for argument in ("predictions (", *parts(name)[1]))


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("how", ["tensor", "array", "list"])
def test_every_bit_of_a_float_reaches_the_function(
    dtype: torch.dtype, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = torch.finfo(dtype)
    special = [info.max, info.tiny, info.smallest_normal * info.eps, info.eps, -0.0, 1 + info.eps, 1 / 3, -info.max]
    rows = torch.cat([torch.tensor(special, dtype=torch.float64), torch.randn(1016).double()]).reshape(8, 128)
    rows = rows.to(dtype)
    given = rows if dtype == torch.bfloat16 else {"tensor": rows, "array": rows.numpy(), "list": rows.tolist()}[how]
    metric = load_metric("retrieval_recall")
    seen = {}

    def record(query: np.ndarray, gallery: np.ndarray, k: Any) -> dict[str, float]:
        seen.update(query=query, gallery=gallery)
        return {}

    monkeypatch.setattr(sys.modules[type(metric).__module__], "retrieval_recall", record)
    metric.add(prediction=given[0], reference=given[0])
    metric.add_batch(predictions=given[1:], references=given[1:])
    metric.compute()
    for found in (seen["query"], seen["gallery"]):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found.view(np.int64), rows.double().numpy().view(np.int64))


def test_inputs_that_single_precision_would_round_keep_their_order() -> None:
    # The match of either query is nearer by 1.004e-6; between the same rows in single precision lie 0.993e-6, a tie.
    query = np.array([[-1.0, 1.0], [1.0, -1.0]])
    gallery = np.array([[1.2, 1.2 + 2.41e-6], [1.2, 1.2]])
    assert retrieval_recall(query, gallery.astype(np.float32), k=[1]) == {"recall_at_1": 0.5}
    assert load_metric("retrieval_recall").compute(predictions=query, references=gallery, k=1) == {"recall_at_1": 1.0}


def test_columns_of_a_data_set_are_inputs() -> None:
    inputs, keywords, expected = parts("zero_shot_accuracy")
    rows = Dataset.from_dict({name: values.tolist() for name, values in inputs.items()})
    metric = load_metric("zero_shot_accuracy")
    assert metric.compute(predictions=rows["predictions"], references=rows["references"], **keywords) == expected


def naive_recall(query: np.ndarray, gallery: np.ndarray, k: int) -> float:
    """Mean over queries and over all orders in which ties may be broken."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery)]
    table = np.round(unit[0] @ unit[1].T, 9)
    orders = list(itertools.permutations(range(len(gallery))))
    hits = [i in sorted(order, key=lambda j: -row[j])[:k] for i, row in enumerate(table) for order in orders]
    return float(np.mean(hits))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_recall_with_ties_is_the_mean_over_all_ways_to_break_them(k: int) -> None:
    inputs, _, _ = parts("retrieval_recall", rows=6)
    value = load_metric("retrieval_recall").compute(**inputs, k=k)
    expected = naive_recall(inputs["predictions"], inputs["references"], k)
    assert value == {f"recall_at_{k}": pytest.approx(expected, abs=1e-12)}


def naive_average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Precision at the threshold of each relevant item, averaged over these items."""
    precisions = [relevant[scores >= score].mean() for score in scores[relevant]]
    return float(np.mean(precisions))


@pytest.mark.parametrize("average", ["samples", "macro"])
def test_average_precision_with_ties_equals_a_count_and_scikit_learn(average: str) -> None:
    rng = np.random.default_rng(2)
    scores, relevant = rng.integers(0, 4, (9, 7)) / 3, rng.random((9, 7)) < 0.3
    relevant[range(9), [*range(7), 0, 1]] = True  # every row and every column has something to find
    metric = load_metric("mean_average_precision")
    value = metric.compute(predictions=scores, references=relevant, average=average)["mean_average_precision"]
    rows = zip(scores, relevant, strict=True) if average == "samples" else zip(scores.T, relevant.T, strict=True)
    assert value == pytest.approx(np.mean([naive_average_precision(*row) for row in rows]), abs=1e-12)
    assert value == pytest.approx(average_precision_score(relevant, scores, average=average), abs=1e-12)
    other = average_precision_score(relevant, scores, average="macro" if average == "samples" else "samples")
    assert value != pytest.approx(other, abs=1e-3)


def test_accuracies_without_ties_equal_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    items, classes, labels = rng.standard_normal((60, 8)), rng.standard_normal((7, 8)), rng.integers(0, 7, 60)
    cosines = items @ (classes / np.linalg.norm(classes, axis=1, keepdims=True)).T
    metric = load_metric("zero_shot_accuracy")
    for top_k in (1, 3):
        value = metric.compute(predictions=items, references=labels, class_embeds=classes, top_k=top_k)
        known = top_k_accuracy_score(labels, cosines, k=top_k, labels=range(7))
        assert value == {"zero_shot_accuracy": pytest.approx(known, abs=1e-12)}
    known = accuracy_score(labels, cosines.argmax(1))
    assert metric.compute(predictions=items, references=labels, class_embeds=classes)["zero_shot_accuracy"] == known
    gallery = items + 2 * rng.standard_normal(items.shape)
    cosines = items @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T
    value = load_metric("retrieval_recall").compute(predictions=items, references=gallery, k=[1, 4])
    assert value == {f"recall_at_{k}": top_k_accuracy_score(range(60), cosines, k=k) for k in (1, 4)}


def test_a_class_that_ties_counts_half() -> None:
    metric = load_metric("zero_shot_accuracy")
    metric.add_batch(predictions=[[1, 0], [0, 1]], references=[0, 2])
    # The first item ties with two classes, of which one is right; the second has its class alone.
    assert metric.compute(class_embeds=[[2, 0], [1, 0], [0, 1]]) == {"zero_shot_accuracy": 0.75}


def test_perplexity_is_the_exponential_of_the_entropy_of_all_rows_whatever_their_shape() -> None:
    metric = load_metric("codebook_health")
    metric.add_batch(predictions=[[3, 3, 1], [], [0]])
    metric.add_batch(predictions=torch.tensor([2, 3]))
    metric.add_batch(predictions=np.array([[[5, 6], [3, 1]]], dtype=np.int16))
    metric.add(prediction=4)
    ids = [3, 3, 1, 0, 2, 3, 5, 6, 3, 1, 4]
    value = metric.compute(num_codes=9)
    assert value == codebook_health(ids, 9)
    counts = Counter(ids).values()
    entropy = -sum(count / len(ids) * math.log(count / len(ids)) for count in counts)
    assert value["perplexity"] == pytest.approx(math.exp(entropy), abs=1e-12)
    assert value["perplexity"] == pytest.approx(math.exp(mutual_info_score(ids, ids)), abs=1e-12)
    assert (value["usage"], value["dead"]) == (7 / 9, 2)


def test_with_a_gallery_several_queries_may_share_a_match() -> None:
    rng = np.random.default_rng(5)
    gallery, matches = rng.standard_normal((6, 4)), np.array([0, 0, 3, 5, 3, 1, 0])
    query = gallery[matches] + rng.standard_normal((7, 4))
    metric = load_metric("retrieval_recall", "gallery")
    metric.add(prediction=query[0], reference=matches[0])
    metric.add_batch(predictions=query[1:], references=matches[1:])
    assert metric.compute(gallery=gallery, k=[1, 3]) == retrieval_recall(query, gallery, [1, 3], matches)


def test_metrics_combine() -> None:
    inputs, _, _ = parts("retrieval_recall")
    half = {name: values[:, :3] for name, values in inputs.items()}
    both = evaluate.combine({"one": metric_path("retrieval_recall"), "two": load_metric("retrieval_recall")})
    value = both.compute(**half)
    assert value == {
        f"{name}_{key}": share for name in ("one", "two") for key, share in retrieval_recall(*half.values()).items()
    }


def shared_place(process: int, folder: Path) -> dict[str, Any]:
    place = {"num_process": 2, "process_id": process, "experiment_id": "shared", "cache_dir": str(folder)}
    return {**place, "timeout": 60}


def add_the_last_rows(folder: Path) -> None:
    """What the other of two processes does: rows 4 to 8 of the first metric, and nothing of the second."""
    inputs, _, _ = parts("retrieval_recall")
    recall = load_metric("retrieval_recall", **shared_place(1, folder))
    by_rows(recall, {name: values[4:6] for name, values in inputs.items()})
    recall.add_batch(**{name: values[6:] for name, values in inputs.items()})
    assert recall.compute() is None
    precision = load_metric("mean_average_precision", **shared_place(1, folder))
    assert precision.compute(predictions=[], references=[]) is None


def test_two_processes_give_the_value_of_one(tmp_path: Path) -> None:
    # A fork, because a fresh process would spend many seconds on imports.
    other = multiprocessing.get_context("fork").Process(target=add_the_last_rows, args=(tmp_path,), daemon=True)
    other.start()
    inputs, _, _ = parts("retrieval_recall")
    recall = load_metric("retrieval_recall", **shared_place(0, tmp_path))
    recall.add_batch(**{name: values[:4] for name, values in inputs.items()})
    assert recall.compute() == retrieval_recall(*inputs.values())
    inputs, _, expected = parts("mean_average_precision")
    precision = load_metric("mean_average_precision", **shared_place(0, tmp_path))
    assert precision.compute(**inputs) == expected
    other.join(timeout=60)
    assert other.exitcode == 0


def test_only_metric_modules_import_evaluate_at_once() -> None:
    """It takes seconds, so it waits until a metric is asked for."""
    at_once = re.compile(r"^(from|import) (evaluate\b|.*metric_modules)", re.MULTILINE)
    modules = list((ROOT / "codebind_hf").rglob("*.py"))
    found = [path for path in modules if at_once.search(path.read_text())]
    assert {path.parent.name for path in found} == {MODULES.name, *NAMES}


ROWS, NUMBERS = [[1.0, 0.0], [0.0, 1.0]], [0, 1]
REFUSED = [
    ("retrieval_recall", {"predictions": [1.0, 2.0], "references": ROWS}, r"^predictions: got shape \(2,\)"),
    ("retrieval_recall", {"predictions": [[1.0], [1.0, 2.0]], "references": ROWS}, "^predictions: got no rows of"),
    ("retrieval_recall", {"predictions": ROWS, "references": ROWS[:1]}, "^predictions, references: got 2 and 1 rows"),
    ("retrieval_recall", {"predictions": ROWS}, "^references: missing; retrieval_recall takes predictions and ref"),
    ("retrieval_recall", {"predictions": ROWS, "references": NUMBERS}, r"^references: got shape \(2,\)"),
    ("mean_average_precision", {"predictions": ROWS, "references": NUMBERS}, r"^references: got shape \(2,\)"),
    ("mean_average_precision", {"predictions": [["a"]], "references": [[1]]}, "^predictions: got no rows of numbers"),
    ("zero_shot_accuracy", {"predictions": ROWS, "references": [0, 1.7]}, "^references: got float64"),
    ("zero_shot_accuracy", {"predictions": ROWS, "references": [True, False]}, "^references: got bool"),
    ("zero_shot_accuracy", {"predictions": ROWS, "references": ["0", "1"]}, "^references: got <U1"),
    (
        "zero_shot_accuracy",
        {"predictions": ROWS, "references": [[0], [1]]},
        r"^references: got int64 of shape \(2, 1\)",
    ),
    ("codebook_health", {"predictions": [[0, 1.5]]}, "^predictions: got float64; code ids are integers"),
    ("codebook_health", {"predictions": 3}, "^predictions: got 3; give one entry for each row"),
    ("codebook_health", {"predictions": [[0]], "codes": [[0]]}, "Bad inputs for evaluation module: .'codes'."),
]


@pytest.mark.parametrize(("name", "batch", "message"), REFUSED)
def test_a_wrong_batch_is_refused_when_it_is_added_and_nothing_else_is_lost(
    name: str, batch: dict[str, Any], message: str
) -> None:
    inputs, keywords, expected = parts(name)
    metric = load_metric(name, keep_in_memory=True)
    metric.add_batch(**{key: values[:5] for key, values in inputs.items()})
    with pytest.raises(ValueError, match=message):
        metric.add_batch(**batch)
    metric.add_batch(**{key: values[5:] for key, values in inputs.items()})
    assert metric.compute(**keywords) == expected


@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_a_wrong_row_is_refused(name: str) -> None:
    metric = load_metric(name, keep_in_memory=True)
    with pytest.raises(ValueError, match="^references: missing"):
        metric.add(prediction=[1.0, 2.0])
    with pytest.raises(ValueError, match="^predictions: got shape"):
        metric.add(prediction=1.0, reference=0)


AT_COMPUTE = [
    ("retrieval_recall", "default", {"references": ROWS}, {"k": 0}, "^k: got .0.; give whole numbers"),
    ("retrieval_recall", "default", {"references": ROWS}, {"gallery": ROWS}, "^gallery: only the configuration"),
    ("retrieval_recall", "default", {"references": [[1.0], [1.0]]}, {}, "^embeddings: got widths 2 and 1"),
    ("retrieval_recall", "default", {"references": [[1.0, math.nan], [1.0, 1.0]]}, {}, "^gallery: got NaN"),
    ("retrieval_recall", "gallery", {"references": [0, 2]}, {"gallery": ROWS}, "^targets: got values from 0 to 2"),
    ("mean_average_precision", None, {"references": [[0, 0], [0, 0]]}, {}, "^relevant: no row has a relevant item"),
    ("mean_average_precision", None, {"references": [[1], [0]]}, {}, "^scores, relevant: got shapes"),
    ("mean_average_precision", None, {"references": ROWS}, {"average": "micro"}, "^average: got 'micro'"),
    ("zero_shot_accuracy", None, {"references": [0, -1]}, {"class_embeds": ROWS}, "^labels: got values from -1"),
    ("zero_shot_accuracy", None, {"references": [0, 1]}, {"class_embeds": [1, 0]}, "^class_embeds: got shape"),
]


@pytest.mark.parametrize(("name", "config_name", "references", "keywords", "message"), AT_COMPUTE)
def test_what_only_all_rows_together_show_is_refused_by_compute(
    name: str, config_name: str | None, references: dict[str, Any], keywords: dict[str, Any], message: str
) -> None:
    metric = load_metric(name, config_name, keep_in_memory=True)
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=ROWS, **references, **keywords)


def test_batches_that_do_not_fit_together_are_refused_by_compute() -> None:
    metric = load_metric("retrieval_recall", keep_in_memory=True)
    metric.add_batch(predictions=ROWS, references=ROWS)
    metric.add_batch(predictions=[[1.0]], references=[[1.0]])
    with pytest.raises(ValueError, match="^predictions: got no rows of numbers of one length"):
        metric.compute()


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_at_all_are_refused(name: str) -> None:
    _, keywords, _ = parts(name)
    metric = load_metric(name, keep_in_memory=True)
    metric.add_batch(predictions=[], references=[])
    with pytest.raises(ValueError, match=r"shape \(0|no row has"):
        metric.compute(**keywords)


@pytest.mark.parametrize(
    ("name", "config_name", "missing"),
    [
        ("zero_shot_accuracy", None, "class_embeds"),
        ("codebook_health", None, "num_codes"),
        ("retrieval_recall", "gallery", "gallery"),
    ],
)
def test_a_forgotten_argument_costs_no_rows(name: str, config_name: str | None, missing: str) -> None:
    metric = load_metric(name, config_name, keep_in_memory=True)
    metric.add_batch(predictions=[[1, 0], [0, 1]], references=NUMBERS)
    with pytest.raises(ValueError, match=rf"^{missing}: missing; {name} needs it: compute\({missing}=...\)"):
        metric.compute()
    value = metric.compute(**{missing: 2 if missing == "num_codes" else ROWS})
    assert 1.0 in value.values()


def test_after_an_error_of_compute_a_metric_begins_anew() -> None:
    inputs, keywords, expected = parts("retrieval_recall")
    metric = load_metric("retrieval_recall", experiment_id="anew")
    with pytest.raises(ValueError, match="^k: got"):
        metric.compute(predictions=ROWS, references=ROWS, k=[])
    assert metric.compute(**inputs, **keywords) == expected


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=f"^name: got 'accuracy'; the metrics are {', '.join(NAMES)}."):
        load_metric("accuracy")
    with pytest.raises(ValueError, match="^name: got '.'"):
        metric_path(".")
    with pytest.raises(ValueError, match="^config_name: got 'pairs'; it must be one of default, gallery"):
        load_metric("retrieval_recall", "pairs")


@pytest.mark.parametrize(
    "page",
    [ROOT / "docs/metrics.md", *(MODULES / name / "README.md" for name in NAMES)],
    ids=lambda page: page.parent.name,
)
def test_the_examples_of_a_page_print_what_it_says(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(page), "exec"), {"__name__": "page"})
        assert printed.getvalue().splitlines() == re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_the_wheel_gets_script_and_card(name: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = [path for glob in settings["package-data"]["codebind_hf"] for path in MODULES.parents[1].glob(glob)]
    assert MODULES / name / "README.md" in shipped
    # setuptools takes scripts only from packages.
    assert (MODULES / name / "__init__.py").is_file()
    assert (MODULES / name / f"{name}.py").is_file()
