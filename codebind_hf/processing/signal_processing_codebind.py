"""How do recordings of electrodes and motion sensors become tower input of fixed channels and length?"""

from typing import Any, ClassVar

import numpy as np
from transformers import FeatureExtractionMixin
from transformers.utils import logging

from .arrays import INVALID, are_measured, as_array, as_float_array, measured, unmasked
from .modality_processing import RatedProcessing
from .recordings import ELECTRODE_FILES
from .resampling import band_limited, resample_mirrored
from .sources import is_source, kind_of
from .values import HIGHEST_RATE, check_choice, check_number, check_size, fits, refuse, shown, split_rated


logger = logging.get_logger(__name__)

IMU_AXES = ("ax", "ay", "az", "gx", "gy", "gz")
# Whose rows may have a column for their rate.
_WITH_RATE = ("eeg", "imu")
# Deviations beyond which a robust scale cuts.
_BEYOND = 20.0
# A channel so many times as strong as the median one is loose, and a line with this share of the energy a drift.
_LOOSE, _DRIFT = 10.0, 0.75
_SAID: set[str] = set()


class CodeBindSignalFeatureExtractor(RatedProcessing, FeatureExtractionMixin):
    """Recordings `(channels, time)` or `{"array", "sampling_rate"}` -> `(num_channels, num_samples)`.

    Args:
        num_channels: channels of the result; missing ones are filled with zeros, more are refused.
        num_samples: length of the result.
        time_crop: `[start, stop]` samples kept of the recording first (fewer where it is shorter); `None` keeps all.
        sampling_rate: Hz that recordings are resampled to first, which needs their rate; `None` ignores rates.
        fit: "interpolate" (any length to `num_samples`) or "pad" (cut the end, or append zeros).
        low_pass: of recordings with more samples, take out what `num_samples` cannot tell before "interpolate" and
            before anything is measured (see `band_limited`). Without it two neighbours are interpolated, as ViT-Lens
            does: mains hum and noise then come back as slow waves.
        detrend: subtract its least squares line from each channel, of recordings that drift.
        remove_mean: "channel", "recording" or "none".
        normalize: divide by the standard deviation of each "channel" or of the whole "recording", or "none"; "robust":
            by what a loose electrode does not change, 1.4826 times the median of all channels' median distances from
            their medians, and cut what is beyond 20.
        scale: factor on the values, for units.
        invalid: what becomes of samples that are no measurements: masked, NaN, infinite, or at an end of a type of 16
            bits or more. "raise" refuses recordings that have any, "fill" draws lines between those beside them;
            `None` refuses NaN and infinities, and takes everything else for measurements.
    """

    type_key = "feature_extractor_type"
    item_ndim = 2
    num_channels: int = 16
    num_samples: int = 128
    time_crop: list[int] | None = None
    sampling_rate: int | None = None
    fit: str = "interpolate"
    low_pass: bool = True
    detrend: bool = False
    remove_mean: str = "none"
    normalize: str = "none"
    scale: float = 1.0
    later: ClassVar[tuple[str, ...]] = ("detrend", "invalid")
    invalid: str | None = None

    @classmethod
    def from_dict(cls, *saved: dict[str, Any], **kwargs: Any) -> Any:
        """As for every modality; what was saved before there was a low-pass was trained without."""
        return super().from_dict({"low_pass": False, **saved[0]}, **kwargs)

    def saved_parameters(self) -> dict[str, Any]:
        """As for every modality; without a low-pass as before there was one, so that older code reads it."""
        return {name: value for name, value in super().saved_parameters().items() if name != "low_pass" or value}

    def check_parameters(self) -> None:
        """Refuse counts and choices that make no recording."""
        check_number("num_channels", self.num_channels, 1, whole=True)
        check_number("num_samples", self.num_samples, 1, whole=True)
        if self.sampling_rate is not None:
            check_number("sampling_rate", self.sampling_rate, 1, whole=True, most=HIGHEST_RATE)
        if self.time_crop is not None:
            is_pair = isinstance(self.time_crop, list) and len(self.time_crop) == 2
            start, stop = self.time_crop if is_pair else (0, 0)
            check_number("time_crop", start, 0, whole=True)
            check_number("time_crop", stop, start + 1, whole=True)
        check_choice("fit", self.fit, ("interpolate", "pad"))
        check_choice("remove_mean", self.remove_mean, ("channel", "recording", "none"))
        check_choice("normalize", self.normalize, ("channel", "recording", "none", "robust"))
        check_number("scale", self.scale, 1e-30)
        check_choice("invalid", self.invalid, INVALID)

    def sizes(self) -> dict[str, float]:
        """Numbers in one recording."""
        return {"values in an item": self.num_channels * self.num_samples}

    def process_signal(self, array: Any, rate: int | None, label: str) -> np.ndarray:
        """One recording as `(num_channels, num_samples)`."""
        signal = self.mended(array, label)
        if self.sampling_rate is not None:
            if rate is None:
                column = f"; of rows, a column `{self.modality}_sampling_rate` says it"
                fix = f"pass {{'array': values, 'sampling_rate': Hz}}{column if self.modality in _WITH_RATE else ''}."
                refuse(label, "got a recording without a sampling rate", "recordings with their rate", fix)
            check_size(signal.size / rate * self.sampling_rate, label, "resampled values", fix="pass a part of it,")
            signal = resample_mirrored(signal, rate, self.sampling_rate)
        if self.time_crop is not None:
            signal = self._cropped(signal, label)
        signal = signal.astype(np.float64) * self.scale
        if self.fit == "interpolate" and self.low_pass and signal.shape[1] > self.num_samples:
            signal = band_limited(signal, self.num_samples)
        signal = self._standardized(signal, label)
        signal = interpolate_linearly(signal, self.num_samples) if self.fit == "interpolate" else self._padded(signal)
        result = np.zeros((self.num_channels, self.num_samples), dtype=np.float32)
        places, signs = self.places(len(signal), label)
        result[places] = signs[:, None] * signal
        return result

    def places(self, count: int, label: str) -> tuple[list[int], np.ndarray]:
        """For each of the channels of a recording: which of the result it is, and 1, or -1 if it points backwards."""
        return list(range(count)), np.ones(count)

    def mended(self, value: Any, label: str) -> np.ndarray:
        """A recording `(channels, time)` as it comes, with measurements alone if there is a policy."""
        array = as_float_array(value, label) if self.invalid is None else as_array(unmasked(value), label)
        allowed = f"(channels, time) with 1 to {self.num_channels} channels"
        if array.ndim != 2:
            one = "a list is a batch: make one recording an array, with its channel axis (`array[None]` adds it)."
            fix = one if array.ndim == 1 else "pass several recordings as a list."
            refuse(label, f"got shape {array.shape}", allowed, fix)
        if array.shape[0] > self.num_channels:
            transposed = array.shape[1] <= self.num_channels
            fix = "put the channels first with `array.T`." if transposed else "select rows, of files channels=[names]."
            refuse(label, f"got {array.shape[0]} channels, shape {array.shape}", allowed, fix)
        if self.invalid is not None:
            array = measured(array, are_measured(array, value), self.invalid, label)
        return as_float_array(array, label)

    def _cropped(self, signal: np.ndarray, label: str) -> np.ndarray:
        start, stop = self.time_crop  # type: ignore[misc]
        if signal.shape[1] <= start:
            fix = "pass a longer recording, or set time_crop=None."
            refuse(label, f"got {signal.shape[1]} samples", f"more than the {start} that time_crop leaves out", fix)
        return signal[:, start:stop]

    def _standardized(self, signal: np.ndarray, label: str) -> np.ndarray:
        axes = {"channel": 1, "recording": None}
        signal = without_drift(signal) if self.detrend else signal
        if self.remove_mean != "none":
            signal = signal - signal.mean(axis=axes[self.remove_mean], keepdims=True)
        if self.normalize == "none":
            return signal
        if self.normalize == "robust":
            deviation = np.array(1.4826 * np.median(_distances(signal)))
        else:
            deviation = signal.std(axis=axes[self.normalize], keepdims=True)
        # A constant recording has nothing to scale; after rounding, its deviation may be tiny instead of zero.
        floor = 1e-9 * max(1e-12, float(np.abs(signal).max()))
        signal = signal / np.where(deviation > floor, deviation, 1.0)
        return signal.clip(-_BEYOND, _BEYOND) if self.normalize == "robust" else signal

    def _padded(self, signal: np.ndarray) -> np.ndarray:
        signal = signal[:, : self.num_samples]
        return np.pad(signal, ((0, 0), (0, self.num_samples - signal.shape[1])))


class CodeBindEegFeatureExtractor(CodeBindSignalFeatureExtractor):
    """EEG `(electrodes, time)` -> `eeg_values`; the unit does not matter unless `normalize` is "none".

    Args:
        channels: names of the channels that are taken of a file with names (EDF, BDF, FIFF, EEGLAB, BrainVision; read
            in volts), in the order of the model's channels; `None` takes all in the order of the file.
        montage: names of the channels of an array, which has none, so that `channels` can be taken of it.
    """

    model_input_names = ["eeg_values"]
    modality = "eeg"
    argument = "eeg"
    remove_mean = "channel"
    normalize = "recording"
    later = (*CodeBindSignalFeatureExtractor.later, "channels", "montage")
    channels: list[str] | None = None
    montage: list[str] | None = None

    def check_parameters(self) -> None:
        """As for every signal; also the names."""
        super().check_parameters()
        for label, names in (("channels", self.channels), ("montage", self.montage)):
            if names is not None and not (fits(names, list[str]) and names):
                refuse(label, f"got {shown(names)}", "None or a list of names of channels")
        if self.montage is not None and len(set(self.montage)) < len(self.montage):
            refuse("montage", f"got {shown(self.montage)}", "every name once")

    @property
    def reading_options(self) -> dict[str, Any]:
        """Which channels are read."""
        return {"channels": self.channels}

    def _standardized(self, signal: np.ndarray, label: str) -> np.ndarray:
        self._warn(signal, label)
        return super()._standardized(signal, label)

    def _warn(self, signal: np.ndarray, label: str) -> None:
        """Say, of the first recording only, that what is no brain sets the scale of all."""
        centred, steady = signal - signal.mean(axis=1, keepdims=True), without_drift(signal)
        energy, strength = float((centred**2).sum()), centred.std(axis=1)
        moves = energy > 1e-12 * (signal**2).sum()
        if moves and not self.detrend and (steady**2).sum() < (1 - _DRIFT) * energy:
            _warn_once("the recording drifts, which hides what else it holds", "detrend=True", label)
        if self.normalize == "recording" and len(signal) > 2 and strength.max() > _LOOSE * np.median(strength) > 0:
            what = f"channel {int(strength.argmax())} is more than {_LOOSE:g} times as strong as the median channel"
            _warn_once(f"{what}, as of a loose electrode", "normalize='robust'", label)

    def load(self, value: Any, label: str) -> Any:
        """As for every signal; an array has no names of channels but those of `montage`."""
        source = value["array"] if isinstance(value, dict) and "array" in value else value
        if self.montage is not None:
            if is_source(source) and kind_of(source, ELECTRODE_FILES) in ELECTRODE_FILES:
                fix = "leave the montage out."
                refuse(f"{label}: montage", f"got {shown(self.montage)} for a file with names", "None", fix)
            return self._picked(value, self.montage, label)
        if self.channels is not None and not is_source(source):
            fix = "say the names of its rows with `montage`, or select rows of the array, and leave the names out."
            refuse(f"{label}: channels", f"got {shown(self.channels)} for an array", "None", fix)
        return super().load(value, label)

    def _picked(self, value: Any, montage: list[str], label: str) -> Any:
        """The `channels` of an array whose rows are called as `montage` says."""
        if self.channels is None:
            refuse(f"{label}: montage", "got names without `channels`", "both", "say which channels the model takes.")
        missing = [name for name in self.channels if name not in montage]
        if missing:
            refuse(f"{label}: channels", f"got {shown(missing[0])}", f"names in the montage: {shown(montage)}")
        array, rate = split_rated(self.with_parameters(channels=None, montage=None).load(value, label), label)
        array = as_array(array, label)
        if array.ndim != 2 or len(array) != len(montage):
            refuse(label, f"got shape {array.shape}", f"(channels, time) with the {len(montage)} channels of montage")
        array = array[[montage.index(name) for name in self.channels]]
        return array if rate is None else {"array": array, "sampling_rate": rate}


class CodeBindImuFeatureExtractor(CodeBindSignalFeatureExtractor):
    """IMU `(6, time)`: three axes of acceleration, three of rotation -> `imu_values`.

    Nothing is subtracted by default: the mean acceleration is the direction of gravity.

    Args:
        axes: what the channels of recordings are, of "ax", "ay", "az" (acceleration) and "gx", "gy", "gz" (rotation),
            with "-" before what points the other way; `None` is these six in this order.
    """

    model_input_names = ["imu_values"]
    modality = "imu"
    argument = "imu"
    num_channels = 6
    later = (*CodeBindSignalFeatureExtractor.later, "axes")
    axes: list[str] | None = None

    def check_parameters(self) -> None:
        """As for every signal; also the axes."""
        super().check_parameters()
        if self.axes is None:
            return
        names = [name.removeprefix("-") for name in self.axes] if fits(self.axes, list[str]) else []
        if not names or not set(names) <= set(IMU_AXES) or len(set(names)) < len(names):
            fix = "with '-' before what points the other way."
            refuse("axes", f"got {shown(self.axes)}", f"None, or a list of {', '.join(IMU_AXES)}, each once", fix)
        if self.num_channels < len(IMU_AXES):
            refuse("axes", f"got {shown(self.axes)} with num_channels={self.num_channels}", "None below 6 channels")

    def places(self, count: int, label: str) -> tuple[list[int], np.ndarray]:
        """Where the axes belong."""
        if self.axes is None:
            return super().places(count, label)
        if len(self.axes) != count:
            refuse(label, f"got {count} channels", f"the {len(self.axes)} of axes={self.axes!r}")
        names = [name.removeprefix("-") for name in self.axes]
        return [IMU_AXES.index(name) for name in names], np.where([name[0] == "-" for name in self.axes], -1.0, 1.0)


def without_drift(signal: np.ndarray) -> np.ndarray:
    """`(channels, time)` without the least squares line of each channel."""
    instants = np.arange(signal.shape[1]) - (signal.shape[1] - 1) / 2
    slope = signal @ instants / max(float(instants @ instants), 1.0)
    return signal - signal.mean(axis=1, keepdims=True) - slope[:, None] * instants


def _distances(signal: np.ndarray) -> np.ndarray:
    """Of every channel the median distance from its median."""
    return np.median(np.abs(signal - np.median(signal, axis=1, keepdims=True)), axis=1)


def _warn_once(what: str, fix: str, label: str) -> None:
    if fix not in _SAID:
        _SAID.add(fix)
        logger.warning(f"{label}: {what}. Fix: {fix}, of the processor or of the call. Others are not named.")


def interpolate_linearly(signal: np.ndarray, length: int) -> np.ndarray:
    """`(channels, time)` at `length` equally spaced instants from the first sample to the last."""
    time = signal.shape[1]
    if time == length:
        return signal
    if time == 1:
        return np.repeat(signal, length, axis=1)
    position = np.linspace(0.0, 1.0, length) * (time - 1)
    low = np.minimum(position.astype(np.int64), time - 2)
    weight = position - low
    return signal[:, low] * (1 - weight) + signal[:, low + 1] * weight
