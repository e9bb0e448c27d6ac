"""Files of unknown origin: formats of our choice, sizes checked first, errors that name the file."""

import base64
import struct
import time
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing.files import damaged, read_all, whole_files, write_film, write_with_extras
from PIL import Image, ImageFile, features

from codebind_hf.processing.foreign_files import FILE_LIMITS, load_array, reading
from codebind_hf.processing.media import read_media


def photo(width: int = 40, height: int = 30) -> Image.Image:
    """Red at its left half, blue at its right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0], pixels[:, width // 2 :, 2] = 250, 250
    return Image.fromarray(pixels)


# Pictures


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".gif", ".ppm", ".jp2", ".avif"])
def test_pictures_of_every_format_are_read(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    photo().save(tmp_path / f"a{suffix}")
    pixels = np.asarray(read_media("image", tmp_path / f"a{suffix}")).astype(int)
    assert pixels.shape == (30, 40, 3)
    assert pixels[15, 5, 0] > 200 > 60 > pixels[15, 5, 2]
    assert pixels[15, 35, 2] > 200 > 60 > pixels[15, 35, 0]


# A picture of 64 x 64 pixels, red at its left half and blue at its right; the library that reads HEIC cannot write it.
HEIC = """
AAAAGGZ0eXBoZWljAAAAAG1pZjFoZWljAAABKW1ldGEAAAAAAAAAIWhkbHIAAAAAAAAAAHBpY3QAAAAAAAAAAAAAAAAAAAAADnBpdG0AAAAA
AAEAAAAeaWxvYwAAAABEAAABAAEAAAABAAABSQAAACEAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAK1pcHJwAAAAkGlw
Y28AAAB0aHZjQwEBYAAAAJAAAAAAAB7wAPz9+PgAAA8DIAABABhAAQwB//8BYAAAAwCQAAADAAADAB6VmAkhAAEAKEIBAQFgAAADAJAAAAMA
AAMAHqAggQWWVmkkyuaAgAAAAwCAAAADAIQiAAEABkQBwXGhEgAAABRpc3BlAAAAAAAAAEAAAABAAAAAFWlwbWEAAAAAAAAAAQABAoECAAAA
KW1kYXQAAAAdKAGvWAXuEo/++S/9tsC6gzr/yr1XsW8/oFXfV8A=
"""


def test_heic_is_read_within_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pi_heif")
    (tmp_path / "a.heic").write_bytes(base64.b64decode(HEIC))
    pixels = np.asarray(read_media("image", tmp_path / "a.heic")).astype(int)
    assert pixels.shape == (64, 64, 3)
    assert pixels[30, 5, 0] > 200 > 60 > pixels[30, 5, 2]
    assert pixels[30, 60, 2] > 200 > 60 > pixels[30, 60, 0]
    (tmp_path / "b.heic").write_bytes(base64.b64decode(HEIC)[:200])
    with pytest.raises(OSError, match=r"b\.heic': damaged"):
        read_media("image", tmp_path / "b.heic")
    monkeypatch.setattr(FILE_LIMITS, "pixels", 4000)
    with pytest.raises(OSError, match=r"a\.heic': declares 4,096 pixels"):
        read_media("image", tmp_path / "a.heic")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_pictures_are_turned_as_their_camera_was_held(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned by 90 degrees clockwise: what is left is then above.
    photo().save(tmp_path / f"a{suffix}", exif=exif)
    for modality in ("image", "tactile"):
        picture = read_media(modality, tmp_path / f"a{suffix}")
        assert picture.size == (30, 40)
        assert picture.getpixel((15, 5))[0] > 200
        # Whoever turns pictures once more finds nothing left to turn.
        assert picture.getexif().get(0x0112, 1) == 1


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) print\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_postscript_never_reaches_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from PIL import EpsImagePlugin

    (tmp_path / name).write_bytes(POSTSCRIPT)
    started: list[Any] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *options, **_: started.append(options))
    with Image.open(tmp_path / name) as picture:
        # Any format that Pillow knows would do.
        assert picture.format == "EPS"
    for modality in ("image", "thermal"):
        with pytest.raises(OSError, match=rf"{name}.*no other kind that is read"):
            read_media(modality, tmp_path / name)
    assert started == []


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""
    chunks = [
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"0")),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (1, 30_000, r"declares 30,000.0 times one side in the other of 1 x 30000; allowed: up to 256"),
        (13_000, 13_000, r"declares 169,000,000 pixels \(13000 x 13000\); allowed: up to 134,217,728"),
        (60_000, 60_000, "refused by Pillow"),
    ],
)
def test_sizes_of_pictures_are_checked_before_they_are_decoded(
    tmp_path: Path, width: int, height: int, reason: str
) -> None:
    (tmp_path / "a.png").write_bytes(png_header(width, height))
    begin = time.monotonic()
    with pytest.raises(OSError, match=rf"a\.png': {reason}"):
        read_media("image", tmp_path / "a.png")
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".gif", ".jp2", ".avif"])
def test_of_a_picture_that_is_cut_the_rest_may_be_asked_for(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=rf"a\{suffix}"):
        read_media("image", tmp_path / f"a{suffix}")
    if suffix in (".png", ".jpg", ".bmp"):
        assert read_media("image", tmp_path / f"a{suffix}", allow_truncated=True).size == (80, 60)
        with pytest.raises(OSError, match=rf"a\{suffix}"):
            read_media("image", tmp_path / f"a{suffix}")
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


# Arrays


def npy(header: str, body: bytes = bytes(64), version: int = 1) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + body


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}", "it is cut short.*allow_truncated"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (9,)}", "it is cut short"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", r"shape \(-1,\); save an array of numbers"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "Python objects.*allow_pickle"),
        ("{'descr': '<U4', 'fortran_order': False, 'shape': (4,)}", "dtype <U4.*save an array of numbers"),
        ("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (4,)}", "save an array of numbers"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (", "damaged"),
        ("__import__('os').getcwd()", "damaged"),
    ],
)
def test_headers_of_arrays_are_compared_with_the_file(tmp_path: Path, header: str, reason: str) -> None:
    (tmp_path / "a.npy").write_bytes(npy(header))
    for modality in ("eeg", "depth", "point_cloud", "video", "radar"):
        with pytest.raises(OSError, match=rf"{modality} file '.*a\.npy': .*{reason}"):
            read_media(modality, tmp_path / "a.npy")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i2", "|u1", "|b1"])
def test_arrays_come_back_in_every_order_and_type(tmp_path: Path, order: Any, kind: str) -> None:
    array = np.asarray(np.random.default_rng(0).normal(size=(5, 4, 3)) * 100, order=order).astype(kind, order="K")
    np.save(tmp_path / "a.npy", array)
    for memory_map in (False, True):
        read = load_array(tmp_path / "a.npy", memory_map=memory_map)
        assert read.dtype == np.dtype(kind)
        np.testing.assert_array_equal(read, array)


def test_of_an_array_that_is_cut_whole_rows_may_be_asked_for(tmp_path: Path) -> None:
    array = np.arange(40, dtype=np.float32).reshape(10, 4)
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-20])
    with pytest.raises(OSError, match="it is cut short"):
        read_media("eeg", tmp_path / "a.npy")
    np.testing.assert_array_equal(read_media("eeg", tmp_path / "a.npy", allow_truncated=True), array[:8])
    np.save(tmp_path / "b.npy", np.asfortranarray(array))
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-20])
    with pytest.raises(OSError, match="it is cut short"):
        read_media("eeg", tmp_path / "b.npy", allow_truncated=True)


def test_an_archive_is_not_unpacked_beyond_what_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", frames=np.zeros((100, 100, 100, 3), np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 10_000
    assert read_media("video", tmp_path / "a.npz").shape == (100, 100, 100, 3)
    monkeypatch.setattr(FILE_LIMITS, "bytes", 1_000_000)
    with pytest.raises(OSError, match=r"a\.npz': declares 3,000,128 bytes; allowed: up to 1,000,000"):
        read_media("video", tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("frames.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000,)}"))
    with pytest.raises(OSError, match=r"b\.npz': it is cut short"):
        read_media("video", tmp_path / "b.npz")


def test_a_file_that_is_too_large_for_memory_is_refused_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FILE_LIMITS, "bytes", 1000)
    np.save(tmp_path / "a.npy", np.zeros(200))
    for modality in ("eeg", "depth", "point_cloud"):
        with pytest.raises(OSError, match=r"declares 1,728 bytes; allowed: up to 1,000"):
            read_media(modality, tmp_path / "a.npy")
    # Frames are read when they are asked for, however many there are.
    np.save(tmp_path / "v.npy", np.zeros((9, 20, 20, 3), np.uint8))
    assert len(read_media("video", tmp_path / "v.npy")) == 9


# Errors


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (zipfile.BadZipFile("bad"), "damaged or not what its suffix says (bad)"),
        (zlib.error("bad"), "damaged or not"),
        (tokenize.TokenError("bad", (1, 2)), "damaged or not"),
        (struct.error("bad"), "damaged or not"),
        (OverflowError("bad"), "damaged or not"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "damaged or not"),
        (AssertionError(), "damaged or not what its suffix says (AssertionError)"),
        (MemoryError(), "needs more memory than there is"),
        (NotImplementedError("kind 7"), "holds what is not supported (kind 7)"),
        (ImportError("no name"), "a library that reads it does not work (no name)"),
        (OSError("no medium"), "no medium"),
    ],
)
def test_whatever_a_reader_raises_names_the_file(error: Exception, said: str) -> None:
    with pytest.raises(OSError, match="audio file 'a.wav': ") as found, reading("audio", Path("a.wav")):
        raise error
    assert said in str(found.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov"])
def test_a_film_that_is_cut_is_refused_or_ends_with_an_error(tmp_path: Path, name: str) -> None:
    write_film(tmp_path / name)
    whole = read_media("video", tmp_path / name)
    assert len(whole) == 12
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(OSError, match=name):
        read_media("video", tmp_path / name)[11]
    if name != "a.mp4" and name != "a.mov":
        rest = read_media("video", tmp_path / name, allow_truncated=True)
        assert 1 <= len(rest) < 12
        np.testing.assert_array_equal(rest[0], whole[0])


def test_films_beyond_a_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_film(tmp_path / "a.mp4")
    for name, limit, reason in (
        ("pixels", 1000, "1,536 pixels"),
        ("seconds", 1, "2.0 seconds"),
        ("frames", 9, "12 frames"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(FILE_LIMITS, name, limit)
            with pytest.raises(OSError, match=rf"a\.mp4': declares {reason}"):
                read_media("video", tmp_path / "a.mp4")


# Damage of every kind


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("writer", [whole_files, write_with_extras])
def test_damaged_files_are_read_or_refused_by_name(tmp_path: Path, writer: Callable[[Path], dict[str, str]]) -> None:
    chance = np.random.default_rng(13)
    said: list[tuple[Path, Exception]] = []
    for name, modality in writer(tmp_path).items():
        data = (tmp_path / name).read_bytes()
        read_all(modality, tmp_path / name)
        folder = tmp_path / "damaged"
        folder.mkdir(exist_ok=True)
        # Another process unpacks the last.
        for _ in range(4 if name.endswith(".laz") else 30):
            (folder / name).write_bytes(damaged(data, chance))
            try:
                read_all(modality, folder / name)
            except (OSError, ValueError) as error:
                said.append((folder / name, error))
    assert len(said) > 80
    assert [repr(error) for file, error in said if str(file) not in str(error)] == []
    assert {type(error) for _, error in said} <= {OSError, ValueError}
