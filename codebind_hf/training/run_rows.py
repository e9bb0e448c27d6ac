"""The rows of a run: of a manifest, or of NineSenses."""

import hashlib
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from codebind_hf.data import Manifest, NineSenses
from codebind_hf.data.columns import EXTRA_COLUMNS
from codebind_hf.training.recipe import modalities_of
from codebind_hf.training.typed_fields import check_mapping, check_names, check_types


@dataclass
class RunRows:
    """What a run trains and is evaluated on.

    Args:
        training: rows to train on.
        test: rows to evaluate on, or `None`.
        modalities: that the training rows have.
        texts: to train a tokenizer on.
        class_names: if they are known beside the labels.
        name: of the test rows' data set, for the card.
        templates: zero-shot prompts that suit the rows.
        digest: of what the rows are, without reading every file: paths, sizes and labels, or arguments of NineSenses.
    """

    training: Any
    test: Any
    modalities: list[str]
    texts: list[str]
    class_names: list[str] | None
    name: str
    templates: Sequence[str]
    digest: str


def load_rows(data: Mapping[str, Any], added: Sequence[str] = ()) -> RunRows:
    """The rows that `RunSettings.data` names.

    Args:
        added: modalities of one's own that a manifest may have as columns.

    Raises:
        ValueError: neither a manifest nor NineSenses, an unknown argument, or a manifest with a fault.
        OSError: a file is missing.
    """
    if data.get("manifest"):
        return _of_manifests(data["manifest"], data.get("test_manifest"), added)
    if "nine_senses" not in data:
        raise ValueError("`data` needs `manifest` or `nine_senses`.")
    return _of_nine_senses(check_mapping(data["nine_senses"], "nine_senses"))


def _of_manifests(manifest: str, test_manifest: str | None, added: Sequence[str]) -> RunRows:
    rows = Manifest(manifest, modalities=added).validate()
    test = Manifest(test_manifest, modalities=added).validate() if test_manifest else None
    texts = [row["text"] for row in rows if row.get("text")]
    present = [*modalities_of(rows), *(name for name in added if any(row.get(name) for row in rows))]
    digest = _digest([_weighed(row) for row in (*rows, *(test or ()))])
    name = Path(test_manifest).name if test_manifest else ""
    return RunRows(rows, test, list(dict.fromkeys(present)), texts, None, name, ["a photo of a {}"], digest)


def _of_nine_senses(options: dict[str, Any]) -> RunRows:
    digest = _digest({"nine_senses": options})
    num_test = options.pop("num_test", None)
    check_types({"num_test": num_test}, {"num_test": int | None}, "nine_senses")
    known = [name for name in inspect.signature(NineSenses).parameters if name not in ("split", "num_rows")]
    check_names(options, known, "nine_senses")
    check_types(options, get_type_hints(NineSenses.__init__), "nine_senses")
    rows = NineSenses("train", **options)
    test = NineSenses("test", rows.world, rows.difficulty, num_rows=num_test, modalities=rows.modalities)
    texts = [template.format(name) for name in rows.class_names for template in rows.templates]
    modalities, names = list(rows.modalities), list(rows.class_names)
    return RunRows(rows, test, modalities, texts, names, "NineSenses", list(rows.templates), digest)


def _weighed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the sizes of its files; where they lie does not count."""
    sizes = {
        name: [Path(value).name, os.stat(value).st_size]
        for name, value in row.items()
        if name != "text" and name not in EXTRA_COLUMNS
    }
    return {**row, **sizes}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
