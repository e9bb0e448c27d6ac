"""How does sound become tower input? Resampling, clips, and a log-mel spectrogram of every clip."""

from fractions import Fraction
from typing import Any

import numpy as np
from transformers import FeatureExtractionMixin

from .arrays import INVALID, as_array, as_float_array, measured, one_sound_or_list
from .media import open_recording
from .modality_processing import RatedProcessing, Windows, naming, sliding_starts
from .recordings import ArrayRecording, FilledRecording, Recording
from .sources import is_decoder, is_source
from .spectrogram import log_mel
from .values import HIGHEST_RATE, LIMITS, check_choice, check_number, check_rate, check_size, refuse, split_rated


# A float waveform louder than this was not scaled to [-1, 1].
_LOUDEST = 16.0
_MOST_CHANNELS = 32


class CodeBindAudioFeatureExtractor(RatedProcessing, FeatureExtractionMixin):
    """Waveforms `(samples,)` or `(channels, samples)` and their rate -> `input_features`, `(clips, mel, frames)`.

    Args:
        sampling_rate: Hz that every waveform is resampled to.
        num_clips, clip_seconds: clips of equal length, the first at the start and the last at the end of the sound.
        clip_spacing: "ends" as above, or "open" (the last clip stops one step before the end, as ViT-Lens does).
        short_audio: a sound shorter than a clip is padded with silence ("silence"), repeated to fill it ("repeat"), or
            left short, so that missing frames become `pad_value` ("frames", as ImageBind does).
        channels: "mean" of all channels, or the "first".
        remove_mean: subtract the mean of a clip over all samples and channels.
        num_mel_bins, num_frames: size of the spectrogram; longer ones are cut, shorter ones padded with `pad_value`.
        window_length, hop_length, fft_length: in samples at `sampling_rate`; `hop_length` `None` spreads `num_frames`
            over `clip_seconds`.
        window, preemphasis, remove_dc_offset, min_frequency, max_frequency: as in `log_mel`.
        pad_value: log-mel value of padding frames, before normalization.
        mean, std: subtracted from and dividing the log-mel values.
        invalid: what becomes of samples that are NaN or infinite: refused ("raise" and `None`), or "fill", with lines
            between those beside them. What a microphone cut off at its loudest stays.
    """

    type_key = "feature_extractor_type"
    model_input_names = ["input_features"]
    modality = "audio"
    argument = "audio"
    sampling_rate: int = 16000
    num_clips: int = 1
    clip_seconds: float = 1.0
    clip_spacing: str = "ends"
    short_audio: str = "silence"
    channels: str = "mean"
    remove_mean: bool = True
    num_mel_bins: int = 64
    num_frames: int = 64
    window_length: int = 400
    hop_length: int | None = None
    fft_length: int = 1024
    window: str = "hann"
    preemphasis: float = 0.97
    remove_dc_offset: bool = True
    min_frequency: float = 20.0
    max_frequency: float | None = None
    pad_value: float = 0.0
    mean: float = -4.268
    std: float = 4.569
    later = ("invalid",)
    invalid: str | None = None

    def check_parameters(self) -> None:
        """Refuse counts, lengths and choices that do not fit together."""
        for name in ("num_mel_bins", "num_frames", "window_length", "fft_length"):
            check_number(name, getattr(self, name), 1, whole=True)
        if self.hop_length is not None:
            check_number("hop_length", self.hop_length, 1, whole=True)
        check_number("sampling_rate", self.sampling_rate, 1, whole=True, most=HIGHEST_RATE)
        check_number("num_clips", self.num_clips, 1, whole=True, most=LIMITS.clips)
        check_number("clip_seconds", self.clip_seconds, self.window_length / self.sampling_rate)
        check_number("fft_length", self.fft_length, self.window_length, whole=True)
        check_number("std", self.std, 1e-12)
        check_choice("clip_spacing", self.clip_spacing, ("ends", "open"))
        check_choice("short_audio", self.short_audio, ("silence", "repeat", "frames"))
        check_choice("channels", self.channels, ("mean", "first"))
        check_choice("invalid", self.invalid, INVALID)
        check_choice("window", self.window, ("hann", "hamming", "povey", "boxcar"))

    def sizes(self) -> dict[str, float]:
        """Numbers in one sound, in a clip of it, in its windows before and in the filters after the transform."""
        return {
            "values in an item": self.num_clips * self.num_mel_bins * self.num_frames,
            "samples in a clip": self.clip_seconds * self.sampling_rate,
            "samples in the windows of a clip": self.clip_seconds * self.sampling_rate / self._hop * self.fft_length,
            "values in the mel filters": self.num_mel_bins * self.fft_length,
        }

    def items(self, values: Any) -> tuple[list[Any], list[str]]:
        """As for every modality; one array does not tell whether its rows are sounds or channels."""
        return super().items(one_sound_or_list(values, self.argument))

    def load(self, value: Any, label: str) -> Any:
        """`value`, or the file that it stands for, of which only the clips will be read."""
        if not is_source(value) or is_decoder(value):
            return super().load(value, label)
        with naming(label):
            recording = open_recording(value)
        return {"array": recording, "sampling_rate": recording.rate}

    def process_signal(self, array: Any, rate: int | None, label: str) -> np.ndarray:
        """One waveform as `(clips, mel bins, frames)`."""
        recording = self.recording(array, rate, label)
        starts = self.clip_starts(recording.length_at(self.sampling_rate))
        features = {start: self.clip_features(recording, start, label) for start in set(starts)}
        return np.stack([features[start] for start in starts])

    def recording(self, array: Any, rate: int | None, label: str) -> Recording:
        """A checked waveform, or a file's."""
        fills = self.invalid == "fill"
        if isinstance(array, Recording):
            return FilledRecording(array, label) if fills else array
        waveform = _waveform(array, label, fills)
        if rate is None:
            fix = "pass {'array': samples, 'sampling_rate': Hz}, a file path, or sampling_rate=Hz."
            refuse(label, "got samples without a sampling rate", "samples with their rate", fix)
        return ArrayRecording(waveform, rate)

    def windows(self, value: Any, label: str, clips: str | int, hop_seconds: float | None) -> Windows:
        """The clips of one sound, however long.

        Args:
            clips: "uniform" (as this processor spreads them), a number of clips, or "sliding": one every
                `hop_seconds` (`None`: one after the other), the last one ending with the sound.
        """
        value, label = self.load(value, label), self.file_label(value, label)
        array, rate = split_rated(value, label)
        recording = self.recording(array, None if rate is None else check_rate(rate, label), label)
        length = recording.length_at(self.sampling_rate)
        hop = self.clip_length if hop_seconds is None else max(1, round(hop_seconds * self.sampling_rate))
        if clips == "sliding":
            starts = sliding_starts(length, self.clip_length, hop, label)
        else:
            starts = (self if clips == "uniform" else self.with_parameters(num_clips=clips)).clip_starts(length)
        seconds = [start / self.sampling_rate for start in starts]
        return Windows(seconds, self.clip_seconds, lambda i: self.clip_features(recording, starts[i], label)[None])

    @property
    def clip_length(self) -> int:
        """Samples in a clip."""
        return round(self.clip_seconds * self.sampling_rate)

    def clip_starts(self, num_samples: int) -> list[int]:
        """First sample of every clip of a waveform of `num_samples`."""
        free = max(Fraction(num_samples / self.sampling_rate) - Fraction(self.clip_seconds), Fraction(0))
        steps = max(self.num_clips - 1, 1) if self.clip_spacing == "ends" else self.num_clips
        # Exact fractions of the binary floats, cut to whole samples: pytorchvideo's clip sampler does the same.
        return [int(free * index / steps * self.sampling_rate) for index in range(self.num_clips)]

    def clip_features(self, recording: Recording, start: int, label: str) -> np.ndarray:
        """The clip that begins with sample `start` (at this processor's rate) as `(mel bins, frames)`."""
        clip = self._clip(recording.at(self.sampling_rate, start, start + self.clip_length))
        if not np.isfinite(clip).all():
            fix = "convert the file again, or replace missing samples."
            refuse(label, "got NaN or infinite samples", "finite numbers", fix)
        features = log_mel(
            clip,
            self.sampling_rate,
            self.num_mel_bins,
            self.window_length,
            self._hop,
            self.fft_length,
            self.window,
            self.preemphasis,
            self.remove_dc_offset,
            self.min_frequency,
            self.max_frequency,
        )[:, : self.num_frames]
        missing = self.num_frames - features.shape[1]
        if missing:
            features = np.pad(features, ((0, 0), (0, missing)), constant_values=self.pad_value)
        return np.ascontiguousarray((features - np.float32(self.mean)) / np.float32(self.std), dtype=np.float32)

    @property
    def _hop(self) -> int:
        if self.hop_length is not None:
            return self.hop_length
        return max(1, (self.clip_length - self.window_length) // max(self.num_frames - 1, 1))

    def _clip(self, clip: np.ndarray) -> np.ndarray:
        """Mono samples of a clip, `(channels, samples)` before, that may be cut short by the end of its sound."""
        if self.short_audio == "repeat" and clip.shape[1] < self.clip_length:
            clip = np.tile(clip, -(-self.clip_length // clip.shape[1]))[:, : self.clip_length]
        if self.remove_mean:
            clip = clip - clip.mean()
        mono = clip.mean(axis=0) if self.channels == "mean" else clip[0]
        missing = self.clip_length - len(mono)
        return np.pad(mono, (0, missing)) if missing and self.short_audio == "silence" else mono


def _scaling(array: np.ndarray) -> str:
    """How levels become numbers in [-1, 1]: by the bits they were sampled with, which their type may exceed."""
    if array.dtype.kind == "b":
        return "booleans are no sound; were samples compared with something?"
    half = 2 ** (8 * array.itemsize - 1)
    if array.dtype.kind == "u":
        return f"`(samples.astype(np.float32) - {half}) / {half}`."
    peak = max(-float(array.min()), float(array.max()))
    half = min(half, next((2**bits for bits in (15, 23, 31) if peak <= 2**bits), half))
    return f"`samples / {half}`, the largest level of the bits they were sampled with."


def _waveform(value: Any, label: str, fills: bool = False) -> np.ndarray:
    """Float32 `(channels, samples)` of a checked waveform."""
    array = as_array(value, label)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[0] > _MOST_CHANNELS:
        fix = "put the channels first with `array.T`." if array.ndim and array.shape[-1] <= _MOST_CHANNELS else ""
        refuse(label, f"got shape {array.shape}", "(samples,) or (channels, samples) with few channels", fix)
    check_size(array.size, label, "samples", fix="pass a part of the sound,")
    if array.dtype == np.int16:
        return array.astype(np.float32) / np.float32(32768)
    if array.dtype.kind != "f":
        fix = "scale to [-1, 1]: " + _scaling(array)
        refuse(label, f"got samples of dtype {array.dtype}", "float32 in [-1, 1] or int16", fix)
    array = measured(array, np.isfinite(array), "fill", label) if fills else array
    array = as_float_array(array, label).astype(np.float32)
    peak = float(np.abs(array).max())
    if peak > _LOUDEST:
        refuse(label, f"got float samples up to {peak:g}", "samples in [-1, 1]", "scale: " + _scaling(array))
    return array
