"""The official CodeBind's experiment directory: which files there are, and what they say of the architecture."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from codebind_hf.conversion.checkpoint_files import read_tensors
from codebind_hf.conversion.imagebind_keys import CODEBIND_ENCODERS


# Module in a file's name -> prefix of its keys in our flat table.
_MODULES = {
    "preprocessors": "modality_preprocessors",
    "trunks": "modality_trunks",
    "heads": "modality_heads",
    "heads_mvq": "modality_heads_mvq",
    "postprocessors": "modality_postprocessors",
    "postprocessors_new": "modality_postprocessors_new",
    "decoder_trunk": "decoder_trunk",
    "decoder_head": "decoder_head",
}
_FILE = re.compile(r"imagebind-(?P<module>[a-z_]+)-(?P<name>[a-z]*)_(?P<which>best|last)\.(?:pth|safetensors)")
_QUANTIZER = "vector_quantise"
# Options of the released quantizer that our model computes; with another value its embeddings would be different ones.
_REQUIRED = {
    "use_mvq": True,
    "vq_all_token": True,
    "distance": "cos",
    "norm_code": True,
    "seg_type": 1,
    "share_codebook": False,
    "seperate_codebook": False,
}
WHICH = ("best", "last")


@dataclass
class Experiment:
    """One experiment as tensors.

    Args:
        tensors: of every module but LoRA, by flat key, such as `modality_heads.audio.0.weight`.
        lora: LoRA tensors by encoder, with the keys of their file.
        options: the merged configuration that the reference saved, or empty.
    """

    tensors: dict[str, Tensor]
    lora: dict[str, dict[str, Tensor]]
    options: dict[str, Any]

    @property
    def encoders(self) -> tuple[str, ...]:
        """Encoders that the experiment trained with, by the shared heads it saved."""
        return tuple(name for name in CODEBIND_ENCODERS if self.shapes(f"modality_heads.{name}."))

    def shapes(self, prefix: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors under `prefix`, by the rest of their key."""
        found = self.tensors.items()
        return {key.removeprefix(prefix): tuple(x.shape) for key, x in found if key.startswith(prefix)}


def is_experiment_file(name: str) -> bool:
    """Whether a file is named like one of an experiment."""
    return _FILE.fullmatch(name) is not None


def read_experiment(folder: Path, which: str, lora_which: str) -> Experiment:
    """Read the files of one experiment.

    Args:
        folder: with `checkpoints/`, or that folder itself.
        which, lora_which: "best" or "last".

    Raises:
        OSError: no such folder, or a file that cannot be read.
        ValueError: a file that no rule knows, one that exists only as the other of "best" and "last" or not at all,
            or an option that our model does not compute.
    """
    for name, value in (("which", which), ("lora_which", lora_which)):
        if value not in WHICH:
            raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(map(repr, WHICH))}.")
    if not folder.is_dir():
        raise OSError(f"{folder}: no such folder. `experiment` is what the official training wrote.")
    files = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    experiment = Experiment({}, {}, _options(files.parent if files.name == "checkpoints" else folder))
    for (module, name), file in _chosen(files, which, lora_which).items():
        if module == "lora":
            experiment.lora[name] = read_tensors(file)
        else:
            flat = {flat_key(f"imagebind-{module}-{name}", key): x for key, x in read_tensors(file).items()}
            experiment.tensors.update(flat)
    _check_complete(experiment, files)
    return experiment


def _chosen(folder: Path, which: str, lora_which: str) -> dict[tuple[str, str], Path]:
    """The files asked for, by module and modality."""
    chosen: dict[tuple[str, str], Path] = {}
    others: dict[tuple[str, str], Path] = {}
    for file in sorted(folder.glob("imagebind-*")):
        found = _FILE.fullmatch(file.name)
        if found is None or found["module"] not in (*_MODULES, _QUANTIZER, "lora"):
            raise ValueError(f"experiment: unknown file {file.name}; known modules: {', '.join(_MODULES)}, lora.")
        wanted = found["which"] == (lora_which if found["module"] == "lora" else which)
        (chosen if wanted else others)[found["module"], found["name"]] = file
    for key in others.keys() - chosen.keys():
        name = "lora_which" if key[0] == "lora" else "which"
        asked = lora_which if key[0] == "lora" else which
        raise ValueError(f"{name}: got {asked!r}, but of {others[key].stem[:-5]} there is only {others[key].name}.")
    return chosen


def _check_complete(experiment: Experiment, files: Path) -> None:
    """Refuse an experiment that lacks a part which its embeddings depend on."""
    if not {"text", "vision"} <= set(experiment.encoders):
        heads = ", ".join(experiment.encoders) or "nothing"
        raise ValueError(
            f"experiment: {files} has imagebind-heads of {heads}; every experiment has text and vision. Fix: give the "
            "folder of one experiment."
        )
    books = experiment.shapes(f"{_QUANTIZER}.mvq_dict.")
    wanted = {"common": "shared"}
    for name in experiment.encoders:
        if name != "text":
            wanted[name] = "specific"
            if not experiment.shapes(f"modality_heads_mvq.{name}."):
                raise ValueError(
                    f"experiment: {files} has no imagebind-heads_mvq-{name}, the specific head of {name}."
                )
    for book, part in wanted.items():
        if f"{book}.embedding.weight" not in books:
            raise ValueError(
                f"experiment: {files} has no imagebind-{_QUANTIZER}- file with mvq_dict.{book}, the {part} codebook."
            )


def file_of(key: str) -> tuple[str, str]:
    """File (without `_best.pth`) and key in the file, for a flat key."""
    module, name, rest = key.split(".", 2)
    if module == _QUANTIZER:
        return f"imagebind-{_QUANTIZER}-", f"{name}.{rest}"
    short = next(ours for ours, prefix in _MODULES.items() if prefix == module)
    return f"imagebind-{short}-{name}", rest


def flat_key(file: str, key: str) -> str:
    """The inverse of `file_of`."""
    _, module, name = file.split("-")
    return f"{_prefix(module, name)}.{key}"


def _prefix(module: str, name: str) -> str:
    return _QUANTIZER if module == _QUANTIZER else f"{_MODULES[module]}.{name}"


def _options(folder: Path) -> dict[str, Any]:
    files = sorted(folder.glob("cfg_all*.yaml"))
    if not files:
        return {}
    options = yaml.safe_load(files[-1].read_text())
    if not isinstance(options, Mapping):
        raise ValueError(f"{files[-1].name}: holds {type(options).__name__}; expected the saved configuration.")
    quantizer = options.get(_QUANTIZER) or {}
    for name, expected in _REQUIRED.items():
        if quantizer.get(name, expected) != expected:
            raise ValueError(
                f"{files[-1].name}: {_QUANTIZER}.{name} is {quantizer[name]!r}; only {expected!r} can be converted, "
                "because another value gives other embeddings."
            )
    return dict(options)
