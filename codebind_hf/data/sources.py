"""What stands behind a name: a saved data set, a folder of classes, shards, or a data set on the Hub."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from codebind_hf.data.cells import StoredAudio
from codebind_hf.data.dataset_rows import DatasetRows, rows_from_dataset
from codebind_hf.data.fingerprints import digest_of, fingerprint
from codebind_hf.data.row_tensors import NO_LABELS, check_templates, with_text
from codebind_hf.data.streamed import StreamedDataset
from codebind_hf.data.tables import SUFFIXES
from codebind_hf.processing.values import check_types


logger = logging.getLogger(__name__)

# Parts of a saved data set that is streamed: so many workers, of all processes, can read at once.
SHARDS = 64
# What the files of WebDataset shards hold, by what follows the first point of their names.
SHARD_COLUMNS = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp"), "image"),
    **dict.fromkeys(("wav", "flac", "mp3", "ogg"), "audio"),
    **dict.fromkeys(("mp4", "mkv", "webm"), "video"),
    **{"txt": "text", "cls": "label", "ply": "point_cloud", "__key__": "id"},
}


def dataset_rows(
    name: str | os.PathLike, columns: Mapping[str, str] | None = None, modalities: Sequence[str] = ()
) -> DatasetRows:
    """Rows of what `datasets` saved, reads from a folder, or finds on the Hub.

    Args:
        name: a folder of `save_to_disk`, a folder whose sub-folders are classes of pictures or sounds
            (`imagefolder`, `audiofolder`), a folder of Parquet or Arrow files, or a name on the Hub; and after a
            colon the split, "train" without one.
        columns: columns to rename, for example `{"img": "image", "category": "label"}`.
        modalities: names of added modalities that may be columns.

    Raises:
        ValueError: no such split, a column renamed to what no row has, or no column that is a modality.
        OSError: nothing there, or nothing that can be read.
    """
    place, split = split_name(name)
    return rows_from_dataset(_of_split(_loaded(place, split), place, split), columns, modalities)


def split_name(name: str | os.PathLike) -> tuple[str, str]:
    """`folder:split` as folder and split; a colon that belongs to the path of what is there does not count."""
    check_types({"dataset": name}, {"dataset": str | os.PathLike})
    text = os.fspath(name)
    place, colon, split = text.rpartition(":")
    return (place, split) if colon and place and split and not os.path.exists(text) else (text, "train")


def _of_split(loaded: Any, place: str, split: str) -> Any:
    if not isinstance(loaded, dict):
        return loaded
    if split not in loaded:
        raise ValueError(
            f"dataset: {place!r} has no split {split!r}; its splits: {', '.join(map(str, loaded))}. "
            f"{_split_fix(place, loaded)}"
        )
    return loaded[split]


def _split_fix(place: str, splits: Iterable[Any]) -> str:
    """What to write instead of a split that is not there."""
    return f"Fix: {' or '.join(f'{place}:{split}' for split in splits) or '--dataset FOLDER:SPLIT'}."


def _loaded(place: str, split: str, streaming: bool = False) -> Any:
    folder, splits = Path(place), list[str]()
    if folder.is_file():
        table = " A table of rows goes to --manifest." if folder.suffix.lower() in SUFFIXES else ""
        raise OSError(f"dataset: {place!r} is a file. Fix: name its folder (--dataset FOLDER[:SPLIT]).{table}")
    try:
        if folder.is_dir() and any((folder / file).is_file() for file in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(place)
        else:
            builder = datasets.load_dataset_builder(place)
            if getattr(builder, "BASE_FEATURE", None) is datasets.Audio:
                # A folder of sounds: our reader opens them, for which nothing has to be installed.
                builder.BASE_FEATURE = StoredAudio
            if streaming:
                return builder.as_streaming_dataset()
            builder.download_and_prepare()
            splits = list(builder.info.splits or ())
            return builder.as_dataset(split=split)
    except ValueError as error:
        # What the library says of a split that is not there, and of files it knows no reader for.
        raise ValueError(f"dataset: {place!r}, split {split!r}: {error} {_split_fix(place, splits)}") from error
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise OSError(
            f"dataset: {place!r} is neither a folder that `datasets` reads nor a data set that can be loaded "
            f"({' '.join(str(each) for each in (error, error.__cause__) if each)}). Fix: check the path and the "
            "working directory (--dataset)."
        ) from error
    saved = _of_split(saved, place, split)
    return saved.to_iterable_dataset(num_shards=min(len(saved), SHARDS)) if streaming else saved


def dataset_stream(
    name: str | os.PathLike,
    columns: Mapping[str, str] | None = None,
    modalities: Sequence[str] = (),
    **options: Any,
) -> StreamedDataset:
    """Rows of a data set that is read from front to back, without a copy of it on disk.

    Args:
        name: as in `dataset_rows`; or a folder of WebDataset shards (`*.tar`), in which columns are named after what
            follows the first point in a file's name. Endings that say which modality it is need no renaming.
        columns, modalities: as in `dataset_rows`.
        options: of `StreamedDataset`.

    Raises:
        ValueError: no such split, a column renamed to what no row has, or no column that is a modality.
        OSError: nothing there, or nothing that can be read.
    """
    place, split = split_name(name)
    shards = sorted(str(file) for file in Path(place).glob("*.tar")) if os.path.isdir(place) else []
    if shards:
        stream = datasets.load_dataset("webdataset", data_files={split: shards}, split=split, streaming=True)
        names = list((stream if stream.features is not None else stream._resolve_features()).features)
        known = {ending: modality for ending, modality in SHARD_COLUMNS.items() if ending in names}
        return StreamedDataset(stream, None, {**known, **(columns or {})}, modalities, **options)
    loaded = _of_split(_loaded(place, split, streaming=True), place, split)
    return StreamedDataset(loaded, None, columns, modalities, **options)


class TextFromLabel(Sequence[dict[str, Any]]):
    """Rows that lack text, with one made of their label; of several templates, or labels, one is drawn an epoch.

    Args:
        rows: rows with labels.
        templates: texts with `{}` for the label.

    Raises:
        ValueError: a template without `{}`, or rows without labels.
    """

    def __init__(self, rows: Any, templates: Sequence[str]) -> None:
        if not rows.class_names:
            raise ValueError(NO_LABELS)
        self.rows, self.templates = rows, check_templates(templates)
        if all("text" in each for each in set(rows.row_modalities)):
            logger.warning("text_from_label: is not used, since every row has a text.")
        names = {each: each if "text" in each else ("text", *each) for each in set(rows.row_modalities)}
        self.row_modalities = [names[each] for each in rows.row_modalities]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return with_text(self.rows[index], self.templates)

    @property
    def class_names(self) -> list[str]:
        """Those of the rows."""
        return self.rows.class_names

    @property
    def texts(self) -> list[str]:
        """All texts and captions, those that come from labels too."""
        own = getattr(self.rows, "texts", [])
        return [*own, *(template.replace("{}", name) for name in self.class_names for template in self.templates)]

    @property
    def fingerprint(self) -> str:
        """Digest of the rows and the templates."""
        return digest_of([fingerprint(self.rows), self.templates])
