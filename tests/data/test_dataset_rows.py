import io
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Picture

from codebind_hf.data import StreamedDataset, rows_from_dataset


def test_columns_are_renamed_and_class_labels_become_names() -> None:
    picture = Picture.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    features = Features({"img": Image(), "category": ClassLabel(names=["ring", "star"]), "id": Value("int32")})
    dataset = Dataset.from_dict({"img": [picture], "category": [1], "id": [7]}, features=features)
    rows = rows_from_dataset(dataset, columns={"img": "image", "category": "label"})
    assert np.array_equal(np.asarray(rows[0]["image"]), np.asarray(picture))
    assert (rows[0]["label"], rows[0]["id"]) == ("star", "7")
    assert rows.class_names == ["ring", "star"]


def test_nested_lists_become_arrays() -> None:
    grid = [[1.0, 2.0], [3.0, 4.0]]
    dataset = Dataset.from_dict(
        {"depth": [grid], "thermal": [[[1, 200]]], "eeg": [{"array": grid, "sampling_rate": 8}]}
    )
    row = rows_from_dataset(dataset)[0]
    assert (row["depth"].dtype, row["depth"].shape) == (np.float32, (2, 2))
    assert row["thermal"].dtype == np.uint8
    assert row["eeg"]["array"].dtype == np.float32
    assert row["eeg"]["sampling_rate"] == 8


def test_missing_values_are_absent_from_rows() -> None:
    dataset = Dataset.from_dict({"text": ["a", None], "label": [None, "x"], "eeg": [None, [[1.0]]]})
    rows = rows_from_dataset(dataset)
    assert [set(row) for row in rows] == [{"text"}, {"label", "eeg"}]
    assert rows.class_names == ["x"]


def test_attributes_drop_the_keys_that_other_rows_brought() -> None:
    dataset = Dataset.from_list([{"text": "a", "attributes": {"x": 1}}, {"text": "b", "attributes": {"y": 2}}])
    assert [row["attributes"] for row in rows_from_dataset(dataset)] == [{"x": 1}, {"y": 2}]


def sound_column(stored: dict) -> Dataset:
    # Encoding through the feature would need torchcodec; data sets on the Hub are stored like this.
    return Dataset.from_dict(stored).cast_column("audio", Audio(decode=False))


def test_audio_columns_are_decoded() -> None:
    soundfile = pytest.importorskip("soundfile")
    stream = io.BytesIO()
    wave = (np.arange(80) / 100).astype(np.float32)
    soundfile.write(stream, wave, 8000, format="WAV", subtype="FLOAT")
    stored = {"audio": [{"bytes": stream.getvalue(), "path": None}]}
    dataset = sound_column(stored)
    row = rows_from_dataset(dataset)[0]
    assert np.array_equal(row["audio"]["array"], wave)
    assert row["audio"]["sampling_rate"] == 8000


def test_damaged_audio_is_an_os_error() -> None:
    pytest.importorskip("soundfile")
    stored = {"audio": [{"bytes": b"noise", "path": "a.wav"}]}
    rows = rows_from_dataset(sound_column(stored))
    with pytest.raises(OSError, match=r"audio: bytes of a file: audio file 'a.wav': is no .wav file and no other"):
        rows[0]


def test_slices_and_negative_indices_of_data_set_rows() -> None:
    rows = rows_from_dataset(Dataset.from_dict({"text": ["a", "b", "c"]}))
    assert [row["text"] for row in rows[1:]] == ["b", "c"]
    assert rows[-1]["text"] == "c"
    with pytest.raises(IndexError, match="index 3"):
        rows[3]


@pytest.mark.parametrize(
    ("dataset", "columns", "message"),
    [
        pytest.param([{"text": "a"}], None, "dataset: got list; allowed: a datasets.Dataset", id="list"),
        pytest.param(DatasetDict(), None, "got DatasetDict.*Fix: choose a split", id="dict"),
        pytest.param(
            Dataset.from_dict({"picture": [1]}), None, "no column is a modality; columns: picture", id="column"
        ),
        pytest.param(
            Dataset.from_dict({"text": ["a"], "img": [1]}),
            {"img": "picture"},
            "'img' .*would be 'picture'",
            id="rename",
        ),
        pytest.param(Dataset.from_dict({"label": ["x"]}), None, "no column is a modality", id="no-modality"),
        pytest.param(Dataset.from_dict({"text": ["x"]}), {"img": "image"}, "has no column 'img'", id="rename"),
    ],
)
def test_unusable_data_sets_are_refused(dataset: object, columns: dict | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows_from_dataset(dataset, columns)


def test_ragged_lists_are_refused() -> None:
    rows = rows_from_dataset(Dataset.from_dict({"eeg": [[[1.0], [1.0, 2.0]]]}))
    with pytest.raises(ValueError, match="eeg: nested lists of unequal length"):
        rows[0]


def test_file_paths_stay_paths(tmp_path: Path) -> None:
    file = str(tmp_path / "a.npy")
    assert rows_from_dataset(Dataset.from_dict({"eeg": [file]}))[0]["eeg"] == file


def test_the_modalities_of_rows_are_known_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Picture.fromarray(np.zeros((2, 2, 3), np.uint8))
    features = Features({"text": Value("string"), "image": Image(), "junk": Value("int32")})
    stored = {"text": ["a", None, "c"], "image": [picture, picture, None], "junk": [1, 2, 3]}
    dataset = Dataset.from_dict(stored, features=features)
    monkeypatch.setattr(Image, "decode_example", lambda *_, **__: pytest.fail("decoded"))
    assert rows_from_dataset(dataset).row_modalities == [("text", "image"), ("image",), ("text",)]
    assert rows_from_dataset(dataset.select([2, 1])).row_modalities == [("text",), ("image",)]
    assert rows_from_dataset(dataset).texts == ["a", "c"]


def test_labels_and_captions_may_be_lists() -> None:
    features = Features({"text": [Value("string")], "label": [ClassLabel(names=["ring", "star"])]})
    dataset = Dataset.from_dict({"text": [["a", "b"], ["c"]], "label": [[1, 0], [1]]}, features=features)
    rows = rows_from_dataset(dataset)
    assert [row["label"] for row in rows] == [["star", "ring"], ["star"]]
    assert rows[0]["text"] == ["a", "b"]
    assert rows.class_names == ["star", "ring"]


def test_data_sets_have_fingerprints_that_follow_their_rows() -> None:
    dataset = Dataset.from_dict({"text": ["a", "b"], "words": ["c", "d"]})
    first = rows_from_dataset(dataset).fingerprint
    assert rows_from_dataset(dataset).fingerprint == first
    assert rows_from_dataset(dataset.select([0])).fingerprint != first
    assert rows_from_dataset(dataset.remove_columns("text"), {"words": "text"}).fingerprint != first


def test_columns_of_attributes_are_attributes_wherever_they_come_from() -> None:
    columns = {"text": ["a", "b"], "label": ["x", "y"], "attributes.colour": [1, 0], "attributes.size": [2.5, None]}
    features = Features(
        {**{name: Value("string") for name in ("text", "label")}, "attributes.size": Value("float64")}
        | {"attributes.colour": ClassLabel(names=["blue", "red"])}
    )
    data = Dataset.from_dict(columns, features=features)
    rows = list(rows_from_dataset(data))
    assert rows == [
        {"text": "a", "label": "x", "attributes": {"colour": "red", "size": 2.5}},
        {"text": "b", "label": "y", "attributes": {"colour": "blue"}},
    ]
    stream = StreamedDataset(data.to_iterable_dataset(), _ids, shuffle_buffer=0)
    assert [each.item["attributes"] for each in stream if each.item] == [row["attributes"] for row in rows]


def _ids(text: list[str], return_tensors: str) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.zeros(len(text), 2, dtype=torch.int64)}
