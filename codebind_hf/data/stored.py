"""How is every row processed just once, and memory left alone? Tensors in files that are mapped, not read whole."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from codebind_hf.data.choices import ON_ERROR
from codebind_hf.data.collator import ATTENTION_MASK, INPUT_IDS, modality_names
from codebind_hf.data.fingerprints import digest_of, fingerprint, processor_fingerprint
from codebind_hf.data.items import CAPTIONS, Draw, Items, drawn, restricted
from codebind_hf.data.prepared import num_rows, report_of
from codebind_hf.data.preparing import prepared_rows
from codebind_hf.data.row_tensors import class_names_of
from codebind_hf.processing.values import check_choice


INDEX_FILE = "rows.json"
ROWS_A_FILE = 128
_FORMAT = 1


class StoredDataset(Items):
    """Rows as tensors in files: each row goes through the processor once, ever, for one processor and one source.

    What is there already is used if it was made of the same rows with the same processor, else it is made anew. Items
    are those of `PreparedDataset`; loader workers share the pages of the files.

    Args:
        rows: raw rows; those with a `fingerprint` (`Manifest`, `rows_from_dataset(...)`) are told apart by it, a list
            by its values.
        processor (`CodeBindProcessor`): turns values or file names into tensors.
        folder: of the files, which is theirs alone.
        on_error: "raise" reports ALL bad rows in one `ValueError` after the last row was tried; "skip" leaves them out
            and keeps their names and reasons in `skipped`.
        seed: of the captions that are drawn.
        num_workers: processes that read and process rows; 0: this one. The files are the same.

    Raises:
        ValueError: rows without order, a bad row with `on_error="raise"`, an unknown `on_error`, or a folder that
            holds something else.
        OSError: files cannot be written or read, or a worker was killed.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        processor: Any,
        folder: str | os.PathLike,
        on_error: str = "raise",
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        check_choice("on_error", on_error, ON_ERROR)
        self.folder, self.seed = Path(folder), seed
        key = _key(rows, processor, on_error)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # One process makes the files, for all that start at once.
        with FileLock(self.folder.with_name(f"{self.folder.name}.lock")):
            index = _index_of(self.folder)
            if index is None or index["key"] != key:
                index = _write(rows, processor, self.folder, on_error, key, num_workers)
        self.key, self.index = key, index["rows"]
        # Which rows were left out when the files were made, nothing says.
        has_all = len(index["rows"]) == num_rows(rows) and not isinstance(rows, list)
        self._rows = rows if has_all else None
        self.skipped: dict[str, str] = index["skipped"]
        self.row_modalities = [tuple(row["modalities"]) for row in self.index]
        self._files: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def raw(self, position: int) -> Mapping[str, Any] | None:
        """The row that an item is made of, unless rows are a list of values, or some were left out."""
        return None if self._rows is None else self._rows[position]

    @property
    def class_names(self) -> list[str]:
        """Labels in the order of their first appearance."""
        return class_names_of(row["label"] for row in self.index)

    def take(self, draw: Draw, modalities: Sequence[str] | None = None) -> dict[str, Any]:
        """One item with no modalities but these, and the caption that its epoch drew.

        Raises:
            OSError: its file is gone or damaged.
        """
        row, item = self._first(draw.position, modalities)
        if row["captions"] and INPUT_IDS in item["tensors"]:
            chosen = drawn(row["captions"], self.seed, draw)
            item["tensors"] |= self._read(row, _caption_places(draw.position, chosen, row["tensors"]))
        return item

    def whole(self, position: int, modalities: Sequence[str] | None = None) -> dict[str, Any]:
        """One item with all of its captions; errors are those of `take`."""
        row, item = self._first(position, modalities)
        if row["captions"] and INPUT_IDS in item["tensors"]:
            places = [_caption_places(position, caption, row["tensors"]) for caption in range(row["captions"])]
            item[CAPTIONS] = [self._read(row, each) for each in places]
        return item

    def fingerprint_of(self, modality: str) -> str:
        """Digest of rows and processor."""
        return self.key

    def _first(self, position: int, modalities: Sequence[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the index says of a row, and its item with the first of its captions."""
        row = self.index[position]
        kept = restricted({"tensors": dict.fromkeys(row["tensors"])}, modalities)["tensors"]
        tensors = self._read(row, {name: f"{position}.{name}" for name in kept})
        return row, {"tensors": tensors, **{name: row[name] for name in ("id", "label", "attributes")}}

    def _read(self, row: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Tensor]:
        try:
            file = self._file(row["file"])
            return {name: file.get_tensor(place) for name, place in places.items()}
        except (SafetensorError, OSError) as error:
            raise OSError(
                f"{self.folder}: the tensors of row {row['id']!r} cannot be read ({error}). Fix: delete the folder, "
                "and they are made anew."
            ) from error

    def _file(self, number: int) -> Any:
        if number not in self._files:
            self._files[number] = safe_open(_file_of(self.folder, number), framework="pt")
        return self._files[number]


def _file_of(folder: Path, number: int) -> Path:
    return folder / f"rows-{number:05d}.safetensors"


def _caption_places(position: int, caption: int, names: Sequence[str]) -> dict[str, str]:
    return {name: f"{position}.{caption}.{name}" for name in (INPUT_IDS, ATTENTION_MASK) if name in names}


def _key(rows: Any, processor: Any, on_error: str) -> str:
    """What tensors are made of: the rows, the processor, and how."""
    return digest_of([_FORMAT, on_error, fingerprint(rows), processor_fingerprint(processor)])


def _index_of(folder: Path) -> dict[str, Any] | None:
    """What a folder of tensors says of itself; `None` if there is none.

    Raises:
        ValueError: it holds other files.
    """
    file = folder / INDEX_FILE
    if file.is_file():
        return json.loads(file.read_text())
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"folder: {folder} holds other files, and no {INDEX_FILE}. Fix: name a folder of its own.")
    return None


def _write(rows: Any, processor: Any, folder: Path, on_error: str, key: str, num_workers: int) -> dict[str, Any]:
    """Write everything beside `folder` and move it there when it is whole."""
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    total, index = num_rows(rows), list[dict[str, Any]]()
    skipped: dict[str, str] = {}
    waiting: dict[str, Tensor] = {}
    for name, item, reason in prepared_rows(rows, processor, num_workers, "Storing rows"):
        if item is None:
            skipped[name] = reason
            continue
        position, tensors = len(index), item.pop("tensors")
        captions = item.pop(CAPTIONS, ())
        waiting |= {f"{position}.{name}": value.clone() for name, value in tensors.items()}
        for caption, each in enumerate(captions):
            waiting |= {f"{position}.{caption}.{name}": value.clone() for name, value in each.items()}
        modalities = modality_names({"tensors": tensors})
        place = {"file": position // ROWS_A_FILE, "tensors": list(tensors), "captions": len(captions)}
        index.append({**item, "modalities": modalities, **place})
        if len(index) % ROWS_A_FILE == 0:
            save_file(waiting, _file_of(draft, position // ROWS_A_FILE))
            waiting = {}
    if skipped and on_error == "raise":
        shutil.rmtree(draft)
        raise ValueError(report_of(skipped, total))
    if waiting:
        save_file(waiting, _file_of(draft, len(index) // ROWS_A_FILE))
    found = {"key": key, "rows": index, "skipped": skipped}
    (draft / INDEX_FILE).write_text(json.dumps(found))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(draft, folder)
    return found
