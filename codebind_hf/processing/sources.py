"""What stands for a file, and of which kind is it? Paths, bytes, open files, dictionaries of these, and decoders."""

import os
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .foreign_files import check_limit, reading
from .frames import Frames
from .recordings import Recording
from .values import describe, is_path, refuse


# How files begin: where, with which bytes, and the suffixes that such files have.
_BEGINNINGS: tuple[tuple[int, bytes, str], ...] = (
    *((0, b"\x89PNG\r\n", ".png"), (0, b"\xff\xd8\xff", ".jpg .jpeg"), (0, b"GIF8", ".gif"), (8, b"WEBP", ".webp")),
    *((0, b"BM", ".bmp"), (0, b"P5\n", ".ppm"), (0, b"P6\n", ".ppm")),
    *((0, mark, ".tif .tiff") for mark in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((0, b"\0\0\0\x0cjP", ".jp2"), (0, b"\xffO\xffQ", ".jp2"), (4, b"ftypavif", ".avif")),
    *((4, b"ftyp" + brand, ".heic .heif") for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")),
    *((8, b"WAVE", ".wav .rf64"), (0, b"riff.\x91\xcf\x11", ".w64"), (0, b"fLaC", ".flac"), (0, b"ID3", ".mp3")),
    *((0, b"OggS", ".ogg .oga .opus"), (8, b"AIF", ".aiff .aif"), (0, b".snd", ".au .snd"), (0, b"caff", ".caf")),
    *((0, b"\xff" + bytes([layer]), ".aac") for layer in (0xF0, 0xF1, 0xF8, 0xF9)),
    *((0, b"\xff" + bytes([layer]), ".mp3") for layer in (0xE2, 0xE3, 0xF2, 0xF3, 0xF4, 0xF5, 0xFA, 0xFB)),
    *((4, b"ftypM4A", ".m4a .mp4 .m4v .mov"), (0, b"\x1aE\xdf\xa3", ".mkv .webm"), (8, b"AVI ", ".avi")),
    *((4, box, ".mp4 .m4v .mov .m4a") for box in b"ftyp moov mdat wide free skip pnot uuid".split()),
    *((0, b"\x93NUMPY", ".npy"), (0, b"PK\3\4", ".npz"), (0, b"ply\n", ".ply"), (0, b"ply\r", ".ply")),
    *((0, b"# .PCD", ".pcd"), (0, b"LASF", ".las"), (0, b"\xffBIOSEMI", ".bdf"), (170, b".", ".edf")),
)
# What else is at a place where beginnings are short.
_ALSO = {".edf": (b"0       ", 0), ".bmp": (bytes(4), 6)}
# Of these kinds there are files that begin in other ways.
_LENIENT = (".bmp", ".ppm", ".mp3", ".aac", ".au", ".snd", ".jp2", ".pcd", ".ply")
_SURE = {suffix for *_, suffixes in _BEGINNINGS for suffix in suffixes.split() if suffix not in _LENIENT} | {".laz"}
_LONGEST_BEGINNING, _LONGEST_NAME = 256, 100


def kind_of(source: Any, allowed: Sequence[str]) -> str:
    """The suffix that files of this kind have, by their content, or where that cannot tell the suffix of its name.

    Args:
        source: a path of a file, bytes, or an open file, or a dictionary of these; a decoder has no kind.
        allowed: suffixes, of which one is preferred where content may have several.

    Returns:
        "" for content that is not what all files with this suffix begin with, and is of no other kind that is known.
    """
    name, content = parts_of(source)
    if content is None and os.path.isfile(name):
        with open(name, "rb") as stream:
            content = stream.read(_LONGEST_BEGINNING)
    own, found = Path(name).suffix.lower(), suffixes_of(content or b"")
    if not found:
        return "" if content is not None and own in _SURE else own
    found = [own, *found] if own in found else found
    return next((suffix for suffix in found if suffix in allowed), found[0])


def suffixes_of(content: bytes) -> list[str]:
    """Suffixes of files that begin like this; none where the beginning does not tell."""
    head = bytes(content[:_LONGEST_BEGINNING]).removeprefix(b"\xef\xbb\xbf")
    if head[4:8] == b"ftyp" and b"avif" in head[8:40]:
        return [".avif"]
    if head.startswith(b"LASF") and len(head) > 104 and head[104] & 0x80:
        return [".laz"]
    for start, mark, suffixes in _BEGINNINGS:
        if head.startswith(mark, start) and head.startswith(*_ALSO.get(suffixes, (b"", 0))):
            return suffixes.split()
    return []


def is_source(value: Any) -> bool:
    """Whether `value` stands for a file: see `read_media`."""
    if isinstance(value, Mapping):
        return len(value) > 0 and set(value) <= {"bytes", "path"}
    is_open = hasattr(value, "read") and hasattr(value, "readline")
    return is_path(value) or isinstance(value, (bytes, bytearray)) or is_open or is_decoder(value)


def is_decoder(value: Any, modality: str | None = None) -> bool:
    """Whether `value` has the interface of torchcodec's `AudioDecoder` or `VideoDecoder`, which datasets give."""
    methods = {"audio": "get_all_samples", "video": "get_frame_at"}
    return any(hasattr(value, name) for kind, name in methods.items() if modality in (None, kind))


def parts_of(source: Any) -> tuple[str, bytes | None]:
    """The name of a file, "" for none, and its content unless it has to be opened by its name.

    Raises:
        ValueError: neither, or an open file that gives text or nothing.
    """
    if isinstance(source, Mapping):
        name, content = source.get("path"), source.get("bytes")
        if content is None and not name:
            refuse("file", "got neither bytes nor a path", "one of them")
        return (os.fspath(name or ""), None if content is None else bytes(content))
    if isinstance(source, (bytes, bytearray)):
        return "", bytes(source)
    if is_path(source):
        return os.fspath(source), None
    if is_decoder(source):
        refuse("file", f"got a decoder, {type(source).__name__}", "files here")
    try:
        start = source.tell()
        content, name = source.read(), getattr(source, "name", "")
        source.seek(start)
    except (OSError, ValueError, AttributeError) as error:
        text = f"file: got {type(source).__name__}, which cannot be read again and again ({error})"
        raise ValueError(f"{text}. Fix: pass its bytes, `file.read()`.") from error
    if not isinstance(content, bytes) or not content:
        fix = "open it as open(path, 'rb'), and read nothing of it before."
        refuse("file", f"got an open file that gives {describe(content)}", "one that gives bytes", fix)
    return (name if isinstance(name, str) else ""), content


def called(source: Any) -> str:
    """What messages call a source: the name of a file, or that it has none."""
    path = source.get("path") if isinstance(source, Mapping) else source if is_path(source) else ""
    return str(path or getattr(source, "name", "")) or "without a name"


def read_as_file(source: Any, usual: str, read: Callable[[str], Any]) -> Any:
    """What `read` gives of the file that a source stands for; one for bytes is there as long as the result needs it.

    Args:
        usual: suffix of bytes without a name.
    """
    name, content = parts_of(source)
    if content is None:
        return read(name)
    check_limit("bytes", len(content), "bytes")
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name, Path(name).name[-_LONGEST_NAME:] or f"bytes{usual}")
    try:
        file.write_bytes(content)
        value = read(str(file))
    except BaseException as error:
        folder.cleanup()
        if not isinstance(error, (OSError, ValueError)):
            raise
        told = str(error).replace(str(file), called(source))
        raise (OSError if isinstance(error, OSError) else ValueError)(told) from error
    if isinstance(value, (Frames, Recording)):
        weakref.finalize(value, folder.cleanup)
    else:
        folder.cleanup()
    return value


class DecodedFrames(Frames):
    """Frames of a decoder with the interface of torchcodec's `VideoDecoder`."""

    def __init__(self, decoder: Any) -> None:
        self._decoder, rate = decoder, getattr(getattr(decoder, "metadata", None), "average_fps", None)
        self.fps = None if rate is None else float(rate)

    def __len__(self) -> int:
        return len(self._decoder)

    def __getitem__(self, index: int) -> np.ndarray:
        with reading("video", Path(type(self._decoder).__name__)):
            frame = torch.as_tensor(self._decoder[index]).cpu().numpy()
        return frame if frame.shape[-1] == 3 and frame.shape[0] != 3 else frame.transpose(1, 2, 0)


def samples_of(decoder: Any) -> dict[str, Any]:
    """The sound of a decoder with the interface of torchcodec's `AudioDecoder`, `{"array", "sampling_rate"}`."""
    with reading("audio", Path(type(decoder).__name__)):
        samples = decoder.get_all_samples()
        array = torch.as_tensor(samples.data).cpu().numpy()
    return {"array": array[0] if len(array) == 1 else array, "sampling_rate": int(samples.sample_rate)}
