"""The rows of a run: of a manifest, a data set, the paper's benchmarks, or NineSenses."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from codebind_hf.benchmarks import get as get_benchmark
from codebind_hf.benchmarks.choices import BACKBONES, PROTOCOLS
from codebind_hf.benchmarks.registry import for_all
from codebind_hf.data import Manifest, NineSenses
from codebind_hf.data.choices import LOADINGS
from codebind_hf.data.fingerprints import digest_of, fingerprint
from codebind_hf.data.joined import JoinedRows
from codebind_hf.data.row_tensors import check_templates, flattened
from codebind_hf.data.sources import TextFromLabel, dataset_rows, dataset_stream
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.processing.values import LIMITS, check_choice, check_number, shown
from codebind_hf.training.recipe import modalities_of
from codebind_hf.training.typed_fields import check_mapping, check_names, check_types


SOURCES = ("manifest", "dataset", "nine_senses", "benchmark")
# What `data` may hold, and of what type.
DATA_KEYS: dict[str, Any] = {
    **dict.fromkeys(("manifest", "test_manifest", "dataset", "test_dataset", "encoding"), str | None),
    **dict.fromkeys(("root", "protocol", "backbone"), str | None),
    "benchmark": str | list[str] | None,
    "nine_senses": Mapping[str, Any] | None,
    "columns": Mapping[str, str] | None,
    "text_from_label": str | list[str] | None,
    "loading": str | None,
    "preprocessing_num_workers": int | None,
    "streaming": bool | None,
    "shuffle_buffer": int | None,
}
# With which sources an option says something.
_SOURCES_OF = {
    **dict.fromkeys(("columns", "text_from_label"), ("manifest", "dataset")),
    **dict.fromkeys(("root", "protocol", "backbone"), ("benchmark",)),
    **{"encoding": ("manifest",), "test_manifest": ("manifest",), "test_dataset": ("dataset",)},
    **{"streaming": ("dataset",), "shuffle_buffer": ("dataset",)},
}
_TABLES_OF_TEXT = (".csv", ".tsv")
# Of classes, where nothing is known of how texts name them.
DEFAULT_PROMPT = "a photo of a {}"


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


def check_data(data: Mapping[str, Any]) -> None:
    """Refuse what rows cannot be made of, and options that would have no effect, before anything is read.

    Raises:
        ValueError: an unknown key, a value of another type or that is not allowed, or an idle option.
    """
    check_names(data, list(DATA_KEYS), "data")
    check_types(data, DATA_KEYS, "data")
    given = {name: value for name, value in data.items() if value is not None and value is not False}
    check_choice("loading", given.get("loading", LOADINGS[0]), LOADINGS)
    check_choice("protocol", given.get("protocol", PROTOCOLS[0]), PROTOCOLS)
    check_choice("backbone", given.get("backbone", BACKBONES[0]), BACKBONES)
    workers = given.get("preprocessing_num_workers", 0)
    check_number("preprocessing_num_workers", workers, 0, whole=True, most=LIMITS.workers)
    check_number("shuffle_buffer", given.get("shuffle_buffer", 0), 0, whole=True)
    check_templates(_templates(data))
    sources = _sources(data)
    if len(sources) != 1:
        # Whoever reads rows says so.
        return
    for name, allowed in _SOURCES_OF.items():
        if name in given and sources[0] not in allowed:
            _refuse_idle(name, given[name], sources[0], f"with {' or '.join(allowed)}")
    tables = [str(given[name]) for name in ("manifest", "test_manifest") if name in given]
    if "encoding" in given and not any(Path(table).suffix.lower() in _TABLES_OF_TEXT for table in tables):
        _refuse_idle("encoding", given["encoding"], f"{Path(tables[0]).suffix} files", "with CSV")
    if "shuffle_buffer" in given and "streaming" not in given:
        _refuse_idle("shuffle_buffer", given["shuffle_buffer"], "rows that are not streamed", "with streaming")
    if "streaming" in given and "test_dataset" not in given:
        for name in ("loading", "preprocessing_num_workers"):
            if name in given and given[name] != 0:
                _refuse_idle(name, given[name], "streaming", "with rows by number; a stream keeps no tensors")
    if workers and given.get("loading") == "lazy":
        kept = "with loading 'auto', 'memory' or 'disk'; of lazy rows the loader has dataloader_num_workers"
        _refuse_idle("preprocessing_num_workers", workers, "loading 'lazy'", kept)


def _refuse_idle(name: str, value: Any, beside: str, allowed: str) -> NoReturn:
    got = f"{name}: got {'true' if value is True else shown(value)} with {beside}, where it has no effect"
    raise ValueError(f"{got}; allowed: {allowed}. Fix: leave it out (--{name}).")


def check_depth_unit(unit: Any, modalities: Iterable[str], known: Iterable[str] | None = None) -> None:
    """Refuse a `depth_unit` (of a processor) of rows without depth, or of a model that does not read it.

    Args:
        unit: `None` for none.
        modalities: that there are.
        known: that a finished model reads; `None` for one that will read what there is.
    """
    present, reads = list(modalities), None if known is None else list(known)
    names = [name for name in present if reads is None or name in reads]
    if unit is None or "depth" in names:
        return
    got = f"depth_unit: got {shown(unit)}, and no depth is read"
    if "depth" in present:
        raise ValueError(
            f"{got}: the rows have it, and this checkpoint reads only {', '.join(reads or ['nothing'])}. Fix: leave "
            "it out (--depth_unit), or name a checkpoint with depth."
        )
    raise ValueError(
        f"{got}, only {', '.join(names) or 'nothing'}. Fix: leave it out (--depth_unit), or name the column: "
        "--columns old=depth."
    )


def _sources(data: Mapping[str, Any]) -> list[str]:
    # NineSenses needs no options: its name alone is a source.
    return [name for name in SOURCES if data.get(name) or name == "nine_senses" and name in data]


def load_rows(data: Mapping[str, Any], added: Sequence[str] = (), on_error: str = "raise") -> RunRows:
    """The rows that `RunSettings.data` names.

    Args:
        added: modalities of one's own that may be columns.
        on_error: "raise" where files of a manifest are missing, or "skip", which leaves them to whoever reads rows.

    Raises:
        ValueError: no source or several, an unknown argument, or rows with a fault.
        OSError: with "raise", a file is missing.
    """
    check_data(data)
    sources = _sources(data)
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
        _read(name, place, data, added, on_error)
        for place in (None if is_stream else data[name], data.get(f"test_{name}"))
    )
    digest = digest_of([fingerprint(rows) for rows in (train, test) if rows is not None])
    if is_stream:
        train = _stream(name, data, added)
        digest = digest_of([data[name], digest])
    present = list(train.modalities) if isinstance(train, StreamedDataset) else modalities_of(train)
    called = Path(data.get(f"test_{name}") or "").name
    # What texts were made of suits the classes too.
    prompts = _templates(data) or [DEFAULT_PROMPT]
    return RunRows(train, test, present, partial(texts_of, train), None, called, prompts, digest)


def load_beside(
    checkpoint: str,
    data: Mapping[str, Any],
    depth_unit: str | None = None,
    also: Sequence[str] = (),
    on_error: str = "raise",
    packs: Sequence[str] = (),
) -> tuple[CodeBindModel, CodeBindProcessor, RunRows]:
    """A finished checkpoint and rows for it to read; modalities that were added to it or to packs may be columns.

    Args:
        checkpoint: of `checkpoint_of`.
        data: as in `load_rows`.
        depth_unit: of depth files, instead of the processor's own.
        also: modalities that come beside the rows.
        on_error: as in `load_rows`.
        packs: of what was bound to the checkpoint.

    Raises:
        ValueError: as `load_rows`, a `depth_unit` where the model reads no depth, or packs that do not fit.
        OSError: as `load_rows`, or packs that are not there.
    """
    options: dict[str, Any] = {"packs": list(packs)} if packs else {}
    model = CodeBindModel.from_pretrained(checkpoint, **options)
    processor = CodeBindProcessor.from_pretrained(checkpoint, **options)
    known = model.config.modality_names
    rows = load_rows(data, known, on_error)
    check_depth_unit(depth_unit, (*rows.modalities, *also), known)
    if depth_unit is not None:
        processor.depth_image_processor.depth_unit = depth_unit
    return model, processor, rows


def _of_benchmarks(data: Mapping[str, Any]) -> RunRows:
    """Training rows alone: `codebind benchmark` evaluates, by the benchmark's own metric."""
    names = [data["benchmark"]] if isinstance(data["benchmark"], str) else data["benchmark"]
    root = data.get("root")
    if not root:
        raise ValueError(
            f"root: got none; {' and '.join(names)} is read from a folder. Fix: root under `data`, or --root."
        )
    protocol, backbone = data.get("protocol") or "paper", data.get("backbone") or "ib"
    parts = for_all(names, root, lambda one, folder: one.rows(folder, "train", protocol, backbone))
    rows: Any = parts[0] if len(parts) == 1 else JoinedRows(parts)
    prompts = get_benchmark(names[0]).prompts(backbone) or ("{}",)
    digest, texts = digest_of([rows.fingerprint]), partial(texts_of, rows)
    return RunRows(rows, None, modalities_of(rows), texts, None, names[0], prompts, digest)


def _stream(source: str, data: Mapping[str, Any], added: Sequence[str]) -> StreamedDataset:
    options = {name: data[name] for name in ("shuffle_buffer",) if data.get(name) is not None}
    return dataset_stream(data[source], data.get("columns"), added, text_from_label=_templates(data), **options)


def _templates(data: Mapping[str, Any]) -> list[str]:
    given = data.get("text_from_label") or []
    return [given] if isinstance(given, str) else list(given)


def _read(
    source: str, place: str | None, data: Mapping[str, Any], added: Sequence[str], on_error: str = "raise"
) -> Any:
    if not place:
        return None
    columns = data.get("columns")
    if source == "manifest":
        rows: Any = Manifest(place, columns, added, data.get("encoding")).validate(on_error)
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
