"""Every public door that takes foreign values, as strategies of calls: its name, the call, and what it must give."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import CodeBindConfig, CodeBindModel, tiny_inputs
from fuzzing.strategies import arrays, json_values, scalars, tensors, texts, values
from hypothesis import strategies as st

from codebind_hf import CodeBindProcessor
from codebind_hf.data import Manifest, PreparedDataset
from codebind_hf.inference import CodeIndex, explain_code, explain_match


class Call(NamedTuple):
    """A call of a door, and whether what it gives is right."""

    door: str
    make: Callable[[], Any]
    holds: Callable[[Any], bool] = lambda result: True


# About what the sub-processors read; only the number of axes and channels matters.
SHAPES: dict[str, tuple[int, ...]] = {
    "images": (20, 30, 3),
    "videos": (4, 20, 30, 3),
    "audio": (3000,),
    "depth": (20, 30),
    "thermal": (20, 30),
    "tactile": (20, 30, 3),
    "point_clouds": (30, 3),
    "eeg": (5, 40),
    "imu": (6, 30),
}
_OPTIONS = ["sampling_rate", "depth_unit", "thermal_range", "padding", "max_length", "truncation", "x"]
_ENCODING = ["batch_size", "quantize", "output", "clips", "pool", "hop_seconds", "num_workers", "on_error"]
_COLUMNS = st.sampled_from(["text", "eeg", "id", "label", "attributes", "x"])
_FIELDS = [name for name in CodeBindConfig.__annotations__ if name in CodeBindConfig.__dataclass_fields__]


def _rarely(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 7)) == 0


@st.composite
def processor_calls(draw: st.DrawFn, processor: CodeBindProcessor) -> Call:
    """`processor(...)` with one modality and perhaps a strange option."""
    name = draw(st.sampled_from(["text", *SHAPES]))
    if name == "text":
        value = draw(st.one_of(texts, st.lists(st.one_of(texts, texts, scalars), max_size=3), scalars))
    else:
        value = draw(values(SHAPES[name]))
    keywords = {name: value}
    if name == "audio" and not _rarely(draw):
        keywords["sampling_rate"] = draw(st.sampled_from([16000] * 8 + [1, 8000, 10**6, 44.1]))
    if _rarely(draw):
        keywords[draw(st.sampled_from(_OPTIONS))] = draw(scalars)
    if _rarely(draw):
        known = ["max_length", "padding"] if name == "text" else sorted(processor.part(name).defaults)
        odd = st.dictionaries(st.sampled_from([*known, "y", "return_tensors"]), scalars, max_size=2)
        keywords[f"{name}_kwargs"] = draw(st.one_of(odd, odd, scalars))
    return Call(f"processor {name}", lambda: processor(**keywords), _is_finite)


def _is_finite(batch: Any) -> bool:
    return all(np.isfinite(np.asarray(row)).all() for rows in batch.values() for row in rows)


@st.composite
def forward_calls(draw: st.DrawFn, model: CodeBindModel) -> Call:
    """`model(...)` with one modality, perhaps with rows and views."""
    inputs = tiny_inputs(model.config)
    name = draw(st.sampled_from([name for name in inputs if name != "attention_mask"]))
    shape = tuple(inputs[name].shape)
    keywords: dict[str, Any] = {name: draw(st.one_of(*[tensors(shape)] * 6, arrays(shape), scalars))}
    if name == "input_ids":
        keywords[name] = inputs[name] if draw(st.booleans()) else keywords[name]
        keywords["attention_mask"] = draw(st.one_of(tensors(shape), st.none()))
    if _rarely(draw):
        keywords |= {"eeg_values": inputs["eeg_values"]}
        rows = st.fixed_dictionaries({"eeg": st.one_of(tensors((3,)), scalars)})
        keywords["rows"] = draw(st.one_of(rows, scalars))
    if _rarely(draw):
        keywords |= {"eeg_values": inputs["eeg_values"]}
        views = st.fixed_dictionaries({draw(st.sampled_from(["eeg_values", name, "x"])): tensors(shape)})
        keywords["views"] = draw(st.one_of(views, scalars))
    return Call("forward", lambda: model(**keywords), _has_finite_embeds)


def _has_finite_embeds(output: Any) -> bool:
    return all(bool(torch.isfinite(embeds).all()) for embeds in output.embeds.values())


@st.composite
def embedding_calls(draw: st.DrawFn, model: CodeBindModel, processor: CodeBindProcessor) -> Call:
    """What takes embeddings or codes of a model, and `encode`."""
    dim, segments = model.config.shared_dim, model.config.shared_dim // model.config.code_dim
    embeds = st.one_of(arrays((4, dim)), tensors((4, dim)), arrays((dim,)), scalars)
    name = st.one_of(*[st.sampled_from(["text", "eeg"])] * 3, scalars)
    door = draw(st.sampled_from(["encode", "encode", "similarity", "probabilities", "decode", "codes_to_embeds"]))
    if door == "encode":
        items, options = draw(_items()), draw(st.dictionaries(st.sampled_from(_ENCODING), scalars, max_size=1))
        options |= draw(st.fixed_dictionaries({}, optional={"on_error": st.sampled_from(["skip", "null"])}))
        options |= draw(st.fixed_dictionaries({}, optional={"pool": st.just("none")}))
        return Call(door, lambda: model.encode(items, processor, **options))
    first, second, modality = draw(embeds), draw(embeds), draw(name)
    if door == "decode":
        return Call(door, lambda: model.decode(first, second, modality=modality))
    if door == "codes_to_embeds":
        ids, part = draw(st.one_of(tensors((4, segments)), scalars)), draw(st.one_of(st.just("shared"), scalars))
        return Call(door, lambda: model.codes_to_embeds(ids, modality, part))
    method = getattr(model, door)
    return Call(door, lambda: method(first, second), lambda cosines: bool(torch.as_tensor(cosines).isfinite().all()))


def _items() -> st.SearchStrategy[Any]:
    """What `encode` may be given."""
    named = st.builds(lambda name, value: {name: value}, st.sampled_from(["depth", "eeg", "x"]), values((5, 40)))
    sound = st.builds(lambda value: {"array": value, "sampling_rate": 16000}, arrays((3000,)))
    one = st.one_of(texts, scalars, named, named, sound)
    by_name = st.dictionaries(st.sampled_from(["text", "eeg", "x"]), st.one_of(scalars, st.lists(one, max_size=2)))
    return st.one_of(*[st.lists(one, max_size=3)] * 3, scalars, st.just(["a", "b"]), by_name)


def _often(usual: Any, *strange: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value that is right, two times in three."""
    return st.one_of(*[st.just(usual)] * 2 * len(strange), *strange)


@st.composite
def index_calls(draw: st.DrawFn) -> Call:
    """`CodeIndex`, `explain_code` and `explain_match`."""
    codes = torch.arange(64.0).view(16, 4).cos()
    index = CodeIndex(codes, 6, "numpy", {"image": (codes, 6)})
    ids = torch.zeros(3, 6, dtype=torch.long)
    index.add(ids, "image", [1, 2, 3], ids)
    doors = ["made", "add", "search", "reconstruct", "merge", "save", "load", "explain_code", "explain_match"]
    door = draw(st.sampled_from(doors))
    if door == "made":
        codes = draw(_often(index.codes, arrays((16, 4)), tensors((16, 4)), scalars))
        segments, backend = draw(_often(6, scalars)), draw(_often("numpy", scalars))
        return Call("index", lambda: CodeIndex(codes, segments, backend))
    if door == "add":
        given = draw(_often(ids, arrays((3, 6)), tensors((3, 6)), scalars))
        name, keys = draw(_often("eeg", scalars)), draw(_often([4, 5, 6], arrays((3,)), scalars))
        own = draw(_often(None, arrays((3, 6)), scalars))
        return Call("index", lambda: index.add(given, name, keys, own))
    if door == "search":
        queries = draw(_often(index.codes[:6].view(1, 24), arrays((4, 24)), tensors((4, 24)), scalars))
        count, places = draw(_often(2, scalars)), draw(_often(["image"], scalars))
        by, weight = draw(_often("what", st.just("which"), st.just("both"), scalars)), draw(_often(0.5, scalars))
        return Call("index", lambda: index.search(queries, count, places, by, weight))
    if door == "reconstruct":
        keys, name = draw(_often([1, 2, 3], arrays((3,)), scalars)), draw(_often("image", scalars))
        return Call("index", lambda: index.reconstruct(keys, name))
    if door == "explain_code":
        code, segment, examples = draw(_often(0, scalars)), draw(_often(None, scalars)), draw(_often(2, scalars))
        return Call("index", lambda: explain_code(index, code, segment, examples))
    if door == "explain_match":
        key, other = draw(_often(1, arrays((6,)), scalars)), draw(_often("image", scalars))
        examples = draw(_often(2, scalars))
        return Call("index", lambda: explain_match(index, ("image", key), (other, 2), examples))
    # Texts would be names of folders, here or elsewhere.
    odd = draw(scalars)
    odd = 3 if isinstance(odd, (str, bytes)) else odd
    return Call("index", lambda: {"merge": index.merge, "load": CodeIndex.load, "save": index.save}[door](odd))


@st.composite
def row_calls(draw: st.DrawFn, processor: CodeBindProcessor, folder: Path) -> Call:
    """`Manifest` and `PreparedDataset`."""
    if draw(st.booleans()):
        value = st.one_of(texts, scalars, values((5, 40)))
        rows = draw(st.one_of(st.lists(st.dictionaries(_COLUMNS, value, max_size=3), max_size=3), scalars))
        on_error = draw(_often("skip", scalars))
        return Call("prepared rows", lambda: PreparedDataset(rows, processor, on_error))
    line = _often({"text": "a", "label": "b"}, st.dictionaries(_COLUMNS, json_values, max_size=3))
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(one) for one in draw(st.lists(line, min_size=1, max_size=3))))
    path = draw(_often(file, scalars))
    names = st.dictionaries(st.sampled_from(["x", "text", "y", 3]), scalars, max_size=2)
    columns, modalities = draw(_often(None, names, scalars)), draw(_often((), scalars))
    return Call("manifest", lambda: Manifest(path, columns, modalities))


@st.composite
def configuration_calls(draw: st.DrawFn) -> Call:
    """`CodeBindConfig` with fields as a JSON file may have them."""
    fields = draw(st.dictionaries(st.sampled_from([*_FIELDS, "y"]), json_values, max_size=2))
    return Call("configuration", lambda: CodeBindConfig(**fields))
