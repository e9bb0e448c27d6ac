import json
from pathlib import Path
from typing import Any

import pandas
import pytest
from fuzzing.doors import configuration_calls, row_calls
from fuzzing.outcomes import REFUSED, TAKEN, Outcomes
from hypothesis import strategies as st

from codebind_hf import CodeBindProcessor
from codebind_hf.data import Manifest
from codebind_hf.training.tokenization import build_tokenizer


def write(folder: Path, rows: list[dict], suffix: str = ".jsonl") -> Path:
    path = folder / f"rows{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    elif suffix == ".csv":
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        pandas.DataFrame(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_kind_of_table_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"id": "a", "label": "ring", "image": "pictures/a.png", "text": "a ring", "attributes.speaker": "x"},
        {"id": "b", "label": "star", "image": None, "text": "a star", "attributes.speaker": None},
    ]
    manifest = Manifest(write(tmp_path, rows, suffix))
    assert list(manifest) == [
        {
            "id": "a",
            "label": "ring",
            "image": str(tmp_path / "pictures" / "a.png"),
            "text": "a ring",
            "attributes": {"speaker": "x"},
        },
        {"id": "b", "label": "star", "text": "a star"},
    ]
    assert manifest.class_names == ["ring", "star"]


def test_attributes_are_an_object_or_json_text(tmp_path: Path) -> None:
    rows = [{"text": "a", "attributes": {"x": 1}}, {"text": "b", "attributes": '{"x": 2}'}]
    assert [row["attributes"] for row in Manifest(write(tmp_path, rows))] == [{"x": 1}, {"x": 2}]


def test_columns_are_renamed_and_added_modalities_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, [{"img": "a.png", "radar": "a.npy", "category": "ring"}])
    row = Manifest(path, columns={"img": "image", "category": "label"}, modalities=["radar"])[0]
    assert row["image"] == str(tmp_path / "a.png")
    assert row["radar"] == str(tmp_path / "a.npy")
    assert row["label"] == "ring"


def test_rows_without_ids_get_their_number_and_numbers_become_names(tmp_path: Path) -> None:
    manifest = Manifest(write(tmp_path, [{"text": "a", "label": 7}, {"text": "b", "id": 3}]))
    assert [row["id"] for row in manifest] == ["rows-00000", "3"]
    assert manifest.class_names == ["7"]


def test_absolute_paths_stay(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "a.wav"
    assert Manifest(write(tmp_path, [{"audio": str(file)}]))[0]["audio"] == str(file)


def test_validate_names_all_missing_files_at_once(tmp_path: Path) -> None:
    (tmp_path / "here.png").write_bytes(b"")
    rows = [{"id": "a", "image": "here.png", "audio": "gone.wav"}, {"id": "b", "eeg": "gone.npy", "text": "x"}]
    manifest = Manifest(write(tmp_path, rows))
    with pytest.raises(OSError, match="2 files are missing") as error:
        manifest.validate()
    assert "a, audio" in str(error.value)
    assert "b, eeg" in str(error.value)
    assert "here.png" not in str(error.value)


def test_validate_returns_a_complete_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    manifest = Manifest(write(tmp_path, [{"image": "a.png"}]))
    assert manifest.validate() is manifest


BAD_ROWS = [
    pytest.param([], "got no rows", id="empty"),
    pytest.param(
        [{"text": "a"}, {"id": "a", "label": "ring"}],
        "row 2: has no modality; allowed: at least one of text",
        id="no-modality",
    ),
    pytest.param([{"text": "a"}, {"text": ""}], "row 2: has no modality", id="empty-cell"),
    pytest.param(
        [{"shape": "a.png"}],
        "no column is a modality; columns: shape; modalities: text, image.*Fix: ren",
        id="column",
    ),
    pytest.param([{"text": "a", "id": "x"}, {"text": "b", "id": "x"}], "id 'x' occurs in rows 1 and 2", id="same-id"),
    pytest.param([{"image": "https://x.org/a.png"}], "image is the URL 'https://x.org/a.png'", id="url"),
    pytest.param([{"image": 3}], "image is 3 .int.; allowed: a string", id="number"),
    pytest.param([{"image": ["a.png"]}], "image is .*list", id="list"),
    pytest.param([{"text": "a", "label": []}], "label is .*or a list of one or more strings", id="no-labels"),
    pytest.param([{"text": "a", "label": [3]}], "label is", id="label-number"),
    pytest.param([{"text": ["a", ""]}], "text is .*or a list of one or more strings", id="empty-caption"),
    pytest.param([{"text": "a", "attributes": "red"}], "attributes 'red' is not JSON", id="attributes-text"),
    pytest.param(
        [{"text": "a", "attributes": [1]}], "attributes is .1.; allowed: a JSON object", id="attributes-list"
    ),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Manifest(write(tmp_path, rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("rows.jsonl", b'{"text": "a"}\n{"text": ', "line 2: not JSON", id="broken-json"),
        pytest.param("rows.jsonl", b"[1]\n", "line 1: got a list; allowed: a JSON object", id="not-an-object"),
        pytest.param("rows.csv", b"text,image\na\n", "row 1: does not have the header's 2 cells", id="short-line"),
        pytest.param("rows.csv", b"text\na,b\n", "row 1: does not have the header's 1 cells", id="long-line"),
        pytest.param("rows.xlsx", b"x", "suffix '.xlsx'; allowed: .jsonl, .csv, .tsv, .parquet", id="suffix"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Manifest(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("gone.jsonl", None, "no such file", id="missing"),
        pytest.param("rows.jsonl", b"\xff\xfe\x00", "not UTF-8", id="encoding"),
        pytest.param("rows.parquet", b"not parquet", "not a readable Parquet file", id="parquet"),
    ],
)
def test_unreadable_tables_raise_os_errors(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=message):
        Manifest(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"columns": {"img": "image"}}, "has no column 'img'; its columns: text, id", id="no-such-column"),
        pytest.param({"columns": {"id": "text"}}, "'text' and 'id' of .* would both be 'text'", id="two-for-one"),
        pytest.param({"columns": ["text"]}, r"columns: got \['text'\]; allowed: a dictionary", id="list"),
        pytest.param({"columns": {"text": 3}}, "columns: got .*: a dictionary from a text to a text", id="number"),
        pytest.param({"columns": {"txt": "image"}}, "no column 'txt'.*Did you mean `text`", id="misspelled"),
        pytest.param({"modalities": 3}, "modalities: got 3; allowed: a list", id="modalities-number"),
        pytest.param({"modalities": [3]}, r"modalities: got \[3\]; allowed: a list", id="modalities-of-numbers"),
        pytest.param({"modalities": "radar"}, "modalities: got the string 'radar'", id="modalities-string"),
        pytest.param({"modalities": ["label"]}, "modalities: got 'label'", id="taken-name"),
    ],
)
def test_wrong_arguments_name_the_fix(tmp_path: Path, arguments: dict, message: str) -> None:
    path = write(tmp_path, [{"text": "a", "id": "x"}])
    with pytest.raises(ValueError, match=message):
        Manifest(path, **arguments)


@pytest.mark.parametrize("path", [3, None, b"rows.jsonl", ["rows.jsonl"]])
def test_a_path_is_a_path(path: Any) -> None:
    with pytest.raises(ValueError, match="path: got .*; allowed: a text or a path"):
        Manifest(path)


def test_an_unknown_column_is_told_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column is a modality.*did you mean `image`.*columns="):
        Manifest(write(tmp_path, [{"imge": "a.png"}]))


@pytest.mark.filterwarnings("ignore")
def test_manifests_rows_and_configurations_are_taken_or_clearly_refused(tmp_path: Path) -> None:
    processor = CodeBindProcessor(tokenizer=build_tokenizer(["a"] * 3, 600))
    outcomes = Outcomes()
    outcomes.try_all(st.one_of(row_calls(processor, tmp_path), configuration_calls()), 350)
    for door in ("manifest", "prepared rows", "configuration"):
        assert min(outcomes.counts[door, TAKEN], outcomes.counts[door, REFUSED]) > 0, outcomes.table()


def test_a_hint_names_the_flag_and_no_column_that_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": "a", "txt": "b", "caption": "c", "img_path": "a.png", "labels": "x", "sound": "a.wav"}]
    Manifest(write(tmp_path, rows))
    (said,) = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert said.endswith(
        "ignored: 'txt', 'caption', 'img_path' (did you mean `image`? --columns img_path=image), "
        "'labels' (did you mean `label`? --columns labels=label), "
        "'sound' (did you mean `audio`? --columns sound=audio)."
    )
    with pytest.raises(
        ValueError, match=r"Fix: did you mean `text`\? --columns txt=text Else rename .*--columns old="
    ):
        Manifest(write(tmp_path, [{"txt": "a"}]))
    with pytest.raises(ValueError, match=r"would be 'images'; allowed: [^.]*\.$"):
        Manifest(write(tmp_path, [{"image": "a.png", "second": "b.png"}]), columns={"second": "images"})
    with pytest.raises(ValueError, match="has no column 'image'; its columns: text, img. Fix: old=new, .*img=image"):
        Manifest(write(tmp_path, [{"text": "a", "img": "b.png"}]), columns={"image": "img"})
    with pytest.raises(ValueError, match="has no column 'tex'; its columns: text, texts. Did you mean `texts`"):
        Manifest(write(tmp_path, [{"text": "a", "texts": "b"}]), columns={"text": "id", "tex": "text"})


def test_other_columns_are_ignored_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": "a", "captured_at": "2024-01-01", "labl": "ring"}, {"text": "b", "captured_at": "2024-01-02"}]
    assert list(Manifest(write(tmp_path, rows)))[0] == {"id": "rows-00000", "text": "a"}
    assert "ignored: 'captured_at', 'labl' (did you mean `label`" in caplog.text
    with pytest.raises(ValueError, match="columns: 'labl' of .* would be 'lable'; allowed: .*[Dd]id you mean `label`"):
        Manifest(write(tmp_path, rows), columns={"labl": "lable"})


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_may_have_several_labels_and_captions(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"id": "a", "audio": "a.wav", "label": ["Speech", "Music"], "text": ["someone talks", "a song"]},
        {"id": "b", "audio": "b.wav", "label": ["Music"], "text": ["drums"]},
    ]
    manifest = Manifest(write(tmp_path, rows, suffix))
    assert [row["label"] for row in manifest] == [["Speech", "Music"], ["Music"]]
    assert manifest[0]["text"] == ["someone talks", "a song"]
    assert manifest.class_names == ["Speech", "Music"]
    assert manifest.texts == ["someone talks", "a song", "drums"]


def test_one_row_may_have_a_list_and_another_a_text(tmp_path: Path) -> None:
    manifest = Manifest(write(tmp_path, [{"text": ["a", "b"], "label": 3}, {"text": "c", "label": "x"}]))
    assert [row["text"] for row in manifest] == [["a", "b"], ["c"]]
    assert [row["label"] for row in manifest] == ["3", "x"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("rows.csv", "text;label\ncafé;Größe\n".encode("cp1252"), id="semicolon-cp1252"),
        pytest.param("rows.csv", "text|label\ncafé|Größe\n".encode(), id="bar"),
        pytest.param("rows.csv", "text\tlabel\ncafé\tGröße\n".encode("utf-16"), id="tab-utf16"),
        pytest.param("rows.tsv", "text\tlabel\ncafé\tGröße\n".encode("utf-8-sig"), id="tsv-with-mark"),
    ],
)
def test_delimiters_and_encodings_are_recognised(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert list(Manifest(path)) == [{"id": "rows-00000", "text": "café", "label": "Größe"}]


def test_an_encoding_can_be_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\nкошка,зверь\n".encode("cp1251"))
    assert Manifest(path, encoding="cp1251")[0]["text"] == "кошка"
    assert not caplog.text
    assert Manifest(path)[0]["text"] != "кошка"
    assert "is not UTF-8 (byte 11) and is read as cp1252; say `encoding`" in caplog.text
    with pytest.raises(ValueError, match="encoding: got 'klingon'"):
        Manifest(path, encoding="klingon")
    with pytest.raises(OSError, match="not ascii text"):
        Manifest(path, encoding="ascii")


ODD = [
    pytest.param([{"text": "2024-01-01", "label": "2024-01-01 10:00:00"}], id="times"),
    pytest.param([{"text": "a", "label": 1}, {"text": "b", "label": "two"}], id="mixed-labels"),
    pytest.param([{"text": "a", "attributes": {"x": 1}}, {"text": "b", "attributes": {"x": "one"}}], id="attributes"),
    pytest.param([{"text": "a"}, {"image": "b.png", "eeg": None}], id="sparse"),
    pytest.param([{"text": "a", "id": "rows-00001"}, {"text": "b", "id": "z"}], id="ids"),
]


@pytest.mark.parametrize("rows", ODD)
def test_columns_and_single_rows_are_read_alike(
    tmp_path: Path, rows: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, rows)
    at_once = Manifest(path)
    monkeypatch.setattr("codebind_hf.data.manifest.read_columns", lambda *_: None)
    slowly = Manifest(path)
    assert list(at_once) == list(slowly)
    assert at_once.row_modalities == slowly.row_modalities
    assert at_once.class_names == slowly.class_names


def test_plain_tables_are_not_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("read row by row")

    monkeypatch.setattr("codebind_hf.data.manifest.read_rows", refuse)
    rows = [{"id": f"{n}", "image": f"{n}.png", "text": f"picture {n}", "attributes": {"n": n}} for n in range(50)]
    for suffix in (".jsonl", ".csv", ".parquet"):
        kept = rows if suffix != ".csv" else [{k: v for k, v in row.items() if k != "attributes"} for row in rows]
        manifest = Manifest(write(tmp_path, kept, suffix))
        assert manifest[-1]["text"] == "picture 49"
        assert manifest.row_modalities == [("text", "image")] * 50


def test_rows_are_told_apart_by_their_files(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    path = write(tmp_path, [{"image": "a.png"}])
    first = Manifest(path).fingerprint
    assert Manifest(path).fingerprint == first
    file.write_bytes(b"another")
    assert Manifest(path).fingerprint != first
