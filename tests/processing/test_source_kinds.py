"""One notion of a source: whatever stands for a file gives what the file gives, at every door, under any name."""

import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from datasets import Dataset
from fuzzing.files import write_film
from PIL import Image
from pipeline_items import save_checkpoint

from codebind_hf import CodeBindModel, CodeBindProcessor
from codebind_hf.data import CodeBindCollator, Manifest, rows_from_dataset
from codebind_hf.data.fingerprints import fingerprint
from codebind_hf.inference import Audio, Depth, Video
from codebind_hf.inference.pipelines import MultimodalEmbeddingPipeline
from codebind_hf.processing.arguments import argument_of, tensor_of
from codebind_hf.processing.media import read_media


POINTS = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)
# What of a file each way of holding it needs: its path and its bytes.
SOURCES: dict[str, Callable[[str, bytes], Any]] = {
    "path": lambda path, content: Path(path),
    "bytes": lambda path, content: content,
    "bytearray": lambda path, content: bytearray(content),
    "memory": lambda path, content: io.BytesIO(content),
    "open": lambda path, content: open(path, "rb"),  # noqa: SIM115
    "stored": lambda path, content: {"bytes": content, "path": Path(path).name},
    "nameless": lambda path, content: {"bytes": content, "path": None},
    "linked": lambda path, content: {"bytes": None, "path": path},
}
each_source = pytest.mark.parametrize("source", SOURCES)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> CodeBindProcessor:
    return CodeBindProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A file of each modality."""
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("files")
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    soundfile.write(folder / "audio.flac", TONE, 16000)
    write_film(folder / "video.mp4")
    np.save(folder / "depth.npy", 1 + np.random.default_rng(2).random((24, 32), dtype=np.float32))
    write_ply(folder / "point_cloud.ply", "\n")
    np.save(folder / "eeg.npy", np.random.default_rng(3).normal(size=(5, 60)))
    return {path.stem: str(path) for path in sorted(folder.iterdir())}


def write_ply(path: Path, newline: str, mark: bool = False, faces_first: bool = False, lists: bool = False) -> None:
    neighbours = ["property list uchar int neighbours"] if lists else []
    vertex = ["element vertex 40", *(f"property float {axis}" for axis in "xyz"), *neighbours]
    face = ["element face 1", "property list uchar int vertex_indices"]
    rows = [" ".join(f"{number:.9g}" for number in point) + (" 2 0 1" if lists else "") for point in POINTS]
    kinds = [face, vertex] if faces_first else [vertex, face]
    body = ["3 0 1 2", *rows] if faces_first else [*rows, "3 0 1 2"]
    lines = ["ply", "format ascii 1.0", *kinds[0], *kinds[1], "end_header", *body, ""]
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + newline.join(lines).encode())


def tensors(processor: CodeBindProcessor, modality: str, value: Any) -> torch.Tensor:
    return processor(**{argument_of(modality): [value]})[tensor_of(modality)]


@each_source
@pytest.mark.parametrize("modality", ["image", "audio", "video", "depth", "point_cloud", "eeg"])
def test_a_source_gives_what_its_file_gives(
    processor: CodeBindProcessor, files: dict[str, str], modality: str, source: str
) -> None:
    path = files[modality]
    value = SOURCES[source](path, Path(path).read_bytes())
    right = tensors(processor, modality, path)
    # An open file can be read again.
    for _ in range(2):
        assert torch.equal(tensors(processor, modality, value), right)


def test_pictures_and_sounds_of_bytes_are_those_that_were_written(
    processor: CodeBindProcessor, files: dict[str, str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    found = tensors(processor, "image", Path(files["image"]).read_bytes())
    assert torch.equal(found, tensors(processor, "image", Image.fromarray(pixels)))
    heard = read_media("audio", io.BytesIO(Path(files["audio"]).read_bytes()))
    assert heard["sampling_rate"] == 16000
    np.testing.assert_allclose(heard["array"], TONE, atol=1 / 32768)


# Of the other sources the first test sees the tensors; doors take them all alike.
@pytest.mark.parametrize(
    "source",
    [name if name in ("memory", "stored") else pytest.param(name, marks=pytest.mark.slow) for name in SOURCES],
)
def test_every_door_takes_every_source(
    checkpoint: Path, processor: CodeBindProcessor, files: dict[str, str], source: str
) -> None:
    path = files["image"]
    value = SOURCES[source](path, Path(path).read_bytes())
    right = tensors(processor, "image", path)
    batches = [
        *processor.stream([value]),
        *processor.stream([{"image": value}]),
        *processor.stream([value], None, "image"),
    ]
    assert [batch.modality for batch in batches] == ["image"] * 3
    assert all(torch.equal(batch.tensors["pixel_values"], right) for batch in batches)
    batch = CodeBindCollator(processor)([{"image": value, "text": "a ring"}])
    assert torch.equal(batch["pixel_values"], right)
    model = CodeBindModel.from_pretrained(checkpoint).eval()
    pipeline = MultimodalEmbeddingPipeline(model=model, processor=processor)
    own = model.encode([path], processor)
    for given in (value, {"image": value}):
        np.testing.assert_allclose(pipeline(given), own[0], atol=1e-6)


@pytest.mark.parametrize("modality", ["image", "audio", "point_cloud"])
def test_manifests_and_data_sets_hold_files_as_parquet_of_the_hub_does(
    processor: CodeBindProcessor, files: dict[str, str], tmp_path: Path, modality: str
) -> None:
    path = Path(shutil.copy(files[modality], tmp_path))
    cells = [{"bytes": path.read_bytes(), "path": path.name}, {"bytes": None, "path": path.name}]
    pyarrow.parquet.write_table(pa.table({modality: cells, "text": ["a ring", "a bell"]}), tmp_path / "rows.parquet")
    rows = Manifest(tmp_path / "rows.parquet").validate()
    absolute = [{"bytes": cells[0]["bytes"], "path": None}, {"bytes": None, "path": str(path)}]
    other = rows_from_dataset(Dataset.from_dict({modality: absolute, "text": ["a ring", "a bell"]}))
    assert rows.row_modalities == other.row_modalities
    right = tensors(processor, modality, str(path))
    for row in (*rows, *other):
        assert torch.equal(CodeBindCollator(processor)([row])[tensor_of(modality)][0], right[0])
    path.unlink()
    with pytest.raises(OSError, match=rf"1 file is missing.*\n  rows-00001, {modality}: .*{path.name}"):
        rows.validate()


def test_rows_are_told_apart_by_the_content_of_their_sources(files: dict[str, str]) -> None:
    content = Path(files["image"]).read_bytes()
    own = {fingerprint([{"image": value}]) for value in (content, io.BytesIO(content), {"bytes": content})}
    assert len(own) == 1
    assert fingerprint([{"image": content[:-1]}]) not in own
    linked = fingerprint([{"image": {"bytes": None, "path": files["image"]}}])
    assert linked == fingerprint([{"image": files["image"]}]) != own.pop()


def test_rows_of_json_may_name_files_in_dictionaries(tmp_path: Path, files: dict[str, str]) -> None:
    lines = [{"image": {"path": files["image"]}, "text": "a"}, {"image": files["image"], "text": "b"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [row["image"] for row in Manifest(tmp_path / "rows.jsonl")] == [files["image"]] * 2


class AudioDecoder:
    """The interface of torchcodec's decoder."""

    def get_all_samples(self) -> Any:
        return SimpleNamespace(data=torch.from_numpy(np.stack([TONE, -TONE])), sample_rate=16000)


class VideoDecoder:
    """The interface of torchcodec's decoder: frames with their channels first."""

    def __init__(self, frames: np.ndarray, broken_at: int | None = None) -> None:
        self.frames, self.broken_at = torch.from_numpy(frames).permute(0, 3, 1, 2), broken_at
        self.metadata = SimpleNamespace(average_fps=6.0)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == self.broken_at:
            raise RuntimeError("Could not decode")
        return self.frames[index]

    def get_frame_at(self, index: int) -> Any:
        return SimpleNamespace(data=self[index])


def test_decoders_give_their_samples_and_frames(processor: CodeBindProcessor) -> None:
    sound = {"array": np.stack([TONE, -TONE]), "sampling_rate": 16000}
    frames = np.random.default_rng(0).integers(0, 255, (9, 24, 32, 3), dtype=np.uint8)
    batches = list(processor.stream([AudioDecoder(), VideoDecoder(frames), Audio(AudioDecoder())]))
    assert torch.equal(batches[0].tensors["input_features"][:1], tensors(processor, "audio", sound))
    assert batches[0].positions == [0, 2]
    assert torch.equal(batches[1].tensors["pixel_values_videos"], tensors(processor, "video", frames))
    # The rate of the frames is known.
    windows = list(processor.stream([Video(VideoDecoder(frames))], clips="sliding", hop_seconds=0.5))
    assert windows[0].starts == [0.0]
    with pytest.raises(OSError, match=r"items\[0\]: video file 'VideoDecoder'.*Could not decode"):
        list(processor.stream([VideoDecoder(frames, broken_at=8)]))
    with pytest.raises(ValueError, match="images: file: got a decoder, AudioDecoder"):
        processor(images=AudioDecoder())


def test_decoders_of_torchcodec_give_what_their_files_give(
    processor: CodeBindProcessor, files: dict[str, str]
) -> None:
    try:
        decoders = pytest.importorskip("torchcodec.decoders")
    except (OSError, RuntimeError) as error:
        pytest.skip(f"torchcodec does not load here: {str(error).splitlines()[0]}")
    own = {"audio": decoders.AudioDecoder(files["audio"]), "video": decoders.VideoDecoder(files["video"])}
    for name, decoder in own.items():
        found = tensors(processor, name, decoder)
        torch.testing.assert_close(found, tensors(processor, name, files[name]), atol=2e-2, rtol=0)


def test_a_rate_may_stand_beside_a_source(processor: CodeBindProcessor, files: dict[str, str]) -> None:
    content = Path(files["audio"]).read_bytes()
    right = tensors(processor, "audio", content)
    assert torch.equal(tensors(processor, "audio", {"array": content, "sampling_rate": 16000}), right)
    with pytest.raises(ValueError, match=r"audio\[0\].*sampling_rate=8000 for a file at 16000 Hz"):
        tensors(processor, "audio", {"array": content, "sampling_rate": 8000})


@pytest.mark.parametrize("argument", ["audio", "images", "depth", "text"])
def test_bytes_are_never_printed(processor: CodeBindProcessor, argument: str) -> None:
    content = b"\x89secret" * 1000
    for value in (content, {"bytes": content, "path": "name.bin"}, [content], {"array": content}):
        with pytest.raises((ValueError, OSError)) as error:
            processor(**{argument: value})
        assert "secret" not in str(error.value)
        assert len(str(error.value)) < 500


class OnceReadable(io.BytesIO):
    """As an answer of a server."""

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (io.StringIO("words"), "open it as open"),
        (io.BytesIO(b""), "length 0"),
        (OnceReadable(b"GIF89a"), r"images: file: got OnceReadable, which cannot be read again .*`file.read\(\)`"),
        ({"bytes": None, "path": None}, "neither bytes nor a path"),
        ({"bytes": b"", "path": "a.png"}, r"images: image file 'a.png': is empty"),
        ({"bytes": b"\x89PNG\r\n\x1a\n...", "path": "folder/a.png"}, "images: image file 'folder/a.png'"),
    ],
)
def test_what_holds_no_file_is_refused_by_name(processor: CodeBindProcessor, value: Any, message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        processor(images=value)


SOUNDS = {
    **{kind: (kind, None) for kind in ("MP3", "FLAC", "OGG")},
    **{kind: (kind, "PCM_16") for kind in ("RF64", "W64", "WAV", "AIFF", "CAF", "AU")},
}


@pytest.mark.parametrize("kind", SOUNDS)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a"])
def test_sounds_are_known_by_their_content(tmp_path: Path, kind: str, name: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    form, encoding = SOUNDS[kind]
    soundfile.write(tmp_path / name, TONE, 16000, format=form, subtype=encoding)
    found = read_media("audio", tmp_path / name)
    assert found["sampling_rate"] == 16000
    # Lossy encodings pad both ends; the tone is the same.
    middle = np.abs(np.fft.rfft(found["array"][4000:12000] * np.hanning(8000)))
    assert middle.argmax() == 220
    np.testing.assert_allclose(np.abs(found["array"]).max(), 0.3, atol=0.02)


@pytest.mark.parametrize("form", ["png", "jpg", "webp", "tif", "gif", "jp2", "bmp"])
@pytest.mark.parametrize("suffix", ["png", "wav", ""])
def test_pictures_are_known_by_their_content(tmp_path: Path, form: str, suffix: str) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))
    picture.save(tmp_path / f"right.{form}")
    shutil.copy(tmp_path / f"right.{form}", tmp_path / f"a.{suffix}")
    found = np.asarray(read_media("image", tmp_path / f"a.{suffix}"))
    assert np.array_equal(found, np.asarray(read_media("image", tmp_path / f"right.{form}")))


def test_maps_films_and_clouds_are_known_by_their_content(
    files: dict[str, str], tmp_path: Path, processor: CodeBindProcessor
) -> None:
    for modality, name in (("depth", "a.png"), ("video", "a.avi"), ("video", "b"), ("point_cloud", "a.xyz")):
        shutil.copy(files[modality], tmp_path / name)
        found = tensors(processor, modality, str(tmp_path / name))
        assert torch.equal(found, tensors(processor, modality, files[modality]))
    # Of items that do not say their modality, content does.
    (batch,) = processor.stream([tmp_path / "b"])
    assert batch.modality == "video"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [False, True], ids=["", "marked"])
@pytest.mark.parametrize("faces_first", [False, True], ids=["", "faces first"])
@pytest.mark.parametrize("lists", [False, True], ids=["", "lists"])
def test_ply_files_of_any_program_are_read(
    tmp_path: Path, newline: str, mark: bool, faces_first: bool, lists: bool
) -> None:
    write_ply(tmp_path / "a.ply", newline, mark, faces_first, lists)
    np.testing.assert_allclose(read_media("point_cloud", tmp_path / "a.ply"), POINTS, rtol=1e-6)


def wave_of(kind: int) -> bytes:
    about = struct.pack("<HHIIHHH", kind, 1, 16000, 4000, 256, 4, 0)
    return (
        b"RIFF" + struct.pack("<I", 548) + b"WAVEfmt " + struct.pack("<I", 18) + about + b"data\0\2\0\0" + bytes(512)
    )


UNSUPPORTED = {
    "svg.png": ("image", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "photoshop.jpg": ("image", b"8BPS\0\1" + bytes(99)),
    "jpeg-xl.jpg": ("image", b"\xff\x0a" + bytes(99)),
    "windows-media.wav": ("audio", bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(99)),
    "wma-inside.wav": ("audio", wave_of(0x161)),
    "mp3-inside.wav": ("audio", wave_of(0x55)),
    "picture.wav": ("audio", b"\x89PNG\r\n\x1a\n" + bytes(99)),
    "flash.mp4": ("video", b"FLV\1\5\0\0\0\x09" + bytes(99)),
    "program-stream.avi": ("video", b"\0\0\1\xba" + bytes(99)),
    "half.ply": ("point_cloud", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty half x\nend_header\n1\n"),
    "splat.ply": ("point_cloud", b"ply\nformat binary_splat 1.0\nelement vertex 1\nend_header\n"),
    "fields.pcd": ("point_cloud", b"FIELDS x\nSIZE 2\nTYPE Q\nWIDTH 1\nHEIGHT 1\nPOINTS 1\nDATA ascii\n1\n"),
    "future.las": ("point_cloud", b"LASF" + bytes(20) + b"\2\0" + bytes(300)),
    "pickle.npy": ("imu", b"\x80\x04\x95" + bytes(40)),
    "archive.npy": ("imu", b"PK\3\4" + bytes(40)),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_only_unsupported_is_never_called_damaged(tmp_path: Path, name: str) -> None:
    modality, content = UNSUPPORTED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises((OSError, ValueError), match=rf"^{modality} file .*{name}'") as error:
        read_media(modality, tmp_path / name)
    assert "damaged" not in str(error.value)
    assert any(word in str(error.value) for word in ("supported", "does not decode"))


@pytest.mark.parametrize("suffix", ["mp4", pytest.param("mkv", marks=pytest.mark.slow), "avi"])
def test_films_that_end_or_break_early_name_item_and_file(
    processor: CodeBindProcessor, tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("av")
    write_film(tmp_path / f"whole.{suffix}", frames=24)
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    for share in (0.3, 0.6, 0.9):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(content[: int(share * len(content))])
        good = np.zeros((4, 24, 32, 3), dtype=np.uint8)
        with pytest.raises(OSError, match=rf"^videos\[1\]: video file .*cut\.{suffix}': "):
            processor(videos=[good, path])
        with pytest.raises(OSError, match=rf"^items\[1\]: video file .*cut\.{suffix}': "):
            list(processor.stream([Video(good), path], clips="uniform"))
        with pytest.raises(OSError, match=rf"^items\[1\]: video file .*cut\.{suffix}': "):
            list(processor.stream([Video(good, fps=6), Video(str(path))], each_clip=True))
        with pytest.raises(OSError, match=rf"^videos\[0\]: video file .*cut\.{suffix}': "):
            processor(videos=[{"bytes": path.read_bytes(), "path": f"f/cut.{suffix}"}])


def test_a_film_without_pictures_is_a_sound(processor: CodeBindProcessor, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(TONE[None], format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(OSError, match=r"^items\[0\]: video file .*sound\.mp4': .*holds no video track"):
        list(processor.stream([tmp_path / "sound.mp4"]))
    found = read_media("audio", tmp_path / "sound.mp4")
    assert found["sampling_rate"] == 16000
    heard = np.atleast_2d(found["array"])[0, 4000:12000]
    assert np.abs(np.fft.rfft(heard * np.hanning(8000))).argmax() == 220


def test_half_characters_name_item_or_row(processor: CodeBindProcessor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"items\[1\].*half a character, '\\ud800', at place 2"):
        list(processor.stream(["a ring", "a \ud800 bell"]))
    for number, text in enumerate(("a \ud800", ["a ring", "a \ud800"])):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps({"text": "a"}) + "\n" + json.dumps({"text": text}))
        with pytest.raises(ValueError, match=rf"{number}\.jsonl', row 2: text has half a character.* at place 2"):
            Manifest(tmp_path / f"{number}.jsonl")


@pytest.mark.parametrize("as_tensor", [False, True])
def test_rows_of_one_array_are_sounds_or_channels_only_when_said(
    processor: CodeBindProcessor, as_tensor: bool
) -> None:
    four = np.stack([TONE, TONE / 2, TONE / 4, -TONE])
    values = torch.from_numpy(four) if as_tensor else four
    with pytest.raises(
        ValueError, match=r"audio: got an array of shape \(4, 16000\); .*`list\(array\)` .*`\[array\]`"
    ):
        processor(audio=values, sampling_rate=16000)
    # The advice, followed: four sounds as Whisper's extractor makes of it, or one of four channels.
    sounds = processor(audio=list(values), sampling_rate=16000)["input_features"]
    singly = [tensors(processor, "audio", {"array": row, "sampling_rate": 16000}) for row in four]
    assert torch.equal(sounds, torch.cat(singly))
    mean = tensors(processor, "audio", {"array": four.mean(axis=0), "sampling_rate": 16000})
    torch.testing.assert_close(
        processor(audio=[values], sampling_rate=16000)["input_features"], mean, atol=1e-3, rtol=0
    )
    assert len(processor(audio=values[:1], sampling_rate=16000)["input_features"]) == 1


def test_a_text_that_is_cut_is_said_once(processor: CodeBindProcessor, caplog: pytest.LogCaptureFixture) -> None:
    # A length of its own: what was said in another test is not said again.
    processor(text="a ring", max_length=9)
    assert caplog.messages == []
    for _ in range(2):
        ids = processor(text=["a ring", "a bell " * 60], max_length=9)["input_ids"]
    assert ids.shape == (2, 9)
    assert ["longer than the 9 tokens" in said for said in caplog.messages] == [True]


def test_a_name_beside_bytes_opens_nothing(processor: CodeBindProcessor, files: dict[str, str]) -> None:
    """Rows of strangers may name any file of this machine; where bytes are there, they are what is read."""
    cell = {"bytes": Path(files["depth"]).read_bytes(), "path": files["image"]}
    (batch,) = processor.stream([Depth(cell)])
    assert torch.equal(batch.tensors["depth_values"], tensors(processor, "depth", files["depth"]))
