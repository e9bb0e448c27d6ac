"""What does a pack look like on disk, where does it lie, and is it whole?"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from codebind_hf.model.modalities import BRIDGE_ENCODERS, MODALITIES, added_modality
from codebind_hf.packs.identity import LAYOUT
from codebind_hf.processing.values import fits, shown, words_for


FORMAT_VERSION = 1
PACK_FILE, WEIGHTS_FILE = "pack.json", "model.safetensors"
# How `from_pretrained` of the bridge is told where and how to look on the Hub; a revision is the bridge's own.
HUB_OPTIONS = ("cache_dir", "token", "local_files_only", "force_download")
_FINGERPRINT = {"sha256": str, "sample": list[float], "dtype": str}
_FIELDS: dict[str, Any] = {
    "codebind_hf": str,
    "bridge": dict[str, Any],
    "modalities": dict[str, dict[str, Any]],
    "decoders": dict[str, Any] | None,
    "sha256": str,
}
_BRIDGE: dict[str, Any] = {
    "name": str,
    "layout": dict[str, Any],
    "readings": dict[str, dict[str, Any]],
    "parts": dict[str, dict[str, Any]],
}
_MODALITY: dict[str, Any] = {
    "encoder": str,
    "config": dict[str, Any],
    "processor": dict[str, Any],
    "is_in_bridge": bool,
    "rest": dict[str, Any] | None,
}


@dataclass(frozen=True)
class Pack:
    """What `pack.json` says, and where the pack lies.

    Args:
        name: as it was asked for.
        folder: with its files.
        codebind_hf: version that wrote it.
        bridge: `name` of the bridge; `layout`, the fields that both share; `readings`, how its encoders are
            used; `parts`, fingerprints of their weights and of the shared codes.
        modalities: by name, the `encoder`, its `config`, parameters of its `processor`; whether the bridge has it as
            well (`is_in_bridge`), and the fingerprint of those of its tensors that were left there (`rest`).
        decoders: what decoders in the pack fit: `decoder_config` and `decoder_inputs`; `None` without.
        sha256: of the file with the tensors, and so the name of the pack's contents.
    """

    name: str
    folder: Path
    codebind_hf: str
    bridge: dict[str, Any] = field(repr=False)
    modalities: dict[str, dict[str, Any]] = field(repr=False)
    decoders: dict[str, Any] | None = field(repr=False)
    sha256: str

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the names that they have in a model; LoRA as `<module>.lora_A.weight`.

        Raises:
            OSError: the file is damaged.
        """
        try:
            return load_file(self.folder / WEIGHTS_FILE)
        except SafetensorError as error:
            raise OSError(f"{self.folder / WEIGHTS_FILE}: is damaged ({error}). Fix: copy the pack again.") from error


def as_json(fields: Mapping[str, Any]) -> str:
    """The text of `pack.json`."""
    return json.dumps({"format_version": FORMAT_VERSION, **fields}, indent=1)


def hash_of(file: Path) -> str:
    """SHA-256 of a file, as hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_pack(name: str | os.PathLike, **options: Any) -> Pack:
    """The pack in a folder or the run that made it, or in a repository of the Hub: `me/radar`, or `me/radar@v1`.

    Args:
        options: `cache_dir`, `token`, `local_files_only`, `force_download` of the Hub's client.

    Raises:
        OSError: there is no pack, it cannot be fetched, or a file of it is damaged.
        ValueError: a pack of a format that this package does not know.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ValueError(f"packs: got {shown(name)}; allowed: folders and names on the Hub.")
    file = _file_of(str(name), PACK_FILE, options)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"{file}: is no JSON ({error}). Fix: copy the pack again.") from error
    version = found.get("format_version") if isinstance(found, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise OSError(f"{file}: names no format_version. Fix: give a folder that `model.save_pack` wrote.")
    if not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"packs: {str(name)!r} is of format {version}; this package reads 1 to {FORMAT_VERSION}. Fix: "
            "`pip install --upgrade codebind-hf` reads newer ones."
        )
    _check_fields(found, _FIELDS, file)
    _check_fields(found["bridge"], _BRIDGE, file, "bridge.")
    _check_fields(found["bridge"]["layout"], dict.fromkeys(LAYOUT, Any), file, "bridge.layout.")
    for part, saved in found["bridge"]["parts"].items():
        _check_fields(saved, _FINGERPRINT, file, f"bridge.parts.{part}.")
    if not found["modalities"]:
        raise OSError(f"{file}: names no modalities. Fix: give a folder that `model.save_pack` wrote.")
    for modality, entry in found["modalities"].items():
        _check_fields(entry, _MODALITY, file, f"modalities.{modality}.")
        known = MODALITIES.get(modality) or added_modality(modality)
        is_bridge = known.encoder in BRIDGE_ENCODERS
        if entry["encoder"] != known.encoder or is_bridge or not modality.isidentifier():
            raise OSError(f"{file}: names {entry['encoder']!r} for the encoder of {modality!r}, which cannot be.")
        if entry["rest"] is not None:
            _check_fields(entry["rest"], _FINGERPRINT, file, f"modalities.{modality}.rest.")
    weights = _file_of(str(name), WEIGHTS_FILE, options)
    if hash_of(weights) != found["sha256"]:
        raise OSError(f"{weights}: is not the file that {PACK_FILE} was written for. Fix: copy the pack again.")
    return Pack(str(name), file.parent, **{key: found[key] for key in _FIELDS})


def read_packs(names: Any, **options: Any) -> list[Pack]:
    """Several packs, no two of which hold the same modality.

    Raises:
        ValueError: no list, or a modality that two packs hold; and as `read_pack`.
        OSError: as `read_pack`.
    """
    if isinstance(names, (str, os.PathLike)) or not isinstance(names, Iterable):
        raise ValueError(f"packs: got {shown(names)}; allowed: a list. Fix: packs=[{shown(names)}].")
    packs = [read_pack(name, **options) for name in names]
    owners: dict[str, Pack] = {}
    for pack in packs:
        for modality in pack.modalities:
            if modality in owners:
                raise ValueError(
                    f"packs: {owners[modality].name!r} and {pack.name!r} both hold {modality!r}. Fix: load one."
                )
            owners[modality] = pack
    return packs


def _check_fields(found: Any, wanted: Mapping[str, Any], file: Path, place: str = "") -> None:
    for name, hint in wanted.items():
        if not isinstance(found, dict) or name not in found or not fits(found[name], hint):
            got = shown(found[name]) if isinstance(found, dict) and name in found else "nothing"
            raise OSError(f"{file}: {place}{name} is {got}, not {words_for(hint)}. Fix: copy the pack again.")


def _file_of(name: str, file: str, options: Mapping[str, Any]) -> Path:
    """A file of a pack, here or fetched."""
    if os.path.isdir(name):
        # A run that bound a modality keeps its pack in a folder of its own.
        inner = Path(name) / "pack"
        path = (inner if (inner / PACK_FILE).is_file() else Path(name)) / file
        if not path.is_file():
            raise OSError(
                f"packs: {path.parent} has no {file}, so it is no pack. Fix: give a run of --bind, or a pack."
            )
        return path
    repo_id, _, revision = name.partition("@")
    try:
        return Path(hf_hub_download(repo_id, file, revision=revision or None, **options))
    except HFValidationError as error:
        raise OSError(f"packs: {name!r} is neither a folder nor a name on the Hub.") from error
    except (LocalEntryNotFoundError, EntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise OSError(
            f"packs: no {file} of {name!r}, neither in a folder of this name nor on the Hub ({_short(error)})."
        ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
