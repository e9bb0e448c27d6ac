"""Sounds that are read piece by piece: the same samples as of the whole, from arrays and files, at any rate."""

import wave
from pathlib import Path

import numpy as np
import pytest

from codebind_hf.processing.feature_extraction_codebind import CodeBindAudioFeatureExtractor
from codebind_hf.processing.foreign_files import FILE_LIMITS
from codebind_hf.processing.media import open_recording, read_media
from codebind_hf.processing.modality_processing import sliding_starts
from codebind_hf.processing.recordings import ArrayRecording, SoundFileRecording
from codebind_hf.processing.resampling import resample
from codebind_hf.processing.signal_processing_codebind import CodeBindEegFeatureExtractor


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=(channels, samples))).astype(np.float32)


def write(file: Path, samples: np.ndarray, rate: int) -> Path:
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(len(samples))
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes((samples.T * 32767).astype("<i2").tobytes())
    return file


@pytest.mark.parametrize(("rate", "target"), [(16000, 16000), (44100, 16000), (8000, 16000), (22050, 16000), (3, 7)])
@pytest.mark.parametrize(("start", "stop"), [(0, 50), (123, 1000), (990, 2000), (40_000, 40_100), (0, 10**9)])
def test_a_piece_at_another_rate_is_a_piece_of_the_whole(rate: int, target: int, start: int, stop: int) -> None:
    samples = noise(60_000, channels=2)
    recording = ArrayRecording(samples, rate)
    whole = resample(samples, rate, target)
    assert recording.length_at(target) == whole.shape[1]
    np.testing.assert_allclose(recording.at(target, start, stop), whole[:, start:stop], atol=1e-7)


def test_files_are_read_in_pieces(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", noise(5000, channels=2), 8000)
    recording = SoundFileRecording(file)
    assert (recording.rate, recording.num_channels, recording.num_samples, recording.seconds) == (8000, 2, 5000, 0.625)
    whole = read_media("audio", file)["array"]
    for start, stop in ((0, 5000), (17, 18), (4990, 5000)):
        np.testing.assert_array_equal(recording.read(start, stop), whole[:, start:stop])


def test_a_file_that_was_cut_short_is_refused_unless_its_samples_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", noise(1000), 8000)
    file.write_bytes(file.read_bytes()[: 44 + 2 * 600])
    with pytest.raises(OSError, match=r"a\.wav': it is cut short.*allow_truncated=True"):
        open_recording(file)
    recording = open_recording(file, allow_truncated=True)
    assert recording.num_samples == 600
    assert recording.read(590, 600).shape == (1, 10)


def test_paths_and_arrays_have_the_same_features(tmp_path: Path) -> None:
    samples = noise(70_000)
    file = write(tmp_path / "a.wav", samples, 44_100)
    extractor = CodeBindAudioFeatureExtractor(num_clips=3, clip_seconds=0.5)
    read = {"array": read_media("audio", file)["array"], "sampling_rate": 44_100}
    first, second = (extractor(x, return_tensors="np")["input_features"] for x in (file, read))
    np.testing.assert_array_equal(first, second)


def test_a_file_with_infinite_samples_is_refused(tmp_path: Path) -> None:
    import soundfile

    samples = noise(16_000)[0]
    samples[9000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"audio: audio file '.*a\.wav': got NaN or infinite samples"):
        CodeBindAudioFeatureExtractor()(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("length", "window", "hop", "starts"),
    [
        (10, 4, 4, [0, 4, 6]),
        (12, 4, 4, [0, 4, 8]),
        (3, 4, 4, [0]),
        (4, 4, 1, [0]),
        (9, 4, 2, [0, 2, 4, 5]),
        (9, 2, 4, [0, 4, 7]),
    ],
)
def test_windows_cover_the_whole_and_end_with_it(length: int, window: int, hop: int, starts: list[int]) -> None:
    assert sliding_starts(length, window, hop) == starts


def test_windows_of_a_sound_are_its_clips() -> None:
    samples = noise(40_000)[0]
    extractor = CodeBindAudioFeatureExtractor(num_clips=2, clip_seconds=1.0)
    sound = {"array": samples, "sampling_rate": 16_000}
    whole = extractor(sound, return_tensors="np")["input_features"][0]
    uniform = extractor.windows(sound, "audio", "uniform", None)
    assert (uniform.starts, uniform.seconds) == ([0.0, 1.5], 1.0)
    np.testing.assert_array_equal(np.concatenate([uniform.values(i) for i in range(2)]), whole)
    three = extractor.windows(sound, "audio", 3, None)
    assert three.starts == [0.0, 0.75, 1.5]
    sliding = extractor.windows(sound, "audio", "sliding", 0.5)
    assert sliding.starts == [0.0, 0.5, 1.0, 1.5]
    part = {"array": samples[8000:24_000], "sampling_rate": 16_000}
    np.testing.assert_array_equal(sliding.values(1)[0], extractor(part, return_tensors="np")["input_features"][0, 0])


# Other sounds


FULL = {"PCM_U8": 2**7, "PCM_S8": 2**7, "PCM_16": 2**15, "PCM_24": 2**23, "PCM_32": 2**31}


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU"])
def test_integers_of_every_container_are_divided_by_their_largest(tmp_path: Path, kind: str) -> None:
    import soundfile

    subtypes = FULL.keys() & soundfile.available_subtypes(kind).keys()
    assert len(subtypes) >= 4
    for subtype in subtypes:
        full = FULL[subtype]
        levels = np.random.default_rng(3).integers(-full, full, (50, 2))
        # libsndfile takes 32 bits, of which it keeps the upper ones.
        wide = (levels * (2**31 // full)).astype(np.int32)
        soundfile.write(tmp_path / "a.wav", wide, 8000, subtype, format=kind)
        sound = read_media("audio", tmp_path / "a.wav")
        assert sound["sampling_rate"] == 8000
        assert sound["array"].dtype == np.float32
        np.testing.assert_array_equal(sound["array"], (levels.T / full).astype(np.float32))


SOUNDS = {
    "a.wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "long.wav": ("RF64", "PCM_16"),
    "a.w64": ("W64", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.opus": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.au": ("AU", "PCM_16"),
    "a.caf": ("CAF", "PCM_16"),
    "flac_inside.wav": ("FLAC", "PCM_16"),
    "mp3_inside.wav": ("MP3", "MPEG_LAYER_III"),
}


def tone(seconds: float = 5.0) -> np.ndarray:
    return (0.5 * np.sin(np.arange(int(seconds * 8000)) / 20)).astype(np.float32)


@pytest.mark.parametrize("name", SOUNDS)
def test_sounds_are_read_by_content_and_halves_of_them_are_refused(tmp_path: Path, name: str) -> None:
    import soundfile

    kind, subtype = SOUNDS[name]
    soundfile.write(tmp_path / name, tone(), 8000, subtype, format=kind)
    sound = read_media("audio", tmp_path / name)
    assert sound["sampling_rate"] in (8000, 48_000)
    seconds = len(sound["array"]) / sound["sampling_rate"]
    assert seconds == pytest.approx(5.0, abs=0.2)
    data = (tmp_path / name).read_bytes()
    half = tmp_path / f"half_{name}"
    half.write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=rf"half_{name}': (it is cut short|holds no sample|damaged)"):
        open_recording(half)
    if kind in ("OGG", "CAF") and subtype != "OPUS":
        # Of these, libsndfile finds no sample at all.
        return
    rest = read_media("audio", half, allow_truncated=True)
    assert 0.3 < len(rest["array"]) / rest["sampling_rate"] / seconds < 0.6
    count = len(rest["array"]) - 2000
    np.testing.assert_allclose(rest["array"][:count], sound["array"][:count], atol=2e-3)


def test_a_length_that_a_program_could_not_write_afterwards_is_no_sign_of_a_cut(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", noise(1000), 8000)
    data = bytearray(file.read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    file.write_bytes(bytes(data))
    assert open_recording(file).num_samples == 1000


def test_sounds_beyond_a_limit_or_of_another_kind_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    soundfile.write(tmp_path / "a.flac", tone(), 8000)
    monkeypatch.setattr(FILE_LIMITS, "seconds", 4)
    with pytest.raises(OSError, match=r"a\.flac': declares 5.0 seconds; allowed: up to 4"):
        open_recording(tmp_path / "a.flac")
    monkeypatch.setattr(FILE_LIMITS, "seconds", 5)
    monkeypatch.setattr(FILE_LIMITS, "bytes", 100_000)
    with pytest.raises(OSError, match="declares 160,000 bytes of samples"):
        read_media("audio", tmp_path / "a.flac")
    soundfile.write(tmp_path / "voc.wav", tone(), 8000, format="VOC")
    with pytest.raises(OSError, match=r"voc\.wav': is no \.wav file and no other kind.*supported: \.wav"):
        open_recording(tmp_path / "voc.wav")


def write_film(path: Path, kind: str, rate: int = 16_000) -> np.ndarray:
    """Two channels of different tones for a second, in the sound track of a film; the samples."""
    av = pytest.importorskip("av")
    time = np.arange(rate) / rate
    samples = np.stack([0.5 * np.sin(2 * np.pi * hertz * time) for hertz in (440, 880)]).astype(np.float32)
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo")
        for start in range(0, rate, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, start : start + 1024]), "fltp", "stereo"
            )
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return samples


@pytest.mark.parametrize(("name", "kind"), [("a.m4a", "mp4"), ("a.aac", "adts")])
def test_sounds_of_films_are_read_with_their_channels(tmp_path: Path, name: str, kind: str) -> None:
    samples = write_film(tmp_path / name, kind)
    sound = read_media("audio", tmp_path / name)
    assert sound["sampling_rate"] == 16_000
    assert sound["array"].shape[0] == 2
    assert sound["array"].shape[1] == pytest.approx(16_000, abs=2048)
    for read, written in zip(sound["array"], samples, strict=True):
        heard = np.abs(np.fft.rfft(read[4000:12_000]))
        assert heard.argmax() == np.abs(np.fft.rfft(written[4000:12_000])).argmax()
    assert open_recording(tmp_path / name).num_channels == 2


def test_a_play_list_is_no_film(tmp_path: Path) -> None:
    """It would make the library open the files and addresses that it names."""
    pytest.importorskip("av")
    write_film(tmp_path / "secret.aac", "adts")
    (tmp_path / "a.m4a").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.aac\n#EXT-X-ENDLIST\n")
    with pytest.raises(OSError, match=r"a\.m4a"):
        read_media("audio", tmp_path / "a.m4a")


# Electrodes


def write_edf(
    path: Path, units: tuple[str, ...] = ("uV", "mV", "uV"), rates: tuple[int, ...] = (256,) * 3
) -> np.ndarray:
    """Two seconds of channels Fz, Cz, Pz in their units; the same in volts."""
    edfio = pytest.importorskip("edfio")
    waves = [np.round(100 * np.sin(np.arange(2 * rate) / (5 + index))) for index, rate in enumerate(rates)]
    kind, whole = (edfio.Bdf, edfio.BdfSignal) if path.suffix == ".bdf" else (edfio.Edf, edfio.EdfSignal)
    signals = [
        whole(wave, rate, label=name, physical_dimension=unit, physical_range=(-200, 200))
        for wave, rate, name, unit in zip(waves, rates, ("Fz", "Cz", "Pz"), units, strict=True)
    ]
    kind(signals).write(path)
    scales = {"uV": 1e-6, "mV": 1e-3}
    return (
        np.array([wave * scales.get(unit, 1) for wave, unit in zip(waves, units, strict=True)])
        if len(set(rates)) == 1
        else np.empty(0)
    )


@pytest.mark.parametrize("name", ["a.edf", "a.bdf"])
def test_electrodes_come_in_volts_with_the_rate_of_the_file(tmp_path: Path, name: str) -> None:
    volts = write_edf(tmp_path / name)
    read = read_media("eeg", tmp_path / name)
    assert read["sampling_rate"] == 256
    np.testing.assert_allclose(read["array"], volts, atol=1e-5)
    np.testing.assert_allclose(read["array"][[0, 2]], volts[[0, 2]], atol=1e-8)
    picked = read_media("eeg", tmp_path / name, channels=["Pz", "Fz"])
    np.testing.assert_array_equal(picked["array"], read["array"][[2, 0]])
    with pytest.raises(ValueError, match=r"channels: got 'O1', which the file has 0 times; allowed: Fz, Cz, Pz"):
        read_media("eeg", tmp_path / name, channels=["Pz", "O1"])
    data = (tmp_path / name).read_bytes()
    (tmp_path / f"half_{name}").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(OSError, match=f"half_{name}': it is cut short"):
        read_media("eeg", tmp_path / f"half_{name}")


def test_only_voltages_at_one_rate_are_electrodes(tmp_path: Path) -> None:
    volts = write_edf(tmp_path / "a.edf", units=("uV", "degC", "uV"))
    np.testing.assert_allclose(read_media("eeg", tmp_path / "a.edf")["array"], volts[[0, 2]], atol=1e-8)
    with pytest.raises(ValueError, match=r"got 'Cz', which the file has 0 times; allowed: Fz, Pz"):
        read_media("eeg", tmp_path / "a.edf", channels=["Cz"])
    write_edf(tmp_path / "none.edf", units=("degC", "%", "bpm"))
    with pytest.raises(ValueError, match=r"none\.edf': got a file without a channel in volts"):
        read_media("eeg", tmp_path / "none.edf")
    write_edf(tmp_path / "mixed.edf", rates=(256, 128, 256))
    with pytest.raises(ValueError, match=r"got channels at 128, 256 Hz.*channels=\[\.\.\.\]"):
        read_media("eeg", tmp_path / "mixed.edf")
    assert read_media("eeg", tmp_path / "mixed.edf", channels=["Cz"])["sampling_rate"] == 128
    np.save(tmp_path / "a.npy", np.zeros((2, 9)))
    with pytest.raises(ValueError, match=r"a\.npy': channels: got \['Cz'\].*without names"):
        read_media("eeg", tmp_path / "a.npy", channels=["Cz"])


def test_a_header_of_electrodes_is_checked_before_samples_are_read(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf")
    data = bytearray((tmp_path / "a.edf").read_bytes())
    data[236:244] = b"99999999"
    (tmp_path / "a.edf").write_bytes(bytes(data))
    with pytest.raises(OSError, match=r"a\.edf': declares [\d,.]+ seconds"):
        read_media("eeg", tmp_path / "a.edf")


def test_recordings_of_mne_give_the_channels_of_electrodes(tmp_path: Path) -> None:
    mne = pytest.importorskip("mne")
    volts = np.random.default_rng(5).normal(size=(4, 1000)) * 1e-5
    info = mne.create_info(["Cz", "EOG", "Pz", "STI"], 250.0, ["eeg", "eog", "eeg", "stim"])
    mne.io.RawArray(volts, info, verbose="ERROR").save(tmp_path / "a_raw.fif", verbose="ERROR")
    read = read_media("eeg", tmp_path / "a_raw.fif")
    assert read["sampling_rate"] == 250
    np.testing.assert_allclose(read["array"], volts[[0, 2]], rtol=1e-5)
    picked = read_media("eeg", tmp_path / "a_raw.fif", channels=["Pz", "EOG", "Cz"])
    np.testing.assert_allclose(picked["array"], volts[[2, 1, 0]], rtol=1e-5)
    (tmp_path / "half_raw.fif").write_bytes((tmp_path / "a_raw.fif").read_bytes()[:-2000])
    with pytest.raises(OSError, match=r"half_raw\.fif': it is cut short"):
        read_media("eeg", tmp_path / "half_raw.fif")


def test_recordings_of_brainvision_and_eeglab_are_in_volts(tmp_path: Path) -> None:
    pytest.importorskip("mne")
    from scipy.io import savemat

    microvolts = np.arange(20, dtype="<f4").reshape(10, 2)
    (tmp_path / "a.eeg").write_bytes(microvolts.tobytes())
    (tmp_path / "a.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nDataFile=a.eeg\n"
    )
    (tmp_path / "a.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=a.eeg\nMarkerFile=a.vmrk\n"
        "DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\nSamplingInterval=4000\n[Binary Infos]\n"
        "BinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\nCh1=Cz,,1,uV\nCh2=Pz,,1,uV\n"
    )
    chanlocs = np.array([("Cz",), ("Pz",)], dtype=[("labels", "O")])
    eeg = {"data": microvolts.T.astype(float), "srate": 250.0, "nbchan": 2, "pnts": 10, "trials": 1, "xmin": 0.0}
    savemat(tmp_path / "a.set", {"EEG": {**eeg, "xmax": 0.036, "chanlocs": chanlocs, "event": [], "setname": "a"}})
    for name in ("a.vhdr", "a.set"):
        read = read_media("eeg", tmp_path / name, channels=["Pz", "Cz"])
        assert read["sampling_rate"] == 250
        np.testing.assert_allclose(read["array"], microvolts.T[::-1] * 1e-6, rtol=1e-5)


def test_the_processor_picks_channels_and_takes_the_rate_of_the_file(tmp_path: Path) -> None:
    volts = write_edf(tmp_path / "a.edf", units=("uV", "uV", "uV"))
    extractor = CodeBindEegFeatureExtractor(num_channels=2, num_samples=64, sampling_rate=128)
    named = extractor(tmp_path / "a.edf", channels=["Pz", "Fz"], return_tensors="np")["eeg_values"]
    array = {"array": volts[[2, 0]], "sampling_rate": 256}
    np.testing.assert_allclose(named, extractor(array, return_tensors="np")["eeg_values"], atol=1e-3)
    with pytest.raises(ValueError, match=r"eeg: eeg file '.*': got 3 channels.*of files channels=\[names\]"):
        extractor(tmp_path / "a.edf")
    with pytest.raises(ValueError, match=r"eeg: channels: got \['Pz'\] for an array"):
        extractor(array, channels=["Pz"])
    with pytest.raises(ValueError, match="channels: got 'Pz'; allowed: None or a list of names"):
        extractor(tmp_path / "a.edf", channels="Pz")
    np.save(tmp_path / "a.npy", volts[[2, 0]])
    by_rate = extractor({"array": str(tmp_path / "a.npy"), "sampling_rate": 256}, return_tensors="np")["eeg_values"]
    np.testing.assert_array_equal(by_rate, extractor(array, return_tensors="np")["eeg_values"])
    with pytest.raises(ValueError, match=r"eeg: eeg file '.*': got sampling_rate=100 for a file at 256 Hz"):
        extractor({"array": tmp_path / "a.edf", "sampling_rate": 100}, channels=["Pz"])
