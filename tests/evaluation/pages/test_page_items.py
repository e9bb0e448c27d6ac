import base64
import io
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codebind_hf.evaluation.pages.items import item_html, shown_item
from codebind_hf.evaluation.pages.media import colored, file_uri
from codebind_hf.processing.items import Depth, Thermal


def content_of(html: str, kind: str) -> bytes:
    found = re.search(rf"data:{kind};base64,([^\"]+)", html)
    assert found is not None
    return base64.b64decode(found.group(1))


def picture_of(html: str) -> Image.Image:
    kind = "image/png" if "image/png" in html else "image/jpeg"
    return Image.open(io.BytesIO(content_of(html, kind)))


def test_a_picture_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    shown = picture_of(item_html("image", pixels, "a ring"))
    assert np.array_equal(np.asarray(shown.convert("RGB")), pixels)


def test_a_large_picture_is_made_small() -> None:
    html = item_html("image", Image.new("RGB", (3000, 1000), "red"))
    assert picture_of(html).size == (160, 53)
    assert len(html) < 10_000


def test_a_sound_plays_as_it_was_given() -> None:
    samples = (0.5 * np.sin(np.arange(8000) / 20)).astype(np.float32)
    html = item_html("audio", {"array": samples, "sampling_rate": 8000}, "a bell")
    with wave.open(io.BytesIO(content_of(html, "audio/wav"))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, 8000)
        heard = np.frombuffer(file.readframes(8000), dtype="<i2") / 32767
    assert np.abs(heard - samples).max() < 1e-4
    assert 'aria-label="audio a bell"' in html
    assert "1.0 s" in html


def test_a_long_and_fine_sound_is_cut_and_made_coarser() -> None:
    html = item_html("audio", {"array": np.zeros((2, 96_000 * 8), dtype=np.float32), "sampling_rate": 96_000})
    with wave.open(io.BytesIO(content_of(html, "audio/wav"))) as file:
        assert (file.getframerate(), file.getnframes()) == (16_000, 80_000)
    assert "8.0 s" in html


def test_a_map_says_from_where_to_where_its_colours_go() -> None:
    html = item_html("depth", Depth(np.linspace(1.5, 4, 12).reshape(3, 4), unit="m"))
    assert "1.5 m" in html
    assert "4 m" in html
    assert "linear-gradient(90deg,#440154" in html
    assert "°C" in item_html("thermal", Thermal(np.array([[20.0, 30.0]]), (0, 40), "celsius"))


def test_colours_are_those_of_the_map_at_its_ends() -> None:
    shown = np.asarray(colored(np.array([[0.0, 1.0, np.nan]]), 0, 1))
    assert shown[0, 0].tolist() == [0x44, 0x01, 0x54, 255]
    assert shown[0, 1].tolist() == [0xFD, 0xE7, 0x25, 255]
    assert shown[0, 2, 3] == 0


def test_a_cloud_is_seen_from_three_sides() -> None:
    """A line along z is a point from the front and a line from the right and from above."""
    cloud = np.stack([np.zeros(200), np.zeros(200), np.linspace(-1, 1, 200)], axis=1)
    picture = np.asarray(picture_of(item_html("point_cloud", cloud)).convert("RGBA"))
    height, width = picture.shape[:2]
    assert width == 3 * height
    drawn = [(view[..., 3] > 0).sum() for view in np.split(picture, 3, axis=1)]
    assert drawn[0] == 9
    assert min(drawn[1:]) > 100


def test_a_recording_is_curves() -> None:
    html = item_html("eeg", {"array": np.random.default_rng(0).standard_normal((16, 5000)), "sampling_rate": 250})
    assert html.count("<polyline") == 8
    assert "8 of 16 channels, 20.00 s" in html
    assert len(html) < 60_000


def test_a_film_is_a_strip_of_frames() -> None:
    film = np.zeros((9, 8, 10, 3), dtype=np.uint8)
    film[-1] = 255
    strip = picture_of(item_html("video", film))
    assert strip.size == (40, 8)
    assert np.asarray(strip.convert("RGB"))[0, ::10, 0].tolist() == [0, 0, 0, 255]


@pytest.mark.parametrize(
    ("modality", "shape", "what"),
    [
        ("radar", (3, 200), "<polyline"),
        ("radar", (40, 50), "<img"),
        ("image", (3, 16, 18), "<img"),
        ("video", (1, 2, 3, 16, 18), "<img"),
        ("audio", (1, 64, 60), "<img"),
        ("depth", (1, 16, 18), "<img"),
    ],
)
def test_tensors_and_added_modalities_are_shown_as_their_shape_says(
    modality: str, shape: tuple[int, ...], what: str
) -> None:
    assert what in item_html(modality, np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def test_features_of_another_network_are_a_curve(tmp_path: Path) -> None:
    assert "<polyline" in item_html("image", np.arange(24.0))
    np.save(tmp_path / "f.npy", np.arange(24.0))
    assert "<polyline" in item_html("image", tmp_path / "f.npy")


def test_files_are_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "a.png")
    np.save(tmp_path / "d.npy", np.ones((4, 4), dtype=np.float32))
    assert picture_of(item_html("image", tmp_path / "a.png")).convert("RGB").getpixel((0, 0)) == (10, 20, 30)
    assert "from 1 m to 1 m" in item_html("depth", Depth(str(tmp_path / "d.npy"), unit="m"))


def test_words_and_names_are_escaped() -> None:
    assert "&lt;script&gt;" in item_html("text", "<script>alert(1)</script>")
    html = item_html("image", np.zeros((4, 4, 3), dtype=np.uint8), '"><script>')
    assert "<script" not in html
    assert "<script" not in item_html('x"><script>', np.zeros((2, 5)))


def test_what_cannot_be_read_is_an_error_or_its_reason(tmp_path: Path) -> None:
    broken = tmp_path / "<b>.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(OSError, match="<b>"):
        shown_item("image", broken)
    html = shown_item("image", broken, on_error="skip")
    assert "&lt;b&gt;.png" in html
    assert "<img" not in html
    with pytest.raises(ValueError, match="a point cloud has rows of x, y, z"):
        item_html("point_cloud", np.zeros((4, 2)))


def test_a_drawing_is_kept_to_the_last_bit_and_a_photograph_nearly(tmp_path: Path) -> None:
    drawing = np.zeros((60, 90, 3), dtype=np.uint8)
    drawing[10:20, :, 0] = np.arange(90)
    ramp = np.add.outer(np.arange(300), np.arange(300)) % 256
    photograph = np.stack([ramp, np.roll(ramp, 40, 0), np.roll(ramp, 90, 1)], axis=-1).astype(np.uint8)
    photograph = np.asarray(Image.fromarray(photograph).resize((500, 500), Image.Resampling.BICUBIC))
    for name, pixels, most in (("drawing", drawing, 0), ("photograph", photograph, 12)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        address = file_uri(tmp_path / f"{name}.png")
        assert address.startswith("data:image/webp;base64,")
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))
        assert np.abs(shown.astype(int) - pixels).mean() <= most
