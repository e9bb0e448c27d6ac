"""Where do the samples of sounds and electrodes come from? Arrays in memory, or files that are read piece by piece."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import measured
from .foreign_files import TRUNCATED, check_limit, optional, reading
from .frames import opened_film
from .resampling import resampled_piece
from .values import refuse


_SOUND_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF")
# libsndfile's number for a file whose kind of samples it cannot decode.
_UNSUPPORTED_ENCODING = 4
# Numbers of encodings in the header of a WAV file that it decodes; of others it says that the header is malformed.
_WAV_KINDS = (0x1, 0x2, 0x3, 0x6, 0x7, 0x11, 0x31, 0x40, 0xFFFE)
# Packets of a sound track that only fill the decoder.
_SILENT_FRAMES = 4
_BLOCK = 4096
_LARGEST_PAGE = 1 << 16
# In libsndfile's notes on a header: samples beyond the end of the file. Programs that could not go back left a length
# close to the largest of 31 or 32 bits.
_SHORTER = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN = (1 << 31) - (1 << 12)
_VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "\N{MICRO SIGN}V": 1e-6, "\N{GREEK SMALL LETTER MU}V": 1e-6, "nV": 1e-9}
_MNE_READERS = {".fif": "read_raw_fif", ".set": "read_raw_eeglab", ".vhdr": "read_raw_brainvision"}
# Kinds of channels that mne gives in volts.
_VOLTAGES = ("eeg", "ecog", "seeg", "dbs", "eog", "emg", "ecg")
ELECTRODE_FILES = (".edf", ".bdf", *_MNE_READERS)


class Recording:
    """A sound of `num_samples` samples on `num_channels` channels at `rate` Hz, of which any piece can be read."""

    rate: int
    num_channels: int
    num_samples: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop`, float32 `(channels, samples)`; both lie within the recording."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.rate

    def length_at(self, rate: int) -> int:
        """Samples at another rate."""
        divisor = math.gcd(self.rate, rate)
        return math.ceil(rate // divisor * self.num_samples / (self.rate // divisor))

    def at(self, rate: int, start: int, stop: int) -> np.ndarray:
        """Samples `start` to `stop` of the recording at another rate, cut at its end; the same as of the whole."""
        return resampled_piece(self.read, self.num_samples, self.rate, rate, start, stop)


class ArrayRecording(Recording):
    """A sound in memory, float32 `(channels, samples)`."""

    def __init__(self, samples: np.ndarray, rate: int) -> None:
        self.samples, self.rate = samples, rate
        self.num_channels, self.num_samples = samples.shape

    def read(self, start: int, stop: int) -> np.ndarray:
        """A view."""
        return self.samples[:, start:stop]


class FilledRecording(Recording):
    """A recording with lines in place of samples that are NaN or infinite."""

    def __init__(self, recording: Recording, label: str) -> None:
        self.recording, self.label = recording, label
        self.rate, self.num_channels, self.num_samples = recording.rate, recording.num_channels, recording.num_samples

    def read(self, start: int, stop: int) -> np.ndarray:
        """As read, and filled."""
        samples = self.recording.read(start, stop)
        return measured(samples, np.isfinite(samples), "fill", self.label).astype(np.float32)


class SoundFileRecording(Recording):
    """A file that the library `soundfile` reads, whatever its suffix: integers are divided by their largest.

    Raises:
        OSError: another kind of file, beyond a limit, or, without `allow_truncated`, cut short.
    """

    def __init__(self, file: Path, allow_truncated: bool = False) -> None:
        self.file = file
        self._soundfile = optional("soundfile", None, f"{file.suffix} files")
        with self._opened() as stream:
            if stream.format not in _SOUND_FORMATS:
                raise OSError(f"holds {stream.format_info}; supported: {', '.join(_SOUND_FORMATS)}")
            self.num_channels, self.rate, self.num_samples = stream.channels, stream.samplerate, stream.frames
            check_limit("channels", self.num_channels, "channels")
            check_limit("seconds", self.seconds, "seconds")
            # The last sample tells whether a compressed file holds as many as it declares.
            is_whole = self.num_samples > 0 and self._holds(stream, self.num_samples - 1)
            if not allow_truncated and (not is_whole or self._ends_early(stream)):
                raise OSError(TRUNCATED if self.num_samples else "holds no sample")
            if not is_whole:
                self.num_samples = self._counted()

    def _ends_early(self, stream: Any) -> bool:
        """Whether libsndfile, which counts the samples that are there, found fewer than declared."""
        if stream.format == "OGG":
            with self.file.open("rb") as data:
                data.seek(max(0, self.file.stat().st_size - _LARGEST_PAGE))
                page = data.read().rpartition(b"OggS")[2]
            # The last page is marked as such, and as long as the table in its head says.
            return len(page) < 23 or not page[1] & 4 or len(page) < 23 + page[22] + sum(page[23 : 23 + page[22]])
        found = _SHORTER.finditer(stream.extra_info)
        return any(
            int(there) < int(declared) and int(declared) % (1 << 31) < _UNKNOWN
            for declared, there in (m.groups() for m in found)
        )

    def _opened(self) -> Any:
        try:
            return self._soundfile.SoundFile(str(self.file))
        except self._soundfile.LibsndfileError as error:
            with self.file.open("rb") as file:
                head = file.read(22)
            is_foreign = head[8:16] == b"WAVEfmt " and int.from_bytes(head[20:22], "little") not in _WAV_KINDS
            if error.code == _UNSUPPORTED_ENCODING or is_foreign:
                raise OSError(f"samples of a kind that libsndfile does not decode ({error.error_string})") from error
            raise

    def _holds(self, stream: Any, position: int) -> bool:
        try:
            stream.seek(position)
            return len(stream.read(1)) == 1
        except self._soundfile.LibsndfileError:
            return False

    def _counted(self) -> int:
        """Samples that can be decoded, from the beginning."""
        count = 0
        with self._opened() as stream:
            try:
                while block := len(stream.read(_BLOCK, dtype="float32", always_2d=True)):
                    count += block
            except self._soundfile.LibsndfileError:
                return count
        return count

    def read(self, start: int, stop: int) -> np.ndarray:
        """From the file."""
        with reading("audio", self.file), self._opened() as stream:
            stream.seek(start)
            samples = stream.read(stop - start, dtype="float32", always_2d=True)
            if len(samples) < stop - start:
                raise OSError(f"sample {start + len(samples)} of {self.num_samples} cannot be decoded")
        return np.ascontiguousarray(samples.T)


def film_sound(file: Path, allow_truncated: bool = False) -> ArrayRecording:
    """The first sound track of a file that `av` decodes, as a whole; OSError if there is none that is whole."""
    av = optional("av", "audio", f"{file.suffix} files")
    with opened_film(av, file) as container:
        if not container.streams.audio:
            raise OSError("holds no sound track")
        stream = container.streams.audio[0]
        check_limit("seconds", (container.duration or 0) / av.time_base, "seconds")
        check_limit("channels", stream.layout.nb_channels, "channels")
        even = av.AudioResampler("fltp", stream.layout, stream.rate)
        pieces: list[np.ndarray] = []
        size = packets = 0
        for frame in container.decode(stream):
            packets += 1
            pieces += [piece.to_ndarray() for piece in even.resample(frame)]
            size += frame.samples * stream.layout.nb_channels * 4
            check_limit("bytes", size, "bytes of samples")
        if not allow_truncated and packets < stream.frames - _SILENT_FRAMES:
            raise OSError(TRUNCATED)
    if not pieces:
        raise OSError("holds no sample")
    return ArrayRecording(np.concatenate(pieces, axis=1), int(stream.rate))


@dataclass(frozen=True)
class ElectrodeFile:
    """The channels of a file that are voltages.

    Args:
        names: of the channels, in their order in the file.
        rates: Hz of every channel.
        usual: names of those that are read unless others are asked for.
        read: gives channels by position, float64 `(channels, time)` in volts.
    """

    names: list[str]
    rates: list[float]
    usual: list[str]
    read: Callable[[list[int]], np.ndarray]

    def picked(self, channels: Sequence[str] | None, label: str) -> tuple[list[int], int]:
        """Positions of the channels with these names (`None`: of the usual ones), in their order, and their one rate.

        A name that the file lacks or has twice and channels without a common whole rate are a ValueError.
        """
        names = self.usual if channels is None else list(channels)
        if not names:
            refuse(label, "got a file without a channel in volts", "recordings of electrodes")
        for name in names:
            if self.names.count(name) != 1:
                got = f"got {name!r}, which the file has {self.names.count(name)} times"
                refuse(f"{label}: channels", got, ", ".join(self.names), "pick others with channels=[...].")
        found = [self.names.index(name) for name in names]
        rates = sorted({self.rates[position] for position in found})
        if len(rates) > 1 or rates[0] != round(rates[0]):
            fix = "pick channels of one rate with channels=[...], or resample the file."
            refuse(label, f"got channels at {', '.join(f'{rate:g}' for rate in rates)} Hz", "one whole rate", fix)
        return found, round(rates[0])


def open_electrodes(file: Path, suffix: str, allow_truncated: bool = False) -> ElectrodeFile:
    """The channels of an EDF, BDF, FIFF, EEGLAB or BrainVision file; OSError if it has gaps or is not whole."""
    if suffix in _MNE_READERS:
        return _open_with_mne(file, suffix, allow_truncated)
    edfio = optional("edfio", "eeg", f"{suffix} files")
    _check_edf(file, 2 if suffix == ".edf" else 3, allow_truncated)
    read = edfio.read_edf if suffix == ".edf" else edfio.read_bdf
    found = read(str(file), header_encoding="latin-1")
    if not found.is_continuous:
        raise OSError("the recording has gaps; save its parts as files of their own")
    signals = [(signal, _VOLTS.get(signal.physical_dimension.strip())) for signal in found.signals]
    volts = [(signal, scale) for signal, scale in signals if scale is not None]

    def picked(channels: list[int]) -> np.ndarray:
        return np.stack([np.asarray(volts[one][0].data, dtype=np.float64) * volts[one][1] for one in channels])

    names = [signal.label.strip() for signal, _ in volts]
    return ElectrodeFile(names, [float(signal.sampling_frequency) for signal, _ in volts], names, picked)


def _check_edf(file: Path, width: int, allow_truncated: bool) -> None:
    """Compare what the header of an EDF file declares with limits and with the size of the file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(256)
        header, records, channels = int(head[184:192]), int(head[236:244]), int(head[252:256])
        seconds = float(head[244:252])
        check_limit("channels", channels, "channels")
        stream.seek(256 + 216 * channels)
        samples = sum(int(stream.read(8)) for _ in range(channels))
    check_limit("seconds", records * seconds, "seconds")
    check_limit("bytes", records * samples * 8, "bytes of samples")
    if header + records * samples * width > size and not allow_truncated:
        raise OSError(TRUNCATED)


def _open_with_mne(file: Path, suffix: str, allow_truncated: bool) -> ElectrodeFile:
    mne = optional("mne", "eeg", f"{suffix} files")
    if suffix == ".fif" and not allow_truncated and not _has_last_tag(file):
        raise OSError(TRUNCATED)
    try:
        raw = getattr(mne.io, _MNE_READERS[suffix])(str(file), preload=False, verbose="ERROR")
    except RuntimeError as error:
        if "could not be imported" in str(error):
            raise OSError(f"needs a library that mne does not bring ({error})") from error
        raise
    rate, count = float(raw.info["sfreq"]), int(raw.n_times)
    check_limit("channels", len(raw.ch_names), "channels")
    check_limit("seconds", count / rate, "seconds")
    check_limit("bytes", count * len(raw.ch_names) * 8, "bytes of samples")
    voltages = [
        (name, kind) for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind in _VOLTAGES
    ]
    names = [name for name, _ in voltages]

    def picked(channels: list[int]) -> np.ndarray:
        # mne sorts what it picks, so the order asked for is made afterwards.
        positions = [raw.ch_names.index(names[one]) for one in channels]
        values = raw.get_data(picks=sorted(positions), verbose="ERROR")
        return values[[sorted(positions).index(position) for position in positions]]

    return ElectrodeFile(names, [rate] * len(names), [name for name, kind in voltages if kind == "eeg"], picked)


def _has_last_tag(file: Path) -> bool:
    """Whether the chain of tags of a FIFF file leads to its end, which mne does not ask."""
    size, offset = file.stat().st_size, 0
    with file.open("rb") as stream:
        while offset + 16 <= size:
            stream.seek(offset)
            length, following = np.frombuffer(stream.read(16), ">i4")[2:].tolist()
            if following == -1:
                return offset + 16 + length <= size
            offset = following if following > offset else offset + 16 + max(0, length)
    return False
