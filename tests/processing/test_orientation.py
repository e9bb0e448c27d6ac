"""How do pictures and films lie? As their files say they are looked at, whatever the format and the door."""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from common import small_config, tiny_model
from datasets import Dataset
from datasets import Image as Cell
from PIL import ExifTags, Image, features

from codebind_hf import CodeBindProcessor
from codebind_hf.data import Manifest, augmented_row, rows_from_dataset
from codebind_hf.data.row_tensors import prepare_row
from codebind_hf.inference.pipelines import MultimodalEmbeddingPipeline
from codebind_hf.processing.image_processing_codebind import (
    CodeBindDepthImageProcessor,
    CodeBindImageProcessor,
    CodeBindThermalImageProcessor,
)
from codebind_hf.processing.media import read_media
from codebind_hf.processing.video_processing_codebind import CodeBindVideoImageProcessor
from codebind_hf.training.tokenization import build_tokenizer


av = pytest.importorskip("av")

# By EXIF's number: which stored picture is seen as the upright one. Rows and columns as EXIF 2.3, 4.6.4, names the
# sides that the first stored row and column are.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: seen.swapaxes(0, 1)[::-1],
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: seen.swapaxes(0, 1)[:, ::-1],
}
# Of a film the same: a, b, c and d of its display matrix; a stored place (x, y) is seen at (ax + cy, bx + dy).
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
every_orientation = pytest.mark.parametrize("number", STORED)


def seen_picture() -> np.ndarray:
    """48 x 64, dark but for two corners of different colours, so that no turn or mirror gives it again."""
    picture = np.full((48, 64, 3), 40, np.uint8)
    picture[:16, :16], picture[:16, -16:] = [230, 30, 30], [30, 200, 30]
    return picture


def exif(number: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = number
    return tags


def write(path: Path, number: int, seen: np.ndarray | None = None) -> Path:
    stored = np.ascontiguousarray(STORED[number](seen_picture() if seen is None else seen))
    options = {"quality": 95} if path.suffix == ".jpg" else {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(stored).save(path, exif=exif(number), **options)
    return path


def values(item: Any, **options: Any) -> np.ndarray:
    return CodeBindImageProcessor(size=[12, 16], resize_mode="stretch", **options)(item, return_tensors="np")[
        "pixel_values"
    ][0]


@every_orientation
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".avif"])
def test_pictures_of_every_orientation_are_seen_upright(tmp_path: Path, number: int, suffix: str) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    file = write(tmp_path / f"a{suffix}", number)
    # Quantization alone, which a picture that is turned meets in other blocks.
    tolerance = 0.0 if suffix in (".png", ".webp", ".tiff") else 0.4
    upright = values(seen_picture())
    np.testing.assert_allclose(values(file), upright, atol=tolerance)
    with Image.open(file) as opened:
        np.testing.assert_allclose(values(opened), upright, atol=tolerance)
    assert np.asarray(read_media("image", file)).shape == (48, 64, 3)


@every_orientation
def test_pictures_are_read_as_stored_where_the_reference_does(tmp_path: Path, number: int) -> None:
    stored = np.ascontiguousarray(STORED[number](seen_picture()))
    file = write(tmp_path / "a.png", number)
    with Image.open(file) as opened:
        for item in (file, opened):
            np.testing.assert_array_equal(values(item, upright=False), values(stored))
    saved = CodeBindImageProcessor(upright=False)
    assert CodeBindImageProcessor.from_dict(saved.to_dict()).upright is False
    assert "upright" not in CodeBindImageProcessor().to_dict()


def test_maps_lie_as_their_pictures_do(tmp_path: Path) -> None:
    seen = np.arange(24, dtype=np.uint16).reshape(4, 6) * 100
    for number in (3, 6, 7):
        stored = np.ascontiguousarray(STORED[number](seen))
        Image.fromarray(stored).save(tmp_path / "depth.png", exif=exif(number))
        Image.fromarray((stored // 100).astype(np.uint8)).save(tmp_path / "heat.png", exif=exif(number))
        depth = CodeBindDepthImageProcessor(size=[4, 6], depth_unit="mm", interpolation="nearest", resize_on="tensor")
        heat = CodeBindThermalImageProcessor(size=[4, 6], interpolation="nearest")
        for part, name, expected in ((depth, "depth", seen), (heat, "heat", (seen // 100).astype(np.uint8))):
            right = part(expected, return_tensors="np")
            with Image.open(tmp_path / f"{name}.png") as opened:
                for item in (tmp_path / f"{name}.png", opened):
                    for tensor, found in part(item, return_tensors="np").items():
                        np.testing.assert_array_equal(found, right[tensor])


def test_every_door_turns_alike(tmp_path: Path) -> None:
    """Processor, manifest, data sets (bytes and paths), `encode`, pipelines and augmented rows."""
    model = tiny_model(small_config("text", "image", text_config={"vocab_size": 600}))
    processor = CodeBindProcessor.from_model_config(model.config, build_tokenizer(["a red corner"] * 3, 600))
    file = write(tmp_path / "a.png", 6)
    (tmp_path / "rows.csv").write_text("image\na.png\n")
    right = processor(images=[seen_picture()])["pixel_values"]
    content = file.read_bytes()
    cells = [{"bytes": content, "path": None}, str(file)]
    sets = [Dataset.from_dict({"image": [cell]}).cast_column("image", Cell()) for cell in cells]
    rows = [Manifest(tmp_path / "rows.csv")[0], {"image": Image.open(io.BytesIO(content))}]
    rows += [rows_from_dataset(each)[0] for each in sets]
    for row in rows:
        assert (prepare_row(row, processor)["tensors"]["pixel_values"] == right[0]).all()
    embeds = model.encode({"image": [seen_picture()]}, processor)["image"]
    pipe = MultimodalEmbeddingPipeline(model=model, processor=processor)
    for item in (file, Image.open(file)):
        assert (model.encode({"image": [item]}, processor)["image"] == embeds).all()
        np.testing.assert_allclose(pipe({"image": item}), embeds[0], atol=1e-6)
    processor.augmentation = {"image": [{"name": "horizontal_flip", "p": 1.0}]}
    mirrored = processor(images=[seen_picture()[:, ::-1]])["pixel_values"][0]
    for row in rows:
        assert (augmented_row(row, processor, (0, 0, 0))["tensors"]["pixel_values"] == mirrored).all()


def write_film(path: Path, number: int = 1, codec: str = "mpeg4") -> Path:
    """Three frames that are seen as `seen_picture`."""
    stored = np.ascontiguousarray(STORED[number](seen_picture()))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = stored.shape[1], stored.shape[0], "yuv420p"
        stream.bit_rate = 4_000_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, 30_000)
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            frame.pts, frame.time_base = index * 3000, Fraction(1, 30_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if number != 1 and path.suffix in (".mp4", ".mov", ".m4v"):
        set_matrix(path, MATRICES[number])
    return path


def set_matrix(path: Path, turn: tuple[float, float, float, float]) -> None:
    """Write a display matrix into the header of a track."""
    a, b, c, d = (round(number * 65536) for number in turn)
    data = path.read_bytes()
    plain = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    place = data.index(plain, data.index(b"tkhd"))
    path.write_bytes(data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + 36 :])


@pytest.mark.parametrize(("number", "name"), [*((one, "a.mp4") for one in MATRICES), (6, "a.mov"), (7, "a.m4v")])
def test_films_of_every_orientation_are_seen_upright(tmp_path: Path, number: int, name: str) -> None:
    frames = read_media("video", write_film(tmp_path / name, number))
    difference = np.abs(frames[1].astype(int) - seen_picture())
    assert frames[1].shape == (48, 64, 3)
    # The corners' edges are blurred by the codec, and the fields are 16 wide.
    assert np.median(difference[:16, :16]) < 20
    assert np.median(difference[:16, -16:]) < 20
    assert np.median(difference[16:]) < 20
    lying = read_media("video", tmp_path / name, upright=False)[1]
    assert np.abs(lying.astype(int) - STORED[number](seen_picture())).mean() < 12


def test_films_say_how_they_lie_in_their_stream_too(tmp_path: Path) -> None:
    """H.264 in Matroska, whose header says nothing here: a message in the stream does."""
    plain = write_film(tmp_path / "plain.mkv", codec="libx264")
    with av.open(str(plain)) as source, av.open(str(tmp_path / "a.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        turning = av.BitStreamFilterContext("h264_metadata=display_orientation=insert:rotate=90", stream)
        for packet in source.demux(video=0):
            for each in turning.filter(packet if packet.size else None):
                each.stream = stream
                target.mux(each)
    # A quarter to the left, as H.264 counts.
    found = read_media("video", tmp_path / "a.mkv")[0].astype(int)
    assert np.abs(found - np.rot90(seen_picture())).mean() < 12


def test_a_film_that_is_turned_by_another_angle_is_refused(tmp_path: Path) -> None:
    file = write_film(tmp_path / "a.mp4")
    set_matrix(file, (0.8, 0.6, -0.6, 0.8))
    with pytest.raises(OSError, match=r"a\.mp4.*not by quarters.*upright=False"):
        read_media("video", file)[0]
    assert read_media("video", file, upright=False)[0].shape == (48, 64, 3)


def test_clips_of_a_turned_film_are_those_of_the_upright_one(tmp_path: Path) -> None:
    part = CodeBindVideoImageProcessor(size=[12, 16])
    upright = part(write_film(tmp_path / "a.mp4"), return_tensors="np")["pixel_values_videos"]
    turned = part(write_film(tmp_path / "b.mp4", 6), return_tensors="np")["pixel_values_videos"]
    lying = part(tmp_path / "b.mp4", upright=False, return_tensors="np")["pixel_values_videos"]
    assert np.abs(turned - upright).mean() < 0.1 < np.abs(lying - upright).mean()
