"""Is this file the original it should be? Its size, its hash, and the names and shapes of its tensors; nothing is run.

`verify` answers for a file that its authors published (`originals`) or a folder that the official CodeBind's training
wrote. What tensors an original has is what the key maps make of its preset, so a file that passes can be converted.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers.utils import logging

from codebind_hf.conversion import originals
from codebind_hf.conversion.checkpoint_files import HoldsCode, only_tensors, read_file
from codebind_hf.conversion.clip_vocabulary import clip_tokenizer
from codebind_hf.conversion.codebind import experiment_config
from codebind_hf.conversion.codebind_files import Experiment, is_experiment_file, read_experiment
from codebind_hf.conversion.imagebind import empty_model
from codebind_hf.conversion.imagebind_keys import CODEBIND_KEYS, IMAGEBIND_KEYS
from codebind_hf.conversion.key_map import KeyMap, listed
from codebind_hf.conversion.lora import lora_pairs
from codebind_hf.conversion.originals import Original, originals_named
from codebind_hf.conversion.vitlens_architectures import vitlens_fields
from codebind_hf.conversion.vitlens_files import SCALE, merged_tensors
from codebind_hf.conversion.vitlens_keys import VITLENS_ENCODERS, VITLENS_KEYS
from codebind_hf.model.configuration_codebind import CodeBindConfig
from codebind_hf.model.presets import merge_fields, preset_fields


_KEYS = {"imagebind": IMAGEBIND_KEYS, "vitlens": VITLENS_KEYS}
_GZIP = b"\x1f\x8b"
_BLOCK = 2**23
# Files of a few seconds need no bar.
_BAR_FROM = 2**28


@dataclass(frozen=True)
class Verdict:
    """What a file is.

    Args:
        file: its name.
        is_good: it is an original as published, or has its tensors where nothing more was published.
        sentence: that says so, or what is wrong.
        details: lines with the evidence.
    """

    file: str
    is_good: bool
    sentence: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n  ".join([f"{self.file}: {self.sentence}", *self.details])


@dataclass(frozen=True)
class Difference:
    """How tensors differ from those that are expected; each entry is a key, of the misshapen with both shapes."""

    num_found: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def total(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def __str__(self) -> str:
        parts = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.misshapen}
        return "; ".join(f"{len(keys)} {what}: {listed(keys, 4)}" for what, keys in parts.items() if keys)


def verify(file: str | os.PathLike[str], which: str = "best") -> Verdict:
    """Compare a file, or the folder of an experiment of CodeBind, with the originals.

    Args:
        which: "best" or "last", the files of an experiment.

    Returns:
        A verdict, whatever the file is: what cannot be read is a verdict too.

    Raises:
        ValueError: `which` is neither.
        OSError: the file is there and may not be opened.
    """
    path = Path(file)
    if path.is_dir():
        return _verdict_of_experiment(path, which)
    if not path.is_file():
        return Verdict(path.name, False, f"no such file: {path}.")
    if is_experiment_file(path.name):
        fix = "Fix: give the folder of the experiment."
        return Verdict(path.name, False, f"is one of the files of an experiment of CodeBind. {fix}")
    size = path.stat().st_size
    # Of a size that no original has, the hash could only be another one.
    digest = sha256_of(path) if any(_has_size(one, size) for one in originals.ORIGINALS) else None
    same = [one for one in originals.ORIGINALS if digest and one.sha256 == digest]
    same.sort(key=lambda one: one.name != path.name)
    named = originals_named(path.name)
    try:
        fitting, content = _content(path, same or named)
    except HoldsCode as error:
        return Verdict(path.name, False, "holds code; refused, and nothing of it was run.", (str(error),))
    except OSError as error:
        return _verdict_of_unreadable(path.name, same, named, size, str(error))
    except ValueError as error:
        what = f"is {same[0].label} as published, but cannot be converted" if same else "is no original that is known"
        return Verdict(path.name, False, f"{what}. {error}")
    return _verdict(path.name, same, named, fitting, (content, *_numbers(same or fitting or named, size, digest)))


def sha256_of(path: Path) -> str:
    """The hash of a file in hexadecimal digits, with a progress bar for large ones."""
    digest, size = hashlib.sha256(), path.stat().st_size
    is_small = size < _BAR_FROM
    bar = logging.tqdm(total=size, unit="B", unit_scale=True, desc=f"Hashing {path.name}", disable=is_small)
    with path.open("rb") as stream, bar:
        while block := stream.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def expected_shapes(original: Original) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of an original that a preset has, by its keys (ViT-Lens's and OpenCLIP's as merged)."""
    return _shapes_of(_config_of(original), _KEYS[original.kind])


def _config_of(original: Original) -> CodeBindConfig:
    if original.preset is None:
        raise ValueError(f"original: {original.label} has no preset; its shapes follow from the file.")
    config = CodeBindConfig(**merge_fields(preset_fields(original.preset), dict(original.changes)))
    return config if original.modalities is None else config.restricted_to(original.modalities)


def difference(found: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], keys: KeyMap) -> Difference:
    """Compare tensors with the shapes expected; what the key map drops or keeps as a scale may be there or not."""
    unexpected = [key for key in found if key not in expected and not isinstance(keys.fate(key), str)]
    wrong = {key: tuple(found[key].shape) for key in expected if key in found}
    return Difference(
        len(found),
        # The temperature is CLIP's where a file of ViT-Lens has none.
        tuple(key for key in expected if key not in found and key != SCALE),
        tuple(unexpected),
        tuple(f"{key} {got} instead of {expected[key]}" for key, got in wrong.items() if _differ(got, expected[key])),
    )


def _differ(got: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    # A temperature is written as a number or as a list of one.
    return got != expected and not {got, expected} <= {(), (1,)}


def _shapes_of(config: CodeBindConfig, keys: KeyMap) -> dict[str, tuple[int, ...]]:
    state = empty_model(config).state_dict()
    if keys is CODEBIND_KEYS:
        # Experiments have their temperature in the configuration.
        del state["logit_scale.log_scale"]
    return {key: tuple(x.shape) for key, x in keys.revert(state, None).items()}


def _content(path: Path, asked: Sequence[Original]) -> tuple[list[Original], str]:
    """The originals whose content a file has, those `asked` for first, and a sentence about it."""
    with path.open("rb") as stream:
        is_gzip = stream.read(2) == _GZIP
    if is_gzip:
        clip_tokenizer(path)
        merges = [one for one in originals.ORIGINALS if one.kind == "merges"]
        return merges, "merges: as many as make CLIP's vocabulary of 49408 tokens"
    content = read_file(path, mapped=True)
    is_imagebind = any(isinstance(key, str) and key.startswith("modality_") for key in content)
    kind = "imagebind" if is_imagebind else "vitlens"
    tensors = only_tensors(content, path.name) if is_imagebind else merged_tensors(content, path.name)
    return _fitting(tensors, kind, [one for one in asked if one.kind == kind])


def _fitting(tensors: dict[str, Tensor], kind: str, asked: Sequence[Original]) -> tuple[list[Original], str]:
    differences: dict[str, Difference] = {}
    # Several originals have the same tensors.
    seen: dict[str, Difference] = {}

    def fitting(candidates: Sequence[Original]) -> list[Original]:
        for one in candidates:
            part = f"{one.preset} {one.modalities} {one.changes}"
            if part not in seen:
                seen[part] = _difference(tensors, one)
            differences.setdefault(one.label, seen[part])
        return [one for one in candidates if differences[one.label].total == 0]

    fits = fitting(asked)
    if not fits:
        others = [one for one in originals.ORIGINALS if one.kind == kind and one.preset and one not in asked]
        # With other towers nothing can fit.
        towers = {key.partition(".")[2].partition(".")[0] for key in tensors if key != SCALE}
        fits = fitting([one for one in others if _towers(one) == towers] or ([] if asked else others))
    if fits:
        return fits, f"tensors: {len(tensors)}, all names and shapes as expected"
    nearest = asked[0].label if asked else min(differences, key=lambda label: differences[label].total)
    return [], f"tensors: {len(tensors)}; of those of {nearest} {differences[nearest]}"


def _towers(original: Original) -> set[str]:
    """The towers of an original of ViT-Lens or OpenCLIP, by their names in its keys; none of others."""
    if original.kind != "vitlens":
        return set()
    encoders = _config_of(original).encoder_configs
    return {tower for tower, encoder in VITLENS_ENCODERS.items() if encoder in encoders}


def _difference(tensors: dict[str, Tensor], original: Original) -> Difference:
    keys = _KEYS[original.kind]
    if original.preset is not None:
        return difference(tensors, expected_shapes(original), keys)
    own = vitlens_fields(dict(tensors), None)
    return difference(tensors, _shapes_of(CodeBindConfig(**own), keys), keys)


def _has_size(original: Original, size: int) -> bool:
    if original.num_bytes is not None:
        return size == original.num_bytes
    # The Hub rounds to three digits.
    return original.gigabytes is not None and f"{size / 1e9:.3g}" == f"{original.gigabytes:.3g}"


def _labels(several: Sequence[Original]) -> str:
    return " or ".join(dict.fromkeys(one.label for one in several))


def _numbers(several: Sequence[Original], size: int, digest: str | None) -> list[str]:
    """Lines on size, hash and licence of a file and of the originals that it is, or should be."""
    sizes = " or ".join(dict.fromkeys(one.size for one in several))
    lines = [f"size: {size:,} bytes; published: {sizes}" if several else f"size: {size:,} bytes"]
    if digest:
        hashes = " or ".join(dict.fromkeys(one.sha256 or "none" for one in several))
        lines.append(f"sha256: {digest}; published: {hashes or 'none'}")
    notes = [f"{one.license}" + f"; {one.note}" * bool(one.note) for one in several]
    return lines + [f"licence: {' or '.join(dict.fromkeys(notes))}"] * bool(several)


def _verdict(
    name: str,
    same: Sequence[Original],
    named: Sequence[Original],
    fitting: Sequence[Original],
    details: tuple[str, ...],
) -> Verdict:
    """What a file that could be read is.

    Args:
        same: originals with its hash.
        named: originals with its name.
        fitting: originals with its content.
    """
    if same:
        label, is_renamed = same[0].label, same[0].name != name
        if same[0] not in fitting:
            return Verdict(name, False, f"is {label} as published, but our key maps expect other tensors.", details)
        if same[0].is_withdrawn:
            return Verdict(name, False, f"is {label} as first published; its authors withdrew it.", details)
        return Verdict(name, True, f"is {label} as published" + ", under another name" * is_renamed + ".", details)
    if not fitting:
        what = f"is not {_labels(named)}" if named else "is no original that is known"
        return Verdict(name, False, f"{what}: its tensors are other ones.", details)
    if named and not set(named) & set(fitting):
        sentence = f"is named like {_labels(named)}, but has the tensors of {_labels(fitting)}."
        return Verdict(name, False, sentence, details)
    if not any(one.sha256 for one in fitting):
        sentence = f"has the tensors of {_labels(fitting)}; no hash of it is known to compare with."
        return Verdict(name, True, sentence, details)
    content = "merges" if fitting[0].kind == "merges" else "tensors"
    return Verdict(name, False, f"has the {content} of {_labels(fitting)}, but another hash.", details)


def _verdict_of_unreadable(
    name: str, same: Sequence[Original], named: Sequence[Original], size: int, error: str
) -> Verdict:
    if same:
        return Verdict(name, False, f"is {same[0].label} as published, but cannot be read here.", (error,))
    larger = [one for one in named if _least_bytes(one) > size]
    if larger:
        wanted = " or ".join(dict.fromkeys(one.size for one in larger if not one.is_withdrawn))
        return Verdict(name, False, f"truncated: got {size:,} of {wanted}. Fix: download it again.", (error,))
    return Verdict(name, False, "cannot be read: damaged, truncated, or no checkpoint.", (error,))


def _least_bytes(original: Original) -> float:
    """What a whole copy of an original has at least."""
    return original.num_bytes or 0.99 * 1e9 * (original.gigabytes or 0)


def _verdict_of_experiment(folder: Path, which: str) -> Verdict:
    original = next(one for one in originals.ORIGINALS if one.kind == "experiment")
    try:
        read = read_experiment(folder, which, which)
        found, details = _experiment_difference(read)
    except HoldsCode as error:
        return Verdict(folder.name, False, "holds code; refused, and nothing of it was run.", (str(error),))
    except (OSError, ValueError) as error:
        if str(error).startswith("which: got") and which not in ("best", "last"):
            raise
        return Verdict(folder.name, False, f"is no whole experiment of CodeBind. {error}")
    details += (f"licence: {original.license}",)
    if found.total:
        return Verdict(folder.name, False, f"is not {original.label}: its tensors are other ones.", details)
    sentence = f"has the tensors of {original.label}; no hash of it is known to compare with."
    return Verdict(folder.name, True, sentence, details)


def _experiment_difference(read: Experiment) -> tuple[Difference, tuple[str, ...]]:
    config = experiment_config(read)
    expected = _shapes_of(config, CODEBIND_KEYS)
    # Trunks, and whatever else ImageBind has, may come from the base.
    of_base = {
        key
        for key in expected
        if key not in read.tensors and (key.startswith("modality_trunks.") or IMAGEBIND_KEYS.fate(key) is not None)
    }
    found = difference(read.tensors, {key: x for key, x in expected.items() if key not in of_base}, CODEBIND_KEYS)
    state = empty_model(config).state_dict()
    count = 0
    for encoder, tensors in read.lora.items():
        for module, (down, up) in lora_pairs(encoder, tensors).items():
            weight = state.get(f"{module}.weight")
            if weight is None or weight.shape != (len(up), down.shape[1]):
                shape = "no such layer" if weight is None else f"a layer of shape {tuple(weight.shape)}"
                pair = f"{tuple(up.shape)} x {tuple(down.shape)}"
                raise ValueError(f"imagebind-lora-{encoder}: {pair} adapts {module}, which is {shape}.")
            count += 1
    lines = [f"tensors: {found.num_found}" + (f"; {found}" if found.total else ", all names and shapes as expected")]
    lines.append(f"encoders: {', '.join(read.encoders)}; {count} matrices have LoRA")
    lines.append(f"base: {len(of_base)} tensors have to come from `--base`")
    return found, tuple(lines)
