"""A small whole file of every format, and ways to damage one."""

import struct
from pathlib import Path
from typing import Any

import av
import edfio
import laspy
import mne
import numpy as np
import soundfile
from PIL import Image, features

from codebind_hf.processing.frames import Frames
from codebind_hf.processing.media import COLORED_POINTS, open_recording, read_media


# Numbers that a header may be made to declare.
LARGE = (b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"9999", bytes(4))


def write_film(path: Path, codec: str = "mpeg4", frames: int = 12) -> None:
    """Some frames of noise, 48 x 32, at 6 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=6)
        stream.width, stream.height = 48, 32
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            pixels = np.random.default_rng(index).integers(0, 256, (32, 48, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def whole_files(folder: Path) -> dict[str, str]:
    """Modality of a small file of every format that can be written here."""
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    files: dict[str, str] = {}
    for suffix in ("png", "jpg", "bmp", "webp", "tif", "gif", "ppm", "jp2", *(["avif"] * features.check("avif"))):
        pixels.save(folder / f"a.{suffix}")
        files[f"a.{suffix}"] = "image"
    Image.fromarray(rng.integers(0, 65536, (24, 32)).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(rng.integers(0, 65536, (24, 32)).astype(np.uint16)).save(
        folder / "deep.tif", compression="tiff_lzw"
    )
    files |= {"deep.png": "depth", "deep.tif": "thermal"}
    tone = np.sin(np.arange(4000) / 9).astype(np.float32) / 2
    kinds = {
        "wav": "WAV",
        "flac": "FLAC",
        "ogg": "OGG",
        "mp3": "MP3",
        "aiff": "AIFF",
        "au": "AU",
        "caf": "CAF",
        "w64": "W64",
    }
    for suffix, kind in kinds.items():
        soundfile.write(folder / f"a.{suffix}", tone, 8000, format=kind)
        files[f"a.{suffix}"] = "audio"
    np.save(folder / "a.npy", rng.normal(size=(4, 30)))
    np.savez_compressed(folder / "a.npz", frames=rng.integers(0, 9, (3, 8, 8, 3), dtype=np.uint8))
    files |= {"a.npy": "eeg", "a.npz": "video"}
    points = rng.normal(size=(20, 3)).astype("<f4")
    head = "ply\nformat {} 1.0\nelement face 1\nproperty list uchar int i\nelement vertex 20\n"
    head += "property float x\nproperty float y\nproperty float z\nend_header\n"
    (folder / "a.ply").write_bytes(
        head.format("binary_little_endian").encode() + b"\x01" + bytes(4) + points.tobytes()
    )
    text = "\n".join(" ".join(map(str, point)) for point in points.tolist())
    (folder / "b.ply").write_text(head.format("ascii") + "1 0\n" + text)
    pcd = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nPOINTS 20\nDATA {}\n"
    (folder / "a.pcd").write_bytes(pcd.format("binary").encode() + points.tobytes())
    raw = points.T.tobytes()
    packed = b"".join(bytes([len(raw[i : i + 32]) - 1]) + raw[i : i + 32] for i in range(0, len(raw), 32))
    lengths = struct.pack("<2I", len(packed), len(raw))
    (folder / "b.pcd").write_bytes(pcd.format("binary_compressed").encode() + lengths + packed)
    (folder / "a.xyz").write_text(text)
    (folder / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (folder / "a.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    (folder / "a.stl").write_bytes(bytes(80) + struct.pack("<I12fH", 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0))
    files |= dict.fromkeys(("a.ply", "b.ply", "a.pcd", "b.pcd", "a.xyz", "a.obj", "a.off", "a.stl"), COLORED_POINTS)
    return files


def write_with_extras(folder: Path) -> dict[str, str]:
    """The same of formats whose libraries are extras."""
    for suffix in ("las", "laz"):
        scan = laspy.LasData(laspy.LasHeader(point_format=2, version="1.2"))
        scan.xyz = np.random.default_rng(0).normal(size=(50, 3))
        scan.write(folder / f"a.{suffix}")
    edfio.Edf([edfio.EdfSignal(np.arange(256.0), 128, label="Cz", physical_dimension="uV")]).write(folder / "a.edf")
    raw = mne.io.RawArray(np.zeros((2, 500)), mne.create_info(2, 250.0, "eeg", verbose="ERROR"), verbose="ERROR")
    raw.save(folder / "a_raw.fif", verbose="ERROR")
    write_film(folder / "a.mp4")
    write_film(folder / "a.mkv")
    names = {"a.las": "point_cloud", "a.laz": "point_cloud", "a.edf": "eeg", "a_raw.fif": "eeg"}
    return {**names, "a.mp4": "video", "a.mkv": "video"}


def damaged(data: bytes, chance: np.random.Generator) -> bytes:
    """Cut, with some bytes changed, with a piece taken out, or with a number of a header made large."""
    kind = chance.integers(4)
    if kind == 0:
        return data[: chance.integers(len(data))]
    changed = bytearray(data)
    if kind == 1:
        for _ in range(chance.integers(1, 9)):
            changed[chance.integers(len(data))] = chance.integers(256)
    elif kind == 2:
        start = chance.integers(len(data))
        del changed[start : start + chance.integers(1, 65)]
    else:
        start = chance.integers(min(len(data), 300))
        changed[start : start + 4] = LARGE[chance.integers(len(LARGE))]
    return bytes(changed)


def read_all(modality: str, file: Path) -> Any:
    """The value with every part that is read when asked for."""
    value = read_media(modality, file)
    if modality == "audio":
        recording = open_recording(file)
        recording.read(recording.num_samples // 2, recording.num_samples)
    return [value[index] for index in range(len(value))] if isinstance(value, Frames) else value
