"""Readers: what was written comes back, and damage is an OSError that names the file."""

import struct
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codebind_hf.processing.media import COLORED_POINTS, read_media


def write_wave(path: Path, samples: np.ndarray, width: int, rate: int = 8000) -> None:
    """Integer samples `(n, channels)` as PCM of `width` bytes."""
    raw = samples.astype("<i4")
    if width == 1:
        data = (raw + 128).astype(np.uint8).tobytes()
    else:
        data = b"".join(int(v).to_bytes(width, "little", signed=True) for v in raw.reshape(-1))
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(samples.shape[1])
        stream.setsampwidth(width)
        stream.setframerate(rate)
        stream.writeframes(data)


PLY_HEADER = """ply
format {format} 1.0
comment written by a test
element vertex 3
property float x
property uchar red
property double y
property float z
element face 1
property list uchar int vertex_indices
end_header
"""
POINTS = np.array([[0.5, 1.0, -2.0], [1.5, 0.25, 3.0], [-1.0, 0.0, 4.0]], dtype=np.float32)


def ply_bytes(encoding: str) -> bytes:
    head = PLY_HEADER.format(format=encoding).encode()
    if encoding == "ascii":
        return head + b"".join(b"%g 7 %g %g\n" % tuple(point) for point in POINTS.tolist()) + b"3 0 1 2\n"
    row = ">fBdf" if encoding == "binary_big_endian" else "<fBdf"
    return head + b"".join(struct.pack(row, x, 7, y, z) for x, y, z in POINTS.tolist()) + b"\x03" + bytes(12)


def test_pictures_come_back_as_rgb(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).convert("P").save(tmp_path / "palette.png", transparency=0)
    Image.fromarray(pixels).convert("LA").save(tmp_path / "alpha.png")
    for modality in ("image", "tactile"):
        picture = read_media(modality, tmp_path / "a.png")
        assert picture.mode == "RGB"
        assert np.array_equal(np.asarray(picture), pixels)
        assert read_media(modality, tmp_path / "palette.png").mode == "RGB"
        assert read_media(modality, tmp_path / "alpha.png").size == (7, 5)


def test_a_read_picture_needs_its_file_no_longer(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(tmp_path / "a.png")
    picture = read_media("image", tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert np.asarray(picture).max() == 9


@pytest.mark.parametrize(("width", "full"), [(1, 2**7), (2, 2**15), (3, 2**23), (4, 2**31)])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_of_every_width_comes_back_in_the_unit_interval(
    tmp_path: Path, width: int, full: int, channels: int
) -> None:
    samples = np.random.default_rng(1).integers(-full, full, (50, channels))
    write_wave(tmp_path / "a.wav", samples, width, rate=11025)
    sound = read_media("audio", tmp_path / "a.wav")
    expected = (samples.T / full).astype(np.float32)
    assert sound["sampling_rate"] == 11025
    assert sound["array"].dtype == np.float32
    np.testing.assert_array_equal(sound["array"], expected[0] if channels == 1 else expected)


@pytest.mark.parametrize(("name", "subtype"), [("a.flac", "PCM_16"), ("a.wav", "FLOAT"), ("a.ogg", "VORBIS")])
def test_other_sounds_are_read_by_soundfile(tmp_path: Path, name: str, subtype: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = (0.5 * np.sin(np.arange(8000) / 20)).astype(np.float32)
    soundfile.write(tmp_path / name, np.stack([samples, -samples], axis=1), 8000, subtype=subtype)
    sound = read_media("audio", tmp_path / name)
    assert sound["sampling_rate"] == 8000
    assert sound["array"].shape == (2, 8000)
    assert np.abs(sound["array"][0] - samples).max() < (0.1 if name == "a.ogg" else 1e-4)


BEGINNINGS = {
    ".flac": b"fLaC",
    ".m4a": b"\0\0\0\x20ftypM4A ",
    ".mp4": b"\0\0\0\x20ftypisom",
    ".heic": b"\0\0\0\x20ftypheic",
    ".las": b"LASF",
    ".edf": b"0".ljust(170) + b".",
}


@pytest.mark.parametrize(
    ("modality", "suffix", "library", "command"),
    [
        ("audio", ".flac", "soundfile", "pip install soundfile"),
        ("audio", ".m4a", "av", r"pip install 'codebind-hf\[audio\]'"),
        ("video", ".mp4", "av", r"pip install 'codebind-hf\[video\]'"),
        ("image", ".heic", "pi_heif", r"pip install 'codebind-hf\[image\]'"),
        ("point_cloud", ".las", "laspy", r"pip install 'codebind-hf\[points\]'"),
        ("point_cloud", ".stl", "trimesh", r"pip install 'codebind-hf\[points\]'"),
        ("eeg", ".edf", "edfio", r"pip install 'codebind-hf\[eeg\]'"),
        ("eeg", ".fif", "mne", r"pip install 'codebind-hf\[eeg\]'"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str, suffix: str, library: str, command: str
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(BEGINNINGS.get(suffix, b"...."))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(OSError, match=rf"a\{suffix}': reading {suffix} files needs `{library}`. Fix: {command}"):
        read_media(modality, tmp_path / f"a{suffix}")


def test_movies_are_read_by_pyav(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    frames = np.repeat(np.arange(20, 200, 30, dtype=np.uint8), 32 * 48 * 3).reshape(6, 32, 48, 3)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=6)
        stream.width, stream.height = 48, 32
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    read = read_media("video", tmp_path / "a.mp4")
    assert (len(read), read.fps) == (6, 6.0)
    # In any order, though it is decoded from its beginning.
    for index in (0, 1, 4, 2, 5, 0):
        assert read[index].shape == (32, 48, 3)
        assert np.abs(read[index].astype(int) - frames[index]).max() < 8
    with pytest.raises(OSError, match=r"a\.mp4': ends after 6 frames, before frame 9"):
        read[9]
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:500])
    with pytest.raises(OSError, match=r"b\.mp4.*cannot be decoded|b\.mp4.*damaged"):
        read_media("video", tmp_path / "b.mp4")


def test_video_folders_are_read_in_natural_order(tmp_path: Path) -> None:
    for index in (10, 2, 1):
        Image.fromarray(np.full((4, 6, 3), index, dtype=np.uint8)).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = read_media("video", tmp_path)
    assert len(frames) == 3
    assert [frames[i].shape for i in range(3)] == [(4, 6, 3)] * 3
    assert [int(frames[i][0, 0, 0]) for i in range(3)] == [1, 2, 10]


def test_arrays_come_back_unchanged(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    shapes = {
        "depth": (4, 5),
        "thermal": (4, 5),
        "point_cloud": (9, 3),
        "eeg": (4, 30),
        "imu": (6, 30),
        "radar": (2, 8),
    }
    for modality, shape in shapes.items():
        array = rng.normal(size=shape).astype(np.float32)
        np.save(tmp_path / f"{modality}.npy", array)
        assert np.array_equal(read_media(modality, str(tmp_path / f"{modality}.npy")), array)
    frames = rng.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "v.npy", frames)
    np.savez(tmp_path / "v.npz", frames=frames, fps=3.0)
    assert np.array_equal(read_media("video", tmp_path / "v.npy"), frames)
    assert np.array_equal(read_media("video", tmp_path / "v.npz"), frames)


def test_maps_keep_the_integers_of_their_pictures(tmp_path: Path) -> None:
    deep = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep.astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 5, 3), 77, dtype=np.uint8)).save(tmp_path / "rgb.png")
    for modality in ("depth", "thermal"):
        read = read_media(modality, tmp_path / "deep.png")
        assert read.dtype == np.uint16
        assert np.array_equal(read, deep)
        assert read_media(modality, tmp_path / "grey.png").dtype == np.uint8
    assert read_media("thermal", tmp_path / "rgb.png").tolist() == np.full((4, 5), 77).tolist()
    with pytest.raises(OSError, match=r"rgb\.png.*one channel"):
        read_media("depth", tmp_path / "rgb.png")


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_ply_gives_xyz_whatever_else_it_holds(tmp_path: Path, encoding: str, newline: bytes) -> None:
    head, mark, body = ply_bytes(encoding).partition(b"end_header\n")
    data = (head + mark).replace(b"\n", newline) + (body.replace(b"\n", newline) if encoding == "ascii" else body)
    (tmp_path / "a.ply").write_bytes(data)
    points = read_media("point_cloud", tmp_path / "a.ply")
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, POINTS)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_ply_gives_colours_to_those_who_ask(tmp_path: Path, encoding: str) -> None:
    head = f"ply\nformat {encoding} 1.0\nelement vertex 2\n"
    head += "".join(f"property float {name}\n" for name in "xyz")
    head += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue")) + "end_header\n"
    rows = [(1.0, 2.0, 3.0, 255, 0, 51), (4.0, 5.0, 6.0, 102, 255, 0)]
    body = [b"%g %g %g %d %d %d\n" % row if encoding == "ascii" else struct.pack("<3f3B", *row) for row in rows]
    (tmp_path / "a.ply").write_bytes(head.encode() + b"".join(body))
    expected = [[1, 2, 3, 1, 0, 0.2], [4, 5, 6, 0.4, 1, 0]]
    np.testing.assert_allclose(read_media(COLORED_POINTS, tmp_path / "a.ply"), expected, rtol=1e-6)
    np.testing.assert_array_equal(read_media("point_cloud", tmp_path / "a.ply"), np.array(expected)[:, :3])
    (tmp_path / "b.ply").write_bytes(ply_bytes(encoding))
    # Red alone is no colour.
    np.testing.assert_array_equal(read_media(COLORED_POINTS, tmp_path / "b.ply"), POINTS)
    floats = head.replace("uchar", "float").encode()
    (tmp_path / "c.ply").write_bytes(floats.replace(encoding.encode(), b"ascii") + b"1 2 3 0.5 0.25 1\n4 5 6 0 0 0\n")
    assert read_media(COLORED_POINTS, tmp_path / "c.ply")[0].tolist() == [1, 2, 3, 0.5, 0.25, 1]


def test_ply_skips_elements_before_the_vertices(tmp_path: Path) -> None:
    head = b"ply\nformat %s 1.0\nelement camera 2\nproperty float f\nelement vertex 1\n"
    head += b"property float x\nproperty float y\nproperty float z\nend_header\n"
    (tmp_path / "a.ply").write_bytes(head % b"ascii" + b"8\n9\n1 2 3\n")
    (tmp_path / "b.ply").write_bytes(head % b"binary_little_endian" + struct.pack("<5f", 8, 9, 1, 2, 3))
    for name in ("a.ply", "b.ply"):
        assert read_media("point_cloud", tmp_path / name).tolist() == [[1.0, 2.0, 3.0]]


def damaged_files(folder: Path) -> dict[str, tuple[str, str]]:
    """Modality and a word of the message for every damaged file that this writes."""
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:60])
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder / "deep.png")
    (folder / "text.jpg").write_text("not a picture")
    (folder / "text.wav").write_text("not a sound")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.flac").write_text("not a sound")
    write_wave(folder / "silent.wav", np.zeros((0, 1)), 2)
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "good.npy", np.zeros(1000))
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:200])
    np.savez(folder / "other.npz", pictures=np.zeros(3))
    (folder / "text.ply").write_text("not a cloud")
    (folder / "middle.ply").write_bytes(PLY_HEADER.format(format="binary_middle_endian").encode())
    (folder / "cut.ply").write_bytes(ply_bytes("ascii")[: -len(b"3 0 1 2\n") - 20])
    (folder / "cut_binary.ply").write_bytes(ply_bytes("binary_little_endian")[:-30])
    (folder / "flat.ply").write_text("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n")
    (folder / "none.ply").write_text(PLY_HEADER.format(format="ascii").replace("vertex 3", "vertex 0"))
    (folder / "unicode.eeg.npy").write_text("x")
    return {
        "cut.png": ("image", "damaged|truncated|bad|broken"),
        "deep.png": ("image", "depth or a thermal"),
        "text.jpg": ("image", "is no .jpg file and no other kind that is read"),
        "text.wav": ("audio", "is no .wav file and no other kind that is read"),
        "empty.wav": ("audio", "is empty"),
        "text.flac": ("audio", "is no .flac file"),
        "silent.wav": ("audio", "no sample"),
        "objects.npy": ("eeg", "allow_pickle"),
        "cut.npy": ("imu", "damaged"),
        "other.npz": ("video", "frames"),
        "text.ply": ("point_cloud", "end_header"),
        "middle.ply": ("point_cloud", "binary_middle_endian; supported: ascii, binary_little_endian, binary_big"),
        "cut.ply": ("point_cloud", "cut short|damaged"),
        "cut_binary.ply": ("point_cloud", "cut short"),
        "flat.ply": ("point_cloud", "x, y, z"),
        "none.ply": ("point_cloud", "no vertex"),
        "unicode.eeg.npy": ("eeg", "is no .npy file"),
        "missing.npy": ("eeg", "no such file"),
    }


def test_every_damaged_file_is_an_oserror_that_names_it(tmp_path: Path) -> None:
    for name, (modality, reason) in damaged_files(tmp_path).items():
        with pytest.raises(OSError, match=reason) as error:
            read_media(modality, tmp_path / name)
        assert str(tmp_path / name) in str(error.value), name


def test_folders_that_are_no_video_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="holds no picture"):
        read_media("video", tmp_path)
    with pytest.raises(OSError, match="not a regular file"):
        read_media("image", tmp_path)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "2.png")
    frames = read_media("video", tmp_path)
    assert frames[0].shape == (4, 4, 3)
    with pytest.raises(OSError, match=r"2\.png.*5x4 after 4x4"):
        frames[1]


def test_urls_wrong_suffixes_and_text_are_value_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="URL.*download"):
        read_media("image", "https://example.org/a.png")
    (tmp_path / "a.e57").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"a\.e57.*'\.e57'.*supported: \.npy, \.ply.*Fix: convert"):
        read_media("point_cloud", tmp_path / "a.e57")
    with pytest.raises(ValueError, match="string"):
        read_media("text", tmp_path / "a.e57")
