"""The page as it is served: what it asks of the network, what clients may have, and what becomes of their files."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from served_runs import NAMES, write_item


pytest.importorskip("gradio", reason="the demo app needs the extra `demo`")

import httpx  # noqa: E402

from codebind_hf.serving.gradio_library import gr  # noqa: E402
from codebind_hf.serving.picker import Picker  # noqa: E402
from codebind_hf.serving.uploads import Upload, modalities_of_upload, taken  # noqa: E402
from codebind_hf.serving.workbench import Workbench  # noqa: E402


@pytest.fixture
def picker(bench: Workbench) -> Picker:
    with gr.Blocks():
        return Picker(bench, "search", "Query", list(bench.config.modality_names))


def number_of(page: gr.Blocks, name: str) -> int:
    """Of the first event that calls a function of this name."""
    return next(number for number, event in page.fns.items() if event.name == name)


def called(client: httpx.Client, number: int, *data: Any) -> dict[str, Any]:
    """What the server says at the end of an event, as the page would hear it."""
    session = {"session_hash": f"s{number}"}
    joined = client.post("/gradio_api/queue/join", json={"data": data, "fn_index": number, **session})
    assert joined.status_code == 200, joined.text
    with client.stream("GET", "/gradio_api/queue/data", params=session) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:") and (said := json.loads(line[5:]))["msg"] == "process_completed":
                return said
    raise AssertionError("the stream ended early")


def test_the_page_has_its_screens_and_asks_nothing_of_other_hosts(served: SimpleNamespace) -> None:
    answer = served.client.get("/")
    assert answer.status_code == 200
    for name in ("Search", "Codes", "Reconstruction", "Swap", "Map", "cb-cloud", "CodeBind: mine"):
        assert name in answer.text
    assert "fonts.googleapis" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert not served.page.analytics_enabled
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_programs_are_offered_no_way_in(served: SimpleNamespace) -> None:
    described = served.client.get("/gradio_api/info").json()
    assert (described["named_endpoints"], described["unnamed_endpoints"]) == ({}, {})


def test_files_of_the_server_are_not_to_be_had(served: SimpleNamespace, run: Path) -> None:
    secrets = [run / "files" / "image" / "0.png", run / "checkpoint" / "config.json", Path(__file__)]
    number = number_of(served.page, "take_file")
    for secret in secrets:
        assert served.client.get(f"/gradio_api/file={secret}").status_code in (403, 404)
        given = {"path": str(secret), "meta": {"_type": "gradio.FileData"}, "orig_name": "mine.png"}
        said = called(served.client, number, given, "")
        assert not said["success"]
        assert secret.exists()


def test_an_upload_is_read_answered_and_removed(served: SimpleNamespace, run: Path) -> None:
    content = (run / "files" / "tactile" / "0.png").read_bytes()
    sent = served.client.post("/gradio_api/upload", files={"files": ("mine.png", content)})
    (path,) = sent.json()
    assert Path(path).is_file()
    given = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "mine.png"}
    said = called(served.client, number_of(served.page, "take_file"), given, "tactile")
    assert said["success"], said
    *_, view, file = said["output"]["data"]
    assert "mine.png" in view
    assert "<img" in view
    assert file is None
    assert not Path(path).exists()
    assert not Path(path).parent.exists()


def test_a_file_that_is_too_large_is_refused(served: SimpleNamespace) -> None:
    sent = served.client.post("/gradio_api/upload", files={"files": ("mine.png", bytes(65 << 20))})
    assert sent.status_code == 413


# Picking items


@pytest.mark.parametrize("modality", [name for name in NAMES if name != "text"])
def test_a_file_of_every_modality_is_taken(picker: Picker, tmp_path: Path, modality: str) -> None:
    file = write_item(modality, tmp_path / "upload" / "mine", 1)
    query, upload, view, cleared = picker.take_file(str(file), modality)
    assert query is not None
    assert (query.modality, query.row, query.label, cleared) == (modality, None, file.name, None)
    assert upload is not None
    assert not file.exists()
    assert file.name in view
    assert "cb-error" not in view


def test_a_picture_is_a_photograph_until_somebody_says_otherwise(picker: Picker, tmp_path: Path) -> None:
    file = write_item("tactile", tmp_path / "mine")
    query, upload, view, _ = picker.take_file(str(file), "")
    assert query is not None
    assert query.modality == "image"
    assert "Read as image. If it is depth, thermal, tactile" in view
    query, _, view = picker.read_again(upload, "tactile")
    assert query is not None
    assert query.modality == "tactile"
    assert picker.read_again(None, "tactile")[0] is None


def test_an_array_has_to_be_named(picker: Picker, tmp_path: Path) -> None:
    query, upload, view, _ = picker.take_file(str(write_item("eeg", tmp_path / "mine")), "")
    assert query is None
    assert "mine.npy: may be video, depth, thermal" in view
    assert "cb-error" in view
    assert picker.read_again(upload, "eeg")[0] is not None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        pytest.param("a.wav", b"RIFF" + bytes(40), "a.wav", id="damaged sound"),
        pytest.param("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "a.png", id="damaged picture"),
        pytest.param("a.ply", b"ply\nformat ascii 1.0\nelement vertex 3\nend_header\n", "a.ply", id="damaged cloud"),
        pytest.param("a.docx", b"words", "is no file that is read", id="a letter"),
        pytest.param("a.wav", b"", "a.wav", id="nothing"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_message_in_the_page(
    picker: Picker, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    file = tmp_path / "upload" / name
    file.parent.mkdir()
    file.write_bytes(content)
    query, _, view, _ = picker.take_file(str(file), "")
    assert query is None
    assert 'class="cb-note cb-error" role="alert"' in view
    assert says in view
    assert str(tmp_path) not in view
    assert not file.exists()


def test_words_are_never_a_file(picker: Picker, run: Path) -> None:
    secret = str(run / "files" / "image" / "0.png")
    query, _, view = picker.pick_words(secret)
    assert query is not None
    assert query.modality == "text"
    assert "<img" not in view
    assert picker.pick_words("  ")[0] is None


def test_the_page_opens_with_an_example(picker: Picker) -> None:
    query, upload, view = picker.begin()
    assert query is not None
    assert (query.row, query.modality, upload) == (0, "text", None)
    assert "a ring" in view


def test_what_is_taken_is_gone_even_where_it_shares_a_folder(tmp_path: Path) -> None:
    for name in ("one.png", "other.png"):
        (tmp_path / name).write_bytes(name.encode())
    assert taken(str(tmp_path / "one.png")) == Upload("one.png", b"one.png")
    assert [path.name for path in tmp_path.iterdir()] == ["other.png"]
    with pytest.raises(OSError, match="one.png"):
        taken(str(tmp_path / "one.png"))


def test_a_file_of_a_modality_that_the_checkpoint_lacks_is_named() -> None:
    sound = Upload("a.wav", b"RIFF\x24\0\0\0WAVEfmt ")
    assert modalities_of_upload(sound, ("text", "image", "audio")) == ["audio"]
    with pytest.raises(ValueError, match="a.wav: is audio, which this checkpoint does not read; it reads image"):
        modalities_of_upload(sound, ("text", "image"))
    vectors = Upload("a.npy", b"\x93NUMPY\1\0" + bytes(50))
    assert modalities_of_upload(vectors, ("image", "audio"), ("audio",)) == ["audio"]
