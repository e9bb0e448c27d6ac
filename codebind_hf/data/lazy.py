"""What if the data does not fit in memory? Every row is processed when it is asked for, in the loader's workers."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from codebind_hf.data.augmentation import Augmentation
from codebind_hf.data.choices import ON_ERROR
from codebind_hf.data.fingerprints import digest_of, fingerprint, processor_fingerprint
from codebind_hf.data.items import Draw, Items, drawn, row_modalities
from codebind_hf.data.prepared import num_rows
from codebind_hf.data.row_tensors import prepare_row
from codebind_hf.processing.values import check_choice


logger = logging.getLogger(__name__)


class LazyDataset(Items):
    """Rows as tensors, made anew every time: memory holds what `rows` hold, and which modalities each row has.

    Items are those of `PreparedDataset`. Of several captions an epoch sees one, which alone is read. What the
    processor's `augmentation` draws follows, like the caption, from the seed, the epoch and the row.

    Args:
        rows: raw rows; those that know `row_modalities` (`Manifest`, `rows_from_dataset(...)`, `NineSenses`) are not
            opened before they are needed.
        processor (`CodeBindProcessor`): turns values or file names into tensors.
        on_error: "raise", or "skip": a row that cannot be read is named in the log, and its batch has one less.
        seed: of the captions and augmentations that are drawn.
        augment: whether to apply the processor's augmentation.

    Raises:
        ValueError: rows that have no order, an unknown `on_error`, or an augmentation that cannot be.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        processor: Any,
        on_error: str = "raise",
        seed: int = 0,
        augment: bool = False,
    ) -> None:
        check_choice("on_error", on_error, ON_ERROR)
        num_rows(rows)
        self.rows, self.processor, self.on_error, self.seed = rows, processor, on_error, seed
        self.row_modalities = row_modalities(rows)
        self.augmentation = Augmentation(processor) if augment and processor.augmentation else None

    @property
    def class_names(self) -> list[str]:
        """Labels in the order of their first appearance, of rows that know them."""
        return list(getattr(self.rows, "class_names", []))

    def take(self, draw: Draw, modalities: Sequence[str] | None = None) -> dict[str, Any] | None:
        """One item with no modalities but these; `None` for a row that is skipped.

        Raises:
            ValueError: with "raise", a row that the processor refuses; the message names it.
            OSError: with "raise", a file cannot be read.
        """
        return self._made(draw, modalities, self.augmentation)

    def whole(self, position: int, modalities: Sequence[str] | None = None) -> dict[str, Any] | None:
        """One item with all of its captions, without augmentation; errors are those of `take`."""
        return self._made(Draw(position), modalities, draws_caption=False)

    def raw(self, position: int) -> Mapping[str, Any]:
        """The row that an item is made of."""
        return self.rows[position]

    def fingerprint_of(self, modality: str) -> str:
        """Digest of rows and processor."""
        return digest_of([self.on_error, fingerprint(self.rows), processor_fingerprint(self.processor)])

    def _made(
        self,
        draw: Draw,
        modalities: Sequence[str] | None = None,
        augmentation: Augmentation | None = None,
        draws_caption: bool = True,
    ) -> dict[str, Any] | None:
        name = f"row {draw.position}"
        try:
            row = self.rows[draw.position]
            name = str(row.get("id") or name)
            captions = row.get("text")
            if draws_caption and isinstance(captions, (list, tuple)) and captions:
                row = {**row, "text": captions[drawn(len(captions), self.seed, draw)]}
            if augmentation is not None:
                return augmentation.prepare(row, (self.seed, draw.epoch, draw.position), name, modalities)
            return prepare_row(row, self.processor, name, modalities)
        except (ValueError, OSError) as error:
            if self.on_error == "skip":
                logger.warning("%s is skipped: %s", name, error)
                return None
            kind = OSError if isinstance(error, OSError) else ValueError
            raise kind(f"{name}: {error} Fix it, or skip such rows: on_error='skip' (--on_error skip).") from error
