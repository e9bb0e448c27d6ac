"""Reference values of the original programs: what `fixtures` holds in few bytes, given back bit for bit.

A room is a folder of `fixtures`. Its `tensors.xz` has all tensors of all files of that room, as bytes or as
differences to a guess of `golden_guesses.py`; everything else lies there as plain files. `fixtures/README.md` says
where the values come from, and `scripts/shrink_goldens.py` makes the rooms.
"""

import atexit
import json
import lzma
import shutil
import tempfile
import wave
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import golden_guesses
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor


FIXTURES = Path(__file__).parent / "fixtures"
PACKED = "tensors.xz"


class Room:
    """The tensors of one room, by file and key.

    Attributes:
        files: of every file the recipes of its tensors in the order of the original, their SHA-256 and, of a
            checkpoint that holds more than tensors, what is around them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = lzma.decompress((self.folder / PACKED).read_bytes())
        length = int.from_bytes(content[:8], "little")
        self.files: dict[str, dict[str, Any]] = json.loads(content[8 : 8 + length])
        self.payload = memoryview(content)[8 + length :]
        self.known: dict[tuple[str, str], np.ndarray] = {}

    def array(self, file: str, key: str) -> np.ndarray:
        """One tensor; a later call gives the same array."""
        if (file, key) not in self.known:
            self.known[file, key] = self._array(**self.files[file]["tensors"][key])
        return self.known[file, key]

    def _array(
        self, shape: list[int], dtype: str, at: int | None = None, guess: str = "", given: dict | None = None
    ) -> np.ndarray:
        if guess == "same":
            return self.array(*given["as"]).reshape(shape)  # type: ignore[index]
        stored = dtype if not guess else "uint32"
        count = int(np.prod(shape))
        size = np.dtype(stored).itemsize
        planes = np.frombuffer(self.payload, np.uint8, count * size, at).reshape(size, count)
        values = np.ascontiguousarray(planes.T).view(stored).reshape(shape)
        return corrected(guessed(guess, shape, dtype, resolved(given, self)), values) if guess else values


def resolved(given: Any, source: Any) -> Any:
    """Arguments of a guess with every reference replaced by its array.

    Args:
        given: references are `{"tensor": [file, key]}`, with `shape` or `move` (axes) where those differ,
            `{"picture": file, "mode": mode, "box": box}`, `{"archive": file, "key": key}` and `{"sound": file}`.
        source: a `Room`, or anything with its `array` and `folder`.
    """
    match given:
        case {"tensor": [file, key], **options}:
            values = source.array(file, key)
            values = values.reshape(options.get("shape", values.shape))
            return np.moveaxis(values, *options["move"]) if "move" in options else values
        case {"picture": file, "mode": mode, "box": box}:
            with Image.open(source.folder / file) as picture:
                converted = picture.convert(mode) if mode else picture
                array = np.asarray(converted.crop(box) if box else converted)
            return np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
        case {"archive": file, "key": key}:
            with np.load(source.folder / file) as archive:
                return archive[key]
        case {"sound": file}:
            return sound(source.folder / file)[0].T
        case dict():
            return {name: resolved(value, source) for name, value in given.items()}
        case list():
            return [resolved(value, source) for value in given]
    return given


def guessed(guess: str, shape: list[int], dtype: str, given: dict[str, Any]) -> np.ndarray:
    function: Callable[..., np.ndarray] = getattr(golden_guesses, guess)
    return np.ascontiguousarray(function(shape=shape, **given).astype(dtype)).reshape(shape)


def ordered(values: np.ndarray) -> np.ndarray:
    """Integers in the order of the values, one for each: neighbouring numbers have neighbouring integers."""
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    bits = values.view(f"i{values.itemsize}").astype(np.int64)
    return np.where(bits < 0, -(bits & np.iinfo(f"i{values.itemsize}").max) - 1, bits)


def corrected(guess: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """The values that `difference` tells apart from a guess: the inverse of `differences`."""
    signed = (difference >> 1).astype(np.int64) ^ -(difference & 1).astype(np.int64)
    order = (ordered(guess) + signed).astype(np.uint32).astype(np.int32).astype(np.int64)
    if guess.dtype.kind != "f":
        return order.astype(guess.dtype)
    lowest = np.iinfo(f"i{guess.itemsize}").min
    return np.where(order < 0, lowest - order - 1, order).astype(f"i{guess.itemsize}").view(guess.dtype)


def differences(values: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """How many representable numbers the guess is off, small numbers for both signs."""
    signed = (ordered(values) - ordered(guess)).astype(np.uint32).astype(np.int32)
    return ((signed << 1) ^ (signed >> 31)).view(np.uint32)


def sound(file: Path) -> tuple[np.ndarray, int]:
    """The levels of 16 bits `(samples, channels)` of a FLAC file, and its rate."""
    import soundfile  # noqa: PLC0415

    return soundfile.read(file, dtype="int16", always_2d=True)


@cache
def room(name: str) -> Room:
    return Room(FIXTURES / name)


def tensors(file: str) -> dict[str, Tensor]:
    """New tensors of one original file, named from its room on, as `quantizer/forward.safetensors`."""
    name, file = file.split("/", 1)
    return {key: torch.from_numpy(room(name).array(file, key).copy()) for key in room(name).files[file]["tensors"]}


def described(around: Any) -> Any:
    """What a checkpoint holds beside its tensors, from its JSON; `{"float64": x}` is a number of numpy."""
    match around:
        case {"float64": value}:
            return np.float64(value)
        case dict():
            return {key: described(value) for key, value in around.items()}
        case list():
            return [described(value) for value in around]
    return around


def write(name: str, target: Path) -> None:
    """A whole room in the layout of the originals: checkpoints, tensors, sounds and plain files."""
    source = room(name).folder
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(PACKED, "*.flac"), dirs_exist_ok=True)
    for file in source.rglob("*.flac"):
        levels, rate = sound(file)
        with wave.open(str(target / file.relative_to(source).with_suffix(".wav")), "wb") as stream:
            stream.setnchannels(levels.shape[1])
            stream.setsampwidth(2)
            stream.setframerate(rate)
            stream.writeframes(levels.tobytes())
    for file, description in room(name).files.items():
        path = target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        content = tensors(f"{name}/{file}")
        if path.suffix == ".safetensors":
            save_file(content, path)
        elif "around" in description:
            around = described(description["around"])
            torch.save({key: content if key == "state_dict" else value for key, value in around.items()}, path)
        else:
            torch.save(content, path)


@cache
def folder(name: str) -> Path:
    """A room in the layout of the originals, written once a process to a folder that goes with it."""
    path = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    write(name, path)
    return path
