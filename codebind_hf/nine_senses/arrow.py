"""How are rendered rows stored in a `datasets.Dataset`?"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, Features, Image, List, Value, concatenate_datasets
from PIL import Image as Picture
from tqdm.auto import tqdm


_CHUNK = 256
_EXTRAS = ("id", "label", "attributes")
_GRID = List(List(Value("float32")))
_PICTURES = ("image", "tactile", "thermal")
# Pictures are stored as PNG, which loses nothing; sound as numbers, since decoding files would need another library.
_FEATURES: dict[str, Any] = {
    "text": Value("string"),
    "image": Image(),
    "video": List(Image()),
    "audio": {"array": List(Value("float32")), "sampling_rate": Value("int32")},
    "depth": _GRID,
    "thermal": Image(),
    "tactile": Image(),
    "point_cloud": _GRID,
    "eeg": _GRID,
}


def row_features(modalities: Sequence[str]) -> Features:
    """Columns of a data set of rendered rows; `attributes` is JSON, since its keys differ from row to row."""
    extras = {name: Value("string") for name in _EXTRAS}
    return Features({**extras, **{modality: _FEATURES[modality] for modality in modalities}})


def build_dataset(rows: Sequence[Mapping[str, Any]], modalities: Sequence[str], description: str) -> Dataset:
    """All `rows` as a `datasets.Dataset` in memory, made with a progress bar; `None` where a row lacks a modality."""
    features = row_features(modalities)
    if not len(rows):
        return Dataset.from_dict({name: [] for name in features}, features=features)
    chunks = []
    with tqdm(total=len(rows), desc=description, unit="row") as bar:
        for start in range(0, len(rows), _CHUNK):
            chunk = [rows[index] for index in range(start, min(start + _CHUNK, len(rows)))]
            chunks.append(Dataset.from_dict(_table(chunk, modalities), features=features))
            bar.update(len(chunk))
    return concatenate_datasets(chunks)


def _table(rows: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> dict[str, list[Any]]:
    table = {name: [row[name] for row in rows] for name in ("id", "label")}
    table["attributes"] = [json.dumps(row["attributes"]) for row in rows]
    return table | {modality: [_stored(modality, row.get(modality)) for row in rows] for modality in modalities}


def _stored(modality: str, value: Any) -> Any:
    if value is None or modality == "text":
        return value
    if modality in _PICTURES:
        return Picture.fromarray(value)
    return [Picture.fromarray(frame) for frame in value] if modality == "video" else value
