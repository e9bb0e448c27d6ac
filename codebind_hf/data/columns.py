"""Which keys may a row have? The names that manifests, data sets and the collator agree on."""

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from codebind_hf.data.units import UNITS, units_of
from codebind_hf.model.modalities import MODALITIES
from codebind_hf.processing.values import check_types, nearest, shortened, shown


logger = logging.getLogger(__name__)

EXTRA_COLUMNS = ("id", "label", "attributes")
# Begins the names of columns that hold one attribute each.
ATTRIBUTE = "attributes."
# What tables call columns, where that is not like what they are called here.
_OTHER_WORDS = {
    **dict.fromkeys(("txt", "caption", "captions", "sentence", "description", "words", "prompt"), "text"),
    **dict.fromkeys(("img", "picture", "photo", "jpg", "png"), "image"),
    **dict.fromkeys(("wav", "sound", "speech", "flac", "mp3"), "audio"),
    **dict.fromkeys(("class", "category", "target", "cls", "y"), "label"),
    **dict.fromkeys(("points", "pointcloud", "ply", "cloud", "pcd"), "point_cloud"),
    **{"clip": "video", "mp4": "video", "touch": "tactile", "infrared": "thermal", "__key__": "id"},
}


def modality_columns(modalities: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the modalities a row may have: the built-in ones and those a user added.

    Raises:
        ValueError: an added name that is taken, or that no keyword of the model could have.
    """
    if isinstance(modalities, str):
        raise ValueError(
            f"modalities: got the string {shown(modalities)}; allowed: a list of names, such as ['radar']."
        )
    check_types({"modalities": modalities}, {"modalities": Sequence[str]})
    added = [name for name in modalities if name not in MODALITIES]
    for name in added:
        if not name.isidentifier() or name in (*EXTRA_COLUMNS, *UNITS):
            raise ValueError(
                f"modalities: got {shown(name)}; allowed: an identifier other than "
                f"{', '.join((*EXTRA_COLUMNS, *UNITS))}."
            )
    return (*MODALITIES, *added)


def present_modalities(row: Mapping[str, Any], modalities: Iterable[str]) -> tuple[str, ...]:
    """The modalities that `row` has; a missing modality is absent or `None`."""
    return tuple(modality for modality in modalities if row.get(modality) is not None)


def renamed_columns(names: Sequence[str], columns: Mapping[str, str] | None, source: str) -> dict[str, str]:
    """Column of the source -> key of the row, for all `names`.

    Args:
        columns: what the user renames, for example `{"img": "image"}`.
        source: what to call the source in messages.

    Raises:
        ValueError: a renamed column that the source does not have, or two columns for one key.
    """
    check_types({"columns": columns}, {"columns": Mapping[str, str] | None})
    renames = dict(columns or {})
    missing = [name for name in renames if name not in names]
    if missing:
        got = f"columns: {source} has no column {missing[0]!r}; its columns: {', '.join(names)}."
        free = [name for name in names if name not in renames]
        target = renames[missing[0]]
        # Who has it the wrong way round names the column second.
        is_turned = target in free and missing[0] in (*MODALITIES, *EXTRA_COLUMNS)
        hint = f"Fix: old=new, as in --columns {target}={missing[0]}." if is_turned else nearest(missing[0], free)
        raise ValueError(f"{got} {hint[:1].upper()}{hint[1:]}".rstrip())
    keys = {name: renames.get(name, name) for name in names}
    for key in keys.values():
        origins = [name for name in names if keys[name] == key]
        if len(origins) > 1:
            raise ValueError(f"columns: {' and '.join(map(repr, origins))} of {source} would both be {key!r}.")
    return keys


def tuples_of(names: Sequence[str], present: Sequence[np.ndarray]) -> list[tuple[str, ...]]:
    """The names that every row has, one tuple for all rows of a kind, however many there are.

    Args:
        present: for every name, which rows have it; at least one.
    """
    kinds, kind_of_row = np.unique(np.stack(present, axis=1), axis=0, return_inverse=True)
    tuples = [tuple(name for name, is_there in zip(names, kind, strict=True) if is_there) for kind in kinds]
    return [tuples[kind] for kind in kind_of_row.reshape(-1)]


def known_columns(keys: Mapping[str, str], modalities: Sequence[str], source: str) -> dict[str, str]:
    """Those of `renamed_columns` that rows have; others are ignored, with a note in the log.

    Raises:
        ValueError: a column renamed to what no row has, or none that is a modality.
    """
    allowed = [*modalities, *EXTRA_COLUMNS, *units_of(keys.values())]
    known = {name: key for name, key in keys.items() if key in allowed or key.startswith(ATTRIBUTE)}
    others = {name: key for name, key in keys.items() if name not in known}
    # Two columns for one key would be refused.
    free = [key for key in allowed if key not in known.values()]
    for name, key in others.items():
        if name != key:
            meant = nearest(key, free)
            raise ValueError(
                f"columns: {name!r} of {source} would be {shown(key)}; allowed: {', '.join(allowed)}. {meant}".rstrip()
            )
    if not any(key in modalities for key in known.values()):
        found = ", ".join(shortened(str(name), 100) for name in keys)
        meant = next((f"{hint} Else " for name in others if (hint := _hint(name, free))), "")
        raise ValueError(
            f"{source}: no column is a modality; columns: {found}; modalities: {', '.join(modalities)}. Fix: {meant}"
            "rename columns (`columns={...}`, --columns old=new), or name added modalities (`modalities=[...]`)."
        )
    if others:
        hints = [f"{name!r} ({hint})" if (hint := _hint(name, free)) else repr(name) for name in others]
        logger.warning("%s: columns that are ignored: %s.", source, ", ".join(hints))
    return known


def _hint(name: str, free: Sequence[str]) -> str:
    """What a column may be meant as, and how to say so."""
    word = str(name).lower()
    meant = _OTHER_WORDS.get(word.replace("_path", "").replace("_file", ""), word)
    close = difflib.get_close_matches(meant, free, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`? --columns {name}={close[0]}" if close else ""
