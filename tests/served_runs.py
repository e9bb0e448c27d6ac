"""A run with a gallery as files, as the demo app is given it: what the tests of serving share."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
from pipeline_items import item, save_checkpoint


ROWS = 5
LABELS = ("ring", "ring", "bell", "tall glass", "bell")
NAMES = ("text", "image", "video", "audio", "depth", "thermal", "tactile", "point_cloud", "eeg", "imu", "radar")


def write_item(modality: str, file: Path, seed: int = 0) -> Path:
    """An item as a file of the kind that people have; returns the file."""
    value = item(modality, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    if modality in ("image", "tactile"):
        file = file.with_suffix(".png")
        value.save(file)
    elif modality == "audio":
        file = file.with_suffix(".wav")
        with wave.open(str(file), "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(value["sampling_rate"])
            stream.writeframes((value["array"] * 32767).astype("<i2").tobytes())
    elif modality == "point_cloud":
        file = file.with_suffix(".xyz")
        np.savetxt(file, value)
    else:
        file = file.with_suffix(".npy")
        np.save(file, value)
    return file


def write_run(folder: Path) -> Path:
    """`checkpoint/` with fresh weights, `run.json`, and `files/manifest.jsonl` of `ROWS` objects."""
    save_checkpoint(folder / "checkpoint")
    (folder / "run.json").write_text("{}")
    files = folder / "files"
    lines = []
    for row in range(ROWS):
        line: dict[str, Any] = {"id": f"object-{row:03d}", "label": LABELS[row]}
        for name in NAMES:
            if name == "text":
                line[name] = f"a {LABELS[row]}"
            elif (name, row) != ("depth", 4):
                line[name] = str(write_item(name, files / name / f"{row}", row).relative_to(files))
        lines.append(json.dumps(line))
    # One file of the gallery is damaged.
    (files / "audio" / "3.wav").write_bytes(b"RIFF" + bytes(60))
    (files / "manifest.jsonl").write_text("\n".join(lines))
    return folder
