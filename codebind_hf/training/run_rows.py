"""The rows of a run: of a manifest, a data set, the paper's benchmarks, or NineSenses."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from codebind_hf.benchmarks import get as get_benchmark
from codebind_hf.data import Manifest, NineSenses
from codebind_hf.data.fingerprints import digest_of, fingerprint
from codebind_hf.data.joined import JoinedRows
from codebind_hf.data.row_tensors import flattened
from codebind_hf.data.sources import TextFromLabel, dataset_rows, dataset_stream
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.training.recipe import modalities_of
from codebind_hf.training.typed_fields import check_mapping, check_names, check_types


SOURCES = ("manifest", "dataset", "nine_senses", "benchmark")


@dataclass
class RunRows:
    """What a run trains and is evaluated on.

    Args:
        training: rows to train on.
        test: rows to evaluate on, or `None`.
        modalities: that the training rows have.
        texts: gives those to train a tokenizer on.
        class_names: if they are known beside the labels.
        name: of the test rows' data set, for the card.
        templates: zero-shot prompts that suit the rows.
        digest: of what the rows are, without reading every file: names, sizes and labels, or arguments of NineSenses.
    """

    training: Any
    test: Any
    modalities: list[str]
    texts: Callable[[], list[str]]
    class_names: list[str] | None
    name: str
    templates: Sequence[str]
    digest: str


def load_rows(data: Mapping[str, Any], added: Sequence[str] = ()) -> RunRows:
    """The rows that `RunSettings.data` names.

    Args:
        added: modalities of one's own that may be columns.

    Raises:
        ValueError: no source or several, an unknown argument, or rows with a fault.
        OSError: a file is missing.
    """
    # NineSenses needs no options: its name alone is a source.
    sources = [name for name in SOURCES if data.get(name) or name == "nine_senses" and name in data]
    if len(sources) != 1:
        found = f"got {' and '.join(sources)}" if sources else "got none"
        raise ValueError(f"`data` needs one of {', '.join(SOURCES)}; {found}.")
    if sources == ["nine_senses"]:
        return _of_nine_senses(check_mapping(data["nine_senses"], "nine_senses"))
    if sources == ["benchmark"]:
        return _of_benchmarks(data)
    name = sources[0]
    is_stream = bool(data.get("streaming"))
    train, test = (
        _read(name, place, data, added) for place in (None if is_stream else data[name], data.get(f"test_{name}"))
    )
    digest = digest_of([fingerprint(rows) for rows in (train, test) if rows is not None])
    if is_stream:
        train = _stream(name, data, added)
        digest = digest_of([data[name], digest])
    present = list(train.modalities) if isinstance(train, StreamedDataset) else modalities_of(train)
    called = Path(data.get(f"test_{name}") or "").name
    return RunRows(train, test, present, partial(texts_of, train), None, called, ["a photo of a {}"], digest)


def _of_benchmarks(data: Mapping[str, Any]) -> RunRows:
    """Training rows alone: `examples/benchmark.py` evaluates, by the benchmark's own metric."""
    names = [data["benchmark"]] if isinstance(data["benchmark"], str) else data["benchmark"]
    root = data.get("root")
    if not root:
        raise ValueError(
            f"root: got none; {' and '.join(names)} is read from a folder. Fix: root under `data`, or --root."
        )
    protocol, backbone = data.get("protocol") or "paper", data.get("backbone") or "ib"
    folders = [Path(root) / name if len(names) > 1 else Path(root) for name in names]
    parts = [
        get_benchmark(name).rows(folder, "train", protocol, backbone)
        for name, folder in zip(names, folders, strict=True)
    ]
    rows: Any = parts[0] if len(parts) == 1 else JoinedRows(parts)
    prompts = get_benchmark(names[0]).prompts(backbone) or ("{}",)
    digest, texts = digest_of([rows.fingerprint]), partial(texts_of, rows)
    return RunRows(rows, None, modalities_of(rows), texts, None, names[0], prompts, digest)


def _stream(source: str, data: Mapping[str, Any], added: Sequence[str]) -> StreamedDataset:
    if source != "dataset":
        raise ValueError(f"streaming: got true with {source}; allowed: with dataset. Fix: leave it out.")
    options = {name: data[name] for name in ("shuffle_buffer",) if data.get(name) is not None}
    return dataset_stream(data["dataset"], data.get("columns"), added, text_from_label=_templates(data), **options)


def _templates(data: Mapping[str, Any]) -> list[str]:
    given = data.get("text_from_label") or []
    return [given] if isinstance(given, str) else list(given)


def _read(source: str, place: str | None, data: Mapping[str, Any], added: Sequence[str]) -> Any:
    if not place:
        return None
    columns = data.get("columns")
    if source == "manifest":
        rows: Any = Manifest(place, columns, added, data.get("encoding")).validate()
    else:
        rows = dataset_rows(place, columns, added)
    templates = _templates(data)
    return TextFromLabel(rows, templates) if templates else rows


def texts_of(rows: Any) -> list[str]:
    """All texts of rows, to train a tokenizer on; rows that know their `texts` are not opened for it."""
    known = getattr(rows, "texts", None)
    return known if known is not None else flattened(row.get("text") for row in rows)


def _of_nine_senses(options: dict[str, Any]) -> RunRows:
    digest = digest_of({"nine_senses": options})
    num_test = options.pop("num_test", None)
    check_types({"num_test": num_test}, {"num_test": int | None}, "nine_senses")
    known = [name for name in inspect.signature(NineSenses).parameters if name not in ("split", "num_rows")]
    check_names(options, known, "nine_senses")
    check_types(options, get_type_hints(NineSenses.__init__), "nine_senses")
    rows = NineSenses("train", **options)
    test = NineSenses("test", rows.world, rows.difficulty, num_rows=num_test, modalities=rows.modalities)
    texts = [template.format(name) for name in rows.class_names for template in rows.templates]
    modalities, names = list(rows.modalities), list(rows.class_names)
    return RunRows(rows, test, modalities, lambda: texts, names, "NineSenses", list(rows.templates), digest)
