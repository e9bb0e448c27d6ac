"""What is an index on disk? A folder of plain arrays that can be read where they lie.

`index.json` says what it is, `codebook.safetensors` holds the codes, `codes.npy` the packed ids, `modalities.npy` the
number of each item's modality and, when items have keys of their own, `keys.npy` these. Where items have specific
codes, `specific.<number>.npy` holds the packed ones of the modality with this number, in the order of its items, and
`codebook.safetensors` their codebooks too; only then is the folder of version 3.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from codebind_hf.inference.code_storage import CodeStorage, Columns, kind_of
from codebind_hf.inference.packed_codes import packed_size, unpack_codes
from codebind_hf.inference.specific_codes import SpecificCodes, checked_book
from codebind_hf.processing.values import fits, shown


DESCRIPTION, BOOK = "index.json", "codebook.safetensors"
FORMAT, VERSION = "codebind_hf.CodeIndex", 3
# Version 1 called a modality a sense; up to version 2 there are no specific codes.
_WITHOUT_SPECIFIC = 2
_OF_VERSION_1 = {"senses": "modalities"}
_FILES = frozenset({DESCRIPTION, BOOK, "codes.npy", "modalities.npy", "senses.npy", "keys.npy"})
_SPECIFIC_FILE = re.compile(r"specific\.\d+\.npy")
_FIELDS: dict[str, Any] = {
    **{"items": int, "segments": int, "num_codes": int, "code_dim": int},
    **{"modalities": list[str], "keys": str},
}
_OPTIONAL: dict[str, Any] = {"only": list[str], "specific": dict[str, dict[str, int]]}
# Items whose ids are checked at a time.
_CHECKED = 2**16


class StoredIndex(NamedTuple):
    """Everything an index is: the codebook `(num_codes, code_dim)`, ids of an item, names of modalities, items, and
    the modalities whose codes these are, `None` for all; and the specific codes.
    """

    codes: Tensor
    segments: int
    modalities: list[str]
    items: CodeStorage
    only: tuple[str, ...] | None
    specific: SpecificCodes


def write_index(index: StoredIndex, folder: str | os.PathLike) -> None:
    """Write an index beside its folder and then move it there; errors are those of `CodeIndex.save`."""
    final = Path(folder).resolve()
    if final.exists() and not _may_be_replaced(final):
        raise ValueError(f"folder: {final} holds something that is no index. Fix: name a new folder.")
    with _published(final) as staged:
        # `save_file` would make a file that only its owner may read.
        (staged / BOOK).write_bytes(save({"codes": index.codes, **_books_of(index.specific)}))
        filled = [part for part in index.items.parts if len(part.codes)]
        width = packed_size(index.segments, len(index.codes))
        _write_column(staged / "codes.npy", [part.codes for part in filled], np.dtype(np.uint8), (width,))
        _write_column(staged / "modalities.npy", [part.modalities for part in filled], np.dtype(np.uint8))
        keys = [part.keys for part in filled if part.keys is not None]
        if keys:
            _write_column(staged / "keys.npy", keys, np.result_type(*keys))
        description = {
            "format": FORMAT,
            "version": VERSION if index.specific.rows else _WITHOUT_SPECIFIC,
            "items": len(index.items),
            "segments": index.segments,
            "num_codes": len(index.codes),
            "code_dim": index.codes.shape[1],
            "modalities": index.modalities,
            "keys": index.items.key_kind or "numbers",
        }
        if index.only is not None:
            description["only"] = list(index.only)
        for name, rows in index.specific.rows.items():
            file = staged / f"specific.{index.modalities.index(name)}.npy"
            _write_column(file, rows.parts, np.dtype(np.uint8), (index.specific.books[name].bytes,))
        if index.specific.rows:
            description["specific"] = {
                name: {"segments": book.segments, "items": len(index.specific.rows.get(name, ()))}
                for name, book in index.specific.books.items()
            }
        (staged / DESCRIPTION).write_text(json.dumps(description, indent=1))


def read_index(folder: str | os.PathLike, mmap: bool) -> StoredIndex:
    """Read an index; errors are those of `CodeIndex.load`."""
    path = Path(folder)
    about = _read_description(path)
    count, segments = about["items"], about["segments"]
    with _reading(path / BOOK, "codebook"):
        tensors = load_file(path / BOOK)
        codes = tensors["codes"]
    if codes.shape != (about["num_codes"], about["code_dim"]):
        raise ValueError(f"{path / BOOK}: holds codes of shape {tuple(codes.shape)}; {DESCRIPTION} says otherwise.")
    columns = Columns(
        _read_column(path / "codes.npy", (count, packed_size(segments, len(codes))), mmap),
        _read_column(path / _modality_file(about), (count,), mmap),
        None if about["keys"] == "numbers" else _read_column(path / "keys.npy", (count,), mmap),
    )
    if columns.codes.dtype != np.uint8 or kind_of(columns.keys) != about["keys"]:
        raise ValueError(
            f"{path}: holds {columns.codes.dtype} codes and {kind_of(columns.keys)} as keys, not its own."
        )
    _check_numbers(path, columns, about)
    items = CodeStorage()
    items.append(columns)
    only = about.get("only")
    modalities, limits = list(about["modalities"]), None if only is None else tuple(only)
    specific = _read_specific(path, about, tensors, columns.modalities, mmap)
    return StoredIndex(codes, segments, modalities, items, limits, specific)


def _books_of(specific: SpecificCodes) -> dict[str, Tensor]:
    """Tensors of the specific codebooks, where any item has specific codes."""
    return {f"specific.{name}": book.codes for name, book in specific.books.items() if specific.rows}


def _read_specific(
    path: Path, about: dict[str, Any], tensors: dict[str, Tensor], modalities: NDArray[np.uint8], mmap: bool
) -> SpecificCodes:
    described = about.get("specific", {})
    with _reading(path / BOOK, "codebook"):
        books = {name: checked_book(tensors[f"specific.{name}"], one["segments"]) for name, one in described.items()}
    specific = SpecificCodes(books)
    counts = _counts(modalities, about["modalities"]) if described else {}
    for name in [name for name, one in described.items() if one.get("items")]:
        if described[name]["items"] != counts.get(name):
            raise ValueError(
                f"{path / DESCRIPTION}: names {described[name]['items']} specific codes of {name!r}, of which there "
                f"are {counts.get(name, 'no')} items. Fix: copy the whole folder again."
            )
        file, book = path / f"specific.{about['modalities'].index(name)}.npy", books[name]
        packed = _read_column(file, (counts[name], book.bytes), mmap)
        if packed.dtype != np.uint8:
            raise ValueError(f"{file}: holds {packed.dtype}, not uint8.")
        for start in range(0, len(packed), _CHECKED):
            with _reading(file, "column of specific codes"):
                unpack_codes(np.asarray(packed[start : start + _CHECKED]), book.segments, book.num_codes)
        specific.append(name, packed)
    return specific


def _counts(modalities: NDArray[np.uint8], names: list[str]) -> dict[str, int]:
    """How many items every modality has."""
    counts = np.zeros(len(names), dtype=np.int64)
    for start in range(0, len(modalities), _CHECKED):
        counts += np.bincount(modalities[start : start + _CHECKED], minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


@contextmanager
def _published(final: Path) -> Iterator[Path]:
    """A folder to write to that takes its place when the block ends, and is removed if it fails."""
    mark = uuid.uuid4().hex
    staged = final.with_name(f".{final.name}.saving-{mark}")
    replaced = final.with_name(f".{final.name}.replaced-{mark}")
    staged.mkdir(parents=True)
    try:
        yield staged
        for file in staged.iterdir():
            _flush(file)
        if final.exists():
            final.rename(replaced)
        try:
            staged.rename(final)
        except OSError:
            if replaced.exists():
                replaced.rename(final)
            raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


def _flush(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _may_be_replaced(path: Path) -> bool:
    """Whether this is a folder that holds an index and nothing else, or nothing at all."""
    if not path.is_dir():
        return False
    names = {file.name for file in path.iterdir()}
    try:
        own = {name for name in names if name in _FILES or _SPECIFIC_FILE.fullmatch(name)}
        return not names or names == own and bool(_read_description(path))
    except (ValueError, OSError):
        return False


def _check_numbers(path: Path, columns: Columns, about: dict[str, Any]) -> None:
    """Refuse numbers of modalities and ids that nothing has, which a search would take for others."""
    if columns.modalities.dtype != np.uint8:
        raise ValueError(f"{path / _modality_file(about)}: holds {columns.modalities.dtype}, not uint8.")
    # Of a power of two codes every pattern of bits is an id.
    has_gaps = about["num_codes"] & (about["num_codes"] - 1) != 0
    for start in range(0, about["items"], _CHECKED):
        part = columns.of(slice(start, start + _CHECKED))
        if int(part.modalities.max()) >= len(about["modalities"]):
            raise ValueError(
                f"{path / _modality_file(about)}: holds modality {part.modalities.max()} of "
                f"{len(about['modalities'])}."
            )
        if has_gaps:
            try:
                unpack_codes(part.codes, about["segments"], about["num_codes"])
            except ValueError as error:
                raise ValueError(f"{path / 'codes.npy'}: {error}") from error


def _write_column(file: Path, parts: list[NDArray[Any]], dtype: np.dtype, width: tuple[int, ...] = ()) -> None:
    """Pieces of a column, one behind the other, without ever holding the column."""
    rows = sum(map(len, parts))
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *width)}
    with file.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, header)
        for part in parts:
            for start in range(0, len(part), 2**16):
                opened.write(np.ascontiguousarray(part[start : start + 2**16], dtype=dtype).tobytes())


@contextmanager
def _reading(file: Path, kind: str) -> Iterator[None]:
    """Meanwhile, whatever a library raises of a file names it: what is damaged may raise anything."""
    fix = "Fix: copy the whole folder again."
    try:
        yield
    except OSError as error:
        raise OSError(f"{file}: cannot be read ({error.strerror or error}). {fix}") from error
    except Exception as error:
        raise ValueError(f"{file}: is no {kind} ({error}). {fix}") from error


def _read_description(path: Path) -> dict[str, Any]:
    with _reading(path / DESCRIPTION, "JSON"):
        about = json.loads((path / DESCRIPTION).read_text())
    kind = (about.get("format"), about.get("version")) if isinstance(about, dict) else None
    if kind not in [(FORMAT, version) for version in range(1, VERSION + 1)]:
        raise ValueError(
            f"{path / DESCRIPTION}: got {kind}; expected {(FORMAT, VERSION)}, which `CodeIndex.save` writes, or an "
            "older version."
        )
    if about["version"] == 1:
        about = {_OF_VERSION_1.get(key, key): value for key, value in about.items()}
    if missing := sorted(_FIELDS.keys() - about.keys()):
        raise ValueError(f"{path / DESCRIPTION}: has no {missing[0]!r}. Fix: copy the whole folder again.")
    optional = {name: kind for name, kind in _OPTIONAL.items() if name in about}
    for name, kind in {**_FIELDS, **optional}.items():
        value = about[name]
        if not fits(value, kind) or (kind is int and value < (name != "items")):
            raise ValueError(f"{path / DESCRIPTION}: {name} is {shown(value)}. Fix: copy the whole folder again.")
    return about


def _modality_file(about: dict[str, Any]) -> str:
    return "senses.npy" if about["version"] == 1 else "modalities.npy"


def _read_column(file: Path, shape: tuple[int, ...], mmap: bool) -> NDArray[Any]:
    with _reading(file, "array or cut short"):
        # An empty file cannot be mapped.
        column = np.load(file, mmap_mode="r" if mmap and shape[0] else None, allow_pickle=False)
    if column.shape != shape:
        raise ValueError(f"{file}: has shape {column.shape} where the index has {shape}. Fix: copy the folder again.")
    return column
