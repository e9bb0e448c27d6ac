"""`codebind doctor`: what is installed, which devices and readers work, and whether the whole road does."""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from codebind_hf.commands import options as of


EXAMPLE = "codebind doctor --json"
_PACKAGES = (
    *("torch", "transformers", "accelerate", "peft", "datasets", "safetensors", "huggingface_hub", "tokenizers"),
    *("numpy", "pillow", "soundfile", "pyarrow", "typer"),
)
# What each extra brings beside readers.
_EXTRAS = {
    "report": ("scikit-learn", "matplotlib"),
    "index": ("faiss-cpu",),
    "text": ("ftfy",),
    "benchmarks": ("h5py", "scipy"),
    "demo": ("gradio",),
}


def doctor(as_json: of.AsJson = False) -> None:
    """Say what works here: versions, devices, readers, a self-test.

    Each reader is tried on a tiny file that is made on the spot; what does not work comes with the line that installs
    it. The self-test trains a tiny random model for one step, saves it, loads it and compares embeddings; the exit
    status is 1 if it fails.
    """
    from codebind_hf.commands.readers import try_readers
    from codebind_hf.commands.self_test import self_test

    found: dict[str, Any] = {"versions": versions(), "devices": devices(), "extras": extras()}
    found["readers"] = [outcome._asdict() for outcome in try_readers()]
    found["self_test"] = self_test()._asdict()
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines_of(found)))
    if not found["self_test"]["works"]:
        raise typer.Exit(1)


def versions() -> dict[str, str]:
    """Versions of everything that matters."""
    from codebind_hf.evaluation.environment import environment

    known = environment()
    own = {name: str(known[name]) for name in ("codebind_hf", "python", "platform", "cpu_count", "threads")}
    return {**own, **{name: _version(name) or "not installed" for name in _PACKAGES}}


def devices() -> list[dict[str, Any]]:
    """Accelerators and their memory; the CPU is always there."""
    import psutil
    import torch

    memory = round(psutil.virtual_memory().total / 2**30, 1)
    found: list[dict[str, Any]] = [{"name": "cpu", "memory_gib": memory}]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        for index in range(torch.accelerator.device_count()):
            entry: dict[str, Any] = {"name": f"{kind}:{index}"}
            if kind is not None and kind.type == "cuda":
                properties = torch.cuda.get_device_properties(index)
                entry |= {"model": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
                entry["bf16"] = torch.cuda.is_bf16_supported()
            found.append(entry)
    return found


def extras() -> list[dict[str, Any]]:
    """What extras bring beside readers, and the line that installs what lacks."""
    found = []
    for extra, packages in _EXTRAS.items():
        lacking = [name for name in packages if _version(name) is None]
        fix = f'pip install "codebind-hf[{extra}]"' if lacking else ""
        found.append({"extra": extra, "works": not lacking, "lacks": lacking, "fix": fix})
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def lines_of(found: dict[str, Any]) -> list[str]:
    """The same for people: what works in few lines, what does not with its fix."""
    lines = [f"{name:16} {value}" for name, value in found["versions"].items()]
    lines += ["", "devices"]
    for device in found["devices"]:
        memory = f", {device['memory_gib']} GiB" if "memory_gib" in device else ""
        lines.append(f"  {device['name']:14} {device.get('model', '')}{memory}".replace(" , ", " "))
    lines += ["", "readers that work"]
    works: dict[str, list[str]] = {}
    for each in found["readers"]:
        if each["works"]:
            works.setdefault(each["modality"], []).append(each["suffix"])
    lines += [f"  {modality:15}{' '.join(suffixes)}" for modality, suffixes in works.items()]
    lacks = [
        f"  {each['modality']} {each['suffix']}: {each['reason']}. Fix: {each['fix']}"
        for each in found["readers"]
        if not each["works"]
    ]
    lacks += [
        f"  extra {each['extra']}: lacks {', '.join(each['lacks'])}. Fix: {each['fix']}"
        for each in found["extras"]
        if not each["works"]
    ]
    lines += ["", "what does not work", *lacks] if lacks else []
    tested = found["self_test"]
    outcome = "works" if tested["works"] else f"FAILED, {tested['reason']}"
    said = f"self-test: {outcome} ({tested['seconds']} s): one step of training, saved, loaded, embeds the same"
    return [*lines, "", said if tested["works"] else f"self-test: {outcome} ({tested['seconds']} s)"]
