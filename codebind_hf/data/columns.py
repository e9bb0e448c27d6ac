"""Which keys may a row have? The names that manifests, data sets and the collator agree on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codebind_hf.model.modalities import MODALITIES
from codebind_hf.processing.values import check_types, nearest, shortened, shown


EXTRA_COLUMNS = ("id", "label", "attributes")


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
        if not name.isidentifier() or name in EXTRA_COLUMNS:
            raise ValueError(
                f"modalities: got {shown(name)}; allowed: an identifier other than {', '.join(EXTRA_COLUMNS)}."
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
        raise ValueError(f"{got} {nearest(missing[0], names).capitalize()}".rstrip())
    keys = {name: renames.get(name, name) for name in names}
    for key in keys.values():
        origins = [name for name in names if keys[name] == key]
        if len(origins) > 1:
            raise ValueError(f"columns: {' and '.join(map(repr, origins))} of {source} would both be {key!r}.")
    return keys


def check_columns(keys: Iterable[str], modalities: Sequence[str], source: str) -> None:
    """Refuse keys that are neither a modality nor an extra.

    Raises:
        ValueError: naming the unknown keys, the allowed ones and the fix.
    """
    unknown = [key for key in keys if key not in modalities and key not in EXTRA_COLUMNS]
    if unknown:
        allowed = ", ".join([*modalities, *EXTRA_COLUMNS])
        meant = nearest(unknown[0], [*modalities, *EXTRA_COLUMNS])
        fix = "rename it with `columns={...}`, name an added modality with `modalities=[...]`, or drop it."
        fix = f"{meant} Else {fix}" if meant else fix
        raise ValueError(
            f"{source}: unknown column {shortened(str(unknown[0]), 100)!r}; allowed: {allowed}. Fix: {fix}"
        )
