"""Data sets by their place: what `save_to_disk` wrote, folders of classes, splits, and text made of labels."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Dataset, DatasetDict
from datasets import Image as ImageFeature
from PIL import Image

from codebind_hf import CodeBindProcessor
from codebind_hf.data import Manifest, StreamedDataset
from codebind_hf.data.cells import StoredAudio, StoredImage, StoredVideo
from codebind_hf.data.sources import TextFromLabel, dataset_rows, dataset_stream, split_name
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.training.tokenization import build_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def processor() -> CodeBindProcessor:
    return CodeBindProcessor.from_model_config(CodeBindConfig.from_preset("tiny"), build_tokenizer(["a ring, a star"]))


def saved(folder: Path) -> Path:
    splits = {"train": Dataset.from_dict({"text": ["a", "b"]}), "test": Dataset.from_dict({"text": ["c"]})}
    DatasetDict(splits).save_to_disk(folder)
    return folder


def picture_folder(folder: Path) -> Path:
    for split, count in (("train", 2), ("test", 1)):
        for shade, name in ((40, "ring"), (200, "star")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(np.full((4, 4, 3), shade + number, np.uint8)).save(
                    folder / split / name / f"{number}.png"
                )
    return folder


def test_saved_data_sets_are_read_by_split(tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved")
    assert [row["text"] for row in dataset_rows(folder)] == ["a", "b"]
    assert [row["text"] for row in dataset_rows(f"{folder}:test")] == ["c"]
    with pytest.raises(
        ValueError, match="has no split 'validation'; its splits: train, test. Fix: .*saved:train or .*saved:test.$"
    ):
        dataset_rows(f"{folder}:validation")


def test_one_saved_split_is_itself(tmp_path: Path) -> None:
    Dataset.from_dict({"words": ["a"]}).save_to_disk(tmp_path / "one")
    assert dataset_rows(tmp_path / "one", {"words": "text"})[0] == {"text": "a"}


def test_a_folder_of_classes_has_pictures_and_names(tmp_path: Path) -> None:
    rows = dataset_rows(picture_folder(tmp_path / "classes"))
    assert rows.class_names == ["ring", "star"]
    assert rows.row_modalities == [("image",)] * 4
    assert sorted((row["label"], np.asarray(Image.open(row["image"]))[0, 0, 0]) for row in rows) == [
        ("ring", 40),
        ("ring", 41),
        ("star", 200),
        ("star", 201),
    ]
    assert len(dataset_rows(f"{tmp_path / 'classes'}:test")) == 2


def test_text_comes_from_labels_where_there_is_none(tmp_path: Path) -> None:
    rows = TextFromLabel(dataset_rows(picture_folder(tmp_path / "classes")), ["a {}", "the {}"])
    assert rows.row_modalities == [("text", "image")] * 4
    assert rows[0]["text"] == ["a ring", "the ring"]
    assert rows.texts == ["a ring", "the ring", "a star", "the star"]
    assert rows.class_names == ["ring", "star"]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [{"image": "a.png", "label": "x"}, {"text": "own", "label": "y"}])))
    own = TextFromLabel(Manifest(path), ["a {}"])
    assert [row["text"] for row in own] == ["a x", "own"]
    assert own.fingerprint != TextFromLabel(Manifest(path), ["the {}"]).fingerprint


def test_text_from_labels_needs_both(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"image": "a.png"}))
    with pytest.raises(ValueError, match="text_from_label: the rows have no labels"):
        TextFromLabel(Manifest(path), ["a {}"])
    path.write_text("\n".join(map(json.dumps, [{"image": "a.png", "label": "x"}, {"image": "b.png"}])))
    with pytest.raises(ValueError, match="text_from_label: got 'a'; a template holds {}"):
        TextFromLabel(Manifest(path), ["a"])
    with pytest.raises(ValueError, match="text_from_label: row 'rows-00001' has no label"):
        TextFromLabel(Manifest(path), ["a {}"])[1]


def test_what_is_no_data_set_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "gone", tmp_path / "empty"):
        with pytest.raises((OSError, ValueError), match="^dataset: "):
            dataset_rows(place)


def test_what_cannot_be_a_data_set_says_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "load.py").write_text("")
    for reader in (dataset_rows, dataset_stream):
        with pytest.raises(OSError, match=r"rows.jsonl' is a file. Fix: .*--dataset FOLDER.*table .* to --manifest"):
            reader(tmp_path / "rows.jsonl")
        with pytest.raises(OSError, match=r"load.py' is a file. Fix: name its folder \(--dataset FOLDER.*\)\.$"):
            reader(tmp_path / "load.py")
        with pytest.raises(OSError, match=r"Fix: check the path and the working directory \(--dataset\)"):
            reader(tmp_path / "gone")
    picture_folder(tmp_path / "classes")
    for reader in (dataset_rows, dataset_stream):
        with pytest.raises(ValueError, match=r"split 'dev'.*train.* Fix: .*classes:train or .*classes:test\.$"):
            reader(f"{tmp_path / 'classes'}:dev")


def test_templates_for_labels_that_are_not_there_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = saved(tmp_path / "saved")
    message = r"text_from_label: the rows have no labels. Fix: .*--columns old=label"
    with pytest.raises(ValueError, match=message):
        TextFromLabel(dataset_rows(folder), ["a {}"])
    with pytest.raises(ValueError, match=message):
        dataset_stream(folder, text_from_label=["a {}"])
    Dataset.from_dict({"text": ["a"], "label": ["x"]}).save_to_disk(tmp_path / "both")
    assert TextFromLabel(dataset_rows(tmp_path / "both"), ["a {}"])[0]["text"] == "a"
    assert "text_from_label: is not used, since every row has a text" in caplog.text


def test_a_colon_names_a_split_unless_the_path_has_it(tmp_path: Path) -> None:
    assert split_name("data:test") == ("data", "test")
    assert split_name("data") == ("data", "train")
    odd = tmp_path / "a:b"
    odd.mkdir()
    assert split_name(odd) == (str(odd), "train")
    assert split_name(f"{odd}:test") == (str(odd), "test")


def sound_folder(folder: Path) -> Path:
    for level, label in ((0.25, "ring"), (-0.5, "cube")):
        (folder / "train" / label).mkdir(parents=True)
        soundfile.write(folder / "train" / label / "a.wav", np.full(800, level), 16000)
    return folder


def test_a_folder_of_sounds_needs_no_decoder_of_the_library(tmp_path: Path, processor: CodeBindProcessor) -> None:
    rows = dataset_rows(sound_folder(tmp_path / "sounds"))
    assert rows.row_modalities == [("audio",)] * 2
    assert rows.class_names == ["cube", "ring"]
    expected = {label: processor(audio=[row["audio"]]) for label, row in ((row["label"], row) for row in rows)}
    levels = {row["label"]: soundfile.read(row["audio"])[0][0] for row in rows}
    assert levels == {"ring": 0.25, "cube": -0.5}
    stream = dataset_stream(tmp_path / "sounds", text_from_label=["a {}"], shuffle_buffer=0).with_processor(processor)
    items = {each.item["label"]: each.item["tensors"] for each in stream if each.item}
    assert set(items) == {"ring", "cube"}
    for label, tensors in items.items():
        np.testing.assert_array_equal(tensors["input_features"], expected[label]["input_features"][0])


def test_a_folder_of_pictures_is_streamed(tmp_path: Path, processor: CodeBindProcessor) -> None:
    folder = picture_folder(tmp_path / "classes")
    stream = dataset_stream(folder, text_from_label=["a {}"], shuffle_buffer=0).with_processor(processor)
    found = sorted(
        (each.item["label"], float(each.item["tensors"]["pixel_values"].mean())) for each in stream if each.item
    )
    rows = dataset_rows(folder)
    expected = sorted((row["label"], float(processor(images=[row["image"]])["pixel_values"].mean())) for row in rows)
    assert [label for label, _ in found] == ["ring", "ring", "star", "star"]
    np.testing.assert_allclose([mean for _, mean in found], [mean for _, mean in expected], rtol=1e-6)


def test_bytes_in_a_cell_win_over_a_file_that_happens_to_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    content = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), 200, np.uint8)).save(content, "PNG")
    for kind in (StoredImage, StoredAudio, StoredVideo):
        assert kind().encode_example({"bytes": content.getvalue(), "path": "a.png"})["bytes"] == content.getvalue()
        assert kind().encode_example("a.png") == {"bytes": None, "path": "a.png"}
        assert kind().encode_example(b"x") == {"bytes": b"x", "path": None}
    data = Dataset.from_dict({"image": [{"bytes": content.getvalue(), "path": "a.png"}], "text": ["a"]})
    data = data.cast_column("image", ImageFeature())
    stream = StreamedDataset(data.to_iterable_dataset(), shuffle_buffer=0)
    assert next(iter(stream.stream))["image"]["bytes"] == content.getvalue()
