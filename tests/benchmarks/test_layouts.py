"""Miniature copies of every layout: a whole one is found, and what is wrong with another one is said."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from codebind_hf import benchmarks


CopyOf = Callable[[str], Path]
TESTED = [name for name in benchmarks.names() if name != "shapenet55"]
PROTOCOLS = ("paper", "sound")
# Rows of the test split of the miniatures, under both protocols.
SIZES = {
    "in1k": (9, 9),
    "places365": (9, 9),
    "k400": (6, 6),
    "msr-vtt": (4, 5),
    "nyu-d": (10, 10),
    "sun-d": (5, 5),
    "audioset": (8, 8),
    "vggsound": (6, 6),
    "esc-50": (14, 14),
    "clotho": (6, 6),
    "audiocaps": (4, 6),
    "llvip": (16, 16),
    "flir-v2": (8, 12),
    "tag-m": (11, 11),
    "tag-hs": (11, 11),
    "tag-rs": (12, 12),
    "in-eeg": (5, 5),
    "modelnet40": (14, 14),
    "ave": (4, 5),
}

each_tested = pytest.mark.parametrize("name", TESTED)
each = pytest.mark.parametrize("name", benchmarks.names())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@each_tested
def test_a_copy_is_found_and_its_rows_are_counted(name: str, protocol: str, copy_of: CopyOf) -> None:
    found = benchmarks.get(name).check(copy_of(name), protocol, partial=True)
    assert len(found.rows) == found.num_listed == SIZES[name][PROTOCOLS.index(protocol)]
    assert found.missing == ()
    assert len(found.fingerprint()) == 64


@each_tested
def test_a_row_has_what_is_measured_and_its_answer(name: str, copy_of: CopyOf) -> None:
    one = benchmarks.get(name)
    rows, classes = one.rows(copy_of(name)), one.class_names(copy_of(name))
    assert len(set(rows.column("id"))) == len(rows)
    for row in rows:
        assert one.modality in row
        if one.metric.kind == "recall":
            assert row["text"]
            assert all(isinstance(text, str) and text for text in row["text"])
        else:
            labels = row["label"] if isinstance(row["label"], list) else [row["label"]]
            assert set(labels) <= set(classes)
            assert "text" not in row
    assert bool(classes) == (one.metric.kind != "recall")


@each
def test_training_rows_have_texts_to_draw_from_and_something_to_bind(name: str, copy_of: CopyOf) -> None:
    if name == "esc-50":
        with pytest.raises(ValueError, match="another split than 'test'"):
            benchmarks.get(name).rows(copy_of(name), "train")
        return
    one = benchmarks.get(name)
    rows = one.rows(copy_of(name), "train")
    for row in rows:
        assert one.modality in row
        assert len(row["text"]) >= 1
        assert not any("{}" in text for text in row["text"])
    if one.metric.kind != "recall" and name not in ("audioset", "shapenet55"):
        assert len(rows[0]["text"]) == len(one.prompts("ib", training=True))
        assert rows[0]["label"] in rows[0]["text"][0]


@each_tested
def test_rows_can_be_sent_to_another_process(name: str, copy_of: CopyOf) -> None:
    rows = benchmarks.get(name).rows(copy_of(name))
    again = pickle.loads(pickle.dumps(rows))  # noqa: S301
    assert again.column("id") == rows.column("id")
    assert again[0].keys() == rows[0].keys()


@each
def test_sound_validation_is_neither_trained_on_nor_tested(name: str, copy_of: CopyOf) -> None:
    if name == "esc-50":
        return
    one = benchmarks.get(name)
    splits = [set(one.rows(copy_of(name), split, "sound").column("id")) for split in ("train", "validation")]
    assert all(splits)
    assert not splits[0] & splits[1]
    if not one.is_only_for_training:
        assert not (splits[0] | splits[1]) & set(one.rows(copy_of(name), "test", "sound").column("id"))


@each_tested
def test_the_authors_select_on_the_test_split(name: str, copy_of: CopyOf) -> None:
    one = benchmarks.get(name)
    assert one.rows(copy_of(name), "validation", "paper").column("id") == one.rows(copy_of(name)).column("id")


@each_tested
def test_another_folder_is_refused_with_all_that_was_expected(name: str, tmp_path: Path) -> None:
    one = benchmarks.get(name)
    (tmp_path / "something").mkdir()
    with pytest.raises(OSError, match="this is another folder") as caught:
        one.check(tmp_path)
    for expected in one.layout:
        if expected.is_needed("test", "paper"):
            assert f"{expected.path}: {expected.what}" in str(caught.value)
    with pytest.raises(OSError, match="no folder"):
        one.check(tmp_path / "nowhere")


@each_tested
def test_a_folder_above_is_refused_with_the_right_one(name: str, copy_of: CopyOf, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    shutil.copytree(copy_of(name), tmp_path / "above" / "data")
    with pytest.raises(OSError, match=r"Fix: give .*data\."):
        benchmarks.get(name).check(tmp_path / "above")


@each_tested
def test_a_missing_list_or_folder_is_named(name: str, copy_of: CopyOf, tmp_path: Path) -> None:
    one = benchmarks.get(name)
    for number, expected in enumerate(one.layout):
        if expected.is_needed("test", "paper"):
            root = tmp_path / str(number)
            shutil.copytree(copy_of(name), root)
            for path in expected.paths(root):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            with pytest.raises(OSError, match="missing") as caught:
                one.check(root)
            assert expected.path in str(caught.value)


@each_tested
def test_a_missing_file_is_named_unless_a_part_will_do(name: str, copy_of: CopyOf, tmp_path: Path) -> None:
    one = benchmarks.get(name)
    shutil.copytree(copy_of(name), tmp_path / "copy")
    rows = one.rows(tmp_path / "copy")
    gone = rows.files()[0]
    lists = {path for expected in one.layout for path in expected.paths(tmp_path / "copy")}
    if tmp_path / "copy" / gone in lists or name == "sun-d":
        return  # one file holds everything, which the test above takes away
    if name == "llvip":
        return  # pictures are found by looking, and counted
    (tmp_path / "copy" / gone).unlink()
    with pytest.raises(OSError, match=f"{len(rows.files())} files of the test split are missing") as caught:
        one.check(tmp_path / "copy")
    # A file of a name that may end in several ways is named with the usual one.
    assert Path(gone).stem[:10] in str(caught.value)
    found = one.check(tmp_path / "copy", partial=True)
    assert len(found.missing) == 1
    assert not found.is_whole
    assert 0 < len(found.rows) < len(rows)


@each_tested
def test_a_partial_list_is_refused_where_the_size_is_published(name: str, copy_of: CopyOf) -> None:
    one = benchmarks.get(name)
    size = one.num_items.get("paper")
    if name == "llvip":
        with pytest.raises(ValueError, match="holds 4 files; expected: 3463"):
            one.check(copy_of(name))
        return
    if size is None:
        assert one.check(copy_of(name)).is_whole
        return
    with pytest.raises(ValueError, match=rf"name {SIZES[name][0]} rows for 'test'; expected: {size}\."):
        one.check(copy_of(name))


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("in1k", "LOC_val_solution.csv", "ImageId,PredictionString\nx,n99999999 1 2 3 4", "line 2: got the synset"),
        ("places365", "places365_val.txt", "Places365_val_00000001.jpg 7", "line 1: got class '7'; allowed: 0 to 2"),
        ("k400", "annotations/val.csv", "name,file\na,b", "columns label, time_end, time_start, youtube_id"),
        ("msr-vtt", "train_val_videodatainfo.json", "[]", "is not MSR-VTT's list"),
        ("audioset", "eval_segments.csv", 'abc, 0.0, 10.0, "/m/none"', "line 1: got '/m/none'"),
        ("vggsound", "vggsound.csv", "abc,zero,dog,test", "line 1: got"),
        ("esc-50", "meta/esc50.csv", "file,class\na,b", "columns filename, fold, target, category"),
        ("clotho", "clotho_captions_evaluation.csv", "file_name,caption\na,b", "caption_5"),
        ("audiocaps", "audiocaps_test_813.txt", "nobody", "line 1: got 'nobody'"),
        ("llvip", "Annotations/190001.xml", "<annotation></annotation>", "width and height"),
        ("flir-v2", "video_rgb_test/coco.json", "{}", "is not FLIR's list of boxes"),
        ("tag-m", "test.txt", "20220410_031604/0000000001.jpg,20", "line 1: got .*<-1 to 19>"),
        ("sun-d", "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat", "text", "is no MATLAB file"),
        ("modelnet40", "modelnet40_test.txt", "chair_0001", "line 1: got 'chair_0001'"),
        ("ave", "valSet.txt", "Meow&abc&good&0&10", "line 1: got the event 'Meow'"),
    ],
)
def test_a_list_that_says_something_else_is_refused(
    name: str, file: str, content: str, message: str, copy_of: CopyOf, tmp_path: Path
) -> None:
    shutil.copytree(copy_of(name), tmp_path / "copy")
    (tmp_path / "copy" / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        benchmarks.get(name).check(tmp_path / "copy", partial=True)


def test_the_fingerprint_tells_copies_apart_and_not_where_they_lie(copy_of: CopyOf, tmp_path: Path) -> None:
    one = benchmarks.get("esc-50")
    shutil.copytree(copy_of("esc-50"), tmp_path / "copy")
    original = one.check(copy_of("esc-50"), partial=True).fingerprint()
    assert one.check(tmp_path / "copy", partial=True).fingerprint() == original
    sound = next((tmp_path / "copy/audio").iterdir())
    sound.write_bytes(sound.read_bytes()[:-2])
    assert one.check(tmp_path / "copy", partial=True).fingerprint() != original


@pytest.mark.parametrize(("argument", "value"), [("protocol", "papers"), ("split", "val"), ("backbone", "vit")])
def test_an_unknown_choice_is_refused(argument: str, value: str, copy_of: CopyOf) -> None:
    with pytest.raises(ValueError, match=f"{argument}: got '{value}'"):
        benchmarks.get("esc-50").rows(copy_of("esc-50"), **{argument: value})


def test_names_in_files_need_the_folder() -> None:
    with pytest.raises(ValueError, match="root: got None"):
        benchmarks.get("esc-50").class_names()
    assert len(benchmarks.get("sun-d").class_names()) == 19
