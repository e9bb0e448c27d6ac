"""What does the app work with? A checkpoint and a gallery, which are loaded and embedded while the page is up."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from transformers.utils import CONFIG_NAME, cached_file

from codebind_hf.data.fingerprints import digest_of
from codebind_hf.data.manifest import Manifest
from codebind_hf.evaluation.embedding import EmbeddedModality, EmbeddedSet, embed_dataset, modalities_to_read
from codebind_hf.evaluation.figure_style import pretty
from codebind_hf.evaluation.provenance import checkpoint_digest, checkpoint_of, name_of, run_folder_of
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.modeling_codebind import CodeBindModel
from codebind_hf.processing.arguments import argument_of
from codebind_hf.processing.processing_codebind import CodeBindProcessor
from codebind_hf.serving.embedding_cache import read_embeddings, write_embeddings
from codebind_hf.serving.item_views import item_view


logger = logging.getLogger(__name__)

# Rows of a gallery that are shown; a page is no place for more.
MOST_ROWS = 2000
_BATCH = 32


@dataclass(frozen=True)
class Loaded:
    """What is there once everything is loaded; `embedded` is `None` without a gallery."""

    model: CodeBindModel
    processor: CodeBindProcessor
    embedded: EmbeddedSet | None


@dataclass(frozen=True)
class Query:
    """An item that somebody gave, as the model sees it.

    Args:
        modality, value: the item.
        embedded: of one item.
        view: HTML of it.
        row: where it comes from the gallery, the number of its row.
        label: what it is called.
    """

    modality: str
    value: Any
    embedded: EmbeddedModality
    view: str
    row: int | None
    label: str


class Workbench:
    """A checkpoint and the rows of a gallery.

    Configuration and manifest are read at once, so that mistakes in them are said at once; `loaded()` waits for the
    rest, which another thread works on.

    Args:
        checkpoint: a run, the folder of a checkpoint, or a name on the Hub.
        gallery: a manifest of files; by default the one that a run has in `files/`.

    Raises:
        OSError: no such checkpoint or manifest.
        ValueError: a manifest without a modality that the checkpoint reads.
    """

    def __init__(self, checkpoint: str, gallery: str | None = None) -> None:
        self.checkpoint = checkpoint_of(checkpoint, "checkpoint")
        run = run_folder_of(checkpoint) if os.path.isdir(checkpoint) else None
        self.name = name_of(self.checkpoint) if os.path.isdir(self.checkpoint) else self.checkpoint
        self.config: CodeBindConfig = CodeBindConfig.from_pretrained(self.checkpoint)
        own = run / "files" / "manifest.jsonl" if run is not None else None
        self.manifest = Path(gallery) if gallery is not None else own if own is not None and own.is_file() else None
        self.rows: list[dict[str, Any]] = []
        self.total = 0
        if self.manifest is not None:
            added = [name for name in self.config.modality_names if name in (self.config.added_encoders or {})]
            found = Manifest(self.manifest, modalities=added).validate("skip")
            self.total, self.rows = len(found), found[:MOST_ROWS]
            self._fingerprint = found.fingerprint
        self.modalities = self._modalities_of_rows()
        self._lock = Lock()
        self._future: Future[Loaded] = Future()
        Thread(target=_fulfil, args=(self._future, self._load), name="codebind-demo", daemon=True).start()
        self.view_of_row = lru_cache(maxsize=1024)(self._view_of_row)

    def _modalities_of_rows(self) -> list[str]:
        present = {name for row in self.rows for name, value in row.items() if value is not None}
        found = [name for name in self.config.modality_names if name in present]
        if self.rows and not found:
            raise ValueError(
                f"gallery: {self.manifest} has no modality that this checkpoint reads; it reads "
                f"{', '.join(self.config.modality_names)}. Fix: another manifest, or another checkpoint."
            )
        return found

    def loaded(self) -> Loaded:
        """Model, processor and embedded gallery, once they are there.

        Raises:
            ValueError, OSError, ImportError: why they will never be.
        """
        return self._future.result()

    def _load(self) -> Loaded:
        model = CodeBindModel.from_pretrained(self.checkpoint)
        model.eval()
        processor = CodeBindProcessor.from_pretrained(self.checkpoint)
        embedded = None if self.manifest is None else self._embedded(model, processor, self.manifest)
        return Loaded(model, processor, embedded)

    def _embedded(self, model: CodeBindModel, processor: CodeBindProcessor, manifest: Path) -> EmbeddedSet:
        # Beside the files that they are of; of a run that is the run's own folder.
        file = manifest.with_suffix(".embeddings.safetensors")
        folder = self.checkpoint if os.path.isdir(self.checkpoint) else _cached_folder(self.checkpoint)
        key = digest_of([checkpoint_digest(folder), self._fingerprint, len(self.rows)])
        kept = read_embeddings(file, key)
        if kept is not None:
            return kept
        wanted = modalities_to_read(model, self.rows, "gallery")
        embedded = embed_dataset(
            model, processor, self.rows, _BATCH, modalities=wanted, on_error="skip", progress=False
        )
        write_embeddings(file, embedded, key)
        return embedded

    def part(self, modality: str) -> Any:
        """The processor of a modality; `None` for text."""
        return None if modality == "text" else self.loaded().processor.part(argument_of(modality))

    def is_features(self, modality: str) -> bool:
        """Whether items of this modality are what another network made."""
        return self.config.encoder_configs[self.config.modality(modality).encoder].stem == "features"

    def view(self, modality: str, value: Any) -> str:
        """HTML of an item; what cannot be shown is said in its place."""
        return item_view(modality, value, self.part(modality), self.is_features(modality))

    def _view_of_row(self, row: int, modality: str) -> str:
        return self.view(modality, self.rows[row][modality])

    def title_of_row(self, row: int) -> str:
        """What a row is called: its label and the end of its id."""
        values = self.rows[row]
        label = values.get("label") or ""
        label = label if isinstance(label, str) else ", ".join(label)
        short = str(values.get("id") or row).rpartition("-")[2]
        return f"{label} {short}".strip()

    def query(self, modality: str, value: Any, row: int | None = None, label: str = "") -> Query:
        """An item as the model sees it.

        Raises:
            ValueError, OSError: what is wrong with it, and what helps.
        """
        found = self.loaded()
        with self._lock:
            try:
                single = embed_dataset(
                    found.model, found.processor, [{modality: value}], modalities=[modality], progress=False
                )
            except (ValueError, OSError) as error:
                # The processor says what is wrong with the item; which row it was in is no matter here.
                raise type(error)(_of_item(str(error.__cause__ or error), modality)) from error
        return Query(modality, value, single.modalities[modality], self.view(modality, value), row, label)

    def query_of_row(self, row: int, modality: str) -> Query:
        """An item of the gallery.

        Raises:
            ValueError: the row has no such modality, or its item could not be embedded.
        """
        if not 0 <= row < len(self.rows) or self.rows[row].get(modality) is None:
            raise ValueError(f"{pretty(modality)}: this object has none. Fix: another object, or another modality.")
        embedded = self.loaded().embedded
        part = None if embedded is None else embedded.modalities.get(modality)
        if part is None or not bool((part.positions == row).any()):
            failures = [] if embedded is None else embedded.failures
            reasons = [each.message for each in failures if (each.position, each.modality) == (row, modality)]
            raise ValueError(f"{pretty(modality)} of {self.title_of_row(row)}: {' '.join(reasons) or 'not embedded'}")
        view = self.view_of_row(row, modality)
        return Query(
            modality, self.rows[row][modality], part.take(part.positions == row), view, row, self.title_of_row(row)
        )

    def with_model(self, make: Callable[[CodeBindModel], Any]) -> Any:
        """What `make` gives of the model, which nobody else uses meanwhile."""
        with self._lock:
            return make(self.loaded().model)


def _of_item(message: str, modality: str) -> str:
    return message.removeprefix(argument_of(modality)).removeprefix("[0]").lstrip(": ")


def _cached_folder(name: str) -> str:
    return os.path.dirname(str(cached_file(name, CONFIG_NAME)))


def _fulfil(future: "Future[Loaded]", load: Callable[[], Loaded]) -> None:
    """Have a future hold what `load` gives, or why it gives nothing."""
    try:
        future.set_result(load())
    except Exception as error:
        logger.error("the checkpoint or its gallery cannot be loaded: %s", error)
        future.set_exception(error)
