"""Which kinds of files can be read here? Each is tried on a tiny file that is made on the spot."""

import base64
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


_SIDE, _POINTS, _RATE = 32, 20, 8000
# A picture of 64 x 64 pixels: the library that reads HEIC cannot write it.
_HEIC = """
AAAAGGZ0eXBoZWljAAAAAG1pZjFoZWljAAABKW1ldGEAAAAAAAAAIWhkbHIAAAAAAAAAAHBpY3QAAAAAAAAAAAAAAAAAAAAADnBpdG0AAAAA
AAEAAAAeaWxvYwAAAABEAAABAAEAAAABAAABSQAAACEAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAK1pcHJwAAAAkGlw
Y28AAAB0aHZjQwEBYAAAAJAAAAAAAB7wAPz9+PgAAA8DIAABABhAAQwB//8BYAAAAwCQAAADAAADAB6VmAkhAAEAKEIBAQFgAAADAJAAAAMA
AAMAHqAggQWWVmkkyuaAgAAAAwCAAAADAIQiAAEABkQBwXGhEgAAABRpc3BlAAAAAAAAAEAAAABAAAAAFWlwbWEAAAAAAAAAAQABAoECAAAA
KW1kYXQAAAAdKAGvWAXuEo/++S/9tsC6gzr/yr1XsW8/oFXfV8A=
"""


class Reader(NamedTuple):
    """A kind of file: its modality, the extra that brings its library, what writes one, and how many values it has."""

    suffix: str
    modality: str
    extra: str | None
    write: Callable[[Path], Any]
    holds: int


class Outcome(NamedTuple):
    """Whether a kind of file is read here; if not, why, and what helps."""

    suffix: str
    modality: str
    works: bool
    reason: str = ""
    fix: str = ""


def try_readers() -> list[Outcome]:
    """Write and read one file of every kind."""
    with tempfile.TemporaryDirectory() as folder:
        return [_tried(reader, Path(folder) / f"a{reader.suffix}") for reader in READERS]


def _tried(reader: Reader, file: Path) -> Outcome:
    from codebind_hf.processing.media import read_media

    kind = (reader.suffix, reader.modality)
    needs = f'pip install "codebind-hf[{reader.extra}]"' if reader.extra else "pip install --upgrade codebind-hf"
    try:
        reader.write(file)
        found = _size_of(read_media(reader.modality, file))
    except ImportError as error:
        return Outcome(*kind, False, f"{error.name or error} is not installed", needs)
    # Whatever a library raises that is there and does not work.
    except Exception as error:
        return Outcome(*kind, False, f"{type(error).__name__}: {error}", needs)
    right = found == reader.holds
    return Outcome(*kind, right, "" if right else f"read {found} values of {reader.holds}", "" if right else needs)


def _size_of(value: Any) -> int:
    if isinstance(value, dict):
        return int(np.asarray(value["array"]).size)
    if hasattr(value, "getbands"):
        return int(np.asarray(value).size)
    # Films are frames that are read when they are asked for.
    parts = [value] if isinstance(value, np.ndarray) else [value[place] for place in range(len(value))]
    return sum(np.asarray(part).size for part in parts)


def _grid(kind: type = np.uint8, channels: tuple[int, ...] = (3,)) -> np.ndarray:
    return (np.arange(_SIDE * _SIDE * int(np.prod(channels))) % 200).reshape(_SIDE, _SIDE, *channels).astype(kind)


def _cloud() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(_POINTS, 3))


def _wave() -> np.ndarray:
    return 0.1 * np.sin(np.arange(_RATE // 4) / 9)


def _picture(file: Path) -> None:
    from PIL import Image

    Image.fromarray(_grid()).save(file)


def _heic(file: Path) -> None:
    importlib.import_module("pi_heif")
    file.write_bytes(base64.b64decode(_HEIC))


def _depth(file: Path) -> None:
    from PIL import Image

    Image.fromarray(_grid(np.uint16, ())).save(file)


def _film(file: Path) -> None:
    av = importlib.import_module("av")
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_grid(), format="rgb24")))
        container.mux(stream.encode())


def _sound(file: Path) -> None:
    importlib.import_module("soundfile").write(file, _wave(), _RATE)


def _coded_sound(file: Path) -> None:
    av = importlib.import_module("av")
    with av.open(str(file), "w") as container:
        stream = container.add_stream("alac", rate=_RATE)
        stream.layout = "mono"
        samples = (_wave() * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="mono")
        frame.sample_rate = _RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _ply(file: Path) -> None:
    head = f"ply\nformat ascii 1.0\nelement vertex {_POINTS}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    file.write_text(head + "".join(f"{x} {y} {z}\n" for x, y, z in _cloud()))


def _laser(file: Path) -> None:
    laspy = importlib.import_module("laspy")
    if file.suffix == ".laz":
        importlib.import_module("lazrs")
    header = laspy.LasHeader(point_format=0, version="1.2")
    header.scales = [0.001] * 3
    scan = laspy.LasData(header)
    scan.xyz = _cloud()
    scan.write(file)


def _mesh(file: Path) -> None:
    importlib.import_module("trimesh").creation.box().export(file)


def _electrodes(file: Path) -> None:
    edfio = importlib.import_module("edfio")
    wave = np.round(100 * _wave()[:512])
    edfio.Edf([edfio.EdfSignal(wave, 256, label="Cz", physical_dimension="uV", physical_range=(-200, 200))]).write(
        file
    )


def _recording_of_mne(file: Path) -> None:
    mne = importlib.import_module("mne")
    volts = 1e-5 * _wave()[None, :512]
    mne.io.RawArray(volts, mne.create_info(["Cz"], 256.0, "eeg"), verbose="ERROR").save(file, verbose="ERROR")


def _numbers(file: Path) -> None:
    np.save(file, _cloud().astype(np.float32))


def _tensors(file: Path) -> None:
    importlib.import_module("safetensors.numpy").save_file({"features": _cloud().astype(np.float32)}, file)


_PIXELS, _SAMPLES = _SIDE * _SIDE, _RATE // 4
READERS = (
    *(Reader(suffix, "image", None, _picture, 3 * _PIXELS) for suffix in (".png", ".jpg", ".webp", ".avif")),
    Reader(".heic", "image", "image", _heic, 3 * 64 * 64),
    Reader(".mp4", "video", "video", _film, 3 * 3 * _PIXELS),
    *(Reader(suffix, "audio", None, _sound, _SAMPLES) for suffix in (".wav", ".flac", ".ogg")),
    Reader(".m4a", "audio", "audio", _coded_sound, _SAMPLES),
    Reader(".png", "depth", None, _depth, _PIXELS),
    Reader(".tiff", "thermal", None, _depth, _PIXELS),
    Reader(".ply", "point_cloud", None, _ply, 3 * _POINTS),
    *(Reader(suffix, "point_cloud", "points", _laser, 3 * _POINTS) for suffix in (".las", ".laz")),
    Reader(".stl", "point_cloud", "points", _mesh, 3 * 10_000),
    Reader(".edf", "eeg", "eeg", _electrodes, 512),
    Reader("_raw.fif", "eeg", "eeg", _recording_of_mne, 512),
    Reader(".npy", "imu", None, _numbers, 3 * _POINTS),
    Reader(".safetensors", "feature vectors", None, _tensors, 3 * _POINTS),
)
